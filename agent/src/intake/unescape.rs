//! Text within JSON, its escapes undone. In: what stands between two quotes of a document that was found well-formed. Out: the
//! text, in memory that many texts share: a delivery of thousands of lines takes as many pieces as it has 64 KiB.

use bytes::{Bytes, BytesMut};

/// Memory is taken in pieces of this size, unless a text is longer.
const PIECE_BYTES: usize = 64 << 10;

/// Memory for the texts of one delivery.
#[derive(Debug, Default)]
pub(super) struct Texts {
    piece: BytesMut,
    /// Memory taken so far.
    pub(super) taken: usize,
}

impl Texts {
    /// The text of `quoted`, which stands in a document of `within` bytes: no more than that is ever taken for it in advance.
    pub(super) fn unescaped(&mut self, quoted: &[u8], within: usize) -> Bytes {
        // No escape is shorter than what it stands for.
        if self.piece.capacity() < quoted.len() {
            let size = PIECE_BYTES.min(within).max(quoted.len());
            self.piece = BytesMut::with_capacity(size);
            self.taken += self.piece.capacity();
        }
        let mut rest = quoted;
        while let Some(escape) = memchr::memchr(b'\\', rest) {
            self.piece.extend_from_slice(&rest[..escape]);
            rest = undo(&rest[escape + 1..], &mut self.piece);
        }
        self.piece.extend_from_slice(rest);
        self.piece.split().freeze()
    }
}

/// Undoes the escape whose backslash stands before `text`; gives what follows it.
fn undo<'t>(text: &'t [u8], into: &mut BytesMut) -> &'t [u8] {
    let Some((kind, rest)) = text.split_first() else { return text };
    let byte = match kind {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 0x08,
        b'f' => 0x0C,
        b'u' => return undo_unit(rest, into),
        itself => *itself,
    };
    into.extend_from_slice(&[byte]);
    rest
}

/// `XXXX` of a `\u`, and the second half where the first is one of a pair. A half alone stands for no character; the
/// line that holds it is read all the same.
fn undo_unit<'t>(text: &'t [u8], into: &mut BytesMut) -> &'t [u8] {
    let Some((first, rest)) = unit(text) else { return text };
    let second = rest.strip_prefix(b"\\u").and_then(unit).filter(|(second, _)| (0xDC00..0xE000).contains(second));
    let (code, rest) = match second {
        Some((second, rest)) if (0xD800..0xDC00).contains(&first) => {
            (0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00), rest)
        }
        _ => (first, rest),
    };
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    into.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    rest
}

fn unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let value = digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(quoted: &str) -> String {
        String::from_utf8(Texts::default().unescaped(quoted.as_bytes(), quoted.len()).to_vec()).expect("text")
    }

    #[test]
    fn every_escape_is_undone() {
        let check = |quoted: &str, expected: &str| assert_eq!(text(quoted), expected, "{quoted}");
        check(r#"a \"b\" c"#, "a \"b\" c");
        check(r"\\x22\/\b\f\n\r\t", "\\x22/\u{8}\u{c}\n\r\t");
        check(r"\u0041\u00e9\u20AC\ud83d\ude00", "Aé€😀");
        check(r"\ud83d", "\u{FFFD}");
        check(r"\ude00\ud83dx\ud83d\u0041", "\u{FFFD}\u{FFFD}x\u{FFFD}A");
        check("", "");
    }

    #[test]
    fn texts_share_memory_and_a_short_document_takes_little() {
        let mut texts = Texts::default();
        let (one, two) = (texts.unescaped(br"a\n", 1000), texts.unescaped(br"\tb", 1000));
        assert_eq!((&one[..], &two[..]), (&b"a\n"[..], &b"\tb"[..]));
        assert_eq!(two.as_ptr() as usize - one.as_ptr() as usize, one.len());
        assert_eq!(texts.taken, 1000);
        texts.unescaped(&[b'x'; 2000], 3000);
        assert_eq!(texts.taken, 4000);
    }

    proptest::proptest! {
        #[test]
        fn what_serde_json_writes_is_read(written: String) {
            let quoted = serde_json::to_string(&written).expect("writes");
            proptest::prop_assert_eq!(text(&quoted[1..quoted.len() - 1]), written);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            proptest::prop_assert!(Texts::default().unescaped(&bytes, bytes.len()).len() <= bytes.len());
        }
    }
}
