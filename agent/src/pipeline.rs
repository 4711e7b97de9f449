//! The live wiring, and the only one: rings and receivers in, detector, store and sinks out.
//!
//! ```text
//! kernel rings --> [engine thread: drain, look up facts, detect] --> [delivery task: store, then sinks]
//! receivers -----> bounded queue --^
//! ```
//!
//! One thread ([`engine`]) owns the senses and the detector, so that evidence meets without locks; receivers and sinks live on
//! a runtime of their own and can be slow without making the senses wait. Every channel is bounded.

mod delivery;
mod engine;
pub mod self_check;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::engine::Engine;
use crate::clock;
use crate::config::Config;
use crate::control::FLEET;
use crate::control::socket::{ControlSocket, Served};
use crate::deliver::{self, DeliverError, Delivery};
use crate::edge::EdgeError;
use crate::fleet::{self, Sharing};
use crate::incident::Incident;
use crate::incident::text;
use crate::intake::{self, Intake, IntakeError, Surroundings};
use crate::kernel::KernelError;
use crate::privileges;
use crate::replay::recording::RecordingError;
use crate::status::Status;
use crate::status::metrics::metrics;
use crate::store::{Blob, Store, StoreError};
use crate::timestamp::Timestamp;

/// What requests under way get when the agent stops, and what cursors get to be saved; senders send again what is cut off.
const RECEIVER_GRACE: Duration = Duration::from_millis(300);

/// What the sinks get to finish when the agent stops; what they do not send waits in the spool for the next start.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// Requests from the commands that may wait for the engine; each caller has one.
const ASKED_MAX: usize = 4;

