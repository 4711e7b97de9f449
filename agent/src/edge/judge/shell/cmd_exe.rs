//! Statements of the Windows command shell.

use super::word::command;
use crate::edge::judge::finding::Findings;
use crate::edge::judge::target::{Part, Place};
use crate::request::AttackClass::Cmdi;

/// cmd.exe: `for /f … do`, `if exist x cmd`, `%COMSPEC%`.
pub(super) fn judge(part: &Part<'_>, found: &mut Findings) {
    if !matches!(part.place, Place::Value | Place::Name) {
        return;
    }
    // `…&ver;>q1&rem;`: the separators that end a command begin a parameter, and what is run is its name.
    if part.place == Place::Name && is_statement(part.lower) {
        let span = part.offset..part.offset + part.lower.len();
        return found.add(Cmdi, 50, span, "is a statement of the Windows command shell");
    }
    if cuts_variable(part.lower) {
        let span = part.offset..part.offset + part.lower.len();
        return found.add(Cmdi, 55, span, "cuts characters out of a shell variable");
    }
    let mut words = part
        .lower
        .split(|byte| matches!(byte, b' ' | b'\t' | b'&' | b'|' | b'@' | b'\n' | b';'))
        .filter(|word| !word.is_empty());
    let mut state = (0_usize, None::<&[u8]>);
    // 24: the head of a batch statement; what follows is its body.
    for _ in 0..24 {
        let Some(word) = words.next() else { break };
        let weight = match (state.1, word) {
            (Some(b"for"), word)
                if names_variable(word, part.lower) || matches!(word, b"/f" | b"/d" | b"/r" | b"/l") =>
            {
                60
            }
            (Some(b"if"), b"/i" | b"exist" | b"defined" | b"errorlevel" | b"cmdextversion") => 55,
            (Some(b"not"), b"exist" | b"defined" | b"errorlevel" | b"/i" | b"cmdextversion") if state.0 > 0 => 55,
            (Some(_), b"equ" | b"neq" | b"lss" | b"leq" | b"gtr" | b"geq") if state.0 > 0 => 55,
            (_, word) if state.0 > 0 && memchr::memmem::find(word, b"==").is_some() => 50,
            _ => 0,
        };
        if weight > 0 {
            found.add(
                Cmdi,
                weight,
                part.offset..part.offset + part.lower.len(),
                "is a statement of the Windows command shell",
            );
            return;
        }
        state = (state.0 + usize::from(word == b"if"), Some(word));
    }
}

/// `%i`, `%%i`, `%~`: what `for` counts with. `{% for %}` is a template's.
fn names_variable(word: &[u8], text: &[u8]) -> bool {
    word.starts_with(b"%") && !(word.starts_with(b"%}") && memchr::memmem::find(text, b"{%").is_some())
}

/// `ver;>q1`, `rem;`: a command whose output goes to a file, or that makes a comment of the rest.
fn is_statement(name: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b';', name) else { return false };
    let (word, behind) = (&name[..end], &name[end + 1..]);
    *word == *b"rem" && behind.is_empty() || behind.starts_with(b">") && command(word).is_some()
}

/// `%programfiles:~10,-18%`: characters of a variable that make a word of something else.
fn cuts_variable(text: &[u8]) -> bool {
    memchr::memmem::find_iter(text, b":~").any(|at| {
        let inside = &text[at + 2..];
        let length =
            inside.iter().take(12).take_while(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'-')).count();
        let word = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'(' | b')');
        let named = text[..at].iter().rev().take(MAX_VARIABLE).take_while(word).count();
        let opened = at.checked_sub(named + 1).is_some_and(|before| matches!(text[before], b'%' | b'!'));
        // The percent sign and two digits behind it may have been taken for an escape.
        named > 0
            && opened
            && length > 0
            && inside.get(length).is_some_and(|byte| matches!(byte, b'%' | b'!' | 0..=0x1F))
    })
}

/// Longest name of a variable that is looked for, in bytes; those of Windows have two dozen.
const MAX_VARIABLE: usize = 48;
