//! Lets ordinary targets through: a target of letters, digits and a few marks, in which no word of the tables stands.
//!
//! A look at the bytes comes first, written so that the compiler compares sixteen at a time. Then every second window
//! of four bytes is looked up in a filter of 32 KiB; a word of five bytes or more is filed under two neighbouring
//! windows, of which one stands at an even place wherever the word does. What a word needs around it is filed with it
//! where it is one byte (`/` before a whole segment, `=` before a whole value), so that short words get long enough.
//! Ends and roots of paths are compared as wholes.

use super::base64;
use super::sign::Edge;
use super::target::PART_END;

/// Shelves of the filter, as a power of two: 32 KiB of them, which a first-level cache holds beside the line. With fewer
/// more windows become candidates, each of which costs what the look-ups of ten others do.
const SHELVES: u32 = 12;

/// Bytes of a window, and of the shortest word that holds two of them.
const WINDOW: usize = 4;
const SHORTEST: usize = WINDOW + 1;

/// Longest end of a path that is compared as a whole, its dot included.
const LONGEST_END: usize = 8;

/// Longest path that is compared as a whole, its slashes included; longer ones are found as words.
const LONGEST_ROOT: usize = 18;

/// The tables.
#[derive(Debug)]
pub(super) struct Sieve {
    /// A Bloom filter cut into words (Putze, Sanders, Singler 2007): a window has two bits of one word.
    filter: Box<[u64; 1 << SHELVES]>,
    /// Sorted by the shelf of their window.
    cards: Vec<Card>,
    /// For every word of the filter, where its cards begin.
    shelves: Vec<u16>,
    words: Vec<(Box<[u8]>, Edge)>,
    /// Ends of paths, [`packed`] and sorted.
    ends: Vec<u128>,
    /// Whole paths without their slashes, [`packed`] and sorted.
    roots: Vec<u128>,
    /// Names of four bytes that a text may begin with.
    heads: Vec<u32>,
}

/// Where a word is filed: one of its windows, and where in the word that begins.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Card {
    shelf: u16,
    window: u32,
    word: u16,
    offset: u8,
}

