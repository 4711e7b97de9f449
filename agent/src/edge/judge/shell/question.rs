//! What looks like a command line and is none: lists of words, questions about a command, names of tools and languages.

use super::Words;
use super::reader::{Text, read_command};
use super::word::command;
use crate::edge::judge::target::Part;

/// `ruby|python|perl`, `sort; find; test`: three or more lone words between separators of one kind, a list and no
/// command line, even if every word is a program too.
pub(super) fn is_list(text: &[u8]) -> bool {
    let Some(separator) = text.iter().find(|byte| !byte.is_ascii_alphabetic()).copied() else { return false };
    let word = |piece: &[u8]| !piece.is_empty() && piece.iter().all(u8::is_ascii_alphabetic);
    matches!(separator, b'|' | b';' | b'&')
        && text.split(|byte| *byte == separator).all(|piece| word(piece.trim_ascii_start()))
        && text.split(|byte| *byte == separator).count() >= 3
}

/// Whether what follows the command ends there or is another one: `id;`, `ls|whoami`, not "curl; wave".
pub(super) fn goes_on(part: &Part<'_>, words: &Words) -> bool {
    let rest = part.lower[words.end..].trim_ascii_start();
    let rest = rest.get(1..).unwrap_or_default();
    let next = read_command(&mut Text::new(rest), 0);
    next.is_none_or(|next| command(&next.name).is_some() || next.name.iter().any(|byte| !byte.is_ascii_alphabetic()))
}

/// Whether the last words of a command's arguments are a sentence's: two of letters alone, after one that is not.
pub(super) fn ends_in_prose(arguments: &[u8]) -> bool {
    let arguments = arguments.trim_ascii();
    let mut words = arguments.rsplit(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let plain = |word: Option<&[u8]>| {
        word.is_some_and(|word| word.len() > 1 && word.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'?'))
    };
    plain(words.next()) && plain(words.next()) && words.next().is_some()
        || arguments.split(|byte| *byte == b' ').count() == 2
            && plain(arguments.rsplit(|byte| *byte == b' ').next())
            && QUESTIONS.iter().any(|word| arguments.ends_with(word))
}

/// Words that end a question about a command.
const QUESTIONS: &[&[u8]] = &[
    b" meaning",
    b" explained",
    b" example",
    b" examples",
    b" tutorial",
    b" command",
    b" option",
    b" options",
    b" usage",
];

/// Tools that developers ask about, and that intruders find on no web server; at the start of a text they say nothing.
pub(super) fn is_developers(name: &[u8]) -> bool {
    matches!(
        name,
        b"npm"
            | b"docker"
            | b"kubectl"
            | b"pip"
            | b"pip3"
            | b"git"
            | b"apt-get"
            | b"apt"
            | b"yum"
            | b"make"
            | b"gcc"
            | b"cc"
            | b"sed"
            | b"awk"
            | b"gawk"
            | b"grep"
            | b"egrep"
            | b"vim"
            | b"vi"
            | b"nano"
            | b"emacs"
            | b"ssh"
            | b"svn"
            | b"javac"
            | b"gem"
            | b"systemctl"
            | b"openssl"
            | b"node"
            | b"go"
            | b"mysql"
            | b"psql"
    )
}

/// Programs that do something to what they read and nothing besides, named like words that a list may hold.
pub(super) fn is_filter(name: &[u8]) -> bool {
    matches!(
        name,
        b"cut"
            | b"fold"
            | b"head"
            | b"join"
            | b"less"
            | b"more"
            | b"paste"
            | b"rev"
            | b"sort"
            | b"split"
            | b"strings"
            | b"sum"
            | b"tail"
    )
}

/// Languages and shells whose name alone answers "which one".
pub(super) fn is_interpreter(name: &[u8]) -> bool {
    matches!(name, b"bash" | b"sh" | b"zsh" | b"ksh" | b"csh" | b"dash" | b"powershell" | b"pwsh" | b"cmd" | b"cmd.exe")
        || matches!(name, b"python" | b"python3" | b"perl" | b"ruby" | b"php" | b"lua")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_words_are_no_command_lines() {
        let check = |text: &str, expected: bool| assert_eq!(is_list(text.as_bytes()), expected, "{text}");
        check("ruby|python|perl", true);
        check("sort; find; test", true);
        check("a|id", false);
        check(";id;ls;", false);
        check("a;b -l;c", false);
        check("", false);
    }

    #[test]
    fn questions_end_in_words() {
        let check = |text: &str, expected: bool| assert_eq!(ends_in_prose(text.as_bytes()), expected, "{text}");
        check(" 777 bad idea", true);
        check(" -rf / what does it do", true);
        check(" /etc/passwd meaning", true);
        check(" -c 3 127.0.0.1", false);
        check(" /etc/passwd", false);
        check(" -la", false);
    }
}
