//! Envoy's default text format and Istio's, which adds fields in two places; lines that begin with a brace are read by
//! [`super::envoy_json`].
//!
//! Envoy: `[START_TIME] "METHOD PATH PROTOCOL" CODE FLAGS RECEIVED SENT DURATION SERVICE_TIME "XFF" "UA" "REQUEST_ID"
//! "AUTHORITY" "UPSTREAM_HOST"`. Istio has `DETAILS TERMINATION "TRANSPORT_FAILURE"` before RECEIVED, and behind
//! UPSTREAM_HOST ` CLUSTER UPSTREAM_LOCAL DOWNSTREAM_LOCAL DOWNSTREAM_REMOTE SNI ROUTE` (Envoy "Access logging", Istio
//! `EnvoyTextLogFormat`).
//!
//! The text form escapes nothing: a client can put quotes into its user agent. What Envoy itself writes stands at both ends of
//! the line, so it is read from there towards the middle, and what is left in the middle is the user agent, whole.
//!
//! START_TIME is when the request began; DURATION is in milliseconds.

use memchr::{memmem, memrchr};

use super::fields::{Fields, address, number, present, socket};
use super::request_line::RequestLine;
use super::times::{iso_time, millis};
use super::upstreams::target;
use super::{Gives, Grammar, ParseError, Problem};
use crate::request::{AccessRecord, LogEscape, Target};

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "envoy",
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
    if line.starts_with(b"{") {
        return super::envoy_json::parse(line);
    }
    let mut fields = Fields::new(line);
    let began = fields.bracketed("START_TIME")?;
    let began = iso_time(began).ok_or_else(|| fields.error("START_TIME", Problem::OtherTime))?;
    // A path cannot hold a space (both codecs refuse it), so the first quote with a space behind it closes the request.
    let request = fields.through("REQUEST", b"\" ")?;
    let request = request.strip_prefix(b"\"").ok_or_else(|| fields.error("REQUEST", Problem::Quoting))?;
    let request = RequestLine::split(request);
    let code = fields.code("RESPONSE_CODE")?;
    let flags = fields.bare("RESPONSE_FLAGS")?;
    let (details, received) = details_and_received(&mut fields)?;
    let sent = fields.count("BYTES_SENT")?;
    let duration = millis(fields.bare("DURATION")?).ok_or_else(|| fields.error("DURATION", Problem::Number))?;
    fields.bare("X-ENVOY-UPSTREAM-SERVICE-TIME")?;
    let quoted = Quoted::read(fields.rest()).ok_or_else(|| fields.error("UPSTREAM_HOST", Problem::Missing))?;
    let mut record = AccessRecord {
        status: code,
        received_bytes: received,
        sent_bytes: sent,
        method: request.method,
        authority: present(quoted.authority),
        path_and_query: request.path_and_query,
        user_agent: present(quoted.user_agent),
        trace_id: present(quoted.request_id),
        anomaly: present(flags),
        escape: LogEscape::Raw,
        ..AccessRecord::blank(began, began.plus(duration))
    };
    Upstream { details, flags, host: quoted.upstream_host, ..Upstream::istio(quoted.rest) }.fill(&mut record);
    Ok(record)
}

/// RECEIVED, with Istio's three fields before it. They begin with a word where Envoy's own format has a number.
fn details_and_received<'l>(fields: &mut Fields<'l>) -> Result<(&'l [u8], u64), ParseError> {
    let word = fields.bare("BYTES_RECEIVED")?;
    if let Ok(received) = number(word)
        && !fields.rest().starts_with(b"- \"")
        && word != b"-"
    {
        return Ok((b"", received.unwrap_or(0)));
    }
    fields.bare("CONNECTION_TERMINATION_DETAILS")?;
    fields.through("UPSTREAM_TRANSPORT_FAILURE_REASON", b"\" ")?;
    let received = fields.count("BYTES_RECEIVED")?;
    Ok((word, received))
}

/// The five quoted fields and what stands behind them.
struct Quoted<'l> {
    user_agent: &'l [u8],
    request_id: &'l [u8],
    authority: &'l [u8],
    upstream_host: &'l [u8],
    rest: &'l [u8],
}

impl<'l> Quoted<'l> {
    fn read(text: &'l [u8]) -> Option<Self> {
        let (before, upstream_host, rest) = upstream_host(text)?;
        let (before, authority) = last_quoted(before)?;
        let (before, request_id) = last_quoted(before)?;
        // `"XFF" "UA"`: a quote in either moves into the user agent, where it is judged.
        let at = memmem::find(before, b"\" \"")?;
        let user_agent = &before[at + 3..];
        let user_agent = user_agent.strip_suffix(b"\"").unwrap_or(user_agent);
        Some(Self { user_agent, request_id, authority, upstream_host, rest })
    }
}

