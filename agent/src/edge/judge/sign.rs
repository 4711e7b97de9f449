//! Words that mean something by themselves, found in one pass.
//!
//! Every table of this module and of [`super::fingerprint`] goes into one automaton (Aho-Corasick: linear in the text, whatever the
//! number of words). A hit counts where its word may stand and if its neighbours allow it; some words only wake a grammar.

mod browser;
mod database;
mod probe;
mod reach;
mod runtime;
mod wake;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, BuildError, MatchKind};

use super::finding::{Finding, Findings, Ground};
use super::fingerprint::{self, Fingerprint};
use super::target::{Part, Place, Target};
use crate::request::AttackClass;

/// Most hits of one request that are looked at. Ordinary requests have a handful; a line made of nothing but words
/// gains nothing by the rest.
const MAX_HITS: usize = 512;

/// Where a word may stand.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Places(u8);

impl Places {
    pub(super) const PATH: Self = Self(1);
    pub(super) const QUERY: Self = Self(2);
    pub(super) const AGENT: Self = Self(4);
    pub(super) const TARGET: Self = Self(1 | 2);
    pub(super) const ANY: Self = Self(1 | 2 | 4);

    const fn has(self, place: Place) -> bool {
        let bit = match place {
            Place::Path => 1,
            Place::Name | Place::Value => 2,
            Place::UserAgent | Place::Referer => 4,
        };
        self.0 & bit != 0
    }
}

/// What must stand around a word.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// Nothing.
    None,
    /// No letter, digit or underscore on either side.
    Word,
    /// No letter on either side: `1or 1` is two tokens.
    Letters,
    /// No letter, digit or underscore before it.
    Start,
    /// As [`Edge::Start`], and an opening parenthesis after it (blanks and comments between allowed).
    Call,
    /// As [`Edge::Start`], and `=` after it.
    Assign,
    /// The part begins with it.
    Begin,
    /// A whole path segment at the end of the path, or followed by a slash.
    Segment,
    /// The path ends with it.
    End,
}

/// What a group of words is evidence of.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Input of a class.
    Evidence(AttackClass, u8, &'static str),
    /// A file whose name alone does not decide: the traversal judge weighs it with the steps that lead to it.
    File,
    /// SQL: read the part as a statement.
    Sql,
    /// Steps between directories: read the part as a path.
    Steps,
    /// No evidence, but no ordinary request either: the judges have to look.
    Look,
}

/// Words of one meaning.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) meaning: Meaning,
    pub(super) places: Places,
    pub(super) edge: Edge,
    pub(super) words: &'static [&'static str],
}

/// A group of evidence.
const fn evidence(
    class: AttackClass,
    weight: u8,
    reason: &'static str,
    places: Places,
    edge: Edge,
    words: &'static [&'static str],
) -> Group {
    Group { meaning: Meaning::Evidence(class, weight, reason), places, edge, words }
}

/// All tables.
const TABLES: &[&[Group]] =
    &[wake::GROUPS, database::GROUPS, runtime::GROUPS, browser::GROUPS, reach::GROUPS, probe::GROUPS];

/// What the words of one part woke.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Woken {
    /// A word of SQL.
    pub(super) sql: bool,
    /// Something like a step between directories.
    pub(super) steps: bool,
    /// Something that the judges have to look at.
    pub(super) look: bool,
    /// A telling file name, by its span in the part.
    pub(super) file: Option<(usize, usize)>,
}

