//! The embedded database: what must outlive the agent. In: baselines and checkpoints as opaque bytes, cursors of
//! receivers and sinks, incidents, alerts on their way out. Out: the same, after a SIGKILL at any moment.
//!
//! It is never a reason not to protect: a full or failing disk means that rows wait in memory (bounded, and [`Status`]
//! says so) until [`Store::sync`] gets through; a damaged or newer file is set aside. The one refusal is a second agent
//! on the same directory. Calls block for one fsync at most (`append`, `sync`) or a read; async callers go through
//! `spawn_blocking`.

mod buffer;
mod disk;
mod incidents;
mod remove;
mod spool;
mod view;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::buffer::{Open, Synced, WriteBuffer};
use self::disk::{Disk, DiskError, Table};
use self::incidents::Incidents;
pub use self::incidents::{IncidentSummary, Revision};
pub use self::remove::remove;
use self::spool::Spool;
pub use self::spool::SpoolRecord;
pub use self::view::View;
use crate::timestamp::Timestamp;

/// The database's name in the state directory.
const FILE_NAME: &str = "breachline.redb";

/// Bytes that may wait for the disk before old revisions are given up: what a long outage may cost in memory.
const UNSAVED_BYTES_MAX: usize = 48 << 20;

/// Records kept that a sink's far end refuses; enough to find out why.
const REJECTED_MAX: usize = 256;

/// Where state lives and how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// State directory; made with mode 0700 where absent.
    pub directory: PathBuf,
    /// Alerts that wait for a sink at most; beyond it the oldest of the lowest severity go.
    pub spool_records_max: usize,
    /// Their bytes at most.
    pub spool_bytes_max: u64,
    /// Incidents kept at most.
    pub incidents_max: usize,
    /// Their bytes at most, all revisions together.
    pub incident_bytes_max: u64,
    /// How long an incident is kept after its latest evidence.
    #[serde(with = "crate::config::duration")]
    pub incident_age_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/var/lib/breachline"),
            spool_records_max: 10_000,
            spool_bytes_max: 32 << 20,
            incidents_max: 5000,
            incident_bytes_max: 64 << 20,
            incident_age_max: Duration::from_secs(90 * 86_400),
        }
    }
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A second agent.
    #[error(
        "{path} is in use by another breachline; stop it, or give this one a state directory of its own (store.directory)"
    )]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// There is nothing to look at.
    #[error("cannot read {path}: {reason}; is this the agent's state directory (store.directory)?")]
    Unreadable {
        /// The database.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

/// Opaque bytes by name.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Blob {
    /// What is normal, by owner.
    Baseline,
    /// State of the detector.
    Checkpoint,
    /// Position of a receiver in its source.
    Cursor,
}

impl Blob {
    const fn table(self) -> Table {
        match self {
            Self::Baseline => Table::Baseline,
            Self::Checkpoint => Table::Checkpoint,
            Self::Cursor => Table::Cursor,
        }
    }
}

/// Bytes to be saved under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// What they are.
    pub blob: Blob,
    /// Under which name.
    pub name: &'static str,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Whether a write would survive the machine.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// On disk.
    Durably,
    /// In memory only, until the disk takes it.
    InMemory,
}

/// What was lost or let go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Alerts dropped from a full spool before every sink had them.
    pub spool_dropped: u64,
    /// Incidents dropped by count, bytes or age.
    pub incidents_dropped: u64,
    /// Alerts that a sink's far end refuses and that were set aside.
    pub rejected: u64,
    /// Revisions given up because too much waited for a failing disk.
    pub unsaved_dropped: u64,
    /// Syncs that the disk did not take.
    pub syncs_failed: u64,
}

/// How the store stands, for `breachline status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Why rows wait in memory; absent when all is well.
    pub trouble: Option<String>,
    /// Where the latest damaged database went.
    pub set_aside: Option<PathBuf>,
    /// Bytes that wait for the disk.
    pub unsaved_bytes: usize,
    /// Alerts that wait for a sink.
    pub spool_records: usize,
    /// Their bytes.
    pub spool_bytes: u64,
    /// Incidents kept.
    pub incidents: usize,
    /// What was lost or let go.
    pub counters: Counters,
}

