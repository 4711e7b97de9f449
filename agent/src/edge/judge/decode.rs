//! The decoding pipeline: what an application behind the balancer may make of a piece of text.
//!
//! Bytes as logged go in, one canonical reading comes out: log escapes, percent escapes (as often as they are
//! nested, up to [`MAX_ROUNDS`]), `%u` and `\u` escapes, overlong UTF-8, look-alike characters and HTML entities
//! undone. What it took to get there is reported as [`Tricks`]: nobody double-encodes a dot by accident. It never
//! grows the text, never fails, and reads every byte a bounded number of times.

/// How often percent escapes are undone. Three nested layers are the most that any known bypass uses; each costs a
/// pass.
pub(super) const MAX_ROUNDS: u8 = 3;

/// What decoding had to undo.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tricks {
    /// Rounds of percent decoding that changed something.
    pub(super) rounds: u8,
    /// An ASCII character was written as overlong UTF-8, or UTF-8 was broken around one.
    pub(super) overlong: bool,
    /// An ASCII character was written as `%uXXXX` or as a look-alike.
    pub(super) lookalike: bool,
    /// A NUL stands in it: the end of the text for a library in C, white space or nothing for others.
    pub(super) nul: bool,
    /// A printable ASCII character was written as an HTML entity.
    pub(super) entity: bool,
}

/// The buffers the pipeline works in, kept between requests so that it allocates only while they grow.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    text: Vec<u8>,
    spare: Vec<u8>,
}

impl Decoder {
    /// Decodes `raw`. With `form`, `+` means space, as in a query.
    pub(super) fn decode(&mut self, raw: &[u8], form: bool) -> (&[u8], Tricks) {
        let mut tricks = Tricks::default();
        self.text.clear();
        self.text.extend(raw.iter().map(|byte| if form && *byte == b'+' { b' ' } else { *byte }));
        while tricks.rounds < MAX_ROUNDS && self.text.contains(&b'%') {
            self.spare.clear();
            if !percent(&self.text, &mut self.spare, &mut tricks) {
                break;
            }
            std::mem::swap(&mut self.text, &mut self.spare);
            tricks.rounds += 1;
        }
        if self.text.contains(&b'\\') {
            self.pass(backslash, &mut tricks);
        }
        if self.text.iter().any(|byte| *byte >= 0x80) {
            self.pass(unicode, &mut tricks);
        }
        if self.text.contains(&b'&') {
            self.pass(entities, &mut tricks);
        }
        tricks.nul = self.text.contains(&0);
        (&self.text, tricks)
    }

    fn pass(&mut self, step: fn(&[u8], &mut Vec<u8>, &mut Tricks), tricks: &mut Tricks) {
        self.spare.clear();
        step(&self.text, &mut self.spare, tricks);
        std::mem::swap(&mut self.text, &mut self.spare);
    }
}

/// One round of `%HH` and `%uHHHH`. Says whether anything was undone.
fn percent(text: &[u8], out: &mut Vec<u8>, tricks: &mut Tricks) -> bool {
    let mut changed = false;
    let mut rest = text;
    while let Some(percent) = memchr::memchr(b'%', rest) {
        out.extend_from_slice(&rest[..percent]);
        rest = &rest[percent..];
        let taken = if let Some(value) = hex(rest, 1, 2) {
            out.push(value.to_le_bytes()[0]);
            3
        } else if let (Some(b'u' | b'U'), Some(value)) = (rest.get(1), hex(rest, 2, 4)) {
            tricks.lookalike |= push_char(value, out);
            6
        } else {
            out.push(b'%');
            1
        };
        changed |= taken > 1;
        rest = &rest[taken..];
    }
    out.extend_from_slice(rest);
    changed
}

