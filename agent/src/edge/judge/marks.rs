//! Which kinds of bytes a text holds: one table look-up per byte, so that a judge whose grammar needs a quote is
//! not asked about text that has none.

/// A set of byte kinds.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u32);

impl Marks {
    pub(super) const QUOTE: Self = Self(1); // ' " and `
    pub(super) const ANGLE: Self = Self(1 << 1); // < >
    pub(super) const PAREN: Self = Self(1 << 2); // ( )
    pub(super) const SEMICOLON: Self = Self(1 << 3);
    pub(super) const PIPE: Self = Self(1 << 4); // | &
    pub(super) const DOLLAR: Self = Self(1 << 5);
    pub(super) const BRACE: Self = Self(1 << 6); // { }
    pub(super) const BRACKET: Self = Self(1 << 7); // [ ]
    pub(super) const BACKSLASH: Self = Self(1 << 8);
    pub(super) const LINE: Self = Self(1 << 9); // CR LF
    pub(super) const CONTROL: Self = Self(1 << 10); // other control characters
    pub(super) const SPACE: Self = Self(1 << 11); // space, tab
    pub(super) const EQUALS: Self = Self(1 << 12);
    pub(super) const SLASH: Self = Self(1 << 13);
    pub(super) const COLON: Self = Self(1 << 14);
    pub(super) const AT: Self = Self(1 << 15); // @
    pub(super) const COMMENT: Self = Self(1 << 16); // # - *
    pub(super) const PERCENT: Self = Self(1 << 17);
    pub(super) const HIGH: Self = Self(1 << 18); // beyond ASCII
    pub(super) const CARET: Self = Self(1 << 19);
    pub(super) const PLUS: Self = Self(1 << 20);
    pub(super) const DOT: Self = Self(1 << 21);

    /// Both sets.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All other kinds.
    pub(super) const fn not(self) -> Self {
        Self(!self.0)
    }

    /// Whether any of `kinds` occurs.
    pub(super) const fn any(self, kinds: Self) -> bool {
        self.0 & kinds.0 != 0
    }
}

const fn kind(byte: u8) -> Marks {
    match byte {
        b'\'' | b'"' | b'`' => Marks::QUOTE,
        b'<' | b'>' => Marks::ANGLE,
        b'(' | b')' => Marks::PAREN,
        b';' => Marks::SEMICOLON,
        b'|' | b'&' => Marks::PIPE,
        b'$' => Marks::DOLLAR,
        b'{' | b'}' => Marks::BRACE,
        b'[' | b']' => Marks::BRACKET,
        b'\\' => Marks::BACKSLASH,
        b'\r' | b'\n' => Marks::LINE,
        b' ' | b'\t' => Marks::SPACE,
        0..=0x1F | 0x7F => Marks::CONTROL,
        b'=' => Marks::EQUALS,
        b'/' => Marks::SLASH,
        b':' => Marks::COLON,
        b'@' => Marks::AT,
        b'#' | b'-' | b'*' => Marks::COMMENT,
        b'%' => Marks::PERCENT,
        b'^' => Marks::CARET,
        b'+' => Marks::PLUS,
        b'.' => Marks::DOT,
        0x80.. => Marks::HIGH,
        _ => Marks(0),
    }
}

static KINDS: [Marks; 256] = {
    let mut table = [Marks(0); 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = kind(byte);
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// Where bytes of `kinds` stand in `text`. A look-up per byte: a search by vectors costs more where many stand close together,
/// as in text that was written to be dear, and little less where the text is short.
#[inline]
pub(super) fn places(text: &[u8], kinds: Marks) -> impl Iterator<Item = usize> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + text.get(from..)?.iter().position(|byte| KINDS[usize::from(*byte)].any(kinds))?;
        from = at + 1;
        Some(at)
    })
}

/// The kinds of bytes in `text`.
pub(super) fn marks_of(text: &[u8]) -> Marks {
    Marks(text.iter().fold(0, |marks, byte| marks | KINDS[usize::from(*byte)].0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_say_what_occurs() {
        let marks = marks_of(b"a'b (c)");
        assert!(marks.any(Marks::QUOTE) && marks.any(Marks::PAREN) && marks.any(Marks::SPACE));
        assert!(!marks.any(Marks::ANGLE.and(Marks::SEMICOLON)));
        assert_eq!(marks_of(b"plain09"), Marks::default());
    }
}
