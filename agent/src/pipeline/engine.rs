//! The engine thread: owns the senses and the detector, and is the only one that does.
//!
//! In: kernel records and batches of edge lines. Out: batches of raised revisions, each with the edge lines that may be
//! acknowledged once those are stored, and a [`Status`] every second. It blocks on nothing but its own short look-ups in
//! /proc; while it works, records wait in the kernel's rings and lines in the bounded queue.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::self_check::SelfCheck;
use super::{PipelineClock, PipelineError};
use crate::config::Config;
use crate::control::{Ask, EXPECTATIONS, FLEET, Memory, OWN, Request};
use crate::coverage::Report;
use crate::decode::BootClock;
use crate::detector::{Detector, LOSS_INTERVAL, Part};
use crate::enrich::procfs::Resolver;
use crate::event::{HostEvent, HostEventKind, Loss};
use crate::expectation::Expectations;
use crate::fleet;
use crate::identity::Identity;
use crate::identity::detect::detect;
use crate::incident::Incident;
use crate::incident::coverage::{CoverageGap, GapKind, SenseCoverage};
use crate::intake::{Batch, JOURNAL_CURSOR, Judged};
use crate::kernel::{RESTART, SenseState, SenseVerdict, Sensor};
use crate::lists::files::Files;
use crate::privileges;
use crate::replay::recording::Recorder;
use crate::status::{SenseStatus, Status};
use crate::store::{Blob, Saved, Store};
use crate::timestamp::Timestamp;

/// How often time passes for the detector, losses are asked for and the status is renewed.
const TICK: Duration = LOSS_INTERVAL;
/// How often the detector's memory is saved at most: what a SIGKILL makes it forget, and receivers send again.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// The same for evidence from the host, which the rings do not give again.
const EVIDENCE_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of judged lines that make it save sooner: the journal keeps lines until they are, and is bounded.
const CHECKPOINT_BYTES: usize = 128 << 20;
/// Share of the engine's time that saving may take, one in so many: under a flood of probes the memory is large, and is saved
/// less often.
const CHECKPOINT_SHARE: u32 = 200;
/// The same share when revisions are raised: their evidence is saved with them in one transaction, so that a SIGKILL right after
/// does not keep a late line from finding the chain it completes.
const RAISED_CHECKPOINT_SHARE: u32 = 20;
/// How far that share may be overdrawn, in time that earns it again: an alert right after another save need not wait for its own.
const RAISED_OVERDRAFT: Duration = Duration::from_secs(2);
/// Bytes of memory up to which it is saved with what was raised, and beyond which right after it: that of a hundred open chains
/// takes up to 90 ms to write, longer than an alert may.
const SAVED_WITH_RAISED_MAX: usize = 512 << 10;
/// How often what is normal is saved (it changes slowly and is larger), and addresses and listeners are read again.
const SLOW_INTERVAL: Duration = Duration::from_secs(60);
/// Times the rings are read once more when stopping: each takes a batch, so a flood cannot keep the agent from ending.
const FINAL_DRAINS: usize = 64;

/// What an engine is made from.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) record: Option<PathBuf>,
    pub(super) give_up_privileges: bool,
    /// Whether this program has the self-check's command.
    pub(super) self_check: bool,
    pub(super) clock: Arc<PipelineClock>,
    pub(super) store: Arc<Store>,
}

/// Revisions to store and send, and the edge lines that are done with once that has happened.
#[derive(Debug, Default)]
pub(super) struct Raised {
    pub(super) incidents: Vec<Incident>,
    /// The detector's memory, which knows of them: saved in the same transaction.
    pub(super) memory: Vec<Saved>,
    /// What the saved memory now holds; to be acknowledged once it is on disk.
    pub(super) judged: Option<Judged>,
}

/// What an attached engine waits for before it runs.
pub(super) struct Start {
    pub(super) batches: mpsc::Receiver<Batch>,
    pub(super) raised: mpsc::Sender<Raised>,
    /// What the commands ask and tell.
    pub(super) asked: mpsc::Receiver<Ask>,
    /// Adds to the status what the receivers and sinks count.
    pub(super) parts: Arc<dyn Fn(&mut Status) + Send + Sync>,
    /// Hears which addresses this host has.
    pub(super) addresses: watch::Sender<Vec<IpAddr>>,
    /// Where what is normal is shared, if it is.
    pub(super) fleet: Option<fleet::Link>,
}

