//! Traefik's access log: JSON, and its own extension of the Common Log Format ("Access logs", Traefik).
//!
//! JSON keys are the names of Traefik's fields; headers are dropped unless the operator keeps them, so there is often no user
//! agent. Durations are nanoseconds. `OriginStatus` is absent or 0 when no server was asked.
//! Text: combined, then `<count> "<router>" "<server url>" <n>ms`.
//!
//! Times: `StartUTC`, and the time in the text form, are when the request began.

use std::net::SocketAddr;
use std::time::Duration;

use super::fields::{Fields, address, digits, number, present, socket, status};
use super::json::Members;
use super::nginx::combined;
use super::request_line::split_url;
use super::times::{iso_time, millis};
use super::upstreams::target;
use super::{Gives, Grammar, ParseError, Problem};
use crate::request::{AccessRecord, LogEscape, Target};
use crate::timestamp::Timestamp;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "traefik",
    gives: Gives::CLIENT
        .and(Gives::TARGET)
        .and(Gives::INTERVAL)
        .and(Gives::STATUS)
        .and(Gives::TARGET_STATUS)
        .and(Gives::REQUEST)
        .and(Gives::HOST),
    parse,
};

fn parse(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    if line.starts_with(b"{") { parse_json(line) } else { parse_text(line) }
}

fn parse_text(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut fields = Fields::new(line);
    let mut record = combined(&mut fields)?;
    let count = fields.bare("RequestCount")?;
    digits(count).ok_or_else(|| fields.error("RequestCount", Problem::Number))?;
    fields.quoted("RouterName")?;
    let server = fields.quoted("ServiceURL")?;
    let took = fields.bare("Duration")?;
    let took = took.strip_suffix(b"ms").and_then(millis).ok_or_else(|| fields.error("Duration", Problem::OtherTime))?;
    record.completed = record.received.plus(took);
    record.target = target(host_of(server));
    record.target_status = record.status.filter(|_| record.target != Target::None);
    Ok(record)
}

/// `http://10.0.0.1:80` without its scheme and path.
fn host_of(url: &[u8]) -> &[u8] {
    let (authority, path) = split_url(url);
    let authority = if authority.is_empty() { path } else { authority };
    authority.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

fn parse_json(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut members = Members::of(line);
    let mut draft = Draft::default();
    while let Some((key, value)) = members.member()? {
        draft.put(key, value.plain());
    }
    draft.finish()
}

#[derive(Default)]
struct Draft<'l> {
    began: Option<Timestamp>,
    took: Duration,
    client: &'l [u8],
    client_host: &'l [u8],
    method: &'l [u8],
    path: &'l [u8],
    host: &'l [u8],
    status: &'l [u8],
    origin_status: &'l [u8],
    server: &'l [u8],
    received_bytes: &'l [u8],
    sent_bytes: &'l [u8],
    entry_point: &'l [u8],
    user_agent: &'l [u8],
    referer: &'l [u8],
    trace: &'l [u8],
}

impl<'l> Draft<'l> {
    fn put(&mut self, key: &[u8], text: &'l [u8]) {
        match key {
            b"StartUTC" => self.began = iso_time(text),
            b"StartLocal" => self.began = self.began.or_else(|| iso_time(text)),
            b"Duration" => {
                self.took = digits(text)
                    .and_then(|nanos| u64::try_from(nanos).ok())
                    .map_or(Duration::ZERO, Duration::from_nanos);
            }
            b"ClientAddr" => self.client = text,
            b"ClientHost" => self.client_host = text,
            b"RequestMethod" => self.method = text,
            b"RequestPath" => self.path = text,
            b"RequestAddr" => self.host = text,
            b"DownstreamStatus" => self.status = text,
            b"OriginStatus" => self.origin_status = text,
            b"ServiceAddr" => self.server = text,
            b"RequestContentSize" => self.received_bytes = text,
            b"DownstreamContentSize" => self.sent_bytes = text,
            b"entryPointName" => self.entry_point = text,
            b"TraceId" | b"trace_id" => self.trace = text,
            _ if key.eq_ignore_ascii_case(b"request_User-Agent") => self.user_agent = text,
            _ if key.eq_ignore_ascii_case(b"request_Referer") => self.referer = text,
            _ => {}
        }
    }

