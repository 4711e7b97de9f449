//! The requests of one workload that may yet matter. In: judged and ordinary requests, by event time. Out: those that could
//! explain a finding at a given time. A flood cannot flush it: each minute keeps the best few of each attack class, the
//! total is capped by evicting the least promising first, and ordinary requests live in a ring of their own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::request::{AttackClass, Verdict};
use crate::timestamp::Timestamp;

use super::fingerprint::Hashed;
use super::kept::{Kept, Rank, RequestId};
use super::observation::Observation;

/// Requests kept for each class in each minute. More would only repeat the same class; fewer would leave no candidates.
const PER_CLASS: usize = 3;
/// Requests kept in each minute because a finding fell into their window; bounds what one finding on a busy site can hold.
const NEAR_PER_MINUTE: usize = 64;
const MINUTE_NS: i64 = 60_000_000_000;

/// Requests by minute of event time.
#[derive(Debug, Default)]
pub(super) struct EdgeMemory {
    minutes: BTreeMap<i64, Minute>,
    /// Every request with the list that it is in, least promising first.
    ranked: BTreeSet<(Rank, List)>,
    /// How many of them name each thing to look for, by its key.
    named: HashMap<u64, u32, Hashed>,
    /// How many name something that has no key.
    keyless: usize,
    longest: Duration,
}

/// A list of one minute: that of a class, or of requests in whose window a finding fell.
type List = Option<AttackClass>;

#[derive(Debug, Default)]
struct Minute {
    classes: BTreeMap<AttackClass, Vec<Arc<Kept>>>,
    near: Vec<Near>,
    /// Longest flight of any of its requests, so far.
    longest: Duration,
    /// What any of its requests named, so far.
    names: Names,
}

/// Keys of what is looked for; more than a few count as anything.
#[derive(Debug, Default)]
struct Names {
    keys: Vec<u64>,
    any: bool,
}

/// Keys noted of one minute: what scanners send names little, and a flood must not make the list long.
const NAMES_MAX: usize = 32;

impl Names {
    fn add(&mut self, key: Option<u64>) {
        match key {
            _ if self.any => {}
            Some(key) if self.keys.contains(&key) => {}
            Some(key) if self.keys.len() < NAMES_MAX => self.keys.push(key),
            // In a flood there are many such minutes.
            _ => *self = Self { any: true, keys: Vec::new() },
        }
    }

