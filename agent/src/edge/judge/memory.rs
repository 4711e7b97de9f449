//! Texts that were found ordinary: browsers come in few kinds and sites have pages that everybody asks for, so most
//! requests were looked at before.
//!
//! A fixed table; every text has the one slot that its hash names, and a newcomer takes the place of what stood
//! there. Texts are compared whole: an attacker who knows the hash can make a look-up fail, so that the request is
//! judged again, and nothing else.

/// Bytes at the end of a text that are hashed: where browsers and pages differ.
const HASHED_BYTES: usize = 64;

/// A memory of at most `SLOTS` texts of at most `BYTES` bytes each.
#[derive(Debug, Default)]
pub(super) struct Memory<const SLOTS: usize, const BYTES: usize> {
    slots: Vec<Vec<u8>>,
}

impl<const SLOTS: usize, const BYTES: usize> Memory<SLOTS, BYTES> {
    /// Whether `text`, said `about` something (a method, or nothing), is remembered.
    pub(super) fn knows(&self, about: &[u8], text: &[u8]) -> bool {
        let Some(known) = self.slots.get(hash(text) % SLOTS) else { return false };
        known.len() == about.len() + text.len() + 1 && known.starts_with(about) && known.ends_with(text)
    }

    /// Remembers `text`.
    pub(super) fn remember(&mut self, about: &[u8], text: &[u8]) {
        if about.len() + text.len() + 1 > BYTES {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, Vec::new);
        }
        if let Some(place) = self.slots.get_mut(hash(text) % SLOTS) {
            place.clear();
            place.extend_from_slice(about);
            // Between the two, so that one cannot reach into the other.
            place.push(b' ');
            place.extend_from_slice(text);
        }
    }
}

/// Folds eight bytes at a time with a multiplication by an odd constant (the golden ratio in 64 bits).
fn hash(text: &[u8]) -> usize {
    let fold = |sum: u64, chunk: u64| (sum.rotate_left(5) ^ chunk).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let end = &text[text.len().saturating_sub(HASHED_BYTES)..];
    let (chunks, rest) = end.as_chunks::<8>();
    let sum = chunks.iter().fold(text.len() as u64, |sum, chunk| fold(sum, u64::from_le_bytes(*chunk)));
    let sum = rest.iter().fold(sum, |sum, byte| fold(sum, u64::from(*byte)));
    usize::try_from(sum >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_known_until_it_is_displaced() {
        let mut memory = Memory::<64, 32>::default();
        assert!(!memory.knows(b"", b"") && !memory.knows(b"GET", b"/a"));
        memory.remember(b"GET", b"/a");
        assert!(memory.knows(b"GET", b"/a"));
        for (about, text) in [("POST", "/a"), ("GET", "/b"), ("", "GET /a"), ("GET /", "a"), ("GE", "T /a")] {
            assert!(!memory.knows(about.as_bytes(), text.as_bytes()), "{about} {text}");
        }
        for number in 0..10_000 {
            memory.remember(b"GET", format!("/page/{number}").as_bytes());
        }
        assert!(!memory.knows(b"GET", b"/a"), "displaced by one of so many");
        memory.remember(b"", &[b'x'; 32]);
        assert!(!memory.knows(b"", &[b'x'; 32]));
    }
}