impl Sieve {
    /// Files `words` with what must stand around them; those that need bytes which [`is_plain`] refuses are left out.
    pub(super) fn new<'w>(words: impl Iterator<Item = (&'w str, Edge)>) -> Self {
        let mut sieve = Self {
            filter: Box::new([0; 1 << SHELVES]),
            cards: Vec::new(),
            shelves: Vec::new(),
            words: Vec::new(),
            ends: Vec::new(),
            roots: Vec::new(),
            heads: Vec::new(),
        };
        for (word, edge) in words {
            // As logged, a parameter's name and value have an `=` between them; cut into parts, the end of one.
            if let Some(name) = word.strip_suffix(char::from(PART_END)).filter(|name| is_plain(name.as_bytes())) {
                sieve.file(name, Edge::End);
            }
            let word = word.replace(char::from(PART_END), "=");
            if is_plain(word.as_bytes()) {
                sieve.file(&word, edge);
            }
        }
        sieve.shelve();
        sieve.ends.sort_unstable();
        sieve.roots.sort_unstable();
        sieve
    }

    fn file(&mut self, word: &str, edge: Edge) {
        let bytes = word.as_bytes();
        match edge {
            // What is compared is what the last dot begins.
            Edge::End if bytes.len() <= LONGEST_END && memchr::memrchr(b'.', bytes) == Some(0) => {
                self.ends.extend(packed(bytes));
            }
            Edge::Root if bytes.len() <= LONGEST_ROOT - 2 => {
                self.roots.extend(packed(word.trim_end_matches('/').as_bytes()))
            }
            Edge::Root => self.add(&["/", word.trim_end_matches('/')], edge),
            Edge::Segment => self.add(&["/", word], edge),
            Edge::Begin => ["=", "?", "&"].iter().for_each(|before| self.add(&[before, word], edge)),
            _ if has_pair(bytes) => {}
            // One window and no more: at an odd place it is found by the window that begins with what stands before it.
            _ if bytes.len() < SHORTEST => {
                self.add_at(word.as_bytes(), [0], edge);
                let before = (0..=u8::MAX).filter(|byte| is_plain(&[*byte]) && !byte.is_ascii_uppercase());
                let texts = before.map(|before| [&[before], bytes].concat());
                let texts = texts.filter(|text| !before_decides(edge) || stands(Edge::Start, text, 1, text.len()));
                texts.for_each(|text| self.add_at(&text, [0], Edge::None));
            }
            _ => self.add(&[word], edge),
        }
    }

    /// Files the word that `pieces` make under the two neighbouring windows that are rarest.
    fn add(&mut self, pieces: &[&str], edge: Edge) {
        let word = pieces.concat();
        let pair = |at: &usize| super::words::commonness(&word.as_bytes()[*at..*at + SHORTEST]);
        let rarest = (0..=word.len().saturating_sub(SHORTEST)).min_by_key(pair);
        rarest.into_iter().for_each(|at| self.add_at(word.as_bytes(), [at, at + 1], edge));
    }

    /// Files a word under its windows at `offsets`.
    fn add_at<const WINDOWS: usize>(&mut self, word: &[u8], offsets: [usize; WINDOWS], edge: Edge) {
        let Ok(number) = u16::try_from(self.words.len()) else { return };
        for offset in offsets {
            let Some(window) = word[offset..].first_chunk::<WINDOW>().map(|bytes| fold(*bytes)) else { continue };
            let shelf = shelf_of(window);
            self.filter[usize::from(shelf)] |= bits_of(window);
            self.cards.push(Card { shelf, window, word: number, offset: u8::try_from(offset).unwrap_or(u8::MAX) });
        }
        self.words.push((word.into(), edge));
    }

    /// A sieve for text of any kind: names that begin as words do.
    pub(super) fn of_names(names: impl Iterator<Item = &'static str>) -> Self {
        let mut sieve = Self::new(std::iter::empty());
        for name in names {
            if name.len() >= SHORTEST {
                sieve.add(&[name], Edge::Start);
                continue;
            }
            // A short name is filed with what can stand before it, and as the beginning of the text.
            [" ", "(", ";", "/", "+", "-", ",", "\"", "["]
                .iter()
                .for_each(|before| sieve.add(&[before, name], Edge::None));
            sieve.heads.extend(name.as_bytes().first_chunk::<WINDOW>().map(|bytes| fold(*bytes)));
        }
        sieve.shelve();
        sieve
    }

    /// Sorts the cards and notes where each shelf begins.
    fn shelve(&mut self) {
        self.cards.sort_unstable();
        let begins = |shelf: usize| self.cards.partition_point(|card| usize::from(card.shelf) < shelf);
        self.shelves = (0..=self.filter.len()).map(|shelf| u16::try_from(begins(shelf)).unwrap_or(u16::MAX)).collect();
    }

    /// Whether a name stands in `text`.
    #[inline]
    pub(super) fn holds_name(&self, text: &[u8]) -> bool {
        let begins = text.first_chunk::<WINDOW>().is_some_and(|bytes| self.heads.contains(&fold(*bytes)));
        begins || self.holds_word(text)
    }

    /// Whether `target`, a path with or without its query, is ordinary.
    #[inline]
    pub(super) fn passes(&self, target: &[u8]) -> bool {
        let look = look(target);
        look & (ODD | PAIR) == 0
            && (look & DASHES == 0 || !ends_in_comment(target))
            && !self.path_stands_out(target)
            && !self.holds_word(target)
            && !carries_text(target)
    }

    /// Whether a word stands in `target`.
    #[inline]
    fn holds_word(&self, target: &[u8]) -> bool {
        let mut window = 0;
        target.as_chunks::<2>().0.iter().enumerate().any(|(step, pair)| {
            window = window >> 16 | u32::from(u16::from_le_bytes(*pair) | 0x2020) << 16;
            let bits = bits_of(window);
            // The first pair completes no window.
            self.filter[usize::from(shelf_of(window))] & bits == bits
                && step > 0
                && self.compare(window, target, step * 2 - 2)
        })
    }

    /// Compares the words filed under `window` with the text around it.
    #[cold]
    #[inline(never)]
    fn compare(&self, window: u32, target: &[u8], at: usize) -> bool {
        let shelf = usize::from(shelf_of(window));
        let cards = usize::from(self.shelves[shelf])..usize::from(self.shelves[shelf + 1]);
        self.cards[cards].iter().filter(|card| card.window == window).any(|card| {
            let (word, edge) = &self.words[usize::from(card.word)];
            let Some(start) = at.checked_sub(usize::from(card.offset)) else { return false };
            let end = start + word.len();
            target.get(start..end).is_some_and(|found| found.eq_ignore_ascii_case(word))
                && stands(*edge, target, start, end)
        })
    }

    /// Whether the path ends as one of a table's does, is as a whole one of a table's, or holds an ampersand.
    #[inline]
    fn path_stands_out(&self, target: &[u8]) -> bool {
        let path = match memchr::memchr2(b'?', b'&', target) {
            // In a query it separates parameters, in a path only a shell's commands.
            Some(at) if target[at] == b'&' => return true,
            Some(question) => &target[..question],
            None => target,
        };
        let tail = &path[path.len().saturating_sub(LONGEST_END)..];
        let dot = tail.iter().rposition(|byte| *byte == b'.');
        dot.is_some_and(|dot| packed(&tail[dot..]).is_some_and(|end| self.ends.binary_search(&end).is_ok()))
            || path.len() <= LONGEST_ROOT && self.is_root(path)
    }

    fn is_root(&self, path: &[u8]) -> bool {
        let root = path.strip_prefix(b"/").unwrap_or(path);
        let root = root.strip_suffix(b"/").unwrap_or(root);
        packed(root).is_some_and(|root| self.roots.binary_search(&root).is_ok())
    }
}

