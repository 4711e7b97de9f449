//! Azure Application Gateway access log (category `ApplicationGatewayAccessLog`), one JSON object per request.
//!
//! Delivered as an envelope with `properties` ("Application Gateway diagnostic logs", Microsoft); exports that flatten the
//! envelope are read the same. `serverRouted` with `upstreamSourcePort` gives the exact socket, apart from the gateway's
//! address. `originalRequestUriWithArgs` is the URL before a rewrite: what the client sent.
//!
//! Times: the envelope's is when the request was done, `timeTaken` is in seconds on v2. The v1 gateway (retired in April 2026)
//! wrote milliseconds and hid its server in the query; its lines give no target here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::fields::{address, digits, number, status};
use super::json::{Members, Value};
use super::times::{iso_time, millis, seconds};
use super::upstreams::place;
use super::{Gives, Grammar, ParseError, Problem};
use crate::request::{AccessRecord, LogEscape, Target};
use crate::timestamp::Timestamp;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "azure-app-gateway",
    gives: Gives::CLIENT
        .and(Gives::TARGET)
        .and(Gives::INTERVAL)
        .and(Gives::STATUS)
        .and(Gives::TARGET_STATUS)
        .and(Gives::TRACE_ID)
        .and(Gives::UPSTREAM_SOCKET)
        .and(Gives::REQUEST)
        .and(Gives::HOST)
        .and(Gives::USER_AGENT),
    parse,
};

fn parse(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut draft = Draft::default();
    draft.read(Members::of(line))?;
    draft.finish()
}

#[derive(Default)]
struct Draft<'l> {
    is_access_log: bool,
    done: Option<Timestamp>,
    took: &'l [u8],
    listener: &'l [u8],
    client: &'l [u8],
    client_port: &'l [u8],
    method: &'l [u8],
    original_uri: &'l [u8],
    uri: &'l [u8],
    query: &'l [u8],
    user_agent: &'l [u8],
    status: &'l [u8],
    received_bytes: &'l [u8],
    sent_bytes: &'l [u8],
    transaction: &'l [u8],
    server: Option<&'l [u8]>,
    server_status: &'l [u8],
    upstream_port: &'l [u8],
    original_host: &'l [u8],
    host: &'l [u8],
    error: &'l [u8],
}

impl<'l> Draft<'l> {
    fn read(&mut self, mut members: Members<'l>) -> Result<(), ParseError> {
        while let Some((key, value)) = members.member()? {
            if key == b"properties" {
                self.read_properties(value)?;
            } else {
                self.put(key, value.plain());
            }
        }
        Ok(())
    }

    fn read_properties(&mut self, properties: Value<'l>) -> Result<(), ParseError> {
        let mut members = properties.members();
        while let Some((key, value)) = members.member()? {
            self.put(key, value.plain());
        }
        Ok(())
    }

    fn put(&mut self, key: &[u8], text: &'l [u8]) {
        match key {
            b"category" => self.is_access_log |= text == b"ApplicationGatewayAccessLog",
            b"operationName" => self.is_access_log |= text == b"ApplicationGatewayAccess",
            b"timeStamp" | b"time" => self.done = iso_time(text),
            b"timeTaken" => self.took = text,
            b"listenerName" => self.listener = text,
            b"clientIP" => self.client = text,
            b"clientPort" => self.client_port = text,
            b"httpMethod" => self.method = text,
            b"originalRequestUriWithArgs" => self.original_uri = text,
            b"requestUri" => self.uri = text,
            b"requestQuery" => self.query = text,
            b"userAgent" => self.user_agent = text,
            b"httpStatus" => self.status = text,
            b"receivedBytes" => self.received_bytes = text,
            b"sentBytes" => self.sent_bytes = text,
            b"transactionId" => self.transaction = text,
            b"serverRouted" => self.server = Some(text),
            b"serverStatus" => self.server_status = text,
            b"upstreamSourcePort" => self.upstream_port = text,
            b"originalHost" => self.original_host = text,
            b"host" => self.host = text,
            b"error_info" => self.error = text,
            _ => {}
        }
    }

