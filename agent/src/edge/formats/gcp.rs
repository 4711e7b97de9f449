//! Google Cloud application load balancers: a Cloud Logging `LogEntry` with an `httpRequest`.
//!
//! Global and classic balancers say in `jsonPayload.statusDetails` who made the response; regional ones have
//! `jsonPayload.proxyStatus` instead (RFC 9209, only when something went wrong) and may write `ip:port` where the others
//! write an address ("External Application Load Balancer logging and monitoring", Google Cloud). 64-bit numbers are strings.
//!
//! `timestamp` is when the request came in, `latency` a number of seconds with an `s` behind it. `trace` is sent to the target
//! in `traceparent`.

use super::fields::{address, number, socket, status};
use super::json::{Members, Value};
use super::nginx::without_port;
use super::request_line::split_url;
use super::times::{iso_time, seconds};
use super::{Gives, Grammar, ParseError, Problem};
use crate::request::{AccessRecord, LogEscape, Target};
use crate::timestamp::Timestamp;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "gcp",
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

/// `statusDetails` of a response that the target made.
const SENT_BY_BACKEND: &[u8] = b"response_sent_by_backend";

fn parse(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut members = Members::of(line);
    let mut entry = Entry::default();
    while let Some((key, value)) = members.member()? {
        match key {
            b"timestamp" => entry.received = iso_time(value.plain()),
            b"trace" => entry.record.trace_id = trace_id(value.plain()),
            b"httpRequest" => entry.read_request(value)?,
            b"jsonPayload" => entry.read_payload(value)?,
            b"resource" => entry.read_resource(value)?,
            _ => {}
        }
    }
    entry.finish()
}

/// `projects/P/traces/T`: the last part is what the target sees.
fn trace_id(text: &[u8]) -> &[u8] {
    text.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

struct Entry<'l> {
    record: AccessRecord<'l>,
    received: Option<Timestamp>,
    took: std::time::Duration,
    server: &'l [u8],
    status_details: &'l [u8],
    proxy_status: &'l [u8],
}

impl Default for Entry<'_> {
    fn default() -> Self {
        let record = AccessRecord { escape: LogEscape::Json, ..AccessRecord::blank(Timestamp::MIN, Timestamp::MIN) };
        Self {
            record,
            received: None,
            took: std::time::Duration::ZERO,
            server: b"",
            status_details: b"",
            proxy_status: b"",
        }
    }
}

