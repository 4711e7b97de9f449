//! Finds some thousand words in one pass over a text, out of 16 KiB of tables.
//!
//! Every word is filed under its rarest window of four bytes (two, for the short ones). A pass looks every window
//! of the text up in a filter that stays in the processor's first cache; only where it says yes are the words
//! filed there compared. An Aho-Corasick automaton over the same words takes megabytes, and waits for memory at
//! every other byte of ordinary text.
//!
//! Linear: a window leads to the few words filed under it, each compared once.

use std::ops::ControlFlow;

/// Words of a filter, as a power of two: 8 KiB each. Fewer make many windows candidates; more leave the cache.
const SHELVES: u32 = 10;

/// Bytes of a window of the long words, and of the short ones.
const LONG: usize = 4;
const SHORT: usize = 2;

/// A word found: its place in the list, and where it stands.
pub(super) struct Hit {
    pub(super) word: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The words, filed.
#[derive(Debug)]
pub(super) struct Words {
    words: Vec<Box<[u8]>>,
    long: File<LONG>,
    short: File<SHORT>,
}

impl Words {
    /// Files `words`, lower case and of two bytes at least.
    pub(super) fn new(words: impl IntoIterator<Item: AsRef<str>>) -> Self {
        let words: Vec<Box<[u8]>> = words.into_iter().map(|word| word.as_ref().as_bytes().into()).collect();
        let mut long = File::default();
        let mut short = File::default();
        for (index, word) in words.iter().enumerate() {
            if word.len() >= LONG { long.add(index, word) } else { short.add(index, word) }
        }
        long.shelve();
        short.shelve();
        Self { words, long, short }
    }

    /// Hands every word of `text`, which is lower case, to `see` until that breaks off. Says whether it did.
    #[inline]
    pub(super) fn walk(&self, text: &[u8], mut see: impl FnMut(Hit) -> ControlFlow<()>) -> bool {
        let mut window = 0;
        for (last, byte) in text.iter().enumerate() {
            window = slide(window, *byte);
            if self.long.may_hold(window) && self.compare(&self.long, window, text, last, &mut see).is_break() {
                return true;
            }
            let window = window & SHORT_MASK;
            if self.short.may_hold(window) && self.compare(&self.short, window, text, last, &mut see).is_break() {
                return true;
            }
        }
        false
    }