/// The last quoted field that holds an address, or else the last one of all: fields that somebody added behind it do not
/// move it.
fn upstream_host(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut before = text;
    for _ in 0..MAX_ADDED_FIELDS {
        let Some((shorter, field)) = last_quoted(before) else { break };
        if matches!(target(field), Target::Socket(_)) {
            return Some((shorter, field, after(text, shorter, field)));
        }
        before = shorter;
    }
    let (before, field) = last_quoted(text)?;
    Some((before, field, after(text, before, field)))
}

/// Most quoted fields behind UPSTREAM_HOST that are looked past. It bounds the search on a line full of quotes.
const MAX_ADDED_FIELDS: usize = 8;

/// Cuts the last `"field"` off; what stands behind it goes too.
fn last_quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let close = memrchr(b'"', text)?;
    let open = memrchr(b'"', &text[..close])?;
    Some((text[..open].strip_suffix(b" ").unwrap_or(&text[..open]), &text[open + 1..close]))
}

/// What stands in `text` behind ` "field" `, which stands behind `before`.
fn after<'l>(text: &'l [u8], before: &[u8], field: &[u8]) -> &'l [u8] {
    let rest = text.get(before.len() + field.len() + 2..).unwrap_or_default();
    let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
    rest.strip_prefix(b" ").unwrap_or(rest)
}

/// What Envoy says about the upstream, the same in text and JSON.
#[derive(Default)]
pub(super) struct Upstream<'l> {
    pub(super) host: &'l [u8],
    pub(super) cluster: &'l [u8],
    pub(super) local: &'l [u8],
    pub(super) downstream_local: &'l [u8],
    pub(super) downstream_remote: &'l [u8],
    pub(super) flags: &'l [u8],
    pub(super) details: &'l [u8],
}

impl<'l> Upstream<'l> {
    /// ` CLUSTER UPSTREAM_LOCAL DOWNSTREAM_LOCAL DOWNSTREAM_REMOTE`, as far as they are there.
    fn istio(rest: &'l [u8]) -> Self {
        let mut words = rest.split(|byte| *byte == b' ');
        let mut next = || words.next().unwrap_or_default();
        Self { cluster: next(), local: next(), downstream_local: next(), downstream_remote: next(), ..Self::default() }
    }

    pub(super) fn fill(&self, record: &mut AccessRecord<'l>) {
        record.target = self.target();
        record.upstream_local = socket(self.local);
        record.client =
            socket(self.downstream_remote).or_else(|| address(self.downstream_remote).map(super::nginx::without_port));
        // Without details, a target and no flag mean that nothing came between.
        let answered = match present(self.details) {
            b"" => record.target != Target::None && present(self.flags).is_empty(),
            details => details == b"via_upstream",
        };
        record.target_status = record.status.filter(|_| answered);
    }

