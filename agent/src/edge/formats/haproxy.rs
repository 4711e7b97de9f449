//! HAProxy, `option httplog` (and `httpslog`), with or without a syslog header in front.
//!
//! `%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r` (HAProxy
//! configuration manual, 8.2.3). The capture groups `%hr %hs` are absent when nothing is captured, and the line may be cut
//! off within the request by the syslog length limit. httplog knows its server by name only; where the operator appends
//! ` %si:%sp %bi:%bp`, target and exact socket are known, and a word behind them is the request id.
//!
//! Times: `%tr` is when the request began, in the local time of the balancer without a zone. It is taken for UTC, so the
//! balancer has to run in UTC or to log `%trg` through a template.

use super::fields::{Fields, present, socket};
use super::request_line::RequestLine;
use super::times::{clf_time, millis};
use super::upstreams::target;
use super::{Gives, Grammar, ParseError, Problem};
use crate::request::{AccessRecord, LogEscape, Target};

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "haproxy",
    gives: Gives::CLIENT
        .and(Gives::TARGET)
        .and(Gives::INTERVAL)
        .and(Gives::STATUS)
        .and(Gives::TARGET_STATUS)
        .and(Gives::TRACE_ID)
        .and(Gives::UPSTREAM_SOCKET)
        .and(Gives::REQUEST),
    parse,
};

fn parse(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut fields = Fields::new(line);
    let client = fields.through("client_ip:client_port", b" [")?;
    // What stands before the last word is the syslog header.
    let client = client.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let client = socket(client).ok_or_else(|| fields.error("client_ip:client_port", Problem::Socket))?;
    let began = fields.through("request_date", b"] ")?;
    let began = clf_time(began).ok_or_else(|| fields.error("request_date", Problem::OtherTime))?;
    let frontend = fields.bare("frontend_name")?;
    let server = fields.bare("backend_name/server_name")?;
    let timers = Timers::read(&mut fields)?;
    let code = fields.code("status_code")?;
    let sent_bytes = fields.count("bytes_read")?;
    fields.bare("captured_request_cookie")?;
    fields.bare("captured_response_cookie")?;
    let termination = fields.bare("termination_state")?;
    fields.bare("actconn/feconn/beconn/srv_conn/retries")?;
    fields.bare("srv_queue/backend_queue")?;
    let (request, tail) = request(&mut fields)?;
    let mut record = AccessRecord {
        balancer: frontend.strip_suffix(b"~").unwrap_or(frontend),
        client: Some(client),
        target: target_by_name(server),
        status: code,
        target_status: code.filter(|_| timers.answered && answer_passed_on(termination)),
        sent_bytes,
        method: request.method,
        authority: request.authority,
        path_and_query: request.path_and_query,
        anomaly: if termination.starts_with(b"--") { b"" } else { termination },
        escape: LogEscape::Hash,
        ..AccessRecord::blank(began, began.plus(timers.total))
    };
    read_tail(&mut record, tail);
    Ok(record)
}

/// `%TR/%Tw/%Tc/%Tr/%Ta` in milliseconds, `-1` for a phase that was not reached, `+` before a total that was still running.
struct Timers {
    /// `%Tr` was measured: the server sent its headers.
    answered: bool,
    total: std::time::Duration,
}

impl Timers {
    fn read(fields: &mut Fields<'_>) -> Result<Self, ParseError> {
        let text = fields.bare("TR/Tw/Tc/Tr/Ta")?;
        let mut phases = text.split(|byte| *byte == b'/').skip(3);
        match (phases.next(), phases.next()) {
            (Some(response), Some(total)) => Ok(Self {
                answered: millis(response).is_some(),
                // With `option logasap` what is still growing is written with a plus.
                total: millis(total.strip_prefix(b"+").unwrap_or(total)).unwrap_or_default(),
            }),
            _ => Err(fields.error("TR/Tw/Tc/Tr/Ta", Problem::Unknown)),
        }
    }
}

/// Whether the client got the server's own status. The first letter says who ended the session: the proxy itself (P), for
/// want of a resource (R) or by an internal error (I) puts its own answer in the place of the server's.
fn answer_passed_on(termination: &[u8]) -> bool {
    !matches!(termination.first(), Some(b'P' | b'R' | b'I'))
}

/// `backend/server`. Names in angle brackets (`<NOSRV>`, `<STATS>`, `<PROMEX>`) are no server.
fn target_by_name(text: &[u8]) -> Target {
    let server = text.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if server.starts_with(b"<") { Target::None } else { Target::Unlogged }
}

/// The request, behind the capture groups if there are any, and what follows it. HAProxy writes a quote within it as `#22`;
/// a closing quote that is missing was cut off.
fn request<'l>(fields: &mut Fields<'l>) -> Result<(RequestLine<'l>, &'l [u8]), ParseError> {
    while fields.rest().starts_with(b"{") {
        // A group that ends the line was cut off with all that follows.
        fields.through("captured_headers", b"} ")?;
    }
    let Some(inner) = fields.rest().strip_prefix(b"\"") else {
        fields.bare("http_request")?;
        return Err(fields.error("http_request", Problem::Quoting));
    };
    let end = memchr::memchr(b'"', inner).unwrap_or(inner.len());
    let tail = inner.get(end + 1..).unwrap_or_default();
    Ok((RequestLine::split(&inner[..end]), tail.strip_prefix(b" ").unwrap_or(tail)))
}

