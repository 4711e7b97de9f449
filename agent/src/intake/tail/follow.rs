//! Following one log, a step at a time. In: the log's path and a cursor. Out: whole lines, and the cursor behind them.
//!
//! Rotation by rename, copytruncate, several rotations at once and compression are followed, also when they happened
//! while nobody looked: a file is known by inode and first bytes, not by name. Nothing is passed over as long as the
//! rotated file can still be found; where it cannot, a gap is counted. No clock: time is counted in steps.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::log_file::{Identity, LogFile, is_gzip};
use super::rotated;
use crate::intake::LINE_BYTES_MAX;

/// Bytes read in one step.
const CHUNK_BYTES: usize = 256 << 10;

/// Lines in one step at most: bounds what their handles take.
const STEP_LINES_MAX: usize = 16_384;

/// Rotated files read at the same time; more than that in a row means that nobody looked for days, the oldest go.
const OLD_FILES_MAX: usize = 32;

/// Files remembered as read to the end, so that a later search does not take them for new ones.
const DONE_MAX: usize = 32;

/// How far one file was read.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Position {
    #[serde(flatten)]
    identity: Identity,
    /// Where the first line begins that was not passed on.
    offset: u64,
    /// The line that lies there was passed on cut; its rest is skipped.
    #[serde(default)]
    skipping: bool,
}

/// How far a log was read: what is left of rotated files, oldest first, then the log itself.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Cursor {
    files: Vec<Position>,
    done: VecDeque<Identity>,
    seen_at: Option<SystemTime>,
}

/// What a step brought.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Whole lines, without line ends.
    pub(crate) lines: Vec<Bytes>,
    /// Lines cut at the longest length.
    pub(crate) cut: usize,
    /// Rotations and truncations met.
    pub(crate) rotations: usize,
    /// Times that something may have been missed.
    pub(crate) gaps: usize,
}

/// A file being read.
#[derive(Debug)]
struct Open {
    file: LogFile,
    position: Position,
    /// Content from `position.offset` on, without a line end in it.
    partial: BytesMut,
    /// Steps without anything new.
    idle_steps: u32,
    /// The latest read failed.
    failing: bool,
}

/// One log being followed.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    /// Steps without anything new before a rotated file is let go.
    linger_steps: u32,
    old: VecDeque<Open>,
    current: Option<Open>,
    done: VecDeque<Identity>,
    /// Modification time of the log when it was last read: what is younger and unknown was the log in between.
    seen_at: Option<SystemTime>,
}

impl Follower {
    /// Takes up a log where `cursor` left it; without one at its end or its beginning.
    pub(crate) fn new(path: &Path, linger_steps: u32, cursor: Option<Cursor>, from_end: bool) -> (Self, Step) {
        let mut follower = Self {
            path: path.to_owned(),
            linger_steps,
            old: VecDeque::new(),
            current: None,
            done: VecDeque::new(),
            seen_at: None,
        };
        let mut step = Step::default();
        match cursor {
            Some(cursor) => follower.resume(cursor, &mut step),
            None if from_end && !is_gzip(path) => follower.take(Open::at_end(path).ok()),
            None => {}
        }
        (follower, step)
    }

    /// For a log without a cursor: everything that was the log before it, packed or not, counts as not read yet.
    pub(crate) fn with_history(self) -> Self {
        Self { seen_at: self.seen_at.or(Some(SystemTime::UNIX_EPOCH)), ..self }
    }

    /// What is left without a line end is the last line: for a file that nobody writes to any more.
    pub(crate) fn close(&mut self) -> Step {
        let mut step = Step::default();
        if let Some(open) = &mut self.current {
            open.flush(&mut step);
        }
        step
    }

    /// Finds each file of the cursor under whatever name it has now.
    fn resume(&mut self, cursor: Cursor, step: &mut Step) {
        self.done = cursor.done;
        self.seen_at = cursor.seen_at;
        for (index, position) in cursor.files.iter().enumerate() {
            let is_last = index + 1 == cursor.files.len();
            let in_place = || LogFile::open(&self.path).ok().filter(|file| Open::fits(file, position));
            if let Some(file) = is_last.then(in_place).flatten() {
                self.current = Some(Open::resumed(file, *position));
                return;
            }
            match rotated::find(&self.path, &position.identity) {
                Some(file) => {
                    self.old.push_back(Open::resumed(file, *position));
                }
                None if position.identity.head.is_empty() => {}
                None => step.gaps += 1,
            }
            step.rotations += usize::from(is_last);
        }
    }

    /// How far everything passed on so far reaches.
    pub(crate) fn cursor(&self) -> Cursor {
        let files = self.old.iter().chain(&self.current).map(|open| open.position).collect();
        Cursor { files, done: self.done.clone(), seen_at: self.seen_at }
    }

