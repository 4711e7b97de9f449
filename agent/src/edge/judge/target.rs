//! A request target decoded and cut into the parts that an application sees: path, parameter names, parameter
//! values; the user agent beside them. Judges read [`Part`]s and nothing else.

use std::ops::Range;

use super::base64;
use super::decode::{Decoder, Tricks};
use super::marks::{Marks, marks_of};
use super::pairs::Pairs;
use crate::edge::formats::unescape;
use crate::request::{AccessRecord, LogEscape};

/// Most bytes of a target that are read. ALB takes 16 KiB of URL, every byte of which may be logged as `\xHH`.
const MAX_TARGET_BYTES: usize = 64 * 1024;

/// Parts from which on a request is padded. A parameter that was read before is passed over then, and those of letters and
/// digits alone are read as one: each of thousands of tiny parameters would be offered to every grammar. Any other is read
/// as in a short request, so padding hides nothing; how many there are is bounded by [`MAX_TARGET_BYTES`].
const PADDED_FROM: usize = 96;

/// What encoded text has in it; text without any of this is plain already.
const ENCODED: Marks =
    Marks::PERCENT.and(Marks::PLUS).and(Marks::BACKSLASH).and(Marks::HIGH).and(Marks::PIPE).and(Marks::CONTROL);

/// What a parameter of letters, digits, `_` and its `=` has none of.
const TELLING: Marks = Marks::EQUALS.not();

/// Stands behind every part in the decoded request.
pub(super) const PART_END: u8 = b'\n';

/// Where a part stood in the request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The path.
    Path,
    /// The name of a query parameter; without `=` the whole of it.
    Name,
    /// The value of a query parameter.
    Value,
    /// The user agent.
    UserAgent,
    /// The referer.
    Referer,
}

/// One part of a request, decoded.
#[derive(Copy, Clone, Debug)]
pub(super) struct Part<'t> {
    /// Where it stood.
    pub(super) place: Place,
    /// Decoded.
    pub(super) text: &'t [u8],
    /// Decoded, ASCII lower case: same length, same offsets.
    pub(super) lower: &'t [u8],
    /// Offset of `text` in the decoded request.
    pub(super) offset: usize,
    /// Of a value: the parameter's name in lower case.
    pub(super) name: &'t [u8],
    /// The request's path in lower case.
    pub(super) path: &'t [u8],
    /// Which bytes occur in `text`.
    pub(super) marks: Marks,
    /// Which pairs of bytes occur in `lower`, as far as somebody looked.
    pub(super) pairs: &'t Pairs,
    /// What decoding undid.
    pub(super) tricks: Tricks,
    /// A name that followed a doubled ampersand and has no value: `&&` is a shell operator too.
    pub(super) after_double_ampersand: bool,
}

impl Part<'_> {
    /// Where `word`, of two bytes at least, first stands in `lower`.
    #[inline(always)]
    pub(super) fn find(&self, word: &[u8]) -> Option<usize> {
        if self.pairs.may_hold(word) { memchr::memmem::find(self.lower, word) } else { None }
    }

    /// Whether `word`, of two bytes at least, stands in `lower`.
    #[inline(always)]
    pub(super) fn holds(&self, word: &[u8]) -> bool {
        self.find(word).is_some()
    }

    /// Every place of `word`, of two bytes at least, in `lower`.
    #[inline(always)]
    pub(super) fn find_all<'p>(&'p self, word: &'p [u8]) -> impl Iterator<Item = usize> + 'p {
        self.pairs.may_hold(word).then(|| memchr::memmem::find_iter(self.lower, word)).into_iter().flatten()
    }
}

#[derive(Clone, Debug)]
struct Cut {
    place: Place,
    span: Range<usize>,
    name: Range<usize>,
    marks: Marks,
    tricks: Tricks,
    after_double_ampersand: bool,
}

/// One request, decoded; its buffers are reused for the next.
#[derive(Debug, Default)]
pub(super) struct Target {
    raw: Vec<u8>,
    inside: Vec<u8>,
    plain: Vec<u8>,
    decoder: Decoder,
    text: Vec<u8>,
    lower: Vec<u8>,
    cuts: Vec<Cut>,
}

impl Target {
    /// Reads a request: path and query, referer, as far as the log has them; the user agent if wished.
    pub(super) fn read(&mut self, record: &AccessRecord<'_>, with_agent: bool) {
        self.text.clear();
        self.lower.clear();
        self.cuts.clear();
        let raw = &mut std::mem::take(&mut self.raw);
        let target = unescaped(record.path_and_query, record.escape, raw);
        match memchr::memchr(b'?', target) {
            None => {
                self.push(Place::Path, target, 0..0, false);
            }
            Some(question) => {
                self.push(Place::Path, &target[..question], 0..0, false);
                self.read_query(&target[question + 1..]);
            }
        }
        if !record.query.is_empty() {
            self.read_query(unescaped(record.query, record.escape, raw));
        }
        if with_agent {
            self.push(Place::UserAgent, unescaped(record.user_agent, record.escape, raw), 0..0, false);
        }
        if !record.referer.is_empty() {
            self.push(Place::Referer, unescaped(record.referer, record.escape, raw), 0..0, false);
        }
        self.raw = std::mem::take(raw);
    }

