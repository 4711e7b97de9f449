//! Receivers of edge lines. In: HTTP requests and log files. Out: [`Batch`]es of lines through one queue, bounded in
//! bytes; the detector takes them line by line.
//!
//! Nothing here knows what a line means. Whoever sends hears the truth: an HTTP sender gets 200 only once the queue has
//! its whole request, and a file's cursor moves only once the pipeline acknowledged the lines. When the queue is full,
//! HTTP senders are told to come back and files are read no further.

mod body;
mod http;
mod inflate;
mod queue;
mod tail;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};

pub use self::http::{Config as HttpConfig, Server};
pub use self::queue::{Batch, Queue, queue};
pub use self::tail::{Config as FileConfig, Cursors, FileStatus, Tail};

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
}

impl Default for Config {
    fn default() -> Self {
        Self { queue_bytes: 32 << 20, http: HttpConfig::default(), files: Vec::new() }
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
    /// No file can be followed there.
    #[error("intake.files {path}: {reason}")]
    File {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
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
    /// HTTP requests refused for good: too large, unreadable, unknown encoding, wrong method.
    pub http_refused: AtomicU64,
    /// HTTP requests given up because they came in too slowly.
    pub http_timeouts: AtomicU64,
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
