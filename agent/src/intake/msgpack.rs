//! MessagePack as forwarders write it. In: bytes, whole or still coming. Out: tokens that borrow them, where a value ends,
//! and records as lines.
//!
//! Nothing is built from it: a value of a megabyte that stands for a million small ones costs a walk over them. Format:
//! the MessagePack specification, and the Fluentd forward protocol v1 for times and records.

use std::fmt::Write as _;

use bytes::Bytes;

use super::lines::Lines;

/// Values within values that are written as JSON; access records have two or three levels.
const DEPTH_MAX: usize = 16;

/// Keys under which a record holds the line, the best first.
const LINE_KEYS: [&[u8]; 7] = [b"log", b"message", b"line", b"msg", b"body", b"MESSAGE", b"event"];

/// Keys of a record that is an access record itself, whatever it says besides.
const STRUCTURED_KEYS: [&[u8]; 4] = [b"request", b"httpRequest", b"RequestMethod", b"properties"];

/// Why bytes are no value.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MsgpackError {
    /// Cut short.
    #[error("the MessagePack ends within a value")]
    Short,
    /// The one byte that is never used.
    #[error("byte 0xc1 is no MessagePack")]
    Unused,
    /// Sound, and not what is expected there.
    #[error("the MessagePack is not {0}")]
    Unexpected(&'static str),
}

