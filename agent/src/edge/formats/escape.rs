//! Undoes what a log did to the client's bytes, once: what comes out is what the client sent, still encoded as it sent it.
//!
//! Bytes in, bytes out, never longer than before. What is not a whole escape stays as it is.

use memchr::memchr;

use crate::request::{AccessRecord, LogEscape};

/// Buffers that a record's unescaped texts live in, kept between lines so that they allocate only while they grow.
#[derive(Debug, Default)]
pub struct Unescaped {
    target: Vec<u8>,
    user_agent: Vec<u8>,
    referer: Vec<u8>,
    authority: Vec<u8>,
    room: Vec<u8>,
}

impl Unescaped {
    /// The record as a reader of requests wants it: path and query in one, the log's escapes undone. Backslash escapes are
    /// left in (`escape` says so): the judge undoes them with the client's own, and lines that have no others pass
    /// through here untouched.
    pub fn record<'r>(&'r mut self, record: &AccessRecord<'r>) -> AccessRecord<'r> {
        let kept = matches!(record.escape, LogEscape::Backslash | LogEscape::Raw);
        if kept && record.query.is_empty() {
            return *record;
        }
        self.target.clear();
        let escape = if kept { LogEscape::Raw } else { record.escape };
        self.target.extend_from_slice(unescape(escape, record.path_and_query, &mut self.room));
        if !record.query.is_empty() {
            self.target.push(b'?');
            self.target.extend_from_slice(unescape(escape, record.query, &mut self.room));
        }
        AccessRecord {
            path_and_query: &self.target,
            query: b"",
            user_agent: unescape(escape, record.user_agent, &mut self.user_agent),
            referer: unescape(escape, record.referer, &mut self.referer),
            authority: unescape(escape, record.authority, &mut self.authority),
            escape: if kept { record.escape } else { LogEscape::Raw },
            ..*record
        }
    }
}

/// `text` as the client sent it. It is lent back unchanged where nothing was escaped, else written to `room`, which is
/// cleared first.
pub fn unescape<'t>(escape: LogEscape, text: &'t [u8], room: &'t mut Vec<u8>) -> &'t [u8] {
    let (mark, one): (u8, Undo) = match escape {
        LogEscape::Raw => return text,
        LogEscape::Backslash => (b'\\', backslash),
        LogEscape::Json => (b'\\', json),
        LogEscape::Percent => (b'%', |text| two_digits(text, 1)),
        LogEscape::Hash => (b'#', |text| two_digits(text, 1)),
    };
    if memchr(mark, text).is_none() {
        return text;
    }
    room.clear();
    let mut rest = text;
    while let Some(at) = memchr(mark, rest) {
        room.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let found = one(rest).unwrap_or(Escape::byte(mark, 1));
        room.extend_from_slice(&found.bytes[..found.filled]);
        rest = &rest[found.length..];
    }
    room.extend_from_slice(rest);
    room
}

/// Reads the escape at the front of a text, if it is a whole one.
type Undo = fn(&[u8]) -> Option<Escape>;

/// One escape: what it stands for, and how long it was.
struct Escape {
    bytes: [u8; 4],
    filled: usize,
    length: usize,
}

impl Escape {
    const fn byte(byte: u8, length: usize) -> Self {
        Self { bytes: [byte, 0, 0, 0], filled: 1, length }
    }
}

/// `\xHH`, `\"`, `\\`.
fn backslash(text: &[u8]) -> Option<Escape> {
    match text.get(1)? {
        b'x' | b'X' => two_digits(text, 2),
        found @ (b'"' | b'\\') => Some(Escape::byte(*found, 2)),
        _ => None,
    }
}

/// The escapes of RFC 8259, section 7, and `\xHH`, which nginx's default escape leaves in a hand-written JSON format.
fn json(text: &[u8]) -> Option<Escape> {
    match text.get(1)? {
        found @ (b'"' | b'\\' | b'/') => Some(Escape::byte(*found, 2)),
        b'b' => Some(Escape::byte(8, 2)),
        b'f' => Some(Escape::byte(12, 2)),
        b'n' => Some(Escape::byte(b'\n', 2)),
        b'r' => Some(Escape::byte(b'\r', 2)),
        b't' => Some(Escape::byte(b'\t', 2)),
        b'x' => two_digits(text, 2),
        b'u' => unicode(text),
        _ => None,
    }
}