    /// Bytes passed on of the log itself.
    pub(super) fn offset(&self) -> Option<u64> {
        self.current.as_ref().map(|open| open.position.offset)
    }

    fn known(&self) -> impl Iterator<Item = Identity> {
        self.old.iter().chain(&self.current).map(|open| open.position.identity).chain(self.done.iter().copied())
    }

    /// Reads on: a chunk of the oldest file that has something new.
    ///
    /// # Errors
    ///
    /// Why the log cannot be read at the moment; the next step tries again.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let mut step = Step::default();
        for open in &mut self.old {
            if open.read_old(&mut step) {
                return Ok(step);
            }
        }
        let linger_steps = self.linger_steps;
        while let Some(index) = self.old.iter().position(|open| open.is_finished(linger_steps)) {
            self.finish(index, &mut step);
        }
        if step.lines.is_empty() {
            self.step_current(&mut step)?;
        }
        Ok(step)
    }

    /// A rotated file is let go: what has no line end is a line all the same.
    fn finish(&mut self, index: usize, step: &mut Step) {
        let Some(mut open) = self.old.remove(index) else { return };
        step.gaps += usize::from(open.failing);
        open.flush(step);
        self.done.push_back(open.position.identity);
        let excess = self.done.len().saturating_sub(DONE_MAX);
        self.done.drain(..excess);
    }

    fn step_current(&mut self, step: &mut Step) -> io::Result<()> {
        let Some(open) = self.current.as_mut() else {
            return self.open_current();
        };
        let before = open.position;
        let modified = open.file.modified()?;
        let read = open.read(step);
        match open.is_intact() {
            Ok(true) => self.seen_at = self.seen_at.max(Some(modified)),
            Ok(false) => {
                *step = Step::default();
                open.rewind(before);
                return self.truncated(step);
            }
            Err(error) => {
                open.rewind(before);
                return Err(error);
            }
        }
        if !read? && open.file.is_gzip() {
            open.flush(step);
        }
        if !step.lines.is_empty() {
            return Ok(());
        }
        let named = std::fs::metadata(&self.path)?;
        let identity = open.position.identity;
        if (named.dev(), named.ino()) != (identity.device, identity.inode) {
            self.renamed(step);
        }
        Ok(())
    }

    /// The log's name leads to another file now.
    fn renamed(&mut self, step: &mut Step) {
        step.rotations += 1;
        self.old.extend(self.current.take());
    }

    /// Opens what the log's name leads to, and what bore the name since the last rotation that was seen.
    fn open_current(&mut self) -> io::Result<()> {
        let new = Open::new(LogFile::open(&self.path)?)?;
        if let Some(since) = self.seen_at {
            let known: Vec<Identity> = self.known().chain([new.position.identity]).collect();
            let between = rotated::between(&self.path, since, &known);
            self.old.extend(between.into_iter().filter_map(|file| Open::new(file).ok()));
            let excess = self.old.len().saturating_sub(OLD_FILES_MAX);
            self.old.drain(..excess);
        }
        self.take(Some(new));
        Ok(())
    }

    fn take(&mut self, new: Option<Open>) {
        self.seen_at = self.seen_at.max(new.as_ref().and_then(|open| open.file.modified().ok()));
        self.current = new;
    }

    /// The log was emptied in place: it is read from its beginning, and what was not read of it is in the copy that
    /// copytruncate made, if there is one. The open file is kept, since it may have been renamed in the meantime as
    /// well.
    fn truncated(&mut self, step: &mut Step) -> io::Result<()> {
        step.rotations += 1;
        let Some(open) = self.current.take() else { return Ok(()) };
        match rotated::find(&self.path, &open.position.identity) {
            Some(copy) if Open::fits(&copy, &open.position) => {
                self.old.push_back(Open::resumed(copy, open.position));
            }
            _ => step.gaps += 1,
        }
        self.current = Some(Open::new(open.file)?);
        Ok(())
    }
}

impl Open {
    fn new(file: LogFile) -> io::Result<Self> {
        let position = Position { identity: file.identity()?, offset: 0, skipping: false };
        Ok(Self { file, position, partial: BytesMut::new(), idle_steps: 0, failing: false })
    }

    /// Takes a file up that may have another inode than before (a copy).
    fn resumed(file: LogFile, position: Position) -> Self {
        let identity = file.identity().unwrap_or(position.identity);
        Self {
            file,
            position: Position { identity, ..position },
            partial: BytesMut::new(),
            idle_steps: 0,
            failing: false,
        }
    }

