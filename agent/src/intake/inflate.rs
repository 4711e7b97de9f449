//! Content codings of a request body. In: the body as received and its `Content-Encoding`. Out: the plain body, or why
//! not.
//!
//! A small body can stand for a very large one (1:1032 for deflate), so output is bounded in bytes, in ratio, and by
//! the room that the queue grants chunk by chunk.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Output is asked for and granted in chunks of this size.
const CHUNK_BYTES: usize = 64 << 10;

/// Output up to here may have any ratio: a short body of equal lines is no bomb.
const RATIO_FREE_BYTES: usize = 1 << 20;

/// Output bytes per input byte beyond that. Access logs reach 10 to 30; what lies far above was made to hurt.
const RATIO_MAX: usize = 250;

/// A content coding (RFC 9110 8.4.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// RFC 1952, several members too.
    Gzip,
    /// RFC 1950, or the bare RFC 1951 stream.
    Deflate,
}

impl Coding {
    /// From a `Content-Encoding` value; `None` for what is not supported, several codings included.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        match value.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Some(Self::Identity),
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"deflate" => Some(Self::Deflate),
            _ => None,
        }
    }
}

/// Why a body does not decode.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// Past the limit.
    #[error("the body unpacks to more than {0} bytes; send smaller batches")]
    TooLarge(usize),
    /// Made to hurt.
    #[error("the body unpacks to more than {RATIO_MAX} times its size; send it in another encoding if it is sound")]
    Ratio,
    /// Not of that coding.
    #[error("the body is not valid {0:?}: {1}")]
    Corrupt(Coding, String),
    /// The queue is full.
    #[error("no room for the unpacked body at the moment")]
    NoRoom,
}

/// Unpacks `body` to at most `bytes_max`. `grow` is asked before each chunk of output is kept.
pub(super) fn inflate(
    coding: Coding,
    body: Bytes,
    bytes_max: usize,
    grow: &mut dyn FnMut(usize) -> bool,
) -> Result<Bytes, InflateError> {
    let input = body.as_ref();
    match coding {
        Coding::Identity if body.len() > bytes_max => Err(InflateError::TooLarge(bytes_max)),
        Coding::Identity => Ok(body),
        Coding::Gzip => collect(coding, MultiGzDecoder::new(input), input.len(), bytes_max, grow),
        // "deflate" means the zlib format (RFC 9110 8.4.1.2), yet some senders write the bare stream.
        Coding::Deflate if is_zlib(input) => collect(coding, ZlibDecoder::new(input), input.len(), bytes_max, grow),
        Coding::Deflate => collect(coding, DeflateDecoder::new(input), input.len(), bytes_max, grow),
    }
}

/// RFC 1952 2.3.1.
pub(super) fn is_gzip(input: &[u8]) -> bool {
    input.starts_with(&[0x1f, 0x8b])
}

/// RFC 1950 2.2: compression method 8, and a header that is a multiple of 31.
fn is_zlib(input: &[u8]) -> bool {
    matches!(input, [first, second, ..]
        if first & 0x0f == 8 && u16::from_be_bytes([*first, *second]) % 31 == 0)
}

fn collect(
    coding: Coding,
    mut decoder: impl Read,
    input_bytes: usize,
    bytes_max: usize,
    grow: &mut dyn FnMut(usize) -> bool,
) -> Result<Bytes, InflateError> {
    let mut output = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = match decoder.read(&mut chunk) {
            Ok(0) => return Ok(output.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(InflateError::Corrupt(coding, error.to_string())),
        };
        let length = output.len() + read;
        if length > bytes_max {
            return Err(InflateError::TooLarge(bytes_max));
        }
        if length > RATIO_FREE_BYTES && length / RATIO_MAX > input_bytes {
            return Err(InflateError::Ratio);
        }
        if !grow(read) {
            return Err(InflateError::NoRoom);
        }
        output.extend_from_slice(&chunk[..read]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const LIMIT: usize = 4 << 20;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).expect("writes");
        encoder.finish().expect("finishes")
    }

    fn check(coding: Coding, body: Vec<u8>, expected: Result<&[u8], InflateError>) {
        let inflated = inflate(coding, body.into(), LIMIT, &mut |_| true);
        assert_eq!(inflated.as_deref(), expected.as_deref().map_err(|_| expected.as_ref().expect_err("an error")));
    }

    #[test]
    fn every_coding_is_undone() {
        let plain = b"one line\nanother line\n".as_slice();
        check(Coding::Identity, plain.to_vec(), Ok(plain));
        check(Coding::Gzip, gzip(plain), Ok(plain));
        check(Coding::Gzip, [gzip(b"one line\n"), gzip(b"another line\n")].concat(), Ok(plain));
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(plain).expect("writes");
        check(Coding::Deflate, zlib.finish().expect("finishes"), Ok(plain));
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::fast());
        bare.write_all(plain).expect("writes");
        check(Coding::Deflate, bare.finish().expect("finishes"), Ok(plain));
    }

    #[test]
    fn bombs_are_refused_early() {
        let mut granted = 0;
        let bomb = gzip(&vec![b'a'; 64 << 20]);
        let refused = inflate(Coding::Gzip, bomb.clone().into(), LIMIT, &mut |bytes| {
            granted += bytes;
            true
        });
        assert!(matches!(refused, Err(InflateError::TooLarge(LIMIT) | InflateError::Ratio)), "{refused:?}");
        assert!(granted <= LIMIT);
        check(Coding::Gzip, gzip(&vec![b'a'; 3 << 20]), Err(InflateError::Ratio));
        let refused = inflate(Coding::Gzip, bomb.into(), LIMIT, &mut |_| false);
        assert_eq!(refused, Err(InflateError::NoRoom));
    }

    #[test]
    fn what_does_not_decode_says_so() {
        let mut cut = gzip(b"one line\n");
        cut.truncate(15);
        for (coding, body) in [(Coding::Gzip, cut), (Coding::Gzip, b"plain".to_vec()), (Coding::Deflate, vec![0xff; 9])]
        {
            let refused = inflate(coding, body.into(), LIMIT, &mut |_| true);
            assert!(matches!(refused, Err(InflateError::Corrupt(..))), "{refused:?}");
        }
    }

    #[test]
    fn encodings_by_name() {
        let check = |value: &str, expected| assert_eq!(Coding::parse(value.as_bytes()), expected, "{value}");
        check("", Some(Coding::Identity));
        check("GZip", Some(Coding::Gzip));
        check(" x-gzip ", Some(Coding::Gzip));
        check("deflate", Some(Coding::Deflate));
        check("zstd", None);
        check("gzip, gzip", None);
    }
}
