//! AWS Network Load Balancer, TLS listener access logs.
//!
//! `tls version time elb listener client:port destination:port connection_time tls_handshake_time received_bytes sent_bytes
//! incoming_tls_alert chosen_cert_arn chosen_cert_serial tls_cipher tls_protocol_version tls_named_group domain_name
//! alpn_fe_protocol alpn_be_protocol alpn_client_preference_list tls_connection_creation_time` ("Access logs for your Network
//! Load Balancer", AWS). A record is a connection, not a request: who was there, for how long, by which name. `destination`
//! is the listener, not the target.
//!
//! Times have whole seconds and no `Z`; `time` is when the connection ended. Lines from before
//! `tls_connection_creation_time` was added began `connection_time` milliseconds earlier.

use super::fields::{Fields, present, socket};
use super::times::{iso_time, millis};
use super::{Gives, Grammar, ParseError, Problem};
use crate::request::{AccessRecord, LogEscape};

pub(super) const GRAMMAR: Grammar =
    Grammar { name: "nlb-tls", gives: Gives::CLIENT.and(Gives::INTERVAL).and(Gives::HOST), parse };

/// Fields between `sent_bytes` and `domain_name` that say nothing for the join.
const OF_THE_HANDSHAKE: [&str; 6] = [
    "incoming_tls_alert",
    "chosen_cert_arn",
    "chosen_cert_serial",
    "tls_cipher",
    "tls_protocol_version",
    "tls_named_group",
];

/// The end of the line, which older lines lack. The list is `"h2","http/1.1"`: quoted within, never spaced.
const ALPN_AND_CREATION: [&str; 4] =
    ["alpn_fe_protocol", "alpn_be_protocol", "alpn_client_preference_list", "tls_connection_creation_time"];

fn parse(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut fields = Fields::new(line);
    if fields.bare("type")? != b"tls" {
        return Err(fields.error("type", Problem::Unknown));
    }
    fields.bare("version")?;
    let ended = fields.bare("time")?;
    let ended = iso_time(ended).ok_or_else(|| fields.error("time", Problem::Time))?;
    let balancer = fields.bare("elb")?;
    fields.bare("listener")?;
    let client = fields.bare("client:port")?;
    let client = socket(client).ok_or_else(|| fields.error("client:port", Problem::Socket))?;
    fields.bare("destination:port")?;
    let lasted = millis(fields.bare("connection_time")?).unwrap_or_default();
    fields.bare("tls_handshake_time")?;
    let received_bytes = fields.count("received_bytes")?;
    let sent_bytes = fields.count("sent_bytes")?;
    for name in OF_THE_HANDSHAKE {
        fields.bare(name)?;
    }
    let name = present(fields.bare("domain_name")?);
    let began = ALPN_AND_CREATION.into_iter().map_while(|name| fields.bare(name).ok()).nth(3).and_then(iso_time);
    Ok(AccessRecord {
        balancer,
        client: Some(client),
        received_bytes,
        sent_bytes,
        authority: name,
        escape: LogEscape::Percent,
        ..AccessRecord::blank(began.unwrap_or_else(|| ended.minus(lasted)), ended)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Format;
    use super::*;
    use crate::request::Target;

    const HEAD: &str = "tls 2.0 2026-05-04T10:00:05 net/edge/00ff 11ee 198.51.100.9:40100 10.9.9.9:443";

    #[test]
    fn a_connection_has_no_request_and_no_target() {
        let check = |tail: &str, seconds: u64| {
            let line = format!("{HEAD} 2500 12 98 246 - arn:x - CIPHER tlsv13 - shop.example h2 h2 {tail}");
            let record = Format::NlbTls.parse(line.as_bytes()).expect("parses");
            assert_eq!(record.duration(), Duration::from_millis(seconds), "{tail}");
            assert_eq!((record.target, record.status, record.path_and_query), (Target::Unlogged, None, &b""[..]));
            assert_eq!(record.client, Some("198.51.100.9:40100".parse().expect("a socket")));
            assert_eq!((record.host(), record.received_bytes, record.sent_bytes), (&b"shop.example"[..], 98, 246));
        };
        check(r#""h2","http/1.1" 2026-05-04T10:00:02"#, 3000);
        check("- 2026-05-04T10:00:02 x25519 more", 3000);
        check("-", 2500);
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, problem: Problem| {
            let error = Format::NlbTls.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("tcp 2.0", "type", Problem::Unknown);
        check("tls 2.0 now", "time", Problem::Time);
        check("tls 2.0 2026-05-04T10:00:05 net/e/0 l nobody", "client:port", Problem::Socket);
        check(&format!("{HEAD} 1 1 x"), "received_bytes", Problem::Number);
        check(&format!("{HEAD} 1 1 1 1 -"), "chosen_cert_arn", Problem::Missing);
    }
}
