//! Azure Front Door access log: Standard/Premium (category `FrontDoorAccessLog`) and classic (`FrontdoorAccessLog`), one JSON
//! object per request.
//!
//! The documentation spells its columns `RequestUri`, the delivered JSON `requestUri`; keys are compared without case ("Monitor
//! Azure Front Door", Microsoft). All numbers are strings. `clientIp` comes from `X-Forwarded-For`; `socketIp` is the peer.
//! `trackingReference` is sent to the origin as `X-Azure-Ref`. An origin behind another name is known by address at most.
//!
//! Times: the envelope's is when the response was delivered; `timeTaken` is in seconds.

use std::net::SocketAddr;

use super::fields::{address, digits, number, socket, status};
use super::json::{FOLD, Members, Value, folded};
use super::request_line::split_url;
use super::times::{iso_time, seconds};
use super::{Gives, Grammar, ParseError, Problem};
use crate::request::{AccessRecord, LogEscape, Target};
use crate::timestamp::Timestamp;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "azure-front-door",
    gives: Gives::CLIENT
        .and(Gives::TARGET)
        .and(Gives::INTERVAL)
        .and(Gives::STATUS)
        .and(Gives::TRACE_ID)
        .and(Gives::REQUEST)
        .and(Gives::HOST)
        .and(Gives::USER_AGENT),
    parse,
};

fn parse(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut members = Members::of(line);
    let mut draft = Draft::default();
    while let Some((key, value)) = members.member()? {
        if key.eq_ignore_ascii_case(b"properties") {
            draft.read_properties(value)?;
        } else {
            draft.put(key, value.plain());
        }
    }
    draft.finish()
}

#[derive(Default)]
struct Draft<'l> {
    is_access_log: bool,
    delivered: Option<Timestamp>,
    took: &'l [u8],
    endpoint: &'l [u8],
    claimed_client: &'l [u8],
    peer: &'l [u8],
    client_port: &'l [u8],
    method: &'l [u8],
    uri: &'l [u8],
    host: &'l [u8],
    user_agent: &'l [u8],
    referrer: &'l [u8],
    status: &'l [u8],
    received_bytes: &'l [u8],
    sent_bytes: &'l [u8],
    tracking: &'l [u8],
    origin: &'l [u8],
    cache: &'l [u8],
    error: &'l [u8],
}

impl<'l> Draft<'l> {
    fn read_properties(&mut self, properties: Value<'l>) -> Result<(), ParseError> {
        let mut members = properties.members();
        while let Some((key, value)) = members.member()? {
            self.put(key, value.plain());
        }
        Ok(())
    }

    fn put(&mut self, key: &[u8], text: &'l [u8]) {
        match folded(key, &mut FOLD.clone()) {
            b"category" => self.is_access_log = text.eq_ignore_ascii_case(b"FrontDoorAccessLog"),
            b"time" => self.delivered = iso_time(text),
            b"timetaken" => self.took = text,
            b"endpoint" => self.endpoint = text,
            b"clientip" => self.claimed_client = text,
            b"socketip" => self.peer = text,
            b"clientport" => self.client_port = text,
            b"httpmethod" => self.method = text,
            b"requesturi" => self.uri = text,
            b"hostname" => self.host = text,
            b"useragent" => self.user_agent = text,
            b"referrer" | b"referer" => self.referrer = text,
            b"httpstatuscode" => self.status = text,
            b"requestbytes" => self.received_bytes = text,
            b"responsebytes" => self.sent_bytes = text,
            b"trackingreference" => self.tracking = text,
            b"originip" => self.origin = text,
            b"cachestatus" => self.cache = text,
            b"errorinfo" => self.error = text,
            _ => {}
        }
    }

