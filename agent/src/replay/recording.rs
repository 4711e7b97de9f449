//! The recording format. `host.ndjson`: a first line `{"schema":1,"agent":"…"}`, then one [`HostEvent`] a line, in the order
//! the agent met them. `edge.log`: edge lines as received.
//!
//! The reader is total: a line that is no event is an error that names file and line, and a cut last line (the recorder was
//! killed) is told apart from a wrong one.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use crate::event::{HOST_SCHEMA_VERSION, HostEvent};

/// Longest line read from a recording: an exec record with 4 KiB of arguments, every byte escaped, stays far below.
/// Without it a file without line ends would be read into memory whole.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What is wrong with a recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A file could not be opened, read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is no host event.
    #[error("{path}:{line}: no host event: {reason}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What the parser said.
        reason: String,
    },
    /// The first line is missing or of another version.
    #[error(
        "{path}:1: not a host recording of schema {HOST_SCHEMA_VERSION}: {reason}; record it again with this version's `breachline run --record`"
    )]
    Schema {
        /// Which file.
        path: PathBuf,
        /// What stands there.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    schema: u32,
    agent: String,
}

/// Writes a recording as the agent runs. Buffered: call [`Self::flush`] at rest and at the end.
#[derive(Debug)]
pub struct Recorder {
    host: BufWriter<File>,
    edge: BufWriter<File>,
}

impl Recorder {
    /// Creates `DIR/host.ndjson` and `DIR/edge.log`; an earlier recording there is refused, not overwritten.
    ///
    /// # Errors
    ///
    /// Names the file that could not be made.
    pub fn create(directory: &Path) -> Result<Self, RecordingError> {
        std::fs::create_dir_all(directory)
            .map_err(|source| RecordingError::Io { path: directory.to_owned(), source })?;
        let open = |name: &str| {
            let path = directory.join(name);
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&path)
                .map(BufWriter::new)
                .map_err(|source| RecordingError::Io { path, source })
        };
        let mut recorder = Self { host: open("host.ndjson")?, edge: open("edge.log")? };
        let header = Header { schema: HOST_SCHEMA_VERSION, agent: env!("CARGO_PKG_VERSION").to_owned() };
        recorder.line(&header).map_err(|source| RecordingError::Io { path: directory.join("host.ndjson"), source })?;
        Ok(recorder)
    }

    /// Adds a host event.
    ///
    /// # Errors
    ///
    /// The file's own.
    pub fn host(&mut self, event: &HostEvent) -> io::Result<()> {
        self.line(event)
    }

    /// Adds an edge line (without its line end).
    ///
    /// # Errors
    ///
    /// The file's own.
    pub fn edge(&mut self, line: &[u8]) -> io::Result<()> {
        self.edge.write_all(line)?;
        self.edge.write_all(b"\n")
    }

    /// Hands everything to the kernel.
    ///
    /// # Errors
    ///
    /// The file's own.
    pub fn flush(&mut self) -> io::Result<()> {
        self.host.flush()?;
        self.edge.flush()
    }

    fn line<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        serde_json::to_writer(&mut self.host, value)?;
        self.host.write_all(b"\n")
    }
}

/// Opens `path` for reading lines; gzip is recognised by its magic bytes, `-` is standard input.
///
/// # Errors
///
/// Names the file.
pub fn open_lines(path: &Path) -> Result<Box<dyn BufRead>, RecordingError> {
    let error = |source| RecordingError::Io { path: path.to_owned(), source };
    let raw: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path).map_err(error)?) };
    let mut buffered = BufReader::with_capacity(1 << 16, raw);
    let gzip = buffered.fill_buf().map_err(error)?.starts_with(&[0x1f, 0x8b]);
    Ok(if gzip {
        Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(buffered)))
    } else {
        Box::new(buffered)
    })
}

/// Reads one line without its end into `line` (cleared first). At most [`LINE_BYTES_MAX`] bytes are kept; what a longer line has
/// beyond is skipped. Returns `false` at the end of input.
///
/// # Errors
///
/// The reader's own.
pub fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut bounded = reader.take(LINE_BYTES_MAX);
    if bounded.read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if line.len() as u64 == LINE_BYTES_MAX {
        skip_line(reader)?;
    }
    Ok(true)
}

