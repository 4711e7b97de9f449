//! The instance metadata service of the range: the part of AWS IMDS that hands out role credentials.
//!
//! In: HTTP on 169.254.169.254 and fd00:ec2::254. Out: a session token (IMDSv2), the role's name, credentials. Tokens are
//! optional, as on instances launched with `HttpTokens=optional`, so that version 1 requests are answered too. The credentials
//! say that they are none: the key id is the one AWS' documentation uses for examples.

use std::net::TcpListener;

use super::http::{self, Message};

/// The role the instance claims to have.
pub(super) const ROLE: &str = "shop-web";
/// Fake, and recognisable where it turns up.
pub(super) const ACCESS_KEY_ID: &str = "ASIAIOSFODNN7EXAMPLE";

const TOKEN: &str = "drill-session-token";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// Serves one listener for ever.
pub(super) fn serve(listener: TcpListener) {
    http::answer(listener, respond);
}

fn respond(request: &Message) -> Message {
    match (request.word(0), request.word(1)) {
        ("PUT", "/latest/api/token") => token(request),
        ("GET", _) if request.header("X-aws-ec2-metadata-token").is_some_and(|token| token != TOKEN) => {
            Message::response(401, "")
        }
        ("GET", "/latest/meta-data/instance-id") => Message::response(200, "i-0d2111000000d2111"),
        ("GET", path) => match path.strip_prefix(ROLES) {
            Some("") => Message::response(200, ROLE),
            Some(ROLE) => Message::response(200, credentials()),
            _ => Message::response(404, ""),
        },
        _ => Message::response(400, ""),
    }
}

fn token(request: &Message) -> Message {
    match request.header("X-aws-ec2-metadata-token-ttl-seconds").and_then(|text| text.parse::<u32>().ok()) {
        Some(ttl @ 1..=21600) => {
            Message::response(200, TOKEN).with("X-aws-ec2-metadata-token-ttl-seconds", &ttl.to_string())
        }
        _ => Message::response(400, ""),
    }
}

fn credentials() -> String {
    serde_json::json!({
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": ACCESS_KEY_ID,
        "SecretAccessKey": "this-is-a-drill/not-a-secret",
        "Token": "this-is-a-drill/not-a-token",
        "Expiration": "2099-01-01T00:00:00Z",
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Message {
        Message::request("GET", path, "169.254.169.254")
    }

    #[test]
    fn version_two_asks_for_a_token_first() {
        let put = Message::request("PUT", "/latest/api/token", "169.254.169.254");
        assert_eq!(respond(&put).status(), 400);
        let granted = respond(&put.with("X-aws-ec2-metadata-token-ttl-seconds", "60"));
        assert_eq!((granted.status(), granted.body.as_slice()), (200, TOKEN.as_bytes()));
        assert_eq!(respond(&get(ROLES).with("X-aws-ec2-metadata-token", "stale")).status(), 401);
        assert_eq!(respond(&get(ROLES).with("X-aws-ec2-metadata-token", TOKEN)).body, ROLE.as_bytes());
    }

    #[test]
    fn version_one_is_answered_without_a_token() {
        let credentials = respond(&get(&format!("{ROLES}{ROLE}")));
        assert!(String::from_utf8_lossy(&credentials.body).contains(ACCESS_KEY_ID));
        assert_eq!(respond(&get(&format!("{ROLES}someone-else"))).status(), 404);
    }
}