/// A value, or the beginning of a compound one.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) enum Token<'b> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'b [u8]),
    Binary(&'b [u8]),
    Array(u32),
    Map(u32),
    /// Its type and data.
    Extension(u8, &'b [u8]),
}

/// What the first byte says of a value: its kind, bytes of its number after it, and how that is read.
#[derive(Copy, Clone)]
enum Head {
    /// The value lies in the first byte.
    Inline(Inline),
    /// A number of so many bytes follows.
    Number(Kind, usize),
    /// So many bytes of data follow, where an extension's type comes first.
    Fixed(u64),
}

#[derive(Copy, Clone)]
enum Inline {
    Nil,
    Bool(bool),
    Small(u64),
    Negative(i64),
    Text(u64),
    Array(u32),
    Map(u32),
}

#[derive(Copy, Clone)]
enum Kind {
    Unsigned,
    Signed,
    Float,
    Text,
    Binary,
    Array,
    Map,
    Extension,
}

fn head(first: u8) -> Option<Head> {
    let inline = |value| Some(Head::Inline(value));
    let number = |kind, bytes| Some(Head::Number(kind, bytes));
    match first {
        0x00..=0x7f => inline(Inline::Small(first.into())),
        0x80..=0x8f => inline(Inline::Map(u32::from(first & 0x0f))),
        0x90..=0x9f => inline(Inline::Array(u32::from(first & 0x0f))),
        0xa0..=0xbf => inline(Inline::Text(u64::from(first & 0x1f))),
        0xc0 => inline(Inline::Nil),
        0xc1 => None,
        0xc2 | 0xc3 => inline(Inline::Bool(first == 0xc3)),
        0xc4..=0xc6 => number(Kind::Binary, 1 << (first - 0xc4)),
        0xc7..=0xc9 => number(Kind::Extension, 1 << (first - 0xc7)),
        0xca | 0xcb => number(Kind::Float, 4 << (first - 0xca)),
        0xcc..=0xcf => number(Kind::Unsigned, 1 << (first - 0xcc)),
        0xd0..=0xd3 => number(Kind::Signed, 1 << (first - 0xd0)),
        0xd4..=0xd8 => Some(Head::Fixed(1 << (first - 0xd4))),
        0xd9..=0xdb => number(Kind::Text, 1 << (first - 0xd9)),
        0xdc | 0xdd => number(Kind::Array, 2 << (first - 0xdc)),
        0xde | 0xdf => number(Kind::Map, 2 << (first - 0xde)),
        0xe0..=0xff => inline(Inline::Negative(i64::from(first.cast_signed()))),
    }
}

/// Walks values.
#[derive(Copy, Clone, Debug)]
pub(super) struct Reader<'b> {
    pub(super) rest: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(super) const fn new(rest: &'b [u8]) -> Self {
        Self { rest }
    }

    fn take(&mut self, count: u64) -> Result<&'b [u8], MsgpackError> {
        let count = usize::try_from(count).map_err(|_| MsgpackError::Short)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(MsgpackError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A big-endian number of up to eight bytes.
    fn number(&mut self, bytes: usize) -> Result<u64, MsgpackError> {
        Ok(self.take(bytes as u64)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The next value, or the beginning of a compound one.
    pub(super) fn token(&mut self) -> Result<Token<'b>, MsgpackError> {
        let first = self.take(1)?[0];
        Ok(match head(first).ok_or(MsgpackError::Unused)? {
            Head::Inline(Inline::Nil) => Token::Nil,
            Head::Inline(Inline::Bool(value)) => Token::Bool(value),
            Head::Inline(Inline::Small(value)) => Token::Unsigned(value),
            Head::Inline(Inline::Negative(value)) => Token::Signed(value),
            Head::Inline(Inline::Text(length)) => Token::Text(self.take(length)?),
            Head::Inline(Inline::Array(count)) => Token::Array(count),
            Head::Inline(Inline::Map(count)) => Token::Map(count),
            Head::Fixed(length) => Token::Extension(self.take(1)?[0], self.take(length)?),
            Head::Number(kind, bytes) => {
                let number = self.number(bytes)?;
                self.numbered(kind, bytes, number)?
            }
        })
    }

    fn numbered(&mut self, kind: Kind, bytes: usize, number: u64) -> Result<Token<'b>, MsgpackError> {
        let count = || u32::try_from(number).map_err(|_| MsgpackError::Short);
        Ok(match kind {
            Kind::Unsigned => Token::Unsigned(number),
            Kind::Signed => {
                let unused = 64 - 8 * u32::try_from(bytes).unwrap_or(8);
                Token::Signed((number << unused).cast_signed() >> unused)
            }
            Kind::Float => Token::Float(match u32::try_from(number) {
                Ok(bits) if bytes == 4 => f32::from_bits(bits).into(),
                _ => f64::from_bits(number),
            }),
            Kind::Text => Token::Text(self.take(number)?),
            Kind::Binary => Token::Binary(self.take(number)?),
            Kind::Array => Token::Array(count()?),
            Kind::Map => Token::Map(count()?),
            Kind::Extension => Token::Extension(self.take(1)?[0], self.take(number)?),
        })
    }

    /// Passes one whole value over; gives its bytes.
    pub(super) fn skip(&mut self) -> Result<&'b [u8], MsgpackError> {
        let begin = self.rest;
        let mut pending = 1_u64;
        while pending > 0 {
            pending = pending - 1 + children(&self.token()?);
        }
        Ok(&begin[..begin.len() - self.rest.len()])
    }
}

fn children(token: &Token<'_>) -> u64 {
    match *token {
        Token::Array(count) => count.into(),
        Token::Map(count) => 2 * u64::from(count),
        _ => 0,
    }
}

/// Finds the end of a value that is still coming in, looking at each byte once however small the pieces are.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Bytes of whole tokens.
    at: usize,
    /// Values still to come, the first being the whole.
    pending: u64,
}

impl Scanner {
    /// The length of the value that `buffer` begins with, once it is all there; then it begins anew.
    pub(super) fn end(&mut self, buffer: &[u8]) -> Result<Option<usize>, MsgpackError> {
        if self.at == 0 && self.pending == 0 {
            self.pending = 1;
        }
        let mut reader = Reader::new(buffer.get(self.at..).unwrap_or_default());
        while self.pending > 0 {
            match reader.token() {
                Ok(token) => self.pending = self.pending - 1 + children(&token),
                Err(MsgpackError::Short) => return Ok(None),
                Err(error) => return Err(error),
            }
            self.at = buffer.len() - reader.rest.len();
        }
        Ok(Some(std::mem::take(self).at))
    }
}

