//! Reads one simple command as a shell would: assignments skipped, quotes, backslashes, empty variables and braces undone.

/// Longest word of a command that is read, in bytes after unquoting: program names and their paths are short.
pub(super) const MAX_WORD: usize = 96;

/// A command word without quotes, cut at [`MAX_WORD`]. On the stack: it is read for every value of every request.
#[derive(Clone, Copy)]
pub(super) struct Name {
    bytes: [u8; MAX_WORD],
    length: usize,
}

impl Default for Name {
    fn default() -> Self {
        Self { bytes: [0; MAX_WORD], length: 0 }
    }
}

impl Name {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn clear(&mut self) {
        self.length = 0;
    }
}

impl std::ops::Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Variables that are searched for one by one; with more of them each search through the text would make its cost grow with the
/// square of its length.
const ASKED_MAX: usize = 4;

/// A text of commands, and what was found out about it: commands overlap (`<(<(<(`), and each would look again.
pub(super) struct Text<'t> {
    text: &'t [u8],
    /// From where to where no command ends; asked in any order, used as long as it fits.
    unbroken: std::ops::Range<usize>,
    /// Variables that were asked for.
    asked: usize,
    /// Bytes that stand behind a `$` or `{`: most names that are asked for begin with none of them.
    begins: Option<[bool; 256]>,
    /// What stands behind each `$` and `{`, sorted.
    variables: Option<Vec<&'t [u8]>>,
}

impl<'t> Text<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Self { text, unbroken: 0..0, asked: 0, begins: None, variables: None }
    }

    /// Whether `$name` or `${name` stands behind `from`; where many variables were asked for, whether it stands anywhere.
    pub(super) fn uses_variable(&mut self, name: &[u8], from: usize) -> bool {
        let text = self.text;
        let begins = self.begins.get_or_insert_with(|| {
            let behind = memchr::memchr2_iter(b'$', b'{', text).filter_map(|at| text.get(at + 1));
            let mut begins = [false; 256];
            behind.for_each(|byte| begins[usize::from(*byte)] = true);
            begins
        });
        if !name.first().is_some_and(|byte| begins[usize::from(*byte)]) {
            return false;
        }
        if self.asked < ASKED_MAX {
            self.asked += 1;
            return memchr::memchr2_iter(b'$', b'{', &text[from..]).any(|at| text[from + at + 1..].starts_with(name));
        }
        let variables = self.variables.get_or_insert_with(|| {
            let behind = |at: usize| &text[at + 1..(at + 1 + MAX_WORD).min(text.len())];
            let mut variables: Vec<_> = memchr::memchr2_iter(b'$', b'{', text).map(behind).collect();
            variables.sort_unstable();
            variables
        });
        let first = variables.partition_point(|variable| *variable < name);
        variables.get(first).is_some_and(|variable| variable.starts_with(name))
    }

    /// Where the simple command that goes on at `from` ends.
    fn command_end(&mut self, from: usize) -> usize {
        if !self.unbroken.contains(&from) {
            let ends = |byte: &u8| matches!(byte, b';' | b'|' | b'&' | b'`' | b'\n' | b'\r');
            let length = self.text[from..].iter().position(ends).unwrap_or(self.text.len() - from);
            self.unbroken = from..from + length;
        }
        self.unbroken.end
    }
}

/// The words of one simple command, unquoted.
pub(super) struct Words {
    /// The command word.
    pub(super) name: Name,
    /// Where the command word ends in the text.
    pub(super) name_end: usize,
    /// Where the simple command ends in the text.
    pub(super) end: usize,
    /// The word was written with quotes, backslashes, variables or braces inside.
    pub(super) disguised: bool,
    /// An assignment stood before it (`X=y cmd`), or it was the value of a variable.
    pub(super) assigned: bool,
    /// Braces held it: `{cat,/etc/passwd}`.
    pub(super) braced: bool,
}

