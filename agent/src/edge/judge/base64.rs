//! Base64 that carries text: exploit kits put their command in it, and filters look past it.

use ::base64::Engine as _;
use ::base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Shortest word that is undone: shorter ones decode to something readable by chance.
pub(super) const MIN_WORD: usize = 16;

/// Longest word that is undone.
const MAX_WORD: usize = 8 * 1024;

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
