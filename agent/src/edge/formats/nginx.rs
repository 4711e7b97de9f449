//! nginx access logs: `combined`, and `combined` with the upstream fields that operators put behind it.
//!
//! `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`
//! (`ngx_http_log_module`), then whatever the operator added. No two sites add the same, so the tail is read by the shape of
//! its words, not by position: an `address:port` list is `$upstream_addr`, a status behind it `$upstream_status`, numbers with
//! a fraction are durations. Written as `name=value`, the name decides. Anything else is skipped; for exact fields give the
//! site's own `log_format` to [`crate::edge::template`].
//!
//! Times: `$time_local` is when the log was written, in whole seconds; the request began up to `$request_time` earlier.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use memchr::memrchr;

use super::fields::{Fields, address, present, socket, status};
use super::request_line::RequestLine;
use super::times::{clf_time, seconds};
use super::upstreams::{items, place, split_list};
use super::{Gives, Grammar, ParseError, Problem};
use crate::request::AccessRecord;
use crate::timestamp::Timestamp;

pub(super) const GRAMMAR: Grammar = Grammar {
    name: "nginx",
    gives: Gives::CLIENT
        .and(Gives::TARGET)
        .and(Gives::INTERVAL)
        .and(Gives::STATUS)
        .and(Gives::TARGET_STATUS)
        .and(Gives::REQUEST)
        .and(Gives::USER_AGENT),
    parse,
};

fn parse(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut fields = Fields::new(line);
    let mut record = combined(&mut fields)?;
    let mut tail = Tail::default();
    tail.read(fields.rest(), &mut record);
    record.received = record.completed.minus(tail.longest);
    Ok(record)
}

/// The fields of `combined`, which ingress-nginx begins with too. `received` is still the time of writing.
pub(super) fn combined<'l>(fields: &mut Fields<'l>) -> Result<AccessRecord<'l>, ParseError> {
    let client = remote_address(fields)?;
    fields.bare("remote_user separator")?;
    let written = user_and_time(fields)?;
    let request = RequestLine::split(fields.quoted("request")?);
    let code = fields.code("status")?;
    let sent_bytes = fields.count("body_bytes_sent")?;
    Ok(AccessRecord {
        client,
        status: code,
        sent_bytes,
        method: request.method,
        authority: request.authority,
        path_and_query: request.path_and_query,
        referer: present(fields.quoted("http_referer")?),
        user_agent: present(fields.quoted("http_user_agent")?),
        ..AccessRecord::blank(written, written)
    })
}

/// An address alone; a client on a Unix socket is logged as `unix:`.
fn remote_address(fields: &mut Fields<'_>) -> Result<Option<SocketAddr>, ParseError> {
    match fields.bare("remote_addr")? {
        b"-" | b"unix:" => Ok(None),
        text => match address(text) {
            Some(address) => Ok(Some(without_port(address))),
            None => Err(fields.error("remote_addr", Problem::Address)),
        },
    }
}

/// A client of which only the address is known.
pub(super) const fn without_port(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 0)
}

/// The user name of basic authentication is the client's bytes without quotes: it may hold spaces, brackets, another time.
/// It cannot hold a quote, which nginx escapes, so the first `] "` ends the real time.
fn user_and_time(fields: &mut Fields<'_>) -> Result<Timestamp, ParseError> {
    let mut text = fields.through("time_local", b"] ")?;
    while !fields.rest().starts_with(b"\"") {
        text = fields.through("time_local", b"] ")?;
    }
    let open = memrchr(b'[', text).map_or(0, |at| at + 1);
    clf_time(&text[open..]).ok_or_else(|| fields.error("time_local", Problem::OtherTime))
}

/// What has been found behind `combined`.
#[derive(Default)]
struct Tail {
    /// `$request_time` spans `$upstream_response_time`, so the longest duration is the request's, in whichever order.
    longest: Duration,
    has_target: bool,
}

impl Tail {
    fn read<'l>(&mut self, mut rest: &'l [u8], record: &mut AccessRecord<'l>) {
        while !rest.is_empty() {
            let (word, after) = next_word(rest);
            self.word(word, record);
            rest = after;
        }
    }

    fn word<'l>(&mut self, word: &'l [u8], record: &mut AccessRecord<'l>) {
        let named = word.iter().position(|byte| *byte == b'=').map(|equals| (&word[..equals], &word[equals + 1..]));
        match named {
            Some((name, value)) => self.named(name, unquoted(value), record),
            None => self.shaped(unquoted(word), record),
        }
    }

    /// Names as the variables are called, and the abbreviations of nginx's own documentation and blog.
    fn named<'l>(&mut self, name: &[u8], value: &'l [u8], record: &mut AccessRecord<'l>) {
        match name {
            b"rt" | b"request_time" | b"urt" | b"upstream_response_time" => self.duration(value),
            b"ua" | b"upstream" | b"upstream_addr" | b"up" => self.target(value, record),
            b"us" | b"ust" | b"upstream_status" => record.target_status = last_status(value),
            b"host" => record.authority = present(value),
            b"rid" | b"request_id" | b"req_id" | b"trace_id" => record.trace_id = present(value),
            _ => {}
        }
    }

    fn shaped<'l>(&mut self, value: &'l [u8], record: &mut AccessRecord<'l>) {
        if items(value).last().and_then(socket).is_some() {
            self.target(value, record);
        } else if value.contains(&b'.') {
            self.duration(value);
        } else if self.has_target && record.target_status.is_none() {
            record.target_status = last_status(value);
        }
    }

    fn target<'l>(&mut self, list: &'l [u8], record: &mut AccessRecord<'l>) {
        // The first list is the targets; a later address is some other variable.
        if !self.has_target {
            place(record, list);
            self.has_target = true;
        }
    }

    fn duration(&mut self, list: &[u8]) {
        let sum = items(list).filter_map(seconds).fold(Duration::ZERO, Duration::saturating_add);
        self.longest = self.longest.max(sum);
    }
}

