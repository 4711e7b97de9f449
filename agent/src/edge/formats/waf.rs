//! AWS WAF logs: one JSON object per inspected request ("Log fields for protection pack traffic logs", AWS).
//!
//! The only AWS source with the request's headers. It names no target and, unless WAF itself answered, no status: it says who
//! asked for what, and whether it was let through. `requestId` is the ALB's trace id without `Root=` where an ALB asked.
//! `timestamp` is in milliseconds; there is no duration.

use super::fields::{address, number, status};
use super::json::{Members, Value};
use super::nginx::without_port;
use super::times::epoch_millis;
use super::{Gives, Grammar, ParseError, Problem};
use crate::request::{AccessRecord, LogEscape, Target};
use crate::timestamp::Timestamp;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "waf",
    gives: Gives::CLIENT.and(Gives::TRACE_ID).and(Gives::REQUEST).and(Gives::HOST).and(Gives::USER_AGENT),
    parse,
};

fn parse(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut members = Members::of(line);
    let mut record = AccessRecord { escape: LogEscape::Json, ..AccessRecord::blank(Timestamp::MIN, Timestamp::MIN) };
    let (mut time, mut acl, mut request) = (None, None, None);
    let (mut action, mut rule): (&[u8], &[u8]) = (b"", b"");
    while let Some((key, value)) = members.member()? {
        match key {
            b"timestamp" => time = epoch_millis(value.plain()),
            b"webaclId" => acl = Some(value),
            b"action" => action = value.plain(),
            b"terminatingRuleId" => rule = value.plain(),
            b"httpSourceId" => record.balancer = value.plain(),
            b"responseCodeSent" => record.status = status(value.plain()).ok().flatten(),
            b"httpRequest" => request = Some(value),
            _ => {}
        }
    }
    acl.ok_or(ParseError::new("webaclId", 0, Problem::Missing))?;
    let request = request.ok_or(ParseError::new("httpRequest", 0, Problem::Missing))?;
    read_request(&mut record, request)?;
    record.received = time.ok_or(ParseError::new("timestamp", 0, Problem::OtherTime))?;
    record.completed = record.received;
    if action != b"ALLOW" {
        (record.target, record.anomaly) = (Target::None, rule);
    }
    Ok(record)
}

fn read_request<'l>(record: &mut AccessRecord<'l>, request: Value<'l>) -> Result<(), ParseError> {
    let mut members = request.members();
    while let Some((key, value)) = members.member()? {
        match key {
            b"clientIp" => record.client = address(value.plain()).map(without_port),
            b"httpMethod" => record.method = value.plain(),
            b"uri" => record.path_and_query = value.plain(),
            b"args" => record.query = value.plain(),
            b"requestId" => record.trace_id = value.plain(),
            b"host" => record.authority = value.plain(),
            b"headers" => value.elements().for_each(|header| read_header(record, header)),
            _ => {}
        }
    }
    if record.path_and_query.is_empty() {
        return Err(members.error("httpRequest.uri", Problem::Missing));
    }
    Ok(())
}

/// One `{"name":…,"value":…}`. A header that came twice is read the first time.
fn read_header<'l>(record: &mut AccessRecord<'l>, header: Value<'l>) {
    let mut members = header.members();
    let (mut name, mut text): (&[u8], &[u8]) = (b"", b"");
    while let Ok(Some((key, value))) = members.member() {
        match key {
            b"name" => name = value.plain(),
            b"value" => text = value.plain(),
            _ => {}
        }
    }
    let field = if name.eq_ignore_ascii_case(b"user-agent") {
        &mut record.user_agent
    } else if name.eq_ignore_ascii_case(b"referer") {
        &mut record.referer
    } else if name.eq_ignore_ascii_case(b"host") {
        &mut record.authority
    } else if name.eq_ignore_ascii_case(b"content-length") {
        record.received_bytes = number(text).ok().flatten().unwrap_or(0);
        return;
    } else {
        return;
    };
    if field.is_empty() {
        *field = text;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    fn line(action: &str) -> String {
        format!(
            r#"{{"timestamp":1777888801250,"formatVersion":1,"webaclId":"arn:x","terminatingRuleId":"rule-7","action":"{action}",
            "terminatingRuleMatchDetails":[{{"matchedData":["10","}}"]}}],"httpSourceId":"1-app/edge/00ff","ruleGroupList":[],
            "httpRequest":{{"clientIp":"198.51.100.9","headers":[{{"name":"Host","value":"shop.example"}},{{"name":"user-agent",
            "value":"agent \"1\""}},{{"name":"Referer","value":"https://ref.example/"}},{{"name":"Content-Length","value":"55"}}],
            "uri":"/a","args":"b=c","httpMethod":"POST","requestId":"1-aa-bb","newThing":{{}}}},"labels":[]}}"#
        )
    }

    #[test]
    fn a_request_with_its_headers() {
        let line = line("ALLOW");
        let record = Format::Waf.parse(line.as_bytes()).expect("parses");
        assert_eq!(record.received, "2026-05-04T10:00:01.25Z".parse().expect("a time"));
        assert_eq!(record.client, Some("198.51.100.9:0".parse().expect("a socket")));
        assert_eq!((record.path_and_query, record.query, record.method), (&b"/a"[..], &b"b=c"[..], &b"POST"[..]));
        assert_eq!((record.user_agent, record.authority), (&br#"agent \"1\""#[..], &b"shop.example"[..]));
        assert_eq!((record.referer, record.trace_id), (&b"https://ref.example/"[..], &b"1-aa-bb"[..]));
        assert_eq!((record.target, record.anomaly, record.received_bytes), (Target::Unlogged, &b""[..], 55));
    }

    #[test]
    fn what_was_not_let_through_went_nowhere() {
        for action in ["BLOCK", "CAPTCHA", "CHALLENGE"] {
            let line = line(action);
            let record = Format::Waf.parse(line.as_bytes()).expect("parses");
            assert_eq!((record.target, record.anomaly), (Target::None, &b"rule-7"[..]), "{action}");
        }
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, problem: Problem| {
            let error = Format::Waf.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("", "line", Problem::Json);
        check("{}", "webaclId", Problem::Missing);
        check(r#"{"webaclId":"a"}"#, "httpRequest", Problem::Missing);
        check(r#"{"webaclId":"a","httpRequest":{}}"#, "httpRequest.uri", Problem::Missing);
        check(r#"{"webaclId":"a","httpRequest":{"uri":"/"},"timestamp":"now"}"#, "timestamp", Problem::OtherTime);
    }
}