#[derive(Copy, Clone, Debug)]
enum Entry {
    Group(&'static Group),
    Fingerprint(&'static Fingerprint),
}

/// The automata over all words.
#[derive(Debug)]
pub(super) struct Lexicon {
    words: AhoCorasick,
    entries: Vec<Entry>,
    /// The words that can mean something in a target without any syntax: all but SQL's own, which stand in every other URL.
    plain: AhoCorasick,
}

impl Lexicon {
    /// Builds the automata.
    ///
    /// # Errors
    ///
    /// Only if the tables outgrow what an automaton can number, which a test excludes.
    pub(super) fn new() -> Result<Self, BuildError> {
        let groups = TABLES.iter().copied().flatten();
        let groups = groups.flat_map(|group| group.words.iter().map(move |word| (*word, Entry::Group(group))));
        let fingerprints = fingerprint::TABLE.iter().map(|entry| (entry.path, Entry::Fingerprint(entry)));
        let (words, entries): (Vec<_>, Vec<_>) = groups.chain(fingerprints).unzip();
        let needs_syntax = |entry: &Entry| matches!(entry, Entry::Group(Group { meaning: Meaning::Sql, .. }));
        let plain: Vec<&str> =
            words.iter().zip(&entries).filter(|(_, entry)| !needs_syntax(entry)).map(|(word, _)| *word).collect();
        let build = |words: &[&str]| {
            AhoCorasickBuilder::new().match_kind(MatchKind::Standard).kind(Some(AhoCorasickKind::DFA)).build(words)
        };
        Ok(Self { plain: build(&plain)?, words: build(&words)?, entries })
    }

    /// Whether `text` (lower case, without syntax) holds any word that means something there.
    pub(super) fn touches(&self, text: &[u8]) -> bool {
        self.plain.is_match(text)
    }

    /// Adds what the words of the request say to `found`, what they wake to `woken` (one per part).
    pub(super) fn judge(&self, target: &Target, method: &[u8], woken: &mut Vec<Woken>, found: &mut Findings) {
        woken.clear();
        woken.resize(target.len(), Woken::default());
        for hit in self.words.find_overlapping_iter(target.lower()).take(MAX_HITS) {
            let index = target.part_at(hit.start());
            let part = target.part(index);
            let start = hit.start() - part.offset;
            let end = hit.end() - part.offset;
            match self.entries[hit.pattern().as_usize()] {
                Entry::Group(group) if group.places.has(part.place) && stands(group.edge, &part, start, end) => {
                    apply(group.meaning, hit.range(), (start, end), &mut woken[index], found);
                }
                Entry::Fingerprint(entry) if part.place == Place::Path || entry.in_query => {
                    entry.judge(target, method, hit.range(), found);
                }
                _ => {}
            }
        }
    }
}

fn apply(
    meaning: Meaning,
    span: std::ops::Range<usize>,
    within: (usize, usize),
    woken: &mut Woken,
    found: &mut Findings,
) {
    match meaning {
        Meaning::Evidence(class, weight, reason) => {
            found.put(Finding { ground: Ground::Class(class), weight, span, reason, reference: None });
        }
        Meaning::File => {
            woken.file = woken.file.or(Some(within));
            woken.steps = true;
        }
        Meaning::Sql => woken.sql = true,
        Meaning::Steps => woken.steps = true,
        Meaning::Look => woken.look = true,
    }
}

fn stands(edge: Edge, part: &Part<'_>, start: usize, end: usize) -> bool {
    let text = part.lower;
    let before = start.checked_sub(1).map(|at| text[at]);
    let after = text.get(end).copied();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let free_before = !before.is_some_and(word);
    match edge {
        Edge::None => true,
        Edge::Word => free_before && !after.is_some_and(word),
        Edge::Letters => {
            !before.is_some_and(|byte| byte.is_ascii_alphabetic())
                && !after.is_some_and(|byte| byte.is_ascii_alphabetic())
        }
        Edge::Start => free_before,
        Edge::Call => free_before && before != Some(b'-') && opens_call(&text[end..]),
        Edge::Assign => {
            free_before && text[end..].trim_ascii_start().first() == Some(&b'=')
                || end == text.len() && part.place == Place::Name
        }
        Edge::Begin => start == 0,
        Edge::Segment => before.is_none_or(|byte| byte == b'/') && after.is_none_or(|byte| byte == b'/'),
        Edge::End => after.is_none(),
    }
}

/// An opening parenthesis, blanks, quotes and comments before it skipped: `exec /*x*/ (`, `('system')(`.
fn opens_call(text: &[u8]) -> bool {
    let mut rest = text;
    // 4: pieces between a name and its parenthesis.
    for _ in 0..4 {
        let skipped = rest
            .iter()
            .take(32)
            .take_while(|byte| byte.is_ascii_whitespace() || matches!(byte, b'\'' | b'"' | b')' | b']' | b'\\'))
            .count();
        rest = &rest[skipped..];
        if rest.starts_with(b"/*") {
            rest = memchr::memmem::find(rest, b"*/").map_or(&[][..], |end| &rest[end + 2..]);
        } else if rest.starts_with(b"//") || rest.starts_with(b"#") {
            rest = memchr::memchr(b'\n', rest).map_or(&[][..], |end| &rest[end..]);
        } else {
            break;
        }
    }
    rest.first() == Some(&b'(')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_lower_case_and_fits_the_automaton() {
        for group in TABLES.iter().copied().flatten() {
            for word in group.words {
                assert!(!word.is_empty() && *word == word.to_ascii_lowercase(), "{word}");
            }
        }
        let lexicon = Lexicon::new().expect("builds");
        assert!(lexicon.touches(b"x /etc/passwd"));
        assert!(!lexicon.touches(b"/blog/page.html"));
    }
}
