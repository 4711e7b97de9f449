//! The requests of one workload that may yet matter. In: judged and ordinary requests, by event time. Out: those that could
//! explain a finding at a given time. A flood cannot flush it: each minute keeps the best few of each attack class, the
//! total is capped by evicting the least promising first, and ordinary requests live in a ring of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::request::{AttackClass, Verdict};
use crate::timestamp::Timestamp;

use super::kept::{Kept, Rank, RequestId};

/// Requests kept for each class in each minute. More would only repeat the same class; fewer would leave no candidates.
const PER_CLASS: usize = 3;
/// Requests kept in each minute because a finding fell into their window; bounds what one finding on a busy site can hold.
const NEAR_PER_MINUTE: usize = 64;
const MINUTE_NS: i64 = 60_000_000_000;

/// Requests by minute of event time.
#[derive(Debug, Default)]
pub(super) struct EdgeMemory {
    minutes: BTreeMap<i64, Minute>,
    count: usize,
    longest: Duration,
}

#[derive(Debug, Default)]
struct Minute {
    classes: BTreeMap<AttackClass, Vec<Arc<Kept>>>,
    near: Vec<Near>,
}

/// A request in whose window a finding fell.
#[derive(Debug, Clone)]
struct Near {
    /// In flight even without allowing for skew.
    strict: bool,
    kept: Arc<Kept>,
}

impl Near {
    fn rank(&self) -> (bool, Rank) {
        (self.strict, self.kept.rank())
    }
}

impl EdgeMemory {
    /// Whether a judged request of this rank would be kept; asked before anything is copied.
    pub(super) fn wants(&self, class: AttackClass, rank: Rank, id: RequestId) -> bool {
        let Some(minute) = self.minutes.get(&minute_of(id.received)) else { return true };
        let Some(held) = minute.classes.get(&class) else { return true };
        held.len() < PER_CLASS || held.last().is_some_and(|weakest| weakest.rank() < rank)
    }

    /// Whether a request in whose window a finding fell would be kept.
    pub(super) fn wants_near(&self, strict: bool, rank: Rank, id: RequestId) -> bool {
        let Some(minute) = self.minutes.get(&minute_of(id.received)) else { return true };
        minute.near.len() < NEAR_PER_MINUTE || minute.near.last().is_some_and(|weakest| weakest.rank() < (strict, rank))
    }

    /// Keeps a judged request if it is among the best of its class and minute.
    pub(super) fn keep_judged(&mut self, kept: &Arc<Kept>) {
        let Some(class) = kept.verdict.as_ref().map(|verdict: &Verdict| verdict.class) else { return };
        let held = self.minutes.entry(minute_of(kept.id.received)).or_default().classes.entry(class).or_default();
        let before = held.len();
        if held.iter().any(|other| other.id == kept.id) {
            return;
        }
        let place = held.partition_point(|other| other.rank() > kept.rank());
        if place >= PER_CLASS {
            return;
        }
        held.insert(place, Arc::clone(kept));
        held.truncate(PER_CLASS);
        self.count += held.len() - before;
        self.note_flight(kept);
    }

    /// Keeps a request in whose window a finding fell.
    pub(super) fn keep_near(&mut self, kept: &Arc<Kept>, strict: bool) {
        let near = &mut self.minutes.entry(minute_of(kept.id.received)).or_default().near;
        let before = near.len();
        let offer = Near { strict, kept: Arc::clone(kept) };
        if let Some(at) = near.iter().position(|other| other.kept.id == kept.id) {
            // A second finding may have fallen into the window more strictly than the first.
            if near[at].strict || !strict {
                return;
            }
            near.remove(at);
        }
        let place = near.partition_point(|other| other.rank() > offer.rank());
        if place >= NEAR_PER_MINUTE {
            return;
        }
        near.insert(place, offer);
        near.truncate(NEAR_PER_MINUTE);
        self.count = self.count + near.len() - before;
        self.note_flight(kept);
    }

    fn note_flight(&mut self, kept: &Kept) {
        self.longest = self.longest.max(kept.request.completed.since(kept.request.received));
    }

    /// Gives up the least promising requests beyond `capacity`; how many went.
    pub(super) fn shrink(&mut self, capacity: usize) -> u64 {
        (capacity.max(1)..self.count).take_while(|_| self.evict_least()).count() as u64
    }

    /// Drops the least promising request of all. A linear look, but at most a few requests a minute pass the quotas of a full memory.
    fn evict_least(&mut self) -> bool {
        let judged = self.minutes.iter().flat_map(|(minute, held)| {
            held.classes.iter().filter_map(|(class, kept)| Some((kept.last()?.rank(), *minute, Some(*class))))
        });
        let near =
            self.minutes.iter().filter_map(|(minute, held)| Some((held.near.last()?.kept.rank(), *minute, None)));
        let Some((_, minute, class)) = judged.chain(near).min_by_key(|(rank, ..)| *rank) else { return false };
        if let Some(held) = self.minutes.get_mut(&minute) {
            match class {
                Some(class) => drop(held.classes.get_mut(&class).and_then(Vec::pop)),
                None => drop(held.near.pop()),
            }
            self.count -= 1;
        }
        true
    }

    /// Whether a request that names something to look for was in flight at `at`, skew allowed for.
    pub(super) fn asks_at(&self, at: Timestamp, skew: Duration) -> bool {
        let minutes = minute_of(at.minus(self.longest).minus(skew))..=minute_of(at.plus(skew));
        let asks = |kept: &Arc<Kept>| {
            kept.verdict.as_ref().is_some_and(|verdict| !verdict.indicators.is_empty())
                && kept.request.received <= at.plus(skew)
                && at <= kept.request.completed.plus(skew)
        };
        self.minutes.range(minutes).any(|(_, minute)| minute.iter().any(asks))
    }

    /// Requests received from `from` to `to`, and earlier ones that may still have been in flight at `from`; some of them twice.
    pub(super) fn around(&self, from: Timestamp, to: Timestamp) -> Vec<&Arc<Kept>> {
        let (first, last) = (minute_of(from.minus(self.longest)), minute_of(to));
        let range = if first <= last { first..=last } else { last..=last };
        self.minutes.range(range).flat_map(|(_, minute)| minute.iter()).collect()
    }

    /// Forgets what was received before `horizon`.
    pub(super) fn evict_before(&mut self, horizon: Timestamp) {
        self.minutes = self.minutes.split_off(&minute_of(horizon));
        self.count = self.minutes.values().map(Minute::len).sum();
    }

    /// Everything kept, and whether it is kept for a finding in its window (strictly or not): what a checkpoint saves.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<Kept>, Option<bool>)> {
        self.minutes.values().flat_map(|minute| {
            let judged = minute.classes.values().flatten().map(|kept| (kept, None));
            judged.chain(minute.near.iter().map(|near| (&near.kept, Some(near.strict))))
        })
    }

    /// How many requests are kept.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.count
    }
}

impl Minute {
    fn iter(&self) -> impl Iterator<Item = &Arc<Kept>> {
        self.classes.values().flatten().chain(self.near.iter().map(|near| &near.kept))
    }

    fn len(&self) -> usize {
        self.classes.values().map(Vec::len).sum::<usize>() + self.near.len()
    }
}

fn minute_of(at: Timestamp) -> i64 {
    at.as_unix_nanos().div_euclid(MINUTE_NS)
}
