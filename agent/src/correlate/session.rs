//! A chain cut into sessions: what belongs together in time, with the requests tied to it. A pure function of what is held,
//! taken in canonical order; how and when it arrived leaves no trace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::evidence::Novelty;
use crate::incident::{Join, Timing};
use crate::timestamp::Timestamp;

use super::chance::Specificity;
use super::edge_memory::EdgeMemory;
use super::kept::{Kept, RequestId};
use super::observation::{Lineage, Observation, ObservationId};
use super::site::{Chain, Site};
use super::tie::{Scales, Tie};

/// A contact this long before the first finding may still belong to it: a helper process can be quicker than the shell's record.
const CONTACT_BEFORE: Duration = Duration::from_secs(120);
/// A contact of the service itself this long after a finding still counts; later ones are its ordinary business.
const CONTACT_AFTER: Duration = Duration::from_secs(3600);
/// The same for a contact by another lineage of the workload.
const FOREIGN_CONTACT_AFTER: Duration = Duration::from_secs(600);
/// Least weight of a request that makes a contact of the service itself, without any finding, the start of a session.
const IN_PROCESS_WEIGHT: f64 = 4.0;

/// A request and the observation that it is best tied to.
#[derive(Clone)]
pub(super) struct Match<'s> {
    pub(super) kept: &'s Arc<Kept>,
    pub(super) on: &'s Observation,
    pub(super) tie: Tie,
}

/// One session.
pub(super) struct Session<'s> {
    /// Findings on the host, in order.
    pub(super) findings: Vec<&'s Observation>,
    /// Contacts that belong to them, in order, with their join.
    pub(super) contacts: Vec<(&'s Observation, Join)>,
    /// Requests that may have done it, best first.
    pub(super) requests: Vec<Match<'s>>,
    /// Requests in flight at the observation that the best one is tied to.
    pub(super) in_flight: u64,
    /// Contacts that are here because a request is tied to them, not because of a finding.
    pub(super) in_process: BTreeSet<ObservationId>,
}

impl Session<'_> {
    /// First and last event time of what opened it.
    pub(super) fn span(&self) -> (Timestamp, Timestamp) {
        let contacts = self.contacts.iter().map(|(contact, _)| contact.at());
        let mut at: Vec<_> = self.findings.iter().map(|finding| finding.at()).chain(contacts).collect();
        at.sort_unstable();
        (at.first().copied().unwrap_or_default(), at.last().copied().unwrap_or_default())
    }

    /// What it starts with: the first finding, else the first contact.
    pub(super) fn anchor(&self) -> Option<&Observation> {
        self.findings.first().copied().or_else(|| self.contacts.first().map(|(contact, _)| *contact))
    }
}

/// The sessions of one chain.
pub(super) fn sessions<'s>(
    lineage: &Lineage,
    chain: &'s Chain,
    site: &'s Site,
    host: &'s EdgeMemory,
    scales: Scales<'_>,
) -> Vec<Session<'s>> {
    let mut observed: Vec<&Observation> = chain.iter().collect();
    observed.sort_by_key(|observation| observation.id);
    let matches = matches(&observed, chain, site, host, scales);
    let active: Vec<&Observation> =
        observed.iter().copied().filter(|seen| seen.is_pivot() || opened_by_request(seen, &matches)).collect();
    let mut sessions = Vec::new();
    for run in active.chunk_by(|a, b| b.at().since(a.at()) <= scales.config.quiet) {
        let (findings, in_process): (Vec<&Observation>, Vec<&Observation>) =
            run.iter().copied().partition(|seen| seen.as_host().is_some());
        let in_process: BTreeSet<_> = in_process.iter().map(|contact| contact.id).collect();
        let contacts = contacts(lineage, &observed, site, &findings, &in_process, scales.config.quiet);
        let scope: BTreeSet<_> =
            findings.iter().map(|seen| seen.id).chain(contacts.iter().map(|(contact, _)| contact.id)).collect();
        let requests = ranked(&matches, &scope);
        let in_flight = in_flight(&matches, requests.first());
        sessions.push(Session { findings, contacts, requests, in_flight, in_process });
    }
    sessions
}

fn matches<'s>(
    observed: &[&'s Observation],
    chain: &'s Chain,
    site: &'s Site,
    host: &'s EdgeMemory,
    scales: Scales<'_>,
) -> Vec<Match<'s>> {
    let (Some(first), Some(last)) = (observed.first(), observed.last()) else { return Vec::new() };
    let latest = last.at().plus(scales.config.skew);
    let mut requests: BTreeMap<RequestId, &'s Arc<Kept>> =
        site.edge.around(first.at().minus(scales.config.lateness), latest);
    requests.extend(host.around(first.at().minus(scales.config.tight), latest));
    requests.extend(chain.held.iter().map(|(id, kept)| (*id, kept)));
    let mut matches = Vec::new();
    for kept in requests.values() {
        for on in observed {
            if let Some(tie) = scales.tie(kept, on) {
                matches.push(Match { kept, on, tie });
            }
        }
    }
    matches
}

