//! Evidence in, incidents out.
//!
//! In: requests routed to workloads ([`EdgeEvidence`]), findings on the host ([`HostEvidence`]), contacts with external peers
//! ([`EgressEvidence`]), losses ([`Gap`]), and the time ([`Correlator::advance`]). Out: new revisions of incidents, at once.
//!
//! The finding on the host is the pivot: it is rare and precise. Requests are looked for before and around it, contacts after it.
//! What is held is a set; an incident is a pure function of that set in canonical order ([`session`], [`score`], [`account`]), so
//! arrival order, duplicates and restarts leave no trace in the final record.
//!
//! Bounded everywhere: each table has a limit in [`Config`], an eviction rule that a flood cannot use, and a counter. It never reads
//! a clock, never does I/O, and knows no log format.

mod account;
mod campaign;
mod chance;
mod checkpoint;
mod distinct;
mod echo;
mod edge_memory;
mod fingerprint;
mod gaps;
mod kept;
mod observation;
mod observation_set;
mod ordinary_ring;
mod raise;
mod score;
mod session;
mod site;
mod sought;
mod tie;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::evidence::{EdgeEvidence, EgressEvidence, Gap, HostEvidence};
use crate::incident::Incident;
use crate::incident::exposure::Provider;
use crate::request::{AccessRecord, Verdict};
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

use chance::Rates;
use edge_memory::EdgeMemory;
use gaps::Gaps;
use kept::{Kept, Rank, RequestId, Routed};
use observation::{Lineage, Observation, ObservationId};
use observation_set::Insertion;
use site::{Chain, Site};

/// Observations looked at for one request's window; more would only repeat the same few chains.
const WINDOW_LOOKS_MAX: usize = 64;
/// Ordinary requests of one workload at most. Findings reach the engine within a tenth of a second; only requests whose lines were
/// quicker are looked for here. A larger ring would be written cold, which is most of what an ordinary request costs.
const RING_MAX: usize = 256;
/// Observations whose time is indexed; past it the earliest goes, and requests that arrive later are not looked at for its sake.
const PLACES_MAX: usize = 65_536;
/// Balancers whose latest line is remembered; the names come from log lines.
const SOURCES_MAX: usize = 64;
/// How often (event time) what is too old is looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// What the correlator may be told.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Greatest difference between the balancer's clock and this host's.
    #[serde(with = "crate::config::duration")]
    pub skew: Duration,
    /// A finding this soon after a request is tightly joined: most exploits run at once.
    #[serde(with = "crate::config::duration")]
    pub tight: Duration,
    /// A finding this soon after a request is loosely joined: queues, asynchronous jobs.
    #[serde(with = "crate::config::duration")]
    pub loose: Duration,
    /// Evidence may arrive this late and still counts (AWS delivers ALB logs every 5 minutes, sometimes hours late).
    #[serde(with = "crate::config::duration")]
    pub lateness: Duration,
    /// A chain without a finding for this long is over; the next finding opens another incident. Not below `lateness`.
    #[serde(with = "crate::config::duration")]
    pub quiet: Duration,
    /// Least time between two revisions that bring neither a higher severity, nor a new stage, nor a better request.
    #[serde(with = "crate::config::duration")]
    pub renotify: Duration,
    /// Raise a single stage as an incident of low severity.
    pub single_stage: bool,
    /// Cloud behind 169.254.169.254, where the requests seen there do not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Provider>,
    /// Workloads remembered; past it the one unheard of the longest goes, those with an open incident last.
    pub workloads: usize,
    /// Root processes remembered for each workload.
    pub chains_per_workload: usize,
    /// Findings, contacts and ordinary observations (each) remembered for each root process.
    pub observations_per_chain: usize,
    /// Judged requests remembered, shared evenly by the workloads; past its share a workload gives up its least promising.
    pub edge_requests: usize,
    /// Latest ordinary requests remembered, shared evenly by the workloads.
    pub ordinary_requests: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            skew: Duration::from_secs(2),
            tight: Duration::from_secs(120),
            loose: Duration::from_secs(15 * 60),
            lateness: Duration::from_secs(6 * 3600),
            quiet: Duration::from_secs(6 * 3600),
            renotify: Duration::from_secs(3600),
            single_stage: false,
            platform: None,
            workloads: 10_000,
            chains_per_workload: 64,
            observations_per_chain: 64,
            edge_requests: 16_384,
            ordinary_requests: 8192,
        }
    }
}

