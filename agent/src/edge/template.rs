//! Log formats that the operator wrote: an nginx `log_format` or a HAProxy `log-format` from the config, compiled once into a
//! parser for its lines.
//!
//! A template is a list of variables with literal text between them. A line is read from left to right: a value ends at the
//! first occurrence of the literal behind its variable, so every byte is looked at a bounded number of times, whatever the
//! line holds. Variables that say nothing for the join are skipped. Text in, [`AccessRecord`]s out; nothing here reads files.

mod draft;
mod haproxy;
mod nginx;

use memchr::{memchr, memmem, memrchr};
use thiserror::Error;

use self::draft::{Draft, Field};
use super::formats::upstreams::split_list;
use super::formats::{Gives, MAX_LINE_BYTES, ParseError, Problem};
use crate::request::{AccessRecord, LogEscape};

/// Longest template, in bytes. nginx itself takes no longer word from its configuration (4 KiB per word, 8 KiB here for
/// formats that are glued together from several).
const MAX_TEMPLATE_BYTES: usize = 8 * 1024;

/// Most variables of one template. It bounds the work per line.
const MAX_FIELDS: usize = 128;

/// How far behind a literal a time is looked for. The longest that any variable writes has 35 bytes.
const MAX_TIME_BYTES: usize = 40;

/// A compiled template.
#[derive(Clone, Debug)]
pub struct Template {
    /// What a line begins with.
    prefix: Box<[u8]>,
    fields: Vec<Slot>,
    escape: LogEscape,
}

/// A variable and the literal behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    field: Field,
    delimiter: Box<[u8]>,
}

/// Why a template cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// Longer than 8 KiB.
    #[error("the template is longer than 8 KiB: give the format of one log only")]
    TooLong,
    /// More variables than a line is read for.
    #[error("the template has more than 128 variables: leave out those behind the last that is needed")]
    TooManyVariables,
    /// Two variables without text between them.
    #[error("nothing stands between `{0}` and the variable before it: put a separator between them")]
    Adjacent(String),
    /// A brace, bracket or quote that never closes.
    #[error("`{0}` is never closed")]
    Unclosed(String),
    /// What the client writes could end its own field and forge the ones behind it.
    #[error("a client can write the text behind the {0} itself: put the variable in quotes or at the end")]
    Forgeable(&'static str),
    /// Something that changes what all variables look like.
    #[error("`{0}` is not supported: write the format without it")]
    Unsupported(String),
    /// Nothing says when the request was.
    #[error("no variable holds a time: add $msec or $time_iso8601 (nginx), %trg (haproxy)")]
    NoTime,
    /// Nothing says what was asked for.
    #[error("no variable holds the request: add \"$request\" (nginx), %{{+Q}}r (haproxy)")]
    NoRequest,
}

impl Template {
    /// Compiles an nginx format: the text alone, or the whole `log_format` directive, whose `escape=` is then heeded.
    ///
    /// # Errors
    ///
    /// A [`TemplateError`] that says which part cannot be read and what to do about it.
    pub fn nginx(text: &str) -> Result<Self, TemplateError> {
        let (pieces, escape) = nginx::compile(bounded(text)?)?;
        Self::assemble(pieces, escape)
    }

    /// Compiles a HAProxy format: the text alone, or the whole `log-format` directive.
    ///
    /// # Errors
    ///
    /// A [`TemplateError`] that says which part cannot be read and what to do about it.
    pub fn haproxy(text: &str) -> Result<Self, TemplateError> {
        Self::assemble(haproxy::compile(bounded(text)?)?, LogEscape::Hash)
    }

