//! Members of a JSON object, one after another, borrowed from the line.
//!
//! Not a general parser, on purpose: it allocates nothing, keeps strings as they were escaped, skips what nobody asks for
//! without building it, needs no valid UTF-8 (nginx and Caddy pass the client's bytes on; a line that a client can make
//! unreadable would hide its request) and cannot overflow the stack, because nested values are skipped by counting brackets.

use memchr::memchr2;

use super::fields::present;
use super::{ParseError, Problem};

/// Longest key that is folded; the longest that any format has is `request_processing_time`. Longer ones are nobody's.
const MAX_FOLDED_BYTES: usize = 40;

/// A key in lower case without punctuation: the same field is `client:port`, `client_port` or `ClientPort`, depending on the
/// road that the log took. Empty for a key that is too long to be known.
pub(super) fn folded<'b>(key: &[u8], buffer: &'b mut [u8; MAX_FOLDED_BYTES]) -> &'b [u8] {
    let mut length = 0;
    for byte in key.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        let Some(slot) = buffer.get_mut(length) else { return b"" };
        *slot = byte.to_ascii_lowercase();
        length += 1;
    }
    &buffer[..length]
}

/// Room for [`folded`].
pub(super) const FOLD: [u8; MAX_FOLDED_BYTES] = [0; MAX_FOLDED_BYTES];

/// A value, as written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'l> {
    /// A string without its quotes, still escaped.
    Text(&'l [u8]),
    /// A number, `true`, `false` or `null`.
    Word(&'l [u8]),
    /// An object or an array with its brackets.
    Nested(&'l [u8]),
}

impl<'l> Value<'l> {
    /// The text of a string or number; `null`, `-` and nested values are absent. Numbers are strings in some exports of the
    /// same log, so no format tells them apart.
    pub(super) fn plain(self) -> &'l [u8] {
        match self {
            Self::Text(text) => present(text),
            Self::Word(b"null") | Self::Nested(_) => b"",
            Self::Word(word) => word,
        }
    }

    /// The members of a nested object; none of anything else.
    pub(super) fn members(self) -> Members<'l> {
        match self {
            Self::Nested(object) if object.starts_with(b"{") => Members::of(object),
            _ => Members::of(b"{}"),
        }
    }

    /// The elements of a nested array; none of anything else.
    pub(super) fn elements(self) -> Elements<'l> {
        match self {
            Self::Nested(array) => Elements { rest: array.strip_prefix(b"[").unwrap_or_default() },
            _ => Elements { rest: b"" },
        }
    }

    /// The first element of an array, or the value itself.
    pub(super) fn first(self) -> Self {
        match self {
            Self::Nested(array) if array.starts_with(b"[") => self.elements().next().unwrap_or(Self::Word(b"null")),
            other => other,
        }
    }
}

/// Iterates over an object's members as `(key, value)`, keys still escaped. Ends at the closing brace; what follows it is
/// ignored. A malformed member is an error, once.
#[derive(Clone, Debug)]
pub(super) struct Members<'l> {
    rest: &'l [u8],
    position: u8,
    state: State,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Between,
    Ended,
}

/// What a line of JSON has to begin with.
const NOT_AN_OBJECT: ParseError = ParseError::new("line", 0, Problem::Json);

impl<'l> Members<'l> {
    pub(super) const fn of(object: &'l [u8]) -> Self {
        Self { rest: object, position: 0, state: State::Opening }
    }

    /// The next member; `Ok(None)` behind the last.
    fn advance(&mut self) -> Result<Option<(&'l [u8], Value<'l>)>, ParseError> {
        let error = ParseError::new("member", self.position.saturating_add(1), Problem::Json);
        match self.state {
            State::Opening => self.rest = skip(self.rest, b'{').ok_or(NOT_AN_OBJECT)?,
            State::Between => match skip(self.rest, b',') {
                Some(rest) => self.rest = rest,
                None => return skip(self.rest, b'}').map(|_| None).ok_or(error),
            },
            State::Ended => return Ok(None),
        }
        if self.state == State::Opening && skip(self.rest, b'}').is_some() {
            return Ok(None);
        }
        let (Value::Text(key), rest) = value(trim(self.rest)).ok_or(error)? else { return Err(error) };
        let (found, rest) = skip(rest, b':').and_then(|rest| value(trim(rest))).ok_or(error)?;
        self.rest = rest;
        self.position = self.position.saturating_add(1);
        self.state = State::Between;
        Ok(Some((key, found)))
    }

    /// An error about the member read last.
    pub(super) const fn error(&self, field: &'static str, problem: Problem) -> ParseError {
        ParseError::new(field, self.position, problem)
    }

    /// Like [`Iterator::next`], for loops that also want [`Self::error`].
    pub(super) fn member(&mut self) -> Result<Option<(&'l [u8], Value<'l>)>, ParseError> {
        let found = self.advance();
        if !matches!(found, Ok(Some(_))) {
            self.state = State::Ended;
        }
        found
    }
}

/// Iterates over an array's elements, up to the first that is malformed.
#[derive(Clone, Debug)]
pub(super) struct Elements<'l> {
    rest: &'l [u8],
}