/// What Fluent Bit posts as `application/msgpack`: entries one after the other, each `[time, record]`, or bare records.
/// `body` is where the bytes lie.
pub(super) fn entries(body: &Bytes, into: &mut Lines) -> Result<(), MsgpackError> {
    let mut reader = Reader::new(body);
    while !reader.rest.is_empty() && !into.overflow {
        entry(body, &mut reader, into)?;
    }
    Ok(())
}

/// One `[time, record]` (the time may come with metadata), or a bare record.
pub(super) fn entry<'b>(body: &'b Bytes, reader: &mut Reader<'b>, into: &mut Lines) -> Result<(), MsgpackError> {
    let begin = *reader;
    match reader.token()? {
        Token::Array(2) => {
            reader.skip()?;
            record(body, reader, into)
        }
        Token::Map(_) => {
            *reader = begin;
            record(body, reader, into)
        }
        _ => Err(MsgpackError::Unexpected("an entry of a time and a record")),
    }
}

/// A record: the line it holds, else itself as a JSON object.
pub(super) fn record<'b>(body: &'b Bytes, reader: &mut Reader<'b>, into: &mut Lines) -> Result<(), MsgpackError> {
    let whole = reader.skip()?;
    let mut fields = Reader::new(whole);
    let Token::Map(count) = fields.token()? else { return Err(MsgpackError::Unexpected("a record, which is a map")) };
    let mut best: Option<(usize, &[u8])> = None;
    let mut structured = false;
    for _ in 0..count {
        let Token::Text(key) = fields.token()? else {
            return Err(MsgpackError::Unexpected("a record, whose keys are text"));
        };
        let value = fields.skip()?;
        structured |= STRUCTURED_KEYS.contains(&key);
        let (Token::Text(text) | Token::Binary(text)) = Reader::new(value).token()? else { continue };
        let rank = LINE_KEYS.iter().position(|known| *known == key).filter(|_| !text.is_empty());
        if let Some(rank) = rank
            && best.is_none_or(|(other, _)| rank < other)
        {
            best = Some((rank, text));
        }
    }
    match best {
        Some((_, text)) if !structured => into.push_all(&body.slice_ref(text)),
        _ => {
            let mut text = String::new();
            json(&mut Reader::new(whole), 0, into.limits().line_bytes, &mut text)?;
            into.push_copied(text);
        }
    }
    Ok(())
}