/// ` %si:%sp %bi:%bp %ID`, as far as it is there.
fn read_tail<'l>(record: &mut AccessRecord<'l>, tail: &'l [u8]) {
    let mut words = tail.split(|byte| *byte == b' ');
    let Some(server @ Target::Socket(_)) = words.next().map(target) else {
        return;
    };
    if record.target != Target::None {
        record.target = server;
    }
    record.upstream_local = words.next().and_then(socket);
    record.trace_id = present(words.next().unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Format;
    use super::*;

    const HEAD: &str = "198.51.100.9:40100 [04/May/2026:10:00:01.250] http-in~ web/web-1";

    fn line(timers: &str, termination: &str, tail: &str) -> String {
        format!("{HEAD} {timers} 200 2750 - - {termination} 1/1/1/1/0 0/0 {tail}")
    }

    fn parse(line: &str) -> AccessRecord<'_> {
        Format::Haproxy.parse(line.as_bytes()).expect("parses")
    }

    #[test]
    fn httplog_knows_its_server_by_name_only() {
        let line = line("10/0/30/69/109", "----", r#""GET /a#22b?c HTTP/1.1""#);
        let record = parse(&line);
        assert_eq!(record.received, "2026-05-04T10:00:01.25Z".parse().expect("a time"));
        assert_eq!(record.duration(), Duration::from_millis(109));
        assert_eq!(record.client, Some("198.51.100.9:40100".parse().expect("a socket")));
        assert_eq!((record.target, record.status, record.target_status), (Target::Unlogged, Some(200), Some(200)));
        assert_eq!((record.method, record.path_and_query), (&b"GET"[..], &b"/a#22b?c"[..]));
        assert_eq!((record.balancer, record.escape, record.anomaly), (&b"http-in"[..], LogEscape::Hash, &b""[..]));
    }

    #[test]
    fn captures_and_syslog_headers_do_not_shift_the_request() {
        let check = |header: &str, captures: &str| {
            let line =
                format!("{header}{}", line("10/0/30/69/+109", "--NI", &format!(r#"{captures}"GET / HTTP/1.1""#)));
            assert_eq!(parse(&line).path_and_query, b"/", "{line}");
        };
        check("", "");
        check("", "{shop.example|agent one two} ");
        check("", "{shop.example|[x] #7B} {nginx} ");
        check("May  4 10:00:01 lb haproxy[671]: ", "{} {} ");
        check("<134>May  4 10:00:01 lb haproxy[671]: ", "");
    }

    #[test]
    fn addresses_behind_the_request_give_the_exact_socket() {
        let line = line("1/0/0/1/2", "----", r#""GET / HTTP/1.1" 10.0.0.7:8080 10.0.0.1:51234 00ff-11 more"#);
        let record = parse(&line);
        assert_eq!(record.target, Target::Socket("10.0.0.7:8080".parse().expect("a socket")));
        assert_eq!(record.upstream_local, Some("10.0.0.1:51234".parse().expect("a socket")));
        assert_eq!(record.trace_id, b"00ff-11");
    }

    #[test]
    fn httpslog_adds_words_that_are_no_addresses() {
        let line = line("1/0/0/1/2", "----", r#""GET / HTTP/2.0" 0/0/0/0/0 shop.example/TLSv1.3/TLS_AES"#);
        assert_eq!((parse(&line).target, parse(&line).upstream_local), (Target::Unlogged, None));
    }

    #[test]
    fn who_made_the_answer_shows_in_timers_and_termination() {
        let check = |timers: &str, termination: &str, target_status: Option<u16>| {
            let line = line(timers, termination, r#""GET / HTTP/1.1""#);
            assert_eq!(parse(&line).target_status, target_status, "{timers} {termination}");
        };
        check("1/0/0/1/2", "----", Some(200));
        check("1/0/0/1/2", "SD--", Some(200));
        check("1/0/0/1/2", "PH--", None);
        check("1/0/0/-1/2", "SH--", None);
        assert_eq!(parse(&line("1/0/0/-1/2", "SH--", r#""GET / HTTP/1.1""#)).anomaly, b"SH--");
    }

    #[test]
    fn a_request_that_was_cut_off_or_never_sent_is_still_a_record() {
        let cut = line("1/0/0/1/2", "----", r#""GET /long"#);
        assert_eq!(parse(&cut).path_and_query, b"/long");
        let refused = r#"[2001:db8::9]:1 [04/May/2026:10:00:01.250] in in/<NOSRV> -1/-1/-1/-1/8490 -1 0 - - CR-- 2/2/2/0/0 0/0 """#;
        let record = parse(refused);
        assert_eq!((record.target, record.status, record.method), (Target::None, None, &b""[..]));
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, problem: Problem| {
            let error = Format::Haproxy.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("", "client_ip:client_port", Problem::Missing);
        check("nobody [", "client_ip:client_port", Problem::Socket);
        check("198.51.100.9:1 [now] in", "request_date", Problem::OtherTime);
        check(&format!("{HEAD} 1/2"), "TR/Tw/Tc/Tr/Ta", Problem::Unknown);
        check(&line("1/0/0/1/2", "----", ""), "http_request", Problem::Missing);
        check(&line("1/0/0/1/2", "----", "GET"), "http_request", Problem::Quoting);
        check(&line("1/0/0/1/2", "----", "{open"), "captured_headers", Problem::Missing);
        let handshake = "198.51.100.9:1 [04/May/2026:10:00:01.250] in/f1: Connection error during SSL handshake";
        check(handshake, "TR/Tw/Tc/Tr/Ta", Problem::Unknown);
    }
}