/// Whether a value of the query, or a long segment of the path, may be base64 of a text.
fn carries_text(target: &[u8]) -> bool {
    if target.len() <= base64::MIN_WORD {
        return false;
    }
    let mut start = 0;
    // Most words are a few bytes long: a search for each would cost more than a look at every byte.
    let carries = target.iter().enumerate().any(|(at, byte)| {
        if !matches!(byte, b'=' | b'/') {
            return false;
        }
        let word = &target[start..at];
        start = at + 1;
        base64::looks_like_text(word)
    });
    carries || base64::looks_like_text(&target[start..])
}

/// A short text in lower case as one number, for one comparison; `None` for what is longer.
fn packed(text: &[u8]) -> Option<u128> {
    (text.len() <= 16).then(|| text.iter().fold(0, |sum, byte| sum << 8 | u128::from(byte.to_ascii_lowercase())))
}

/// Whether a word of this edge stands only where no letter or digit is before it.
const fn before_decides(edge: Edge) -> bool {
    matches!(edge, Edge::Word | Edge::Start | Edge::Letters | Edge::Searched | Edge::Call | Edge::Assign)
}

/// Whether the neighbours of a word in a plain target allow it; the judge looks closer.
fn stands(edge: Edge, target: &[u8], start: usize, end: usize) -> bool {
    let before = start.checked_sub(1).map(|at| target[at]);
    let after = target.get(end).copied();
    let ends = matches!(after, None | Some(b'?' | b'&'));
    match edge {
        Edge::End => ends,
        Edge::Segment => ends || after == Some(b'/'),
        Edge::Word
        | Edge::Start
        | Edge::Typed
        | Edge::Searched
        | Edge::Shown
        | Edge::Script
        | Edge::Letters
        | Edge::Call
        | Edge::Assign => !before.is_some_and(|byte| byte.is_ascii_alphanumeric()),
        Edge::None | Edge::Meant | Edge::Code | Edge::Begin | Edge::Scheme | Edge::Root => true,
    }
}

