//! What a request says, by the protocol its sender speaks. In: the plain body. Out: its lines, and what the answer depends on.
//! Pure: whoever calls reads, unpacks and answers.

use bytes::Bytes;

use super::body::{self, BodyError};
use super::inflate::{Coding, InflateError, inflate};
use super::lines::{Limits, Lines};
use super::msgpack::{self, MsgpackError};
use super::{firehose, otlp, pubsub};

/// How a body is written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Lines, or JSON in any of the shapes that forwarders give it, which its content type may have declared.
    Lines {
        /// It did.
        declared_json: bool,
    },
    /// MessagePack entries.
    Msgpack,
    /// Amazon Data Firehose.
    Firehose,
    /// Google Pub/Sub push.
    PubSub,
    /// OTLP logs as protobuf.
    OtlpProtobuf,
    /// OTLP logs as JSON.
    OtlpJson,
}

/// Why a body gives no lines.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Lines or JSON of no protocol.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// MessagePack.
    #[error(transparent)]
    Msgpack(#[from] MsgpackError),
    /// What lies packed within does not unpack.
    #[error(transparent)]
    Inflate(#[from] InflateError),
    /// JSON of a protocol.
    #[error("the body is not what this protocol sends: {0}")]
    Json(String),
    /// Protobuf.
    #[error("the body is not an OTLP logs request: {0}")]
    Protobuf(&'static str),
    /// Data within JSON.
    #[error("the data is not base64: {0}")]
    Base64(String),
}

impl From<serde_json::Error> for ContentError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error.to_string())
    }
}

/// A body, read.
#[derive(Debug)]
pub struct Content {
    /// Its lines.
    pub(super) lines: Lines,
    /// The name under which its sender would repeat it.
    pub(super) id: Option<String>,
    /// Records that hold nothing to judge.
    pub(super) rejected: usize,
}

impl Content {
    /// How many lines there are, how many of them were cut, and how many records held none.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.lines.lines.len(), self.lines.cut, self.rejected)
    }
}

/// What unpacking within a body may use.
pub(super) struct Unpacking<'g> {
    pub(super) bytes_left: usize,
    pub(super) grow: &'g mut dyn FnMut(usize) -> bool,
}

impl Unpacking<'_> {
    /// Unpacks `packed`, within what is left.
    pub(super) fn inflate(&mut self, coding: Coding, packed: Bytes) -> Result<Bytes, InflateError> {
        let plain = inflate(coding, packed, self.bytes_left, self.grow)?;
        self.bytes_left -= plain.len();
        Ok(plain)
    }

    /// Decodes standard base64.
    pub(super) fn base64(&mut self, text: &str) -> Result<Bytes, ContentError> {
        if !(self.grow)(text.len() / 4 * 3) {
            return Err(InflateError::NoRoom.into());
        }
        firehose::decode(text).map(Bytes::from)
    }
}

impl Protocol {
    /// Reads a plain body. Whatever is packed within it unpacks to `unpacked_bytes_max` at most; `grow` is asked before
    /// memory is taken.
    ///
    /// # Errors
    ///
    /// It is not written so, or past a bound; then none of its lines count.
    pub fn read(
        self,
        body: &Bytes,
        limits: Limits,
        unpacked_bytes_max: usize,
        grow: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Content, ContentError> {
        let mut lines = Lines::new(limits);
        let mut unpacking = Unpacking { bytes_left: unpacked_bytes_max, grow };
        let (mut id, mut rejected) = (None, 0);
        match self {
            Self::Lines { declared_json } => body::read(body, declared_json, &mut lines)?,
            Self::Msgpack => msgpack::entries(body, &mut lines)?,
            Self::Firehose => id = Some(firehose::read(body, &mut unpacking, &mut lines)?),
            Self::PubSub => id = Some(pubsub::read(body, &mut unpacking, &mut lines)?),
            Self::OtlpProtobuf => rejected = otlp::protobuf::read(body, &mut lines)?,
            Self::OtlpJson => rejected = otlp::json::read(body, &mut lines)?,
        }
        if lines.overflow {
            return Err(BodyError::TooManyLines(limits.lines).into());
        }
        Ok(Content { lines, id: id.filter(|id| !id.is_empty()), rejected })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const LIMITS: Limits = Limits { lines: 10, line_bytes: 4000 };

    pub(in crate::intake) fn read(protocol: Protocol, body: &[u8]) -> Result<Content, ContentError> {
        protocol.read(&Bytes::copy_from_slice(body), LIMITS, 1 << 20, &mut |_| true)
    }

    pub(in crate::intake) fn check(protocol: Protocol, body: &[u8], expected: &[&str]) {
        let content = read(protocol, body).expect("lines");
        let texts: Vec<_> = content.lines.lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
        assert_eq!(texts, expected);
    }

    pub(in crate::intake) fn refused(protocol: Protocol, body: &[u8], expected: &str) {
        let error = read(protocol, body).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn any_bytes_give_lines_or_an_error() {
        use Protocol::{Firehose, OtlpJson, OtlpProtobuf, PubSub};
        const TOKENS: [&str; 22] = [
            "{",
            "}",
            "[",
            "]",
            "\"",
            ":",
            ",",
            "\"requestId\":",
            "\"records\":",
            "\"data\":",
            "\"message\":",
            "\"resourceLogs\":",
            "\"scopeLogs\":",
            "\"logRecords\":",
            "\"body\":",
            "\"stringValue\":",
            "\"kvlistValue\":",
            "\"values\":",
            "\"key\":",
            "\"a\"",
            "null",
            "1",
        ];
        let token = proptest::sample::select(&TOKENS[..]);
        proptest::proptest!(|(bytes: Vec<u8>, parts in proptest::collection::vec(token, 0..30))| {
            for protocol in [Firehose, PubSub, OtlpJson, OtlpProtobuf] {
                drop(read(protocol, &bytes));
                drop(read(protocol, parts.concat().as_bytes()));
            }
        });
    }
}