    fn finish(self) -> Result<AccessRecord<'l>, ParseError> {
        if !self.is_access_log {
            return Err(ParseError::new("category", 0, Problem::Unknown));
        }
        let done = self.done.ok_or(ParseError::new("timeStamp", 0, Problem::OtherTime))?;
        let code = status(self.status).map_err(|problem| ParseError::new("httpStatus", 0, problem))?;
        let (path_and_query, query) =
            if self.original_uri.is_empty() { (self.uri, self.query) } else { (self.original_uri, &b""[..]) };
        let mut record = AccessRecord {
            balancer: self.listener,
            client: address(self.client).map(|client| SocketAddr::new(client, port(self.client_port).unwrap_or(0))),
            upstream_local: port(self.upstream_port)
                .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)),
            status: code,
            target_status: status(self.server_status).ok().flatten(),
            received_bytes: number(self.received_bytes).ok().flatten().unwrap_or(0),
            sent_bytes: number(self.sent_bytes).ok().flatten().unwrap_or(0),
            method: self.method,
            authority: if self.original_host.is_empty() { self.host } else { self.original_host },
            path_and_query,
            query,
            user_agent: self.user_agent,
            trace_id: self.transaction,
            anomaly: if self.error == b"ERRORINFO_NO_ERROR" { b"" } else { self.error },
            escape: LogEscape::Json,
            ..AccessRecord::blank(done.minus(self.took()), done)
        };
        match self.server {
            Some(list) => place(&mut record, list),
            None => record.target = Target::Unlogged,
        }
        Ok(record)
    }

    /// Only v2 says where it routed to; v1 counts milliseconds.
    fn took(&self) -> Duration {
        let took =
            if self.server.is_some() { seconds(self.took) } else { millis(self.took).or_else(|| seconds(self.took)) };
        took.unwrap_or_default()
    }
}

/// A port; 0 is none.
fn port(text: &[u8]) -> Option<u16> {
    digits(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::super::{Format, sockets_tried};
    use super::*;

    fn line(server: &str) -> String {
        format!(
            r#"{{"timeStamp":"2026-05-04T10:00:01+00:00","listenerName":"edge","operationName":"ApplicationGatewayAccess",
            "category":"ApplicationGatewayAccessLog","properties":{{"clientIP":"198.51.100.9","clientPort":40100,
            "httpMethod":"GET","originalRequestUriWithArgs":"\/a?b=c","requestUri":"\/z","requestQuery":"b=c",
            "userAgent":"agent\/1.0","httpStatus":502,"receivedBytes":5,"sentBytes":70,"timeTaken":0.250,
            "transactionId":"00ff",{server}"originalHost":"shop.example","host":"inner.example",
            "error_info":"ERRORINFO_UPSTREAM_TIMED_OUT","newKey":[1]}}}}"#
        )
    }

    #[test]
    fn a_routed_request_gives_the_exact_socket() {
        let line = line(r#""serverRouted":"10.0.0.1:8080","serverStatus":"500","upstreamSourcePort":"21564","#);
        let record = Format::AzureAppGateway.parse(line.as_bytes()).expect("parses");
        assert_eq!(record.completed, "2026-05-04T10:00:01Z".parse().expect("a time"));
        assert_eq!(record.duration(), Duration::from_millis(250));
        assert_eq!(record.client, Some("198.51.100.9:40100".parse().expect("a socket")));
        assert_eq!(record.target, Target::Socket("10.0.0.1:8080".parse().expect("a socket")));
        assert_eq!(record.upstream_local, Some("0.0.0.0:21564".parse().expect("a socket")));
        assert_eq!((record.status, record.target_status), (Some(502), Some(500)));
        assert_eq!(
            (record.path_and_query, record.query, record.authority),
            (&br"\/a?b=c"[..], &b""[..], &b"shop.example"[..])
        );
        assert_eq!((record.trace_id, record.anomaly), (&b"00ff"[..], &b"ERRORINFO_UPSTREAM_TIMED_OUT"[..]));
    }

    #[test]
    fn targets_in_every_form_seen() {
        let check = |server: &str, target: Target, tried: usize| {
            let line = line(server);
            let record = Format::AzureAppGateway.parse(line.as_bytes()).expect("parses");
            assert_eq!((record.target, sockets_tried(&record).count()), (target, tried), "{server}");
        };
        check(
            r#""serverRouted":"10.0.0.1:80, 10.0.0.2:80","#,
            Target::Socket("10.0.0.2:80".parse().expect("a socket")),
            2,
        );
        check(r#""serverRouted":"","#, Target::None, 0);
        check("", Target::Unlogged, 0);
    }

    #[test]
    fn v1_counts_milliseconds_and_splits_the_query_off() {
        let line = r#"{"time":"2026-05-04T10:00:01Z","category":"ApplicationGatewayAccessLog","properties":{"clientIP":"198.51.100.9","httpMethod":"GET","requestUri":"/a","requestQuery":"b=c","httpStatus":200,"timeTaken":250}}"#;
        let record = Format::AzureAppGateway.parse(line.as_bytes()).expect("parses");
        assert_eq!((record.duration(), record.target), (Duration::from_millis(250), Target::Unlogged));
        assert_eq!((record.path_and_query, record.query), (&b"/a"[..], &b"b=c"[..]));
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, problem: Problem| {
            let error = Format::AzureAppGateway.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("", "line", Problem::Json);
        check(r#"{"category":"ApplicationGatewayFirewallLog"}"#, "category", Problem::Unknown);
        check(r#"{"category":"ApplicationGatewayAccessLog"}"#, "timeStamp", Problem::OtherTime);
    }
}
