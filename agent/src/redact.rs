//! Secrets that stand on command lines: a command line in, the same without them out.
//!
//! Whoever asks a metadata endpoint with curl writes the session token behind `-H`; command lines go into incidents, recordings
//! and outputs. Names of headers and variables stay, since they are evidence. Never: judges; guesses at what looks random.

use std::sync::OnceLock;

use aho_corasick::AhoCorasick;

/// What a secret stands behind: headers of metadata services and of HTTP at large, and the variables that SDKs read.
const NAMES: [&str; 8] = [
    "x-aws-ec2-metadata-token:",
    "x-aliyun-ecs-metadata-token:",
    "x-identity-header:",
    "x-vault-token:",
    "authorization:",
    "aws_secret_access_key=",
    "aws_session_token=",
    "aws_container_authorization_token=",
];
/// What stands in its place.
const MARK: &str = "[redacted]";

/// Takes secrets out of the arguments of one command line.
pub(crate) fn arguments(arguments: &mut [String]) {
    for argument in arguments {
        if let Some(clean) = redacted(argument) {
            *argument = clean;
        }
    }
}

/// The argument without its secrets; `None` when there is nothing to take out.
fn redacted(argument: &str) -> Option<String> {
    let mut clean = String::new();
    let mut kept = 0;
    for found in names()?.find_iter(argument) {
        if found.start() < kept {
            continue;
        }
        let header = NAMES.get(found.pattern().as_usize()).is_some_and(|name| name.ends_with(':'));
        let value = argument.get(found.end()..)?;
        let blank = value.len() - value.trim_start_matches([' ', '\t']).len();
        // A header's value may hold blanks, a variable's ends there; a script quotes either.
        let ends = |c: char| matches!(c, '\'' | '"' | '\n' | '\r') || (!header && matches!(c, ' ' | '\t' | ';' | '&'));
        let secret = value.get(blank..)?;
        let length = secret.find(ends).unwrap_or(secret.len());
        // `$TOKEN` in a script is no secret, and says how it was had.
        if length == 0 || secret.starts_with('$') {
            continue;
        }
        clean.push_str(argument.get(kept..found.end() + blank)?);
        clean.push_str(MARK);
        kept = found.end() + blank + length;
    }
    (kept > 0).then(|| clean + argument.get(kept..).unwrap_or_default())
}

/// The search, built once; `None` only if the table above were too large for it.
fn names() -> Option<&'static AhoCorasick> {
    static SEARCH: OnceLock<Option<AhoCorasick>> = OnceLock::new();
    SEARCH.get_or_init(|| AhoCorasick::builder().ascii_case_insensitive(true).build(NAMES).ok()).as_ref()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_go_and_their_names_stay() {
        let check = |argument: &str, expected: &str| {
            let mut line = [argument.to_owned()];
            arguments(&mut line);
            assert_eq!(line[0], expected);
        };
        check("X-aws-ec2-metadata-token: AQAEAbc==", "X-aws-ec2-metadata-token: [redacted]");
        check("X-AWS-EC2-Metadata-Token:AQAE", "X-AWS-EC2-Metadata-Token:[redacted]");
        check("X-aws-ec2-metadata-token-ttl-seconds: 60", "X-aws-ec2-metadata-token-ttl-seconds: 60");
        check("Authorization: Bearer a b", "Authorization: [redacted]");
        check(
            "curl -H 'Authorization: Bearer x' http://203.0.113.9/; id",
            "curl -H 'Authorization: [redacted]' http://203.0.113.9/; id",
        );
        check(
            "curl -H \"X-aws-ec2-metadata-token: $T\" http://x/",
            "curl -H \"X-aws-ec2-metadata-token: $T\" http://x/",
        );
        check(
            "AWS_SESSION_TOKEN=abc AWS_SECRET_ACCESS_KEY=def aws s3 ls",
            "AWS_SESSION_TOKEN=[redacted] AWS_SECRET_ACCESS_KEY=[redacted] aws s3 ls",
        );
        check("authorization: authorization: x", "authorization: [redacted]");
        check("authorization:", "authorization:");
        check("ls -l", "ls -l");
    }

    proptest! {
        #[test]
        fn no_secret_behind_a_name_is_left(before in ".{0,20}", value in "[A-Za-z0-9+/=]{24,40}", after in "['\"][ -~]{0,20}") {
            let mut line = [format!("{before}X-Aws-Ec2-Metadata-Token: {value}{after}")];
            arguments(&mut line);
            prop_assert!(!line[0].contains(&value), "{}", line[0]);
        }
    }
}