    /// Whether any of `keys`, which are sorted, may be among them.
    fn may_hold(&self, keys: &[u64]) -> bool {
        self.any || self.keys.iter().any(|key| keys.binary_search(key).is_ok())
    }
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
        if held.iter().any(|other| other.id == kept.id) {
            return;
        }
        let place = held.partition_point(|other| other.rank() > kept.rank());
        if place >= PER_CLASS {
            return;
        }
        held.insert(place, Arc::clone(kept));
        let gone = if held.len() > PER_CLASS { held.pop() } else { None };
        self.enter(kept, Some(class));
        gone.iter().for_each(|gone| self.leave(gone, Some(class)));
    }

    /// Keeps a request in whose window a finding fell.
    pub(super) fn keep_near(&mut self, kept: &Arc<Kept>, strict: bool) {
        let near = &mut self.minutes.entry(minute_of(kept.id.received)).or_default().near;
        let offer = Near { strict, kept: Arc::clone(kept) };
        if let Some(at) = near.iter().position(|other| other.kept.id == kept.id) {
            // A second finding may have fallen into the window more strictly than the first.
            if near[at].strict || !strict {
                return;
            }
            let known = near.remove(at);
            self.leave(&known.kept, None);
        }
        let near = &mut self.minutes.entry(minute_of(kept.id.received)).or_default().near;
        let place = near.partition_point(|other| other.rank() > offer.rank());
        if place >= NEAR_PER_MINUTE {
            return;
        }
        near.insert(place, offer);
        let gone = if near.len() > NEAR_PER_MINUTE { near.pop() } else { None };
        self.enter(kept, None);
        gone.iter().for_each(|gone| self.leave(&gone.kept, None));
    }

    fn enter(&mut self, kept: &Kept, list: List) {
        self.ranked.insert((kept.rank(), list));
        let flight = kept.request.completed.since(kept.request.received);
        self.longest = self.longest.max(flight);
        if let Some(minute) = self.minutes.get_mut(&minute_of(kept.id.received)) {
            minute.longest = minute.longest.max(flight);
            kept.keys().iter().for_each(|key| minute.names.add(*key));
        }
        for key in kept.keys() {
            match *key {
                Some(key) => *self.named.entry(key).or_default() += 1,
                None => self.keyless += 1,
            }
        }
    }

    fn leave(&mut self, kept: &Kept, list: List) {
        self.ranked.remove(&(kept.rank(), list));
        for key in kept.keys() {
            let Some(key) = *key else {
                self.keyless -= 1;
                continue;
            };
            if let Some(count) = self.named.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.named.remove(&key);
                }
            }
        }
    }

    /// Gives up the least promising requests beyond `capacity`; how many went.
    pub(super) fn shrink(&mut self, capacity: usize) -> u64 {
        (capacity.max(1)..self.ranked.len()).take_while(|_| self.evict_least()).count() as u64
    }

    /// Drops the least promising request of all.
    fn evict_least(&mut self) -> bool {
        let Some((rank, list)) = self.ranked.first().copied() else { return false };
        let minute = self.minutes.get_mut(&minute_of(rank.id().received));
        let gone = minute.and_then(|minute| match list {
            Some(class) => take(minute.classes.get_mut(&class)?, |kept| kept.id == rank.id()),
            None => take(&mut minute.near, |near| near.kept.id == rank.id()).map(|near| near.kept),
        });
        match gone {
            Some(gone) => self.leave(&gone, list),
            None => drop(self.ranked.pop_first()),
        }
        true
    }

    /// Whether a request asked for what is ordinary by itself: it was in flight then, skew allowed for, and something that it named
    /// reappears there. For a contact it is enough that something distinctive does, named no longer than `lateness` before.
    pub(super) fn asks_for(&self, seen: &Observation, skew: Duration, lateness: Duration) -> bool {
        if self.keyless == 0 && !seen.keys().iter().any(|key| self.named.contains_key(key)) {
            return false;
        }
        let before = if seen.as_egress().is_some() { lateness } else { skew };
        let at = seen.at();
        self.around(at.minus(before), at.plus(skew)).any(|kept| {
            seen.may_echo(kept.keys()) && {
                let pinned = kept.request.received <= at.plus(skew) && at <= kept.request.completed.plus(skew);
                let echoes = seen.echoes_of(kept);
                if pinned { !echoes.is_empty() } else { echoes.iter().any(|echo| echo.distinctive) }
            }
        })
    }

    /// Requests received from `from` to `to`, and earlier ones that may still have been in flight at `from`; some of them twice.
    fn around(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &Arc<Kept>> {
        self.minutes_around(from, to).flat_map(|(_, minute)| minute.iter())
    }

    /// Of these, at least those that name any of `keys`, which are sorted, and those of a minute that is `near`, given the earliest
    /// reception and the latest completion of its requests. Hours of them stand against few observations: whole minutes are let go by
    /// one look.
    pub(super) fn around_any<'m>(
        &'m self,
        (from, to): (Timestamp, Timestamp),
        keys: &[u64],
        near: impl Fn(Timestamp, Timestamp) -> bool,
    ) -> impl Iterator<Item = &'m Arc<Kept>> {
        let meant = move |(minute, held): &(&i64, &Minute)| {
            held.names.may_hold(keys) || near(start_of(**minute), start_of(**minute + 1).plus(held.longest))
        };
        self.minutes_around(from, to).filter(meant).flat_map(|(_, minute)| minute.iter())
    }

    fn minutes_around(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = (&i64, &Minute)> {
        let (first, last) = (minute_of(from.minus(self.longest)), minute_of(to));
        let range = if first <= last { first..=last } else { last..=last };
        let start = minute_of(from);
        let flown = move |(minute, held): &(&i64, &Minute)| {
            **minute >= start || minute_of(start_of(**minute + 1).plus(held.longest)) >= start
        };
        self.minutes.range(range).filter(flown)
    }

    /// Forgets what was received before `horizon`.
    pub(super) fn evict_before(&mut self, horizon: Timestamp) {
        let rest = self.minutes.split_off(&minute_of(horizon));
        for minute in std::mem::replace(&mut self.minutes, rest).into_values() {
            for (class, kept) in &minute.classes {
                kept.iter().for_each(|kept| self.leave(kept, Some(*class)));
            }
            minute.near.iter().for_each(|near| self.leave(&near.kept, None));
        }
        self.longest = self.minutes.values().map(|minute| minute.longest).max().unwrap_or_default();
    }

    /// When the earliest request was received, to the minute.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        self.minutes.keys().next().map(|minute| start_of(*minute))
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
    pub(super) fn len(&self) -> usize {
        self.ranked.len()
    }
}

impl Minute {
    fn iter(&self) -> impl Iterator<Item = &Arc<Kept>> {
        self.classes.values().flatten().chain(self.near.iter().map(|near| &near.kept))
    }
}

fn minute_of(at: Timestamp) -> i64 {
    at.as_unix_nanos().div_euclid(MINUTE_NS)
}

fn start_of(minute: i64) -> Timestamp {
    Timestamp::from_unix_nanos(minute.saturating_mul(MINUTE_NS))
}

/// Takes the last that is meant out of a list.
fn take<T>(list: &mut Vec<T>, meant: impl Fn(&T) -> bool) -> Option<T> {
    list.iter().rposition(meant).map(|place| list.remove(place))
}
