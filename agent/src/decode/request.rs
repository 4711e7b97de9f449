//! The first bytes of a plain request to a metadata endpoint: method, what kind of thing was asked for, whether with a
//! token.
//!
//! Never: keeps a header's value or a path that may hold a secret. Path shapes are the vendors' documentation's.

use breachline_abi::request::{RequestRecord, StatusRecord};

use super::{DecodeError, actor, endpoint};
use crate::event::{MetadataPath, MetadataRequest, MetadataStatus};

/// Longest method, path part or role that is believed; longer ones are not what an endpoint understands.
const WORD_BYTES_MAX: usize = 128;
/// Headers that carry a session token (AWS, Alibaba), lower case.
const TOKEN_HEADERS: [&str; 2] = ["x-aws-ec2-metadata-token:", "x-aliyun-ecs-metadata-token:"];
/// Paths whose next part names the role: asked without one they list what there is.
const ROLE_LISTS: [&str; 3] = ["iam/security-credentials", "ram/security-credentials", "cam/security-credentials"];
/// GCP's list of service accounts; what is asked of one of them follows its name.
const SERVICE_ACCOUNTS: &str = "instance/service-accounts";
/// Parts of paths that hand out credentials whatever follows: ECS tasks, EKS pod identity, EC2's own identity, Azure,
/// Oracle, OpenStack-like.
const CREDENTIALS: [&str; 7] = [
    "/v2/credentials/",
    "/v1/credentials",
    "/identity-credentials/ec2/security-credentials/",
    "/metadata/identity/oauth2/token",
    "/opc/v1/identity/",
    "/opc/v2/identity/",
    "/openstack/latest/securitykey",
];
/// Parts of paths that hand out start-up scripts and custom data.
const USER_DATA: [&str; 7] = [
    "/user-data",
    "/user_data",
    "/userdata",
    "/compute/userdata",
    "/compute/customdata",
    "/attributes",
    "/vendor_data",
];
/// Paths of session tokens (AWS and Alibaba; Linode; IBM). Only with PUT.
const SESSIONS: [&str; 4] = ["/latest/api/token", "/v1/token", "/instance_identity/v1/token", "/identity/v1/token"];
/// Parts of paths that tell about credentials without handing them out.
const RECON: [&str; 2] = ["/iam/info", "/iam/"];

/// A request record to its event.
pub(super) fn decode(record: &RequestRecord) -> Result<MetadataRequest, DecodeError> {
    let length = usize::try_from(record.text_len).unwrap_or(usize::MAX);
    let text = record.text.get(..length).ok_or(DecodeError::Value { field: "text length", value: record.text_len })?;
    let text = String::from_utf8_lossy(text);
    let (head, _) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, role) = classify(method, target);
    Ok(MetadataRequest {
        actor: actor(&record.socket.actor),
        socket: record.cookie,
        peer: endpoint(record.socket.peer, record.socket.port),
        method: word(method).unwrap_or_default().to_owned(),
        path,
        role: role.map(str::to_owned),
        token: lines.any(is_token),
    })
}

/// An answer's status to its event.
pub(super) fn status(record: &StatusRecord) -> Result<MetadataStatus, DecodeError> {
    let status = u16::try_from(record.status)
        .ok()
        .filter(|status| (100..1000).contains(status))
        .ok_or(DecodeError::Value { field: "status", value: record.status })?;
    Ok(MetadataStatus {
        actor: actor(&record.socket.actor),
        socket: record.cookie,
        peer: endpoint(record.socket.peer, record.socket.port),
        status,
    })
}

fn is_token(line: &str) -> bool {
    TOKEN_HEADERS.iter().any(|header| line.get(..header.len()).is_some_and(|name| name.eq_ignore_ascii_case(header)))
}

/// What kind of thing a request asks for, and the role or account it names.
fn classify<'t>(method: &str, target: &'t str) -> (MetadataPath, Option<&'t str>) {
    let path = path_of(target);
    let lower = path.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    if method == "PUT" && SESSIONS.contains(&lower.as_str()) {
        return (MetadataPath::Session, None);
    }
    if has(&CREDENTIALS) {
        return (MetadataPath::Credential, None);
    }
    if let Some(role) = ROLE_LISTS.iter().find_map(|list| after(path, list)) {
        let role = role.split('/').next().and_then(word);
        return (if role.is_some() { MetadataPath::Credential } else { MetadataPath::Recon }, role);
    }
    if let Some(account) = after(path, SERVICE_ACCOUNTS) {
        return service_account(account, target);
    }
    if has(&USER_DATA) {
        (MetadataPath::UserData, None)
    } else if has(&RECON) {
        (MetadataPath::Recon, None)
    } else if lower.starts_with('/') {
        (MetadataPath::Benign, None)
    } else {
        (MetadataPath::Unknown, None)
    }
}

