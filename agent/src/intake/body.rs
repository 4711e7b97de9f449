//! The shapes that senders give a request body. In: a plain body. Out: its lines, as slices of it wherever nothing had
//! to be unescaped.
//!
//! Taken: plain lines; JSON values in an array, one a line, or one right after the other. A JSON string is a line; an
//! object is an envelope that holds the line under a well-known key, a wrapper that holds a list of either, or itself
//! the structured record. A byte is looked at a bounded number of times; nothing is built that grows faster than the
//! lines do.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::lines::Lines;

/// Values within values, lists included: Kafka REST with an envelope in each record is four. Bounds how often a byte is
/// looked at.
const DEPTH_MAX: usize = 5;

/// Why a body gives no lines.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Declared as JSON and none.
    #[error("the body is not the JSON that its content type says: {0}; plain lines go as text/plain")]
    Json(String),
    /// Past the limit.
    #[error("the body has more than {0} lines; send smaller batches")]
    TooManyLines(usize),
}

/// Takes a body apart. `declared_json` is whether its content type promises JSON: then a body that begins like JSON
/// must be JSON, while one that does not is lines all the same (rsyslog says `application/json` whatever it sends).
/// Without the promise anything that does not read as JSON is lines.
pub(super) fn read(body: &Bytes, declared_json: bool, into: &mut Lines) -> Result<(), BodyError> {
    let before = into.lines.len();
    let mut reader = Reader { body, found: into };
    let begins_like_json = matches!(body.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'));
    let read = if begins_like_json { reader.json() } else { Err(None) };
    match read {
        _ if into.overflow => return Err(BodyError::TooManyLines(into.limits().lines)),
        Err(Some(error)) if declared_json => return Err(BodyError::Json(error)),
        Err(_) => {
            into.rewind(before);
            into.push_all(body);
        }
        Ok(()) => {}
    }
    if into.overflow { Err(BodyError::TooManyLines(into.limits().lines)) } else { Ok(()) }
}

/// A JSON string within `body`: a line, or several with line ends between them.
pub(super) fn string(body: &Bytes, quoted: &str, into: &mut Lines) {
    let inner = &quoted.as_bytes()[1..quoted.len() - 1];
    if memchr::memchr(b'\\', inner).is_some() {
        into.push_escaped(inner, body.len());
    } else {
        into.push_all(&body.slice_ref(inner));
    }
}

/// Walks an array without building it: a body of a million small elements is a million visits, never a million values in
/// memory.
pub(super) fn each<'b, E: From<serde_json::Error>>(
    array: &'b RawValue,
    visit: &mut dyn FnMut(&'b RawValue) -> Result<(), E>,
) -> Result<(), E> {
    let mut failed = None;
    let elements = Elements { visit: &mut |value| visit(value).map_err(|error| failed = Some(error)) };
    let walked = serde_json::Deserializer::from_str(array.get()).deserialize_seq(elements);
    match failed {
        Some(error) => Err(error),
        None => walked.map_err(E::from),
    }
}

struct Reader<'b, 'l> {
    body: &'b Bytes,
    found: &'l mut Lines,
}

impl<'b> Reader<'b, '_> {
    /// Values one after the other, whatever white space lies between.
    fn json(&mut self) -> Result<(), Option<String>> {
        let told = |error: &dyn fmt::Display| Some(error.to_string());
        let text = std::str::from_utf8(self.body).map_err(|error| told(&error))?;
        let rest = self.objects(text).map_err(|error| told(&error))?;
        for value in serde_json::Deserializer::from_str(&text[rest..]).into_iter::<&'b RawValue>() {
            let value = value.map_err(|error| told(&error))?;
            self.value(value, 0).map_err(|error| told(&error))?;
            if self.found.overflow {
                break;
            }
        }
        Ok(())
    }

    /// The objects that a body begins with, each looked at once; gives where something else follows.
    fn objects(&mut self, text: &'b str) -> Result<usize, serde_json::Error> {
        let mut objects = serde_json::Deserializer::from_str(text).into_iter::<Envelope<'b>>();
        loop {
            let rest = &text[objects.byte_offset()..];
            let start = text.len() - rest.trim_ascii_start().len();
            if self.found.overflow || text.as_bytes().get(start) != Some(&b'{') {
                return Ok(start);
            }
            // What cannot be read so is looked at as any value is: it may only have one key twice.
            let Some(Ok(envelope)) = objects.next() else { return Ok(start) };
            self.envelope(&envelope, &text[start..objects.byte_offset()], 0)?;
        }
    }

    /// One JSON value: a line, or several.
    fn value(&mut self, value: &'b RawValue, depth: usize) -> Result<(), serde_json::Error> {
        let text = value.get();
        match text.as_bytes().first() {
            Some(b'"') => {
                string(self.body, text, self.found);
                Ok(())
            }
            Some(b'{') => {
                // An error is the same key twice: no envelope that a forwarder makes.
                let envelope: Envelope<'b> = serde_json::from_str(text).unwrap_or_default();
                self.envelope(&envelope, text, depth)
            }
            Some(b'[') if depth < DEPTH_MAX => each(value, &mut |element| {
                self.value(element, depth + 1)?;
                if self.found.overflow { Err(serde_json::Error::custom("too many lines")) } else { Ok(()) }
            }),
            Some(b'[') => Err(serde_json::Error::custom("arrays lie too deep")),
            _ => Err(serde_json::Error::custom(format!(
                "{} is neither a string nor an object",
                text.chars().take(20).collect::<String>()
            ))),
        }
    }

    /// An object and what it was read as.
    fn envelope(&mut self, envelope: &Envelope<'b>, object: &'b str, depth: usize) -> Result<(), serde_json::Error> {
        if envelope.is_control() {
            return Ok(());
        }
        if let Some(streams) = envelope.streams.filter(|list| list.get().starts_with('[') && depth < DEPTH_MAX) {
            return each(streams, &mut |stream| self.stream(stream));
        }
        match envelope.content() {
            Some(content) if depth < DEPTH_MAX => self.value(content, depth + 1),
            _ => {
                self.found.push(self.body.slice_ref(object.as_bytes()));
                Ok(())
            }
        }
    }

    /// One stream of Loki's push API: `values` are pairs (or triples) of a time and a line.
    fn stream(&mut self, stream: &'b RawValue) -> Result<(), serde_json::Error> {
        #[derive(Deserialize)]
        struct Stream<'s> {
            #[serde(borrow)]
            values: &'s RawValue,
        }
        let stream: Stream<'b> = serde_json::from_str(stream.get())?;
        each(stream.values, &mut |entry| {
            let mut index = 0;
            each(entry, &mut |field: &'b RawValue| {
                index += 1;
                if index == 2 { self.value(field, DEPTH_MAX) } else { Ok(()) }
            })
        })
    }
}