/// Why a checkpoint was not taken back.
#[derive(Debug, thiserror::Error)]
pub enum CorrelateError {
    /// The bytes are not a checkpoint.
    #[error("the correlator's checkpoint cannot be read ({0}); start without it, chains begun before are lost")]
    Unreadable(#[from] serde_json::Error),
    /// Another version wrote it.
    #[error("the correlator's checkpoint has version {found}, this agent reads {expected}; start without it")]
    Version {
        /// Version found.
        found: u32,
        /// Version expected.
        expected: u32,
    },
}

/// What happened inside, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Requests taken in.
    pub edge_records: u64,
    /// Requests kept because of their verdict or of a finding in their window.
    pub edge_kept: u64,
    /// Kept requests that had to go for a cap.
    pub edge_evicted: u64,
    /// Requests refused: older than the lateness bound, or from further in the future than it.
    pub edge_out_of_bounds: u64,
    /// Findings and contacts taken in.
    pub observations: u64,
    /// Findings and contacts known already.
    pub observations_duplicate: u64,
    /// Findings and contacts for which there was no room beside better ones.
    pub observations_omitted: u64,
    /// Findings and contacts refused: older than the lateness bound, or from further in the future than it.
    pub observations_out_of_bounds: u64,
    /// Root processes forgotten for a cap.
    pub chains_evicted: u64,
    /// Workloads forgotten for a cap.
    pub workloads_evicted: u64,
    /// Times that the clock was set back by more than anything may be late.
    pub clock_set_back: u64,
    /// Incidents raised.
    pub incidents: u64,
    /// Revisions of incidents raised before.
    pub revisions: u64,
}

type Sites = HashMap<WorkloadKey, Site, BuildHasherDefault<DefaultHasher>>;

/// The engine. See the module's head.
#[derive(Debug)]
pub struct Correlator {
    config: Config,
    counters: Counters,
    sites: Sites,
    /// Requests of every workload: for chains whose process is not the one behind the balancer's target (a proxy in between).
    host_edge: EdgeMemory,
    host_rates: Rates,
    /// Where each observation is, by time.
    places: BTreeMap<ObservationId, Place>,
    /// Latest line of each balancer.
    sources: BTreeMap<Box<[u8]>, Timestamp>,
    gaps: Gaps,
    now: Timestamp,
    swept: Timestamp,
}

/// Where an observation is.
#[derive(Debug, Clone)]
struct Place {
    workload: WorkloadKey,
    lineage: Lineage,
    /// It counts by itself; an ordinary one only concerns requests that look like an exploit.
    counts: bool,
}

/// What lies in a request's window.
#[derive(Default)]
struct Window {
    /// An observation lies inside its flight, skew allowed for.
    near: bool,
    /// The same without skew.
    strict: bool,
    /// Chains of other workloads that may be concerned.
    others: BTreeSet<(WorkloadKey, Lineage)>,
}

