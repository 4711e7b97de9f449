//! A request on its way into memory: most are ordinary and only pass through the ring; what is judged, or in whose flight
//! something odd happened, is kept if it is among the best, and the chains that it concerns are reviewed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::evidence::EdgeEvidence;
use crate::incident::{Incident, Timing};
use crate::request::{AccessRecord, Verdict};
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

use super::chance::{Kind, Specificity};
use super::kept::{Kept, Rank, RequestId, Routed};
use super::observation::Observation;
use super::ordinary_ring::Passing;
use super::places::Place;
use super::site::Chain;
use super::tie::Scales;
use super::{Correlator, fingerprint, lost, sought};

/// To so many slots for ordinary requests there is one for judged ones: a flood of these must not pass over those.
pub(super) const PASSED_SHARE: usize = 4;

/// What lies in the window of a request.
#[derive(Copy, Clone)]
struct Window {
    /// An observation lies inside its flight, skew allowed for.
    near: bool,
    /// The same without skew.
    strict: bool,
}

impl Correlator {
    /// Takes in a request whose time is within bounds.
    pub(super) fn request(&mut self, evidence: EdgeEvidence<'_>) -> Vec<Incident> {
        let EdgeEvidence { record, verdict, workload, owner, basis, spike } = evidence;
        let window = self.window(&record, verdict);
        if verdict.is_none() && !window.near {
            let routed = Routed::to(&workload, owner, basis);
            self.ring
                .push(Passing { id: None, record: &record, verdict, routed, spike }, self.config.ordinary_requests);
            return Vec::new();
        }
        let id = RequestId { received: record.received, fingerprint: fingerprint::of_record(&record) };
        let site = self.site(&workload.key, record.received);
        if let Some(verdict) = verdict {
            let kind = Kind::of(verdict, record.target_status);
            site.rates.add(record.received, kind, id.fingerprint);
            self.host_rates.add(record.received, kind, id.fingerprint);
        }
        if !window.near {
            // A finding that happened in it may yet be on its way here, and better ones push it out until then.
            let routed = Routed::to(&workload, owner, basis);
            let passing = Passing { id: Some(id), record: &record, verdict, routed, spike };
            self.passed.push(passing, self.config.ordinary_requests / PASSED_SHARE);
        }
        if !self.worth_keeping(&workload.key, id, &record, verdict, window) {
            return Vec::new();
        }
        let kept = Arc::new(Kept::own(id, &record, verdict, Routed::to(&workload, owner, basis), spike));
        self.keep(&kept, window);
        let mut raised = Vec::new();
        for Place { workload, lineage } in self.concerned(&kept) {
            self.review(&workload, &lineage, &mut raised);
        }
        raised
    }

    /// What lies in the window of a request. What is ordinary only concerns one that names something to look for.
    fn window(&self, record: &AccessRecord<'_>, verdict: Option<&Verdict>) -> Window {
        let completed = record.completed.max(record.received);
        let (near, strict) = self.places.odd_within(record.received, completed, self.config.skew);
        let asks = verdict.is_some_and(|verdict| !verdict.indicators.is_empty());
        let near = near || asks && self.places.ordinary_within(record.received, completed, self.config.skew);
        Window { near, strict }
    }

    /// Decides before anything is copied: judged and among the best of its minute, or a finding lies in its window, or
    /// something that it says was already seen on the host.
    fn worth_keeping(
        &self,
        key: &WorkloadKey,
        id: RequestId,
        record: &AccessRecord<'_>,
        verdict: Option<&Verdict>,
        window: Window,
    ) -> bool {
        let Some(site) = self.sites.get(key) else { return false };
        let rank = Rank::of(id, verdict, record.target_status);
        let mut memories = [&site.edge, &self.host_edge].into_iter();
        if window.near && memories.clone().any(|memory| memory.wants_near(window.strict, rank, id)) {
            return true;
        }
        verdict.is_some_and(|verdict| {
            let echoed = || {
                let sought = sought::sought(Some(verdict));
                !sought.is_empty() && site.echoed(id.received, |seen| seen.echoes(&sought))
            };
            memories.any(|memory| memory.wants(verdict.class, rank, id)) || !site.chains.is_empty() && echoed()
        })
    }

    fn keep(&mut self, kept: &Arc<Kept>, window: Window) {
        self.counters.edge_kept += 1;
        let (share, host_share) = (self.edge_share(), self.config.edge_requests / 4);
        let Some(site) = self.sites.get_mut(&kept.routed.workload) else { return };
        let echoed = !kept.keys().is_empty() && site.echoed(kept.id.received, |seen| seen.echoes_of(kept));
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

    /// Requests in flight at `at` that nothing made worth keeping when their lines came, before the finding did.
    pub(super) fn recall_in_flight(&mut self, at: Timestamp) {
        let skew = self.config.skew;
        let in_flight: Vec<_> = self.ring.in_flight(at, skew).chain(self.passed.in_flight(at, skew)).collect();
        for (kept, strict) in in_flight {
            let kept = Arc::new(kept);
            self.site(&kept.routed.workload, kept.id.received).edge.keep_near(&kept, strict);
            self.host_edge.keep_near(&kept, strict);
        }
    }

    /// Chains that `kept` may change: those of its own workload, and of others those near it.
    fn concerned(&self, kept: &Kept) -> BTreeSet<Place> {
        let own = &kept.routed.workload;
        let from = kept.id.received.minus(self.config.skew);
        let completed = kept.request.completed.max(kept.id.received);
        let asking = if kept.keys().is_empty() { None } else { Some(completed.plus(self.config.skew)) };
        let odd = self.places.odd(from, completed.plus(self.config.tight));
        let ordinary = asking.into_iter().flat_map(|to| self.places.ordinary(from, to));
        let mut chains: BTreeSet<Place> = odd.chain(ordinary).filter(|place| place.workload != *own).cloned().collect();
        let lineages = self.sites.get(own).into_iter().flat_map(|site| site.chains.keys());
        chains.extend(lineages.map(|lineage| Place { workload: own.clone(), lineage: lineage.clone() }));
        chains.retain(|place| {
            let Some(site) = self.sites.get(&place.workload) else { return false };
            let scales = self.scales(&place.workload, site);
            site.chains.get(&place.lineage).is_some_and(|chain| concerns(kept, chain, scales))
        });
        chains
    }

    /// Whether a request asked for something that is ordinary by itself.
    pub(super) fn asked_for(&self, key: &WorkloadKey, seen: &Observation) -> bool {
        let (skew, lateness) = (self.config.skew, self.config.lateness);
        let own = self.sites.get(key);
        own.is_some_and(|site| site.edge.asks_for(seen, skew, lateness) || site.holds_what_asks_for(seen))
            || self.host_edge.asks_for(seen, skew, self.config.tight.min(lateness))
    }
}

/// Whether a request can change what a chain amounts to. Where nothing odd was found on the host, only what makes a session of a
/// contact, or of what is ordinary, can; see `session::opened_by_request`.
fn concerns(kept: &Kept, chain: &Chain, scales: Scales<'_>) -> bool {
    let begun = !chain.pivots.is_empty() || !chain.raised.is_empty();
    chain.iter().any(|seen| {
        if seen.is_ordinary() {
            return seen.may_echo(kept.keys()) && scales.tie(kept, seen).is_some_and(|tie| !tie.echoes.is_empty());
        }
        let may = begun || kept.specificity() == Specificity::Specific || seen.may_echo(kept.keys());
        may && scales.tie(kept, seen).is_some_and(|tie| begun || tie.timing == Timing::InFlight || tie.decisive())
    })
}
