//! The one join of the pure stages: host events and edge lines in, incidents out.
//!
//! No I/O, no clock: the same inputs give the same incidents, whoever calls. Its callers are `pipeline` (live), `replay`
//! (recordings), `drill` (through `pipeline`) and the simulation and benchmarks in `tests`; no other wiring exists.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::baseline::Baseline;
use crate::config::Config;
use crate::correlate::Correlator;
use crate::coverage::{Coverage, Report};
use crate::edge::formats::sockets_tried;
use crate::edge::{Edge, EdgeError, Seen};
use crate::enrich::{Enricher, Route};
use crate::event::{HostEvent, HostEventKind, Loss};
use crate::evidence::{EdgeEvidence, ErrorSpike, Gap};
use crate::expectation::Expectations;
use crate::host::{Judge, Stage};
use crate::identity::Identity;
use crate::identity::detect::Found;
use crate::incident::Incident;
use crate::lists::Lists;
use crate::request::{AccessRecord, Target, Verdict};
use crate::status::Status;
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

/// Longest time between two questions for lost records: how far before its event a loss may lie.
pub const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// Targets beside the last that one request is weighed on: a balancer gives up after a few, a hostile line may name endless ones.
const TRIED_MAX: usize = 8;

/// Both roads, from event and line to incident.
#[derive(Debug)]
pub struct Detector {
    edge: Edge,
    enricher: Enricher,
    judge: Judge,
    baseline: Baseline,
    correlator: Correlator,
    coverage: Coverage,
    expectations: Expectations,
    lists: Lists,
    identity: Identity,
    /// Workloads whose baseline is frozen because of an open incident.
    frozen: BTreeSet<WorkloadKey>,
    counters: Counters,
}

/// What passed through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Host events fed.
    pub host_events: u64,
    /// Edge lines fed.
    pub edge_lines: u64,
    /// Edge lines whose target is a workload of this host.
    pub edge_lines_routed: u64,
    /// Incident revisions raised.
    pub revisions: u64,
}

/// What outlives a restart besides what is normal and what is expected. Each part is saved as often as it is worth.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Open chains, their requests and what was raised of them.
    Chains,
    /// Error rates of targets, and sources that scan.
    Edge,
    /// How well each workload is seen.
    Coverage,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Chains, Self::Edge, Self::Coverage];

    /// The name it is saved under.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chains => "agent",
            Self::Edge => "edge",
            Self::Coverage => "coverage",
        }
    }
}

impl Detector {
    /// A detector that knows nothing yet.
    ///
    /// # Errors
    ///
    /// The edge judge's built-in tables do not build.
    pub fn new(config: &Config) -> Result<Self, EdgeError> {
        Ok(Self {
            edge: Edge::new(config.edge.clone())?,
            enricher: Enricher::new(config.enrich.clone()),
            judge: Judge::new(config.host.clone()),
            baseline: Baseline::new(config.baseline),
            coverage: Coverage::new(config.correlate.lateness + config.correlate.loose + config.correlate.skew),
            correlator: Correlator::new(config.correlate.clone()),
            expectations: Expectations::default(),
            lists: Lists::default(),
            identity: Identity::new(&config.identity, &Found::default()),
            frozen: BTreeSet::new(),
            counters: Counters::default(),
        })
    }

