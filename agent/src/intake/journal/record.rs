//! One batch as bytes of a segment. In: a batch and its position. Out: a record, and the batch again.
//!
//! A record is its payload's length, the payload and the payload's CRC-32, so that a write cut short by a crash and a
//! sector gone bad are both told from a record. Numbers are little-endian. It never does I/O of its own.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use flate2::Crc;

use crate::intake::Batch;
use crate::timestamp::Timestamp;

/// Bytes of a record around its payload: length before, checksum behind.
pub(super) const FRAME_BYTES: u64 = 8;

/// What a payload holds before its lines, the source's name apart: position, time, length of the name, number of lines.
const HEAD_BYTES: usize = 8 + 8 + 2 + 4;

/// A batch as it was taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) position: u64,
    pub(super) received: Timestamp,
    pub(super) source: Arc<str>,
    pub(super) lines: Vec<Bytes>,
}

/// Bytes that [`write`] makes of a batch.
pub(super) fn size(batch: &Batch) -> u64 {
    FRAME_BYTES + payload_size(batch) as u64
}

fn payload_size(batch: &Batch) -> usize {
    HEAD_BYTES + batch.source.len() + batch.lines.iter().map(|line| 4 + line.len()).sum::<usize>()
}

/// Writes a batch as the record `position`.
pub(super) fn write(batch: &Batch, position: u64, to: &mut impl Write) -> io::Result<()> {
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "the batch is too large for a record");
    to.write_all(&u32::try_from(payload_size(batch)).map_err(too_long)?.to_le_bytes())?;
    let mut payload = Summed { to, sum: Crc::new() };
    payload.write_all(&position.to_le_bytes())?;
    payload.write_all(&batch.received.as_unix_nanos().to_le_bytes())?;
    payload.write_all(&u16::try_from(batch.source.len()).map_err(too_long)?.to_le_bytes())?;
    payload.write_all(batch.source.as_bytes())?;
    payload.write_all(&u32::try_from(batch.lines.len()).map_err(too_long)?.to_le_bytes())?;
    for line in &batch.lines {
        payload.write_all(&u32::try_from(line.len()).map_err(too_long)?.to_le_bytes())?;
        payload.write_all(line)?;
    }
    let sum = payload.sum.sum();
    to.write_all(&sum.to_le_bytes())
}

/// Reads a payload whose checksum is `sum`; `None` when it is none of ours.
pub(super) fn read(payload: Bytes, sum: u32) -> Option<Record> {
    let mut actual = Crc::new();
    actual.update(&payload);
    if actual.sum() != sum {
        return None;
    }
    let mut rest = payload;
    let position = rest.try_get_u64_le().ok()?;
    let received = Timestamp::from_unix_nanos(rest.try_get_i64_le().ok()?);
    let length = rest.try_get_u16_le().ok()?;
    let source = std::str::from_utf8(&take(&mut rest, usize::from(length))?).ok()?.into();
    let count = rest.try_get_u32_le().ok()?;
    let mut lines = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
        lines.push(take(&mut rest, length)?);
    }
    rest.is_empty().then_some(Record { position, received, source, lines })
}

fn take(from: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= from.len()).then(|| from.split_to(length))
}

/// Sums what passes through.
struct Summed<'w, W> {
    to: &'w mut W,
    sum: Crc,
}

impl<W: Write> Write for Summed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(batch: &Batch) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(batch, 7, &mut bytes).expect("writes");
        assert_eq!(bytes.len() as u64, size(batch));
        bytes
    }

    fn taken_apart(bytes: &[u8]) -> Option<Record> {
        let (payload, sum) = bytes[4..].split_at(bytes.len() - 8);
        read(Bytes::copy_from_slice(payload), u32::from_le_bytes(sum.try_into().expect("four bytes")))
    }

    #[test]
    fn what_was_written_is_read() {
        proptest::proptest!(|(lines: Vec<Vec<u8>>, source: String, at: i64)| {
            let received = Timestamp::from_unix_nanos(at);
            let lines: Vec<Bytes> = lines.into_iter().map(Bytes::from).collect();
            let batch = Batch::new(source.as_str().into(), received, lines.clone());
            let expected = Record { position: 7, received, source: source.as_str().into(), lines };
            assert_eq!(taken_apart(&written(&batch)), Some(expected));
        });
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let batch = Batch::new("http".into(), Timestamp::MIN, vec![Bytes::from_static(b"a line"); 3]);
        let bytes = written(&batch);
        for index in 4..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 0x20;
            assert_eq!(taken_apart(&changed), None, "byte {index}");
        }
    }

    #[test]
    fn any_payload_is_read_or_refused() {
        proptest::proptest!(|(payload: Vec<u8>)| {
            let mut sum = Crc::new();
            sum.update(&payload);
            drop(read(Bytes::from(payload), sum.sum()));
        });
    }
}
