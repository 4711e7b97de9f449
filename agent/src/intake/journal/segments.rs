//! The journal's files. In: batches in order. Out: the same on disk, and after a restart those that were not judged.
//!
//! Records are appended to one file until it is large enough, then to the next; a file goes when all of its records are
//! judged. Files of an earlier run are never written to: their ends may be torn. It knows nothing of who waits.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::record::{self, FRAME_BYTES, Record};
use crate::intake::Batch;

/// A file is closed once it has reached this size: what is judged goes in steps of this.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Written at once at most; a batch is never copied as a whole.
const WRITE_BYTES: usize = 256 << 10;

/// Ending of the files' names, which are the position of their first record in twenty digits.
const ENDING: &str = ".journal";

/// A file and what it holds.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    first: u64,
    /// Its last record's position.
    last: u64,
    bytes: u64,
}

/// All files.
#[derive(Debug)]
pub(super) struct Segments {
    directory: PathBuf,
    /// Oldest first.
    files: VecDeque<Segment>,
    /// The last of `files`, where it can be written to.
    current: Option<BufWriter<File>>,
    next: u64,
}

impl Segments {
    /// Finds the files of an earlier run; those wholly up to `judged` are removed. Positions go on behind both.
    pub(super) fn open(directory: &Path, judged: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut files: Vec<Segment> = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if let Some(first) = first_of(&path) {
                let bytes = fs::metadata(&path)?.len();
                files.push(Segment { path, first, last: u64::MAX, bytes });
            }
        }
        files.sort_by_key(|segment| segment.first);
        for index in 1..files.len() {
            files[index - 1].last = files[index].first.saturating_sub(1);
        }
        let next = judged.max(files.last().map_or(0, |segment| segment.first)) + 1;
        let mut segments = Self { directory: directory.to_owned(), files: files.into(), current: None, next };
        segments.release(judged)?;
        Ok(segments)
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|segment| segment.bytes).sum()
    }

    /// Passes on every record behind `judged`, oldest first, until `pass` says no. Gives how many files end in
    /// something that is no record.
    pub(super) fn replay(&mut self, judged: u64, pass: &mut dyn FnMut(Record) -> bool) -> io::Result<u64> {
        let mut torn = 0;
        for index in 0..self.files.len() {
            let mut last = self.files[index].first.saturating_sub(1);
            let mut reader = Reader::open(&self.files[index].path)?;
            while let Some(found) = reader.next()? {
                last = found.position;
                if found.position > judged && !pass(found) {
                    return Ok(torn);
                }
            }
            torn += u64::from(reader.left > 0);
            self.next = self.next.max(last + 1);
            self.files[index].last = last;
        }
        Ok(torn)
    }

    /// Appends batches as one write and brings them to disk; gives the position of the first. All of them are
    /// there then, or none.
    pub(super) fn append<'b>(&mut self, batches: impl Iterator<Item = &'b Batch> + Clone) -> io::Result<u64> {
        let before = self.roll()?;
        let first = self.next;
        let written = self.write(batches);
        match written {
            Ok(bytes) => {
                let next = self.next;
                if let Some(segment) = self.files.back_mut() {
                    (segment.last, segment.bytes) = (next - 1, before + bytes);
                }
                Ok(first)
            }
            Err(error) => {
                self.next = first;
                self.give_up(before);
                Err(error)
            }
        }
    }

    fn write<'b>(&mut self, batches: impl Iterator<Item = &'b Batch>) -> io::Result<u64> {
        let Some(writer) = &mut self.current else { return Err(io::ErrorKind::NotFound.into()) };
        let mut bytes = 0;
        for batch in batches {
            record::write(batch, self.next, writer)?;
            bytes += record::size(batch);
            self.next += 1;
        }
        writer.flush()?;
        writer.get_ref().sync_data()?;
        Ok(bytes)
    }

    /// After a failed write or sync nobody knows what of it is on disk: the file is cut back to what is known, and not
    /// written to again.
    fn give_up(&mut self, length: u64) {
        let Some(writer) = self.current.take() else { return };
        let (file, _unwritten) = writer.into_parts();
        if length == 0 {
            if let Some(segment) = self.files.pop_back() {
                drop(fs::remove_file(segment.path));
            }
        } else if file.set_len(length).is_err() {
            tracing::debug!("a failed write stays in the journal; a replay stops there");
        }
    }

    /// Begins a new file where the present one is full or there is none; gives the length of the one to write to.
    fn roll(&mut self) -> io::Result<u64> {
        match self.files.back() {
            Some(segment) if self.current.is_some() && segment.bytes < SEGMENT_BYTES => return Ok(segment.bytes),
            _ => self.current = None,
        }
        let path = self.directory.join(format!("{:020}{ENDING}", self.next));
        // What bears the name holds nothing that counts: its position was never given out.
        let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path)?;
        if let Err(error) = File::open(&self.directory)?.sync_all() {
            drop(fs::remove_file(&path));
            return Err(error);
        }
        self.current = Some(BufWriter::with_capacity(WRITE_BYTES, file));
        self.files.push_back(Segment { path, first: self.next, last: self.next, bytes: 0 });
        Ok(0)
    }

    /// Removes the files whose records are all at or before `judged`.
    pub(super) fn release(&mut self, judged: u64) -> io::Result<()> {
        while let Some(oldest) = self.files.front() {
            let is_current = self.files.len() == 1 && self.current.is_some();
            if oldest.last > judged || (is_current && oldest.bytes < SEGMENT_BYTES) {
                break;
            }
            fs::remove_file(&oldest.path)?;
            self.files.pop_front();
            if is_current {
                self.current = None;
            }
        }
        Ok(())
    }
}