fn skip_line(reader: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let available = reader.fill_buf()?;
        let (used, done) = match memchr::memchr(b'\n', available) {
            Some(end) => (end + 1, true),
            None => (available.len(), available.is_empty()),
        };
        reader.consume(used);
        if done {
            return Ok(());
        }
    }
}

/// The host events of a recording, in file order.
pub struct HostEvents {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
    number: u64,
}

impl HostEvents {
    /// Opens a recording and checks its first line.
    ///
    /// # Errors
    ///
    /// [`RecordingError::Io`], [`RecordingError::Schema`].
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let mut events = Self { path: path.to_owned(), reader: open_lines(path)?, line: Vec::new(), number: 0 };
        let schema = |reason: String| RecordingError::Schema { path: path.to_owned(), reason };
        if !events.advance()? {
            return Err(schema("the file is empty".to_owned()));
        }
        let header: Header = serde_json::from_slice(&events.line).map_err(|error| schema(error.to_string()))?;
        if header.schema != HOST_SCHEMA_VERSION {
            return Err(schema(format!("its schema is {}", header.schema)));
        }
        Ok(events)
    }

    fn advance(&mut self) -> Result<bool, RecordingError> {
        self.number += 1;
        read_line(&mut *self.reader, &mut self.line)
            .map_err(|source| RecordingError::Io { path: self.path.clone(), source })
    }
}

impl Iterator for HostEvents {
    type Item = Result<HostEvent, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.advance() {
                Ok(true) if self.line.is_empty() => {}
                Ok(true) => {
                    return Some(serde_json::from_slice(&self.line).map_err(|error| RecordingError::Line {
                        path: self.path.clone(),
                        line: self.number,
                        reason: error.to_string(),
                    }));
                }
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{HostEventKind, Loss};
    use crate::timestamp::Timestamp;

    fn loss(count: u64) -> HostEvent {
        HostEvent {
            at: Timestamp::from_unix_millis(1_000),
            kind: HostEventKind::Loss(Loss { sense: "exec".to_owned(), count, since: None }),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().expect("directory");
        let mut recorder = Recorder::create(directory.path()).expect("recorder");
        recorder.host(&loss(1)).expect("written");
        recorder.host(&loss(2)).expect("written");
        recorder.edge(b"http line").expect("written");
        recorder.flush().expect("flushed");
        let events: Vec<_> = HostEvents::open(&directory.path().join("host.ndjson"))
            .expect("opens")
            .collect::<Result<_, _>>()
            .expect("all read");
        assert_eq!(events, vec![loss(1), loss(2)]);
        assert_eq!(std::fs::read(directory.path().join("edge.log")).expect("edge"), b"http line\n");
        assert!(Recorder::create(directory.path()).is_err(), "an earlier recording is not overwritten");
    }

    #[test]
    fn a_wrong_file_is_named_with_its_line() {
        let directory = tempfile::tempdir().expect("directory");
        let check = |content: &str, expected: &str| {
            let path = directory.path().join("host.ndjson");
            std::fs::write(&path, content).expect("written");
            let message = match HostEvents::open(&path) {
                Ok(mut events) => events.find_map(Result::err).map(|error| error.to_string()).unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            assert!(message.contains(expected), "{message}");
        };
        check("", "the file is empty");
        check("{\"schema\":99,\"agent\":\"x\"}\n", "its schema is 99");
        check("{\"schema\":1,\"agent\":\"x\"}\n\n{\"kind\":\"exec\"}\n", "host.ndjson:3: no host event");
    }

    #[test]
    fn gzip_is_read_by_its_magic_and_long_lines_are_cut() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("edge.log.gz");
        let mut gzip = flate2::write::GzEncoder::new(File::create(&path).expect("file"), flate2::Compression::fast());
        gzip.write_all(&vec![b'a'; 3 << 20]).expect("written");
        gzip.write_all(b"\nsecond\r\nthird").expect("written");
        gzip.finish().expect("finished");
        let mut reader = open_lines(&path).expect("opens");
        let (mut line, mut lengths) = (Vec::new(), Vec::new());
        while read_line(&mut *reader, &mut line).expect("read") {
            lengths.push(line.len());
        }
        assert_eq!(lengths, vec![1 << 20, 6, 5]);
    }
}