    /// A sidecar reaches its own workload over loopback; the pod's address is where the request came in.
    fn target(&self) -> Target {
        match (target(self.host), socket(self.downstream_local)) {
            (Target::Socket(upstream), Some(pod))
                if upstream.ip().is_loopback() && self.cluster.starts_with(b"inbound|") =>
            {
                Target::Socket(std::net::SocketAddr::new(pod.ip(), upstream.port()))
            }
            (found, _) => found,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Format;
    use super::*;

    const HEAD: &str = r#"[2026-05-04T10:00:01.250Z] "GET /a?b HTTP/2" 200"#;

    fn parse(line: &str) -> AccessRecord<'_> {
        Format::Envoy.parse(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    #[test]
    fn envoys_own_format() {
        let line = format!(r#"{HEAD} - 154 7 226 100 "203.0.113.4" "agent/1.0" "11-22" "shop.example" "10.0.0.1:80""#);
        let record = parse(&line);
        assert_eq!(record.received, "2026-05-04T10:00:01.25Z".parse().expect("a time"));
        assert_eq!(record.duration(), Duration::from_millis(226));
        assert_eq!(record.target, Target::Socket("10.0.0.1:80".parse().expect("a socket")));
        assert_eq!((record.status, record.target_status), (Some(200), Some(200)));
        assert_eq!((record.received_bytes, record.sent_bytes), (154, 7));
        assert_eq!((record.method, record.path_and_query), (&b"GET"[..], &b"/a?b"[..]));
        assert_eq!((record.user_agent, record.trace_id), (&b"agent/1.0"[..], &b"11-22"[..]));
        assert_eq!((record.authority, record.client), (&b"shop.example"[..], None));
    }

    #[test]
    fn a_gateway_of_istio_gives_the_exact_socket() {
        let line = format!(
            r#"{HEAD} - via_upstream - "-" 0 135 4 4 "-" "agent" "11-22" "shop:80" "10.0.0.1:80" outbound|80||web 10.0.0.9:37652 10.1.0.1:80 198.51.100.9:46520 - default"#
        );
        let record = parse(&line);
        assert_eq!(record.target, Target::Socket("10.0.0.1:80".parse().expect("a socket")));
        assert_eq!(record.upstream_local, Some("10.0.0.9:37652".parse().expect("a socket")));
        assert_eq!(record.client, Some("198.51.100.9:46520".parse().expect("a socket")));
        assert_eq!(record.target_status, Some(200));
    }

    #[test]
    fn a_sidecars_target_is_its_own_pod() {
        let line = format!(
            r#"{HEAD} - via_upstream - "-" 0 135 4 4 "-" "agent" "11-22" "shop:80" "127.0.0.1:8080" inbound|8080|| 127.0.0.1:41854 10.0.0.1:80 10.0.0.9:46520 sni default"#
        );
        assert_eq!(parse(&line).target, Target::Socket("10.0.0.1:8080".parse().expect("a socket")));
    }

    #[test]
    fn quotes_from_the_client_end_up_in_the_user_agent() {
        let check = |middle: &str, user_agent: &str| {
            let line = format!(r#"{HEAD} - 0 0 1 - {middle} "11-22" "shop" "10.0.0.1:80""#);
            let record = parse(&line);
            assert_eq!(String::from_utf8_lossy(record.user_agent), user_agent, "{middle}");
            assert_eq!(record.trace_id, b"11-22", "{middle}");
            assert_eq!(record.target, Target::Socket("10.0.0.1:80".parse().expect("a socket")), "{middle}");
        };
        check(r#""-" "a "b" c""#, r#"a "b" c"#);
        check(r#""x" "innocent" "real""#, r#"innocent" "real"#);
        check(r#""-" "" "1" "h" "10.9.9.9:9" ""#, r#"" "1" "h" "10.9.9.9:9" "#);
    }

    #[test]
    fn fields_added_behind_do_not_move_the_upstream() {
        let line = format!(r#"{HEAD} - 0 0 1 - "-" "agent" "11-22" "shop" "10.0.0.1:80" "more" and "-""#);
        let record = parse(&line);
        assert_eq!((record.user_agent, record.authority), (&b"agent"[..], &b"shop"[..]));
    }

    #[test]
    fn who_made_the_answer_shows_in_flags_and_details() {
        let check = |middle: &str, host: &str, target: Target, target_status: Option<u16>| {
            let line = format!(r#"{HEAD} {middle} 0 0 1 - "-" "-" "-" "shop" "{host}""#);
            let record = parse(&line);
            assert_eq!((record.target, record.target_status), (target, target_status), "{middle} {host}");
        };
        let pod = Target::Socket("10.0.0.1:80".parse().expect("a socket"));
        check("-", "10.0.0.1:80", pod, Some(200));
        check("UC", "tcp://10.0.0.1:80", pod, None);
        check("NR", "-", Target::None, None);
        check(r#"- via_upstream - "-""#, "10.0.0.1:80", pod, Some(200));
        check(r#"URX,UF upstream_reset - "TLS error: x y""#, "10.0.0.1:80", pod, None);
        check(r#"NR - - "-""#, "-", Target::None, None);
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, problem: Problem| {
            let error = Format::Envoy.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("", "START_TIME", Problem::Missing);
        check("[now] ", "START_TIME", Problem::OtherTime);
        check("[2026-05-04T10:00:01Z] GET", "REQUEST", Problem::Missing);
        check("[2026-05-04T10:00:01Z] GET\" 200", "REQUEST", Problem::Quoting);
        check("[2026-05-04T10:00:01Z] \"GET / HTTP/2\" OK", "RESPONSE_CODE", Problem::Number);
        check(&format!("{HEAD} - 0 0 -"), "DURATION", Problem::Number);
        check(&format!("{HEAD} - 0 0 1 - \"-\""), "UPSTREAM_HOST", Problem::Missing);
    }
}