/// `ACCOUNT/token` and `ACCOUNT/identity` are credentials; `recursive=true` on an account shows scopes and names, no
/// token.
fn service_account<'t>(rest: &'t str, target: &str) -> (MetadataPath, Option<&'t str>) {
    let mut parts = rest.split('/');
    let account = parts.next().and_then(word);
    match parts.next() {
        Some("token" | "identity") if account.is_some() && !target.is_empty() => (MetadataPath::Credential, account),
        _ => (MetadataPath::Recon, account),
    }
}

/// The path of a request target: without scheme and host (a proxy's form) and without the query, slashes made single.
fn path_of(target: &str) -> &str {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    }
}

/// What follows `part` and a slash in `path`, compared without case; an empty text when `part` ends it.
fn after<'t>(path: &'t str, part: &str) -> Option<&'t str> {
    // Lower-casing ASCII keeps every byte in its place.
    let start = path.to_ascii_lowercase().find(part)? + part.len();
    let rest = path.get(start..)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// A name as endpoints have them; anything else is not repeated.
fn word(text: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    (!text.is_empty() && text.len() <= WORD_BYTES_MAX && text.bytes().all(plain)).then_some(text)
}

#[cfg(test)]
mod tests {
    use breachline_abi::record::KIND_REQUEST;
    use zerocopy::{FromZeros as _, IntoBytes as _};

    use super::*;
    use crate::decode::{BootClock, Header, VERSION};
    use crate::event::HostEventKind;

    fn request(text: &str) -> MetadataRequest {
        let mut record = RequestRecord::new_zeroed();
        let length = u32::try_from(size_of::<RequestRecord>()).expect("small");
        record.header = Header { kind: KIND_REQUEST, version: VERSION, length, boot_ns: 1, cpu: 0, padding: 0 };
        record.text_len = u32::try_from(text.len()).expect("small");
        record.text[..text.len()].copy_from_slice(text.as_bytes());
        let event = crate::decode::decode(record.as_bytes(), BootClock::default()).expect("decoded");
        let HostEventKind::MetadataRequest(request) = event.kind else { panic!("a request") };
        request
    }

    #[test]
    fn paths_have_classes() {
        use MetadataPath::{Benign, Credential, Recon, Session, Unknown, UserData};
        let check = |line: &str, path: MetadataPath, role: Option<&str>| {
            let found = request(&format!("{line} HTTP/1.1\r\nHost: metadata\r\n\r\n"));
            assert_eq!((found.path, found.role.as_deref()), (path, role), "{line}");
        };
        check("PUT /latest/api/token", Session, None);
        check("GET /latest/api/token", Benign, None);
        check("GET /latest/meta-data/iam/security-credentials/", Recon, None);
        check("GET /latest/meta-data/iam/security-credentials", Recon, None);
        check("GET /latest/meta-data/iam/security-credentials/shop-prod", Credential, Some("shop-prod"));
        check("GET http://169.254.169.254/latest/meta-data/iam/security-credentials/a?x=1", Credential, Some("a"));
        check("GET /latest/meta-data/ram/security-credentials/web", Credential, Some("web"));
        check("GET /latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance", Credential, None);
        check("GET /v2/credentials/0a1b2c3d-0000-0000-0000-000000000000", Credential, None);
        check("GET /v1/credentials", Credential, None);
        check("GET /computeMetadata/v1/instance/service-accounts/default/token", Credential, Some("default"));
        check("GET /computeMetadata/v1/instance/service-accounts/", Recon, None);
        check("GET /computeMetadata/v1/instance/service-accounts/default/scopes", Recon, Some("default"));
        check("GET /computeMetadata/v1/instance/attributes/startup-script", UserData, None);
        check("GET /metadata/identity/oauth2/token?api-version=2018-02-01", Credential, None);
        check("GET /metadata/instance/compute/userData?api-version=2021-01-01", UserData, None);
        check("GET /latest/user-data", UserData, None);
        check("GET /latest/meta-data/iam/info", Recon, None);
        check("GET /latest/meta-data/instance-id", Benign, None);
        check("GET", Unknown, None);
    }

    #[test]
    fn a_token_is_noticed_and_not_kept() {
        let text = "GET /latest/meta-data/iam/security-credentials/web HTTP/1.1\r\nX-Aws-Ec2-Metadata-Token: AQAEAsecret\r\n\r\n";
        let found = request(text);
        assert!(found.token);
        assert_eq!(found.method, "GET");
        assert!(!format!("{found:?}").contains("secret"));
        assert!(!request("PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n").token);
        assert!(!request("GET / HTTP/1.1\r\n\r\nx-aws-ec2-metadata-token: in the body").token);
    }

    #[test]
    fn what_is_no_name_is_not_repeated() {
        assert_eq!(request("GET /latest/meta-data/iam/security-credentials/\x1b[31m HTTP/1.1\r\n").role, None);
        assert_eq!(request("\u{fffd}\u{fffd} / HTTP/1.1\r\n").method, "");
    }
}