/// `\xHH` (the log's own escape, and JavaScript's), `\uHHHH` and `\u{H…}`.
fn backslash(text: &[u8], out: &mut Vec<u8>, tricks: &mut Tricks) {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte == b'\\' {
            match text.get(at + 1) {
                Some(b'x') if hex(text, at + 2, 2).is_some() => {
                    out.extend(hex(text, at + 2, 2).map(|value| value.to_le_bytes()[0]));
                    at += 4;
                    continue;
                }
                Some(b'u') if hex(text, at + 2, 4).is_some() => {
                    tricks.lookalike |= hex(text, at + 2, 4).is_some_and(|value| push_char(value, out));
                    at += 6;
                    continue;
                }
                Some(b'u') if text.get(at + 2) == Some(&b'{') => {
                    let digits = text[at + 3..].iter().take(6).take_while(|byte| byte.is_ascii_hexdigit()).count();
                    if let Some(value) = hex(text, at + 3, digits).filter(|_| text.get(at + 3 + digits) == Some(&b'}'))
                    {
                        tricks.lookalike |= push_char(value, out);
                        at += 4 + digits;
                        continue;
                    }
                }
                _ => {}
            }
        }
        out.push(byte);
        at += 1;
    }
}

/// `digits` hexadecimal digits at `at`.
fn hex(text: &[u8], at: usize, digits: usize) -> Option<u32> {
    let text = text.get(at..at.checked_add(digits)?)?;
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u32, |sum, byte| Some(sum << 4 | char::from(*byte).to_digit(16)?))
}

/// Appends the character `value` in its plainest spelling; says whether that was an ASCII character in disguise.
fn push_char(value: u32, out: &mut Vec<u8>) -> bool {
    match plain(value) {
        Some(text) => {
            out.extend_from_slice(text.as_bytes());
            true
        }
        None => {
            let character = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            false
        }
    }
}

/// The ASCII reading of a character that servers' best-fit tables, NFKC or IDNA turn into ASCII; ASCII itself
/// included.
fn plain(value: u32) -> Option<&'static str> {
    const ASCII: &str = "\0\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\t\n\u{b}\u{c}\r\u{e}\u{f}\u{10}\u{11}\u{12}\u{13}\u{14}\u{15}\u{16}\u{17}\u{18}\u{19}\u{1a}\u{1b}\u{1c}\u{1d}\u{1e}\u{1f} !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~\u{7f}";
    let ascii = |code: u32| {
        let code = usize::try_from(code).ok()?;
        ASCII.get(code..code + 1)
    };
    match value {
        0..=0x7F => ascii(value),
        0xFF01..=0xFF5E => ascii(value - 0xFF01 + 0x21),
        0x2460..=0x2468 => ascii(value - 0x2460 + u32::from(b'1')),
        0x24EA => Some("0"),
        0x24B6..=0x24CF => ascii(value - 0x24B6 + u32::from(b'a')),
        0x24D0..=0x24E9 => ascii(value - 0x24D0 + u32::from(b'a')),
        0x3002 | 0xFF61 | 0x2024 => Some("."),
        0x2025 => Some(".."),
        0x2026 => Some("..."),
        0x2044 | 0x2215 => Some("/"),
        0x2216 | 0xEFC8 => Some("\\"), // 0xEFC8: a private-use slip of old IIS fuzzers, mapped to a separator there
        0x02B9 | 0x02BC | 0x2032 => Some("'"),
        0x02BA | 0x2033 => Some("\""),
        0x2329 | 0x3008 | 0x2039 => Some("<"),
        0x232A | 0x3009 | 0x203A => Some(">"),
        0x0131 => Some("i"),
        0x017F => Some("s"),
        0x212A => Some("k"),
        // Low byte CR and LF: servers that cut characters to bytes split the response there.
        0x560D => Some("\r"),
        0x560A => Some("\n"),
        _ => None,
    }
}

