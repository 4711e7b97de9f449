//! Texts in which nothing was found: browsers come in few kinds and sites have pages that everybody asks for, so most
//! requests were looked at before.
//!
//! A text and what was said about it go in, whether the same was remembered comes out. Nothing of a text is kept but a
//! keyed hash of 128 bits: UMAC's NH (Black, Halevi, Krawczyk, Krovetz, Rogaway 1999; RFC 4418, section 5.2.2) over
//! words of 64 bits, under which two texts of an attacker's choice agree with a chance of 2^-64 as long as the key
//! is unknown. The key is drawn for every memory and never leaves it, so nobody can write an attack that
//! passes for a page seen before. A fixed table: every text has the one slot that its hash names, and a newcomer takes
//! the place of what stood there.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Bytes that one multiplication of the hash takes in, and of the shortest text that is remembered: shorter ones are
/// looked at as fast as they are looked up.
const BLOCK: usize = 16;

/// Longest text that is remembered: the hash needs a key as long as its text, and what is longer seldom comes twice. Long
/// targets are the dearest to judge: with 512 here they took most of the time that ordinary requests take.
const LONGEST: usize = 2048;

/// Words of the key: two for every block, for what is said about the text, and for its last bytes.
const KEY_WORDS: usize = 2 * (LONGEST / BLOCK + 2);

/// A memory of at most `SLOTS` texts, sixteen bytes each.
#[derive(Debug)]
pub(super) struct Memory<const SLOTS: usize> {
    key: Box<[u64; KEY_WORDS]>,
    slots: Vec<Digest>,
}

/// The hash of a text and of what was said about it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest(u128);

impl<const SLOTS: usize> Default for Memory<SLOTS> {
    fn default() -> Self {
        // SipHash under a key of the operating system's, of the numbers of the words.
        let random = RandomState::new();
        let mut key = Box::new([0; KEY_WORDS]);
        key.iter_mut().enumerate().for_each(|(number, word)| *word = random.hash_one(number));
        Self { key, slots: vec![Digest::default(); SLOTS] }
    }
}

impl<const SLOTS: usize> Memory<SLOTS> {
    /// The hash of `text`, said `about` something (a method, or nothing) and of some `kind`. `None` for what is not
    /// remembered: texts too short or too long, and long `about`s.
    #[inline]
    pub(super) fn digest(&self, about: &[u8], kind: u8, text: &[u8]) -> Option<Digest> {
        let last = text.last_chunk::<BLOCK>().filter(|_| text.len() <= LONGEST)?;
        let mut head = [0; BLOCK];
        let (room, lengths) = head.split_at_mut(BLOCK / 2);
        room.get_mut(..about.len())?.copy_from_slice(about);
        // Both lengths are part of what is hashed: a text is never another's beginning.
        let length = u16::try_from(text.len()).ok()?.to_le_bytes();
        lengths[..4].copy_from_slice(&[u8::try_from(about.len()).ok()?, kind, length[0], length[1]]);
        // The last block is hashed as a whole, most of its bytes twice.
        let blocks = [&head, last].into_iter().chain(text.as_chunks::<BLOCK>().0);
        let sum = blocks.zip(self.key.as_chunks::<2>().0).fold(0_u128, |sum, (block, key)| {
            let block = u128::from_le_bytes(*block);
            let half = |word: u128, key: u64| u128::from(low(word).wrapping_add(key));
            sum.wrapping_add(half(block, key[0]).wrapping_mul(half(block >> 64, key[1])))
        });
        Some(Digest(sum))
    }

    /// Whether the text of `digest` is remembered.
    #[inline]
    pub(super) fn knows(&self, digest: Digest) -> bool {
        self.slots.get(slot::<SLOTS>(digest)) == Some(&digest)
    }

    /// Remembers the text of `digest`, in the place of another.
    #[inline]
    pub(super) fn remember(&mut self, digest: Digest) {
        if let Some(slot) = self.slots.get_mut(slot::<SLOTS>(digest)) {
            *slot = digest;
        }
    }
}

/// The low half of `word`.
#[inline]
const fn low(word: u128) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = word.to_le_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The slot of a hash: both halves folded and spread by a multiplication with the golden ratio.
#[inline]
fn slot<const SLOTS: usize>(digest: Digest) -> usize {
    let folded = low(digest.0 ^ digest.0 >> 64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from(folded >> 32).unwrap_or_default() % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has<const SLOTS: usize>(memory: &Memory<SLOTS>, about: &str, text: &[u8]) -> bool {
        memory.digest(about.as_bytes(), 0, text).is_some_and(|digest| memory.knows(digest))
    }

    #[test]
    fn what_was_remembered_is_known_until_it_is_displaced() {
        let mut memory = Memory::<64>::default();
        let page = b"/a/page/of/some/length";
        assert!(!has(&memory, "GET", page));
        let digest = memory.digest(b"GET", 0, page).unwrap();
        memory.remember(digest);
        assert!(has(&memory, "GET", page));
        assert!(!memory.knows(memory.digest(b"GET", 1, page).unwrap()), "of another kind");
        let others = [("POST", &page[..]), ("GET\0", page), ("GE", page), ("GET", &page[1..]), ("GET", &page[..21])];
        for (about, text) in others {
            assert!(!has(&memory, about, text), "{about} {}", text.escape_ascii());
        }
        for number in 0..10_000 {
            let digest = memory.digest(b"GET", 0, format!("/another/page/{number:06}").as_bytes()).unwrap();
            memory.remember(digest);
        }
        assert!(!has(&memory, "GET", page), "displaced by one of so many");
    }

    #[test]
    fn only_texts_within_the_bounds_have_a_hash() {
        let memory = Memory::<1>::default();
        let check = |about: &str, length: usize, expected: bool| {
            let found = memory.digest(about.as_bytes(), 0, &vec![b'x'; length]).is_some();
            assert_eq!(found, expected, "{about} {length}");
        };
        check("GET", BLOCK - 1, false);
        check("GET", BLOCK, true);
        check("GET", LONGEST, true);
        check("GET", LONGEST + 1, false);
        check("PROPFIND", BLOCK, true);
        check("PROPPATCH", BLOCK, false);
    }

    #[test]
    fn two_memories_hash_differently() {
        let digest = |memory: &Memory<1>| memory.digest(b"GET", 0, b"/a/page/of/some/length");
        assert_ne!(digest(&Memory::default()), digest(&Memory::default()));
    }

    proptest::proptest! {
        #[test]
        fn every_byte_counts(text in proptest::collection::vec(proptest::num::u8::ANY, 16..=2048), at: proptest::sample::Index) {
            let memory = Memory::<1>::default();
            let mut other = text.clone();
            other[at.index(text.len())] ^= 1;
            proptest::prop_assert_ne!(memory.digest(b"", 0, &text), memory.digest(b"", 0, &other));
        }
    }
}