/// Visits each element; an error that the visit keeps ends the walk.
struct Elements<'v, 'b> {
    visit: &'v mut dyn FnMut(&'b RawValue) -> Result<(), ()>,
}

impl<'b> Visitor<'b> for Elements<'_, 'b> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'b>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(value) = elements.next_element::<&'b RawValue>()? {
            (self.visit)(value).map_err(|()| A::Error::custom("the visit ended"))?;
        }
        Ok(())
    }
}

/// The keys under which forwarders put what they forward, and those by which a structured access record is told from an
/// envelope.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'b"))]
struct Envelope<'b> {
    message: Option<&'b RawValue>,
    log: Option<&'b RawValue>,
    line: Option<&'b RawValue>,
    msg: Option<&'b RawValue>,
    body: Option<&'b RawValue>,
    #[serde(rename = "MESSAGE")]
    journal_message: Option<&'b RawValue>,
    event: Option<&'b RawValue>,
    /// Azure, Kafka REST.
    records: Option<&'b RawValue>,
    /// Loki: `{"streams":[{"stream":{…},"values":[["<ns>","line"]]}]}`.
    streams: Option<&'b RawValue>,
    /// CloudWatch Logs.
    #[serde(rename = "logEvents")]
    log_events: Option<&'b RawValue>,
    /// CloudWatch Logs: `CONTROL_MESSAGE` carries no lines.
    #[serde(rename = "messageType")]
    message_type: Option<&'b RawValue>,
    /// Kafka REST: `{"records":[{"value":…}]}`.
    value: Option<&'b RawValue>,
    /// Caddy (whose `msg` is "handled request").
    request: Option<&'b RawValue>,
    /// Google Cloud, AWS WAF.
    #[serde(rename = "httpRequest")]
    http_request: Option<&'b RawValue>,
    /// Traefik (whose `msg` is empty).
    #[serde(rename = "RequestMethod")]
    request_method: Option<&'b RawValue>,
    /// Azure Front Door and Application Gateway.
    properties: Option<&'b RawValue>,
}

impl<'b> Envelope<'b> {
    fn is_control(&self) -> bool {
        self.message_type.is_some_and(|kind| kind.get() == "\"CONTROL_MESSAGE\"")
    }

