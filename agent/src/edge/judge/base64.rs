//! Base64 that carries text: exploit kits put their command in it, and filters look past it.

use ::base64::Engine as _;
use ::base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Shortest word that is undone: shorter ones decode to something readable by chance.
pub(super) const MIN_WORD: usize = 16;

/// Longest word that is undone.
const MAX_WORD: usize = 8 * 1024;

/// Whether the first twelve bytes that `word` stands for could be ASCII: in the words of four digits that stand for
/// three bytes, each byte's top bit has a place of its own. Of random words one in 4096 looks so.
pub(super) fn looks_like_text(word: &[u8]) -> bool {
    const PER_QUAD: [u8; 4] = [0x20, 0x08, 0x02, 0];
    word.len() >= MIN_WORD
        && word.iter().take(MIN_WORD).enumerate().all(|(at, digit)| {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return false,
            };
            value & PER_QUAD[at % 4] == 0
        })
}

/// Decodes `word` (either alphabet, padded or not) and appends it to `out`, if what comes out is readable ASCII
/// text with something in it that words alone do not have. Says whether it did.
pub(super) fn decode(word: &[u8], out: &mut Vec<u8>) -> bool {
    let padding = word.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    let word = &word[..word.len() - padding];
    if !(MIN_WORD..=MAX_WORD).contains(&word.len()) || !word.iter().all(is_digit) {
        return false;
    }
    // Most long words in URLs are identifiers; the first bytes give them away.
    let mut first = [0; 12];
    let start = word.get(..12).unwrap_or_default();
    let begins =
        STANDARD_NO_PAD.decode_slice(start, &mut first).or_else(|_| URL_SAFE_NO_PAD.decode_slice(start, &mut first));
    if !begins.is_ok_and(|length| first[..length].iter().all(is_readable)) {
        return false;
    }
    let engine = if word.iter().any(|byte| matches!(byte, b'-' | b'_')) { &URL_SAFE_NO_PAD } else { &STANDARD_NO_PAD };
    let start = out.len();
    out.resize(start + word.len(), 0);
    let length = engine.decode_slice(word, &mut out[start..]).unwrap_or(0);
    out.truncate(start + length);
    let text = &out[start..];
    let readable = text.iter().all(is_readable);
    let speaks = text.iter().any(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'_' | b'.' | b'\n'));
    if length > 0 && readable && speaks {
        return true;
    }
    out.truncate(start);
    false
}

const fn is_readable(byte: &u8) -> bool {
    matches!(byte, 0x20..0x7F | b'\t' | b'\n' | b'\r')
}

const fn is_digit(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_text_is_told_from_identifiers() {
        let check = |word: &str, expected: bool| assert_eq!(looks_like_text(word.as_bytes()), expected, "{word}");
        check("Y2F0IC9ldGMvcGFzc3dk", true);
        check("c2ggLWMgd2hvYW1pOyBpZA==", true);
        check("Y3VybCBodHRwOi8v", true);
        check("4f8a2c19d7e3b0554f8a", false);
        check("0a1b2c3d4e5f60718293", false);
        check("zzzzzzzzzzzzzzzzzzzz", false);
        check("c2hvcnQ", false);
    }

    #[test]
    fn text_comes_out_and_noise_does_not() {
        let check = |word: &str, expected: Option<&str>| {
            let mut out = Vec::new();
            let decoded = decode(word.as_bytes(), &mut out);
            let expected = expected.map(str::as_bytes);
            assert_eq!(decoded.then_some(&out[..]), expected, "{word}");
            assert!(decoded || out.is_empty());
        };
        check("Y2F0IC9ldGMvcGFzc3dk", Some("cat /etc/passwd"));
        check("c2ggLWMgd2hvYW1pOyBpZA==", Some("sh -c whoami; id"));
        check("c2hvcnQ", None);
        check("administratorpanel", None);
        check("4f8a2c19d7e3b0554f8a", None);
        check("not base64 at all!!", None);
    }
}
