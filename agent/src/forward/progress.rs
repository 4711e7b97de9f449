//! What the forwarder did, and what it waits for. In: counters of all its parts. Out: a status that is written beside the
//! cursors every second, for people and for `--status`.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, fs, io};

use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// Sources and destinations in trouble that a status names; the rest is only counted.
pub(super) const NAMED_MAX: usize = 32;

/// Name of the status file in the state directory.
const STATUS_FILE: &str = "status.json";

/// Counters, one per thing that can happen to a line or a batch.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) lines_read: AtomicU64,
    pub(super) bytes_read: AtomicU64,
    pub(super) lines_cut: AtomicU64,
    pub(super) lines_unreadable: AtomicU64,
    pub(super) lines_without_target: AtomicU64,
    pub(super) lines_unrouted: AtomicU64,
    pub(super) lines_packed: AtomicU64,
    pub(super) lines_taken: AtomicU64,
    pub(super) lines_refused: AtomicU64,
    pub(super) lines_given_up: AtomicU64,
    pub(super) batches_taken: AtomicU64,
    pub(super) bytes_taken: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) rotations: AtomicU64,
    pub(super) gaps: AtomicU64,
    pub(super) objects_read: AtomicU64,
    pub(super) objects_damaged: AtomicU64,
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Lines read from all sources.
    pub lines_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Lines longer than 64 KiB, cut there.
    pub lines_cut: u64,
    /// Lines of no known format; they go where lines without a target go.
    pub lines_unreadable: u64,
    /// Lines that name no target.
    pub lines_without_target: u64,
    /// Lines that no route fits, left out.
    pub lines_unrouted: u64,
    /// Lines put into batches; a request that was tried on two targets counts twice.
    pub lines_packed: u64,
    /// Lines taken by a destination.
    pub lines_taken: u64,
    /// Lines that a destination refused for good; lost.
    pub lines_refused: u64,
    /// Lines for destinations that were given up; lost.
    pub lines_given_up: u64,
    /// Batches taken by a destination.
    pub batches_taken: u64,
    /// Bytes of lines in them.
    pub bytes_taken: u64,
    /// Bytes that travelled for them.
    pub bytes_sent: u64,
    /// Batches sent again.
    pub retries: u64,
    /// Rotations and truncations of followed logs.
    pub rotations: u64,
    /// Times that a rotated log's rest was nowhere to be found: lines may be missing.
    pub gaps: u64,
    /// Complete files read to their end.
    pub objects_read: u64,
    /// Complete files given up because they cannot be unpacked.
    pub objects_damaged: u64,
}

impl Counters {
    pub(super) fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            lines_read: get(&self.lines_read),
            bytes_read: get(&self.bytes_read),
            lines_cut: get(&self.lines_cut),
            lines_unreadable: get(&self.lines_unreadable),
            lines_without_target: get(&self.lines_without_target),
            lines_unrouted: get(&self.lines_unrouted),
            lines_packed: get(&self.lines_packed),
            lines_taken: get(&self.lines_taken),
            lines_refused: get(&self.lines_refused),
            lines_given_up: get(&self.lines_given_up),
            batches_taken: get(&self.batches_taken),
            bytes_taken: get(&self.bytes_taken),
            bytes_sent: get(&self.bytes_sent),
            retries: get(&self.retries),
            rotations: get(&self.rotations),
            gaps: get(&self.gaps),
            objects_read: get(&self.objects_read),
            objects_damaged: get(&self.objects_damaged),
        }
    }
}

impl Counts {
    /// Lines that will not reach anybody.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lines_refused + self.lines_given_up
    }
}

/// How the forwarder stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Process that forwards.
    pub pid: u32,
    /// When it started.
    pub started: Timestamp,
    /// When this was written.
    pub updated: Timestamp,
    /// What it did since.
    pub counts: Counts,
    /// Batches open or under way.
    pub batches_waiting: usize,
    /// What it waits for or cannot read, at most 32 sentences.
    pub troubles: Vec<String>,
}

impl Status {
    /// Writes it into the state directory, so that a reader sees the old one or the new one.
    ///
    /// # Errors
    ///
    /// The directory cannot be written.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let new = directory.join(format!("{STATUS_FILE}.new"));
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(&new, directory.join(STATUS_FILE))
    }

    /// The status that the forwarder with this state directory wrote last.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read.
    pub fn read(directory: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(directory.join(STATUS_FILE))?)?)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let seconds = self.updated.since(self.started).as_secs_f64().max(0.001);
        writeln!(f, "process {}, started {}, as of {}", self.pid, self.started, self.updated)?;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = counts.lines_read as f64 / seconds;
        writeln!(f, "read      {} lines, {} bytes ({rate:.0} lines/s)", counts.lines_read, counts.bytes_read)?;
        writeln!(f, "taken     {} lines in {} batches", counts.lines_taken, counts.batches_taken)?;
        writeln!(f, "waiting   {} batches, {} sent again so far", self.batches_waiting, counts.retries)?;
        writeln!(
            f,
            "left out  {} without a route ({} without a target, {} of no known format)",
            counts.lines_unrouted, counts.lines_without_target, counts.lines_unreadable
        )?;
        writeln!(f, "lost      {} refused, {} given up", counts.lines_refused, counts.lines_given_up)?;
        self.troubles.iter().try_for_each(|trouble| writeln!(f, "trouble   {trouble}"))
    }
}
