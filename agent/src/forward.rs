//! The edge's side: takes balancer logs to the agents that they concern. In: logs, directories of complete files,
//! standard input. Out: each line at least once to the agent that owns its target's address, over NATS or HTTP.
//!
//! ```text
//! sources -> packer: target of each line, a batch per destination -> courier: gzip, send, send again
//!    ^                                                                   |
//!    +---- cursors <---- ledger: what is settled, in order <-------------+
//! ```
//!
//! One thread reads and packs; a runtime delivers. Memory is bounded in bytes: when batches are not taken, reading waits,
//! and the files are the buffer. A cursor moves only past lines that were taken, so a kill at any moment makes lines go
//! twice, never not at all. Nothing here judges a line.

mod batch;
mod config;
mod courier;
mod cursors;
mod http;
mod ledger;
mod log;
mod nats;
mod pattern;
mod progress;
mod route;
mod sources;
mod stdin;
mod tree;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;

use self::batch::Packer;
pub use self::config::{
    BatchConfig, Config, DEFAULT_PATH, LogConfig, NatsConfig, ObjectsConfig, RetryConfig, RouteConfig, SAMPLE,
};
use self::courier::{Courier, Transport};
use self::cursors::Cursors;
use self::progress::NAMED_MAX;
pub use self::progress::{Counts, Status};
use self::route::Router;
use self::sources::Sources;
use crate::clock;
use crate::timestamp::Timestamp;

/// How often cursors are saved, if they moved: what a kill makes go twice.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// Wait after a round in which no source had anything.
const IDLE_WAIT: Duration = Duration::from_millis(10);
/// Wait while there is no memory for more: batches are taken in milliseconds, or not at all.
const FULL_WAIT: Duration = Duration::from_millis(1);
/// Time for what is under way to be taken when told to stop; what is not, is read again at the next start.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How often cursors of files that are no more are forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(3600);

/// Why the forwarder does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// A key that cannot work, or a file that cannot be read.
    #[error("{0}")]
    Config(String),
    /// Cursors cannot be kept.
    #[error("state_directory {path}: {reason}; name a directory that this user may write, one per forwarder")]
    State {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Standard input cannot be read.
    #[error("cannot read standard input: {0}")]
    Stdin(String),
}

/// What to do beside what the config says.
#[derive(Copy, Clone, Debug, Default)]
pub struct Options {
    /// Read what there is and end, instead of following.
    pub once: bool,
    /// Read standard input too.
    pub stdin: bool,
}

/// A forwarder at work.
pub struct Forwarder {
    sources: Sources,
    packer: Packer,
    courier: Arc<Courier>,
    cursors: Cursors,
    config: Config,
    started: Timestamp,
    next_save: Instant,
    next_forget: Instant,
    stop: watch::Receiver<bool>,
}

impl Forwarder {
    /// Opens cursors and sources and the way out. Batches are delivered on `runtime`; `stop` turning true ends it.
    ///
    /// # Errors
    ///
    /// The first thing that cannot work.
    pub async fn open(
        config: &Config,
        options: Options,
        runtime: Handle,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, ForwardError> {
        config.check()?;
        let forgetful = config.state_directory.as_os_str().is_empty() && !options.once;
        if forgetful && !config.objects.is_empty() {
            let reason = "is empty, and without it each object would be read again and again; name a directory";
            return Err(ForwardError::Config(format!("state_directory {reason}")));
        }
        let cursors = Cursors::open(&config.state_directory)?;
        let transport = if config.nats.enabled {
            Transport::Nats(Box::new(nats::Publisher::connect(&config.nats).await?))
        } else {
            Transport::Http(http::Poster::new(&config.routes, &config.retry)?)
        };
        let courier = Arc::new(Courier::new(transport, &config.retry, &config.batch));
        let router = Router::new(config)?;
        Ok(Self {
            sources: Sources::open(config, options.once, options.stdin)?,
            packer: Packer::new(&config.batch, router, Arc::clone(&courier), runtime, stop.clone()),
            courier,
            cursors,
            config: config.clone(),
            started: clock::now(),
            next_save: Instant::now(),
            next_forget: Instant::now(),
            stop,
        })
    }

    /// Forwards until told to stop, or until everything was read where that comes to an end; `tell` hears the status every
    /// second. Not to be called on a thread of the runtime: it blocks.
    ///
    /// # Errors
    ///
    /// Cursors cannot be saved any more.
    pub fn run(mut self, mut tell: impl FnMut(&Status)) -> Result<Status, ForwardError> {
        while !*self.stop.borrow() {
            if !self.packer.has_room() {
                std::thread::sleep(FULL_WAIT);
                self.keep(&mut tell)?;
                continue;
            }
            let (packer, cursors) = (&mut self.packer, &self.cursors);
            let counters = self.courier.counters();
            let Ok(round) = self.sources.round(cursors, counters, |feed, read| packer.pack(feed, read)) else { break };
            self.packer.look(Instant::now());
            self.keep(&mut tell)?;
            if round.over {
                break;
            }
            if !round.progressed {
                std::thread::sleep(IDLE_WAIT);
            }
        }
        self.finish(&mut tell)
    }

    /// Saves and tells, when it is time.
    fn keep(&mut self, tell: &mut impl FnMut(&Status)) -> Result<(), ForwardError> {
        let now = Instant::now();
        if now < self.next_save {
            return Ok(());
        }
        self.next_save = now + SAVE_INTERVAL;
        self.cursors.save(&self.packer.settled())?;
        if now >= self.next_forget {
            self.next_forget = now + FORGET_INTERVAL;
            self.cursors.forget(tree::is_gone)?;
        }
        tell(&self.status());
        Ok(())
    }

    /// Sends what is open and waits for it: to the end when everything was read, for a while when told to stop.
    fn finish(mut self, tell: &mut impl FnMut(&Status)) -> Result<Status, ForwardError> {
        self.packer.seal_all();
        let mut deadline = None;
        while self.courier.ledger().batches() > 0 {
            let stopping = *self.stop.borrow();
            let until = *deadline.get_or_insert_with(|| Instant::now() + STOP_GRACE);
            if !stopping {
                deadline = None;
            } else if Instant::now() >= until {
                break;
            }
            std::thread::sleep(IDLE_WAIT);
            self.keep(tell)?;
        }
        self.cursors.save(&self.packer.settled())?;
        let status = self.status();
        tell(&status);
        Ok(status)
    }

    /// How it stands; written into the state directory as well, where `--status` finds it.
    fn status(&self) -> Status {
        let mut troubles = self.sources.troubles();
        troubles.extend(self.courier.trouble());
        troubles.extend(self.packer.troubles(NAMED_MAX));
        troubles.truncate(NAMED_MAX);
        let status = Status {
            pid: std::process::id(),
            started: self.started,
            updated: clock::now(),
            counts: self.courier.counters().counts(),
            batches_waiting: self.courier.ledger().batches(),
            troubles,
        };
        let directory = &self.config.state_directory;
        if !directory.as_os_str().is_empty()
            && let Err(error) = status.write(directory)
        {
            tracing::debug!(%error, "the status cannot be written");
        }
        status
    }
}