/// Reads one simple command at `at`: skips spaces, parentheses and assignments, unquotes its first word.
pub(super) fn read_command(whole: &mut Text<'_>, at: usize) -> Option<Words> {
    let text = whole.text;
    let mut words =
        Words { name: Name::default(), name_end: 0, end: 0, disguised: false, assigned: false, braced: false };
    let mut start = at;
    // 4: assignments and openers in front of one command.
    for _ in 0..4 {
        start += text[start.min(text.len())..]
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'(' | b'@' | b'!' | b'"' | b'\'' | b'+'))
            .count();
        if text.get(start) == Some(&b'{') {
            words.braced = true;
            start += 1 + text[start + 1..].iter().take_while(|byte| matches!(byte, b',' | b' ')).count();
        }
        words.name_end = unquote(text, start, &mut words);
        if is_empty_variable(&words.name) && matches!(text.get(words.name_end), Some(b' ' | b'\t')) {
            words.disguised = true;
            start = words.name_end;
            words.name.clear();
            continue;
        }
        if !words.name.contains(&b'=') {
            break;
        }
        words.assigned = true;
        if text.get(words.name_end).is_none_or(|byte| !matches!(byte, b' ' | b'\t')) {
            break;
        }
        start = words.name_end;
        words.name.clear();
    }
    words.end = whole.command_end(words.name_end);
    (!words.name.is_empty()).then_some(words)
}

/// `$x` as a word: expands to nothing where it is not set.
fn is_empty_variable(word: &[u8]) -> bool {
    word.len() <= 3 && word.starts_with(b"$") && word[1..].iter().all(u8::is_ascii_alphabetic)
}

/// Unquotes the word at `from` into `words.name`; gives its end. Empty quotes, backslashes and carets, `$@`, `$1`,
/// `$IFS` and `${IFS}` are what a shell drops or reads as a space.
fn unquote(text: &[u8], from: usize, words: &mut Words) -> usize {
    let mut at = from;
    while let Some(&byte) = text.get(at) {
        if words.name.len() >= MAX_WORD {
            break;
        }
        match byte {
            b'\'' | b'"' => {
                // A quote inside a word is a disguise; one that closes it is syntax around it.
                words.disguised |= at > from && text.get(at + 1).is_some_and(u8::is_ascii_alphanumeric);
                at += 1;
            }
            b'\\' | b'^' if text.get(at + 1).is_some_and(u8::is_ascii_alphanumeric) && !looks_windows(text, at) => {
                words.disguised |= at > from;
                at += 1;
            }
            b'$' if matches!(text.get(at + 1), Some(b'\'' | b'"')) => at += 1,
            // `\n` written out at the end of a word is a line feed, not a disguise.
            b'\\'
                if matches!(text.get(at + 1), Some(b'n' | b'r'))
                    && !text.get(at + 2).is_some_and(u8::is_ascii_alphanumeric) =>
            {
                break;
            }
            b'$' => match variable_length(text, at) {
                Some((length, space)) => {
                    words.disguised = true;
                    if space && !words.name.is_empty() {
                        return at;
                    }
                    at += length;
                }
                None => {
                    words.name.push(byte);
                    at += 1;
                }
            },
            0 | b' ' | b'\t' | b';' | b'|' | b'&' | b'`' | b'\n' | b'\r' | b'<' | b'>' | b'(' | b')' | b',' | b'}'
            | b'+' | b'#' => break,
            _ => {
                words.name.push(byte);
                at += 1;
            }
        }
    }
    at
}

/// `c:\windows\…`: there a backslash separates names.
fn looks_windows(text: &[u8], at: usize) -> bool {
    text[..at].iter().rev().take(64).take_while(|byte| !byte.is_ascii_whitespace()).any(|byte| *byte == b':')
}

/// Length of a variable at `at` that expands to nothing or to white space, and whether it is the latter.
fn variable_length(text: &[u8], at: usize) -> Option<(usize, bool)> {
    const EMPTY: [&[u8]; 8] = [b"$@", b"$*", b"$1", b"$2", b"$9", b"${@}", b"${9}", b"$()"];
    let rest = &text[at..];
    if rest.starts_with(b"${ifs") {
        return Some((rest.iter().take(32).position(|byte| *byte == b'}').map_or(6, |end| end + 1), true));
    }
    if rest.starts_with(b"$ifs") {
        return Some((
            4 + usize::from(matches!(rest.get(4), Some(b'$')) && rest.get(5).is_some_and(u8::is_ascii_digit)) * 2,
            true,
        ));
    }
    EMPTY.iter().find(|variable| rest.starts_with(variable)).map(|variable| (variable.len(), false))
}