fn first_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(ENDING)?.parse().ok()
}

/// Reads one file record by record.
struct Reader {
    file: BufReader<File>,
    /// Bytes behind the last whole record.
    left: u64,
}

impl Reader {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let left = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        Ok(Self { file: BufReader::with_capacity(WRITE_BYTES, file), left })
    }

    /// The next record; `None` at the end, or where no whole record follows.
    fn next(&mut self) -> io::Result<Option<Record>> {
        let mut number = [0; 4];
        if self.left < FRAME_BYTES {
            return Ok(None);
        }
        self.file.read_exact(&mut number)?;
        let length = u32::from_le_bytes(number);
        let whole = u64::from(length) + FRAME_BYTES;
        if whole > self.left {
            return Ok(None);
        }
        let mut payload = vec![0; length as usize];
        self.file.read_exact(&mut payload)?;
        self.file.read_exact(&mut number)?;
        let record = record::read(Bytes::from(payload), u32::from_le_bytes(number));
        if record.is_some() {
            self.left -= whole;
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::Timestamp;

    fn batch(text: &str) -> Batch {
        Batch::new("test".into(), Timestamp::MIN, vec![Bytes::copy_from_slice(text.as_bytes())])
    }

    fn append(segments: &mut Segments, texts: &[&str]) -> u64 {
        let batches: Vec<Batch> = texts.iter().copied().map(batch).collect();
        segments.append(batches.iter()).expect("appends")
    }

    fn replayed(directory: &Path, judged: u64) -> (Vec<(u64, String)>, u64) {
        let mut segments = Segments::open(directory, judged).expect("opens");
        let mut found = Vec::new();
        let torn = segments.replay(judged, &mut |record| {
            found.push((record.position, String::from_utf8_lossy(&record.lines[0]).into_owned()));
            true
        });
        (found, torn.expect("reads"))
    }

    #[test]
    fn what_was_not_judged_comes_back_in_order() {
        let directory = tempfile::tempdir().expect("directory");
        let mut segments = Segments::open(directory.path(), 0).expect("opens");
        assert_eq!(append(&mut segments, &["a", "b"]), 1);
        assert_eq!(append(&mut segments, &["c"]), 3);
        drop(segments);
        let all = [(1, "a".into()), (2, "b".into()), (3, "c".into())];
        assert_eq!(replayed(directory.path(), 0), (all.to_vec(), 0));
        assert_eq!(replayed(directory.path(), 2), (all[2..].to_vec(), 0));

        let mut segments = Segments::open(directory.path(), 2).expect("opens");
        segments.replay(2, &mut |_| true).expect("reads");
        assert_eq!(append(&mut segments, &["d"]), 4, "positions are given once");
        drop(segments);
        assert_eq!(replayed(directory.path(), 3), (vec![(4, "d".into())], 0));
        assert_eq!(replayed(directory.path(), 9), (vec![], 0));
    }

    #[test]
    fn a_torn_end_loses_what_was_never_acknowledged_and_no_more() {
        let directory = tempfile::tempdir().expect("directory");
        let mut segments = Segments::open(directory.path(), 0).expect("opens");
        append(&mut segments, &["a", "b"]);
        let path = segments.files[0].path.clone();
        drop(segments);
        let whole = fs::read(&path).expect("reads");
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).expect("writes");
            let (found, torn) = replayed(directory.path(), 0);
            let expected = if length < whole.len() / 2 { 0 } else { 1 };
            assert_eq!(found.len(), expected, "{length} bytes");
            assert_eq!(torn, u64::from(length % (whole.len() / 2) > 0), "{length} bytes");
            fs::write(&path, &whole).expect("writes");
        }
    }

    #[test]
    fn files_go_once_judged() {
        let directory = tempfile::tempdir().expect("directory");
        let mut segments = Segments::open(directory.path(), 0).expect("opens");
        let large = "x".repeat(9 << 20);
        for expected in 1..=5 {
            assert_eq!(append(&mut segments, &[&large]), expected);
        }
        assert_eq!(segments.files.len(), 3);
        segments.release(1).expect("releases");
        assert_eq!(segments.files.len(), 3, "its second record is not judged");
        segments.release(4).expect("releases");
        assert_eq!(segments.files.len(), 1);
        segments.release(5).expect("releases");
        assert!(segments.bytes() < SEGMENT_BYTES, "the file being written stays");
        append(&mut segments, &[&large]);
        segments.release(6).expect("releases");
        assert_eq!(segments.bytes(), 0);
        assert_eq!(append(&mut segments, &["small"]), 7);
        assert_eq!(fs::read_dir(directory.path()).expect("lists").count(), 1);
    }

    #[test]
    fn a_file_that_does_not_take_it_is_cut_back() {
        let directory = tempfile::tempdir().expect("directory");
        let mut segments = Segments::open(directory.path(), 0).expect("opens");
        append(&mut segments, &["a"]);
        let full = OpenOptions::new().write(true).open("/dev/full").expect("opens");
        segments.current = Some(BufWriter::new(full));
        let refused = segments.append([batch("b")].iter()).expect_err("refused");
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!(append(&mut segments, &["c"]), 2);
        drop(segments);
        assert_eq!(replayed(directory.path(), 0).0, [(1, "a".into()), (2, "c".into())]);
    }
}
