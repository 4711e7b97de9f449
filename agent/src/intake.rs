//! Receivers of edge lines. In: HTTP requests, log files, NATS messages. Out: [`Batch`]es of lines through one queue, bounded in
//! bytes; the detector takes them line by line.
//!
//! Nothing here knows what a line means. Whoever sends hears the truth: an HTTP sender gets 200 only once the queue has
//! its whole request, and a file's cursor moves only once the pipeline acknowledged the lines. When the queue is full,
//! HTTP senders are told to come back and files are read no further.

mod body;
mod http;
mod inflate;
pub mod nats;
mod queue;
mod tail;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use self::http::{Config as HttpConfig, Server};
pub use self::queue::{Batch, Queue, queue};
pub use self::tail::{Config as FileConfig, Cursors, FileStatus, Tail};
pub(crate) use self::tail::{Cursor, Follower, Step};
use crate::timestamp::Timestamp;

/// Longest line passed on, in bytes; the rest of a longer one is cut and counted. An ALB line is at most some 20 KiB
/// (the balancer itself limits a request line to 16 KiB), so this cuts nothing that a balancer writes and keeps a
/// hostile one from filling the queue.
const LINE_BYTES_MAX: usize = 64 << 10;

/// What is received, and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes of lines between the receivers and the detector at most, all requests under way included.
    pub queue_bytes: usize,
    /// The HTTP receiver.
    pub http: HttpConfig,
    /// Log files to follow.
    pub files: Vec<FileConfig>,
    /// The bus that a forwarder puts this host's lines on.
    pub nats: nats::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self { queue_bytes: 32 << 20, http: HttpConfig::default(), files: Vec::new(), nats: nats::Config::default() }
    }
}

impl Config {
    /// Checks everything that can be checked without a port or a log.
    ///
    /// # Errors
    ///
    /// The first key that cannot work.
    pub fn check(&self) -> Result<(), IntakeError> {
        if self.http.enabled {
            self.http.check(self.queue_bytes)?;
        }
        if self.nats.enabled {
            self.nats.check()?;
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
    /// The bus cannot be used as configured.
    #[error("intake.nats: {0}")]
    Nats(#[from] nats::BusError),
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
    /// The bus, where one is used.
    pub nats: Option<nats::Status>,
    /// What came in and what did not.
    pub counters: Arc<Counters>,
}

/// All receivers at work. Dropping it aborts them.
#[derive(Debug)]
pub struct Intake {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    description: Description,
    addresses: watch::Sender<Vec<IpAddr>>,
}

/// A handle to how the receivers stand, good while they run.
#[derive(Debug, Clone)]
pub struct Description {
    http: Option<SocketAddr>,
    files: Vec<Arc<Mutex<FileStatus>>>,
    nats: Option<nats::Trouble>,
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
            nats: self.nats.as_ref().map(|trouble| nats::Status { trouble: trouble.now() }),
            counters: Arc::clone(&self.counters),
        }
    }
}

impl Intake {
    /// Starts what the config names. The other end of the queue is the pipeline's; it closes when every receiver has
    /// stopped.
    ///
    /// # Errors
    ///
    /// The first receiver that cannot work.
    pub async fn start(
        config: &Config,
        cursors: &Arc<dyn Cursors>,
        now: fn() -> Timestamp,
    ) -> Result<(Self, mpsc::Receiver<Batch>), IntakeError> {
        config.check()?;
        let (queue, batches) = queue(config.queue_bytes);
        let (mut tasks, stop) = (JoinSet::new(), watch::Sender::new(false));
        let open = |file| Tail::open(file, queue.clone(), Arc::clone(cursors), now);
        let tails = config.files.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let mut http = None;
        if config.http.enabled {
            let server = Server::bind(&config.http, queue.clone(), now).await?;
            http = server.local_addr().ok();
            tasks.spawn(server.run(stop.subscribe()));
        }
        let files = tails.iter().map(Tail::status).collect();
        for tail in tails {
            tasks.spawn(tail.run(stop.subscribe()));
        }
        let addresses = watch::Sender::new(Vec::new());
        let mut nats = None;
        if config.nats.enabled {
            let receiver = nats::Receiver::new(&config.nats, queue.clone(), now, addresses.subscribe());
            nats = Some(receiver.trouble());
            tasks.spawn(receiver.run(stop.subscribe()));
        }
        let description = Description { http, files, nats, counters: Arc::clone(queue.counters()) };
        Ok((Self { tasks, stop, description, addresses }, batches))
    }

    /// How the receivers stand, now and later.
    #[must_use]
    pub fn description(&self) -> Description {
        self.description.clone()
    }

    /// Where to tell which addresses this host has, its containers' included: their lines are taken from the bus.
    #[must_use]
    pub fn addresses(&self) -> watch::Sender<Vec<IpAddr>> {
        self.addresses.clone()
    }

    /// Stops taking lines and waits, up to `grace`, for requests under way and for the pipeline to acknowledge what it
    /// has; so the pipeline must still be at work.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let finished = async { while self.tasks.join_next().await.is_some() {} };
        drop(tokio::time::timeout(grace, finished).await);
    }
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
    /// Messages taken from the bus.
    pub nats_messages: AtomicU64,
    /// Messages of the bus that could not be read.
    pub nats_refused: AtomicU64,
    /// Rotations and truncations of followed files.
    pub file_rotations: AtomicU64,
    /// Times that a rotated or truncated file's rest was nowhere to be found: lines may be missing.
    pub file_gaps: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
