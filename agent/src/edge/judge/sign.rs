//! Words that mean something by themselves, found in one pass.
//!
//! Every table of this module and of [`super::fingerprint`] is filed in one set ([`super::words`]), which one pass
//! finds all of. A hit counts where its word may stand and if its neighbours allow it; some words only wake a
//! grammar.

mod browser;
mod database;
mod probe;
mod reach;
mod runtime;
mod wake;

use std::ops::ControlFlow;

use super::finding::{Finding, Findings, Ground};
use super::fingerprint::{self, Fingerprint, Seen};
use super::marks::Marks;
use super::prose::{self, is_free_text, is_idle};
use super::sieve::Sieve;
use super::target::{PART_END, Place, Target};
use super::words::Words;
use crate::request::AttackClass;

/// Where a word may stand.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Places(u8);

impl Places {
    pub(super) const PATH: Self = Self(1);
    pub(super) const QUERY: Self = Self(2);
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
    /// As [`Edge::Start`], and an opening parenthesis after it (blanks and comments between allowed); not in a frame of a stack.
    Call,
    /// As [`Edge::Start`], and `=` after it.
    Assign,
    /// The part begins with it.
    Begin,
    /// No blank and a letter behind it: a URL's scheme, not a title's first word with its colon.
    Scheme,
    /// A whole path segment at the end of the path, or followed by a slash.
    Segment,
    /// The path ends with it.
    End,
    /// The whole path is a slash and it: ordinary deeper down.
    Root,
    /// As [`Edge::Start`], and not in a parameter for free text: code that people ask about, and that runs nowhere there.
    Typed,
    /// As [`Edge::Start`], and in a parameter for free text only with something of a statement besides: what people ask about.
    Searched,
    /// Not in a parameter for free text.
    Meant,
    /// As [`Edge::Start`], and no sentence goes on behind the brackets that follow: "alert() not showing".
    Shown,
    /// As [`Edge::Start`], and the part has something of a script besides: a call, an assignment, an end of a statement.
    Script,
    /// It stands in a dotted name that is used as code uses one: called, quoted, constructed; or that is the whole part
    /// and names no error. Pasted stack traces and questions about an API are neither.
    Code,
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
    /// A word of SQL that every other sentence has: read the part so if anything else of a statement is in it.
    SqlBesides,
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

/// Every word of the tables and every path of the fingerprints.
#[cfg(test)]
pub(super) fn words() -> Vec<&'static str> {
    let groups = TABLES.iter().copied().flatten().flat_map(|group| group.words.iter().copied());
    groups.chain(fingerprint::all().map(|entry| entry.path)).collect()
}

/// What the words of one part woke.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Woken {
    /// A word of SQL.
    pub(super) sql: bool,
    /// A word of SQL that is one of any sentence.
    pub(super) sql_besides: bool,
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

/// All words, filed.
#[derive(Debug)]
pub(super) struct Lexicon {
    words: Words,
    entries: Vec<Entry>,
    /// The words that can mean something in a target without any syntax: all but SQL's own, which stand in every
    /// other URL.
    sieve: Sieve,
}

impl Lexicon {
    /// Files the words.
    pub(super) fn new() -> Self {
        let groups = TABLES.iter().copied().flatten();
        let groups = groups.flat_map(|group| group.words.iter().map(move |word| (*word, Entry::Group(group))));
        let fingerprints = fingerprint::all().map(|entry| (entry.path, Entry::Fingerprint(entry)));
        let (words, entries): (Vec<&str>, Vec<_>) = groups.chain(fingerprints).unzip();
        let plain = words.iter().zip(&entries).filter_map(|(word, entry)| match entry {
            // A call needs a parenthesis, SQL blanks or brackets.
            Entry::Group(
                Group { meaning: Meaning::Sql | Meaning::SqlBesides, .. } | Group { edge: Edge::Call, .. },
            ) => None,
            Entry::Group(group) => Some((*word, group.edge)),
            Entry::Fingerprint(_) => Some((*word, Edge::None)),
        });
        Self { sieve: Sieve::new(plain), words: Words::new(words.iter().copied()), entries }
    }

    /// Whether `target` (path and query as logged, or one of them) is ordinary: plain bytes, and no word that means
    /// something there.
    #[inline]
    pub(super) fn passes(&self, target: &[u8]) -> bool {
        self.sieve.passes(target)
    }

