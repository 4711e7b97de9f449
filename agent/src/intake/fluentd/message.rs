//! One message of the forward protocol. In: a whole MessagePack value. Out: its lines, and the chunk that its sender wants
//! acknowledged. Forms: message `[tag, time, record, option?]`, forward `[tag, [entry…], option?]`, packed forward
//! `[tag, bin, option?]`, the latter also gzipped. Source: Fluentd, "Forward Protocol Specification v1".

use bytes::Bytes;

use crate::intake::content::{ContentError, Unpacking};
use crate::intake::inflate::Coding;
use crate::intake::lines::Lines;
use crate::intake::msgpack::{self, MsgpackError, Reader, Token};

/// Longest chunk id that is acknowledged; they are sixteen bytes in base64.
const CHUNK_BYTES_MAX: usize = 256;

/// What a message says beside its lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::intake) struct Message {
    /// What its sender routes it by.
    pub(in crate::intake) tag: String,
    /// What its sender waits to hear.
    pub(in crate::intake) chunk: Option<Bytes>,
}

#[derive(Default)]
struct Options<'m> {
    chunk: Option<&'m [u8]>,
    compressed: Option<&'m [u8]>,
}

/// Reads a message; `None` for a heartbeat.
pub(in crate::intake) fn read(
    frame: &Bytes,
    unpacking: &mut Unpacking<'_>,
    into: &mut Lines,
) -> Result<Option<Message>, ContentError> {
    let mut reader = Reader::new(frame);
    let count = match reader.token()? {
        Token::Nil => return Ok(None),
        Token::Array(count @ 2..=4) => count,
        _ => return Err(unexpected("a message of the forward protocol")),
    };
    let (Token::Text(tag) | Token::Binary(tag)) = reader.token()? else { return Err(unexpected("a tag")) };
    let tag = String::from_utf8_lossy(tag).into_owned();
    let begin = reader;
    let (packed, used) = match reader.token()? {
        Token::Array(entries) => {
            for _ in 0..entries {
                msgpack::entry(frame, &mut reader, into)?;
                if into.overflow {
                    break;
                }
            }
            (None, 2)
        }
        Token::Text(packed) | Token::Binary(packed) => (Some(packed), 2),
        _ => {
            reader = begin;
            reader.skip()?;
            msgpack::record(frame, &mut reader, into)?;
            (None, 3)
        }
    };
    let options = if count > used && !into.overflow { options(&mut reader)? } else { Options::default() };
    if let Some(packed) = packed {
        entries(frame.slice_ref(packed), options.compressed, unpacking, into)?;
    }
    let chunk = options.chunk.filter(|chunk| chunk.len() <= CHUNK_BYTES_MAX).map(|chunk| frame.slice_ref(chunk));
    Ok(Some(Message { tag, chunk }))
}

fn entries(
    packed: Bytes,
    compressed: Option<&[u8]>,
    unpacking: &mut Unpacking<'_>,
    into: &mut Lines,
) -> Result<(), ContentError> {
    let plain = match compressed {
        None | Some(b"text") => packed,
        Some(b"gzip") => unpacking.inflate(Coding::Gzip, packed)?,
        Some(_) => return Err(unexpected("compressed in a way that is known; set compress to gzip or text")),
    };
    Ok(msgpack::entries(&plain, into)?)
}

fn options<'m>(reader: &mut Reader<'m>) -> Result<Options<'m>, ContentError> {
    let mut options = Options::default();
    let count = match reader.token()? {
        Token::Map(count) => count,
        Token::Nil => 0,
        _ => return Err(unexpected("followed by options")),
    };
    for _ in 0..count {
        let (Token::Text(key) | Token::Binary(key)) = reader.token()? else { return Err(unexpected("an option")) };
        let value = match Reader::new(reader.skip()?).token()? {
            Token::Text(value) | Token::Binary(value) => Some(value),
            _ => None,
        };
        match key {
            b"chunk" => options.chunk = value,
            b"compressed" => options.compressed = value,
            _ => {}
        }
    }
    Ok(options)
}

fn unexpected(what: &'static str) -> ContentError {
    MsgpackError::Unexpected(what).into()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

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

    fn entry(line: &str) -> Value {
        let time = Value::Ext(0, vec![0x65, 0, 0, 0, 0, 0, 0, 1]);
        Value::Array(vec![time, map(&[("log", line.into())])])
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).expect("writes");
        encoder.finish().expect("finishes")
    }

    fn read_all(message: &[u8]) -> Result<(Option<Message>, Vec<String>), ContentError> {
        let mut lines = Lines::new(Limits { lines: 10, line_bytes: 1000 });
        let mut unpacking = Unpacking { bytes_left: 4 << 20, grow: &mut |_| true };
        let message = read(&Bytes::copy_from_slice(message), &mut unpacking, &mut lines)?;
        Ok((message, lines.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()))
    }

    #[test]
    fn every_form_gives_lines_and_the_chunk() {
        let option = map(&[("size", 2.into()), ("chunk", "Y2h1bms=".into())]);
        let entries = [packed(&entry("one")), packed(&entry("two"))].concat();
        // Gzip members may follow one another.
        let gzipped = [gzip(&packed(&entry("one"))), gzip(&packed(&entry("two")))].concat();
        let zipped_option = map(&[("compressed", "gzip".into()), ("chunk", "Y2h1bms=".into())]);
        let tag = Value::from("web.access");
        for message in [
            vec![tag.clone(), Value::Array(vec![entry("one"), entry("two")]), option.clone()],
            vec![tag.clone(), Value::Binary(entries.clone()), option.clone()],
            vec![tag.clone(), Value::Binary(gzipped), zipped_option],
            vec![tag.clone(), 1_700_000_000.into(), map(&[("message", "one\ntwo".into())]), option.clone()],
        ] {
            let (message, lines) = read_all(&packed(&Value::Array(message))).expect("reads");
            let expected = Message { tag: "web.access".into(), chunk: Some(Bytes::from_static(b"Y2h1bms=")) };
            assert_eq!((message, lines), (Some(expected), vec!["one".to_owned(), "two".to_owned()]));
        }
        let without = Value::Array(vec![tag.clone(), Value::Binary(entries)]);
        assert_eq!(read_all(&packed(&without)).expect("reads").0.expect("a message").chunk, None);
        assert_eq!(read_all(&[0xc0]).expect("a heartbeat").0, None);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let check = |value: Value| drop(read_all(&packed(&value)).expect_err("refused"));
        check(Value::from(1));
        check(Value::Array(vec![1.into(), 1.into(), map(&[])]));
        check(Value::Array(vec!["tag".into(), 1.into(), "no record".into()]));
        check(Value::Array(vec!["tag".into(), Value::Binary(vec![0xc1])]));
        check(Value::Array(vec!["tag".into(), Value::Binary(vec![]), map(&[("compressed", "zstd".into())])]));
        check(Value::Array(vec!["tag".into(), Value::Binary(vec![1]), map(&[("compressed", "gzip".into())])]));
        proptest::proptest!(|(bytes: Vec<u8>)| {
            drop(read_all(&bytes));
        });
    }
}
