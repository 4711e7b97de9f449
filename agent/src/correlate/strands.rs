//! A session's observations by what hangs together: one line of processes, one moment, one request whose words reappear.
//!
//! What a service fetched because a user named it stands for itself: that it happens beside something else says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::kept::RequestId;
use super::observation::{Observation, ObservationId};
use super::score;
use super::session::{Match, Session};

/// Observations this close in time belong together without a line of processes between them.
const TOGETHER: Duration = Duration::from_secs(120);

/// The strands, each as the identities of its observations, in order of their first.
pub(super) fn of(session: &Session<'_>, matches: &[Match<'_>]) -> Vec<BTreeSet<ObservationId>> {
    let mut seen: Vec<&Observation> =
        session.findings.iter().copied().chain(session.contacts.iter().map(|(contact, _)| *contact)).collect();
    seen.sort_by_key(|seen| seen.id);
    seen.dedup_by_key(|seen| seen.id);
    let mut strands = Strands((0..seen.len()).collect());
    let fetched = fetched(&seen, matches);
    let mut others = (0..seen.len()).filter(|at| !fetched.contains(&seen[*at].id));
    let mut before = others.next();
    for at in others {
        if let Some(before) = before.filter(|before| seen[at].at().since(seen[*before].at()) <= TOGETHER) {
            strands.join(before, at);
        }
        before = Some(at);
    }
    for (at, started) in seen.iter().enumerate().filter(|(_, seen)| seen.is_execution()) {
        let Some(process) = started.process() else { continue };
        for below in (0..seen.len()).filter(|below| *below != at) {
            if seen[below].place().descends_from(process) {
                strands.join(at, below);
            }
        }
    }
    let mut echoed: BTreeMap<RequestId, usize> = BTreeMap::new();
    // What only names a place to fetch from reappears wherever that place does.
    for found in matches.iter().filter(|found| found.tie.decisive() && !score::only_names(found.kept)) {
        let Ok(at) = seen.binary_search_by_key(&found.on.id, |seen| seen.id) else { continue };
        let first = *echoed.entry(found.kept.id).or_insert(at);
        strands.join(first, at);
    }
    let mut found: BTreeMap<usize, BTreeSet<ObservationId>> = BTreeMap::new();
    for (at, seen) in seen.iter().enumerate() {
        found.entry(strands.head(at)).or_default().insert(seen.id);
    }
    found.into_values().collect()
}

/// What was fetched because a request named it, and what the program that fetched it reached.
fn fetched(seen: &[&Observation], matches: &[Match<'_>]) -> BTreeSet<ObservationId> {
    let named = |found: &&Match<'_>| score::only_names(found.kept) && score::stands_to_reason(found.on, found.kept);
    let mut fetched: BTreeSet<ObservationId> = BTreeSet::new();
    for found in matches.iter().filter(named) {
        fetched.insert(found.on.id);
        if let Some(process) = found.on.process().filter(|_| found.on.is_execution()) {
            let below = seen.iter().filter(|seen| seen.as_egress().is_some() && seen.place().descends_from(process));
            fetched.extend(below.map(|seen| seen.id));
        }
    }
    fetched
}

/// Disjoint sets; the head of each is its least member.
struct Strands(Vec<usize>);

impl Strands {
    fn head(&self, mut at: usize) -> usize {
        while self.0[at] != at {
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.head(one), self.head(other));
        self.0[one.max(other)] = one.min(other);
    }
}