    /// What lines of this template can say.
    #[must_use]
    pub fn gives(&self) -> Gives {
        let has = |field: Field| self.fields.iter().any(|slot| slot.field == field);
        let took = has(Field::TookSeconds) || has(Field::TookMillis);
        let mut gives = self.fields.iter().fold(Gives::default(), |gives, slot| gives.and(slot.field.gives()));
        if took {
            gives = gives.and(Gives::INTERVAL);
        }
        if has(Field::TargetAddress) && has(Field::TargetPort) {
            gives = gives.and(Gives::TARGET);
        }
        if has(Field::LocalAddress) && has(Field::LocalPort) {
            gives = gives.and(Gives::UPSTREAM_SOCKET);
        }
        gives
    }

    /// Reads one line, with or without its line end. What follows the last literal is ignored; a line that was cut off behind
    /// its time and request is read as far as it goes.
    ///
    /// # Errors
    ///
    /// A [`ParseError`] that names the first variable that is missing or does not hold what it should.
    pub fn parse<'l>(&self, line: &'l [u8]) -> Result<AccessRecord<'l>, ParseError> {
        if line.len() > MAX_LINE_BYTES {
            return Err(ParseError::new("line", 0, Problem::TooLong));
        }
        let line = line.trim_ascii_end();
        let start = memmem::find(line, &self.prefix).ok_or(ParseError::new("template", 0, Problem::Missing))?;
        let mut rest = &line[start + self.prefix.len()..];
        let mut draft = Draft::new(self.escape);
        for (index, slot) in self.fields.iter().enumerate() {
            let position = u8::try_from(index + 1).unwrap_or(u8::MAX);
            let error = |problem| ParseError::new(slot.field.name(), position, problem);
            match slot.cut(rest, self.fields.get(index + 1)) {
                Some((value, behind)) => {
                    draft.put(slot.field, value).map_err(error)?;
                    rest = behind;
                }
                None => {
                    draft.put(slot.field, rest).map_err(error)?;
                    return if draft.is_complete() { draft.finish() } else { Err(error(Problem::Missing)) };
                }
            }
        }
        draft.finish()
    }

    fn assemble(pieces: Vec<Piece>, escape: LogEscape) -> Result<Self, TemplateError> {
        let mut template = Self { prefix: Box::default(), fields: Vec::new(), escape };
        let mut literal: Vec<u8> = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Literal(text) => literal.extend_from_slice(&text),
                Piece::Variable(field, name) => {
                    template.close(std::mem::take(&mut literal), &name)?;
                    template.fields.push(Slot { field, delimiter: Box::default() });
                }
            }
        }
        if let Some(last) = template.fields.last_mut() {
            // A trailing space or line end is not written by every shipper.
            last.delimiter = literal.trim_ascii_end().into();
        }
        template.checked()
    }

    /// Puts the literal before a variable where it belongs: behind the variable before, or in front of all.
    fn close(&mut self, literal: Vec<u8>, next: &str) -> Result<(), TemplateError> {
        match self.fields.last_mut() {
            None => self.prefix = literal.into(),
            Some(_) if literal.is_empty() => return Err(TemplateError::Adjacent(next.into())),
            Some(last) => last.delimiter = literal.into(),
        }
        Ok(())
    }

    /// A variable whose end the client can write. Both balancers escape quotes; a method, a URL and a host hold no space; a
    /// time behind the variable tells where it ends if the client cannot write what follows the time.
    fn forgeable(&self) -> Option<&Slot> {
        let quoted = |delimiter: &[u8]| self.escape != LogEscape::Raw && delimiter.contains(&b'"');
        let safe = |slot: &Slot, next: Option<&Slot>| {
            quoted(&slot.delimiter)
                || slot.delimiter.is_empty()
                || (slot.field.is_one_word() && slot.delimiter.starts_with(b" "))
                || next.is_some_and(|next| next.field.is_time() && quoted(&next.delimiter))
        };
        let next = self.fields.iter().skip(1).map(Some).chain([None]);
        let mut pairs = self.fields.iter().zip(next);
        pairs.find(|(slot, next)| slot.field.is_client_text() && !safe(slot, *next)).map(|(slot, _)| slot)
    }

    fn checked(self) -> Result<Self, TemplateError> {
        let has = |wanted: fn(Field) -> bool| self.fields.iter().any(|slot| wanted(slot.field));
        if self.fields.len() > MAX_FIELDS {
            Err(TemplateError::TooManyVariables)
        } else if !has(Field::is_time) {
            Err(TemplateError::NoTime)
        } else if !has(Field::is_request) {
            Err(TemplateError::NoRequest)
        } else if let Some(slot) = self.forgeable() {
            Err(TemplateError::Forgeable(slot.field.name()))
        } else {
            Ok(self)
        }
    }
}