/// The status of the last target in a list, if it is one.
pub(super) fn last_status(list: &[u8]) -> Option<u16> {
    items(list).last().and_then(|item| status(item).ok().flatten()).filter(|code| (100..=999).contains(code))
}

/// The next word of the tail and what follows: `name="quoted"`, `"quoted"`, or a list of bare words.
fn next_word(text: &[u8]) -> (&[u8], &[u8]) {
    let open = text.iter().position(|byte| matches!(byte, b' ' | b'"')).unwrap_or(text.len());
    if text.get(open) != Some(&b'"') {
        return split_list(text);
    }
    let close = text[open + 1..].iter().position(|byte| *byte == b'"').map_or(text.len(), |at| open + at + 2);
    (&text[..close], text[close..].strip_prefix(b" ").unwrap_or(&text[close..]))
}

fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").map_or(text, |inner| inner.strip_suffix(b"\"").unwrap_or(inner))
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;
    use crate::request::Target;

    const COMBINED: &str = r#"198.51.100.9 - - [04/May/2026:10:00:02 +0200] "GET /a?b=c HTTP/1.1" 502 12 "https://ref.example/" "agent \x22x\x22""#;

    fn parse(line: &str) -> AccessRecord<'_> {
        Format::Nginx.parse(line.as_bytes()).expect("parses")
    }

    #[test]
    fn combined_alone_says_no_target() {
        let record = parse(COMBINED);
        assert_eq!(record.received, "2026-05-04T08:00:02Z".parse().expect("a time"));
        assert_eq!(record.client, Some("198.51.100.9:0".parse().expect("a socket")));
        assert_eq!((record.target, record.status, record.target_status), (Target::Unlogged, Some(502), None));
        assert_eq!((record.method, record.path_and_query), (&b"GET"[..], &b"/a?b=c"[..]));
        assert_eq!((record.referer, record.user_agent), (&b"https://ref.example/"[..], &br"agent \x22x\x22"[..]));
        assert_eq!(record.sent_bytes, 12);
    }

    #[test]
    fn upstream_fields_are_found_by_shape_or_by_name() {
        let check = |tail: &str, target: &str, target_status: Option<u16>, millis: u64| {
            let line = format!("{COMBINED} {tail}");
            let record = parse(&line);
            assert_eq!(record.target, Target::Socket(target.parse().expect("a socket")), "{tail}");
            assert_eq!(record.target_status, target_status, "{tail}");
            assert_eq!(record.duration(), Duration::from_millis(millis), "{tail}");
        };
        check("10.0.0.1:8080 500 0.250 0.240", "10.0.0.1:8080", Some(500), 250);
        check("0.240 0.250 10.0.0.1:8080", "10.0.0.1:8080", None, 250);
        check(
            r#""203.0.113.4, 198.51.100.1" 10.0.0.1:80, [fd00::2]:80 502, 200 0.250 0.100, 0.100"#,
            "[fd00::2]:80",
            Some(200),
            250,
        );
        check(r#"rt=0.250 uct="0.001" uht="0.2" urt="0.240" ua="10.0.0.1:80" us="404""#, "10.0.0.1:80", Some(404), 250);
        check(r#""-" "10.0.0.1:80" "201" "0.250""#, "10.0.0.1:80", Some(201), 250);
        check("some new words 10.0.0.1:80 - 0.250 and=more", "10.0.0.1:80", None, 250);
    }

    #[test]
    fn a_request_that_went_nowhere_says_so() {
        let line = format!(r#"{COMBINED} rt=0.000 ua="-" us="-" rid=77aa"#);
        let record = parse(&line);
        assert_eq!((record.target, record.target_status, record.trace_id), (Target::None, None, &b"77aa"[..]));
    }

    #[test]
    fn hostile_fields_stay_in_their_place() {
        let line = r#"2001:db8::9 - a [c [03/May/2026:10:00:02 +0000] d [04/May/2026:10:00:02 +0000] "\x16\x03\x01" 400 0 "-" "-""#;
        let record = parse(line);
        assert_eq!(record.received, "2026-05-04T10:00:02Z".parse().expect("a time"));
        assert_eq!(
            (record.method, record.path_and_query, record.user_agent),
            (&br"\x16\x03\x01"[..], &b""[..], &b""[..])
        );
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, problem: Problem| {
            let error = Format::Nginx.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("", "remote_addr", Problem::Missing);
        check("shop.example - -", "remote_addr", Problem::Address);
        check("198.51.100.9 - - no time", "time_local", Problem::Missing);
        check(r#"198.51.100.9 - - [yesterday] ""#, "time_local", Problem::OtherTime);
        check(r#"198.51.100.9 - - [04/May/2026:10:00:02 +0000] "GET"#, "request", Problem::Quoting);
        check(r#"198.51.100.9 - - [04/May/2026:10:00:02 +0000] "GET / HTTP/1.1" x"#, "status", Problem::Number);
    }
}
