//! Time passes: what nothing can change any more is settled, what changed without haste is told, what is too old is forgotten.
//! Only workloads with something due are looked at, so that a host with ten thousand quiet ones pays for none of them.

use std::time::Duration;

use crate::evidence::Gap;
use crate::incident::Incident;
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

use super::chance::Rates;
use super::edge_memory::EdgeMemory;
use super::observation::Lineage;
use super::site::{Chain, Site};
use super::{Correlator, lost};

/// How often (event time) what is due is looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// How long what may be forgotten stays at most beyond its time: a workload with something to forget is looked at no more often.
const LINGER_MINUTES: i64 = 20;
/// How often a workload with an open incident is looked at without any news: for what becomes older.
const OPEN_MINUTES: i64 = 10;
/// How much longer requests stay than the observations that they are tied to: the time that a request may take, and that a look at a
/// workload may be late.
const OUTLAST: Duration = Duration::from_secs(3600);
/// Longest that what an open incident is made of stays, for an intruder who never leaves: its observations are few by number, the
/// hours for which rates are known are not.
const OPEN_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
const MINUTE_NS: i64 = 60_000_000_000;

impl Correlator {
    /// Moves time to `now` (back only when it turns out to have been wrong, by more than anything may be late): settles what
    /// nothing can change any more, reports what changed without haste, and forgets what is too old. Returns the revisions that
    /// this leads to.
    pub fn advance(&mut self, now: Timestamp) -> Vec<Incident> {
        if self.now != Timestamp::MIN && self.now.since(now) > self.reach() {
            self.set_back(now);
        }
        self.now = self.now.max(now);
        let mut raised = Vec::new();
        if self.now.since(self.swept) < SWEEP {
            return raised;
        }
        self.swept = self.now;
        for key in self.take_due() {
            self.sweep(&key, &mut raised);
        }
        self.forget();
        raised
    }

    /// When what is due was last looked for: only then do incidents close.
    pub(crate) const fn swept(&self) -> Timestamp {
        self.swept
    }

    /// Evidence further away in time than this is not taken in.
    pub(super) fn reach(&self) -> Duration {
        self.config.lateness + self.config.loose + self.config.skew
    }

    /// How long observations are kept: a finding may follow within the quiet time, and arrive late.
    pub(super) fn observations_kept(&self) -> Duration {
        self.reach() + self.config.quiet
    }

    /// How long requests are kept: what a request is tied to may follow as long after it as anything may be late, and arrive late; and
    /// an incident is told for the last time while its requests are still here, whenever its workload is looked at.
    fn requests_kept(&self) -> Duration {
        self.reach() + self.config.lateness.max(self.config.quiet) + OUTLAST
    }

    /// Has a workload looked at within the time in which nothing of it can have to be forgotten.
    pub(super) fn look_at_later(&mut self, key: &WorkloadKey) {
        self.look_at(key, LINGER_MINUTES);
    }

    /// Has a workload with an open incident looked at before long.
    pub(super) fn look_at_open(&mut self, key: &WorkloadKey) {
        self.look_at(key, OPEN_MINUTES);
    }

    /// Has a workload looked at in the next sweep after `at`: there is something to be told then.
    pub(super) fn look_at_when(&mut self, key: &WorkloadKey, at: Timestamp) {
        self.look_at(key, (minute_of(at) - minute_of(self.now)).saturating_add(1).max(1));
    }

    fn look_at(&mut self, key: &WorkloadKey, minutes: i64) {
        let due = minute_of(self.now).saturating_add(minutes);
        let Some(site) = self.sites.get_mut(key) else { return };
        if due < site.due {
            site.due = due;
            self.due.entry(due).or_default().push(key.clone());
        }
    }

    /// Workloads that are due, in order.
    fn take_due(&mut self) -> Vec<WorkloadKey> {
        let rest = self.due.split_off(&minute_of(self.now).saturating_add(1));
        let mut keys: Vec<WorkloadKey> = Vec::new();
        for (minute, noted) in std::mem::replace(&mut self.due, rest) {
            // What was put forward since then is noted there.
            keys.extend(noted.into_iter().filter(|key| self.sites.get(key).is_some_and(|site| site.due == minute)));
        }
        keys.sort_unstable();
        keys.dedup();
        for key in &keys {
            if let Some(site) = self.sites.get_mut(key) {
                site.due = Site::NOT_DUE;
            }
        }
        keys
    }

