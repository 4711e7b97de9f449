//! Which words a table may hold, by their shape: most words of a request are in none, and a look at length, first and last
//! byte tells.

/// Words of the set, as a power of two: 4096 bits. The largest tables have three hundred words.
const WORDS: u32 = 6;

/// The shapes of a table's words.
#[derive(Debug)]
pub(super) struct Shapes([u64; 1 << WORDS]);

impl Shapes {
    /// Of all `tables`, whose words are not empty.
    pub(super) const fn of(tables: &[&[&[u8]]]) -> Self {
        let mut shapes = [0; 1 << WORDS];
        let mut table = 0;
        while table < tables.len() {
            let mut word = 0;
            while word < tables[table].len() {
                let text = tables[table][word];
                let (at, bit) = place(text.len(), text[0], text[text.len() - 1]);
                shapes[at] |= bit;
                word += 1;
            }
            table += 1;
        }
        Self(shapes)
    }

    /// Whether a table may hold `word`; where not, none does.
    #[inline]
    pub(super) fn may_hold(&self, word: &[u8]) -> bool {
        let ([first, ..], [.., last]) = (word, word) else { return false };
        let (at, bit) = place(word.len(), *first, *last);
        self.0[at] & bit != 0
    }
}

/// The word and the bit of a shape: spread by a multiplication with the golden ratio.
#[inline]
const fn place(length: usize, first: u8, last: u8) -> (usize, u64) {
    let [low, high, ..] = length.to_le_bytes();
    let spread = u32::from_le_bytes([last, first, low, high]).wrapping_mul(0x9E37_79B1);
    ((spread >> (u32::BITS - WORDS)) as usize, 1 << (spread >> (u32::BITS - WORDS - 6) & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_words_shape_is_known_and_most_others_are_not() {
        const TABLE: &[&[u8]] = &[b"select", b"or", b"x"];
        const SHAPES: Shapes = Shapes::of(&[TABLE, &[b"union"]]);
        for word in ["select", "or", "x", "union"] {
            assert!(SHAPES.may_hold(word.as_bytes()), "{word}");
        }
        for word in ["", "selected", "o", "page", "y"] {
            assert!(!SHAPES.may_hold(word.as_bytes()), "{word}");
        }
    }
}
