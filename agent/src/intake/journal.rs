//! The journal: what makes "acknowledged" mean "durably taken". In: batches of receivers whose senders wait. Out: the same
//! batches to the detector, an answer to each sender once its batch is on disk, and after a crash every batch that the
//! detector's last saved memory does not hold.
//!
//! One thread writes. What comes in while the disk is busy goes down with the next write, so that a sender waits for two
//! syncs at most and a hundred senders cost no more of them than one. Its size is bounded; when it is full or the disk takes
//! nothing, senders hear so and keep their lines. It never understands a line.

mod record;
mod segments;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use self::record::Record;
use self::segments::Segments;
use super::queue::Rooms;
use super::{Batch, Counters};

/// Batches that wait for the disk at most; the next is told to come back.
const WAITING_MAX: usize = 4096;

/// Bytes written with one sync at most, a single larger batch apart: bounds how long those wait that came first.
const GROUP_BYTES_MAX: u64 = 8 << 20;

/// Smallest bound that lets one file fill while another waits to be judged.
const BYTES_MIN: u64 = 64 << 20;

/// The journal of taken lines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether there is one. Without it lines are acknowledged while they are in memory only.
    pub enabled: bool,
    /// Its bytes on disk at most, below the state directory; when it is full senders are told to come back.
    pub bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, bytes_max: 512 << 20 }
    }
}

impl Config {
    /// What is wrong with it, if anything.
    pub(super) fn fault(&self) -> Option<&'static str> {
        (self.bytes_max < BYTES_MIN).then_some("must be at least 64 MiB")
    }
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotTaken {
    #[error("the queue is full; send it again")]
    Full,
    #[error("the journal is full (intake.journal.bytes_max) until more of it is judged; send it again")]
    JournalFull,
    #[error("the disk does not take it ({0}); send it again")]
    Disk(String),
    #[error("stopping; send it again")]
    Stopping,
}

/// Where a batch lies in the journal.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) position: u64,
    judged: Arc<AtomicU64>,
}

impl Place {
    /// Everything up to here is judged, and what came of it is on disk.
    pub(super) fn release(&self) {
        self.judged.fetch_max(self.position, Ordering::Relaxed);
    }
}

/// A batch on its way to the disk.
pub(super) struct Entry {
    pub(super) batch: Batch,
    pub(super) taken: oneshot::Sender<Result<(), NotTaken>>,
    /// Its sender cannot send it again: it is judged even if the disk does not take it.
    pub(super) unrepeatable: bool,
}

/// What is wrong with the journal, for `breachline status`.
pub(super) type Trouble = Arc<Mutex<Option<String>>>;

/// What a journal is made from.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) directory: PathBuf,
    /// Position up to which the detector's saved memory holds it.
    pub(super) judged: u64,
    pub(super) detector: mpsc::Sender<Batch>,
    pub(super) rooms: Rooms,
    pub(super) counters: Arc<Counters>,
    pub(super) trouble: Trouble,
}

/// Starts the thread: it first passes on what an earlier run left, then what comes in. Needs a tokio runtime; ends
/// when the entries' senders or the detector are gone.
///
/// # Errors
///
/// The system has no thread left.
pub(super) fn start(setup: Setup) -> io::Result<mpsc::Sender<Entry>> {
    let (sender, entries) = mpsc::channel(WAITING_MAX);
    let runtime = Handle::current();
    let journal = Journal { judged: Arc::new(AtomicU64::new(setup.judged)), setup, segments: None };
    thread::Builder::new().name("journal".to_owned()).spawn(move || journal.run(entries, &runtime))?;
    Ok(sender)
}

struct Journal {
    setup: Setup,
    judged: Arc<AtomicU64>,
    /// None while the directory cannot be used.
    segments: Option<Segments>,
}

impl Journal {
    fn run(mut self, mut entries: mpsc::Receiver<Entry>, runtime: &Handle) {
        let opened = self.open(Some(runtime));
        self.note(opened.err());
        let mut next = None;
        while let Some(first) = next.take().or_else(|| entries.blocking_recv()) {
            let mut bytes = record::size(&first.batch);
            let mut group = vec![first];
            while let Ok(entry) = entries.try_recv() {
                bytes += record::size(&entry.batch);
                if bytes > GROUP_BYTES_MAX {
                    next = Some(entry);
                    break;
                }
                group.push(entry);
            }
            let taken = self.take(&group);
            if !self.pass_on(group, &taken) {
                return;
            }
        }
    }

    /// Opens the directory; with a `runtime` what it holds is passed on first.
    fn open(&mut self, runtime: Option<&Handle>) -> io::Result<()> {
        let judged = self.setup.judged;
        let mut segments = Segments::open(&self.setup.directory, judged)?;
        let torn = segments.replay(judged, &mut |record| runtime.is_none_or(|runtime| self.replay(record, runtime)))?;
        self.setup.counters.journal_torn.fetch_add(torn, Ordering::Relaxed);
        self.segments = Some(segments);
        Ok(())
    }