/// The store. Shared by reference between threads.
pub struct Store {
    config: Config,
    state: Mutex<State>,
}

struct State {
    buffer: WriteBuffer,
    spool: Spool,
    incidents: Incidents,
    counters: Counters,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("config", &self.config).field("status", &self.status()).finish()
    }
}

impl Store {
    /// Opens the database in `config.directory`, or runs in memory when the disk does not let it; look at
    /// [`Store::status`]. `now` keeps numbers of a spool begun without the disk apart from those on it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] only.
    pub fn open(config: &Config, now: Timestamp) -> Result<Self, StoreError> {
        let path = config.directory.join(FILE_NAME);
        Self::with_disk(config, now, Box::new(move || Disk::open(&path)))
    }

    fn with_disk(config: &Config, now: Timestamp, open: Open) -> Result<Self, StoreError> {
        let path = config.directory.join(FILE_NAME);
        let mut buffer = WriteBuffer::new(open).map_err(|_: DiskError| StoreError::Busy { path })?;
        let floor = if buffer.offline() { u64::try_from(now.as_unix_nanos()).unwrap_or(1) } else { 1 };
        let state = State {
            spool: Spool::load(&mut buffer, floor),
            incidents: Incidents::load(&mut buffer),
            buffer,
            counters: Counters::default(),
        };
        Ok(Self { config: config.clone(), state: Mutex::new(state) })
    }

    /// A panic under the lock leaves rows and index at worst one record apart, which a restart mends: go on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes last saved under `name`.
    #[must_use]
    pub fn load(&self, blob: Blob, name: &str) -> Option<Vec<u8>> {
        self.state().buffer.get(blob.table(), name.as_bytes())
    }

    /// Saves bytes under `name`, in memory first: they reach the disk with the next [`Store::append`] or
    /// [`Store::sync`], all that was saved before one of those in one transaction.
    pub fn save(&self, blob: Blob, name: &str, bytes: &[u8]) {
        self.state().buffer.set(blob.table(), name.as_bytes().to_vec(), Some(bytes.to_vec()));
    }

    /// Brings everything saved to disk, and tries a disk that failed before again. Meant for a timer and for the way
    /// out.
    pub fn sync(&self) -> Kept {
        self.state().sync(true)
    }

