//! Receivers of edge lines. In: HTTP requests and log files. Out: [`Batch`]es of lines through one queue, bounded in
//! bytes; the detector takes them line by line.
//!
//! Nothing here knows what a line means. Whoever sends hears the truth: an HTTP sender gets 200 only once the queue has
//! its whole request, and a file's cursor moves only once the pipeline acknowledged the lines. When the queue is full,
//! HTTP senders are told to come back and files are read no further.

mod body;
mod http;
mod inflate;
mod journal;
mod queue;
mod tail;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use self::http::{Config as HttpConfig, Server};
pub use self::journal::{Config as JournalConfig, Judged};
pub use self::queue::{Batch, Queue, queue};
pub use self::tail::{Config as FileConfig, Cursors, FileStatus, Tail};
use crate::timestamp::Timestamp;

/// Longest line passed on, in bytes; the rest of a longer one is cut and counted. An ALB line is at most some 20 KiB
/// (the balancer itself limits a request line to 16 KiB), so this cuts nothing that a balancer writes and keeps a
/// hostile one from filling the queue.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Name under which the detector's place in the journal is saved, together with its memory.
pub const JOURNAL_CURSOR: &str = "intake:journal";

/// The journal's folder in the state directory.
const JOURNAL_DIRECTORY: &str = "intake";

/// What is received, and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes of lines between the receivers and the detector at most, all requests under way included.
    pub queue_bytes: usize,
    /// What makes an acknowledgement outlive a crash.
    pub journal: JournalConfig,
    /// The HTTP receiver.
    pub http: HttpConfig,
    /// Log files to follow.
    pub files: Vec<FileConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            queue_bytes: 32 << 20,
            journal: JournalConfig::default(),
            http: HttpConfig::default(),
            files: Vec::new(),
        }
    }
}

impl Config {
    /// Checks everything that can be checked without a port or a log.
    ///
    /// # Errors
    ///
    /// The first key that cannot work.
    pub fn check(&self) -> Result<(), IntakeError> {
        if let Some(reason) = self.journal.fault() {
            let value = usize::try_from(self.journal.bytes_max).unwrap_or(usize::MAX);
            return Err(IntakeError::Limit { key: "journal.bytes_max", value, reason });
        }
        if self.http.enabled {
            self.http.check(self.queue_bytes)?;
        }
        for (index, file) in self.files.iter().enumerate() {
            file.check()?;
            if self.files[..index].iter().any(|other| other.path == file.path) {
                return Err(IntakeError::File { path: file.path.clone(), reason: "is listed twice" });
            }
        }
        Ok(())
    }
}

