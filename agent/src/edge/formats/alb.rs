//! AWS Application Load Balancer access logs, text form; lines that begin with a brace are read by [`super::alb_json`].
//!
//! One line of space-separated fields, some quoted; see "Access logs for your Application Load Balancer" in the AWS
//! documentation. Lines written since 2018 have had 25, 27, 29, 30, 33, 34 or 36 fields: everything up to
//! `request_creation_time` (22) is required here, everything after it is read as far as it goes, what follows
//! `classification_reason` (29) is ignored. A quote within a quoted field is written `\x22`; `\"` and `\\` are understood.
//!
//! Times: `time` (2) is when the response was made, `request_creation_time` (22) when the request came in: the event
//! time. WebSocket lines are written when the connection closes.

use super::fields::{Fields, present};
use super::request_line::RequestLine;
use super::{Gives, Grammar, ParseError, Problem};
use crate::request::{AccessRecord, Target};

/// Position of `classification_reason` counted from the field after `request_creation_time`.
const FIELDS_TO_CLASSIFICATION_REASON: usize = 6;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "alb",
    gives: Gives::CLIENT
        .and(Gives::TARGET)
        .and(Gives::INTERVAL)
        .and(Gives::STATUS)
        .and(Gives::TARGET_STATUS)
        .and(Gives::TRACE_ID)
        .and(Gives::REQUEST)
        .and(Gives::HOST)
        .and(Gives::USER_AGENT),
    parse,
};

fn parse(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    if line.starts_with(b"{") {
        return super::alb_json::parse(line);
    }
    let mut fields = Fields::new(line);
    // Listener protocols. A line that begins otherwise is another log (the connection log begins with a time).
    if !matches!(fields.bare("type")?, b"http" | b"https" | b"h2" | b"grpcs" | b"ws" | b"wss") {
        return Err(fields.error("type", Problem::Unknown));
    }
    let completed = fields.time("time")?;
    let balancer = fields.bare("elb")?;
    let client = fields.endpoint("client:port")?;
    let dispatched = fields.endpoint("target:port")?;
    fields.skip(["request_processing_time", "target_processing_time", "response_processing_time"])?;
    let elb_status = fields.code("elb_status_code")?;
    let target_status = fields.code("target_status_code")?;
    let received_bytes = fields.count("received_bytes")?;
    let sent_bytes = fields.count("sent_bytes")?;
    let request = RequestLine::split(fields.quoted("request")?);
    let user_agent = present(fields.quoted("user_agent")?);
    for name in ["ssl_cipher", "ssl_protocol"] {
        fields.bare(name)?;
    }
    let target_group = fields.bare("target_group_arn")?;
    let trace_id = present(fields.quoted("trace_id")?);
    fields.quoted("domain_name")?;
    fields.quoted("chosen_cert_arn")?;
    fields.bare("matched_rule_priority")?;
    let received = fields.time("request_creation_time")?;
    Ok(AccessRecord {
        received,
        completed: completed.max(received),
        balancer,
        client,
        target: match dispatched {
            Some(socket) => Target::Socket(socket),
            None if is_lambda(target_group, target_status) => Target::Lambda,
            None => Target::None,
        },
        status: elb_status,
        target_status,
        received_bytes,
        sent_bytes,
        method: request.method,
        authority: request.authority,
        path_and_query: request.path_and_query,
        user_agent,
        trace_id,
        anomaly: classification_reason(&mut fields)?,
        ..AccessRecord::blank(received, completed)
    })
}

/// `-` as target means three things. A Lambda target answers (it has a target status) from a target group; a request
/// that was blocked, redirected or malformed has no target status.
pub(super) fn is_lambda(target_group: &[u8], target_status: Option<u16>) -> bool {
    target_status.is_some() && !present(target_group).is_empty()
}