    /// Passes one record of an earlier run on, as soon as there is room.
    fn replay(&self, record: Record, runtime: &Handle) -> bool {
        let Record { position, received, source, lines } = record;
        let bytes = lines.iter().map(bytes::Bytes::len).sum::<usize>() + super::queue::handles(lines.len());
        let Some(room) = runtime.block_on(self.setup.rooms.reserve(bytes)) else { return false };
        Counters::add(&self.setup.counters.journal_replayed, lines.len());
        let batch = Batch::new(source, received, lines).in_room(room).placed(self.place(position));
        self.setup.detector.blocking_send(batch).is_ok()
    }

    fn place(&self, position: u64) -> Place {
        Place { position, judged: Arc::clone(&self.judged) }
    }

    /// Brings a group to disk; gives its first position.
    fn take(&mut self, group: &[Entry]) -> Result<u64, NotTaken> {
        let taken = self.append(group);
        match &taken {
            Ok(_) => self.note(None),
            Err(NotTaken::Disk(reason)) => self.note(Some(io::Error::other(reason.clone()))),
            Err(_) => {}
        }
        let bytes = self.segments.as_ref().map_or(0, Segments::bytes);
        self.setup.counters.journal_bytes.store(bytes, Ordering::Relaxed);
        taken
    }

    fn append(&mut self, group: &[Entry]) -> Result<u64, NotTaken> {
        let disk = |error: io::Error| NotTaken::Disk(error.to_string());
        if self.segments.is_none() {
            self.open(None).map_err(disk)?;
        }
        let Some(segments) = &mut self.segments else { return Err(NotTaken::Stopping) };
        segments.release(self.judged.load(Ordering::Relaxed)).map_err(disk)?;
        let bytes: u64 = group.iter().map(|entry| record::size(&entry.batch)).sum();
        if segments.bytes().saturating_add(bytes) > self.setup.config.bytes_max {
            return Err(NotTaken::JournalFull);
        }
        let first = segments.append(group.iter().map(|entry| &entry.batch)).map_err(disk)?;
        Counters::add(&self.setup.counters.journal_syncs, 1);
        Ok(first)
    }

    /// Tells senders, and hands over what was taken; false when the detector is gone.
    fn pass_on(&self, group: Vec<Entry>, taken: &Result<u64, NotTaken>) -> bool {
        for (entry, offset) in group.into_iter().zip(0..) {
            let Entry { batch, taken: answer, unrepeatable } = entry;
            let batch = match taken {
                Ok(first) => batch.placed(self.place(first + offset)),
                Err(_) if unrepeatable => batch,
                Err(refused) => {
                    let _ = answer.send(Err(refused.clone())); // a sender that went away does not ask
                    continue;
                }
            };
            self.setup.counters.count(&batch);
            // Answered before the hand-over, which may wait: the disk has it.
            let _ = answer.send(Ok(()));
            if self.setup.detector.blocking_send(batch).is_err() {
                return false;
            }
        }
        true
    }

    fn note(&self, error: Option<io::Error>) {
        let mut trouble = self.setup.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let now = error.map(|error| sentence(&self.setup.directory, &error));
        if *trouble != now {
            match &now {
                Some(sentence) => tracing::warn!("{sentence}"),
                None => tracing::info!("the intake journal is well again"),
            }
            *trouble = now;
        }
    }
}

fn sentence(directory: &Path, error: &io::Error) -> String {
    format!(
        "the intake journal in {} takes nothing: {error}; senders are told to come back; make room, or set \
         intake.journal.enabled = false to acknowledge lines that are only in memory",
        directory.display()
    )
}

/// What the detector has judged since it last saved its memory.
#[derive(Debug, Default)]
pub struct Judged {
    acks: Vec<oneshot::Sender<()>>,
    place: Option<Place>,
    bytes: usize,
}

impl Judged {
    /// Adds a batch and lets go of its lines.
    pub fn add(&mut self, batch: Batch) {
        self.bytes += batch.lines.iter().map(bytes::Bytes::len).sum::<usize>();
        let (ack, place) = batch.into_receipt();
        self.acks.extend(ack);
        self.place = place.or(self.place.take());
    }

    /// Bytes of its lines.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The place in the journal that it reaches to, to be saved together with the detector's memory.
    #[must_use]
    pub fn position(&self) -> Option<[u8; 8]> {
        self.place.as_ref().map(|place| place.position.to_be_bytes())
    }

    /// The lines need not be sent again. Call it once what they led to is saved; `durably` says whether on disk, before
    /// which the journal keeps them.
    pub fn acknowledge(self, durably: bool) {
        for ack in self.acks {
            let _ = ack.send(()); // a receiver that stopped meanwhile does not ask any more
        }
        if let Some(place) = self.place.filter(|_| durably) {
            place.release();
        }
    }
}

/// Reads what [`Judged::position`] gave.
pub(super) fn position(saved: &[u8]) -> u64 {
    saved.try_into().map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests;
