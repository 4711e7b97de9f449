//! Log files. In: the files of the config. Out: their lines in batches, and a cursor per file that moves once the
//! pipeline has acknowledged them.
//!
//! A file is looked at again every `poll` rather than watched: that also works where the kernel does not notify (NFS,
//! FUSE, a mount shared into a container), costs microseconds, and its delay is what the config says. Reading happens
//! off the async threads.

mod follow;
mod log_file;
mod rotated;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

pub(crate) use self::follow::{Cursor, Follower, Step};
use super::{Batch, Counters, IntakeError, Queue, queue};
use crate::timestamp::Timestamp;

/// Time after its last line in which a rotated file is still read: its writer goes on with it until it is told to
/// reopen. logrotate's postrotate comes within a second or two.
const LINGER: Duration = Duration::from_secs(10);

/// Wait after a step that failed: a gzip file is finished, a permission granted in its own time. A missing file is looked
/// for as often as a present one, since between the two steps of a rotation every log is missing.
const ERROR_WAIT: Duration = Duration::from_secs(1);

/// Batches on their way to the pipeline and not acknowledged; with more, reading waits.
const UNACKNOWLEDGED_MAX: usize = 256;

/// Time for the pipeline to acknowledge what it has when the agent stops; what it does not, is read again after the
/// restart.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Smallest queue that takes a step's lines and handles.
const QUEUE_BYTES_MIN: usize = 2 << 20;

/// A log file to follow.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file; with the ending `.gz` it is unpacked and read once.
    pub path: PathBuf,
    /// Where to begin with a file seen for the first time: `true` at its end, `false` with all that it holds.
    pub from_end: bool,
    /// How often it is looked at, from 10ms to 10s: what an alert may be delayed by.
    #[serde(with = "crate::config::duration")]
    pub poll: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { path: PathBuf::new(), from_end: true, poll: Duration::from_millis(50) }
    }
}

impl Config {
    /// Checks what can be checked without the file, which may appear later.
    ///
    /// # Errors
    ///
    /// No path, a directory, or a `poll` out of bounds.
    pub fn check(&self) -> Result<(), IntakeError> {
        let wrong = |reason| Err(IntakeError::File { path: self.path.clone(), reason });
        if self.path.file_name().is_none() {
            return wrong("names no file; write the path of a log");
        }
        if self.path.is_dir() {
            return wrong("is a directory; name the log in it");
        }
        if !(Duration::from_millis(10)..=Duration::from_secs(10)).contains(&self.poll) {
            return wrong("poll must lie between 10ms and 10s");
        }
        Ok(())
    }
}

/// Where cursors are kept.
pub trait Cursors: Send + Sync {
    /// The cursor last saved for `source`.
    fn load(&self, source: &str) -> Option<Vec<u8>>;

    /// Saves the cursor of `source`.
    fn save(&self, source: &str, cursor: &[u8]);
}

/// How a followed file stands, for `breachline status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileStatus {
    /// The file.
    pub path: PathBuf,
    /// Bytes of it that were passed on; absent before it was first opened.
    pub offset: Option<u64>,
    /// Why it cannot be read at the moment.
    pub trouble: Option<String>,
}

/// A file being followed.
pub struct Tail {
    config: Config,
    source: Arc<str>,
    queue: Queue,
    cursors: Arc<dyn Cursors>,
    now: fn() -> Timestamp,
    status: Arc<Mutex<FileStatus>>,
    unacknowledged: VecDeque<(Cursor, oneshot::Receiver<()>)>,
    saved: Cursor,
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").field("config", &self.config).field("status", &self.status).finish_non_exhaustive()
    }
}

impl Tail {
    /// Checks the config; the file itself is opened by [`Tail::run`].
    ///
    /// # Errors
    ///
    /// A config that cannot work.
    pub fn open(
        config: &Config,
        queue: Queue,
        cursors: Arc<dyn Cursors>,
        now: fn() -> Timestamp,
    ) -> Result<Self, IntakeError> {
        config.check()?;
        if queue.bytes_max() < QUEUE_BYTES_MIN {
            let reason = "must be at least 2 MiB for files to be followed";
            return Err(IntakeError::Limit { key: "queue_bytes", value: queue.bytes_max(), reason });
        }
        let source = format!("file:{}", config.path.display()).into();
        let status = FileStatus { path: config.path.clone(), offset: None, trouble: None };
        let status = Arc::new(Mutex::new(status));
        Ok(Self {
            config: config.clone(),
            source,
            queue,
            cursors,
            now,
            status,
            unacknowledged: VecDeque::new(),
            saved: Cursor::default(),
        })
    }

    /// A handle to how the file stands, good while [`Tail::run`] is under way.
    #[must_use]
    pub fn status(&self) -> Arc<Mutex<FileStatus>> {
        Arc::clone(&self.status)
    }