impl Correlator {
    /// An engine that remembers nothing yet. `quiet` below `lateness` is raised to it.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let config = Config { quiet: config.quiet.max(config.lateness), ..config };
        Self {
            counters: Counters::default(),
            sites: Sites::default(),
            host_edge: EdgeMemory::default(),
            host_rates: Rates::default(),
            places: BTreeMap::new(),
            sources: BTreeMap::new(),
            gaps: Gaps::default(),
            now: Timestamp::MIN,
            swept: Timestamp::MIN,
            config,
        }
    }

    /// What happened inside, since the start.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Workloads with an open incident, in order: what they do now is not to be learned as normal.
    #[must_use]
    pub fn open_workloads(&self) -> BTreeSet<WorkloadKey> {
        let open = |site: &Site| site.chains.values().any(|chain| !chain.raised.is_empty());
        self.sites.iter().filter(|(_, site)| open(site)).map(|(key, _)| key.clone()).collect()
    }

    /// Takes in one request. Returns the revisions that it leads to, as a rule none.
    pub fn edge(&mut self, evidence: EdgeEvidence<'_>) -> Vec<Incident> {
        let EdgeEvidence { record, verdict, workload, owner, basis, spike } = evidence;
        self.counters.edge_records += 1;
        if self.out_of_bounds(record.received) {
            self.counters.edge_out_of_bounds += 1;
            return Vec::new();
        }
        self.note_source(record.balancer, record.received);
        let window = self.window(&record, verdict.is_some(), &workload.key);
        let routed = Routed::to(&workload, owner, basis);
        let slots = self.ring_share();
        let site = self.site(&workload.key, record.received);
        if verdict.is_none() && !window.near {
            site.ring.push(None, &record, routed, spike, slots);
            return Vec::new();
        }
        let id = RequestId { received: record.received, fingerprint: fingerprint::of_record(&record) };
        if let Some(verdict) = &verdict {
            site.rates.add(record.received, verdict, id.fingerprint);
            self.host_rates.add(record.received, verdict, id.fingerprint);
        }
        if !self.worth_keeping(&workload.key, id, &record, verdict.as_ref(), &window) {
            return Vec::new();
        }
        let kept = Arc::new(Kept::own(id, &record, verdict, routed, spike));
        self.keep(&kept, &window);
        let mut raised = Vec::new();
        for (key, lineage) in self.tied_chains(&kept, window.others) {
            self.review(&key, &lineage, &mut raised);
        }
        raised
    }

    /// Takes in a finding on the host. Returns the revisions that it leads to.
    pub fn host(&mut self, evidence: HostEvidence) -> Vec<Incident> {
        self.observe(Observation::host(evidence))
    }

    /// Takes in a contact with an external peer. Returns the revisions that it leads to.
    pub fn egress(&mut self, evidence: EgressEvidence) -> Vec<Incident> {
        self.observe(Observation::egress(evidence))
    }

    /// Takes in a loss of telemetry. Incidents that it may have touched name it from their next revision on.
    pub fn gap(&mut self, gap: Gap) {
        self.gaps.add(gap);
    }

    /// Moves time to `now` (back only when it turns out to have been wrong, by more than anything may be late): settles what nothing can change any more, reports what changed without haste, and forgets
    /// what is too old. Returns the revisions that this leads to.
    pub fn advance(&mut self, now: Timestamp) -> Vec<Incident> {
        if self.now != Timestamp::MIN && self.now.since(now) > self.retention() {
            self.set_back(now);
        }
        self.now = self.now.max(now);
        let mut raised = Vec::new();
        if self.now.since(self.swept) < SWEEP {
            return raised;
        }
        self.swept = self.now;
        let mut keys: Vec<WorkloadKey> =
            self.sites.iter().filter(|(_, site)| !site.chains.is_empty()).map(|(key, _)| key.clone()).collect();
        keys.sort_unstable();
        for key in keys {
            self.sweep_chains(&key, &mut raised);
        }
        self.forget();
        raised
    }

    /// Everything remembered, as bytes for [`Correlator::restore`]. Two engines fed the same evidence give the same bytes.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        checkpoint::save(self)
    }

    /// An engine that goes on where [`Correlator::checkpoint`] was taken; limits are those of `config`.
    ///
    /// # Errors
    ///
    /// The bytes are no checkpoint, or another version's.
    pub fn restore(config: Config, bytes: &[u8]) -> Result<Self, CorrelateError> {
        checkpoint::load(config, bytes)
    }

    /// How long evidence is kept: as late as anything may come that it could be joined with.
    fn retention(&self) -> Duration {
        self.config.lateness + self.config.loose + self.config.skew
    }

    /// Begins again at `now`: the time until now was wrong, and all that is new would lie too far in its past. What was seen in
    /// a future that is none is forgotten, and said so.
    fn set_back(&mut self, now: Timestamp) {
        let latest = now.plus(self.retention());
        let before = self.sites.len();
        self.sites.retain(|_, site| site.touched <= latest);
        let count = (before - self.sites.len()) as u64;
        self.places.split_off(&at_id(latest));
        self.sources.retain(|_, seen| *seen <= latest);
        (self.host_edge, self.host_rates) = (EdgeMemory::default(), Rates::default());
        self.counters.clock_set_back += 1;
        self.gaps.add(Gap {
            from: now,
            to: now,
            sense: "clock (it was set back): workload".into(),
            count,
            workload: None,
        });
        (self.now, self.swept) = (now, now);
    }

    fn out_of_bounds(&self, at: Timestamp) -> bool {
        self.now != Timestamp::MIN && self.now.distance(at) > self.retention()
    }

    fn note_source(&mut self, balancer: &[u8], received: Timestamp) {
        if let Some(latest) = self.sources.get_mut(balancer) {
            *latest = received.max(*latest);
        } else if self.sources.len() < SOURCES_MAX {
            self.sources.insert(balancer.into(), received);
        }
    }

    /// The site of `key`, made when it is new; the one unheard of the longest makes room for it.
    fn site(&mut self, key: &WorkloadKey, at: Timestamp) -> &mut Site {
        while self.sites.len() >= self.config.workloads.max(1) && !self.sites.contains_key(key) {
            let open = |site: &Site| site.chains.values().any(|chain| !chain.raised.is_empty());
            let oldest = self.sites.iter().min_by_key(|(key, site)| (open(site), site.touched, *key));
            let Some((oldest, touched)) = oldest.map(|(key, site)| (key.clone(), site.touched)) else { break };
            self.sites.remove(&oldest);
            self.counters.workloads_evicted += 1;
            self.gaps.add(lost("evidence", 0, touched, &oldest));
        }
        let site = self.sites.entry(key.clone()).or_default();
        site.touched = site.touched.max(at);
        site
    }

    /// Judged requests that one workload may hold now.
    fn edge_share(&self) -> usize {
        (self.config.edge_requests / self.sites.len().max(1)).max(2)
    }

    /// Ordinary requests that one workload may hold now.
    fn ring_share(&self) -> usize {
        (self.config.ordinary_requests / self.sites.len().max(1)).clamp(1, RING_MAX)
    }

    /// What lies in the window of a request: while in flight for any, a while after for a judged one.
    fn window(&self, record: &AccessRecord<'_>, judged: bool, key: &WorkloadKey) -> Window {
        let mut window = Window::default();
        if self.places.is_empty() {
            return window;
        }
        let completed = record.completed.max(record.received);
        let after = if judged { self.config.tight } else { self.config.skew };
        let range = at_id(record.received.minus(self.config.skew))..at_id(completed.plus(after));
        let places = self.places.range(range).filter(|(_, place)| judged || place.counts);
        for (id, place) in places.take(WINDOW_LOOKS_MAX) {
            window.near |= id.at <= completed.plus(self.config.skew);
            window.strict |= record.received <= id.at && id.at <= completed;
            if place.workload != *key {
                window.others.insert((place.workload.clone(), place.lineage.clone()));
            }
        }
        window
    }

    /// Decides before anything is copied: judged and among the best of its minute, or a finding lies in its window, or
    /// something that it says was already seen on the host.
    fn worth_keeping(
        &self,
        key: &WorkloadKey,
        id: RequestId,
        record: &AccessRecord<'_>,
        verdict: Option<&Verdict>,
        window: &Window,
    ) -> bool {
        let Some(site) = self.sites.get(key) else { return false };
        let rank = Rank::of(id, verdict, record.target_status);
        let mut memories = [&site.edge, &self.host_edge].into_iter();
        if window.near && memories.clone().any(|memory| memory.wants_near(window.strict, rank, id)) {
            return true;
        }
        verdict.is_some_and(|verdict| {
            memories.any(|memory| memory.wants(verdict.class, rank, id))
                || site.echoed(id, &sought::sought(Some(verdict)))
        })
    }

    fn keep(&mut self, kept: &Arc<Kept>, window: &Window) {
        self.counters.edge_kept += 1;
        let (share, host_share) = (self.edge_share(), self.config.edge_requests / 4);
        let Some(site) = self.sites.get_mut(&kept.routed.workload) else { return };
        let echoed = site.echoed(kept.id, kept.sought());
        site.edge.keep_judged(kept);
        self.host_edge.keep_judged(kept);
        if window.near || echoed {
            site.edge.keep_near(kept, window.strict || echoed);
            self.host_edge.keep_near(kept, window.strict);
        }
        let evicted = site.edge.shrink(share) + self.host_edge.shrink(host_share);
        self.note_evicted(&kept.routed.workload, kept.id.received, evicted);
    }

    /// Counts requests that had to go, and lets the incidents of that workload say so.
    fn note_evicted(&mut self, key: &WorkloadKey, at: Timestamp, count: u64) {
        if count > 0 {
            self.counters.edge_evicted += count;
            self.gaps.add(lost("edge request", count, at, key));
        }
    }

    fn observe(&mut self, observation: Observation) -> Vec<Incident> {
        let (id, at) = (observation.id, observation.at());
        let key = observation.place().workload.key.clone();
        let lineage = Lineage::of(observation.place());
        self.counters.observations += 1;
        if self.out_of_bounds(at) {
            self.counters.observations_out_of_bounds += 1;
            return Vec::new();
        }
        let counts = observation.counts();
        let (chains, observations) = (self.config.chains_per_workload, self.config.observations_per_chain);
        // A known peer counts when something that was started here reaches it.
        let below = observation
            .as_egress()
            .map(|egress| egress.place.lineage.iter().map(|node| node.process).collect::<Vec<_>>());
        let site = self.site(&key, at);
        let evicted = site.make_room(&lineage, chains);
        let chain = site.chains.entry(lineage.clone()).or_default();
        let insertion = chain.insert(observation, observations);
        let matters = counts || below.is_some_and(|lineage| chain.started_any_of(&lineage));
        if evicted {
            self.counters.chains_evicted += 1;
            self.gaps.add(lost("root process", 1, at, &key));
        }
        match insertion {
            Insertion::Duplicate => self.counters.observations_duplicate += 1,
            Insertion::Omitted => self.counters.observations_omitted += 1,
            Insertion::Changed => {
                self.note_place(id, Place { workload: key.clone(), lineage: lineage.clone(), counts })
            }
        }
        // What is ordinary changes nothing unless something odd or a request that could have asked for it is near.
        if insertion != Insertion::Changed || !(matters || self.asked_for_at(&key, at)) {
            return Vec::new();
        }
        if counts {
            self.recall_in_flight(at);
        }
        let mut raised = Vec::new();
        self.review_instance(&key, &lineage, &mut raised);
        raised
    }

    fn note_place(&mut self, id: ObservationId, place: Place) {
        self.places.insert(id, place);
        if self.places.len() > PLACES_MAX {
            self.places.pop_first();
        }
    }

    /// Whether a request with indicators may have been in flight at `at`.
    fn asked_for_at(&self, key: &WorkloadKey, at: Timestamp) -> bool {
        let own = self.sites.get(key).map(|site| &site.edge);
        own.into_iter().chain([&self.host_edge]).any(|memory| memory.asks_at(at, self.config.skew))
    }

    /// Ordinary requests in flight at `at` whose lines came before the finding did.
    fn recall_in_flight(&mut self, at: Timestamp) {
        for site in self.sites.values_mut() {
            for (kept, strict) in site.ring.in_flight(at, self.config.skew) {
                let kept = Arc::new(kept);
                site.edge.keep_near(&kept, strict);
                self.host_edge.keep_near(&kept, strict);
            }
        }
    }

    fn sweep_chains(&mut self, key: &WorkloadKey, raised: &mut Vec<Incident>) {
        let retention = self.retention();
        let horizon = self.now.minus(retention);
        let Some(site) = self.sites.get(key) else { return };
        let due = |chain: &Chain| !chain.raised.is_empty() || chain.span().is_some_and(|(first, _)| first < horizon);
        let lineages: Vec<Lineage> =
            site.chains.iter().filter(|(_, chain)| due(chain)).map(|(lineage, _)| lineage.clone()).collect();
        for lineage in lineages {
            let open = self.review(key, &lineage, raised);
            let Some(site) = self.sites.get_mut(key) else { return };
            let Some(chain) = site.chains.get_mut(&lineage) else { continue };
            chain.forget(horizon, open);
            if chain.is_empty() {
                site.chains.remove(&lineage);
            }
        }
    }

    /// Forgets requests, rates, losses and silent workloads that nothing can be joined with any more.
    fn forget(&mut self) {
        let horizon = self.now.minus(self.retention());
        let (edge_share, ring_share) = (self.edge_share(), self.ring_share());
        for (key, site) in &mut self.sites {
            site.edge.evict_before(horizon);
            site.rates.evict(horizon);
            site.ring.shrink(ring_share);
            let evicted = site.edge.shrink(edge_share);
            if evicted > 0 {
                self.counters.edge_evicted += evicted;
                self.gaps.add(lost("edge request", evicted, site.touched, key));
            }
        }
        self.host_edge.evict_before(horizon);
        self.host_rates.evict(horizon);
        self.sites.retain(|_, site| !site.chains.is_empty() || site.touched >= horizon);
        self.places = self.places.split_off(&at_id(horizon));
        self.gaps.forget(horizon.minus(self.config.quiet));
    }
}

/// Something of `workload` that had to go for a cap: its incidents say so.
fn lost(what: &str, count: u64, at: Timestamp, workload: &WorkloadKey) -> Gap {
    Gap { from: at, to: at, sense: what.to_owned(), count, workload: Some(workload.clone()) }
}

/// The least identity at `at`: a bound for ranges.
fn at_id(at: Timestamp) -> ObservationId {
    ObservationId::first_at(at)
}

#[cfg(test)]
mod tests {
    mod bad_day;
    mod build;
    mod connections;
    mod floods;
    mod properties;
    mod scenarios;
}
