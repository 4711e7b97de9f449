//! Standard input. In: a stream, gzip or not. Out: its lines, and its end.
//!
//! A thread of its own reads, since a pipe may be silent for hours while lines that came before must go out. It holds a few
//! chunks and then waits, so the writer waits too. What was read cannot be read again: a kill loses what was under way.

use std::io::{self, BufRead, BufReader};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;

use bytes::{Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;

use super::log::{Feed, Read, Turn};
use super::progress::{Counters, count};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks read ahead.
const CHUNKS_MAX: usize = 4;
/// Longest line passed on; an agent cuts at the same length.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Standard input being read.
#[derive(Debug)]
pub(super) struct Stdin {
    pub(super) feed: Feed,
    lines: Receiver<io::Result<Lines>>,
    over: bool,
    pub(super) trouble: Option<String>,
}

/// Lines of one chunk.
#[derive(Debug, Default)]
struct Lines {
    lines: Vec<Bytes>,
    cut: usize,
}

impl Stdin {
    /// Starts to read `input`.
    ///
    /// # Errors
    ///
    /// No thread can be made.
    pub(super) fn open(input: impl io::Read + Send + 'static, feed: Feed) -> io::Result<Self> {
        let (sender, lines) = sync_channel(CHUNKS_MAX);
        let reading = move || {
            let mut splitter = Splitter::default();
            let read = unpacked(input).and_then(|mut input| {
                while let Some(lines) = splitter.next(&mut input)? {
                    if sender.send(Ok(lines)).is_err() {
                        break; // nobody wants it any more
                    }
                }
                Ok(())
            });
            drop(read.map_err(|error| sender.send(Err(error))));
        };
        thread::Builder::new().name("stdin".into()).spawn(reading)?;
        Ok(Self { feed, lines, over: false, trouble: None })
    }

    pub(super) fn turn(&mut self, counters: &Counters) -> Turn {
        if self.over {
            return Turn::Over;
        }
        match self.lines.try_recv() {
            Ok(Ok(Lines { lines, cut })) => {
                count(&counters.lines_read, lines.len());
                count(&counters.bytes_read, lines.iter().map(|line| line.len() + 1).sum());
                count(&counters.lines_cut, cut);
                Turn::Lines(Read { lines, mark: None })
            }
            Ok(Err(error)) => {
                self.trouble = Some(format!("standard input: {error}"));
                self.over = true;
                Turn::Over
            }
            Err(TryRecvError::Empty) => Turn::Idle,
            Err(TryRecvError::Disconnected) => {
                self.over = true;
                Turn::Over
            }
        }
    }
}

/// Gzip is told by its first two bytes (RFC 1952 2.3.1).
fn unpacked(input: impl io::Read + Send + 'static) -> io::Result<Box<dyn io::Read>> {
    let mut input = BufReader::with_capacity(CHUNK_BYTES, input);
    let packed = input.fill_buf()?.starts_with(&[0x1F, 0x8B]);
    Ok(if packed { Box::new(MultiGzDecoder::new(input)) } else { Box::new(input) })
}

/// Takes whole lines out of what was read.
#[derive(Default)]
struct Splitter {
    partial: BytesMut,
    skipping: bool,
    ended: bool,
}

impl Splitter {
    /// The lines of the next chunk; `None` at the end.
    fn next(&mut self, input: &mut dyn io::Read) -> io::Result<Option<Lines>> {
        if self.ended {
            return Ok(None);
        }
        let before = self.partial.len();
        self.partial.resize(before + CHUNK_BYTES, 0);
        let read = input.read(&mut self.partial[before..])?;
        self.partial.truncate(before + read);
        let mut found = Lines::default();
        if let Some(last) = memchr::memrchr(b'\n', &self.partial) {
            let whole = self.partial.split_to(last + 1).freeze();
            let mut start = 0;
            for end in memchr::memchr_iter(b'\n', &whole) {
                self.pass(whole.slice(start..end), &mut found);
                start = end + 1;
            }
        }
        if read == 0 {
            self.ended = true;
            let last = self.partial.split().freeze();
            self.pass(last, &mut found);
        } else if self.partial.len() > LINE_BYTES_MAX {
            let long = self.partial.split().freeze();
            self.pass(long, &mut found);
            self.skipping = true;
        }
        Ok(Some(found))
    }

    fn pass(&mut self, line: Bytes, found: &mut Lines) {
        if std::mem::take(&mut self.skipping) {
            return;
        }
        let line = line.slice(..line.strip_suffix(b"\r").unwrap_or(&line).len());
        if line.is_empty() {
            return;
        }
        let cut = line.len() > LINE_BYTES_MAX;
        found.cut += usize::from(cut);
        found.lines.push(if cut { line.slice(..LINE_BYTES_MAX) } else { line });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::edge::formats;

    fn read(input: Vec<u8>) -> Vec<String> {
        let feed = Feed::new(0, "", &formats::Config::default());
        let mut stdin = Stdin::open(io::Cursor::new(input), feed).expect("starts");
        let counters = Counters::default();
        let mut lines = Vec::new();
        loop {
            match stdin.turn(&counters) {
                Turn::Lines(read) => {
                    lines.extend(read.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()))
                }
                Turn::Idle => thread::yield_now(),
                Turn::Over => return lines,
            }
        }
    }

    #[test]
    fn lines_come_out_whole_packed_or_not() {
        let text = "one\r\n\ntwo\nthree without end";
        assert_eq!(read(text.into()), ["one", "two", "three without end"]);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).expect("writes");
        assert_eq!(read(encoder.finish().expect("finishes")), ["one", "two", "three without end"]);
        assert!(read(Vec::new()).is_empty());
    }

    #[test]
    fn an_endless_line_is_cut() {
        let text = format!("a\n{}\nb\n", "x".repeat(3 * CHUNK_BYTES));
        let lines = read(text.into());
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [1, LINE_BYTES_MAX, 1]);
    }
}
