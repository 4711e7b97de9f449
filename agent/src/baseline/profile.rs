//! What one workload is known to do, and since when.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Config;
use super::cadence::{Cadence, Pace};
use crate::event::ProcessKey;
use crate::evidence::Novelty;
use crate::timestamp::Timestamp;

/// Different forms of one habit that show that the form is not what it is about.
const VARIANTS: usize = 3;

/// Peers known, and peers taken up in a day, from which on a workload reaches new ones as its business: crawlers, senders of
/// webhooks, previews of what users link to. Fewer would make one of every service that calls a dozen partners.
const OPEN_PEERS: usize = 32;
const OPEN_PEERS_PER_DAY: u64 = 8;

/// One thing a workload does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Habit {
    first: Timestamp,
    last: Timestamp,
    /// Digests of the first few different forms that it was seen in; 0 where there was none.
    #[serde(default, skip_serializing_if = "is_uniform")]
    variants: [u64; VARIANTS],
    /// How often it recurs, where that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cadence: Option<Box<Cadence>>,
}

fn is_uniform(variants: &[u64; VARIANTS]) -> bool {
    variants == &[0; VARIANTS]
}

impl Habit {
    const fn begun(at: Timestamp) -> Self {
        Self { first: at, last: at, variants: [0; VARIANTS], cadence: None }
    }

    fn note_variant(&mut self, digest: u64) {
        if !self.variants.contains(&digest)
            && let Some(free) = self.variants.iter_mut().find(|slot| **slot == 0)
        {
            *free = digest;
        }
    }

    fn join(&mut self, other: &Self) {
        (self.first, self.last) = (self.first.min(other.first), self.last.max(other.last));
        match (&mut self.cadence, &other.cadence) {
            (Some(own), Some(theirs)) => own.join(theirs),
            (own, theirs) => *own = own.take().or_else(|| theirs.clone()),
        }
        other.variants.iter().filter(|digest| **digest != 0).for_each(|digest| self.note_variant(*digest));
    }
}

/// Kind of habit: each has a bound of its own, so that a busy crawler's peers do not push out its shells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// External peers.
    Peer,
    /// Callers of metadata endpoints.
    Caller,
    /// Programs started that run what they are told.
    Shell,
}

/// What became of a habit's registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Registration {
    /// It was known, or is known now.
    Kept,
    /// It took the place of the one unseen for longest.
    KeptForAnother,
    /// A bound refused it.
    Refused,
}

/// One workload's habits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Profile {
    pub(super) first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    /// An incident is open: nothing is learned.
    #[serde(default)]
    pub(super) frozen: bool,
    habits: BTreeMap<Kind, BTreeMap<String, Habit>>,
    /// Day (whole days since 1970) that `additions` counts for.
    #[serde(default)]
    day: i64,
    #[serde(default)]
    additions: u32,
}

impl Profile {
    pub(super) const fn new(at: Timestamp) -> Self {
        Self { first_seen: at, last_seen: at, frozen: false, habits: BTreeMap::new(), day: 0, additions: 0 }
    }

    pub(super) fn touch(&mut self, at: Timestamp) {
        self.first_seen = self.first_seen.min(at);
        self.last_seen = self.last_seen.max(at);
    }

    /// Other hosts know the workload since then: what it takes up here from now on has to settle, as anywhere.
    pub(super) fn known_since(&mut self, since: Option<Timestamp>) {
        self.first_seen = since.map_or(self.first_seen, |since| self.first_seen.min(since));
    }

    pub(super) fn is_learning(&self, config: &Config, at: Timestamp) -> bool {
        at.since(self.first_seen) < config.learn_for
    }

    /// What is known of a habit. One acquired after the learning time counts as known only when it has settled.
    pub(super) fn novelty(&self, config: &Config, kind: Kind, name: &str, at: Timestamp) -> Novelty {
        let known = self.habits.get(&kind).and_then(|habits| habits.get(name)).is_some_and(|habit| {
            let learned = habit.first.since(self.first_seen) < config.learn_for;
            let settled = at.since(habit.first) >= config.settle_after;
            (learned || settled) && at.since(habit.last) < config.forget_after
        });
        match (known, self.is_learning(config, at)) {
            (true, _) => Novelty::Known,
            (false, true) => Novelty::NewWhileLearning,
            (false, false) => Novelty::New,
        }
    }

    /// Registers that the workload did it.
    pub(super) fn register(&mut self, config: &Config, kind: Kind, name: &str, at: Timestamp) -> Registration {
        if self.frozen {
            return Registration::Refused;
        }
        let learning = self.is_learning(config, at);
        let habits = self.habits.entry(kind).or_default();
        if let Some(habit) = habits.get_mut(name)
            && at.since(habit.last) < config.forget_after
        {
            habit.first = habit.first.min(at);
            habit.last = habit.last.max(at);
            return Registration::Kept;
        }
        let full = habits.len() >= config.max_habits(kind);
        if !learning && !Self::may_add(&mut self.day, &mut self.additions, config, at) || learning && full {
            return Registration::Refused;
        }
        if full && let Some(oldest) = habits.iter().min_by_key(|(name, habit)| (habit.last, *name)) {
            let oldest = oldest.0.clone();
            habits.remove(&oldest);
        }
        habits.insert(name.to_owned(), Habit::begun(at));
        if full { Registration::KeptForAnother } else { Registration::Kept }
    }

