//! Content in, a 64-bit fingerprint out: the same on every machine and after every restart, so that identity and tie-breaks
//! never depend on arrival. Not keyed: whoever forges a collision only makes two of his own lines count as one.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::request::AccessRecord;

/// Fingerprint of a value by its `Hash`.
pub(super) fn of(value: &impl Hash) -> u64 {
    let mut hasher = StableHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Bytes of each text of a line that its fingerprint covers: what is kept of it.
pub(super) const TEXT_MAX: usize = 2048;

/// Fingerprint of an access-log line: a line delivered twice has one, two lines that tell of different requests have two.
pub(super) fn of_record(record: &AccessRecord<'_>) -> u64 {
    let mut hasher = StableHasher::default();
    (record.received, record.completed, record.client, record.target).hash(&mut hasher);
    (record.status, record.target_status, record.received_bytes, record.sent_bytes).hash(&mut hasher);
    for text in [record.method, record.path_and_query, record.trace_id] {
        text[..text.len().min(TEXT_MAX)].hash(&mut hasher);
    }
    hasher.finish()
}

/// For tables whose keys come from this host, or are fingerprints already; their order is never looked at.
pub(super) type Hashed = BuildHasherDefault<StableHasher>;

/// Eight bytes at a time through a multiply-and-fold; a hit on the edge road costs tens of nanoseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct StableHasher(u64);

impl StableHasher {
    fn push(&mut self, word: u64) {
        let product = u128::from(self.0.rotate_left(23) ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        #[expect(clippy::cast_possible_truncation, reason = "both halves are folded together on purpose")]
        let folded = (product >> 64) as u64 ^ product as u64;
        self.0 = folded;
    }
}

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.push(u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        }
        let mut tail = [0; 8];
        tail[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        self.push(u64::from_le_bytes(tail) ^ ((bytes.len() as u64) << 56));
    }

    fn write_u64(&mut self, word: u64) {
        self.push(word);
    }

    fn write_i64(&mut self, word: i64) {
        self.push(word.cast_unsigned());
    }

    fn write_usize(&mut self, word: usize) {
        self.push(word as u64);
    }

    fn finish(&self) -> u64 {
        let mut word = self.0;
        word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        word ^ (word >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_differs_looks_the_same() {
        let check = |a: &str, b: &str| assert_ne!(of(&a), of(&b), "{a:?} {b:?}");
        check("", "a");
        check("abcdefgh", "abcdefgh\0");
        check("abcdefghi", "abcdefghj");
        assert_ne!(of(&("ab", "c")), of(&("a", "bc")));
        assert_eq!(of(&"abc"), of(&String::from("abc")));
    }
}
