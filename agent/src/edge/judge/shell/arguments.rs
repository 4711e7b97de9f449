//! What follows a command word: arguments that only a command line has, or words of a sentence.

use crate::edge::judge::prose::MAX_TOLD;

/// What follows a command word.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Arguments {
    /// Nothing: the command ends here.
    None,
    /// Options, paths, variables, addresses, redirections.
    Technical,
    /// Words.
    Prose,
}

impl Arguments {
    /// Of the command `name`, whose arguments stand in `text` at `from..to`.
    pub(super) fn of(name: &[u8], text: &[u8], from: usize, to: usize, braced: bool) -> Self {
        let rest = text.get(from..to).unwrap_or_default();
        // Commands overlap (`<(a <(a …`), and each looks at what follows it.
        let blanks = rest.iter().take_while(|byte| **byte == b' ').count();
        let rest = &rest[..rest.len().min(blanks + MAX_TOLD)];
        let trimmed = rest.trim_ascii();
        let first = trimmed.split(|byte| *byte == b' ').next().unwrap_or_default();
        if name == b"alias" && first.contains(&b'=') {
            return Self::Technical;
        }
        let canary = matches!(name, b"echo" | b"printf" | b"expr") && first.len() == trimmed.len() && mixes(first);
        if canary || PAIRS.iter().any(|(command, arguments)| *command == name && arguments.contains(&first)) {
            return Self::Technical;
        }
        // What is written to a file, or cut off: no sentence ends so.
        if memchr::memmem::find(rest, b">>").is_some() || trimmed.ends_with(b" #") || trimmed == b"#" && rest.len() > 1
        {
            return Self::Technical;
        }
        if rest.iter().all(|byte| matches!(byte, 0 | b' ' | b'\t' | b'\'' | b'"' | b')' | b'}' | b'/' | b'#' | b','))
            || rest.starts_with(b"\\n")
        {
            return Self::None;
        }
        if matches!(rest.first(), Some(b'<' | b'>' | b'$'))
            || rest.starts_with(b"/c")
            || (braced && rest.starts_with(b","))
        {
            return Self::Technical;
        }
        // What makes a command line one shows in its first arguments; two plain words in a row are a sentence.
        let mut words = rest.split(|byte| matches!(byte, b' ' | b'\t' | b'+')).filter(|word| !word.is_empty());
        let technical = words.by_ref().take(2).any(is_technical) || words.take(6).any(is_certain);
        if technical { Self::Technical } else { Self::Prose }
    }
}

/// Commands and first arguments that are words, and nothing but that command's.
const PAIRS: &[(&[u8], &[&[u8]])] = &[
    (b"ps", &[b"aux", b"ax", b"ef", b"auxf", b"auxww"]),
    (b"ip", &[b"a", b"addr", b"address", b"r", b"route", b"link", b"n", b"neigh"]),
    (b"net", &[b"user", b"users", b"localgroup", b"view", b"start", b"stop", b"group", b"share", b"use", b"accounts"]),
    (b"reg", &[b"query", b"add", b"save", b"delete"]),
    (b"sc", &[b"query", b"create", b"start", b"stop", b"config"]),
    (b"id", &[b"root"]),
    (b"route", &[b"print", b"add"]),
    (b"env", &[b"bash", b"sh"]),
    (b"busybox", &[b"id", b"ls", b"sh", b"wget", b"nc", b"cat", b"telnetd"]),
    (b"systemctl", &[b"status", b"stop", b"start"]),
    (b"netsh", &[b"interface", b"advfirewall", b"wlan", b"firewall"]),
    (b"wmic", &[b"process", b"os", b"useraccount", b"service"]),
];

/// Letters and digits in one word, as in the marks that tests have a command print.
fn mixes(word: &[u8]) -> bool {
    word.len() >= 4
        && word.iter().all(u8::is_ascii_alphanumeric)
        && word.iter().any(u8::is_ascii_digit)
        && word.iter().any(u8::is_ascii_alphabetic)
}

/// Arguments that only a command line has, wherever they stand.
fn is_certain(word: &[u8]) -> bool {
    (word.len() > 2 && matches!(word.first(), Some(b'/' | b'>' | b'<' | b'$')))
        || memchr::memmem::find(word, b"://").is_some()
}

fn is_technical(word: &[u8]) -> bool {
    let word = word.strip_suffix(b")").or_else(|| word.strip_suffix(b"`")).unwrap_or(word);
    let unquoted = word.iter().position(|byte| !matches!(byte, b'"' | b'\'' | b'(')).map_or(word, |at| &word[at..]);
    let dot_inside = || {
        unquoted
            .iter()
            .position(|byte| *byte == b'.')
            .is_some_and(|at| at > 0 && unquoted.get(at + 1).is_some_and(u8::is_ascii_alphanumeric))
    };
    match unquoted.first() {
        Some(b'-') => {
            unquoted.get(1).is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'-') && unquoted.len() <= 24
        }
        Some(b'/' | b'~' | b'$' | b'<' | b'>' | b'%' | b'*' | b'`' | b'{') => unquoted.len() > 1,
        Some(drive) if drive.is_ascii_alphabetic() && unquoted.get(1) == Some(&b':') => true,
        Some(byte) if byte.is_ascii_digit() => unquoted.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.'),
        Some(_) => {
            memchr::memmem::find(unquoted, b"://").is_some()
                || unquoted.contains(&b'$')
                || unquoted.contains(&b'\\')
                || unquoted.contains(&b'`')
                || (unquoted.contains(&b'/') && unquoted.len() > 3)
                || dot_inside()
        }
        None => false,
    }
}
