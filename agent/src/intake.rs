//! Receivers of edge lines. In: HTTP requests, syslog, the Fluentd forward protocol, NATS messages and log files. Out:
//! [`Batch`]es of lines through one queue, bounded in bytes; the detector takes them line by line.
//!
//! Nothing here knows what a line means. Whoever sends hears the truth: a sender is acknowledged only once its lines are in
//! the [`journal`] on disk, and a file's cursor moves only once the pipeline acknowledged the lines. When the queue is full,
//! HTTP senders are told to come back, streams and files are read no further. Nothing listens beyond loopback without TLS
//! and a credential.

mod access;
mod body;
mod connections;
pub mod content;
mod firehose;
pub mod fluentd;
mod http;
mod inflate;
mod journal;
mod lines;
mod msgpack;
pub mod nats;
mod otlp;
mod pubsub;
mod queue;
mod rate;
mod repeated;
mod sources;
pub mod syslog;
mod tail;
mod tls;
mod unescape;
mod watched;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use self::fluentd::Config as FluentdConfig;
use self::fluentd::Fluentd;
pub use self::http::Config as HttpConfig;
use self::http::Server;
pub use self::journal::{Config as JournalConfig, Judged};
pub use self::lines::{Limits, Lines};
pub use self::queue::{Batch, Queue, queue};
use self::rate::Rates;
pub use self::syslog::Config as SyslogConfig;
use self::syslog::Syslog;
pub use self::tail::{Config as FileConfig, Cursors, FileStatus, Tail};
pub(crate) use self::tail::{Cursor, Follower, Step};
pub use self::tls::Config as TlsConfig;
use self::tls::Tls;
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
    /// Bytes a second that one address may send to the receivers, as sent; 0 is without a bound.
    pub sender_bytes_per_second: u64,
    /// What makes an acknowledgement outlive a crash.
    pub journal: JournalConfig,
    /// Certificate of the receivers that speak TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// The HTTP receiver.
    pub http: HttpConfig,
    /// The syslog receiver.
    pub syslog: SyslogConfig,
    /// The receiver of the Fluentd forward protocol.
    pub fluentd: FluentdConfig,
    /// Log files to follow.
    pub files: Vec<FileConfig>,
    /// The bus that a forwarder puts this host's lines on.
    pub nats: nats::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            queue_bytes: 32 << 20,
            sender_bytes_per_second: 64 << 20,
            journal: JournalConfig::default(),
            tls: None,
            http: HttpConfig::default(),
            syslog: SyslogConfig::default(),
            fluentd: FluentdConfig::default(),
            files: Vec::new(),
            nats: nats::Config::default(),
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
        let (message, unpacked) = (self.fluentd.message_bytes_max, self.fluentd.unpacked_bytes_max);
        if self.fluentd.listen.is_some() && message.saturating_mul(2).saturating_add(unpacked) > self.queue_bytes {
            let reason = "must hold twice fluentd.message_bytes_max and fluentd.unpacked_bytes_max together";
            return Err(IntakeError::Limit { key: "queue_bytes", value: self.queue_bytes, reason });
        }
        self.doors().into_iter().try_for_each(|door| self.admit(&door))?;
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

/// A port that others can reach.
struct Door {
    key: &'static str,
    address: SocketAddr,
    tls: bool,
    /// Something that a sender must show is configured beside a certificate.
    secret: bool,
    /// What would open it beyond loopback.
    way: &'static str,
}

impl Config {
    fn doors(&self) -> Vec<Door> {
        let (http, syslog, fluentd) = (&self.http, &self.syslog, &self.fluentd);
        let door = |key, address: Option<SocketAddr>, tls, secret, way| {
            address.map(|address| Door { key, address, tls, secret, way })
        };
        let doors = [
            door(
                "intake.http.listen",
                http.enabled.then_some(http.listen),
                http.tls,
                http.token_file.is_some(),
                "set intake.http.tls = true, and intake.http.token_file or intake.tls.client_ca_file",
            ),
            door(
                "intake.syslog.udp",
                syslog.udp,
                false,
                false,
                "datagrams show no credential: let senders use intake.syslog.tls with intake.tls.client_ca_file",
            ),
            door("intake.syslog.tcp", syslog.tcp, false, false, "use intake.syslog.tls with intake.tls.client_ca_file"),
            door("intake.syslog.tls", syslog.tls, true, false, "set intake.tls.client_ca_file"),
            door(
                "intake.fluentd.listen",
                fluentd.listen,
                fluentd.tls,
                fluentd.shared_key_file.is_some(),
                "set intake.fluentd.tls = true, and intake.fluentd.shared_key_file or intake.tls.client_ca_file",
            ),
        ];
        doors.into_iter().flatten().collect()
    }

    /// Nothing beyond loopback without TLS and a credential.
    fn admit(&self, door: &Door) -> Result<(), IntakeError> {
        let Door { key, address, tls, secret, way } = *door;
        if tls && self.tls.is_none() {
            return Err(IntakeError::Certificate { key });
        }
        let known = secret || (tls && self.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some()));
        if address.ip().is_loopback() || (tls && known) {
            return Ok(());
        }
        Err(IntakeError::Exposed { key, address, way })
    }
}