    /// Looks at one workload: its chains, and what of it is too old.
    fn sweep(&mut self, key: &WorkloadKey, raised: &mut Vec<Incident>) {
        let begun = self.sweep_chains(key, raised);
        let share = self.edge_share();
        let (requests, observations) = (self.requests_kept(), self.observations_kept());
        let (now, lateness) = (self.now, self.config.lateness);
        let Some(site) = self.sites.get_mut(key) else { return };
        // What an open incident is made of stays, so that the last word on it is said with all of it.
        let made_of = begun.map(|from| from.minus(lateness).max(now.minus(OPEN_KEPT)));
        let horizon = now.minus(requests);
        let horizon = made_of.map_or(horizon, |from| from.min(horizon));
        site.edge.evict_before(horizon);
        site.rates.evict(horizon);
        let evicted = site.edge.shrink(share);
        let (touched, open) = (site.touched, site.is_open());
        if site.chains.is_empty() && touched < now.minus(requests) {
            self.sites.remove(key);
        } else {
            let chains = site.chains.values().filter_map(Chain::span).map(|(first, _)| first.plus(observations)).min();
            let due = chains.into_iter().chain(site.edge.earliest().map(|first| first.plus(requests))).min();
            let due = due.unwrap_or_else(|| touched.plus(requests));
            let minutes = (minute_of(due) - minute_of(now)).saturating_add(1);
            self.look_at(key, if open { OPEN_MINUTES } else { minutes.max(LINGER_MINUTES) });
        }
        if evicted > 0 {
            self.counters.edge_evicted += evicted;
            self.gaps.add(lost("edge request", evicted, touched, key));
        }
    }

    /// Looks at its chains. Returns the start of the earliest session with an incident that may still change.
    fn sweep_chains(&mut self, key: &WorkloadKey, raised: &mut Vec<Incident>) -> Option<Timestamp> {
        let horizon = self.now.minus(self.observations_kept());
        let mut earliest: Option<Timestamp> = None;
        let site = self.sites.get(key)?;
        let due = |chain: &Chain| !chain.raised.is_empty() || chain.span().is_none_or(|(first, _)| first < horizon);
        let lineages: Vec<Lineage> =
            site.chains.iter().filter(|(_, chain)| due(chain)).map(|(lineage, _)| lineage.clone()).collect();
        for lineage in lineages {
            let open = self.review(key, &lineage, raised);
            let site = self.sites.get_mut(key)?;
            let Some(chain) = site.chains.get_mut(&lineage) else { continue };
            chain.forget(horizon, open);
            if !chain.raised.is_empty() {
                earliest = earliest.into_iter().chain(open).min();
            }
            if chain.is_empty() {
                site.chains.remove(&lineage);
            }
        }
        earliest
    }

    /// Forgets what belongs to no workload alone and nothing can be joined with any more.
    fn forget(&mut self) {
        let requests = self.now.minus(self.requests_kept());
        self.host_edge.evict_before(requests);
        self.host_rates.evict(requests);
        self.places.forget(self.now.minus(self.observations_kept()));
        self.gaps.forget(self.now.minus(self.observations_kept() + self.config.quiet));
    }

    /// Begins again at `now`: the time until now was wrong, and all that is new would lie too far in its past. What was seen in
    /// a future that is none is forgotten, and said so.
    fn set_back(&mut self, now: Timestamp) {
        let latest = now.plus(self.reach());
        let before = self.sites.len();
        self.sites.retain(|_, site| site.touched <= latest);
        let count = (before - self.sites.len()) as u64;
        self.places.forget_after(latest);
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
        self.due.clear();
        let mut keys: Vec<WorkloadKey> = self.sites.keys().cloned().collect();
        keys.sort_unstable();
        for key in keys {
            if let Some(site) = self.sites.get_mut(&key) {
                site.due = Site::NOT_DUE;
            }
            self.look_at_when(&key, now);
        }
    }
}

fn minute_of(at: Timestamp) -> i64 {
    at.as_unix_nanos().div_euclid(MINUTE_NS)
}
