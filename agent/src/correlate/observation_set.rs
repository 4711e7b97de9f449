//! A bounded set of observations in event-time order. What it holds depends on what was inserted, never on the order.

use std::collections::BTreeMap;

use super::distinct::Distinct;
use super::fingerprint;
use super::observation::{Observation, ObservationId};

/// The set.
#[derive(Debug, Default)]
pub(super) struct ObservationSet {
    // Boxed: evidence is large, and sorted insertion moves what is beside it.
    held: BTreeMap<ObservationId, Box<Observation>>,
    /// How many of each kind: executions, other findings, contacts.
    kinds: [usize; 3],
    /// What found no room, counted once each.
    pub(super) omitted: Distinct,
}

/// Which observations a full set gives up.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Give {
    /// The lightest, of those the latest, never the first of all: the start of a chain is what explains it.
    Lightest,
    /// The oldest of its kind, each kind having so many: ordinary things matter only near the request that they happen in, whose line
    /// may be hours late, and calls to partners must not push out what was asked of a metadata service.
    Oldest,
}

/// What became of an insertion.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Insertion {
    /// New, or a weightier judgement of a known event.
    Changed,
    /// Known already.
    Duplicate,
    /// The set is full of better ones.
    Omitted,
}

impl ObservationSet {
    pub(super) fn insert(&mut self, observation: Observation, capacity: usize, give: Give) -> Insertion {
        let id = observation.id;
        if let Some(known) = self.held.get_mut(&id) {
            if judgement(known) >= judgement(&observation) {
                return Insertion::Duplicate;
            }
            **known = observation;
            return Insertion::Changed;
        }
        let own = kind(&observation);
        self.kinds[own] += 1;
        self.held.insert(id, Box::new(observation));
        let (held, capacity) = match give {
            Give::Lightest => (self.held.len(), capacity),
            Give::Oldest if own == ASKED => (self.kinds[own], capacity.saturating_mul(ASKED_SHARE)),
            Give::Oldest => (self.kinds[own], capacity),
        };
        if held <= capacity {
            return Insertion::Changed;
        }
        let gone = match give {
            Give::Oldest => self.held.iter().find(|(_, held)| kind(held) == own).map(|(id, _)| *id),
            Give::Lightest => {
                let others = self.held.iter().skip(1).rev();
                others.min_by(|a, b| a.1.weight().total_cmp(&b.1.weight())).map(|(id, _)| *id)
            }
        };
        let Some(gone) = gone else { return Insertion::Changed };
        self.remove(gone);
        self.omitted.add(fingerprint::of(&gone));
        if gone == id { Insertion::Omitted } else { Insertion::Changed }
    }

    pub(super) fn contains(&self, id: ObservationId) -> bool {
        self.held.contains_key(&id)
    }

    pub(super) fn remove(&mut self, id: ObservationId) {
        if let Some(gone) = self.held.remove(&id) {
            self.kinds[kind(&gone)] -= 1;
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Observation> {
        self.held.values().map(AsRef::as_ref)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Observation) -> bool) {
        let kinds = &mut self.kinds;
        self.held.retain(|_, observation| {
            let stays = keep(observation);
            kinds[kind(observation)] -= usize::from(!stays);
            stays
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// The kind of what was asked of a metadata service, and how much more room it has: a refresh is half a dozen steps, and six hours of
/// a few workers' must be there when the line of a forged request comes.
const ASKED: usize = 1;
const ASKED_SHARE: usize = 2;

fn kind(observation: &Observation) -> usize {
    if observation.is_execution() { 0 } else { ASKED + usize::from(observation.as_egress().is_some()) }
}

/// The weightier judgement of an event wins, then the one that knows its end, then the one that knows its middle; between equals
/// the content decides, so that order does not.
fn judgement(observation: &Observation) -> (u64, bool, bool, u64) {
    let content = fingerprint::of(&observation.finding);
    (observation.weight().to_bits(), observation.has_ended(), observation.has_greeted(), content)
}