/// Why a receiver does not start.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// Anyone could forge the edge's evidence.
    #[error(
        "{key} {address} is open to the network without TLS and a credential; {way}; or listen on 127.0.0.1 and let a \
         forwarder on this host pass lines on"
    )]
    Exposed {
        /// Where the config names it.
        key: &'static str,
        /// As configured.
        address: SocketAddr,
        /// How it may be open.
        way: &'static str,
    },
    /// TLS without a certificate.
    #[error("{key} is to speak TLS, but there is no certificate; name intake.tls.cert_file and intake.tls.key_file")]
    Certificate {
        /// Where the config names the port.
        key: &'static str,
    },
    /// A file with keys or certificates is of no use.
    #[error("{key} {path}: {reason}")]
    Secret {
        /// Where the config names it.
        key: &'static str,
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The port is taken, or not ours to take.
    #[error("cannot listen on {address} ({key}): {source}; stop what uses the port or name another one")]
    Bind {
        /// Where the config names it.
        key: &'static str,
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
    /// Where the syslog receiver listens: UDP, TCP, TLS, as far as configured.
    pub syslog: Vec<SocketAddr>,
    /// Where the forward receiver listens.
    pub fluentd: Option<SocketAddr>,
    /// Each followed file.
    pub files: Vec<FileStatus>,
    /// The bus, where one is used.
    pub nats: Option<nats::Status>,
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
    addresses: watch::Sender<Vec<IpAddr>>,
}

/// A handle to how the receivers stand, good while they run.
#[derive(Debug, Clone)]
pub struct Description {
    http: Option<SocketAddr>,
    syslog: Vec<SocketAddr>,
    fluentd: Option<SocketAddr>,
    files: Vec<Arc<Mutex<FileStatus>>>,
    nats: Option<nats::Trouble>,
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
            syslog: self.syslog.clone(),
            fluentd: self.fluentd,
            files: self.files.iter().map(file).collect(),
            nats: self.nats.as_ref().map(|trouble| nats::Status { trouble: trouble.now() }),
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
    /// What `GET /metrics` shows, in Prometheus's text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// What all receivers that others send to share.
#[derive(Clone)]
struct Shared {
    now: fn() -> Timestamp,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
    rates: Arc<Rates>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("rates", &self.rates).finish_non_exhaustive()
    }
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
        let mut description = Description {
            http: None,
            syslog: Vec::new(),
            fluentd: None,
            files: opened.iter().map(Tail::status).collect(),
            nats: None,
            journal_trouble: Arc::clone(&journal_trouble),
            counters: Arc::clone(queue.counters()),
        };
        let addresses = watch::Sender::new(Vec::new());
        if config.nats.enabled || !config.doors().is_empty() {
            let queue = journaled(config, &queue, around, &journal_trouble)?;
            open_doors(config, &queue, around, &mut receivers, &stop.subscribe(), &mut description).await?;
            if config.nats.enabled {
                let receiver = nats::Receiver::new(&config.nats, queue, around.now, addresses.subscribe());
                description.nats = Some(receiver.trouble());
                receivers.spawn(receiver.run(stop.subscribe()));
            }
        }
        for tail in opened {
            tails.spawn(tail.run(stop.subscribe()));
        }
        Ok((Self { receivers, tails, stop, description, addresses }, batches))
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

/// Starts the receivers that others send to.
async fn open_doors(
    config: &Config,
    queue: &Queue,
    around: &Surroundings,
    tasks: &mut JoinSet<()>,
    stop: &watch::Receiver<bool>,
    description: &mut Description,
) -> Result<(), IntakeError> {
    let shared = Shared {
        now: around.now,
        metrics: Arc::clone(&around.metrics),
        rates: Arc::new(Rates::new(config.sender_bytes_per_second)),
    };
    let wanted = config.doors().iter().any(|door| door.tls);
    let tls = config.tls.as_ref().filter(|_| wanted).map(Tls::open).transpose()?;
    let tls_if = |wanted: bool| tls.clone().filter(|_| wanted);
    if config.http.enabled {
        let server = Server::bind(&config.http, tls_if(config.http.tls), queue.clone(), &shared).await?;
        description.http = server.local_addr();
        tasks.spawn(server.run(stop.clone()));
    }
    let syslog = Syslog::bind(&config.syslog, tls.clone(), queue.clone(), &shared).await?;
    description.syslog = syslog.addresses();
    syslog.run(tasks, stop);
    if let Some(listen) = config.fluentd.listen {
        let tls = tls_if(config.fluentd.tls);
        let fluentd = Fluentd::bind(&config.fluentd, listen, tls, queue.clone(), &shared).await?;
        description.fluentd = fluentd.local_addr();
        tasks.spawn(fluentd.run(stop.clone()));
    }
    Ok(())
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
    /// HTTP requests sent away for now: queue or journal full, disk failing, rate passed, stopping.
    pub http_deferred: AtomicU64,
    /// HTTP requests refused for good: no or a wrong token, too large, unreadable, unknown encoding, wrong method.
    pub http_refused: AtomicU64,
    /// HTTP requests given up because they came in too slowly.
    pub http_timeouts: AtomicU64,
    /// Deliveries that came again under the name of one already taken, and were acknowledged once more.
    pub deliveries_repeated: AtomicU64,
    /// OTLP records without a body or attributes.
    pub records_rejected: AtomicU64,
    /// Connections closed to make room for another, the longest idle first.
    pub connections_let_go: AtomicU64,
    /// Connections refused because all others were at work.
    pub connections_turned_away: AtomicU64,
    /// TLS handshakes that failed: no or a wrong certificate, no TLS at all, too slow.
    pub tls_refused: AtomicU64,
    /// Syslog datagrams dropped: queue full, or their sender's rate passed.
    pub datagrams_dropped: AtomicU64,
    /// Syslog streams closed because their framing could not be read.
    pub syslog_refused: AtomicU64,
    /// Forward connections closed: wrong shared key, no message, too large, no room.
    pub fluentd_refused: AtomicU64,
    /// Messages taken from the bus.
    pub nats_messages: AtomicU64,
    /// Messages that were left with the bus for now: queue or journal full, disk failing.
    pub nats_deferred: AtomicU64,
    /// Messages of the bus that could not be read.
    pub nats_refused: AtomicU64,
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
