//! Where observations are, by time: which chains a request concerns is found without a look at all of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

use super::observation::{Lineage, ObservationId};

/// Observations looked at for one request's window; more would only repeat the same few chains.
const LOOKS_MAX: usize = 64;
/// Observations of each kind whose time is indexed; past it the earliest goes, and requests that arrive later are not looked at
/// for its sake.
const PLACES_MAX: usize = 65_536;

/// Where an observation is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) workload: WorkloadKey,
    pub(super) lineage: Lineage,
}

/// The index.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Of observations that count by themselves.
    odd: BTreeMap<ObservationId, Place>,
    /// Of those that only concern requests that asked for them.
    ordinary: BTreeMap<ObservationId, Place>,
}

impl Places {
    /// Notes an observation; one that turned out to be odd is no longer ordinary.
    pub(super) fn note(&mut self, id: ObservationId, odd: bool, place: impl FnOnce() -> Place) {
        if odd && !self.ordinary.is_empty() {
            self.ordinary.remove(&id);
        }
        let into = if odd { &mut self.odd } else { &mut self.ordinary };
        into.insert(id, place());
        if into.len() > PLACES_MAX {
            into.pop_first();
        }
    }

    /// Whether an odd observation lies between the two, skew allowed for, and whether one does without it.
    pub(super) fn odd_within(&self, from: Timestamp, to: Timestamp, skew: Duration) -> (bool, bool) {
        if self.odd.is_empty() {
            return (false, false);
        }
        let mut found = self.odd.range(window(from.minus(skew), to.plus(skew))).map(|(id, _)| id.at).peekable();
        (found.peek().is_some(), found.take(LOOKS_MAX).any(|at| from <= at && at <= to))
    }

    /// The same for ordinary ones.
    pub(super) fn ordinary_within(&self, from: Timestamp, to: Timestamp, skew: Duration) -> bool {
        self.ordinary.range(window(from.minus(skew), to.plus(skew))).next().is_some()
    }

    /// Where odd observations lie between the two; some of them twice.
    pub(super) fn odd(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &Place> {
        self.odd.range(window(from, to)).take(LOOKS_MAX).map(|(_, place)| place)
    }

    /// The same for ordinary ones.
    pub(super) fn ordinary(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &Place> {
        self.ordinary.range(window(from, to)).take(LOOKS_MAX).map(|(_, place)| place)
    }

    /// Forgets what was before `horizon`.
    pub(super) fn forget(&mut self, horizon: Timestamp) {
        for places in [&mut self.odd, &mut self.ordinary] {
            *places = places.split_off(&ObservationId::first_at(horizon));
        }
    }

    /// Forgets what is after `latest`.
    pub(super) fn forget_after(&mut self, latest: Timestamp) {
        for places in [&mut self.odd, &mut self.ordinary] {
            places.split_off(&ObservationId::first_at(latest));
        }
    }
}

fn window(from: Timestamp, to: Timestamp) -> Range<ObservationId> {
    ObservationId::first_at(from)..ObservationId::first_at(to.max(from))
}
