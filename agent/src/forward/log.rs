//! One log or one complete file being read. In: its path, and where it was left. Out: its lines a chunk at a time, each
//! with the position behind it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::cursors::{Cursors, Position};
use super::ledger::Mark;
use super::progress::{Counters, count};
use crate::edge::formats;
use crate::intake::{Cursor, Follower, Step};

/// Time after its last line in which a rotated log is still read: its writer goes on with it until it is told to reopen.
const LINGER: Duration = Duration::from_secs(10);

/// Wait after a read that failed for another reason than that there is no file.
const ERROR_WAIT: Duration = Duration::from_secs(1);

/// What the lines of a source have in common.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    /// Number of the name; sources of one name share batches.
    pub(super) name_id: u32,
    /// Name under which agents see the lines; may be empty.
    pub(super) name: Arc<str>,
    pub(super) format: formats::Reader,
    /// The latest `#Fields:` line: without it nobody can read the lines behind it.
    pub(super) header: Bytes,
}

impl Feed {
    pub(super) fn new(name_id: u32, name: &str, format: &formats::Config) -> Self {
        // Checked with the config; what cannot be compiled is found out instead.
        let format = formats::Reader::new(format).unwrap_or_default();
        Self { name_id, name: name.into(), format, header: Bytes::new() }
    }
}

/// Lines that were read together.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) lines: Vec<Bytes>,
    /// How far the source was read with them; none for what cannot be read again.
    pub(super) mark: Option<Mark>,
}

/// What one turn of a source brought.
#[derive(Debug)]
pub(super) enum Turn {
    Lines(Read),
    /// Nothing at the moment.
    Idle,
    /// Nothing any more.
    Over,
}

/// Someone who reads on where a follower stands.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) path: PathBuf,
    key: Arc<str>,
    pub(super) feed: Feed,
    follower: Follower,
    /// Size and modification time, where the file is complete.
    pub(super) complete: Option<(u64, i128)>,
    /// Read once and no more.
    once: bool,
    poll: Duration,
    next: Instant,
    /// Where the latest step without lines stood: twice the same place is the end.
    stood: Option<Cursor>,
    over: bool,
    pub(super) trouble: Option<String>,
}

impl Log {
    /// A log that is written to.
    pub(super) fn follow(
        path: &Path,
        feed: Feed,
        from_end: bool,
        poll: Duration,
        once: bool,
        cursors: &Cursors,
    ) -> Self {
        let key: Arc<str> = format!("log:{}", path.display()).into();
        let cursor = cursors.load(&key).map(|position| position.cursor);
        let known = cursor.is_some();
        let linger = if once { Duration::ZERO } else { LINGER };
        let steps = u32::try_from(linger.as_millis() / poll.as_millis().max(1)).unwrap_or(u32::MAX);
        let (follower, _) = Follower::new(path, steps, cursor, from_end);
        let follower = if known || from_end { follower } else { follower.with_history() };
        Self::new(path, key, feed, follower, None, once, poll)
    }

    /// A file that is complete, left at `position` or not begun yet.
    pub(super) fn read(
        path: &Path,
        key: Arc<str>,
        feed: Feed,
        position: Option<Position>,
        size: u64,
        modified: i128,
    ) -> Self {
        let (follower, _) = Follower::new(path, 0, position.map(|position| position.cursor), false);
        Self::new(path, key, feed, follower, Some((size, modified)), true, Duration::ZERO)
    }

    fn new(
        path: &Path,
        key: Arc<str>,
        feed: Feed,
        follower: Follower,
        complete: Option<(u64, i128)>,
        once: bool,
        poll: Duration,
    ) -> Self {
        let path = path.to_owned();
        let next = Instant::now();
        Self { path, key, feed, follower, complete, once, poll, next, stood: None, over: false, trouble: None }
    }

    /// Reads on. A failure stands in [`Log::trouble`]; what is read once is over with it.
    pub(super) fn turn(&mut self, now: Instant, counters: &Counters) -> Turn {
        if self.over {
            return Turn::Over;
        }
        if now < self.next {
            return Turn::Idle;
        }
        let step = match self.follower.step() {
            Ok(step) => step,
            Err(error) => return self.failed(&error, now),
        };
        self.trouble = None;
        count_step(&step, counters);
        if !step.lines.is_empty() {
            self.stood = None;
            return Turn::Lines(self.read_so_far(step, false));
        }
        let stands = Some(self.follower.cursor());
        if self.stood != stands {
            self.stood = stands;
            return Turn::Lines(Read::default()); // moved on, without a line
        }
        if !self.once {
            self.next = now + self.poll;
            return Turn::Idle;
        }
        self.over = true;
        let last = self.follower.close();
        count_step(&last, counters);
        Turn::Lines(self.read_so_far(last, true))
    }

    fn failed(&mut self, error: &std::io::Error, now: Instant) -> Turn {
        self.trouble = Some(format!("cannot read {}: {error}", self.path.display()));
        if self.once {
            self.over = true;
            return Turn::Over;
        }
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        self.next = now + if missing { self.poll } else { self.poll.max(ERROR_WAIT) };
        Turn::Idle
    }

    fn read_so_far(&self, step: Step, last: bool) -> Read {
        let (size, modified) = self.complete.unwrap_or_default();
        let done = last && self.complete.is_some();
        let position = Position { cursor: self.follower.cursor(), size, modified, done };
        Read { lines: step.lines, mark: Some((Arc::clone(&self.key), position)) }
    }
}

fn count_step(step: &Step, counters: &Counters) {
    count(&counters.lines_read, step.lines.len());
    count(&counters.bytes_read, step.lines.iter().map(|line| line.len() + 1).sum());
    count(&counters.lines_cut, step.cut);
    count(&counters.rotations, step.rotations);
    count(&counters.gaps, step.gaps);
    if step.gaps > 0 {
        tracing::warn!("rest of a rotated log not found; lines may be missing");
    }
}
