//! The Kubernetes ingress controller built on nginx: its default `log-format-upstream`.
//!
//! `combined`, then `$request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr
//! $upstream_response_length $upstream_response_time $upstream_status $req_id` (controller's `config.go`). The four
//! `$upstream_*` are lists of the same length, so the two bracket groups are the anchor, not a count of words.
//! Targets are pods: the controller bypasses the service address.

use super::fields::{Fields, present};
use super::nginx::{combined, last_status};
use super::times::seconds;
use super::upstreams::{place, split_list};
use super::{Gives, Grammar, ParseError, Problem};
use crate::request::AccessRecord;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "ingress-nginx",
    gives: Gives::CLIENT
        .and(Gives::TARGET)
        .and(Gives::INTERVAL)
        .and(Gives::STATUS)
        .and(Gives::TARGET_STATUS)
        .and(Gives::TRACE_ID)
        .and(Gives::REQUEST)
        .and(Gives::USER_AGENT),
    parse,
};

fn parse(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut fields = Fields::new(line);
    let mut record = combined(&mut fields)?;
    record.received_bytes = fields.count("request_length")?;
    let took = seconds(fields.bare("request_time")?).ok_or_else(|| fields.error("request_time", Problem::OtherTime))?;
    record.received = record.completed.minus(took);
    record.balancer = fields.bracketed("proxy_upstream_name")?;
    fields.bracketed("proxy_alternative_upstream_name")?;
    let (targets, rest) = split_list(fields.rest());
    if targets.is_empty() {
        return Err(fields.error("upstream_addr", Problem::Missing));
    }
    let (_lengths, rest) = split_list(rest);
    let (_times, rest) = split_list(rest);
    let (statuses, rest) = split_list(rest);
    place(&mut record, targets);
    record.target_status = last_status(statuses);
    record.trace_id = present(split_list(rest).0);
    Ok(record)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Format, sockets_tried};
    use super::*;
    use crate::request::Target;

    const HEAD: &str =
        r#"2001:db8::9 - - [04/May/2026:10:00:02 +0000] "POST /a HTTP/2.0" 200 59 "-" "agent/1.0" 89 0.250"#;

    #[test]
    fn a_pod_is_the_target() {
        let line = format!("{HEAD} [shop-web-8080] [] 10.0.0.1:8080 59 0.240 201 00ff00ff some new field");
        let record = Format::IngressNginx.parse(line.as_bytes()).expect("parses");
        assert_eq!(record.target, Target::Socket("10.0.0.1:8080".parse().expect("a socket")));
        assert_eq!((record.target_status, record.trace_id), (Some(201), &b"00ff00ff"[..]));
        assert_eq!(record.duration(), Duration::from_millis(250));
        assert_eq!((record.received_bytes, record.sent_bytes), (89, 59));
        assert_eq!(record.balancer, b"shop-web-8080");
    }

    #[test]
    fn every_pod_that_was_tried_is_kept() {
        let line = format!("{HEAD} [shop-web-8080] [] [fd00::1]:80, [fd00::2]:80 0, 1 0.000, 0.1 502, 403 00ff");
        let record = Format::IngressNginx.parse(line.as_bytes()).expect("parses");
        assert_eq!(record.target, Target::Socket("[fd00::2]:80".parse().expect("a socket")));
        assert_eq!(sockets_tried(&record).count(), 2);
        assert_eq!((record.target_status, record.trace_id), (Some(403), &b"00ff"[..]));
    }

    #[test]
    fn a_request_without_a_backend_has_no_target() {
        let line = format!("{HEAD} [] [] - - - - 00ff");
        let record = Format::IngressNginx.parse(line.as_bytes()).expect("parses");
        assert_eq!((record.target, record.target_status, record.trace_id), (Target::None, None, &b"00ff"[..]));
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |tail: &str, field: &str, problem: Problem| {
            let head = HEAD.strip_suffix(" 89 0.250").expect("as above");
            let line = format!("{head}{tail}");
            let error = Format::IngressNginx.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("", "request_length", Problem::Missing);
        check(" 89 soon", "request_time", Problem::OtherTime);
        check(" 89 0.250 10.0.0.1:80", "proxy_upstream_name", Problem::Quoting);
        check(" 89 0.250 [a] [", "proxy_alternative_upstream_name", Problem::Quoting);
        check(" 89 0.250 [a] []", "upstream_addr", Problem::Missing);
    }
}