    fn read_query(&mut self, query: &[u8]) {
        let mut rest = Some(query);
        let mut empty_before = false;
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let mut seen = None;
        while let Some(from) = rest {
            // `&` inside `&#x6a;` begins an entity, no parameter.
            let end = parameter_end(from);
            // A link copied from HTML source separates with `&amp;`.
            let parameter = &from[..end];
            let parameter = parameter.strip_prefix(b"amp;").unwrap_or(parameter);
            rest = from.get(end + 1..);
            // Behind `&&` it may say something else than before.
            let padding = self.cuts.len() > PADDED_FROM && !empty_before;
            match memchr::memchr(b'=', parameter) {
                _ if parameter.is_empty() => {}
                _ if padding && seen.get_or_insert_with(Seen::default).before(parameter) => {}
                _ if padding && !marks_of(parameter).any(TELLING) => {
                    plain.extend_from_slice(parameter);
                    plain.push(b'&');
                }
                None => {
                    self.push(Place::Name, parameter, 0..0, empty_before);
                }
                Some(equals) => {
                    let name = self.push(Place::Name, &parameter[..equals], 0..0, false);
                    let value = self.push(Place::Value, &parameter[equals + 1..], name.clone(), false);
                    self.push_base64(value, name);
                }
            }
            empty_before = parameter.is_empty();
        }
        if !plain.is_empty() {
            self.push(Place::Name, &plain, 0..0, false);
        }
        self.plain = plain;
    }

    /// A value that is base64 of readable text is read as that text too.
    fn push_base64(&mut self, value: Range<usize>, name: Range<usize>) {
        let mut inside = std::mem::take(&mut self.inside);
        inside.clear();
        if base64::decode(&self.text[value], &mut inside) {
            self.push(Place::Value, &inside, name, false);
        }
        self.inside = inside;
    }

    fn push(&mut self, place: Place, raw: &[u8], name: Range<usize>, after_double_ampersand: bool) -> Range<usize> {
        let start = self.text.len();
        let form = matches!(place, Place::Name | Place::Value);
        let mut marks = marks_of(raw);
        let mut tricks = Tricks::default();
        if marks.any(ENCODED) {
            let (text, undone) = self.decoder.decode(raw, form);
            self.text.extend_from_slice(text);
            tricks = undone;
            marks = marks_of(text);
        } else {
            self.text.extend_from_slice(raw);
        }
        let span = start..self.text.len();
        self.lower.extend(self.text[span.clone()].iter().map(u8::to_ascii_lowercase));
        self.cuts.push(Cut { place, span: span.clone(), name, marks, tricks, after_double_ampersand });
        // Parts stand apart, so that no word reaches from one into the next.
        self.text.push(PART_END);
        self.lower.push(PART_END);
        span
    }

    /// The decoded request in lower case, parts separated by line feeds.
    pub(super) fn lower(&self) -> &[u8] {
        &self.lower
    }

    /// The decoded text at `span`.
    pub(super) fn slice(&self, span: Range<usize>) -> &[u8] {
        self.text.get(span).unwrap_or_default()
    }

    /// How many parts there are.
    pub(super) fn len(&self) -> usize {
        self.cuts.len()
    }

    /// Index of the part that holds the byte at `offset` of the decoded request.
    pub(super) fn part_at(&self, offset: usize) -> usize {
        self.cuts.partition_point(|cut| cut.span.end < offset).min(self.cuts.len().saturating_sub(1))
    }

    /// Where the text of the part at `index` stands in the decoded request.
    pub(super) fn span(&self, index: usize) -> Range<usize> {
        self.cuts[index].span.clone()
    }

    /// Where the part at `index` stood.
    pub(super) fn place(&self, index: usize) -> Place {
        self.cuts[index].place
    }

    /// The part at `index`.
    pub(super) fn part(&self, index: usize) -> Part<'_> {
        let cut = &self.cuts[index];
        let path = self.cuts.first().map_or(0..0, |first| first.span.clone());
        Part {
            place: cut.place,
            text: &self.text[cut.span.clone()],
            lower: &self.lower[cut.span.clone()],
            offset: cut.span.start,
            name: &self.lower[cut.name.clone()],
            path: &self.lower[path],
            marks: cut.marks,
            pairs: &Pairs::UNKNOWN,
            tricks: cut.tricks,
            after_double_ampersand: cut.after_double_ampersand,
        }
    }

    /// All parts.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        (0..self.len()).map(|index| self.part(index))
    }
}

/// `field` with its log escapes undone, in place where there are none, and cut at [`MAX_TARGET_BYTES`].
fn unescaped<'r>(field: &'r [u8], escape: LogEscape, room: &'r mut Vec<u8>) -> &'r [u8] {
    unescape(escape, &field[..field.len().min(MAX_TARGET_BYTES)], room)
}

