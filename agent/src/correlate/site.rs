//! All that is remembered of one workload: its chains of observations and its requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::evidence::{Novelty, Placement};
use crate::incident::{Echo, Incident};
use crate::timestamp::Timestamp;

use super::chance::Rates;
use super::edge_memory::EdgeMemory;
use super::kept::{Kept, RequestId};
use super::observation::{Lineage, Observation};
use super::observation_set::{Give, Insertion, ObservationSet};

/// One workload.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) chains: BTreeMap<Lineage, Chain>,
    pub(super) edge: EdgeMemory,
    pub(super) rates: Rates,
    /// Event time of the latest thing heard of it; the workload unheard of the longest goes first.
    pub(super) touched: Timestamp,
    /// The minute in which it is to be looked at again.
    pub(super) due: i64,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            chains: BTreeMap::new(),
            edge: EdgeMemory::default(),
            rates: Rates::default(),
            touched: Timestamp::default(),
            due: Self::NOT_DUE,
        }
    }
}

/// Everything observed under one root process.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// Odd findings on the host: each can open an incident.
    pub(super) pivots: ObservationSet,
    /// New external peers.
    pub(super) contacts: ObservationSet,
    /// What is ordinary here by itself, and counts only together with a request.
    pub(super) ordinary: ObservationSet,
    /// Requests named in an open incident: they stay for as long as it does.
    pub(super) held: BTreeMap<RequestId, Arc<Kept>>,
    /// Incidents raised from this chain and not yet settled, by id.
    pub(super) raised: BTreeMap<String, Raised>,
}

/// The last revision that went out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Raised {
    pub(super) incident: Incident,
    /// When, by the engine's time.
    pub(super) notified: Timestamp,
    /// Something changed since that is without haste.
    pub(super) waits: bool,
}

impl Site {
    /// No minute is noted.
    pub(super) const NOT_DUE: i64 = i64::MAX;

    /// Whether an incident is open on it.
    pub(super) fn is_open(&self) -> bool {
        self.chains.values().any(|chain| !chain.raised.is_empty())
    }

    /// Whether a request that an open incident holds asked for something that is ordinary by itself.
    pub(super) fn holds_what_asks_for(&self, seen: &Observation) -> bool {
        self.chains.values().flat_map(|chain| chain.held.values()).any(|kept| seen.may_echo(kept.keys()))
    }

    /// Whether something distinctive of a request's `echoes` was already seen here, when it was received or after.
    pub(super) fn echoed(&self, received: Timestamp, echoes: impl Fn(&Observation) -> Vec<Echo>) -> bool {
        let after = self.chains.values().flat_map(Chain::iter).filter(|seen| seen.at() >= received);
        after.map(echoes).any(|echoes| echoes.iter().any(|echo| echo.distinctive))
    }

    /// Makes room for a chain of `lineage` among at most `most`: the one over the longest goes, those with an open incident last
    /// and of these the least severe first: an intruder's noise must not push out the breach.
    /// Whether one had to go.
    pub(super) fn make_room(&mut self, lineage: &Lineage, most: usize) -> bool {
        if self.chains.contains_key(lineage) || self.chains.len() < most.max(1) {
            return false;
        }
        let oldest = self.chains.iter().min_by_key(|(_, chain)| {
            let severity = chain.raised.values().map(|raised| raised.incident.severity).max();
            (severity, !chain.pivots.is_empty(), chain.span().map(|(_, last)| last))
        });
        let oldest = oldest.map(|(lineage, _)| lineage.clone());
        oldest.is_some_and(|lineage| self.chains.remove(&lineage).is_some())
    }
}

impl Chain {
    /// Takes in an observation among at most `most` of its kind.
    pub(super) fn insert(&mut self, observation: Observation, most: usize) -> Insertion {
        let known = observation.novelty() == Novelty::Known;
        // The same event judged twice, once as odd and once as ordinary, stays where the odd judgement put it.
        if self.pivots.contains(observation.id) && !observation.is_pivot()
            || self.contacts.contains(observation.id) && known
        {
            return Insertion::Duplicate;
        }
        if observation.is_pivot() {
            self.ordinary.remove(observation.id);
            self.pivots.insert(observation, most, Give::Lightest)
        } else if observation.as_egress().is_some() && !known {
            self.ordinary.remove(observation.id);
            self.contacts.insert(observation, most, Give::Lightest)
        } else {
            self.ordinary.insert(observation, most, Give::Oldest)
        }
    }

    /// Whether what happened at `place` descends from something that an odd finding started.
    pub(super) fn started_any_of(&self, place: &Placement) -> bool {
        let mut started = self.pivots.iter().filter(|pivot| pivot.is_execution()).filter_map(Observation::process);
        started.any(|process| place.descends_from(process))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Observation> {
        self.pivots.iter().chain(self.contacts.iter()).chain(self.ordinary.iter())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pivots.is_empty() && self.contacts.is_empty() && self.ordinary.is_empty() && self.raised.is_empty()
    }

    /// First and last time observed.
    pub(super) fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let ends = |set: &ObservationSet| Some((set.iter().next()?.at(), set.iter().next_back()?.at()));
        [&self.pivots, &self.contacts, &self.ordinary]
            .into_iter()
            .filter_map(ends)
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Forgets observations before `horizon`, except those from `open` on, which an open incident is made of.
    pub(super) fn forget(&mut self, horizon: Timestamp, open: Option<Timestamp>) {
        let until = open.map_or(horizon, |open| open.min(horizon));
        for set in [&mut self.pivots, &mut self.contacts, &mut self.ordinary] {
            set.retain(|observation| observation.at() >= until);
        }
    }
}