    fn finish(self) -> Result<AccessRecord<'l>, ParseError> {
        let began = self.began.ok_or(ParseError::new("StartUTC", 0, Problem::OtherTime))?;
        if self.method.is_empty() {
            return Err(ParseError::new("RequestMethod", 0, Problem::Missing));
        }
        let code = status(self.status).map_err(|problem| ParseError::new("DownstreamStatus", 0, problem))?;
        Ok(AccessRecord {
            balancer: self.entry_point,
            client: socket(self.client).or_else(|| address(self.client_host).map(|client| SocketAddr::new(client, 0))),
            target: target(self.server),
            status: code,
            target_status: status(self.origin_status).ok().flatten(),
            received_bytes: number(self.received_bytes).ok().flatten().unwrap_or(0),
            sent_bytes: number(self.sent_bytes).ok().flatten().unwrap_or(0),
            method: self.method,
            authority: self.host,
            path_and_query: self.path,
            user_agent: present(self.user_agent),
            referer: present(self.referer),
            trace_id: self.trace,
            escape: LogEscape::Json,
            ..AccessRecord::blank(began, began.plus(self.took))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    fn parse(line: &str) -> AccessRecord<'_> {
        Format::Traefik.parse(line.as_bytes()).expect("parses")
    }

    #[test]
    fn a_json_line() {
        let line = r#"{"ClientAddr":"198.51.100.9:40100","ClientHost":"198.51.100.9","DownstreamContentSize":70,"DownstreamStatus":502,"Duration":250000000,"OriginStatus":500,"RequestAddr":"shop.example:8443","RequestContentSize":5,"RequestMethod":"GET","RequestPath":"/a?b=\u003cc","ServiceAddr":"10.0.0.1:3000","ServiceURL":{"Scheme":"http","Host":"10.0.0.1:3000"},"StartUTC":"2026-05-04T10:00:01.25Z","entryPointName":"web","request_User-Agent":"agent/1.0","time":"2026-05-04T10:00:02Z"}"#;
        let record = parse(line);
        assert_eq!(record.received, "2026-05-04T10:00:01.25Z".parse().expect("a time"));
        assert_eq!(record.duration(), Duration::from_millis(250));
        assert_eq!(record.client, Some("198.51.100.9:40100".parse().expect("a socket")));
        assert_eq!(record.target, Target::Socket("10.0.0.1:3000".parse().expect("a socket")));
        assert_eq!((record.status, record.target_status), (Some(502), Some(500)));
        assert_eq!((record.host(), record.path_and_query), (&b"shop.example"[..], &br"/a?b=\u003cc"[..]));
        assert_eq!((record.balancer, record.user_agent), (&b"web"[..], &b"agent/1.0"[..]));
        assert_eq!((record.received_bytes, record.sent_bytes), (5, 70));
    }

    #[test]
    fn a_request_that_no_server_saw() {
        let line = r#"{"ClientHost":"198.51.100.9","DownstreamStatus":404,"OriginStatus":0,"RequestMethod":"GET","RequestPath":"/","StartUTC":"2026-05-04T10:00:01Z"}"#;
        let record = parse(line);
        assert_eq!((record.target, record.target_status, record.status), (Target::None, None, Some(404)));
        assert_eq!(record.client, Some("198.51.100.9:0".parse().expect("a socket")));
    }

    #[test]
    fn a_text_line() {
        let head = r#"198.51.100.9 - - [04/May/2026:10:00:01 +0000] "GET /a HTTP/1.1" 200 12 "-" "agent \"1\"" 7 "web@docker""#;
        let line = format!(r#"{head} "http://10.0.0.1:80" 250ms more"#);
        let record = parse(&line);
        assert_eq!(record.received, "2026-05-04T10:00:01Z".parse().expect("a time"));
        assert_eq!(record.duration(), Duration::from_millis(250));
        assert_eq!(record.target, Target::Socket("10.0.0.1:80".parse().expect("a socket")));
        assert_eq!((record.target_status, record.user_agent), (Some(200), &br#"agent \"1\""#[..]));
        let line = format!(r#"{head} "-" 0ms"#);
        assert_eq!((parse(&line).target, parse(&line).target_status), (Target::None, None));
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, problem: Problem| {
            let error = Format::Traefik.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("{}", "StartUTC", Problem::OtherTime);
        check(r#"{"StartUTC":"2026-05-04T10:00:01Z"}"#, "RequestMethod", Problem::Missing);
        check(
            r#"{"StartUTC":"2026-05-04T10:00:01Z","RequestMethod":"GET","DownstreamStatus":"OK"}"#,
            "DownstreamStatus",
            Problem::Number,
        );
        let head = r#"198.51.100.9 - - [04/May/2026:10:00:01 +0000] "GET /a HTTP/1.1" 200 12 "-" "-""#;
        check(&format!("{head} x"), "RequestCount", Problem::Number);
        check(&format!(r#"{head} 7 "r" "-" 1s"#), "Duration", Problem::OtherTime);
    }
}
