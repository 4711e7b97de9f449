//! Shell expansions that have no place in a value, whatever the command.

use crate::edge::judge::finding::Findings;
use crate::edge::judge::marks::{Marks, places};
use crate::edge::judge::target::{Part, Place};
use crate::request::AttackClass::Cmdi;

/// Expansions that have no place in a value, whatever the command: `${IFS}`, `/dev/tcp/`, arithmetic, `$(<file)`,
/// `{cat,file}` globs.
pub(super) fn judge(part: &Part<'_>, found: &mut Findings) {
    if part.marks.any(Marks::BRACKET) {
        judge_bracket_glob(part, found);
    }
    if part.marks.any(Marks::DOLLAR.and(Marks::QUOTE).and(Marks::ANGLE)) {
        judge_split_word(part, found);
    }
    if !part.marks.any(Marks::DOLLAR.and(Marks::ANGLE)) {
        return;
    }
    report(part, found, b"${ifs", 60, "writes spaces as the shell's separator variable");
    report(part, found, b"$ifs", 55, "writes spaces as the shell's separator variable");
    report(part, found, b"$((", 50, "has the shell do arithmetic");
    report(part, found, b"/dev/tcp/", 60, "has the shell open a connection");
    report(part, found, b"/dev/udp/", 60, "has the shell open a connection");
    report(part, found, b"$0<<<", 60, "has the shell read a text as commands");
    report(part, found, b"sh<<<", 60, "has the shell read a text as commands");
    report(part, found, b"$(<", 60, "has the shell read a file");
    report(part, found, b"${#", 30, "measures a shell variable");
    report(part, found, b"<(", 20, "has the form of a process substitution");
    report(part, found, b">(", 20, "has the form of a process substitution");
    judge_codes(part, found);
    report(part, found, b"$shell", 50, "names the shell by its variable");
    report(part, found, b"${shell}", 60, "names the shell by its variable");
    for cut in [
        &b"${path:"[..],
        b"${home:",
        b"${pwd:",
        b"${path%",
        b"${home%",
        b"${pwd%",
        b"${path#",
        b"${home#",
        b"${ls_colors:",
    ] {
        report(part, found, cut, 50, "cuts characters out of a shell variable");
    }
}

/// Most bytes of a quoted word that are looked over for a character's code.
const MAX_QUOTED: usize = 64;

/// `$'\143\141\164'`: a word by the codes of its characters; `$'\r'` is what an error message shows.
fn judge_codes(part: &Part<'_>, found: &mut Findings) {
    let coded = |at: &usize| {
        let inside = &part.lower[at + 2..(at + 2 + MAX_QUOTED).min(part.lower.len())];
        let inside = inside.split(|byte| *byte == b'\'').next().unwrap_or_default();
        inside.windows(3).any(|three| matches!(three, [b'\\', b'0'..=b'7', b'0'..=b'7'] | [b'\\', b'x' | b'u', _]))
    };
    if part.pairs.may_hold(b"$'")
        && let Some(at) = memchr::memmem::find_iter(part.lower, b"$'").find(coded)
    {
        let span = part.offset + at..part.offset + at + 2;
        found.add(Cmdi, 55, span, "writes a word by the codes of its characters");
    }
}

/// Inlined, so that it is known before which pairs of bytes the needle has.
#[inline(always)]
fn report(part: &Part<'_>, found: &mut Findings, needle: &[u8], weight: u8, reason: &'static str) {
    if part.pairs.may_hold(needle)
        && !found.has(Cmdi, weight, reason)
        && let Some(at) = memchr::memmem::find(part.lower, needle)
    {
        found.add(Cmdi, weight, part.offset + at..part.offset + at + needle.len(), reason);
    }
}

/// `c$@at`, `pi``ng`, `c$?at+/et$?c`: expansions to nothing inside a word.
fn judge_split_word(part: &Part<'_>, found: &mut Findings) {
    let text = part.lower;
    let mut splits = 0;
    let certain = places(text, Marks::DOLLAR.and(Marks::QUOTE).and(Marks::ANGLE)).any(|at| {
        if !text[..at].last().is_some_and(u8::is_ascii_lowercase) {
            return false;
        }
        let (length, certain) = match &text[at..] {
            [b'`', b'`', ..] | [b'$', b'@', ..] => (2, true),
            [b'$' | b'<', b'(', b')', ..] => (3, true),
            [b'$', b'*' | b'?' | b'$' | b'_' | b'!', ..] => (2, false),
            [b'$', b'{', name, b'}', ..] if name.is_ascii_lowercase() => (4, false),
            // `cat$u /etc$u/passwd$u`: an unset variable at the end of every word.
            [b'$', name, behind @ ..]
                if name.is_ascii_lowercase() && matches!(behind.first(), None | Some(b' ' | b'/')) =>
            {
                splits += 1;
                return false;
            }
            _ => return false,
        };
        let splits_word = text.get(at + length).is_some_and(u8::is_ascii_lowercase);
        splits += usize::from(splits_word);
        splits_word && certain
    });
    if splits >= 2 || certain {
        found.add(Cmdi, 55, part.offset..part.offset + text.len(), "splits words with expansions to nothing");
    }
}

/// `/[e]tc/passwd`, `/usr/[a-z]in/bash`: one-letter character classes inside a path.
fn judge_bracket_glob(part: &Part<'_>, found: &mut Findings) {
    if part.place == Place::Path || !part.marks.any(Marks::SLASH) {
        return;
    }
    let text = part.lower;
    for open in memchr::memchr_iter(b'[', text).take(16) {
        let Some(close) = memchr::memchr(b']', &text[open..(open + 12).min(text.len())]) else { continue };
        let inside = &text[open + 1..open + close];
        let letter_after = text.get(open + close + 1).is_some_and(u8::is_ascii_lowercase);
        let path_before = open > 0
            && (text[open - 1] == b'/'
                || text[..open]
                    .rsplit(|byte| *byte == b'/')
                    .next()
                    .is_some_and(|word| word.len() < 5 && word.len() < open));
        if letter_after && path_before && !inside.is_empty() && inside[0].is_ascii_lowercase() {
            found.add(
                Cmdi,
                55,
                part.offset + open..part.offset + open + close + 1,
                "writes a path with character classes",
            );
        }
    }
}
