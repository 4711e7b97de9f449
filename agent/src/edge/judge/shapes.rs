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

/// A sorted table of names.
#[derive(Debug)]
pub(super) struct Table<const NAMES: usize> {
    names: &'static [&'static [u8]],
    shapes: Shapes,
    /// The first eight bytes of each name as a number, which keeps its order.
    keys: [u64; NAMES],
}

impl<const NAMES: usize> Table<NAMES> {
    /// Of `names`, which are as many, sorted and not empty.
    pub(super) const fn of(names: &'static [&'static [u8]]) -> Self {
        let mut keys = [0; NAMES];
        let mut name = 0;
        while name < NAMES {
            keys[name] = key(names[name]);
            assert!(name == 0 || keys[name - 1] <= keys[name], "names are sorted to be searched");
            name += 1;
        }
        Self { names, shapes: Shapes::of(&[names]), keys }
    }

    /// Whether it holds `name`.
    pub(super) fn holds(&self, name: &[u8]) -> bool {
        if !self.shapes.may_hold(name) {
            return false;
        }
        let key = key(name);
        let first = self.keys.partition_point(|other| *other < key);
        let alike = self.keys[first..].iter().take_while(|other| **other == key).count();
        self.names[first..first + alike].contains(&name)
    }
}

const fn key(name: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let mut at = 0;
    while at < name.len() && at < bytes.len() {
        bytes[at] = name[at];
        at += 1;
    }
    u64::from_be_bytes(bytes)
}

/// How the words of a table may begin, by their first two bytes: most words begin as none does.
#[derive(Debug)]
pub(super) struct Beginnings([u32; 32]);

impl Beginnings {
    /// Of a `table` whose words have two bytes at least, lower case.
    pub(super) const fn of(table: &[&[u8]]) -> Self {
        let mut seconds = [0; 32];
        let mut word = 0;
        while word < table.len() {
            seconds[(table[word][0] & 31) as usize] |= 1 << (table[word][1] & 31);
            word += 1;
        }
        Self(seconds)
    }

    /// Whether a word of the table may stand at the front of `text`; where not, none does.
    #[inline]
    pub(super) fn may_begin(&self, text: &[u8]) -> bool {
        matches!(text, [first, second, ..] if self.0[usize::from(first & 31)] >> (second & 31) & 1 != 0)
    }
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