impl Slot {
    /// The value at the front of `text` and what stands behind its delimiter; `None` when the delimiter does not come.
    fn cut<'l>(&self, text: &'l [u8], next: Option<&Self>) -> Option<(&'l [u8], &'l [u8])> {
        if self.field == Field::Captures {
            return self.cut_captures(text);
        }
        if self.delimiter.is_empty() {
            return Some((text, b""));
        }
        if self.field.is_address() && *self.delimiter == *b":" {
            // HAProxy writes IPv6 without brackets: the last colon of the word is the one before the port.
            let word = memchr(b' ', text).unwrap_or(text.len());
            let colon = memrchr(b':', &text[..word])?;
            return Some((&text[..colon], &text[colon + 1..]));
        }
        if self.field.is_list() && self.delimiter.starts_with(b" ") {
            let (list, _) = split_list(text);
            let behind = text[list.len()..].strip_prefix(&*self.delimiter)?;
            return Some((list, behind));
        }
        memmem::find_iter(text, &self.delimiter)
            .map(|end| (&text[..end], &text[end + self.delimiter.len()..]))
            .find(|(_, behind)| next.is_none_or(|next| next.can_begin(behind)))
    }

    /// `{a|b}`, in which HAProxy escapes braces. Where nothing is captured it writes neither the braces nor the space behind.
    fn cut_captures<'l>(&self, text: &'l [u8]) -> Option<(&'l [u8], &'l [u8])> {
        if !text.starts_with(b"{") {
            let behind = self.delimiter.strip_prefix(b" ").unwrap_or(&self.delimiter);
            return text.strip_prefix(behind).map(|rest| (&text[..0], rest));
        }
        let end = memchr(b'}', text)? + 1;
        text[end..].strip_prefix(&*self.delimiter).map(|rest| (&text[..end], rest))
    }

    /// Whether this variable's value may stand at the front of `text`. Only times have a form that tells: a user name, which
    /// nginx does not quote, can hold anything that stands before a time, but not the time and what follows it.
    fn can_begin(&self, text: &[u8]) -> bool {
        if !self.field.is_time() {
            return true;
        }
        let window = &text[..text.len().min(MAX_TIME_BYTES + self.delimiter.len())];
        let end = if self.delimiter.is_empty() { Some(window.len()) } else { memmem::find(window, &self.delimiter) };
        end.is_some_and(|end| Field::reads_as_time(&window[..end]))
    }
}

/// A part of a template before it is assembled.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    /// What it means, and how it was written.
    Variable(Field, String),
}