/// An engine whose senses are attached; the kernel buffers for it.
pub(super) struct Handle {
    start: oneshot::Sender<Start>,
    running: Running,
}

/// A running engine.
pub(super) struct Running {
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
    status: watch::Receiver<Arc<Status>>,
}

impl Handle {
    pub(super) fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.running.status()
    }

    /// Lets the engine run.
    pub(super) fn start(self, start: Start) -> Running {
        // A thread that has gone shows as ended.
        let _ = self.start.send(start);
        self.running
    }
}

impl Running {
    pub(super) fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }

    /// Returns once the engine has ended.
    pub(super) async fn ended(&mut self) {
        // The sender gone means the thread gone.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }

    /// Ends the engine: what the rings and the queue still hold is judged first.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        self.ended().await;
    }
}

pub(super) struct Engine {
    setup: Setup,
    sensor: Sensor,
    detector: Detector,
    resolver: Resolver,
    lists: Files,
    recorder: Option<Recorder>,
    status: watch::Sender<Arc<Status>>,
    check: SelfCheck,
    /// Edge batches judged since the last checkpoint: acknowledged with the next, so that after a SIGKILL in between they
    /// come again.
    judged: Judged,
    /// The detector holds evidence that the checkpoint does not, and some of it is the host's.
    unsaved: bool,
    unsaved_evidence: bool,
    raised: Vec<Incident>,
    events: Vec<HostEvent>,
    /// Of the last checkpoint.
    memory_bytes: usize,
    next_checkpoint: Instant,
    /// From when on evidence from the host is saved.
    next_evidence_checkpoint: Instant,
    /// From when on raised revisions take a checkpoint along.
    next_raised_checkpoint: Instant,
    /// Revisions were passed on whose evidence is not saved yet.
    owes_checkpoint: bool,
    next_slow: Instant,
}