/// `\uHHHH`, or two of them that make a surrogate pair. A surrogate alone is no character and stays as it is.
fn unicode(text: &[u8]) -> Option<Escape> {
    let high = hex(text.get(2..6)?)?;
    let (code, length) = match high {
        0xD800..=0xDBFF => {
            let low = text.get(6..12).filter(|low| low.starts_with(b"\\u")).and_then(|low| hex(&low[2..]))?;
            let low = low.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
            (0x1_0000 + ((high - 0xD800) << 10) + low, 12)
        }
        _ => (high, 6),
    };
    let mut bytes = [0; 4];
    let filled = char::from_u32(code)?.encode_utf8(&mut bytes).len();
    Some(Escape { bytes, filled, length })
}

/// Two hexadecimal digits behind `skip` bytes.
fn two_digits(text: &[u8], skip: usize) -> Option<Escape> {
    let value = hex(text.get(skip..skip + 2)?)?;
    Some(Escape::byte(u8::try_from(value).ok()?, skip + 2))
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_layer_is_undone() {
        let check = |escape: LogEscape, text: &str, expected: &str| {
            let mut room = vec![b'!'; 3];
            let found = unescape(escape, text.as_bytes(), &mut room);
            assert_eq!(String::from_utf8_lossy(found), expected, "{text}");
        };
        check(LogEscape::Backslash, r"/a?b=\x22%2527\\x", r#"/a?b="%2527\x"#);
        check(LogEscape::Backslash, r#"\"\q\x2\"#, r#""\q\x2\"#);
        check(LogEscape::Json, r#"\/a\u003cb\"\\\n\u00e9"#, "/a<b\"\\\n\u{e9}");
        check(LogEscape::Json, r"\ud83d\ude00 \ud83d \udE00\u12", "\u{1F600} \\ud83d \\udE00\\u12");
        check(LogEscape::Percent, "%2527%20%zz%4", "%27 %zz%4");
        check(LogEscape::Hash, "/a#22#23#b", "/a\"##b");
        check(LogEscape::Raw, r"\x22%22#22", r"\x22%22#22");
        check(LogEscape::Json, "plain", "plain");
    }

    #[test]
    fn a_record_is_read_as_the_client_sent_it() {
        let now = crate::timestamp::Timestamp::default();
        let check = |escape: LogEscape, path: &str, query: &str, expected: &str| {
            let logged = AccessRecord {
                path_and_query: path.as_bytes(),
                query: query.as_bytes(),
                user_agent: path.as_bytes(),
                escape,
                ..AccessRecord::blank(now, now)
            };
            let mut room = Unescaped::default();
            let record = room.record(&logged);
            assert_eq!(String::from_utf8_lossy(record.path_and_query), expected, "{path} {query}");
        };
        check(LogEscape::Percent, "/a%2527", "b=%253C", "/a%27?b=%3C");
        check(LogEscape::Json, r"\/a\u003c", "", "/a<");
        check(LogEscape::Backslash, r"/a\x22", "", r"/a\x22");
        check(LogEscape::Backslash, "/a", r"b=\x22", r"/a?b=\x22");
        check(LogEscape::Hash, "/a#22?b", "", "/a\"?b");
    }

    proptest::proptest! {
        #[test]
        fn text_never_grows(text in "[\\\\%#ud0-9a-fx\"]{0,60}") {
            for escape in
                [LogEscape::Backslash, LogEscape::Json, LogEscape::Percent, LogEscape::Hash, LogEscape::Raw]
            {
                let mut room = Vec::new();
                proptest::prop_assert!(unescape(escape, text.as_bytes(), &mut room).len() <= text.len());
            }
        }
    }
}
