//! Undoes what the log itself did to a value so that it fits its line, and nothing else: the bytes that come out are those the
//! client sent.

use crate::request::LogEscape;

/// Whether `raw` holds anything that `escape` could have written. Most values hold nothing, and are read in place.
pub(super) fn is_escaped(raw: &[u8], escape: LogEscape) -> bool {
    let lead = match escape {
        LogEscape::Backslash | LogEscape::Json => b'\\',
        LogEscape::Percent => b'%',
        LogEscape::Hash => b'#',
        LogEscape::Raw => return false,
    };
    memchr::memchr(lead, raw).is_some()
}

/// Appends `raw` to `out` with its log escapes undone. What is no escape stays as it is. Never longer than `raw`.
pub(super) fn undo(raw: &[u8], escape: LogEscape, out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        let read = match (escape, byte) {
            (LogEscape::Backslash, b'\\') => backslash(after, out),
            (LogEscape::Json, b'\\') => json(after, out),
            (LogEscape::Percent, b'%') | (LogEscape::Hash, b'#') => hex_byte(after, out),
            _ => None,
        };
        rest = match read {
            Some(length) => &after[length..],
            None => {
                out.push(byte);
                after
            }
        };
    }
}

/// `\xHH`, `\"`, `\\`: bytes read after the backslash.
fn backslash(after: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    match after.first()? {
        b'x' => hex_byte(&after[1..], out).map(|length| length + 1),
        quoted @ (b'"' | b'\\') => {
            out.push(*quoted);
            Some(1)
        }
        _ => None,
    }
}

/// The escapes of RFC 8259, section 7.
fn json(after: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let plain = match after.first()? {
        quoted @ (b'"' | b'\\' | b'/') => *quoted,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => {
            let digits = std::str::from_utf8(after.get(1..5)?).ok()?;
            let value = u32::from_str_radix(digits, 16).ok()?;
            let character = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(5);
        }
        _ => return None,
    };
    out.push(plain);
    Some(1)
}

fn hex_byte(digits: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let value = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    out.push((value(0)? << 4 | value(1)?).to_le_bytes()[0]);
    Some(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_log_has_its_own_way() {
        let check = |escape: LogEscape, raw: &str, expected: &str| {
            let mut out = Vec::new();
            undo(raw.as_bytes(), escape, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{raw}");
        };
        check(LogEscape::Backslash, r#"\x22a\"b\\c\d\xzz"#, r#""a"b\c\d\xzz"#);
        check(LogEscape::Json, r"\/a\u0026b\n\q", "/a&b\n\\q");
        check(LogEscape::Percent, "/a%2520b%22", "/a%20b\"");
        check(LogEscape::Hash, "/a#22b#", "/a\"b#");
        check(LogEscape::Raw, r"\x22%22#22", r"\x22%22#22");
    }

    proptest::proptest! {
        #[test]
        fn never_longer(raw in "[\\\\%#xu0-9a-f\"/]{0,60}") {
            for escape in [LogEscape::Backslash, LogEscape::Json, LogEscape::Percent, LogEscape::Hash] {
                let mut out = Vec::new();
                undo(raw.as_bytes(), escape, &mut out);
                proptest::prop_assert!(out.len() <= raw.len());
            }
        }
    }
}