fn parameter_end(query: &[u8]) -> usize {
    memchr::memchr_iter(b'&', query).find(|at| query.get(at + 1) != Some(&b'#')).unwrap_or(query.len())
}

/// Places for parameters of a padded request that were read, as a power of two: padding repeats a few.
const SEEN: u32 = 6;

/// What was read: of those that share a place the two latest.
struct Seen<'q>([[&'q [u8]; 2]; 1 << SEEN]);

impl Default for Seen<'_> {
    fn default() -> Self {
        Self([[b""; 2]; 1 << SEEN])
    }
}

impl<'q> Seen<'q> {
    /// Whether `parameter` was asked for before; from now on it was.
    fn before(&mut self, parameter: &'q [u8]) -> bool {
        let edge = parameter.len().min(8);
        let word = |text: &[u8]| {
            let mut word = [0; 8];
            word[..edge].copy_from_slice(text);
            u64::from_le_bytes(word)
        };
        let edges = word(&parameter[..edge]).wrapping_add(word(&parameter[parameter.len() - edge..]).rotate_left(29));
        // Spread by a multiplication with the golden ratio.
        let spread = edges.wrapping_add(parameter.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let slot = usize::try_from(spread >> (u64::BITS - SEEN)).unwrap_or_default();
        let [latest, other] = &mut self.0[slot];
        if *latest == parameter {
            return true;
        }
        std::mem::swap(latest, other);
        std::mem::replace(latest, parameter) == parameter
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::Timestamp;

    fn read(path_and_query: &str) -> Target {
        let mut target = Target::default();
        let blank = AccessRecord::blank(Timestamp::default(), Timestamp::default());
        target.read(&AccessRecord { path_and_query: path_and_query.as_bytes(), ..blank }, false);
        target
    }

    #[test]
    fn a_target_falls_into_its_parts() {
        let check = |raw: &str, expected: &[(Place, &str)]| {
            let target = read(raw);
            let found: Vec<_> =
                target.parts().map(|part| (part.place, String::from_utf8_lossy(part.text).into_owned())).collect();
            let expected: Vec<_> = expected.iter().map(|(place, text)| (*place, (*text).to_owned())).collect();
            assert_eq!(found, expected, "{raw}");
        };
        use Place::{Name, Path, Value};
        check("/a%20b", &[(Path, "/a b")]);
        check("/a?x=1&y+z=%26", &[(Path, "/a"), (Name, "x"), (Value, "1"), (Name, "y z"), (Value, "&")]);
        check("/a?flag&=v", &[(Path, "/a"), (Name, "flag"), (Name, ""), (Value, "v")]);
        check("/a?x=&#x41;b", &[(Path, "/a"), (Name, "x"), (Value, "Ab")]);
        check("/a?x=a=b?c", &[(Path, "/a"), (Name, "x"), (Value, "a=b?c")]);
        check("", &[(Path, "")]);
    }

    #[test]
    fn an_offset_finds_its_part() {
        let target = read("/ab?cd=ef");
        let found: Vec<_> = (0..9).map(|offset| target.part_at(offset)).collect();
        assert_eq!(found, [0, 0, 0, 0, 1, 1, 1, 2, 2]);
        assert_eq!(target.part(2).name, b"cd");
    }

    #[test]
    fn padding_hides_nothing() {
        let check = |padding: &str, last: &str| {
            let target = read(&format!("/?{padding}last={last}&a=b"));
            let found = target.parts().any(|part| part.name == b"last" && part.text == last.as_bytes());
            assert!(found, "{last} behind {}", &padding[..padding.len().min(40)]);
        };
        let numbered = |text: &str| (0..3000).map(|number| text.replace('N', &number.to_string())).collect::<String>();
        for padding in
            ["a=-&".repeat(5000), numbered("aN=%20&"), numbered("a=%20N&"), numbered("'N&"), "&".repeat(5000)]
        {
            check(&padding, "'");
            check(&padding, ";id");
        }
    }

    #[test]
    fn padding_is_read_once_or_together() {
        let check = |query: &str, expected: usize| {
            let target = read(&format!("/?{query}last=%27"));
            assert!(target.len() <= PADDED_FROM + expected, "{} parts", target.len());
            assert!(target.parts().any(|part| part.name == b"last" && part.text == b"'"));
        };
        check(&"a=b&".repeat(5000), 6);
        check(&"a=%20&".repeat(5000), 6);
        check(&"a=%20&a=b&c=%27&".repeat(3000), 12);
        // Two that share a place.
        check(&"`a=b&$(a=b&".repeat(3000), 12);
        let target = read(&format!("/?{}{}", "a=b&".repeat(100), "c=d&e=f&".repeat(5000)));
        assert!(target.part(target.len() - 1).text.ends_with(b"c=d&e=f&"), "the rest is read too");
        // What a shell reads as a command only behind `&&`.
        let target = read(&format!("/?{}id&&id", "a=%20&".repeat(100)));
        assert!(target.parts().any(|part| part.text == b"id" && part.after_double_ampersand));
    }
}