    fn finish(self) -> Result<AccessRecord<'l>, ParseError> {
        if !self.is_access_log {
            return Err(ParseError::new("category", 0, Problem::Unknown));
        }
        let delivered = self.delivered.ok_or(ParseError::new("time", 0, Problem::OtherTime))?;
        let code = status(self.status).map_err(|problem| ParseError::new("httpStatusCode", 0, problem))?;
        let (authority, path_and_query) = split_url(self.uri);
        Ok(AccessRecord {
            balancer: self.endpoint,
            client: self.client(),
            target: self.target(),
            status: code,
            received_bytes: number(self.received_bytes).ok().flatten().unwrap_or(0),
            sent_bytes: number(self.sent_bytes).ok().flatten().unwrap_or(0),
            method: self.method,
            authority: if authority.is_empty() { self.host } else { authority },
            path_and_query,
            user_agent: self.user_agent,
            referer: self.referrer,
            trace_id: self.tracking,
            anomaly: if self.error.eq_ignore_ascii_case(b"NoError") { b"" } else { self.error },
            escape: LogEscape::Json,
            ..AccessRecord::blank(delivered.minus(seconds(self.took).unwrap_or_default()), delivered)
        })
    }

    /// The port belongs to the peer.
    fn client(&self) -> Option<SocketAddr> {
        let client = if self.peer.is_empty() { self.claimed_client } else { self.peer };
        let port = digits(self.client_port).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        Some(SocketAddr::new(address(client)?, port))
    }

    fn target(&self) -> Target {
        // HIT, PARTIAL_HIT and REMOTE_HIT; a partial hit asked the origin for the rest.
        if matches!(self.cache, b"HIT" | b"REMOTE_HIT") {
            return Target::None;
        }
        match (address(self.origin), socket(self.origin)) {
            (Some(address), _) => Target::Address(address),
            (None, Some(socket)) => Target::Socket(socket),
            (None, None) => Target::Unlogged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    fn line(category: &str, origin: &str) -> String {
        format!(
            r#"{{"category":"{category}","properties":{{"ErrorInfo":"NoError","clientIp":"203.0.113.4","socketIp":"198.51.100.9",
            "clientPort":"40100","httpMethod":"GET","httpStatusCode":"200","httpVersion":"2.0.0.0","requestBytes":"5",
            "requestUri":"https://shop.example:443/a?b=c","responseBytes":"70","timeTaken":"0.250","trackingReference":"0ref",
            {origin}"userAgent":"agent/1.0","referrer":"https://ref.example/","NewKey":{{}}}},"time":"2026-05-04T10:00:01.2500000Z"}}"#
        )
    }

    #[test]
    fn both_generations_are_read() {
        for category in ["FrontDoorAccessLog", "FrontdoorAccessLog"] {
            let line = line(category, r#""originIp":"10.0.0.1:443","#);
            let record = Format::AzureFrontDoor.parse(line.as_bytes()).expect("parses");
            assert_eq!(record.received, "2026-05-04T10:00:01Z".parse().expect("a time"));
            assert_eq!(record.client, Some("198.51.100.9:40100".parse().expect("a socket")));
            assert_eq!(record.target, Target::Socket("10.0.0.1:443".parse().expect("a socket")));
            assert_eq!((record.status, record.target_status), (Some(200), None));
            assert_eq!((record.authority, record.path_and_query), (&b"https://shop.example:443"[..], &b"/a?b=c"[..]));
            assert_eq!((record.trace_id, record.anomaly), (&b"0ref"[..], &b""[..]));
            assert_eq!((record.user_agent, record.referer), (&b"agent/1.0"[..], &b"https://ref.example/"[..]));
        }
    }

    #[test]
    fn origins_in_every_form_seen() {
        let check = |origin: &str, target: Target| {
            let line = line("FrontDoorAccessLog", origin);
            assert_eq!(Format::AzureFrontDoor.parse(line.as_bytes()).expect("parses").target, target, "{origin}");
        };
        check(r#""OriginIP":"10.0.0.1","#, Target::Address("10.0.0.1".parse().expect("an address")));
        check(r#""originIp":"N/A","#, Target::Unlogged);
        check("", Target::Unlogged);
        check(r#""cacheStatus":"HIT","#, Target::None);
        check(r#""cacheStatus":"MISS","#, Target::Unlogged);
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, problem: Problem| {
            let error = Format::AzureFrontDoor.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("", "line", Problem::Json);
        check(r#"{"category":"FrontDoorHealthProbeLog"}"#, "category", Problem::Unknown);
        check(r#"{"category":"FrontDoorAccessLog"}"#, "time", Problem::OtherTime);
    }
}