fn bounded(text: &str) -> Result<&str, TemplateError> {
    if text.len() > MAX_TEMPLATE_BYTES { Err(TemplateError::TooLong) } else { Ok(text.trim()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::request::Target;

    const MAIN: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $upstream_addr $upstream_status $request_time $request_id"#;

    fn socket(text: &str) -> Target {
        Target::Socket(text.parse().expect("a socket"))
    }

    #[test]
    fn an_nginx_format_becomes_a_parser() {
        let template = Template::nginx(MAIN).expect("compiles");
        let line = r#"198.51.100.9 - - [04/May/2026:10:00:01 +0000] "GET /a?b=\x22 HTTP/1.1" 502 70 "-" "agent \x22" 10.0.0.1:80, 10.0.0.2:80 : [fd00::3]:80 502, 502 : 200 0.250 00ff"#;
        let record = template.parse(line.as_bytes()).expect("parses");
        assert_eq!(record.completed, "2026-05-04T10:00:01Z".parse().expect("a time"));
        assert_eq!(record.duration(), Duration::from_millis(250));
        assert_eq!(record.client, Some("198.51.100.9:0".parse().expect("a socket")));
        assert_eq!(record.target, socket("[fd00::3]:80"));
        assert_eq!(super::super::formats::sockets_tried(&record).count(), 3);
        assert_eq!((record.status, record.target_status), (Some(502), Some(200)));
        assert_eq!((record.method, record.path_and_query), (&b"GET"[..], &br"/a?b=\x22"[..]));
        assert_eq!((record.user_agent, record.referer, record.trace_id), (&br"agent \x22"[..], &b""[..], &b"00ff"[..]));
    }

    #[test]
    fn a_whole_directive_with_json_text_is_understood() {
        let template = Template::nginx(
            r#"log_format edge escape=json '{"t":"$msec","took":"$request_time","c":"$remote_addr","p":"$remote_port",'
                 '"m":"$request_method","h":"$host","u":"$request_uri","s":$status,"up":"$upstream_addr",'
                 '"us":"$upstream_status","ua":"$http_user_agent","geo":"$geoip_city"}';"#,
        )
        .expect("compiles");
        let line = r#"{"t":"1777888801.250","took":"0.250","c":"198.51.100.9","p":"40100","m":"GET","h":"shop.example","u":"/a?b=\",\"s\":1","s":200,"up":"10.0.0.1:80","us":"201","ua":"x\\","geo":""}"#;
        let record = template.parse(line.as_bytes()).expect("parses");
        assert_eq!(record.received, "2026-05-04T10:00:01Z".parse().expect("a time"));
        assert_eq!(record.client, Some("198.51.100.9:40100".parse().expect("a socket")));
        assert_eq!((record.target, record.target_status), (socket("10.0.0.1:80"), Some(201)));
        assert_eq!((record.path_and_query, record.user_agent), (&br#"/a?b=\",\"s\":1"#[..], &br"x\\"[..]));
        assert_eq!((record.authority, record.escape), (&b"shop.example"[..], LogEscape::Json));
    }

    #[test]
    fn a_haproxy_format_becomes_a_parser() {
        let template = Template::haproxy(
            r#"log-format "%ci:%cp [%trg] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r %si:%sp %bi:%bp %ID""#,
        )
        .expect("compiles");
        for captures in ["", "{shop.example|agent one} ", "{a} {b} "] {
            let line = format!(
                r#"2001:db8::9:40100 [04/May/2026:10:00:01 +0000] in~ web/web-1 1/0/0/30/250 200 70 - - ---- 1/1/1/1/0 0/0 {captures}"GET /a#22 HTTP/1.1" 10.0.0.1:80 10.0.0.9:5000 id-7"#
            );
            let record = template.parse(line.as_bytes()).expect("parses");
            assert_eq!(record.received, "2026-05-04T10:00:01Z".parse().expect("a time"));
            assert_eq!(record.duration(), Duration::from_millis(250));
            assert_eq!(record.client, Some("[2001:db8::9]:40100".parse().expect("a socket")));
            assert_eq!((record.target, record.target_status), (socket("10.0.0.1:80"), Some(200)));
            assert_eq!(record.upstream_local, Some("10.0.0.9:5000".parse().expect("a socket")));
            assert_eq!((record.path_and_query, record.trace_id), (&b"/a#22"[..], &b"id-7"[..]));
        }
    }

    #[test]
    fn a_user_name_cannot_hide_the_line() {
        let template = Template::nginx(MAIN).expect("compiles");
        for user in ["a b", "x [y", "x [04/May/2025:10:00:01 +0000] y", r"x [04/May/2025:10:00:01 +0000] \x22GET"] {
            let line = format!(
                r#"198.51.100.9 - {user} [04/May/2026:10:00:01 +0000] "GET /evil HTTP/1.1" 200 70 "-" "-" - - 0.250 00ff"#
            );
            let record = template.parse(line.as_bytes()).expect("parses");
            assert_eq!((record.path_and_query, record.target), (&b"/evil"[..], Target::None), "{user}");
        }
    }

    #[test]
    fn a_line_that_was_cut_off_is_read_as_far_as_it_goes() {
        let template = Template::nginx(MAIN).expect("compiles");
        let line = br#"198.51.100.9 - - [04/May/2026:10:00:01 +0000] "GET /a HTTP/1.1" 200 70 "-" "agent"#;
        let record = template.parse(line).expect("parses");
        assert_eq!(
            (record.path_and_query, record.user_agent, record.target),
            (&b"/a"[..], &b"agent"[..], Target::Unlogged)
        );
        let error = template.parse(&line[..40]).expect_err("refused");
        assert_eq!((error.field, error.problem), ("client text", Problem::Missing));
    }

    #[test]
    fn what_cannot_be_read_without_guessing_is_refused() {
        let check = |text: &str, expected: TemplateError| {
            assert_eq!(Template::nginx(text).expect_err("refused"), expected, "{text}");
        };
        check("$msec$request", TemplateError::Adjacent("$request".into()));
        check("$request $status", TemplateError::NoTime);
        check("$msec $status", TemplateError::NoRequest);
        check("$msec $request $status", TemplateError::Forgeable("request line"));
        check("$msec|$request_uri|$status", TemplateError::Forgeable("uri"));
        check("$remote_user [$msec] $request_uri", TemplateError::Forgeable("client text"));
        check(r#"$msec $http_x_any $request_uri"#, TemplateError::Forgeable("client text"));
        check(r#"log_format x escape=none '$msec "$request" $status';"#, TemplateError::Forgeable("request line"));
        check("${msec $request", TemplateError::Unclosed("${".into()));
        check("", TemplateError::NoTime);
        check(&"x".repeat(MAX_TEMPLATE_BYTES + 1), TemplateError::TooLong);
        check(&"$a ".repeat(MAX_FIELDS + 1), TemplateError::TooManyVariables);
        let check = |text: &str, expected: TemplateError| {
            assert_eq!(Template::haproxy(text).expect_err("refused"), expected, "{text}");
        };
        check("%{+json}o %trg %r", TemplateError::Unsupported("%{+json}o".into()));
        check("%{+Q", TemplateError::Unclosed("%{".into()));
        check("%[src", TemplateError::Unclosed("%[".into()));
        check("%ci", TemplateError::NoTime);
    }

    #[test]
    fn a_template_says_what_it_gives() {
        let all = Template::nginx(MAIN).expect("compiles").gives();
        assert!(all.all(Gives::CLIENT.and(Gives::TARGET).and(Gives::INTERVAL).and(Gives::TRACE_ID)));
        assert!(!all.all(Gives::UPSTREAM_SOCKET));
        let little = Template::haproxy("%trg %r").expect("compiles").gives();
        assert_eq!(little, Gives::REQUEST);
    }

    proptest::proptest! {
        #[test]
        fn any_text_compiles_or_is_refused(text in "[$%{}\\[\\]+a-zQ'\" \\\\;=_]{0,80}") {
            let _ = Template::nginx(&text);
            let _ = Template::haproxy(&text);
        }

        #[test]
        fn any_line_gives_a_record_or_an_error(line in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let template = Template::nginx(MAIN).expect("compiles");
            let _ = template.parse(&line);
            let mut damaged = br#"198.51.100.9 - - [04/May/2026:10:00:01 +0000] "GET /a HTTP/1.1" 200 "#.to_vec();
            damaged.extend_from_slice(&line);
            let _ = template.parse(&damaged);
        }
    }
}