/// Why the agent does not start. Each cause names what to do.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The senses cannot work.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The edge judge cannot be built.
    #[error(transparent)]
    Judge(#[from] EdgeError),
    /// There is no store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A receiver does not start.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// A sink does not start.
    #[error(transparent)]
    Deliver(#[from] DeliverError),
    /// The recording cannot be written.
    #[error("cannot record: {0}")]
    Recording(#[from] RecordingError),
    /// The status socket is taken.
    #[error("status socket {path} (status.socket): {source}")]
    Status {
        /// As configured.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A thread or runtime could not be made.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The reason.
        source: std::io::Error,
    },
}

/// The time as the pipeline sees it: the clock's, and whatever a drill says has passed.
#[derive(Debug, Default)]
struct PipelineClock {
    passed_nanos: AtomicI64,
}

impl PipelineClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_nanos(
            clock::now().as_unix_nanos().saturating_add(self.passed_nanos.load(Ordering::Relaxed)),
        )
    }

    fn boot_offset_nanos(&self) -> i64 {
        clock::boot_offset_nanos().saturating_add(self.passed_nanos.load(Ordering::Relaxed))
    }

    fn pass(&self, time: Duration) {
        let nanos = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        self.passed_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// The senses, attached and buffering in the kernel, before anything else runs.
///
/// Made first and on a thread of its own, so that the process can give up its privileges before it makes others.
pub struct Senses {
    engine: engine::Handle,
    clock: Arc<PipelineClock>,
    store: Arc<Store>,
}

impl Senses {
    /// Opens the store and attaches the senses. With `give_up_privileges` this process is the agent and nothing else: the
    /// sensing thread keeps only what it needs from then on, the caller does the same for its own thread, and the senses
    /// are checked by a child of this program.
    ///
    /// # Errors
    ///
    /// The store is another agent's, the kernel cannot, or the recording cannot be made.
    pub fn attach(config: &Config, record: Option<PathBuf>, give_up_privileges: bool) -> Result<Self, PipelineError> {
        let clock = Arc::new(PipelineClock::default());
        let store = Arc::new(Store::open(&config.store, clock.now())?);
        let setup = engine::Setup {
            config: config.clone(),
            record,
            give_up_privileges,
            self_check: give_up_privileges,
            clock: Arc::clone(&clock),
            store: Arc::clone(&store),
        };
        let engine = Engine::spawn(setup)?;
        if give_up_privileges {
            match privileges::keep_needed() {
                Ok(kept) => tracing::info!(kept = kept.join(" "), "privileges given up"),
                Err(error) => tracing::warn!(%error, "running on with all privileges"),
            }
        }
        Ok(Self { engine, clock, store })
    }
}

/// A running agent: everything `breachline run` does, minus signals.
pub struct Pipeline {
    engine: engine::Running,
    clock: Arc<PipelineClock>,
    store: Arc<Store>,
    intake: Intake,
    sharing: Option<Sharing>,
    delivery: JoinHandle<()>,
    status_server: Option<JoinHandle<()>>,
    status: watch::Receiver<Arc<Status>>,
}

impl Pipeline {
    /// Attaches the senses and starts everything. Raised revisions go to `incidents` too, once they are stored.
    ///
    /// # Errors
    ///
    /// The first part that does not start; the others are stopped again.
    pub async fn start(config: &Config, incidents: Option<mpsc::Sender<Incident>>) -> Result<Self, PipelineError> {
        Self::start_on(config, Senses::attach(config, None, false)?, incidents).await
    }

    /// Starts everything on senses that are already attached.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub async fn start_on(
        config: &Config,
        senses: Senses,
        incidents: Option<mpsc::Sender<Incident>>,
    ) -> Result<Self, PipelineError> {
        let Senses { engine, clock, store } = senses;
        let socket = config.status.socket.as_deref().map(|path| {
            ControlSocket::bind(path).map_err(|source| PipelineError::Status { path: path.to_owned(), source })
        });
        let socket = socket.transpose()?;
        let context = deliver::Context { store: Arc::clone(&store), render: text::text, now: clock::now };
        let delivery = Delivery::start(&config.deliver, &context)?;
        let around = Surroundings {
            directory: config.store.directory.clone(),
            cursors: Arc::<Store>::clone(&store),
            now: clock::now,
            metrics: metrics_of(engine.status()),
        };
        let (intake, batches) = Intake::start(&config.intake, &around).await?;
        let (raised, to_deliver) = mpsc::channel(delivery::QUEUE_MAX);
        let (receivers, sinks) = (intake.description(), delivery.description());
        let described = Arc::clone(&store);
        let parts = move |status: &mut Status| {
            describe(&receivers.status(), status);
            delivery::describe(&sinks, &described, status);
        };
        let (sharing, link) = share(config, &store).unzip();
        let others = sharing.as_ref().map(Sharing::description);
        let parts = move |status: &mut Status| {
            parts(status);
            others.iter().for_each(|others| describe_fleet(&others.status(), status));
        };
        let (to_engine, asked) = mpsc::channel(ASKED_MAX);
        let (parts, addresses) = (Arc::new(parts), intake.addresses());
        let engine = engine.start(engine::Start { batches, raised, asked, parts, addresses, fleet: link });
        let status = engine.status();
        let served = Served { status: status.clone(), store: Arc::clone(&store), engine: to_engine };
        Ok(Self {
            delivery: tokio::spawn(delivery::run(
                delivery,
                to_deliver,
                incidents,
                Arc::clone(&clock),
                Arc::clone(&store),
            )),
            status_server: socket.map(|socket| tokio::spawn(socket.serve(served))),
            engine,
            clock,
            store,
            intake,
            sharing,
            status,
        })
    }

    /// The latest status, renewed every second.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// Lets `time` pass for this pipeline: from now on its clock and its kernel events are that much later. For drills of
    /// evidence that comes late.
    pub fn pass_time(&self, time: Duration) {
        self.clock.pass(time);
    }

    /// Returns when the engine ended by itself, which only a fault makes it do.
    pub async fn failed(&mut self) {
        self.engine.ended().await;
    }

    /// Stops receivers first, then the senses, then the sinks: what was received is judged, what was raised is stored,
    /// and last the cursors of followed files are saved. Takes well under a second unless a sink is slow.
    pub async fn stop(mut self) {
        self.intake.stop(RECEIVER_GRACE).await;
        self.engine.stop().await;
        if let Some(sharing) = self.sharing {
            sharing.stop(RECEIVER_GRACE).await;
        }
        if let Some(server) = self.status_server {
            server.abort();
        }
        if tokio::time::timeout(STOP_GRACE * 2, self.delivery).await.is_err() {
            tracing::warn!("delivery did not stop in time; what it had is in the spool");
        }
        self.intake.finish(RECEIVER_GRACE).await;
        // A failure shows in the log of the store; the lines come again after the next start.
        let _ = tokio::task::spawn_blocking(move || self.store.sync()).await;
    }
}

/// The latest status for Prometheus.
fn metrics_of(status: watch::Receiver<Arc<Status>>) -> Arc<dyn Fn() -> String + Send + Sync> {
    Arc::new(move || metrics(&status.borrow()))
}

/// Shares what is normal, if that is configured.
fn share(config: &Config, store: &Store) -> Option<(Sharing, fleet::Link)> {
    let saved = store.load(Blob::Baseline, FLEET);
    config.fleet.enabled.then(|| Sharing::start(&config.fleet, config.baseline, saved.as_deref(), clock::now))
}

/// Adds how sharing stands.
fn describe_fleet(fleet: &fleet::Status, status: &mut Status) {
    status.count("fleet", &fleet.counters);
    if let Some(trouble) = &fleet.trouble {
        status.troubles.push(format!("fleet: {trouble}"));
    }
}

/// Adds how the receivers stand.
fn describe(receivers: &intake::Status, status: &mut Status) {
    status.count("intake", receivers.counters.as_ref());
    if let Some(trouble) = receivers.nats.as_ref().and_then(|nats| nats.trouble.as_ref()) {
        status.troubles.push(format!("edge bus: {trouble}"));
    }
    status.troubles.extend(receivers.journal_trouble.clone());
    for file in &receivers.files {
        if let Some(trouble) = &file.trouble {
            status.troubles.push(format!("edge log {}: {trouble}", file.path.display()));
        }
    }
}