    /// Adds what the words of the request say to `found`, what they wake to `woken` (one per part).
    pub(super) fn judge(&self, target: &Target, method: &[u8], woken: &mut Vec<Woken>, found: &mut Findings) {
        woken.clear();
        woken.resize(target.len(), Woken::default());
        let text = target.lower();
        let mut seen = Seen::default();
        // Hits come in the order of the text, so most are in the part of the one before.
        let mut index = 0;
        self.words.walk(text, |hit| {
            let entry = self.entries[hit.word];
            // Most words stand inside others; that is seen without knowing the part.
            if matches!(entry, Entry::Group(group) if !stands(group.edge, text, hit.start, hit.end)) {
                return ControlFlow::Continue(());
            }
            if !target.span(index).contains(&hit.start) {
                index = target.part_at(hit.start);
            }
            let place = target.place(index);
            match entry {
                // Code hosts and manuals show files of every name.
                Entry::Group(Group { meaning: Meaning::Evidence(AttackClass::Probe, ..), .. })
                    if place == Place::Path && seen.shows(text, hit.start) => {}
                Entry::Group(group) if is_asked_about(group.edge, target, index) => {}
                Entry::Group(group) if group.places.has(place) => {
                    let offset = target.span(index).start;
                    let within = (hit.start - offset, hit.end - offset);
                    apply(group.meaning, hit.start..hit.end, within, &mut woken[index], found);
                }
                Entry::Fingerprint(entry) if place == Place::Path || entry.in_query => {
                    entry.judge(target, method, hit.start..hit.end, &mut seen, found);
                }
                _ => {}
            }
            ControlFlow::Continue(())
        });
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
        Meaning::SqlBesides => woken.sql_besides = true,
        Meaning::Steps => woken.steps = true,
        Meaning::Look => woken.look = true,
    }
}

/// Scripts by URL that do nothing.
const IDLE_SCRIPTS: [&[u8]; 7] =
    [b"void(0)\n", b"void(0);\n", b"void 0\n", b";\n", b"history.", b"void(null)", b"print()"];

/// Functions whose call without arguments tells or does something; `eval()` is how people write a function's name.
const TELLING_WITHOUT_ARGUMENTS: &[&[u8]] = &[
    b"phpinfo",
    b"phpversion",
    b"php_uname",
    b"getenv",
    b"get_current_user",
    b"zend_version",
    b"get_defined_vars",
    b"func_get_args",
    b"debug_backtrace",
    b"ob_start",
    b"die",
    b"token_get_all",
    b"tmpfile",
    b"gzinflate",
    b"getallheaders",
    b"ini_get_all",
    b"phpcredits",
    b"get_loaded_extensions",
    b"sys_getloadavg",
    b"getcwd",
    b"get_included_files",
    b"php_ini_loaded_file",
    b"apache_get_modules",
];

/// Whether the neighbours of the word at `start..end` allow it. Parts of the request end with a line feed.
fn stands(edge: Edge, text: &[u8], start: usize, end: usize) -> bool {
    let before = start.checked_sub(1).map_or(PART_END, |at| text[at]);
    let after = text.get(end).copied().unwrap_or(PART_END);
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match edge {
        Edge::None => true,
        Edge::Word => !word(before) && !word(after),
        Edge::Letters => !before.is_ascii_alphabetic() && !after.is_ascii_alphabetic(),
        Edge::Start => !word(before),
        Edge::Call => {
            let follows = &text[end..];
            let idle = follows.starts_with(b"()") && !TELLING_WITHOUT_ARGUMENTS.contains(&&text[start..end]);
            !word(before) && before != b'-' && !idle && !is_frame(text, start, end) && opens_call(follows)
        }
        // The `=` after a parameter's name ends that part.
        Edge::Assign => !word(before) && (after == PART_END || text[end..].trim_ascii_start().first() == Some(&b'=')),
        Edge::Begin => before == PART_END,
        // What pages of old set a link to that does nothing, and crawlers follow.
        Edge::Scheme if IDLE_SCRIPTS.iter().any(|script| text[end..].starts_with(script)) || after == PART_END => false,
        Edge::Scheme => {
            !matches!(text[end..], [b' ', letter, ..] if letter.is_ascii_alphabetic()) || {
                let behind = text[end..].split(|byte| *byte == PART_END).next().unwrap_or_default();
                behind.contains(&b'(') || behind.contains(&b'`')
            }
        }
        Edge::Segment => matches!(before, b'/' | PART_END) && matches!(after, b'/' | PART_END),
        Edge::End => after == PART_END,
        Edge::Root => {
            before == b'/'
                && (start == 1 || text.get(start.wrapping_sub(2)) == Some(&PART_END))
                && (after == PART_END || after == b'/' && text.get(end + 1).is_none_or(|byte| *byte == PART_END))
        }
        Edge::Code => is_code(text, start, end),
        Edge::Meant => true,
        Edge::Typed | Edge::Searched => !word(before),
        Edge::Shown => !word(before) && !is_told(&text[start..(end + MAX_CALL).min(text.len())]),
        Edge::Script => !word(before) && !is_idle(around(text, start, end)),
    }
}