    /// Follows the file until `stop` turns true (or its sender is gone) or the pipeline no longer takes lines.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut follower = Some(self.take_up().await);
        while let Some(mut following) = follower.take() {
            let reading = tokio::task::spawn_blocking(move || {
                let step = following.step();
                (following, step)
            });
            let Ok((following, step)) = reading.await else { break };
            self.note(&following, step.as_ref().err());
            let failed = step.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::NotFound);
            let wait = if failed { self.config.poll.max(ERROR_WAIT) } else { self.config.poll };
            let step = step.unwrap_or_default();
            self.count(&step);
            let go_on = if step.lines.is_empty() {
                self.idle(following.cursor(), wait, &mut stop).await
            } else {
                self.pass_on(step.lines, following.cursor(), &mut stop).await
            };
            follower = go_on.then_some(following);
        }
        let settled = async {
            while let Some(cursor) = self.acknowledged().await {
                self.save(&cursor).await;
            }
        };
        drop(timeout(STOP_WAIT, settled).await);
    }

    /// Loads the cursor and finds the files that it speaks of.
    async fn take_up(&self) -> Follower {
        let (cursors, source, config) = (Arc::clone(&self.cursors), Arc::clone(&self.source), self.config.clone());
        let taking_up = tokio::task::spawn_blocking(move || {
            let cursor = cursors.load(&source).and_then(|bytes| serde_json::from_slice(&bytes).ok());
            Follower::new(&config.path, linger_steps(config.poll), cursor, config.from_end)
        });
        match taking_up.await {
            Ok((follower, step)) => {
                self.count(&step);
                follower
            }
            Err(_) => Follower::new(Path::new(""), 0, None, true).0, // the runtime is going down
        }
    }

    /// Waits for more, while acknowledgements come in; false when it is time to stop.
    async fn idle(&mut self, cursor: Cursor, wait: Duration, stop: &mut watch::Receiver<bool>) -> bool {
        let waiting = tokio::time::sleep(wait);
        let mut waiting = std::pin::pin!(waiting);
        loop {
            if self.unacknowledged.is_empty() {
                // A rotation moves the cursor without a line.
                self.save(&cursor).await;
            }
            let acknowledged = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return false,
                () = waiting.as_mut() => return true,
                acknowledged = self.acknowledged(), if !self.unacknowledged.is_empty() => acknowledged,
            };
            let Some(cursor) = acknowledged else { return false };
            self.save(&cursor).await;
        }
    }

    /// Hands lines over as soon as there is room; false when it is time to stop.
    async fn pass_on(&mut self, lines: Vec<Bytes>, cursor: Cursor, stop: &mut watch::Receiver<bool>) -> bool {
        let bytes = lines.iter().map(Bytes::len).sum::<usize>() + queue::handles(lines.len());
        let (ack, acknowledged) = oneshot::channel();
        let (queue, source, now) = (self.queue.clone(), Arc::clone(&self.source), self.now);
        let sending = async move {
            let Some(room) = queue.reserve(bytes).await else { return false };
            let batch = Batch::new(source, now(), lines).in_room(room).acknowledged_to(ack);
            queue.send(batch).await.is_ok()
        };
        let sent = tokio::select! {
            biased; // a batch that was taken is not forgotten
            sent = sending => sent,
            _ = stop.wait_for(|stop| *stop) => false,
        };
        if sent {
            self.unacknowledged.push_back((cursor, acknowledged));
        }
        while self.unacknowledged.len() > UNACKNOWLEDGED_MAX {
            let acknowledged = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return false,
                acknowledged = self.acknowledged() => acknowledged,
            };
            let Some(cursor) = acknowledged else { return false };
            self.save(&cursor).await;
        }
        sent
    }

    /// Waits for the oldest batch; `None` when there is none, or the pipeline let it go. Nothing is forgotten
    /// when the wait is given up.
    async fn acknowledged(&mut self) -> Option<Cursor> {
        let (_, acknowledgement) = self.unacknowledged.front_mut()?;
        if acknowledgement.await.is_err() {
            self.unacknowledged.clear();
        }
        self.unacknowledged.pop_front().map(|(cursor, _)| cursor)
    }

    /// Saves the cursor if it moved: an idle log costs no write.
    async fn save(&mut self, cursor: &Cursor) {
        if self.saved == *cursor {
            return;
        }
        self.saved.clone_from(cursor);
        let bytes = serde_json::to_vec(cursor).unwrap_or_default(); // numbers have a JSON form
        let (cursors, source) = (Arc::clone(&self.cursors), Arc::clone(&self.source));
        drop(tokio::task::spawn_blocking(move || cursors.save(&source, &bytes)).await);
    }

    fn count(&self, step: &Step) {
        let counters = self.queue.counters();
        Counters::add(&counters.lines_cut, step.cut);
        Counters::add(&counters.file_rotations, step.rotations);
        Counters::add(&counters.file_gaps, step.gaps);
        if step.gaps > 0 {
            tracing::warn!(path = %self.config.path.display(), "rest of a rotated log not found; lines may be missing");
        }
    }

    fn note(&self, follower: &Follower, error: Option<&io::Error>) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = error.map(|error| format!("cannot read {}: {error}", self.config.path.display()));
        if trouble != status.trouble {
            match &trouble {
                Some(error) => tracing::warn!(error, "log is waited for"),
                None => tracing::info!(path = %self.config.path.display(), "log is followed"),
            }
        }
        status.trouble = trouble;
        status.offset = follower.offset();
    }
}

fn linger_steps(poll: Duration) -> u32 {
    u32::try_from(LINGER.as_millis() / poll.as_millis().max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
