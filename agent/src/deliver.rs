//! Delivery: from an incident raised to every sink that should hear of it. In: revisions of incidents. Out: each (id,
//! revision) at least once per sink, in order; the receiver tells repeats by those two fields.
//!
//! A revision is on disk (incident table and spool, one transaction) before any sink sees it; the sinks are woken at
//! once and send whatever has gathered, so a batch grows only while a sink is busy. Sinks never wait for each other.
//! What a sink cannot have now stays in the bounded spool, through collector outages, SIGKILL and restarts. Delivery
//! never judges: it only leaves out what is below `severity_min` or expected.

mod backoff;
mod file;
pub mod format;
pub(crate) mod http;
mod secret;
mod stdout;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::backoff::Backoff;
pub use self::file::Config as FileConfig;
pub use self::format::RecordFormat;
pub use self::http::{Body, Config as HttpConfig};
pub use self::secret::Secret;
pub use self::stdout::Format;
use self::worker::Worker;
pub use self::worker::{SinkCounters, SinkStatus};
use crate::incident::{Incident, Severity};
use crate::store::{Kept, Revision, Saved, Store};
use crate::timestamp::Timestamp;

/// How often saved rows (cursors, checkpoints) are brought to disk: what a SIGKILL may make sinks and receivers repeat.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Longest wait before a disk that failed is tried again; opening it reads the whole file.
const SYNC_RETRY_MAX: Duration = Duration::from_secs(60);

/// Which sinks there are.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Least severity that sinks hear of; everything is kept in the store.
    pub severity_min: Severity,
    /// What is printed on standard output: `"human"`, `"json"` (one object a line) or `"off"`.
    pub stdout: Format,
    /// A JSON-lines file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileConfig>,
    /// A collector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self { severity_min: Severity::Medium, stdout: Format::Human, file: None, http: None }
    }
}

impl Config {
    /// Checks everything that can be checked without delivering: addresses, tokens, certificates, paths.
    ///
    /// # Errors
    ///
    /// The first key that cannot work.
    pub fn check(&self) -> Result<(), DeliverError> {
        self.file.as_ref().map(file::JsonLines::open).transpose()?;
        self.http.as_ref().map(|http| http::Collector::open(http, || Timestamp::MIN)).transpose()?;
        Ok(())
    }
}