impl<'l> Iterator for Elements<'l> {
    type Item = Value<'l>;

    fn next(&mut self) -> Option<Self::Item> {
        let (found, rest) = value(trim(self.rest))?;
        self.rest = skip(rest, b',').unwrap_or_default();
        Some(found)
    }
}

/// The value at the front and what follows it.
fn value(text: &[u8]) -> Option<(Value<'_>, &[u8])> {
    match text.first()? {
        b'"' => {
            let end = string_end(text)?;
            Some((Value::Text(&text[1..end - 1]), &text[end..]))
        }
        b'{' | b'[' => {
            let end = nested_end(text)?;
            Some((Value::Nested(&text[..end]), &text[end..]))
        }
        b'-' | b'0'..=b'9' | b'a'..=b'z' => {
            let end = text.iter().position(|byte| is_delimiter(*byte)).unwrap_or(text.len());
            Some((Value::Word(&text[..end]), &text[end..]))
        }
        _ => None,
    }
}

const fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')
}

/// Where the string that `text` begins with ends, its closing quote included.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Where the object or array that `text` begins with ends. Brackets are counted, not matched by kind: a value that nobody
/// reads need only end.
fn nested_end(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        at += text.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']'))?;
        match text[at] {
            b'"' => {
                at += string_end(&text[at..])?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            _ => depth = depth.checked_sub(1)?,
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// What follows `byte`, if it comes next.
fn skip(text: &[u8], byte: u8) -> Option<&[u8]> {
    trim(text).strip_prefix(&[byte])
}

fn trim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).unwrap_or(text.len());
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, ParseError> {
        let mut members = Members::of(text.as_bytes());
        let mut found = Vec::new();
        while let Some((key, value)) = members.member()? {
            let text = match value {
                Value::Text(text) | Value::Word(text) | Value::Nested(text) => text,
            };
            found.push((String::from_utf8_lossy(key).into_owned(), String::from_utf8_lossy(text).into_owned()));
        }
        Ok(found)
    }

    #[test]
    fn members_come_in_their_order_and_as_written() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let expected: Vec<_> = expected.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            assert_eq!(read(text), Ok(expected), "{text}");
        };
        check("{}", &[]);
        check(" { } ", &[]);
        check(r#"{"a":"b"}"#, &[("a", "b")]);
        check(
            r#"{"a" : "x\"}y" , "b":-1.5e3,"c":null} trailing"#,
            &[("a", r#"x\"}y"#), ("b", "-1.5e3"), ("c", "null")],
        );
        check(r#"{"a":{"b":["]",{"c":"}"}]},"d":[]}"#, &[("a", r#"{"b":["]",{"c":"}"}]}"#), ("d", "[]")]);
        check(r#"{"\\":"\\"}"#, &[(r"\\", r"\\")]);
    }

    #[test]
    fn what_is_no_object_is_refused_where_it_breaks() {
        let check = |text: &str, position: u8| {
            assert_eq!(read(text).expect_err("refused").position, position, "{text}");
        };
        for text in ["", "[]", "null", "a"] {
            check(text, 0);
        }
        for text in ["{", "{a:1}", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":"b}"#, r#"{"a":"\"#] {
            check(text, 1);
        }
        check(r#"{"a":1 "b":2}"#, 2);
        check(r#"{"a":1,}"#, 2);
        check(r#"{"a":{"b":1}"#, 2);
    }

    #[test]
    fn values_are_read_without_regard_to_their_type() {
        assert_eq!(Value::Text(b"-").plain(), b"");
        assert_eq!(Value::Text(b"5").plain(), Value::Word(b"5").plain());
        assert_eq!(Value::Word(b"null").plain(), b"");
        assert_eq!(Value::Nested(br#"["a","b"]"#).first(), Value::Text(b"a"));
        assert_eq!(Value::Nested(b"[]").first().plain(), b"");
        assert_eq!(Value::Nested(br#"[1, {"a":2} ,"x"]"#).elements().count(), 3);
    }

    #[test]
    fn keys_fold_to_one_spelling() {
        let check =
            |key: &str, expected: &str| assert_eq!(folded(key.as_bytes(), &mut FOLD.clone()), expected.as_bytes());
        for key in ["client:port", "client_port", "ClientPort", "client-port"] {
            check(key, "clientport");
        }
        check(&"x".repeat(MAX_FOLDED_BYTES + 1), "");
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(&deep).map(|members| members.len()), Ok(1));
    }

    proptest::proptest! {
        #[test]
        fn it_agrees_with_a_full_parser(text in r#"\{("[a\\"n]{0,3}":("[a-c{}\[\]]{0,4}"|[0-9]{1,3}|null|\[1,"]"\]|\{"a":\{\}\}),?){0,3}\}"#) {
            if let Ok(serde_json::Value::Object(object)) = serde_json::from_str(&text) {
                let found = read(&text).expect("what a full parser takes, this one takes");
                proptest::prop_assert!(found.len() >= object.len());
            }
        }

        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let mut members = Members::of(&bytes);
            while let Ok(Some(_)) = members.member() {}
            proptest::prop_assert_eq!(members.member(), Ok(None));
        }
    }
}