    /// Keeps revisions, spools those marked so for every sink, and saves the memory that knows of them: one transaction for
    /// all, on disk when this returns [`Kept::Durably`]. A memory on disk before its revisions would take them for
    /// raised, and a SIGKILL in between would lose them.
    pub fn append(&self, revisions: &[(Revision<'_>, bool)], memory: &[Saved], now: Timestamp) -> Kept {
        let spool_bounds = spool::Bounds { records: self.config.spool_records_max, bytes: self.config.spool_bytes_max };
        let incident_bounds = incidents::Bounds {
            count: self.config.incidents_max,
            bytes: self.config.incident_bytes_max,
            age: self.config.incident_age_max,
        };
        let mut state = self.state();
        let State { buffer, spool, incidents, counters } = &mut *state;
        for Saved { blob, name, bytes } in memory {
            buffer.set(blob.table(), name.as_bytes().to_vec(), Some(bytes.clone()));
        }
        for (revision, spooled) in revisions {
            incidents.record(buffer, revision);
            if *spooled {
                spool.push(buffer, revision.severity, revision.json);
            }
        }
        counters.spool_dropped += spool.trim(buffer, spool_bounds);
        counters.incidents_dropped += incidents.trim(buffer, incident_bounds, now);
        state.sync(false)
    }

    /// Names the sinks that spooled records wait for.
    pub fn open_sinks(&self, names: &[&str]) {
        let mut state = self.state();
        let State { buffer, spool, .. } = &mut *state;
        spool.open_sinks(buffer, names);
    }

    /// What `sink` has not had yet: the next records in order, at least one where there is any, else within both
    /// limits.
    #[must_use]
    pub fn pending(&self, sink: &str, records_max: usize, bytes_max: u64) -> Vec<SpoolRecord> {
        let mut state = self.state();
        let State { buffer, spool, .. } = &mut *state;
        spool.pending(buffer, sink, records_max, bytes_max)
    }

    /// `sink` is done with everything up to `sequence`; saved like [`Store::save`].
    pub fn advance(&self, sink: &str, sequence: u64) {
        let mut state = self.state();
        let State { buffer, spool, .. } = &mut *state;
        spool.advance(buffer, sink, sequence);
    }

    /// Sets aside a record that `sink` cannot deliver, so that it does not hold up what comes after; of too many the
    /// oldest go.
    pub fn reject(&self, sink: &str, record: &SpoolRecord) {
        let mut state = self.state();
        state.counters.rejected += 1;
        let key = |sequence: u64| [&sequence.to_be_bytes(), sink.as_bytes()].concat();
        state.buffer.set(Table::Rejected, key(record.sequence), Some(record.bytes.clone()));
        let kept = state.buffer.range(Table::Rejected, &[], usize::MAX);
        for (key, _) in kept.iter().take(kept.len().saturating_sub(REJECTED_MAX)) {
            state.buffer.set(Table::Rejected, key.clone(), None);
        }
    }

    /// Number of the latest revision kept of an incident.
    #[must_use]
    pub fn latest_revision(&self, id: &str) -> Option<u32> {
        self.state().incidents.latest(id)
    }

    /// Every incident kept, the latest evidence first.
    #[must_use]
    pub fn incidents(&self) -> Vec<IncidentSummary> {
        self.state().incidents.list()
    }

    /// The JSON records of an incident's revisions, oldest first; empty when there is no such incident.
    #[must_use]
    pub fn revisions(&self, id: &str) -> Vec<Vec<u8>> {
        let mut state = self.state();
        let State { buffer, incidents, .. } = &mut *state;
        incidents.revisions(buffer, id)
    }

    /// How the store stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = self.state();
        Status {
            trouble: state.buffer.trouble.clone(),
            set_aside: state.buffer.set_aside.clone(),
            unsaved_bytes: state.buffer.unsaved_bytes(),
            spool_records: state.spool.len(),
            spool_bytes: state.spool.bytes(),
            incidents: state.incidents.len(),
            counters: state.counters,
        }
    }
}

impl crate::intake::Cursors for Store {
    fn load(&self, source: &str) -> Option<Vec<u8>> {
        Self::load(self, Blob::Cursor, source)
    }

    fn save(&self, source: &str, cursor: &[u8]) {
        Self::save(self, Blob::Cursor, source, cursor);
    }
}

impl State {
    fn sync(&mut self, retry: bool) -> Kept {
        if retry && self.buffer.offline() {
            // They may run ahead of records that the file holds and no sink has had; sent twice is better than never.
            self.buffer.forget(Table::Cursor, spool::SINK_PREFIX.as_bytes());
        }
        match self.buffer.sync(retry) {
            Synced::Durable => Kept::Durably,
            Synced::InMemory => {
                self.counters.syncs_failed += 1;
                self.counters.unsaved_dropped += self.buffer.shed(Table::Revision, UNSAVED_BYTES_MAX);
                Kept::InMemory
            }
            Synced::Reopened => {
                self.reload();
                Kept::Durably
            }
        }
    }

    /// The file may be another one than before, or one that was never read: index what it holds.
    fn reload(&mut self) {
        let sinks = self.spool.sinks();
        let names: Vec<&str> = sinks.iter().map(String::as_str).collect();
        self.spool = Spool::load(&mut self.buffer, self.spool.next_sequence());
        self.spool.open_sinks(&mut self.buffer, &names);
        self.incidents = Incidents::load(&mut self.buffer);
    }
}

#[cfg(test)]
mod tests;