    /// Compares the words filed under `window`, which ends at `last`, with the text around it.
    #[cold]
    #[inline(never)]
    fn compare<const WIDTH: usize>(
        &self,
        file: &File<WIDTH>,
        window: u32,
        text: &[u8],
        last: usize,
        see: &mut impl FnMut(Hit) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for card in file.shelf(window).iter().filter(|card| card.window == window) {
            let word = &self.words[usize::from(card.word)];
            let Some(start) = (last + 1).checked_sub(WIDTH + usize::from(card.offset)) else { continue };
            let end = start + word.len();
            if text.get(start..end).is_some_and(|found| *found == **word) {
                see(Hit { word: usize::from(card.word), start, end })?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// Words filed under their windows of `WIDTH` bytes.
#[derive(Debug)]
struct File<const WIDTH: usize> {
    /// Long windows: a Bloom filter cut into words (Putze, Sanders, Singler 2007), in which a window has two bits of one
    /// word. Short ones have a bit each.
    filter: Box<[u64; 1 << SHELVES]>,
    /// Sorted by shelf, the number of the filter's word.
    cards: Vec<Card>,
    /// Where the cards of each shelf begin.
    shelves: Vec<u16>,
}

impl<const WIDTH: usize> Default for File<WIDTH> {
    fn default() -> Self {
        Self { filter: Box::new([0; 1 << SHELVES]), cards: Vec::new(), shelves: Vec::new() }
    }
}

/// Where a word is filed: one of its windows, and where in the word that begins.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Card {
    shelf: u16,
    window: u32,
    word: u16,
    offset: u16,
}

impl<const WIDTH: usize> File<WIDTH> {
    fn add(&mut self, index: usize, word: &[u8]) {
        let windows = word.windows(WIDTH).enumerate();
        let Some((offset, window)) = windows.min_by_key(|(_, window)| commonness(window)) else { return };
        let window = window.iter().fold(0, |window, byte| slide(window, *byte));
        // The tables hold some thousand words of a few dozen bytes; a test holds them to what fits.
        if let (Ok(word), Ok(offset)) = (u16::try_from(index), u16::try_from(offset)) {
            let shelf = Self::shelf_of(window);
            self.filter[usize::from(shelf)] |= Self::bits_of(window);
            self.cards.push(Card { shelf, window, word, offset });
        }
    }

    /// Sorts the cards and notes where each shelf begins.
    fn shelve(&mut self) {
        self.cards.sort_unstable();
        let begins = |shelf: usize| self.cards.partition_point(|card| usize::from(card.shelf) < shelf);
        self.shelves = (0..=self.filter.len()).map(|shelf| u16::try_from(begins(shelf)).unwrap_or(u16::MAX)).collect();
    }

    /// The cards that share a word of the filter with `window`.
    #[inline]
    fn shelf(&self, window: u32) -> &[Card] {
        let shelf = usize::from(Self::shelf_of(window));
        self.cards.get(usize::from(self.shelves[shelf])..usize::from(self.shelves[shelf + 1])).unwrap_or_default()
    }

    #[inline]
    fn may_hold(&self, window: u32) -> bool {
        let bits = Self::bits_of(window);
        self.filter[usize::from(Self::shelf_of(window))] & bits == bits
    }

    /// The word of the filter that a window's bits are in.
    #[inline]
    const fn shelf_of(window: u32) -> u16 {
        if WIDTH == SHORT { (window >> 6 & 0x3FF) as u16 } else { (spread(window) >> (u32::BITS - SHELVES)) as u16 }
    }

    /// A window's bits in its word.
    #[inline]
    const fn bits_of(window: u32) -> u64 {
        if WIDTH == SHORT {
            return 1 << (window & 63);
        }
        let spread = spread(window);
        1 << (spread >> (u32::BITS - SHELVES - 6) & 63) | 1 << (spread >> (u32::BITS - SHELVES - 12) & 63)
    }
}

/// The last four bytes, both cases of a letter alike (they are bit 5 apart in ASCII).
#[inline]
const fn slide(window: u32, byte: u8) -> u32 {
    window << 8 | (byte | 0x20) as u32
}

/// The last two bytes of a window.
const SHORT_MASK: u32 = 0xFFFF;

/// A window, spread by a multiplication with the golden ratio.
#[inline]
const fn spread(window: u32) -> u32 {
    window.wrapping_mul(0x9E37_79B1)
}

/// How common a window is in URLs, roughly: by its letters, as in English text, and by the marks that URLs are made
/// of.
pub(super) fn commonness(window: &[u8]) -> u32 {
    let byte = |byte: &u8| match byte {
        b'e' | b't' | b'a' | b'/' => 90,
        b'o' | b'i' | b'n' | b's' | b'.' | b'-' => 70,
        b'r' | b'h' | b'l' | b'd' | b'c' | b'=' | b'0'..=b'2' => 45,
        b'u' | b'm' | b'p' | b'g' | b'f' | b'w' | b'_' | b'3'..=b'9' => 25,
        b'y' | b'b' | b'v' | b'k' => 12,
        b'a'..=b'z' => 3,
        _ => 1,
    };
    window.iter().map(byte).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(words: &'static [&'static str], text: &str) -> Vec<(usize, usize, usize)> {
        let mut hits = Vec::new();
        Words::new(words.iter().copied()).walk(text.as_bytes(), |hit| {
            hits.push((hit.word, hit.start, hit.end));
            ControlFlow::Continue(())
        });
        hits.sort_unstable();
        hits
    }

    #[test]
    fn words_are_found_wherever_they_stand() {
        let check = |text: &str, expected: &[(usize, usize, usize)]| {
            assert_eq!(found(&["etc/passwd", "passwd", "..", "or", "union"], text), expected, "{text}");
        };
        check("../etc/passwd", &[(0, 3, 13), (1, 7, 13), (2, 0, 2)]);
        check("...", &[(2, 0, 2), (2, 1, 3)]);
        check("color", &[(3, 3, 5)]);
        check("union", &[(4, 0, 5)]);
        check("unio", &[]);
        check("o", &[]);
        check("", &[]);
    }

    #[test]
    fn a_walk_can_be_broken_off() {
        let words = Words::new(["aaaa"]);
        let mut seen = 0;
        let broken = words.walk(b"aaaaaaaa", |_| {
            seen += 1;
            ControlFlow::Break(())
        });
        assert!(broken && seen == 1);
    }

    proptest::proptest! {
        #[test]
        fn what_a_search_finds_is_found(text in "[a-d./]{0,40}") {
            const WORDS: &[&str] = &["ab", "abc", "abcd", "cd", "./", "..", "bcda", "dcba"];
            let expected: usize = WORDS.iter().map(|word| (0..text.len()).filter(|at| text[*at..].starts_with(word)).count()).sum();
            proptest::prop_assert_eq!(found(WORDS, &text).len(), expected);
        }
    }
}
