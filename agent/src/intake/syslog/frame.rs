//! Syslog over a stream cut into messages (RFC 6587): octet-counted (`LENGTH SP MESSAGE`) or ended by LF or NUL, told apart for
//! each message by its beginning. In: bytes as they come. Out: messages; never more is kept than one message.

use bytes::{Buf, Bytes, BytesMut};

use crate::intake::LINE_BYTES_MAX;

/// Longest message: the longest line and a header before it.
const MESSAGE_BYTES_MAX: usize = LINE_BYTES_MAX + 2048;

/// Digits of the largest length that is taken.
const DIGITS_MAX: usize = 6;

/// Why a stream cannot be read on.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::intake) enum FrameError {
    #[error("a message of {0} bytes is announced; {MESSAGE_BYTES_MAX} are the most")]
    TooLong(usize),
    #[error("the stream is compressed as only rsyslog does it; set compression.mode to none")]
    Compressed,
}

/// Bytes of a stream that are not yet messages.
#[derive(Debug, Default)]
pub(in crate::intake) struct Framer {
    buffer: BytesMut,
    /// The rest of a message that was passed on cut.
    skipping: bool,
}

impl Framer {
    /// Where the next bytes go.
    pub(in crate::intake) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether a message has begun.
    pub(in crate::intake) fn is_within_message(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next whole message.
    pub(in crate::intake) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            while !self.skipping && matches!(self.buffer.first(), Some(b'\n' | b'\r' | 0 | b' ')) {
                self.buffer.advance(1); // what some senders put behind a counted message
            }
            if self.buffer.starts_with(b"zx") {
                return Err(FrameError::Compressed);
            }
            match self.counted()? {
                Counted::Message(begin, length) => {
                    self.buffer.advance(begin);
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
                Counted::Incomplete => return Ok(None),
                Counted::No => {}
            }
            if let Some(end) = memchr::memchr2(b'\n', 0, &self.buffer) {
                let message = self.buffer.split_to(end).freeze();
                self.buffer.advance(1);
                if std::mem::take(&mut self.skipping) || message.is_empty() {
                    continue;
                }
                return Ok(Some(message));
            }
            return Ok(self.overlong());
        }
    }

    /// What is left when the stream ends is a message too, unless it was announced longer.
    pub(in crate::intake) fn last(&mut self) -> Option<Bytes> {
        let counted = !matches!(self.counted(), Ok(Counted::No));
        let rest = self.buffer.split().freeze();
        (!rest.is_empty() && !counted && !self.skipping).then_some(rest)
    }

    /// Without an end in sight the beginning is passed on, and the rest passed over.
    fn overlong(&mut self) -> Option<Bytes> {
        if self.buffer.len() <= MESSAGE_BYTES_MAX {
            return None;
        }
        let message = self.buffer.split().freeze();
        (!std::mem::replace(&mut self.skipping, true)).then_some(message)
    }

    /// Looks for a length at the beginning. `<` must follow it, since a plain line may begin with a number as well.
    fn counted(&self) -> Result<Counted, FrameError> {
        if self.skipping || !matches!(self.buffer.first(), Some(b'1'..=b'9')) {
            return Ok(Counted::No);
        }
        let digits = self.buffer.iter().take(DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
        match (self.buffer.get(digits), self.buffer.get(digits + 1)) {
            _ if digits > DIGITS_MAX => Ok(Counted::No),
            (None, _) | (Some(b' '), None) => Ok(Counted::Incomplete),
            (Some(b' '), Some(b'<')) => {
                let length = self.buffer[..digits].iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
                if length > MESSAGE_BYTES_MAX {
                    return Err(FrameError::TooLong(length));
                }
                let whole = self.buffer.len() >= digits + 1 + length;
                Ok(if whole { Counted::Message(digits + 1, length) } else { Counted::Incomplete })
            }
            _ => Ok(Counted::No),
        }
    }
}

enum Counted {
    /// Begins at, and has so many bytes.
    Message(usize, usize),
    Incomplete,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<String>, FrameError> {
        let mut framer = Framer::default();
        let mut messages = Vec::new();
        for piece in pieces {
            framer.buffer().extend_from_slice(piece);
            while let Some(message) = framer.next()? {
                messages.push(message);
            }
        }
        messages.extend(framer.last());
        Ok(messages.iter().map(|message| String::from_utf8_lossy(message).into_owned()).collect())
    }

    #[test]
    fn both_framings_in_one_stream() {
        let check = |stream: &str, expected: &[&str]| {
            assert_eq!(read(&[stream.as_bytes()]).expect("sound"), expected, "{stream}");
            let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
            assert_eq!(read(&bytes).expect("sound"), expected, "{stream}, byte by byte");
        };
        check("<1>a\n<2>b\r\n<3>c", &["<1>a", "<2>b\r", "<3>c"]);
        check("4 <1>a5 <2>b\n4 <3>c", &["<1>a", "<2>b\n", "<3>c"]);
        check("4 <1>a\n<2>b\n4 <3>c", &["<1>a", "<2>b", "<3>c"]);
        check("<1>a\0<2>b\0\n\n", &["<1>a", "<2>b"]);
        check("10.0.0.1 - GET\n200 OK\n", &["10.0.0.1 - GET", "200 OK"]);
        check("9 <1>a", &[]);
        check("", &[]);
    }

    #[test]
    fn bounds_hold() {
        assert_eq!(read(&[b"99999 <1>a"]), Err(FrameError::TooLong(99_999)));
        assert_eq!(read(&[b"zx\x9c...."]), Err(FrameError::Compressed));
        let long = vec![b'a'; MESSAGE_BYTES_MAX + 1];
        let messages = read(&[&long, &long, b"more\n<1>b\n"]).expect("sound");
        assert_eq!(messages.iter().map(String::len).collect::<Vec<_>>(), [long.len(), 4]);
        assert_eq!(read(&[&[b'1'; 100], b"\n"]).expect("sound").len(), 1);
    }

    #[test]
    fn any_bytes_in_any_pieces_are_bounded() {
        proptest::proptest!(|(bytes: Vec<u8>, pattern in "([0-9]{1,3} |<|\n|a){0,40}", piece in 1..9_usize)| {
            for stream in [&bytes[..], pattern.as_bytes()] {
                let pieces: Vec<&[u8]> = stream.chunks(piece).collect();
                if let Ok(messages) = read(&pieces) {
                    assert!(messages.iter().map(String::len).sum::<usize>() <= 3 * stream.len());
                }
            }
        });
    }
}