/// Why delivery does not start. All of these are the config's.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// The file sink's path is no file's.
    #[error("deliver.file.path {path}: {reason}")]
    File {
        /// As configured.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The collector's address does not work out.
    #[error("deliver.http.url `{url}`: {reason}")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it, and what to write instead.
        reason: String,
    },
    /// A key of the HTTP sink does not work out.
    #[error("deliver.http.{key}: {reason}")]
    Http {
        /// Which.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// What the caller lends to delivery.
#[derive(Clone)]
pub struct Context {
    /// Where incidents and the spool live.
    pub store: Arc<Store>,
    /// An incident for people, for the `human` format.
    pub render: fn(&Incident) -> String,
    /// The time (only `clock` reads it).
    pub now: fn() -> Timestamp,
}

/// How the sinks stand.
#[derive(Debug, Clone)]
pub struct Description(BTreeMap<&'static str, Arc<SinkCounters>>);

impl Description {
    /// Each sink by name.
    #[must_use]
    pub fn sinks(&self) -> BTreeMap<&'static str, SinkStatus> {
        self.0.iter().map(|(name, counters)| (*name, counters.status())).collect()
    }
}

/// Delivery under way. Dropping it aborts the sinks; what they had not sent is sent after a restart.
#[derive(Debug)]
pub struct Delivery {
    store: Arc<Store>,
    severity_min: Severity,
    stopping: watch::Sender<bool>,
    tasks: JoinSet<()>,
    counters: BTreeMap<&'static str, Arc<SinkCounters>>,
}

impl Delivery {
    /// Opens the sinks and starts them on what the spool still holds. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// A sink whose config cannot work. A collector that is down or a full disk is no error.
    pub fn start(config: &Config, context: &Context) -> Result<Self, DeliverError> {
        let stdout = stdout::Stdout::open(config.stdout, context.render);
        let file = config.file.as_ref().map(file::JsonLines::open).transpose()?;
        let http = config.http.as_ref().map(|http| http::Collector::open(http, context.now)).transpose()?;

        let mut delivery = Self {
            store: Arc::clone(&context.store),
            severity_min: config.severity_min,
            stopping: watch::Sender::new(false),
            tasks: JoinSet::new(),
            counters: BTreeMap::new(),
        };
        let names = [
            stdout.as_ref().map(worker::Sink::name),
            file.as_ref().map(worker::Sink::name),
            http.as_ref().map(worker::Sink::name),
        ];
        context.store.open_sinks(&names.into_iter().flatten().collect::<Vec<_>>());
        delivery.run(stdout);
        delivery.run(file);
        delivery.run(http);
        delivery.tasks.spawn(keep_store(Arc::clone(&context.store), delivery.stopping.subscribe()));
        Ok(delivery)
    }

    fn run<S: worker::Sink>(&mut self, sink: Option<S>) {
        let Some(sink) = sink else { return };
        let counters = Arc::new(SinkCounters::default());
        self.counters.insert(sink.name(), Arc::clone(&counters));
        let worker = Worker::new(sink, Arc::clone(&self.store), self.stopping.subscribe(), counters);
        self.tasks.spawn(worker.run());
    }

    /// Takes revisions: when this returns they are in the store (durably, unless the disk is failing) together with the
    /// memory that knows of them, and the sinks are at work. Blocks for one fsync.
    pub fn accept(&self, incidents: &[Incident], memory: &[Saved], now: Timestamp) -> Kept {
        // An incident of strings, numbers and lists has a JSON form.
        let json: Vec<Vec<u8>> =
            incidents.iter().map(|incident| serde_json::to_vec(incident).unwrap_or_default()).collect();
        let revisions: Vec<(Revision<'_>, bool)> = incidents
            .iter()
            .zip(&json)
            .map(|(incident, json)| (revision(incident, json), self.is_due(incident)))
            .collect();
        let kept = self.store.append(&revisions, memory, now);
        self.stopping.send_modify(|_| ()); // wakes the sinks
        kept
    }

    /// Whether sinks hear of it.
    fn is_due(&self, incident: &Incident) -> bool {
        incident.severity >= self.severity_min && incident.expected.is_none()
    }

    /// A handle to how the sinks stand, good while they run.
    #[must_use]
    pub fn description(&self) -> Description {
        Description(self.counters.clone())
    }

    /// Lets the sinks send what they can within `grace`, then saves how far they got.
    pub async fn stop(mut self, grace: Duration) {
        self.stopping.send_replace(true);
        let finished = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, finished).await.is_err() {
            self.tasks.shutdown().await;
        }
        blocking(&self.store, Store::sync).await;
    }
}

/// What the store sorts a revision by; `json` is its record.
#[must_use]
pub fn revision<'i>(incident: &'i Incident, json: &'i [u8]) -> Revision<'i> {
    Revision {
        id: &incident.id,
        number: incident.revision,
        severity: incident.severity,
        title: &incident.title,
        workload: incident.workload.key.as_str(),
        expected: incident.expected.is_some(),
        last_seen: incident.last_seen,
        json,
    }
}

/// Brings what was saved to disk, again and again, and says when the disk stops or starts to take it.
async fn keep_store(store: Arc<Store>, mut stopping: watch::Receiver<bool>) {
    let mut backoff = Backoff::new(SYNC_INTERVAL, SYNC_RETRY_MAX, 0);
    let mut wait = SYNC_INTERVAL;
    let mut healthy = true;
    while tokio::time::timeout(wait, stopping.wait_for(|stop| *stop)).await.is_err() {
        let kept = blocking(&store, Store::sync).await == Some(Kept::Durably);
        if kept != healthy {
            let status = store.status();
            if kept {
                tracing::info!(set_aside = ?status.set_aside, "state is on disk again");
            } else {
                tracing::warn!(error = status.trouble, "state is kept in memory only: the disk does not take it");
            }
        }
        healthy = kept;
        wait = if kept {
            backoff.reset();
            SYNC_INTERVAL
        } else {
            backoff.wait()
        };
    }
}

/// Runs a call that may block for the disk off the async threads; `None` only when the runtime is going down.
async fn blocking<T: Send + 'static>(store: &Arc<Store>, call: impl FnOnce(&Store) -> T + Send + 'static) -> Option<T> {
    let store = Arc::clone(store);
    tokio::task::spawn_blocking(move || call(&store)).await.ok()
}

#[cfg(test)]
mod tests;