fn classification_reason<'l>(fields: &mut Fields<'l>) -> Result<&'l [u8], ParseError> {
    for _ in 0..FIELDS_TO_CLASSIFICATION_REASON {
        if fields.either("actions_executed")?.is_none() {
            return Ok(b"");
        }
    }
    Ok(present(fields.either("classification_reason")?.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    const HEAD: &str = "https 2026-05-04T10:00:01.250000Z app/edge/0123456789abcdef 198.51.100.9:40100";
    const TAIL: &str = r#"TLS_AES_128_GCM_SHA256 TLSv1.3 arn:aws:elasticloadbalancing:eu-north-1:111122223333:targetgroup/web/0011223344556677 "Root=1-aa-bb" "shop.example" "arn:aws:acm:eu-north-1:111122223333:certificate/x" 7 2026-05-04T10:00:01.000000Z"#;

    fn line(target: &str, statuses: &str, request: &str, tail: &str) -> String {
        format!(r#"{HEAD} {target} 0.001 0.248 0.000 {statuses} 512 2048 "{request}" "agent/1.0" {TAIL}{tail}"#)
    }

    fn parse(line: &str) -> AccessRecord<'_> {
        Format::Alb.parse(line.as_bytes()).expect("parses")
    }

    #[test]
    fn every_field_lands_in_its_place() {
        let line = line("10.1.2.3:8080", "200 201", "POST https://shop.example:443/a?b=c HTTP/2.0", "");
        let record = parse(&line);
        assert_eq!(record.received, "2026-05-04T10:00:01Z".parse().expect("a time"));
        assert_eq!(record.duration(), std::time::Duration::from_millis(250));
        assert_eq!(record.balancer, b"app/edge/0123456789abcdef");
        assert_eq!(record.client, Some("198.51.100.9:40100".parse().expect("a socket")));
        assert_eq!(record.target, Target::Socket("10.1.2.3:8080".parse().expect("a socket")));
        assert_eq!((record.status, record.target_status), (Some(200), Some(201)));
        assert_eq!((record.received_bytes, record.sent_bytes), (512, 2048));
        assert_eq!(record.method, b"POST");
        assert_eq!(record.authority, b"https://shop.example:443");
        assert_eq!(record.path_and_query, b"/a?b=c");
        assert_eq!(record.user_agent, b"agent/1.0");
        assert_eq!(record.trace_id, b"Root=1-aa-bb");
        assert_eq!(record.anomaly, b"");
    }

    #[test]
    fn every_length_of_line_is_read() {
        let check = |tail: &str, anomaly: &str| {
            let line = line("10.1.2.3:80", "200 200", "GET http://h:80/ HTTP/1.1", tail);
            assert_eq!(parse(&line).anomaly, anomaly.as_bytes(), "{tail}");
        };
        let to_25 = r#" "forward" "-" "-""#;
        let to_27 = format!(r#"{to_25} 10.1.2.3:80 200"#);
        let to_29 = format!(r#"{to_25} "10.1.2.3:80" "200" "Ambiguous" "BothTeClPresent""#);
        check(to_25, "");
        check(&to_27, "");
        check(&to_29, "BothTeClPresent");
        let to_30 = format!("{to_29} TID_00112233445566778899aabbccddeeff");
        check(&to_30, "BothTeClPresent");
        let to_33 = format!(r#"{to_30} "-" "-" "-""#);
        check(&to_33, "BothTeClPresent");
        let to_36 = format!("{to_33} 10.9.9.9 - -");
        check(&to_36, "BothTeClPresent");
        check(&format!(r#"{to_36} "one more" and more"#), "BothTeClPresent");
        check(r#" "forward" "-" "-" "-" "-" "-" "-""#, "");
    }

    #[test]
    fn targets_that_are_no_host() {
        let check = |target: &str, statuses: &str, expected: Target| {
            let line = line(target, statuses, "GET http://h:80/ HTTP/1.1", "");
            assert_eq!(parse(&line).target, expected, "{target} {statuses}");
        };
        check("-", "403 -", Target::None);
        check("-", "200 200", Target::Lambda);
        check("fd00::7:8443", "200 200", Target::Socket("[fd00::7]:8443".parse().expect("a socket")));
    }

    #[test]
    fn a_refused_request_has_no_times_and_no_status() {
        let line = format!(r#"{HEAD} - -1 -1 -1 - - 0 272 "GET http://h:80/ HTTP/1.1" "-" {TAIL}"#);
        let record = parse(&line);
        assert_eq!((record.status, record.target_status, record.user_agent), (None, None, &b""[..]));
    }

    #[test]
    fn requests_in_every_form_seen() {
        let check = |request: &str, method: &str, authority: &str, path: &str| {
            let line = line("-", "400 -", request, "");
            let record = parse(&line);
            let found = [record.method, record.authority, record.path_and_query].map(String::from_utf8_lossy);
            assert_eq!(found, [method, authority, path], "{request}");
        };
        check("GET http://h:80/a b/c HTTP/1.1", "GET", "http://h:80", "/a b/c");
        check(r"GET https://h:443/q?x=\x22y\x22 HTTP/1.1", "GET", "https://h:443", r"/q?x=\x22y\x22");
        check("GET https://[2001:db8::1]:443/ HTTP/1.1", "GET", "https://[2001:db8::1]:443", "/");
        check("GET http://h:80?x=1 HTTP/1.1", "GET", "http://h:80", "?x=1");
        check("OPTIONS * HTTP/1.1", "OPTIONS", "", "*");
        check("GET /x?u=http://other/ HTTP/1.1", "GET", "", "/x?u=http://other/");
        check("- http://lb.example:80- -", "-", "http://lb.example:80", "");
        check("- http://lb.example:80- ", "-", "http://lb.example:80", "");
        check("- http://lb.example:80-/ ", "-", "http://lb.example:80-", "/");
        check("- - ", "-", "", "");
        check("-", "", "", "");
        check("", "", "", "");
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, position: u8, problem: Problem| {
            let error = Format::Alb.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.position, error.problem), (field, position, problem), "{line}");
        };
        check("", "type", 1, Problem::Missing);
        check("2026-05-04T10:00:01Z 198.51.100.9 40100 443 TLSv1.3", "type", 1, Problem::Unknown);
        check("http yesterday", "time", 2, Problem::Time);
        check(&format!("{HEAD} nowhere 0"), "target:port", 5, Problem::Socket);
        check(&format!(r#"{HEAD} - -1 -1 -1 abc - 0 0"#), "elb_status_code", 9, Problem::Number);
        check(&format!(r#"{HEAD} - -1 -1 -1 400 - 0 0 "GET / HT"#), "request", 13, Problem::Quoting);
        check(&format!(r#"{HEAD} - -1 -1 -1 400 - 0 0 GET"#), "request", 13, Problem::Quoting);
        let error = Format::Alb.parse(b"http yesterday").expect_err("refused");
        assert_eq!(error.to_string(), "field 2 `time` is not an ISO 8601 time in UTC");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_a_record_or_an_error(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = Format::Alb.parse(&bytes);
        }

        #[test]
        fn any_cut_of_a_good_line_gives_a_record_or_an_error(cut in 0_usize..700, request in "[ -~]{0,40}") {
            let line = line("10.1.2.3:80", "200 200", &request, r#" "forward" "-" "-" "-" "-" "-" "-""#);
            let _ = Format::Alb.parse(&line.as_bytes()[..cut.min(line.len())]);
        }
    }
}