impl Engine {
    /// Makes the thread and waits until the senses are attached.
    pub(super) fn spawn(setup: Setup) -> Result<Handle, PipelineError> {
        let (start, started) = oneshot::channel();
        let (stop, stopping) = watch::channel(false);
        let (ending, ended) = watch::channel(false);
        let (status, statuses) = watch::channel(Arc::new(Status::starting(setup.clock.now())));
        let (attached, outcome) = std::sync::mpsc::sync_channel(1);
        let thread = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Err(source) => drop(attached.send(Err(PipelineError::System { what: "make a runtime", source }))),
                Ok(runtime) => runtime.block_on(async {
                    match Self::attach(setup, status) {
                        Err(error) => drop(attached.send(Err(error))),
                        Ok(engine) => {
                            drop(attached.send(Ok(())));
                            engine.run(started, stopping).await;
                        }
                    }
                }),
            }
            ending.send_replace(true);
        };
        let builder = thread::Builder::new().name("engine".to_owned());
        builder.spawn(thread).map_err(|source| PipelineError::System { what: "make the engine's thread", source })?;
        let gone = || PipelineError::System {
            what: "attach the senses",
            source: io::Error::other("the engine's thread ended"),
        };
        outcome.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(Handle { start, running: Running { stop, ended, status: statuses } })
    }

    fn attach(setup: Setup, status: watch::Sender<Arc<Status>>) -> Result<Self, PipelineError> {
        let recorder = setup.record.as_deref().map(Recorder::create).transpose()?;
        // Attached before /proc is read: a process that starts in between is seen twice, never not at all.
        let sensor = Sensor::start(&setup.config.kernel, &setup.config.store.directory)?;
        if setup.give_up_privileges
            && let Err(error) = privileges::keep_needed()
        {
            tracing::warn!(%error, "the engine runs on with all privileges");
        }
        let baseline = setup.store.load(Blob::Baseline, OWN);
        let found = detect(Path::new("/"), |name| std::env::var(name).ok());
        let identity = Identity::new(&setup.config.identity, &found);
        let mut config = setup.config.clone();
        config.correlate.platform = config.correlate.platform.or(identity.platform);
        let mut detector =
            Detector::restore(&config, baseline.as_deref(), |part| setup.store.load(Blob::Checkpoint, part.name()))?;
        detector.set_identity(identity);
        if let Some(bytes) = setup.store.load(Blob::Baseline, EXPECTATIONS) {
            match Expectations::from_bytes(&bytes) {
                Ok(expectations) => detector.set_expectations(expectations),
                Err(error) => tracing::error!(%error, "every incident is delivered again"),
            }
        }
        let mut lists = Files::new(config.lists.clone());
        if let Some(read) = lists.changed() {
            detector.set_lists(read);
        }
        let resolver = Resolver::new(&setup.config.procfs);
        let now = Instant::now();
        let every = if setup.self_check { setup.config.kernel.self_check } else { Duration::ZERO };
        let check = SelfCheck::new(every, setup.clock.now());
        Ok(Self {
            check,
            setup,
            sensor,
            detector,
            resolver,
            lists,
            recorder,
            status,
            judged: Judged::default(),
            unsaved: false,
            unsaved_evidence: false,
            raised: Vec::new(),
            events: Vec::new(),
            memory_bytes: 0,
            next_checkpoint: now + CHECKPOINT_INTERVAL,
            next_evidence_checkpoint: now,
            next_raised_checkpoint: now,
            owes_checkpoint: false,
            next_slow: now + SLOW_INTERVAL,
        })
    }

    async fn run(mut self, started: oneshot::Receiver<Start>, mut stopping: watch::Receiver<bool>) {
        let Ok(mut start) = started.await else { return };
        self.hear(&mut start.fleet, true);
        for fact in self.resolver.snapshot(self.setup.clock.now()) {
            self.host(&fact);
        }
        tracing::info!("watching");
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => break,
                () = self.sensor.ready() => { self.drain(); }
                _ = tick.tick() => {
                    let slow = self.tick(&start.parts);
                    self.tell_addresses(&start.addresses);
                    self.tell(start.fleet.as_ref(), slow);
                    self.hear(&mut start.fleet, false);
                }
                Some(batch) = start.batches.recv() => self.batch(batch),
                Some(ask) = start.asked.recv() => self.answer(ask),
            }
            self.hand_over(&start.raised).await;
        }
        self.finish(&mut start).await;
    }

    /// Reads the rings once; returns how many records came.
    fn drain(&mut self) -> usize {
        let clock = BootClock { offset_ns: self.setup.clock.boot_offset_nanos() };
        let mut events = std::mem::take(&mut self.events);
        let count = self.sensor.drain(clock, &mut events);
        // After a step of the clock what the rings hold is from the new time; so must the detector be.
        self.detector.advance(self.setup.clock.now(), &mut self.raised);
        for event in events.drain(..) {
            if self.check.claims(&event) {
                continue;
            }
            for fact in self.resolver.facts_for(&event) {
                self.host(&fact);
            }
            self.host(&event);
        }
        self.events = events;
        count
    }

    fn host(&mut self, event: &HostEvent) {
        self.record(|recorder| recorder.host(event));
        self.unsaved_evidence |= self.detector.host(event, &mut self.raised);
        self.unsaved |= self.unsaved_evidence;
    }

    fn batch(&mut self, batch: Batch) {
        for line in &batch.lines {
            self.record(|recorder| recorder.edge(line));
            self.detector.edge(&batch.source, line, &mut self.raised);
        }
        self.judged.add(batch);
        self.unsaved = true;
    }

    /// Writes to the recording, if there is one; a recording that fails is given up, the agent is not.
    fn record(&mut self, write: impl FnOnce(&mut Recorder) -> io::Result<()>) {
        if let Some(recorder) = &mut self.recorder
            && let Err(error) = write(recorder)
        {
            tracing::error!(%error, "the recording ends here");
            self.recorder = None;
        }
    }

    /// Whether it was one of the slow ones.
    fn tick(&mut self, parts: &Arc<dyn Fn(&mut Status) + Send + Sync>) -> bool {
        let now = self.setup.clock.now();
        let clock = BootClock { offset_ns: self.setup.clock.boot_offset_nanos() };
        let since = self.sensor.resumed().map(|boot_ns| clock.at(boot_ns));
        for loss in self.sensor.losses() {
            let loss = Loss { since, ..loss };
            self.host(&HostEvent { at: now, kind: HostEventKind::Loss(loss) });
        }
        self.check.tick(now);
        self.detector.advance(now, &mut self.raised);
        self.record(Recorder::flush);
        self.publish(now, parts);
        let instant = Instant::now();
        let slow = instant >= self.next_slow;
        if slow {
            self.next_slow = instant + SLOW_INTERVAL;
            self.save_memory();
            for loss in blind(self.sensor.verdicts(), now).into_iter().chain(self.check.losses()) {
                self.host(&HostEvent { at: now, kind: HostEventKind::Loss(loss) });
            }
            if let Some(lists) = self.lists.changed() {
                self.detector.set_lists(lists);
            }
            for fact in self.resolver.refresh(now) {
                self.host(&fact);
            }
        }
        slow
    }

    /// Tells other hosts what is normal here: now and then, and when a workload comes or goes.
    fn tell(&self, fleet: Option<&fleet::Link>, slow: bool) {
        let Some(link) = fleet else { return };
        let workloads: Vec<_> = self.detector.baseline().workloads().into_iter().cloned().collect();
        if slow || link.tell.borrow().workloads != workloads {
            let records = self.detector.baseline().records(&link.host, self.setup.clock.now());
            link.tell.send_replace(fleet::Told { workloads, records });
        }
    }

    /// Hears what is normal on other hosts, if somebody said something new.
    fn hear(&mut self, fleet: &mut Option<fleet::Link>, first: bool) {
        let Some(link) = fleet else { return };
        if first || link.heard.has_changed().unwrap_or(false) {
            let heard = link.heard.borrow_and_update().clone();
            self.detector.memory().0.set_fleet(heard.fleet);
            self.setup.store.save(Blob::Baseline, FLEET, &heard.saved);
        }
    }

    /// A container that came up gets its lines from now on.
    fn tell_addresses(&self, to: &watch::Sender<Vec<IpAddr>>) {
        let now = self.detector.addresses();
        to.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    }

    /// Passes raised revisions on at once; judged batches follow when the memory of them is saved.
    async fn hand_over(&mut self, to: &mpsc::Sender<Raised>) {
        let from = match (self.raised.is_empty() && !self.owes_checkpoint, self.unsaved_evidence) {
            (false, _) => self.next_raised_checkpoint,
            (true, true) => self.next_evidence_checkpoint,
            (true, false) => self.next_checkpoint,
        };
        let flooded = self.judged.bytes() >= CHECKPOINT_BYTES;
        let due = self.unsaved && (flooded || Instant::now() >= from);
        if self.raised.is_empty() && !due {
            return;
        }
        let mut raised = Raised { incidents: self.take_raised(), ..Raised::default() };
        self.owes_checkpoint |= !raised.incidents.is_empty();
        if due && self.memory_bytes > SAVED_WITH_RAISED_MAX && !raised.incidents.is_empty() {
            pass_on(std::mem::take(&mut raised), to).await;
        }
        if due {
            raised.memory = self.checkpoint();
            raised.judged = Some(std::mem::take(&mut self.judged));
        }
        pass_on(raised, to).await;
    }

    /// What was raised, with what was missing to see it.
    fn take_raised(&mut self) -> Vec<Incident> {
        let mut incidents = std::mem::take(&mut self.raised);
        let senses: Vec<SenseCoverage> = self.senses().into_iter().map(Into::into).collect();
        for incident in &mut incidents {
            self.detector.cover(incident);
            incident.senses.clone_from(&senses);
        }
        incidents
    }

    fn checkpoint(&mut self) -> Vec<Saved> {
        let begun = Instant::now();
        let mut memory = vec![self.part(Part::Chains)];
        if let Some(position) = self.judged.position() {
            memory.push(self.part(Part::Edge));
            memory.push(Saved { blob: Blob::Cursor, name: JOURNAL_CURSOR, bytes: position.to_vec() });
        }
        self.memory_bytes = memory.iter().map(|saved| saved.bytes.len()).sum();
        (self.unsaved, self.unsaved_evidence, self.owes_checkpoint) = (false, false, false);
        let (now, took) = (Instant::now(), begun.elapsed());
        self.next_checkpoint = now + CHECKPOINT_INTERVAL.max(took * CHECKPOINT_SHARE);
        self.next_evidence_checkpoint = now + EVIDENCE_INTERVAL.max(took * CHECKPOINT_SHARE);
        let earliest = now.checked_sub(RAISED_OVERDRAFT).unwrap_or(now);
        self.next_raised_checkpoint = self.next_raised_checkpoint.max(earliest) + took * RAISED_CHECKPOINT_SHARE;
        memory
    }

    fn part(&self, part: Part) -> Saved {
        Saved { blob: Blob::Checkpoint, name: part.name(), bytes: self.detector.checkpoint(part) }
    }

    async fn finish(mut self, start: &mut Start) {
        for _ in 0..FINAL_DRAINS {
            if self.drain() == 0 {
                break;
            }
        }
        while let Ok(batch) = start.batches.try_recv() {
            self.batch(batch);
        }
        let _: bool = self.tick(&start.parts);
        self.save_memory();
        let now = Instant::now();
        (self.next_checkpoint, self.next_evidence_checkpoint, self.next_raised_checkpoint) = (now, now, now);
        self.hand_over(&start.raised).await;
    }

    fn save_memory(&mut self) {
        let (baseline, expectations) = self.detector.memory();
        Memory { baseline, expectations }.save(&self.setup.store);
        self.setup.store.save(Blob::Checkpoint, Part::Coverage.name(), &self.detector.checkpoint(Part::Coverage));
    }

    /// Does what a command asks. What it changed is saved at once: an operator who was told "done" may rely on it.
    fn answer(&mut self, Ask { request, answer }: Ask) {
        let now = self.setup.clock.now();
        let done = if request == Request::Coverage {
            serde_json::to_value(self.covered(now)).map_err(|error| error.to_string())
        } else {
            let (baseline, expectations) = self.detector.memory();
            let mut memory = Memory { baseline, expectations };
            let done = memory.apply(&request, &self.setup.store, now).map_err(|error| error.to_string());
            if done.is_ok() && request.changes() {
                memory.save(&self.setup.store);
                self.setup.store.sync();
            }
            done
        };
        // A caller that has gone does not need it.
        let _ = answer.send(done);
    }

    /// How well things are seen, the senses included.
    fn covered(&self, now: Timestamp) -> Report {
        let mut report = self.detector.coverage(now);
        report.gaps.extend(self.senses().into_iter().filter(|sense| sense.state != "active").map(|sense| {
            CoverageGap {
                kind: GapKind::SenseMissing,
                text: format!("the {} sense is {}", sense.sense, sense.state),
                remedy: sense.detail,
            }
        }));
        report
    }

    /// What each sense can, and what the self-check found.
    fn senses(&self) -> Vec<SenseStatus> {
        let mut senses: Vec<SenseStatus> = self.sensor.verdicts().iter().map(Into::into).collect();
        self.check.annotate(&mut senses);
        senses
    }

    fn publish(&self, now: Timestamp, parts: &Arc<dyn Fn(&mut Status) + Send + Sync>) {
        let mut status = Status::starting(self.status.borrow().started);
        status.taken = now;
        status.senses = self.senses();
        let blind = status.senses.iter().filter(|sense| sense.state != "active" && sense.sense != RESTART);
        status
            .troubles
            .extend(blind.map(|sense| format!("sense {} is {}: {}", sense.sense, sense.state, sense.detail)));
        status.count("kernel", &self.sensor.counters());
        status.count("procfs", &self.resolver.counters());
        self.detector.describe(now, &mut status);
        if let Some(trouble) = &self.lists.trouble {
            status.troubles.push(trouble.clone());
        }
        parts(&mut status);
        self.status.send_replace(Arc::new(status));
    }
}

async fn pass_on(raised: Raised, to: &mpsc::Sender<Raised>) {
    if to.send(raised).await.is_err() {
        tracing::error!("delivery is gone; incidents are no longer stored");
    }
}

/// A sense that cannot work here loses what nobody can count, all the time.
fn blind(verdicts: &[SenseVerdict], now: Timestamp) -> Vec<Loss> {
    let unavailable = verdicts.iter().filter(|verdict| matches!(verdict.state, SenseState::Unavailable { .. }));
    let since = Some(now.minus(SLOW_INTERVAL));
    unavailable.map(|verdict| Loss { sense: verdict.sense.to_owned(), count: 0, since }).collect()
}