/// Why a receiver does not start.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// Anyone could forge the edge's evidence.
    #[error(
        "intake.http.listen {address} is open to the network without authentication; listen on 127.0.0.1 or [::1] and \
         let the forwarder on this host (Vector, Fluent Bit, nginx with TLS and a client certificate) pass lines on"
    )]
    Exposed {
        /// As configured.
        address: SocketAddr,
    },
    /// The token file is of no use.
    #[error("intake.http.token_file {path}: {reason}")]
    Token {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The port is taken, or not ours to take.
    #[error("cannot listen on {address} (intake.http.listen); stop what uses the port or name another one")]
    Bind {
        /// As configured.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A limit that would refuse everything.
    #[error("intake.{key} is {value}: {reason}")]
    Limit {
        /// The key.
        key: &'static str,
        /// As configured.
        value: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The journal's thread could not be made.
    #[error("cannot start the intake journal: {source}")]
    Journal {
        /// The system's reason.
        source: std::io::Error,
    },
    /// No file can be followed there.
    #[error("intake.files {path}: {reason}")]
    File {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// How the receivers stand, for `breachline status`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Where the HTTP receiver listens.
    pub http: Option<SocketAddr>,
    /// Each followed file.
    pub files: Vec<FileStatus>,
    /// Why the journal takes nothing at the moment.
    pub journal_trouble: Option<String>,
    /// What came in and what did not.
    pub counters: Arc<Counters>,
}

/// All receivers at work. Dropping it aborts them.
#[derive(Debug)]
pub struct Intake {
    /// Receivers that others send to.
    receivers: JoinSet<()>,
    /// Files being followed, which the detector's acknowledgements go to.
    tails: JoinSet<()>,
    stop: watch::Sender<bool>,
    description: Description,
}

/// A handle to how the receivers stand, good while they run.
#[derive(Debug, Clone)]
pub struct Description {
    http: Option<SocketAddr>,
    files: Vec<Arc<Mutex<FileStatus>>>,
    journal_trouble: Arc<Mutex<Option<String>>>,
    counters: Arc<Counters>,
}

impl Description {
    /// How the receivers stand now.
    #[must_use]
    pub fn status(&self) -> Status {
        let file = |status: &Arc<Mutex<FileStatus>>| status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Status {
            http: self.http,
            files: self.files.iter().map(file).collect(),
            journal_trouble: self.journal_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            counters: Arc::clone(&self.counters),
        }
    }
}

/// What the receivers need of the rest of the agent.
#[derive(Clone)]
pub struct Surroundings {
    /// State directory; the journal lies below it.
    pub directory: PathBuf,
    /// Where cursors are kept.
    pub cursors: Arc<dyn Cursors>,
    /// What time it is.
    pub now: fn() -> Timestamp,
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Intake {
    /// Starts what the config names. The other end of the queue is the pipeline's; it closes when every receiver has
    /// stopped.
    ///
    /// # Errors
    ///
    /// The first receiver that cannot work.
    pub async fn start(config: &Config, around: &Surroundings) -> Result<(Self, mpsc::Receiver<Batch>), IntakeError> {
        config.check()?;
        let (queue, batches) = queue(config.queue_bytes);
        let (mut receivers, mut tails, stop) = (JoinSet::new(), JoinSet::new(), watch::Sender::new(false));
        let open = |file| Tail::open(file, queue.clone(), Arc::clone(&around.cursors), around.now);
        let opened = config.files.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let journal_trouble = Arc::default();
        let mut http = None;
        if config.http.enabled {
            let queue = journaled(config, &queue, around, &journal_trouble)?;
            let server = Server::bind(&config.http, queue, around.now).await?;
            http = server.local_addr().ok();
            receivers.spawn(server.run(stop.subscribe()));
        }
        let files = opened.iter().map(Tail::status).collect();
        for tail in opened {
            tails.spawn(tail.run(stop.subscribe()));
        }
        let description = Description { http, files, journal_trouble, counters: Arc::clone(queue.counters()) };
        Ok((Self { receivers, tails, stop, description }, batches))
    }

    /// How the receivers stand, now and later.
    #[must_use]
    pub fn description(&self) -> Description {
        self.description.clone()
    }

    /// Stops taking lines; requests under way get up to `grace`. What is taken by then is in the queue. Call
    /// [`Self::finish`] when the pipeline has acknowledged it.
    pub async fn stop(&mut self, grace: Duration) {
        self.stop.send_replace(true);
        join(&mut self.receivers, grace).await;
    }

    /// Waits, up to `grace`, until the cursors of what the pipeline acknowledged are saved.
    pub async fn finish(mut self, grace: Duration) {
        self.stop.send_replace(true);
        join(&mut self.tails, grace).await;
    }
}

async fn join(tasks: &mut JoinSet<()>, grace: Duration) {
    let finished = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, finished).await.is_err() {
        tasks.abort_all();
    }
}

/// The queue behind a journal, if there is to be one.
fn journaled(
    config: &Config,
    queue: &Queue,
    around: &Surroundings,
    trouble: &journal::Trouble,
) -> Result<Queue, IntakeError> {
    if !config.journal.enabled {
        return Ok(queue.clone());
    }
    let (detector, rooms) = queue.parts();
    let setup = journal::Setup {
        config: config.journal.clone(),
        directory: around.directory.join(JOURNAL_DIRECTORY),
        judged: around.cursors.load(JOURNAL_CURSOR).map_or(0, |saved| journal::position(&saved)),
        detector,
        rooms,
        counters: Arc::clone(queue.counters()),
        trouble: Arc::clone(trouble),
    };
    let entries = journal::start(setup).map_err(|source| IntakeError::Journal { source })?;
    Ok(queue.clone().journaled(entries))
}

/// What came in and what did not. Shared by all receivers.
#[derive(Debug, Default, Serialize)]
pub struct Counters {
    /// Lines handed to the queue.
    pub lines: AtomicU64,
    /// Their bytes.
    pub line_bytes: AtomicU64,
    /// Lines longer than 64 KiB, cut there.
    pub lines_cut: AtomicU64,
    /// HTTP requests taken.
    pub http_accepted: AtomicU64,
    /// HTTP requests sent away for now: queue full, too many connections, stopping.
    pub http_deferred: AtomicU64,
    /// HTTP requests refused for good: no or a wrong token, too large, unreadable, unknown encoding, wrong method.
    pub http_refused: AtomicU64,
    /// HTTP requests given up because they came in too slowly.
    pub http_timeouts: AtomicU64,
    /// Rotations and truncations of followed files.
    pub file_rotations: AtomicU64,
    /// Times that a rotated or truncated file's rest was nowhere to be found: lines may be missing.
    pub file_gaps: AtomicU64,
    /// Bytes of the journal on disk.
    pub journal_bytes: AtomicU64,
    /// Writes that were brought to disk; each may hold many batches.
    pub journal_syncs: AtomicU64,
    /// Lines of an earlier run that were taken from the journal, since it ended before they were judged and saved.
    pub journal_replayed: AtomicU64,
    /// Files of the journal whose end could not be read: a write that a crash cut short, never acknowledged, or a bad
    /// disk.
    pub journal_torn: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
    }

    fn add_lines(&self, lines: usize, bytes: usize) {
        Self::add(&self.lines, lines);
        Self::add(&self.line_bytes, bytes);
    }

    fn count(&self, batch: &Batch) {
        let (lines, bytes) = queue::size(batch);
        self.add_lines(lines, bytes);
    }
}

#[cfg(test)]
mod tests;