/// What [`look`] found: a byte of quoting, of an operator or of an escape; two marks that stand together as only a way out
/// of a directory or a comment has them; two dashes.
const ODD: u8 = 1;
const PAIR: u8 = 2;
const DASHES: u8 = 4;

/// [`ODD`] or nothing. Without branches, as all of [`look`].
#[inline]
fn odd(byte: u8) -> u8 {
    let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    // `-` `.` `/` and the digits stand in a row.
    let digit = byte.wrapping_sub(b'-') < 13;
    let mark = (byte == b'_') | (byte == b'=') | (byte == b'&') | (byte == b'?') | (byte == b',') | (byte == b'~');
    // Neither `@` nor `*`: SQL has variables and products of them.
    u8::from(!(letter | digit | mark | (byte == b'!')))
}

/// What two neighbours make together: `..` `./` `/.` `//` `__` `==` `&&` lead out of a directory or separate what no
/// page separates; `--` may be a comment.
#[inline]
fn pair(one: u8, other: u8) -> u8 {
    let dots = (one == b'.') & ((other == b'.') | (other == b'/'));
    let slash = (one == b'/') & (other == b'.');
    let twice = (one == other) & ((one == b'_') | (one == b'=') | (one == b'&') | (one == b'/'));
    let dashes = (one == other) & (one == b'-');
    (u8::from(dots | slash | twice) * PAIR) | (u8::from(dashes) * DASHES)
}

/// Looks at every byte and every two neighbours; written for the compiler to do sixteen at a time.
#[inline]
fn look(target: &[u8]) -> u8 {
    let Some((last_byte, _)) = target.split_last() else { return 0 };
    let following = &target[1..];
    let ones = &target[..following.len()];
    let both = |one: u8, other: u8| odd(one) | pair(one, other);
    // The last sixteen are looked at as a whole; most of them twice.
    let (Some(last), Some(last_following)) = (ones.last_chunk::<16>(), following.last_chunk::<16>()) else {
        return ones.iter().zip(following).fold(odd(*last_byte), |sum, (one, other)| sum | both(*one, *other));
    };
    let chunks = ones.as_chunks::<16>().0.iter().zip(following.as_chunks::<16>().0);
    let sums = chunks.chain([(last, last_following)]).fold([0_u8; 16], |sum, (ones, others)| {
        let mut sum = sum;
        for ((sum, one), other) in sum.iter_mut().zip(ones).zip(others) {
            *sum |= both(*one, *other);
        }
        sum
    });
    sums.into_iter().fold(odd(*last_byte), |sum, each| sum | each)
}

/// Whether `text` holds no odd byte.
fn is_plain(text: &[u8]) -> bool {
    look(text) & ODD == 0
}

/// Whether two marks stand together in `text` that no ordinary target has.
fn has_pair(text: &[u8]) -> bool {
    look(text) & PAIR != 0
}

/// Whether SQL's comment, with nothing but a byte behind it, ends the path or a parameter.
#[inline]
fn ends_in_comment(target: &[u8]) -> bool {
    memchr::memmem::find_iter(target, b"--").any(|at| {
        let ends = |byte: Option<&u8>| matches!(byte, None | Some(b'&' | b'?' | b'='));
        ends(target.get(at + 2)) || ends(target.get(at + 3))
    })
}

/// Four bytes, both cases of a letter alike (they are bit 5 apart in ASCII).
#[inline]
const fn fold(bytes: [u8; WINDOW]) -> u32 {
    u32::from_le_bytes(bytes) | 0x2020_2020
}

/// A window, spread by a multiplication with the golden ratio.
#[inline]
const fn spread(window: u32) -> u32 {
    window.wrapping_mul(0x9E37_79B1)
}