    /// A detector that goes on where an earlier one stopped: `baseline` is what its [`Self::baseline`] gave, `checkpoint` gives
    /// what its [`Self::checkpoint`] gave for each of its parts. What cannot be read is logged and started anew: a damaged
    /// memory is no reason not to protect.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn restore(
        config: &Config,
        baseline: Option<&[u8]>,
        checkpoint: impl Fn(Part) -> Option<Vec<u8>>,
    ) -> Result<Self, EdgeError> {
        let mut detector = Self::new(config)?;
        if let Some(bytes) = baseline {
            match Baseline::from_bytes(config.baseline, bytes) {
                Ok(baseline) => detector.baseline = baseline,
                Err(error) => tracing::error!(%error, "what was normal cannot be read; learning starts anew"),
            }
        }
        if let Some(bytes) = checkpoint(Part::Chains) {
            match Correlator::restore(config.correlate.clone(), &bytes) {
                Ok(correlator) => {
                    detector.frozen = correlator.open_workloads();
                    detector.correlator = correlator;
                }
                Err(error) => tracing::error!(%error, "open chains are forgotten"),
            }
        }
        if let Some(Err(error)) = checkpoint(Part::Edge).map(|bytes| detector.edge.restore(&bytes)) {
            tracing::error!(%error, "learned anew");
        }
        if let Some(Err(error)) = checkpoint(Part::Coverage).map(|bytes| detector.coverage.restore(&bytes)) {
            tracing::error!(%error, "counted anew");
        }
        Ok(detector)
    }

    /// Feeds one host event; new revisions are added to `raised`. Returns whether it was evidence, which a checkpoint taken
    /// before does not hold.
    pub fn host(&mut self, event: &HostEvent, raised: &mut Vec<Incident>) -> bool {
        self.counters.host_events += 1;
        self.enricher.observe(event);
        match &event.kind {
            HostEventKind::Loss(loss) => {
                self.correlator.gap(gap(event.at, loss));
                self.coverage.loss(loss, event.at);
            }
            HostEventKind::Listen(listen) => {
                let workload = self.enricher.place(&listen.actor, event.at).workload;
                self.coverage.listens(&workload.key, &workload.cgroup, listen.local, event.at);
            }
            _ => {}
        }
        let revisions = match self.judge.judge(event, &self.enricher, &mut self.baseline) {
            Some(Stage::Host(evidence)) => self.correlator.host(evidence),
            Some(Stage::Egress(mut evidence)) => {
                self.lists.weigh(&mut evidence);
                self.correlator.egress(evidence)
            }
            None => return false,
        };
        self.raise(revisions, raised);
        true
    }

    /// Takes in what an earlier run was fed already, as far as it tells of the system rather than of an attack: processes,
    /// listeners, names. Nothing is judged, learned or counted from it again.
    pub fn recall(&mut self, event: &HostEvent) {
        self.enricher.observe(event);
        // What files are and which contacts are under way is the judge's own; what it says of them was said before.
        self.judge.judge(event, &self.enricher, &mut Baseline::new(self.baseline.config()));
    }

    /// The same for an edge line: the head of a log tells what stands in its lines.
    pub fn recall_line(&mut self, source: &str, line: &[u8]) {
        if line.starts_with(b"#") {
            // A head that cannot be read was counted when it was fed.
            let _ = self.edge.read(source, line);
        }
    }

    /// Feeds one edge line from `source` (lines of one source have one format); new revisions are added to `raised`.
    /// A line that cannot be read is counted and sampled, see [`Self::describe`].
    pub fn edge(&mut self, source: &str, line: &[u8], raised: &mut Vec<Incident>) {
        self.counters.edge_lines += 1;
        let seen = match self.edge.read(source, line) {
            Ok(Some(seen)) => seen,
            Ok(None) => return,
            Err(_) => return self.coverage.unread(),
        };
        let Seen { record, ref verdict, spike } = seen;
        let mut revisions = Vec::new();
        let route = self.enricher.route_request(&record);
        self.coverage.line(&record, route.as_ref());
        if let Some(route) = route {
            self.counters.edge_lines_routed += 1;
            self.record(&record, route, verdict.as_ref(), spike, &mut revisions);
        }
        // A front server that got no answer asks the next target: each of them received the request, and the first may be the
        // one that died of it.
        let tried = sockets_tried(&record).map(Target::Socket).filter(|target| *target != record.target);
        for target in tried.take(TRIED_MAX) {
            let record = AccessRecord { target, target_status: None, ..record };
            if let Some(route) = self.enricher.route_request(&record) {
                self.record(&record, route, verdict.as_ref(), None, &mut revisions);
            }
        }
        self.raise(revisions, raised);
    }

    /// One request at one target.
    fn record(
        &mut self,
        record: &AccessRecord<'_>,
        route: Route,
        verdict: Option<&Verdict>,
        spike: Option<ErrorSpike>,
        revisions: &mut Vec<Incident>,
    ) {
        // What a front server passes on shows on the workload behind it: the same request is evidence there too.
        let routes = std::iter::once(route.clone()).chain(self.enricher.behind(&route).iter().cloned());
        for Route { workload, owner, basis } in routes {
            let evidence = EdgeEvidence { record: *record, verdict, workload, owner, basis, spike };
            revisions.extend(self.correlator.edge(evidence));
        }
    }

    /// Lets event time pass: what was only waiting for time is settled, what is too old is forgotten, and workloads whose
    /// incidents are over teach again what is normal.
    pub fn advance(&mut self, now: Timestamp, raised: &mut Vec<Incident>) {
        self.coverage.advance(now);
        self.expectations.advance(now);
        let swept = self.correlator.swept();
        let revisions = self.correlator.advance(now);
        self.raise(revisions, raised);
        self.baseline.prune(now);
        // As a rule nothing is open, or nothing was closed, and time passes before every look at the rings.
        if self.frozen.is_empty() || self.correlator.swept() == swept {
            return;
        }
        let open = self.correlator.open_workloads();
        for over in self.frozen.difference(&open) {
            self.baseline.thaw(over);
        }
        self.frozen = open;
    }

    /// What was found of the machine takes the place of what nobody configured.
    pub fn set_identity(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// The owner's lists, read anew.
    pub fn set_lists(&mut self, lists: Lists) {
        self.lists = lists.after(&self.lists);
    }

    /// What is expected, as it was saved.
    pub fn set_expectations(&mut self, expectations: Expectations) {
        self.expectations = expectations;
    }

    /// What an operator may look at and change.
    pub const fn memory(&mut self) -> (&mut Baseline, &mut Expectations) {
        (&mut self.baseline, &mut self.expectations)
    }

    /// How well each workload is seen.
    #[must_use]
    pub fn coverage(&self, now: Timestamp) -> Report {
        self.coverage.report(|workload| self.baseline.is_learning(workload, now))
    }

    /// Adds to an incident how well its workload is seen. Not part of what is found: it hangs on when things arrived.
    pub fn cover(&self, incident: &mut Incident) {
        let learning = self.baseline.is_learning(&incident.workload.key, incident.last_seen);
        incident.coverage = self.coverage.of(&incident.workload.key, learning);
    }

    /// What is normal here, to be saved.
    #[must_use]
    pub const fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// The addresses whose requests are joined here, sorted.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.enricher.addresses()
    }

    /// One part of what outlives a restart, to be saved. The same memory gives the same bytes.
    #[must_use]
    pub fn checkpoint(&self, part: Part) -> Vec<u8> {
        match part {
            Part::Chains => self.correlator.checkpoint(),
            Part::Edge => self.edge.checkpoint(),
            Part::Coverage => self.coverage.checkpoint(),
        }
    }

    /// Adds what the stages count and what is wrong with them.
    pub fn describe(&self, now: Timestamp, status: &mut Status) {
        status.count("detector", &self.counters);
        status.count("enrich", &self.enricher.counters());
        status.count("host", &self.judge.counters());
        status.count("baseline", &self.baseline.counters());
        status.count("edge", &self.edge.counters());
        status.count("correlate", &self.correlator.counters());
        status.count("coverage", &self.coverage.counters());
        status.count("expected", &self.expectations.counters());
        status.count("lists", &self.lists.counters());
        status.unread_lines = self.edge.unread_lines();
        let learning = self.baseline.workloads().into_iter().filter(|key| self.baseline.is_learning(key, now));
        status.learning = learning.map(ToString::to_string).collect();
    }

    /// Passes revisions on. Nothing that happens on a workload while it has an incident counts as normal there.
    fn raise(&mut self, mut revisions: Vec<Incident>, raised: &mut Vec<Incident>) {
        for incident in &mut revisions {
            self.counters.revisions += 1;
            self.baseline.freeze(&incident.workload.key, incident.first_seen);
            self.frozen.insert(incident.workload.key.clone());
            self.identity.sign(incident);
            self.expectations.mark(incident);
        }
        raised.extend(revisions);
    }
}

/// Records are counted when they are lost, and that is asked for every so often: the loss lies somewhere in between.
fn gap(at: Timestamp, loss: &Loss) -> Gap {
    let from = loss.since.unwrap_or_else(|| at.minus(LOSS_INTERVAL));
    Gap { from, to: at, sense: loss.sense.clone(), count: loss.count, workload: None }
}