    /// Notes in which form a registered habit was seen.
    pub(super) fn note_variant(&mut self, kind: Kind, name: &str, digest: u64) {
        if !self.frozen
            && let Some(habit) = self.habits.get_mut(&kind).and_then(|habits| habits.get_mut(name))
        {
            habit.note_variant(digest.max(1));
        }
    }

    /// How a call fits the times at which it comes as a rule.
    pub(super) fn pace(&self, kind: Kind, name: &str, process: ProcessKey, at: Timestamp) -> Pace {
        let habit = self.habits.get(&kind).and_then(|habits| habits.get(name));
        let pace = |habit: &Habit| Some(habit.cadence.as_ref()?.pace(process, at, at.since(habit.first)));
        habit.and_then(pace).unwrap_or(Pace::Unknown)
    }

    /// Notes a call of a registered habit.
    pub(super) fn note_call(&mut self, kind: Kind, name: &str, process: ProcessKey, at: Timestamp) {
        let learned = !self.frozen;
        if let Some(habit) = self.habits.get_mut(&kind).and_then(|habits| habits.get_mut(name)) {
            habit.cadence.get_or_insert_default().note(process, at, learned);
        }
    }

    /// Whether a habit is known whose name begins so, another than this one.
    pub(super) fn has_another(&self, kind: Kind, prefix: &str, name: &str) -> bool {
        let from = self.habits.get(&kind).into_iter().flat_map(|habits| habits.range(prefix.to_owned()..));
        from.map(|(known, _)| known).take_while(|known| known.starts_with(prefix)).any(|known| known != name)
    }

    /// Whether a habit was seen in so many forms that another one is nothing new.
    pub(super) fn varies(&self, kind: Kind, name: &str) -> bool {
        let habit = self.habits.get(&kind).and_then(|habits| habits.get(name));
        habit.is_some_and(|habit| !habit.variants.contains(&0))
    }

    /// Whether reaching peers that it never reached before is what the workload does all day.
    pub(super) fn reaches_anyone(&self, at: Timestamp) -> bool {
        const DAY_SECONDS: u64 = 86_400;
        let peers = self.habits.get(&Kind::Peer).map_or(0, BTreeMap::len);
        let days = at.since(self.first_seen).as_secs() / DAY_SECONDS + 1;
        peers >= OPEN_PEERS && peers as u64 >= OPEN_PEERS_PER_DAY * days.min(30)
    }

    /// Forgets everything acquired at or after `since`: it may be the intruder's doing.
    pub(super) fn unlearn(&mut self, since: Timestamp) {
        for habits in self.habits.values_mut() {
            habits.retain(|_, habit| habit.first < since);
        }
    }

    /// Drops what has not been seen for the forgetting time.
    pub(super) fn prune(&mut self, config: &Config, at: Timestamp) {
        for habits in self.habits.values_mut() {
            habits.retain(|_, habit| at.since(habit.last) < config.forget_after);
        }
    }

    /// Keeps the habits seen last, as many as the bounds allow.
    pub(super) fn shrink(&mut self, config: &Config) {
        for (kind, habits) in &mut self.habits {
            let max = config.max_habits(*kind);
            if habits.len() > max {
                let mut sorted: Vec<_> = std::mem::take(habits).into_iter().collect();
                sorted.sort_by_key(|(_, habit)| std::cmp::Reverse(habit.last));
                sorted.truncate(max);
                *habits = sorted.into_iter().collect();
            }
        }
    }

    /// Takes over what another host learned of the same workload.
    pub(super) fn merge(&mut self, config: &Config, other: &Self) {
        self.first_seen = self.first_seen.min(other.first_seen);
        self.last_seen = self.last_seen.max(other.last_seen);
        for (kind, theirs) in &other.habits {
            let ours = self.habits.entry(*kind).or_default();
            for (name, habit) in theirs {
                if let Some(own) = ours.get_mut(name) {
                    own.join(habit);
                } else if ours.len() < config.max_habits(*kind) {
                    ours.insert(name.clone(), habit.clone());
                }
            }
        }
    }

    /// The habits that count as known, each with when it began: the `max` seen last.
    pub(super) fn known(&self, config: &Config, kind: Kind, max: usize, at: Timestamp) -> BTreeMap<String, Timestamp> {
        let habits = self.habits.get(&kind).into_iter().flatten();
        let mut known: Vec<_> =
            habits.filter(|(name, _)| self.novelty(config, kind, name, at) == Novelty::Known).collect();
        known.sort_unstable_by_key(|(name, habit)| (std::cmp::Reverse(habit.last), *name));
        known.into_iter().take(max).map(|(name, habit)| (name.clone(), habit.first)).collect()
    }

    pub(super) fn names(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.habits.get(&kind).into_iter().flat_map(|habits| habits.keys().map(String::as_str))
    }

    fn may_add(day: &mut i64, additions: &mut u32, config: &Config, at: Timestamp) -> bool {
        const DAY_NANOS: i64 = 86_400_000_000_000;
        let today = at.as_unix_nanos().div_euclid(DAY_NANOS);
        if *day != today {
            (*day, *additions) = (today, 0);
        }
        *additions += 1;
        *additions <= config.additions_per_day
    }
}