/// UTF-8 as lenient decoders read it: overlong forms give the ASCII character they hide, a lead byte that nothing
/// follows is dropped where it stands in front of ASCII, look-alikes become plain. Proper text passes through.
fn unicode(text: &[u8], out: &mut Vec<u8>, tricks: &mut Tricks) {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte < 0x80 {
            out.push(byte);
            at += 1;
            continue;
        }
        let (value, length) = lenient(text, at);
        at += length;
        match value {
            // U+010D U+010A: what cuts characters to their low byte makes CR LF of them. Alone they are letters.
            Some(0x010D) if lenient_at(text, at) == Some(0x010A) => {
                tricks.lookalike = true;
                out.extend_from_slice(b"\r\n");
                at += 2;
            }
            Some(hidden) if hidden < 0x80 && length > 1 => {
                tricks.overlong = true;
                push_char(hidden, out);
            }
            Some(value) => tricks.lookalike |= push_char(value, out),
            // C0 and C1 occur in no UTF-8 at all: in front of ASCII they are there to split a filter's word.
            None if byte == 0xC0 || byte == 0xC1 => tricks.overlong = true,
            None => out.push(byte),
        }
    }
}

/// The value of the UTF-8 sequence at `at`, if one is there.
fn lenient_at(text: &[u8], at: usize) -> Option<u32> {
    text.get(at).filter(|byte| **byte >= 0x80).and_then(|_| lenient(text, at).0)
}

/// The value of the UTF-8 sequence at `at` without the check for the shortest form, and its length; `None` for a
/// lone byte.
fn lenient(text: &[u8], at: usize) -> (Option<u32>, usize) {
    let lead = text[at];
    let (following, bits) = match lead {
        0xC0..=0xDF => (1, lead & 0x1F),
        0xE0..=0xEF => (2, lead & 0x0F),
        0xF0..=0xF7 => (3, lead & 0x07),
        0xF8..=0xFB => (4, lead & 0x03),
        0xFC..=0xFD => (5, lead & 0x01),
        _ => return (None, 1),
    };
    let mut value = u32::from(bits);
    for step in 1..=following {
        match text.get(at + step) {
            Some(byte @ 0x80..=0xBF) => value = value << 6 | u32::from(byte & 0x3F),
            _ => return (None, 1),
        }
    }
    (Some(value), following + 1)
}

/// Numeric HTML entities and the named ones that spell punctuation.
fn entities(text: &[u8], out: &mut Vec<u8>, tricks: &mut Tricks) {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte == b'&'
            && let Some((value, length)) = entity(&text[at + 1..])
        {
            tricks.entity |= (0x20..0x7F).contains(&value);
            push_char(value, out);
            at += length + 1;
            continue;
        }
        out.push(byte);
        at += 1;
    }
}

/// Longest name of an entity that is looked up, and more.
const ENTITY_NAME_MAX: usize = 10;

/// The character of the entity that `text` begins with (its `&` already read), and the bytes it takes. Browsers
/// accept any number of leading zeros and a missing semicolon.
fn entity(text: &[u8]) -> Option<(u32, usize)> {
    let (value, length) = if let Some(digits) = text.strip_prefix(b"#x").or_else(|| text.strip_prefix(b"#X")) {
        number(digits, 16).map(|(value, length)| (value, length + 2))?
    } else if let Some(digits) = text.strip_prefix(b"#") {
        number(digits, 10).map(|(value, length)| (value, length + 1))?
    } else {
        let length = text.iter().take(ENTITY_NAME_MAX).take_while(|byte| byte.is_ascii_alphabetic()).count();
        text.get(length).filter(|byte| **byte == b';')?;
        let mut name = [0; ENTITY_NAME_MAX];
        name[..length].copy_from_slice(&text[..length]);
        name.make_ascii_lowercase();
        (named(&name[..length])?, length)
    };
    Some((value, length + usize::from(text.get(length) == Some(&b';'))))
}

fn number(text: &[u8], radix: u32) -> Option<(u32, usize)> {
    // 64 digits: more leading zeros than any browser test uses; without the bound one entity could cost the whole
    // line.
    let length = text.iter().take(64).take_while(|byte| char::from(**byte).is_digit(radix)).count();
    let value = text[..length]
        .iter()
        .try_fold(0_u32, |sum, byte| sum.checked_mul(radix)?.checked_add(char::from(*byte).to_digit(radix)?))?;
    (length > 0 && value < 0x11_0000).then_some((value, length))
}

