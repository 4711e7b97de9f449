//! Caddy's access log, JSON ("log" directive, Caddy).
//!
//! The client's part is nested under `request`. Caddy names no upstream by itself; where the site says `log_append upstream
//! {rp.upstream.hostport}`, the first top-level member with `upstream` in its name that holds a socket is the target.
//!
//! Times: `ts` is when the response was done, seconds since the epoch unless the encoder was told otherwise; `duration` is in
//! seconds.

use std::net::SocketAddr;
use std::time::Duration;

use memchr::memmem;

use super::fields::{address, digits, number, socket, status};
use super::json::{Members, Value};
use super::request_line::split_url;
use super::times::{any_time, seconds};
use super::{Gives, Grammar, ParseError, Problem};
use crate::request::{AccessRecord, LogEscape, Target};
use crate::timestamp::Timestamp;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "caddy",
    gives: Gives::CLIENT
        .and(Gives::TARGET)
        .and(Gives::INTERVAL)
        .and(Gives::STATUS)
        .and(Gives::REQUEST)
        .and(Gives::HOST)
        .and(Gives::USER_AGENT),
    parse,
};

fn parse(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut members = Members::of(line);
    let mut record = AccessRecord { escape: LogEscape::Json, ..AccessRecord::blank(Timestamp::MIN, Timestamp::MIN) };
    let (mut done, mut took, mut request) = (None, Duration::ZERO, None);
    while let Some((key, value)) = members.member()? {
        let text = value.plain();
        match key {
            b"ts" => done = any_time(text),
            b"duration" => took = seconds(text).unwrap_or_default(),
            b"request" => request = Some(value),
            b"status" => {
                record.status = status(text).map_err(|problem| members.error("status", problem))?;
            }
            b"size" => record.sent_bytes = number(text).ok().flatten().unwrap_or(0),
            b"bytes_read" => record.received_bytes = number(text).ok().flatten().unwrap_or(0),
            b"logger" => record.balancer = text,
            _ if record.target == Target::Unlogged && memmem::find(key, b"upstream").is_some() => {
                record.target = socket(text).map_or(Target::Unlogged, Target::Socket);
            }
            _ => {}
        }
    }
    let request = request.ok_or(ParseError::new("request", 0, Problem::Missing))?;
    read_request(&mut record, request)?;
    record.completed = done.ok_or(ParseError::new("ts", 0, Problem::OtherTime))?;
    record.received = record.completed.minus(took);
    Ok(record)
}

fn read_request<'l>(record: &mut AccessRecord<'l>, request: Value<'l>) -> Result<(), ParseError> {
    let mut members = request.members();
    let (mut peer, mut port) = (None, 0);
    while let Some((key, value)) = members.member()? {
        let text = value.plain();
        match key {
            b"remote_ip" => peer = address(text),
            b"remote_port" => port = digits(text).and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
            b"method" => record.method = text,
            b"host" => record.authority = text,
            b"uri" => record.path_and_query = split_url(text).1,
            b"headers" => read_headers(record, value)?,
            _ => {}
        }
    }
    if record.method.is_empty() {
        return Err(members.error("request.method", Problem::Missing));
    }
    record.client = peer.map(|peer| SocketAddr::new(peer, port));
    Ok(())
}

/// Each header is a list of values; the first is read.
fn read_headers<'l>(record: &mut AccessRecord<'l>, headers: Value<'l>) -> Result<(), ParseError> {
    let mut members = headers.members();
    while let Some((key, value)) = members.member()? {
        match key {
            b"User-Agent" => record.user_agent = value.first().plain(),
            b"Referer" => record.referer = value.first().plain(),
            b"Traceparent" | b"X-Request-Id" => record.trace_id = value.first().plain(),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    fn line(more: &str) -> String {
        format!(
            r#"{{"level":"info","ts":1777888801.250,"logger":"http.log.access.shop","msg":"handled request","request":{{
            "remote_ip":"198.51.100.9","remote_port":"40100","client_ip":"203.0.113.4","proto":"HTTP/2.0","method":"GET",
            "host":"shop.example","uri":"/a?b=\"c","headers":{{"User-Agent":["agent/1.0"],"Cookie":["REDACTED"],
            "Referer":["https://ref.example/"]}},"tls":{{"version":772}}}},"bytes_read":5,"duration":0.250,"size":70,
            "status":200,"resp_headers":{{"Server":["Caddy"]}}{more}}}"#
        )
    }

    #[test]
    fn every_field_lands_in_its_place() {
        let line = line("");
        let record = Format::Caddy.parse(line.as_bytes()).expect("parses");
        assert_eq!(record.received, "2026-05-04T10:00:01Z".parse().expect("a time"));
        assert_eq!(record.duration(), Duration::from_millis(250));
        assert_eq!(record.client, Some("198.51.100.9:40100".parse().expect("a socket")));
        assert_eq!((record.status, record.target), (Some(200), Target::Unlogged));
        assert_eq!((record.authority, record.path_and_query), (&b"shop.example"[..], &br#"/a?b=\"c"#[..]));
        assert_eq!((record.user_agent, record.referer), (&b"agent/1.0"[..], &b"https://ref.example/"[..]));
        assert_eq!((record.received_bytes, record.sent_bytes), (5, 70));
    }

    #[test]
    fn an_upstream_that_the_site_appends_is_the_target() {
        let pod = Target::Socket("10.0.0.1:80".parse().expect("a socket"));
        let check = |more: &str, target: Target| {
            let line = line(more);
            assert_eq!(Format::Caddy.parse(line.as_bytes()).expect("parses").target, target, "{more}");
        };
        check(r#","upstream":"10.0.0.1:80""#, pod);
        check(r#","upstream_ms":12.5,"upstream_hostport":"10.0.0.1:80""#, pod);
        check(r#","upstream":"web.internal:80""#, Target::Unlogged);
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, problem: Problem| {
            let error = Format::Caddy.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("", "line", Problem::Json);
        check("{}", "request", Problem::Missing);
        check(r#"{"status":"fine"}"#, "status", Problem::Number);
        check(r#"{"request":{"host":"h"}}"#, "request.method", Problem::Missing);
        check(r#"{"request":{"method":"GET"}}"#, "ts", Problem::OtherTime);
    }
}