/// `at eval (eval at <anonymous> …)`: a frame of a stack that a page's script reports.
fn is_frame(text: &[u8], start: usize, end: usize) -> bool {
    let before = [&b" at "[..], b"\nat "].iter().any(|at| text[..start].ends_with(at));
    let places = [&b" (eval at "[..], b" (http", b" (<anonymous>", b" (file:", b" (webpack"];
    before && text[start..end] == *b"eval" && places.iter().any(|place| text[end..].starts_with(place))
}

/// Bytes of a statement: what compares, calls, quotes, comments or ends one.
const STATEMENT: Marks = Marks::QUOTE
    .and(Marks::SEMICOLON)
    .and(Marks::PAREN)
    .and(Marks::COMMENT)
    .and(Marks::EQUALS)
    .and(Marks::ANGLE)
    .and(Marks::PIPE)
    .and(Marks::BACKSLASH)
    .and(Marks::AT);

/// Whether a word with this edge, in the part at `index`, is no more than what somebody looks for or writes about.
fn is_asked_about(edge: Edge, target: &Target, index: usize) -> bool {
    if !matches!(edge, Edge::Meant | Edge::Typed | Edge::Searched) || target.place(index) != Place::Value {
        return false;
    }
    let part = target.part(index);
    is_free_text(part.name) && !(edge == Edge::Searched && part.marks.any(STATEMENT))
}

/// Longest call that is looked over for a sentence behind it.
const MAX_CALL: usize = 64;

/// Whether a call without arguments or with a plain one stands in `text`, and a sentence goes on behind it.
fn is_told(text: &[u8]) -> bool {
    let Some(close) = memchr::memchr(b')', text) else { return false };
    let text = text.split(|byte| *byte == PART_END).next().unwrap_or(text);
    text.get(close + 1..).is_some_and(prose::goes_on)
}

/// What stands around `start..end` in its part, [`MAX_NAME`] bytes on either side at most.
fn around(text: &[u8], start: usize, end: usize) -> &[u8] {
    let before = &text[start.saturating_sub(MAX_NAME)..start];
    let after = &text[end..(end + MAX_NAME).min(text.len())];
    let from = before.iter().rposition(|byte| *byte == PART_END).map_or(0, |at| at + 1);
    let to = after.iter().position(|byte| *byte == PART_END).unwrap_or(after.len());
    &text[start - before.len() + from..end + to]
}

/// Longest dotted name that is looked at on either side of a word.
const MAX_NAME: usize = 128;

/// Whether the dotted name around `start..end` is used as code uses one.
fn is_code(text: &[u8], start: usize, end: usize) -> bool {
    let of_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'$' | b'/' | b'-');
    let first = start - text[..start].iter().rev().take(MAX_NAME).take_while(of_name).count();
    let last = end + text[end..].iter().take(MAX_NAME).take_while(of_name).count();
    let name = &text[first..last];
    if name.ends_with(b"exception") || name.ends_with(b"error") {
        return false;
    }
    let before = &text[..first];
    let after = text.get(last).copied().unwrap_or(PART_END);
    let opened = matches!(
        before.last(),
        Some(b'(' | b'@' | b'{' | b'"' | b'\'' | b'!' | b'#' | b',' | b'[' | b'<' | b'%' | b'&' | b'+' | b'`' | b')')
    ) || before.ends_with(b"new ")
        || before.ends_with(b"import ")
        || before.ends_with(b"from ");
    let whole = before.last().is_none_or(|byte| matches!(*byte, PART_END | b'=')) && after == PART_END;
    opened
        || text[end - 1] == b'('
        || matches!(after, b'(' | b')' | b'@' | b'{' | b'[' | b'\'' | b'"' | b';' | b'`' | b'*')
        || whole && !name.starts_with(b"/")
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
    fn every_word_is_lower_case_and_long_enough() {
        for group in TABLES.iter().copied().flatten() {
            for word in group.words {
                assert!((2..256).contains(&word.len()) && *word == word.to_ascii_lowercase(), "{word}");
            }
        }
        let lexicon = Lexicon::new();
        assert!(!lexicon.passes(b"/x?y=/etc/passwd"));
        assert!(lexicon.passes(b"/blog/page.html"));
    }
}
