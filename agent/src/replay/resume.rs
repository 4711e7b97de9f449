//! A replay that survives being killed. In: a state directory. Out: the detector as it was, and the inputs it has not seen.
//!
//! Everything goes into the store in one transaction: the detector's memory, the revisions it raised, and how many inputs that
//! memory holds. The inputs before are read again for what they tell of processes, listeners and names, as a live agent reads
//! /proc; nothing is judged twice.

use serde::{Deserialize, Serialize};

use super::recording::RecordingError;
use super::{Input, Inputs, TICK};
use crate::config::Config;
use crate::control::{EXPECTATIONS, OWN};
use crate::deliver::revision;
use crate::detector::{Detector, Part};
use crate::edge::EdgeError;
use crate::expectation::Expectations;
use crate::incident::Incident;
use crate::store::{Blob, Kept, Saved, Store};
use crate::timestamp::Timestamp;

/// Under which name the store has how far a replay is.
const CURSOR: &str = "replay";

/// Inputs after which the memory is saved though nothing was raised: what is replayed again after a kill. Saving takes some
/// milliseconds, so many inputs about as long.
const SAVE_EVERY: u64 = 2000;

/// Why a replay cannot be resumed, or not be saved.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The state directory is of a replay of something else.
    #[error(
        "the state directory is of a replay of other recordings (after {inputs} inputs they stand at {found}, not at {saved}); \
         name the same files in the same order, or an empty directory"
    )]
    OtherRecordings {
        /// Inputs that its memory holds.
        inputs: u64,
        /// Time of the last of them.
        saved: Timestamp,
        /// Time of the same input in these recordings.
        found: Timestamp,
    },
    /// There are fewer inputs than were replayed.
    #[error(
        "the state directory is of a replay of other recordings (of {inputs} inputs, and these have {found}); \
         name the same files in the same order, or an empty directory"
    )]
    Shorter {
        /// Inputs that its memory holds.
        inputs: u64,
        /// Inputs of these recordings.
        found: u64,
    },
    /// The disk does not take it; a replay that went on could not keep its promise.
    #[error("the state directory does not take what was replayed: {0}")]
    NotSaved(String),
    /// What is saved is no position.
    #[error("the state directory is damaged: {0}; name an empty one")]
    Damaged(#[from] serde_json::Error),
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Inputs fed.
    pub(super) inputs: u64,
    /// Time of the first.
    pub(super) first: Timestamp,
    /// Time of the last.
    last: Timestamp,
    /// The latest time of any.
    pub(super) until: Timestamp,
    /// When time passes next.
    next_tick: Timestamp,
}

impl Progress {
    /// One more input; whether time is to pass after it.
    pub(super) fn count(&mut self, at: Timestamp) -> bool {
        if self.inputs == 0 {
            (self.first, self.until, self.next_tick) = (at, at, at);
        }
        self.inputs += 1;
        self.last = at;
        self.until = self.until.max(at);
        let due = self.until >= self.next_tick;
        if due {
            self.next_tick = self.until.plus(TICK);
        }
        due
    }
}

/// The memory of a replay.
#[derive(Debug)]
pub struct Resume<'s> {
    store: &'s Store,
    /// Inputs that what is saved holds.
    saved: u64,
}

impl<'s> Resume<'s> {
    /// On the store of a state directory.
    #[must_use]
    pub const fn new(store: &'s Store) -> Self {
        Self { store, saved: 0 }
    }

    /// The detector as it was saved; a new one where nothing is.
    pub(super) fn detector(&self, config: &Config) -> Result<Detector, EdgeError> {
        let baseline = self.store.load(Blob::Baseline, OWN);
        let part = |part: Part| self.store.load(Blob::Checkpoint, part.name());
        let mut detector = Detector::restore(config, baseline.as_deref(), part)?;
        match self.store.load(Blob::Baseline, EXPECTATIONS).map(|bytes| Expectations::from_bytes(&bytes)) {
            Some(Ok(expectations)) => detector.set_expectations(expectations),
            Some(Err(error)) => tracing::error!(%error, "nothing is expected"),
            None => {}
        }
        Ok(detector)
    }

    /// Reads again what was replayed before.
    pub(super) fn recall<E: From<RecordingError> + From<ResumeError>>(
        &self,
        inputs: &mut Inputs,
        detector: &mut Detector,
    ) -> Result<Progress, E> {
        let Some(bytes) = self.store.load(Blob::Cursor, CURSOR) else { return Ok(Progress::default()) };
        let saved: Progress = serde_json::from_slice(&bytes).map_err(ResumeError::Damaged)?;
        let mut found = Timestamp::MIN;
        for number in 0..saved.inputs {
            let Some((at, input)) = inputs.next()? else {
                return Err(ResumeError::Shorter { inputs: saved.inputs, found: number }.into());
            };
            found = at;
            match input {
                Input::Host(event) => detector.recall(&event),
                Input::Edge { source, line } => detector.recall_line(source, line),
            }
        }
        if found != saved.last {
            return Err(ResumeError::OtherRecordings { inputs: saved.inputs, saved: saved.last, found }.into());
        }
        Ok(saved)
    }

    /// Whether so many inputs are not in what is saved that it is time.
    pub(super) const fn is_due(&self, progress: &Progress) -> bool {
        progress.inputs >= self.saved + SAVE_EVERY
    }

    /// Saves the detector's memory, what it raised, and how far it is, in one transaction.
    pub(super) fn save(
        &mut self,
        detector: &mut Detector,
        progress: &Progress,
        raised: &[Incident],
    ) -> Result<(), ResumeError> {
        let not_saved = |error: &dyn std::fmt::Display| ResumeError::NotSaved(error.to_string());
        let mut memory = Part::ALL
            .map(|part| Saved { blob: Blob::Checkpoint, name: part.name(), bytes: detector.checkpoint(part) })
            .to_vec();
        let (baseline, expectations) = detector.memory();
        let baseline = baseline.to_bytes().map_err(|error| not_saved(&error))?;
        let expectations = expectations.to_bytes().map_err(|error| not_saved(&error))?;
        memory.extend([
            Saved { blob: Blob::Baseline, name: OWN, bytes: baseline },
            Saved { blob: Blob::Baseline, name: EXPECTATIONS, bytes: expectations },
            Saved { blob: Blob::Cursor, name: CURSOR, bytes: serde_json::to_vec(progress)? },
        ]);
        let json = raised.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>()?;
        let rows: Vec<_> = raised.iter().zip(&json).map(|(incident, json)| (revision(incident, json), false)).collect();
        if self.store.append(&rows, &memory, progress.until) != Kept::Durably {
            return Err(not_saved(&self.store.status().trouble.unwrap_or_default()));
        }
        self.saved = progress.inputs;
        Ok(())
    }
}