/// The word of the filter that a window's bits are in.
#[inline]
const fn shelf_of(window: u32) -> u16 {
    (spread(window) >> (u32::BITS - SHELVES)) as u16
}

/// A window's bits in its word: one by what of it stands below the shelf's number, one by what stands below that.
#[inline]
const fn bits_of(window: u32) -> u64 {
    let spread = spread(window);
    1 << (spread >> (u32::BITS - SHELVES - 6) & 63) | 1 << (spread >> (u32::BITS - SHELVES - 12) & 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &[(&str, Edge)] = &[
        ("etc/passwd", Edge::None),
        ("info.php", Edge::Segment),
        ("env", Edge::Root),
        (".bak", Edge::End),
        (".conf.js", Edge::End),
        ("/etc", Edge::Begin),
        ("cmd=", Edge::None),
        ("bsh.", Edge::None),
        ("type\nrau", Edge::None),
    ];

    #[test]
    fn ordinary_targets_pass_and_others_do_not() {
        let sieve = Sieve::new(WORDS.iter().copied());
        let check = |target: &str, expected: bool| {
            assert_eq!(sieve.passes(target.as_bytes()), expected, "{target}");
            assert_eq!(sieve.passes(target.to_ascii_uppercase().as_bytes()), expected, "{target} in capitals");
        };
        check("/", true);
        check("", true);
        check("/shop/item-5_a.html?page=2&sort=asc", true);
        check("/environment", true);
        check("/docs/env", true);
        check("/myinfo.php", true);
        check("/a.bake", true);
        check("/a?x=etc", true);
        for target in [
            "/etc/passwd",
            "/xetc/passwd",
            "/info.php",
            "/a/info.php?x=1",
            "/a/info.php/b",
            "/env",
            "/env/",
            "/env?x=1",
            "/a.bak",
            "/a.bak?x=y",
            "/a.conf.js",
            "/a?x=/etc",
            "/a?/etc",
            "/a?x=y&/etc/a",
            "/a?cmd=ls",
            "/,bsh.x",
            "/xbsh.y",
            "/a?b=c&cmd=ls",
            "/a?type=rau",
            "/a/../b",
            "/a/./b",
            "/.a",
            "/a?b=__c",
            "/a?x==y",
            "/a?x=/*y",
            "/a%20b",
            "/a b",
            "/a&b",
            "/a@b",
            "/a?x,y--",
            "/a?x,y--&b=c",
            "/a?x,y--z",
            "/a;b",
            "/a?x='",
            "/a?x=\u{e9}",
        ] {
            check(target, false);
        }
    }

    #[test]
    fn encoded_text_does_not_pass() {
        let sieve = Sieve::new(std::iter::empty());
        assert!(!sieve.passes(b"/a?x=Y2F0IC9ldGMvcGFzc3dk"));
        assert!(!sieve.passes(b"/x/Command/Y2F0IC9ldGMvcGFzc3dk"));
        assert!(sieve.passes(b"/a?x=4f8a2c19d7e3b0554f8a"));
    }

    proptest::proptest! {
        #[test]
        fn a_word_is_found_at_every_place(before in "[a-z0-9/_-]{0,40}", after in "[a-z0-9/_-]{0,40}") {
            let sieve = Sieve::new(WORDS.iter().copied());
            let target = format!("/{before}etc/passwd{after}");
            proptest::prop_assert!(!sieve.passes(target.as_bytes()));
        }

        #[test]
        fn bytes_are_judged_alike_one_by_one(text in proptest::collection::vec(proptest::num::u8::ANY, 0..70)) {
            let each = text.iter().all(|byte| is_plain(&[*byte]));
            proptest::prop_assert_eq!(is_plain(&text), each);
            let pairs = text.windows(2).any(has_pair);
            proptest::prop_assert_eq!(has_pair(&text), pairs);
        }
    }
}
