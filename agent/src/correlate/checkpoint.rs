//! The engine's memory as bytes and back. Saved is what was taken in and what went out; everything derived is derived again.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

use super::chance::{Rates, SavedRate};
use super::distinct::Distinct;
use super::edge_memory::EdgeMemory;
use super::edge_road::PASSED_SHARE;
use super::gaps::Gaps;
use super::kept::Kept;
use super::observation::{Finding, Lineage, Observation};
use super::ordinary_ring::Passing;
use super::places::Place;
use super::site::{Chain, Raised, Site};
use super::{Config, CorrelateError, Correlator};

/// Version of the checkpoint; a changed meaning takes a new one.
const VERSION: u32 = 3;

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    now: Timestamp,
    swept: Timestamp,
    sources: Vec<(Vec<u8>, Timestamp)>,
    gaps: Gaps,
    host: SavedRequests,
    ordinary: Vec<Kept>,
    passed: Vec<Kept>,
    sites: Vec<SavedSite>,
}

#[derive(Serialize, Deserialize)]
struct SavedSite {
    key: WorkloadKey,
    touched: Timestamp,
    due: i64,
    requests: SavedRequests,
    chains: Vec<SavedChain>,
}

#[derive(Serialize, Deserialize)]
struct SavedRequests {
    first: Option<Timestamp>,
    rates: Vec<SavedRate>,
    kept: Vec<(Arc<Kept>, Option<bool>)>,
}

#[derive(Serialize, Deserialize)]
struct SavedChain {
    lineage: Lineage,
    observations: Vec<Finding>,
    omitted: [Distinct; 3],
    held: Vec<Arc<Kept>>,
    raised: BTreeMap<String, Raised>,
}

pub(super) fn save(engine: &Correlator) -> Vec<u8> {
    let mut keys: Vec<&WorkloadKey> = engine.sites.keys().collect();
    keys.sort_unstable();
    let saved = Saved {
        version: VERSION,
        now: engine.now,
        swept: engine.swept,
        sources: engine.sources.iter().map(|(name, at)| (name.to_vec(), *at)).collect(),
        gaps: engine.gaps.clone(),
        host: SavedRequests::of(&engine.host_edge, &engine.host_rates),
        ordinary: engine.ring.iter().collect(),
        passed: engine.passed.iter().collect(),
        sites: keys.into_iter().filter_map(|key| Some(SavedSite::of(key, engine.sites.get(key)?))).collect(),
    };
    // Plain data with string keys always has a JSON form.
    serde_json::to_vec(&saved).unwrap_or_default()
}

pub(super) fn load(config: Config, bytes: &[u8]) -> Result<Correlator, CorrelateError> {
    let Head { version } = serde_json::from_slice(bytes)?;
    if version != VERSION {
        return Err(CorrelateError::Version { found: version, expected: VERSION });
    }
    let saved: Saved = serde_json::from_slice(bytes)?;
    let mut engine = Correlator::new(config);
    engine.now = saved.now;
    engine.swept = saved.swept;
    engine.sources = saved.sources.into_iter().map(|(name, at)| (name.into(), at)).collect();
    engine.gaps = saved.gaps;
    engine.host_rates = saved.host.fill(&mut engine.host_edge);
    let slots = engine.config.ordinary_requests;
    for (ring, slots, kept) in
        [(&mut engine.ring, slots, saved.ordinary), (&mut engine.passed, slots / PASSED_SHARE, saved.passed)]
    {
        for kept in &kept {
            let (record, verdict) = (kept.as_record(), kept.verdict.as_ref());
            let (routed, spike) = (kept.routed.clone(), kept.spike);
            ring.push(Passing { id: Some(kept.id), record: &record, verdict, routed, spike }, slots);
        }
    }
    for saved in saved.sites {
        saved.fill(&mut engine);
    }
    Ok(engine)
}

impl SavedRequests {
    fn of(memory: &EdgeMemory, rates: &Rates) -> Self {
        let (first, rates) = rates.save();
        Self { first, rates, kept: memory.iter().map(|(kept, near)| (Arc::clone(kept), near)).collect() }
    }

    fn fill(self, memory: &mut EdgeMemory) -> Rates {
        for (kept, near) in &self.kept {
            match near {
                Some(strict) => memory.keep_near(kept, *strict),
                None => memory.keep_judged(kept),
            };
        }
        Rates::restore(self.first, self.rates)
    }
}

impl SavedSite {
    fn of(key: &WorkloadKey, site: &Site) -> Self {
        Self {
            key: key.clone(),
            touched: site.touched,
            due: site.due,
            requests: SavedRequests::of(&site.edge, &site.rates),
            chains: site.chains.iter().map(|(lineage, chain)| SavedChain::of(lineage, chain)).collect(),
        }
    }

    fn fill(self, engine: &mut Correlator) {
        let mut site = Site { touched: self.touched, ..Site::default() };
        site.rates = self.requests.fill(&mut site.edge);
        for saved in self.chains {
            let SavedChain { lineage, observations, omitted, held, raised } = saved;
            let mut chain = Chain::default();
            for finding in observations {
                let observation = Observation::from(finding);
                let place = || Place { workload: self.key.clone(), lineage: lineage.clone() };
                engine.places.note(observation.id, observation.counts(), place);
                chain.insert(observation, engine.config.observations_per_chain);
            }
            [chain.pivots.omitted, chain.contacts.omitted, chain.ordinary.omitted] = omitted;
            chain.held = held.into_iter().map(|kept| (kept.id, kept)).collect();
            chain.raised = raised;
            site.chains.insert(lineage, chain);
        }
        site.due = self.due;
        engine.due.entry(site.due).or_default().push(self.key.clone());
        engine.sites.insert(self.key, site);
    }
}

impl SavedChain {
    fn of(lineage: &Lineage, chain: &Chain) -> Self {
        Self {
            lineage: lineage.clone(),
            observations: chain.iter().map(|observation| observation.finding.clone()).collect(),
            omitted: [&chain.pivots, &chain.contacts, &chain.ordinary].map(|set| set.omitted.clone()),
            held: chain.held.values().cloned().collect(),
            raised: chain.raised.clone(),
        }
    }
}
