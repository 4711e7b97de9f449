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
mod edge_road;
mod fingerprint;
mod gaps;
mod kept;
mod observation;
mod observation_set;
mod ordinary_ring;
mod passing;
mod places;
mod raise;
mod score;
mod session;
mod site;
mod sought;
mod strands;
mod tie;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::evidence::{EdgeEvidence, EgressEvidence, Gap, HostEvidence};
use crate::incident::Incident;
use crate::incident::exposure::Provider;
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

use chance::Rates;
use edge_memory::EdgeMemory;
use fingerprint::Hashed;
use gaps::Gaps;
use observation::{Lineage, Observation};
use observation_set::Insertion;
use ordinary_ring::OrdinaryRing;
use places::{Place, Places};
use site::Site;

/// Balancers whose latest line is remembered; the names come from log lines.
const SOURCES_MAX: usize = 64;
/// At the bound, one in so many workloads goes at once: finding the oldest is a look at all of them.
const EVICTION_SHARE: usize = 64;

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
    /// Latest ordinary requests remembered. Findings reach the engine within a tenth of a second; only requests whose lines were
    /// quicker are looked for among these.
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
            ordinary_requests: 4096,
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

type Sites = HashMap<WorkloadKey, Site, Hashed>;

/// The engine. See the module's head.
#[derive(Debug)]
pub struct Correlator {
    config: Config,
    counters: Counters,
    sites: Sites,
    /// Requests of every workload: for chains whose process is not the one behind the balancer's target (a proxy in between).
    host_edge: EdgeMemory,
    host_rates: Rates,
    /// The latest ordinary requests.
    ring: OrdinaryRing,
    /// The latest judged ones, also those of which better were kept.
    passed: OrdinaryRing,
    places: Places,
    /// Which workloads are to be looked through, by the minute of event time.
    due: BTreeMap<i64, Vec<WorkloadKey>>,
    /// Latest line of each balancer.
    sources: BTreeMap<Box<[u8]>, Timestamp>,
    gaps: Gaps,
    now: Timestamp,
    swept: Timestamp,
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
            ring: OrdinaryRing::default(),
            passed: OrdinaryRing::default(),
            places: Places::default(),
            due: BTreeMap::new(),
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

    /// Workloads on which an incident goes on, in order: what they do now is not to be learned as normal. One that only waits for
    /// late lines is over.
    #[must_use]
    pub fn open_workloads(&self) -> BTreeSet<WorkloadKey> {
        let since = self.now.minus(self.config.quiet);
        let goes_on = |site: &Site| {
            let mut raised = site.chains.values().flat_map(|chain| chain.raised.values());
            raised.any(|raised| raised.incident.last_seen >= since)
        };
        self.sites.iter().filter(|(_, site)| goes_on(site)).map(|(key, _)| key.clone()).collect()
    }

    /// Takes in one request. Returns the revisions that it leads to, as a rule none.
    pub fn edge(&mut self, evidence: EdgeEvidence<'_>) -> Vec<Incident> {
        self.counters.edge_records += 1;
        let received = evidence.record.received;
        if self.out_of_bounds(received) {
            self.counters.edge_out_of_bounds += 1;
            return Vec::new();
        }
        self.note_source(evidence.record.balancer, received);
        self.request(evidence)
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

    fn out_of_bounds(&self, at: Timestamp) -> bool {
        self.now != Timestamp::MIN && self.now.distance(at) > self.reach()
    }

    fn note_source(&mut self, balancer: &[u8], received: Timestamp) {
        if let Some(latest) = self.sources.get_mut(balancer) {
            *latest = received.max(*latest);
        } else if self.sources.len() < SOURCES_MAX {
            self.sources.insert(balancer.into(), received);
        }
    }

    /// The site of `key`, made when it is new; those unheard of the longest make room for it.
    fn site(&mut self, key: &WorkloadKey, at: Timestamp) -> &mut Site {
        if !self.sites.contains_key(key) {
            if self.sites.len() >= self.config.workloads.max(1) {
                self.evict_sites();
            }
            self.sites.insert(key.clone(), Site::default());
            self.look_at_later(key);
        }
        let site = self.sites.entry(key.clone()).or_default();
        site.touched = site.touched.max(at);
        site
    }

    fn evict_sites(&mut self) {
        let mut ranked: Vec<_> =
            self.sites.iter().map(|(key, site)| (site.is_open(), site.touched, key.clone())).collect();
        let count = (self.config.workloads / EVICTION_SHARE).clamp(1, ranked.len().max(1));
        if count < ranked.len() {
            ranked.select_nth_unstable(count);
        }
        for (_, touched, key) in ranked.into_iter().take(count) {
            self.sites.remove(&key);
            self.counters.workloads_evicted += 1;
            self.gaps.add(lost("evidence", 0, touched, &key));
        }
    }

    /// Judged requests that one workload may hold now.
    fn edge_share(&self) -> usize {
        (self.config.edge_requests / self.sites.len().max(1)).max(2)
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
        let asked = !counts && self.asked_for(&key, &observation);
        let (chains, observations) = (self.config.chains_per_workload, self.config.observations_per_chain);
        let site = self.site(&key, at);
        let evicted = site.make_room(&lineage, chains);
        let chain = site.chains.entry(lineage.clone()).or_default();
        // A known peer counts when something that was started here reaches it.
        let matters =
            counts || asked || observation.as_egress().is_some_and(|egress| chain.started_any_of(&egress.place));
        let insertion = chain.insert(observation, observations);
        if evicted {
            self.counters.chains_evicted += 1;
            self.gaps.add(lost("root process", 1, at, &key));
        }
        match insertion {
            Insertion::Duplicate => self.counters.observations_duplicate += 1,
            Insertion::Omitted => self.counters.observations_omitted += 1,
            Insertion::Changed => {
                self.places.note(id, counts, || Place { workload: key.clone(), lineage: lineage.clone() });
            }
        }
        // What is ordinary changes nothing unless something odd or a request that asked for it is near.
        if insertion != Insertion::Changed || !matters {
            return Vec::new();
        }
        if counts {
            self.recall_in_flight(at);
        }
        let mut raised = Vec::new();
        self.review_instance(&key, &lineage, &mut raised);
        raised
    }
}

/// Something of `workload` that had to go for a cap: its incidents say so.
fn lost(what: &str, count: u64, at: Timestamp, workload: &WorkloadKey) -> Gap {
    Gap { from: at, to: at, sense: what.to_owned(), count, workload: Some(workload.clone()) }
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