impl<'l> Entry<'l> {
    fn read_request(&mut self, request: Value<'l>) -> Result<(), ParseError> {
        let mut members = request.members();
        let record = &mut self.record;
        while let Some((key, value)) = members.member()? {
            let text = value.plain();
            match key {
                b"requestMethod" => record.method = text,
                b"requestUrl" => (record.authority, record.path_and_query) = split_url(text),
                b"requestSize" => record.received_bytes = number(text).ok().flatten().unwrap_or(0),
                b"responseSize" => record.sent_bytes = number(text).ok().flatten().unwrap_or(0),
                b"status" => {
                    record.status = status(text).map_err(|problem| members.error("httpRequest.status", problem))?;
                }
                b"userAgent" => record.user_agent = text,
                b"referer" => record.referer = text,
                b"remoteIp" => record.client = address(text).map(without_port).or_else(|| socket(text)),
                b"serverIp" => self.server = text,
                b"latency" => self.took = seconds(text).unwrap_or_default(),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_payload(&mut self, payload: Value<'l>) -> Result<(), ParseError> {
        let mut members = payload.members();
        while let Some((key, value)) = members.member()? {
            match key {
                b"statusDetails" => self.status_details = value.plain(),
                b"proxyStatus" => self.proxy_status = value.plain(),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_resource(&mut self, resource: Value<'l>) -> Result<(), ParseError> {
        let mut members = resource.members();
        while let Some((key, value)) = members.member()? {
            if key == b"labels" {
                let mut labels = value.members();
                while let Some((key, value)) = labels.member()? {
                    if key == b"forwarding_rule_name" {
                        self.record.balancer = value.plain();
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<AccessRecord<'l>, ParseError> {
        if self.record.path_and_query.is_empty() && self.record.authority.is_empty() {
            return Err(ParseError::new("httpRequest.requestUrl", 0, Problem::Missing));
        }
        self.record.received = self.received.ok_or(ParseError::new("timestamp", 0, Problem::OtherTime))?;
        self.record.completed = self.record.received.plus(self.took);
        let by_backend = match self.status_details {
            b"" => self.proxy_status.is_empty() && !self.server.is_empty(),
            details => details == SENT_BY_BACKEND,
        };
        self.record.target = self.target(by_backend);
        self.record.target_status = self.record.status.filter(|_| by_backend);
        if self.status_details != SENT_BY_BACKEND {
            self.record.anomaly = if self.status_details.is_empty() { self.proxy_status } else { self.status_details };
        }
        Ok(self.record)
    }

    /// An address is more likely than a socket, and unbracketed IPv6 reads both ways. Without either, the request was still
    /// answered by a target if the balancer says so: serverless ones have no address.
    fn target(&self, by_backend: bool) -> Target {
        let told = !self.status_details.is_empty() || !self.proxy_status.is_empty();
        match (address(self.server), socket(self.server)) {
            (Some(address), _) => Target::Address(address),
            (None, Some(socket)) => Target::Socket(socket),
            (None, None) if by_backend || !told => Target::Unlogged,
            (None, None) => Target::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    fn line(server: &str, payload: &str) -> String {
        format!(
            r#"{{"httpRequest":{{"latency":"0.250s","remoteIp":"198.51.100.9","requestMethod":"GET","requestSize":"5",
            "requestUrl":"https://shop.example/a?b=\u003cc","responseSize":"70",{server}"status":200,"userAgent":"agent/1.0"}},
            "insertId":"x","jsonPayload":{{"@type":"t","cacheDecision":["A"],{payload}}},"logName":"projects/p/logs/requests",
            "resource":{{"labels":{{"forwarding_rule_name":"edge","zone":"global"}},"type":"http_load_balancer"}},
            "timestamp":"2026-05-04T10:00:01.000000Z","trace":"projects/p/traces/00ff"}}"#
        )
    }

    #[test]
    fn a_request_that_the_target_answered() {
        let line = line(r#""serverIp":"10.0.0.1","#, r#""statusDetails":"response_sent_by_backend""#);
        let record = Format::Gcp.parse(line.as_bytes()).expect("parses");
        assert_eq!(record.received, "2026-05-04T10:00:01Z".parse().expect("a time"));
        assert_eq!(record.duration(), std::time::Duration::from_millis(250));
        assert_eq!(record.client, Some("198.51.100.9:0".parse().expect("a socket")));
        assert_eq!(record.target, Target::Address("10.0.0.1".parse().expect("an address")));
        assert_eq!((record.status, record.target_status), (Some(200), Some(200)));
        assert_eq!((record.authority, record.path_and_query), (&b"https://shop.example"[..], &br"/a?b=\u003cc"[..]));
        assert_eq!((record.balancer, record.trace_id), (&b"edge"[..], &b"00ff"[..]));
        assert_eq!((record.received_bytes, record.sent_bytes, record.anomaly), (5, 70, &b""[..]));
    }

    #[test]
    fn who_made_the_answer_is_told_in_two_ways() {
        let check = |server: &str, payload: &str, target: Target, target_status: Option<u16>| {
            let line = line(server, payload);
            let record = Format::Gcp.parse(line.as_bytes()).expect("parses");
            assert_eq!((record.target, record.target_status), (target, target_status), "{server} {payload}");
        };
        let v6 = Target::Address("2001:db8::7".parse().expect("an address"));
        let socket = Target::Socket("10.0.0.1:80".parse().expect("a socket"));
        check(r#""serverIp":"2001:db8::7","#, r#""statusDetails":"backend_timeout""#, v6, None);
        check(r#""serverIp":"10.0.0.1:80","#, r#""x":1"#, socket, Some(200));
        check(r#""serverIp":"10.0.0.1:80","#, r#""proxyStatus":"error=\"connection_terminated\"""#, socket, None);
        check("", r#""statusDetails":"response_sent_by_backend""#, Target::Unlogged, Some(200));
        check("", r#""statusDetails":"denied_by_security_policy""#, Target::None, None);
        check("", r#""proxyStatus":"error=\"destination_unavailable\"""#, Target::None, None);
        check("", r#""x":1"#, Target::Unlogged, None);
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, problem: Problem| {
            let error = Format::Gcp.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("[]", "line", Problem::Json);
        check("{}", "httpRequest.requestUrl", Problem::Missing);
        check(r#"{"httpRequest":{"status":"OK"}}"#, "httpRequest.status", Problem::Number);
        check(r#"{"httpRequest":{"requestUrl":"http://h/"}}"#, "timestamp", Problem::OtherTime);
    }
}
