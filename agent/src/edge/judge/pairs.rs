//! Which pairs of neighbouring bytes a text holds: whether a word can stand in it is told by a few look-ups, where a
//! search would be set up and run. Judges ask each part for hundreds of words, and hostile requests have hundreds of parts.

/// Words of the set, as a power of two: 1024 bits. A parameter's value has a few dozen different pairs; with fewer bits most
/// words that are asked for would seem to be there, with more a short part would cost what its set does.
const WORDS: u32 = 4;

/// The pairs of one text, each by a bit that few others share.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Pairs([u64; 1 << WORDS]);

impl Pairs {
    /// Of a text that nobody has looked at: any word may stand in it.
    pub(super) const UNKNOWN: Self = Self([u64::MAX; 1 << WORDS]);

    /// The pairs of `text`.
    pub(super) fn of(text: &[u8]) -> Self {
        let mut pairs = [0; 1 << WORDS];
        for pair in text.array_windows() {
            let (word, bit) = place(*pair);
            pairs[word] |= bit;
        }
        Self(pairs)
    }

    /// Whether `word`, of two bytes at least, may stand in the text; where not, it does not.
    #[inline(always)]
    pub(super) fn may_hold(&self, word: &[u8]) -> bool {
        word.array_windows().all(|pair| {
            let (word, bit) = place(*pair);
            self.0[word] & bit != 0
        })
    }
}

/// The word and the bit of a pair: spread by a multiplication with the golden ratio.
#[inline(always)]
const fn place(pair: [u8; 2]) -> (usize, u64) {
    let spread = (u16::from_le_bytes(pair) as u32).wrapping_mul(0x9E37_79B1);
    ((spread >> (u32::BITS - WORDS)) as usize, 1 << (spread >> (u32::BITS - WORDS - 6) & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_absent_words_are_known_to_be() {
        let pairs = Pairs::of(b"user=anna&page=2");
        for word in ["..", "<script", "' or ", "://", "${", "select", "()"] {
            assert!(!pairs.may_hold(word.as_bytes()), "{word}");
        }
        assert!(Pairs::UNKNOWN.may_hold(b"anything"));
        assert!(!Pairs::of(b"").may_hold(b"ab"));
    }

    proptest::proptest! {
        #[test]
        fn what_stands_in_a_text_may(text in proptest::collection::vec(proptest::num::u8::ANY, 2..300), at: proptest::sample::Index, length in 2..20_usize) {
            let at = at.index(text.len() - 1);
            let word = &text[at..(at + length).min(text.len())];
            proptest::prop_assert!(Pairs::of(&text).may_hold(word));
        }
    }
}