/// Whether a request makes an observation count that would not by itself: an ordinary finding that happens while a request that
/// asks for it is in flight; a contact of the service that a request asked for, or that happens while a rare exploit is in flight.
fn opened_by_request(seen: &Observation, matches: &[Match<'_>]) -> bool {
    let mut tied = matches
        .iter()
        .filter(|found| found.on.id == seen.id && found.kept.verdict.as_ref().is_some_and(|v| v.exploit_like()));
    if seen.as_host().is_some() {
        // Within the clocks' skew of a refresh there is, on a busy site, always some scanner that asks for the same: a request that
        // the service refused did not make it.
        let refused =
            |found: &Match<'_>| found.kept.request.target_status.is_some_and(|status| (400..500).contains(&status));
        return tied.any(|found| {
            let timing = found.tie.timing;
            let meant = timing == Timing::InFlight || (timing.pinned() && (found.tie.decisive() || !refused(found)));
            meant && !found.tie.echoes.is_empty()
        });
    }
    tied.any(|found| {
        let rare = found.tie.timing == Timing::InFlight && found.kept.specificity() == Specificity::Specific;
        found.tie.decisive()
            || (rare
                && matches!(seen.novelty(), Novelty::New | Novelty::Notorious)
                && found.tie.weight >= IN_PROCESS_WEIGHT)
    })
}

/// Contacts that belong to `findings`: below one of their processes at any time of the session, by the service itself near one of
/// them, or by another lineage of the same instance that has no finding of its own, nearer still.
fn contacts<'s>(
    lineage: &Lineage,
    observed: &[&'s Observation],
    site: &'s Site,
    findings: &[&Observation],
    in_process: &BTreeSet<ObservationId>,
    quiet: Duration,
) -> Vec<(&'s Observation, Join)> {
    let below = |contact: &Observation, finding: &Observation| {
        finding.is_execution() && finding.process().is_some_and(|process| contact.place().descends_from(process))
    };
    let within = |contact: &Observation, finding: &Observation, after: Duration| {
        finding.at().minus(CONTACT_BEFORE) <= contact.at() && contact.at() <= finding.at().plus(after)
    };
    let near = |contact: &Observation, after| findings.iter().any(|finding| within(contact, finding, after));
    let own = observed.iter().copied().filter(|seen| seen.as_egress().is_some()).filter_map(|contact| {
        if findings.iter().any(|finding| below(contact, finding) && within(contact, finding, quiet)) {
            return Some((contact, Join::Descendant));
        }
        let fresh = contact.novelty() != Novelty::Known && near(contact, CONTACT_AFTER);
        (fresh || in_process.contains(&contact.id)).then_some((contact, Join::SameWorkload))
    });
    let foreign = site
        .chains
        .iter()
        .filter(|(other, chain)| *other != lineage && other.cgroup == lineage.cgroup && chain.pivots.is_empty())
        .flat_map(|(_, chain)| chain.contacts.iter())
        .filter(|contact| near(contact, FOREIGN_CONTACT_AFTER))
        .map(|contact| (contact, Join::SameHost));
    let mut contacts: Vec<_> = own.chain(foreign).collect();
    contacts.sort_by_key(|(contact, _)| contact.id);
    contacts
}

/// Each request once, by its best tie within `scope`, best first.
fn ranked<'s>(matches: &[Match<'s>], scope: &BTreeSet<ObservationId>) -> Vec<Match<'s>> {
    let mut best: BTreeMap<RequestId, &Match<'s>> = BTreeMap::new();
    for found in matches.iter().filter(|found| scope.contains(&found.on.id)) {
        let entry = best.entry(found.kept.id).or_insert(found);
        if found.tie.rank > entry.tie.rank {
            *entry = found;
        }
    }
    let mut ranked: Vec<Match<'s>> = best.into_values().cloned().collect();
    ranked.sort_by(|a, b| b.tie.rank.total_cmp(&a.tie.rank).then(a.kept.id.cmp(&b.kept.id)));
    ranked
}

fn in_flight(matches: &[Match<'_>], best: Option<&Match<'_>>) -> u64 {
    let Some(best) = best.filter(|best| best.tie.timing.pinned()) else { return 0 };
    let beside = |least: Timing| {
        matches.iter().filter(|found| found.on.id == best.on.id && found.tie.timing >= least).count() as u64
    };
    beside(best.tie.timing)
}