fn named(name: &[u8]) -> Option<u32> {
    let character = match name {
        b"lt" => '<',
        b"gt" => '>',
        b"quot" => '"',
        b"apos" => '\'',
        b"amp" => '&',
        b"colon" => ':',
        b"semi" => ';',
        b"lpar" => '(',
        b"rpar" => ')',
        b"lbrace" | b"lcub" => '{',
        b"rbrace" | b"rcub" => '}',
        b"dollar" => '$',
        b"sol" => '/',
        b"bsol" => '\\',
        b"period" => '.',
        b"comma" => ',',
        b"equals" => '=',
        b"tab" => '\t',
        b"newline" => '\n',
        b"grave" => '`',
        _ => return None,
    };
    Some(u32::from(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(raw: &str) -> (String, Tricks) {
        let mut decoder = Decoder::default();
        let (text, tricks) = decoder.decode(raw.as_bytes(), true);
        (String::from_utf8_lossy(text).into_owned(), tricks)
    }

    #[test]
    fn every_spelling_comes_out_plain() {
        let check = |raw: &str, expected: &str| assert_eq!(decoded(raw).0, expected, "{raw}");
        check("a+b%20c", "a b c");
        check("%2e%2e%2f", "../");
        check("%252e%252e%252f", "../");
        check("%25252e", ".");
        check("%2525252e", "%2e");
        check("%%32%65", ".");
        check("%u002e%uff0e%u2215", "../");
        check("%c0%ae%c0%af%c1%9c", "./\\");
        check("%e0%80%af", "/");
        check("%f0%80%80%ae", ".");
        check("%fc%80%80%80%80%ae", ".");
        check("%c0.%c0.%c0/", "../");
        check("%ef%bc%8e%e3%80%82", "..");
        check("%e2%91%a0%e2%91%a5%e2%91%a8", "169");
        check(r"\x22\u0027\u{3c}", "\"'<");
        check("%26%23x6a;%26%23106;%26lt;%26dollar;", "jj<$");
        check("%26%230000000106x", "jx");
        check("a%00b", "a\0b");
        check("%E5%98%8A", "\n");
        check("%c4%8d%c4%8aX", "\r\nX");
        check("%c4%8das", "čas");
        check("100%", "100%");
        check("%zz%4", "%zz%4");
        check("h%C3%A9llo%20w%C3%B6rld", "héllo wörld");
        check("&nosuch;&&#;&#x;", "&nosuch;&&#;&#x;");
        check(r"c:\users\x", r"c:\users\x");
    }

    #[test]
    fn what_was_undone_is_reported() {
        let check = |raw: &str, expected: Tricks| assert_eq!(decoded(raw).1, expected, "{raw}");
        check("plain", Tricks::default());
        check("%41", Tricks { rounds: 1, ..Tricks::default() });
        check("%2541", Tricks { rounds: 2, ..Tricks::default() });
        check("%c0%ae", Tricks { rounds: 1, overlong: true, ..Tricks::default() });
        check("%uff0e", Tricks { rounds: 1, lookalike: true, ..Tricks::default() });
        check("%00", Tricks { rounds: 1, nul: true, ..Tricks::default() });
        check("%26%2360;", Tricks { rounds: 1, entity: true, ..Tricks::default() });
        check("%E2%82%AC", Tricks { rounds: 1, ..Tricks::default() });
    }

    proptest::proptest! {
        #[test]
        fn never_longer_than_what_came_in(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let mut decoder = Decoder::default();
            proptest::prop_assert!(decoder.decode(&raw, true).0.len() <= raw.len());
        }

        #[test]
        fn punctuation_soup_is_survived(raw in "[%u0-9a-f&#x;\\\\{}]{0,80}") {
            decoded(&raw);
        }
    }
}
