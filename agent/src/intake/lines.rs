//! The lines of one delivery as they are found. In: pieces of text. Out: lines without their ends, bounded in number and
//! length.

use bytes::Bytes;

use super::unescape::Texts;

/// What bounds the lines of one delivery.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// Lines at most.
    pub lines: usize,
    /// Bytes of a line at most; the rest of a longer one is cut.
    pub line_bytes: usize,
}

/// Lines found.
#[derive(Debug)]
pub struct Lines {
    limits: Limits,
    /// Without line ends and without empty ones.
    pub(super) lines: Vec<Bytes>,
    /// How many were cut at the longest length.
    pub(super) cut: usize,
    /// Bytes of lines that are no part of what came in, nor of `texts`.
    copied: usize,
    texts: Texts,
    /// There were more than the limit.
    pub(super) overflow: bool,
}

impl Lines {
    /// None yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, lines: Vec::new(), cut: 0, copied: 0, texts: Texts::default(), overflow: false }
    }

    /// Memory that was taken for lines beside what came in.
    pub(super) const fn copied(&self) -> usize {
        self.copied + self.texts.taken
    }

    /// What bounds them.
    pub(super) const fn limits(&self) -> Limits {
        self.limits
    }

    /// Forgets what was found since there were `count`, all of the same body.
    pub(super) fn rewind(&mut self, count: usize) {
        self.lines.truncate(count);
    }

    /// One line.
    pub(super) fn push(&mut self, line: Bytes) {
        if line.is_empty() {
            return;
        }
        if self.lines.len() == self.limits.lines {
            self.overflow = true;
            return;
        }
        let cut = line.len() > self.limits.line_bytes;
        self.cut += usize::from(cut);
        self.lines.push(if cut { line.slice(..self.limits.line_bytes) } else { line });
    }

    /// One line that is not a part of what came in.
    pub(super) fn push_copied(&mut self, line: impl Into<Bytes>) {
        let line = line.into();
        self.copied += line.len();
        self.push(line);
    }

    /// Text within a JSON document of `within` bytes, its escapes still to be undone; a line, or several with line ends
    /// between them.
    pub(super) fn push_escaped(&mut self, quoted: &[u8], within: usize) {
        let text = self.texts.unescaped(quoted, within);
        self.push_all(&text);
    }

    /// Text with line ends in it.
    pub(super) fn push_all(&mut self, text: &Bytes) {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', text).chain([text.len()]) {
            if self.overflow {
                return;
            }
            let line = &text[start..end];
            self.push(text.slice(start..start + line.strip_suffix(b"\r").unwrap_or(line).len()));
            start = end + 1;
        }
    }
}