/// Writes one value as JSON; text that would be longer than `bytes_max` is an error, as half an object is of no use.
fn json(reader: &mut Reader<'_>, depth: usize, bytes_max: usize, out: &mut String) -> Result<(), MsgpackError> {
    if depth > DEPTH_MAX {
        return Err(MsgpackError::Unexpected("a record of at most 16 levels"));
    }
    if out.len() > bytes_max {
        return Err(MsgpackError::Unexpected("a record that fits a line"));
    }
    match reader.token()? {
        Token::Nil => out.push_str("null"),
        Token::Bool(value) => drop(write!(out, "{value}")),
        Token::Unsigned(value) => drop(write!(out, "{value}")),
        Token::Signed(value) => drop(write!(out, "{value}")),
        Token::Float(value) => out.push_str(&serde_json::json!(value).to_string()),
        Token::Text(text) | Token::Binary(text) | Token::Extension(_, text) => quoted(text, out),
        Token::Array(count) => {
            out.push('[');
            for index in 0..count {
                out.push_str(if index > 0 { "," } else { "" });
                json(reader, depth + 1, bytes_max, out)?;
            }
            out.push(']');
        }
        Token::Map(count) => {
            out.push('{');
            for index in 0..count {
                out.push_str(if index > 0 { "," } else { "" });
                let (Token::Text(key) | Token::Binary(key)) = reader.token()? else {
                    return Err(MsgpackError::Unexpected("a record, whose keys are text"));
                };
                quoted(key, out);
                out.push(':');
                json(reader, depth + 1, bytes_max, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn quoted(text: &[u8], out: &mut String) {
    // Text has a JSON form.
    out.push_str(&serde_json::to_string(&String::from_utf8_lossy(text)).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rmpv::Value;

    use super::*;
    use crate::intake::lines::Limits;

    fn packed(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).expect("writes");
        bytes
    }

    fn map(fields: &[(&str, Value)]) -> Value {
        Value::Map(fields.iter().map(|(key, value)| (Value::from(*key), value.clone())).collect())
    }

    fn lines(bytes: Vec<u8>) -> Result<Vec<String>, MsgpackError> {
        let mut lines = Lines::new(Limits { lines: 100, line_bytes: 1000 });
        entries(&bytes.into(), &mut lines)?;
        Ok(lines.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect())
    }

    #[test]
    fn records_become_lines() {
        let check = |record: Value, expected: &str| {
            let time = Value::Ext(0, vec![0x65, 0, 0, 0, 0, 0, 0, 1]);
            let entry = Value::Array(vec![time.clone(), record.clone()]);
            assert_eq!(lines(packed(&entry)).expect("lines"), [expected]);
            let with_metadata = Value::Array(vec![Value::Array(vec![time, map(&[])]), record.clone()]);
            assert_eq!(lines(packed(&with_metadata)).expect("lines"), [expected]);
            assert_eq!(lines(packed(&record)).expect("lines"), [expected]);
        };
        check(map(&[("stream", "stdout".into()), ("log", "GET / 200".into())]), "GET / 200");
        check(map(&[("message", Value::Binary(b"raw".to_vec())), ("n", 1.into())]), "raw");
        check(map(&[("event", "worse".into()), ("line", "better".into())]), "better");
        check(map(&[("code", 200.into()), ("t", 0.5.into()), ("n", Value::Nil)]), r#"{"code":200,"t":0.5,"n":null}"#);
        check(
            map(&[
                ("msg", "handled".into()),
                ("request", map(&[("uri", "/".into()), ("l", Value::Array(vec![Value::from(-1)]))])),
            ]),
            r#"{"msg":"handled","request":{"uri":"/","l":[-1]}}"#,
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        assert_eq!(lines(vec![0xc1]), Err(MsgpackError::Unused));
        assert_eq!(lines(vec![0x92, 0xc0]), Err(MsgpackError::Short));
        assert!(matches!(lines(vec![0x01]), Err(MsgpackError::Unexpected(_))));
        assert!(matches!(lines(vec![0x92, 0x00, 0x01]), Err(MsgpackError::Unexpected(_))));
        assert!(matches!(
            lines([vec![0x81, 0xa1, b'a'], vec![0x91; 200], vec![0]].concat()),
            Err(MsgpackError::Unexpected(_))
        ));
        assert!(matches!(
            lines(packed(&map(&[("a", "x".repeat(2000).into()), ("b", 1.into())]))),
            Err(MsgpackError::Unexpected(_))
        ));
        // Four bytes that say that four thousand million values follow.
        assert_eq!(lines(vec![0xdf, 0xff, 0xff, 0xff, 0xff]), Err(MsgpackError::Short));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::F64),
            any::<f32>().prop_map(Value::F32),
            ".{0,300}".prop_map(Value::from),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(Value::Binary),
            (any::<i8>(), proptest::collection::vec(any::<u8>(), 0..20))
                .prop_map(|(kind, data)| Value::Ext(kind, data)),
        ];
        leaf.prop_recursive(3, 30, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
                proptest::collection::vec((inner.clone(), inner), 0..20).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        /// What another implementation writes ends where it ends, whole or in pieces.
        #[test]
        fn a_value_ends_where_it_ends(value in any_value(), behind: Vec<u8>, piece in 1..50_usize) {
            let bytes = packed(&value);
            let all = [bytes.as_slice(), &behind].concat();
            prop_assert_eq!(Reader::new(&all).skip(), Ok(bytes.as_slice()));
            let mut scanner = Scanner::default();
            let ends: Vec<usize> = (1..=bytes.len().div_ceil(piece))
                .filter_map(|count| scanner.end(&bytes[..bytes.len().min(count * piece)]).expect("sound"))
                .collect();
            prop_assert_eq!(ends, [bytes.len()]);
        }

        #[test]
        fn any_bytes_give_lines_or_an_error(bytes: Vec<u8>) {
            drop(lines(bytes.clone()));
            let _ = Scanner::default().end(&bytes);
        }
    }
}