    /// What it holds; `None` when the object is itself the record.
    fn content(&self) -> Option<&'b RawValue> {
        let begins_with = |first: char| move |value: &&'b RawValue| value.get().starts_with(first);
        if let Some(list) = [self.records, self.log_events].into_iter().flatten().find(begins_with('[')) {
            return Some(list);
        }
        let structured = [self.request, self.http_request, self.request_method, self.properties];
        if structured.iter().any(Option::is_some) {
            return None;
        }
        let keys = [self.message, self.log, self.line, self.msg, self.body, self.journal_message, self.event];
        let text = keys.into_iter().flatten().find(begins_with('"'));
        text.or(self.value.filter(|value| value.get().starts_with(['"', '{'])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::lines::Limits;

    const LIMITS: Limits = Limits { lines: 5, line_bytes: 40 };

    fn lines(body: &Bytes, declared_json: bool) -> Result<Lines, BodyError> {
        let mut lines = Lines::new(LIMITS);
        read(body, declared_json, &mut lines).map(|()| lines)
    }

    fn text(body: &str, declared_json: bool) -> Result<Lines, BodyError> {
        lines(&Bytes::copy_from_slice(body.as_bytes()), declared_json)
    }

    fn check(body: &str, declared_json: bool, expected: &[&str]) {
        let lines = text(body, declared_json).expect("lines").lines;
        let texts: Vec<&str> = lines.iter().map(|line| std::str::from_utf8(line).expect("text")).collect();
        assert_eq!(texts, expected, "{body}");
    }

    #[test]
    fn plain_lines() {
        check("", false, &[]);
        check("\n\r\n\n", false, &[]);
        check("one\ntwo\r\n\nthree", false, &["one", "two", "three"]);
        check("one\ntwo\n", true, &["one", "two"]);
        check("[22/Nov/2026] one\n", false, &["[22/Nov/2026] one"]);
        check("{not json}\n", false, &["{not json}"]);
    }

    #[test]
    fn json_in_every_shape() {
        for declared in [true, false] {
            check(r#"["one","t\"wo"]"#, declared, &["one", "t\"wo"]);
            check(r#"[{"message":"one","host":"a"},{"log":"two\n"}]"#, declared, &["one", "two"]);
            check("{\"line\":\"one\"}\n{\"msg\":\"two\"}\n", declared, &["one", "two"]);
            check(r#"{"body":"one"}{"event":"two"}{"MESSAGE":"three"}"#, declared, &["one", "two", "three"]);
            check("\"one\"\n\"two\"", declared, &["one", "two"]);
            check(r#"{"message":"one\ntwo"}"#, declared, &["one", "two"]);
            check(r#"{"records":[{"value":{"message":"one"}},{"value":"two"}]}"#, declared, &["one", "two"]);
            check(r#"{"messageType":"DATA_MESSAGE","logEvents":[{"message":"one"}]}"#, declared, &["one"]);
            check(r#"{"messageType":"CONTROL_MESSAGE","logEvents":[{"message":"x"}]}"#, declared, &[]);
            check(
                r#"{"streams":[{"stream":{"a":"b"},"values":[["1","one"],["2","two",{}]]}]}"#,
                declared,
                &["one", "two"],
            );
            check(" [ ] ", declared, &[]);
        }
    }

    #[test]
    fn a_structured_record_is_the_line_itself() {
        for record in [
            r#"{"status":200,"uri":"/a"}"#,
            r#"{"msg":"handled","request":{"uri":"/"}}"#,
            r#"{"msg":"","RequestMethod":"GET"}"#,
            r#"{"message":{"nested":true}}"#,
            r#"{"message":"a","message":"b"}"#,
        ] {
            check(&format!("[{record}]"), true, &[record]);
        }
        check(r#"{"records":[{"properties":{"a":1}}]}"#, true, &[r#"{"properties":{"a":1}}"#]);
    }

    #[test]
    fn declared_json_must_be_json() {
        let check = |body: &str, expected: &str| {
            let error = text(body, true).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(r#"{"message":"one""#, "EOF");
        check(r#"[1,2]"#, "1 is neither a string nor an object");
        check(r#"["one",]"#, "line 1 column");
        check(r#"{"message":"one"} oops"#, "expected value");
        check(&"[".repeat(100_000), "");
        check(&"{\"records\":[".repeat(10_000), "");
    }

    #[test]
    fn bounds_hold() {
        let long = "x".repeat(50);
        let found = text(&format!("{long}\nshort"), false).expect("lines");
        assert_eq!((found.lines[0].len(), found.lines[1].len(), found.cut), (40, 5, 1));
        for many in ["a\n".repeat(6), "[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"]".into(), "{\"log\":\"a\"}".repeat(6)] {
            assert_eq!(text(&many, true).err(), Some(BodyError::TooManyLines(5)), "{many}");
        }
        check(&"a\n".repeat(5), false, &["a"; 5]);
    }

    #[test]
    fn nothing_is_copied_that_is_not_escaped() {
        let body = Bytes::from_static(br#"["plain",{"message":"also plain"}]"#);
        let found = lines(&body, true).expect("lines");
        assert_eq!(found.copied(), 0);
        let range = body.as_ptr_range();
        assert!(found.lines.iter().all(|line| range.contains(&line.as_ptr())));
    }

    #[test]
    fn any_bytes_give_lines_or_an_error() {
        proptest::proptest!(|(body: Vec<u8>, declared: bool)| {
            drop(lines(&Bytes::from(body), declared));
        });
        const TOKENS: [&str; 14] =
            ["{", "}", "[", "]", "\"", "message", ":", ",", "\\", "records", "1", " ", "\n", "\u{e9}"];
        let token = proptest::sample::select(&TOKENS[..]);
        proptest::proptest!(|(parts in proptest::collection::vec(token, 0..30), declared: bool)| {
            drop(lines(&Bytes::from(parts.concat()), declared));
        });
    }
}
