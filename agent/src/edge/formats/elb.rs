//! AWS Classic Load Balancer access logs.
//!
//! `time elb client:port backend:port request_processing_time backend_processing_time response_processing_time
//! elb_status_code backend_status_code received_bytes sent_bytes "request" "user_agent" ssl_cipher ssl_protocol` ("Access logs
//! for your Classic Load Balancer", AWS). Listeners of type TCP and SSL have no statuses and the request `- - - `.
//!
//! `time` is when the request was received: the opposite of the Application Load Balancer. It was answered after the three
//! processing times, in seconds, `-1` when not dispatched.

use std::time::Duration;

use super::fields::{Fields, present};
use super::request_line::RequestLine;
use super::times::seconds;
use super::{Gives, Grammar, ParseError};
use crate::request::{AccessRecord, Target};

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "elb",
    gives: Gives::CLIENT
        .and(Gives::TARGET)
        .and(Gives::INTERVAL)
        .and(Gives::STATUS)
        .and(Gives::TARGET_STATUS)
        .and(Gives::REQUEST)
        .and(Gives::HOST)
        .and(Gives::USER_AGENT),
    parse,
};

fn parse(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut fields = Fields::new(line);
    let received = fields.time("time")?;
    let balancer = fields.bare("elb")?;
    let client = fields.endpoint("client:port")?;
    let backend = fields.endpoint("backend:port")?;
    let mut took = Duration::ZERO;
    for name in ["request_processing_time", "backend_processing_time", "response_processing_time"] {
        took = took.saturating_add(seconds(fields.bare(name)?).unwrap_or_default());
    }
    let elb_status = fields.code("elb_status_code")?;
    let target_status = fields.code("backend_status_code")?;
    let received_bytes = fields.count("received_bytes")?;
    let sent_bytes = fields.count("sent_bytes")?;
    let request = RequestLine::split(fields.quoted("request")?);
    // Lines from before 2014 end here.
    let user_agent = fields.either("user_agent")?.unwrap_or_default();
    Ok(AccessRecord {
        balancer,
        client,
        target: backend.map_or(Target::None, Target::Socket),
        status: elb_status,
        target_status,
        received_bytes,
        sent_bytes,
        method: request.method,
        authority: request.authority,
        path_and_query: request.path_and_query,
        user_agent: present(user_agent),
        ..AccessRecord::blank(received, received.plus(took))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Format, Problem};
    use super::*;

    const HEAD: &str = "2026-05-04T10:00:01.000000Z web-lb 198.51.100.9:40100";

    fn parse(line: &str) -> AccessRecord<'_> {
        Format::Elb.parse(line.as_bytes()).expect("parses")
    }

    #[test]
    fn every_field_lands_in_its_place() {
        let line = format!(
            r#"{HEAD} 10.0.0.1:80 0.000100 0.249800 0.000100 200 201 5 70 "GET http://shop.example:80/a?b HTTP/1.1" "agent/1.0" - - new"#
        );
        let record = parse(&line);
        assert_eq!(record.received, "2026-05-04T10:00:01Z".parse().expect("a time"));
        assert_eq!(record.duration(), Duration::from_millis(250));
        assert_eq!(record.client, Some("198.51.100.9:40100".parse().expect("a socket")));
        assert_eq!(record.target, Target::Socket("10.0.0.1:80".parse().expect("a socket")));
        assert_eq!((record.status, record.target_status), (Some(200), Some(201)));
        assert_eq!((record.received_bytes, record.sent_bytes), (5, 70));
        assert_eq!((record.authority, record.path_and_query), (&b"http://shop.example:80"[..], &b"/a?b"[..]));
        assert_eq!((record.balancer, record.user_agent), (&b"web-lb"[..], &b"agent/1.0"[..]));
    }

    #[test]
    fn what_was_not_dispatched_or_is_not_http() {
        let line = format!(r#"{HEAD} - -1 -1 -1 503 - 0 0 "GET http://h:80/ HTTP/1.1" "-" - -"#);
        let record = parse(&line);
        assert_eq!((record.target, record.status, record.target_status), (Target::None, Some(503), None));
        assert_eq!(record.duration(), Duration::ZERO);
        let line = format!(r#"{HEAD} 10.0.0.1:80 0.1 0.1 0.1 - - 82 305 "- - - " "-" - -"#);
        let record = parse(&line);
        assert_eq!((record.status, record.method, record.path_and_query), (None, &b"-"[..], &b""[..]));
        let line = format!(r#"{HEAD} 10.0.0.1:80 0.1 0.1 0.1 200 200 82 305 "GET http://h:80/ HTTP/1.1""#);
        assert_eq!(parse(&line).user_agent, b"");
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, problem: Problem| {
            let error = Format::Elb.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("", "time", Problem::Missing);
        check("now", "time", Problem::Time);
        // An ALB connection log begins alike.
        check("2026-05-04T10:00:01.000000Z 198.51.100.9 40100 443 TLSv1.3", "client:port", Problem::Socket);
        check(&format!("{HEAD} nowhere"), "backend:port", Problem::Socket);
        check(&format!("{HEAD} - 0 0 0 OK"), "elb_status_code", Problem::Number);
        check(&format!("{HEAD} - 0 0 0 200 - 0 0 GET"), "request", Problem::Quoting);
    }
}