    /// Begins behind the last whole line there is.
    fn at_end(path: &Path) -> io::Result<Self> {
        let mut open = Self::new(LogFile::open(path)?)?;
        let length = open.file.metadata()?.len();
        let start = length.saturating_sub(LINE_BYTES_MAX as u64);
        let mut tail = vec![0; LINE_BYTES_MAX];
        let read = open.file.read_at(start, &mut tail)?;
        let end = memchr::memrchr(b'\n', &tail[..read]).map_or(0, |last| last + 1);
        open.position.offset = start + end as u64;
        Ok(open)
    }

    /// Whether `file` is what `position` was taken of, and still reaches as far.
    fn fits(file: &LogFile, position: &Position) -> bool {
        let long_enough = file.is_gzip() || file.metadata().is_ok_and(|metadata| metadata.len() >= position.offset);
        let same = file.identity().is_ok_and(|identity| identity.same_inode(&position.identity));
        let recognisable = same || !position.identity.head.is_empty();
        long_enough && recognisable && matches!(file.begins_like(&position.identity), Ok(true))
    }

    /// Whether the file still begins as it did and reaches as far as it was read. Looked at after a read, so that what
    /// was read before the file was emptied and filled again is not taken for its continuation.
    fn is_intact(&mut self) -> io::Result<bool> {
        if self.file.is_gzip() {
            return Ok(true);
        }
        let read_to = self.position.offset + self.partial.len() as u64;
        let intact = self.file.metadata()?.len() >= read_to && self.file.begins_like(&self.position.identity)?;
        if intact {
            self.position.identity = self.file.identity()?; // a longer beginning tells more
        }
        Ok(intact)
    }

    /// Forgets what was read since `position`.
    fn rewind(&mut self, position: Position) {
        self.position = position;
        self.partial.clear();
    }

    /// Reads a chunk of a rotated file; false when there is nothing new. One that fails is tried less and less often: a
    /// gzip file that is still being written is unpacked from its beginning each time.
    fn read_old(&mut self, step: &mut Step) -> bool {
        if self.failing && !self.idle_steps.is_power_of_two() {
            self.idle_steps += 1;
            return false;
        }
        let read = self.read(step);
        self.failing = read.is_err();
        let something = read.unwrap_or(false);
        if !something {
            self.idle_steps += 1;
        }
        something
    }

    /// Whether nothing more is to be expected of a rotated file. Its writer may go on with it until it is told of the
    /// rotation.
    fn is_finished(&self, linger_steps: u32) -> bool {
        self.idle_steps > linger_steps || (self.file.is_gzip() && self.idle_steps > 0 && !self.failing)
    }

    /// Reads a chunk and takes the whole lines out of it; false at the end of the file.
    fn read(&mut self, step: &mut Step) -> io::Result<bool> {
        let at = self.position.offset + self.partial.len() as u64;
        if !self.file.is_gzip() && self.file.metadata()?.len() <= at {
            return Ok(false); // the usual case, without a buffer
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = self.file.read_at(at, &mut chunk)?;
        if read == 0 {
            return Ok(false);
        }
        self.idle_steps = 0;
        self.partial.extend_from_slice(&chunk[..read]);
        self.take_lines(step);
        Ok(true)
    }

    fn take_lines(&mut self, step: &mut Step) {
        let mut taken = 0;
        let ends: Vec<usize> = memchr::memchr_iter(b'\n', &self.partial).take(STEP_LINES_MAX).collect();
        let full = ends.len() == STEP_LINES_MAX;
        if let Some(last) = ends.last() {
            let whole = self.partial.split_to(last + 1).freeze();
            for end in ends {
                self.pass(whole.slice(taken..end), step);
                taken = end + 1;
            }
        }
        self.position.offset += taken as u64;
        if full {
            // The rest is read again; a step is bounded in lines as well.
            self.partial.clear();
        } else if self.partial.len() > LINE_BYTES_MAX {
            let long = self.partial.split().freeze();
            self.position.offset += long.len() as u64;
            if !self.position.skipping {
                step.cut += 1;
                step.lines.push(long.slice(..LINE_BYTES_MAX));
            }
            self.position.skipping = true;
        }
    }

    /// One line, or the end of one that was passed on cut.
    fn pass(&mut self, line: Bytes, step: &mut Step) {
        if std::mem::take(&mut self.position.skipping) {
            return;
        }
        let line = line.slice(..line.strip_suffix(b"\r").unwrap_or(&line).len());
        let cut = line.len() > LINE_BYTES_MAX;
        step.cut += usize::from(cut);
        if !line.is_empty() {
            step.lines.push(if cut { line.slice(..LINE_BYTES_MAX) } else { line });
        }
    }

    /// What is left without a line end is the last line.
    fn flush(&mut self, step: &mut Step) {
        let last = self.partial.split().freeze();
        self.position.offset += last.len() as u64;
        self.pass(last, step);
    }
}

#[cfg(test)]
mod tests;
