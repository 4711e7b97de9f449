//! A chain cut into sessions: what belongs together in time, with the requests tied to it. A pure function of what is held,
//! taken in canonical order; how and when it arrived leaves no trace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::evidence::{HostEvidence, Novelty};
use crate::incident::{Join, Severity, Timing};
use crate::request::Request;
use crate::timestamp::Timestamp;

use super::Config;
use super::chance::Specificity;
use super::edge_memory::EdgeMemory;
use super::kept::{Kept, RequestId};
use super::observation::{Lineage, Observation, ObservationId};
use super::score;
use super::site::{Chain, Site};
use super::strands;
use super::tie::{Scales, Tie};

/// A contact this long before the first finding may still belong to it: a helper process can be quicker than the shell's record.
const CONTACT_BEFORE: Duration = Duration::from_secs(120);
/// A contact of the service itself this long after a finding still counts; later ones are its ordinary business.
const CONTACT_AFTER: Duration = Duration::from_secs(3600);
/// The same for a contact by another lineage of the workload.
const FOREIGN_CONTACT_AFTER: Duration = Duration::from_secs(600);
/// Difference of clocks that are kept by NTP, and then some: what is ordinary by itself counts no further from its request.
const USUAL_SKEW: Duration = Duration::from_millis(200);
/// Least weight of a request that makes a contact of the service itself, without any finding or echo, the start of a session: a
/// content network that moves makes hundreds of contacts new for a day, and scanners' requests are in flight all the time.
const IN_PROCESS_WEIGHT: f64 = 6.5;

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
    /// What of it counts; `None` when all does. The rest is told, for it came after.
    pub(super) scope: Option<BTreeSet<ObservationId>>,
}

impl<'s> Session<'s> {
    /// The part of it that is made of these observations.
    pub(super) fn part(&self, ids: &BTreeSet<ObservationId>) -> Self {
        Session {
            findings: self.findings.iter().copied().filter(|seen| ids.contains(&seen.id)).collect(),
            contacts: self.contacts.iter().copied().filter(|(seen, _)| ids.contains(&seen.id)).collect(),
            requests: Vec::new(),
            in_flight: 0,
            in_process: self.in_process.intersection(ids).copied().collect(),
            scope: None,
        }
    }

    /// The part of it that counts, where not all does.
    pub(super) fn counted(&self) -> Option<Self> {
        let part = self.part(self.scope.as_ref()?);
        Some(Session { requests: self.requests.clone(), in_flight: self.in_flight, ..part })
    }

    /// With the requests tied to what is in `scope`, else to anything in it.
    fn with_requests(mut self, matches: &[Match<'s>], scope: Option<&BTreeSet<ObservationId>>) -> Self {
        let all = || {
            let contacts = self.contacts.iter().map(|(contact, _)| contact.id);
            self.findings.iter().map(|seen| seen.id).chain(contacts).collect()
        };
        let requests = ranked(matches, &scope.cloned().unwrap_or_else(all));
        self.in_flight = in_flight(matches, requests.first());
        self.requests = requests;
        self
    }

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
    let Config { skew, loose, .. } = *scales.config;
    let begun = observed.iter().any(|seen| seen.is_pivot()) || {
        // Nothing odd was found on the host, as on most days: only a request in flight, or one that names it, makes something begin.
        let pinned = matches(&observed, chain, site, host, scales, skew);
        observed.iter().any(|seen| opened_by_request(seen, &pinned))
    };
    if !begun {
        return Vec::new();
    }
    let matches = matches(&observed, chain, site, host, scales, loose);
    let active: Vec<&Observation> =
        observed.iter().copied().filter(|seen| seen.is_pivot() || opened_by_request(seen, &matches)).collect();
    let mut sessions = Vec::new();
    for run in active.chunk_by(|a, b| b.at().since(a.at()) <= scales.config.quiet) {
        let (mut findings, in_process): (Vec<&Observation>, Vec<&Observation>) =
            run.iter().copied().partition(|seen| seen.as_host().is_some());
        findings.sort_by_key(|finding| told_after(finding));
        let in_process: BTreeSet<_> = in_process.iter().map(|contact| contact.id).collect();
        let contacts = contacts(lineage, &observed, site, &findings, &in_process, scales.config.quiet);
        sessions.push(told(
            Session { findings, contacts, requests: Vec::new(), in_flight: 0, in_process, scope: None },
            &matches,
            scales,
        ));
    }
    sessions
}

/// Findings are told by time; of one moment, as far as the clock tells, from the parent down, and what a program is before what it asks.
fn told_after(finding: &Observation) -> (Timestamp, usize, Option<u32>, bool, ObservationId) {
    let pid = finding.process().map(|process| process.pid);
    (finding.at(), finding.place().lineage.len(), pid, !finding.is_execution(), finding.id)
}

/// A session as it is told: weighed by the strand of it that amounts to most, and from there on. Services do things that are new and have
/// nothing to do with each other within hours: what adds up must hang together.
fn told<'s>(whole: Session<'s>, matches: &[Match<'s>], scales: Scales<'_>) -> Session<'s> {
    let strands = strands::of(&whole, matches);
    if strands.len() <= 1 {
        return whole.with_requests(matches, None);
    }
    let parts: Vec<Session<'s>> = strands.iter().map(|ids| whole.part(ids).with_requests(matches, None)).collect();
    let weight = |part: &Session<'s>| {
        let score = score::Score::of(part);
        (score.severity(scales.config), score.total())
    };
    let weighed: Vec<_> = parts.iter().map(weight).collect();
    let best = weighed.iter().enumerate().reduce(|a, b| if less(a.1, b.1) { b } else { a }).map_or(0, |(at, _)| at);
    let scope = strands[best].clone();
    // It begins with the first that amounts to something by itself.
    let alone = strands.iter().zip(&weighed).filter(|(_, weighed)| weighed.0 >= Some(Severity::Medium));
    let alone: BTreeSet<_> = alone.flat_map(|(ids, _)| ids.iter().copied()).collect();
    let from = alone.first().into_iter().chain(scope.first()).min().copied();
    let rest = |seen: &Observation| from.is_none_or(|from| from <= seen.id);
    let mut session = whole;
    session.findings.retain(|seen| rest(seen));
    session.contacts.retain(|(seen, _)| rest(seen));
    session.scope = Some(scope.clone());
    let mut session = session.with_requests(matches, Some(&scope));
    let first: BTreeSet<RequestId> = session.requests.iter().map(|found| found.kept.id).collect();
    session.requests.extend(ranked(matches, &alone).into_iter().filter(|found| !first.contains(&found.kept.id)));
    session
}

fn less(a: &(Option<Severity>, f64), b: &(Option<Severity>, f64)) -> bool {
    a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).is_lt()
}

/// Requests tied to observations: to odd ones by time, up to `reach` after they were answered, or by what reappears; to ordinary ones
/// only by what reappears.
fn matches<'s>(
    observed: &[&'s Observation],
    chain: &'s Chain,
    site: &'s Site,
    host: &'s EdgeMemory,
    scales: Scales<'_>,
    reach: Duration,
) -> Vec<Match<'s>> {
    let (Some(first), Some(last)) = (observed.first(), observed.last()) else { return Vec::new() };
    let latest = last.at().plus(scales.config.skew);
    let odd: Vec<Timestamp> = observed.iter().filter(|on| !on.is_ordinary()).map(|on| on.at()).collect();
    let mut keys: Vec<u64> = observed.iter().flat_map(|on| on.keys().iter().copied()).collect();
    keys.sort_unstable();
    keys.dedup();
    // Hours of scanners' requests stand against few observations: what none of them can hold is let go by one look.
    let reappears = |kept: &Kept| kept.keys().iter().any(|key| key.is_none_or(|key| keys.binary_search(&key).is_ok()));
    let odd_within = |received: Timestamp, completed: Timestamp| {
        let (from, to) = (received.minus(scales.config.skew), completed.plus(reach));
        odd.get(odd.partition_point(|at| *at < from)).is_some_and(|at| *at <= to)
    };
    let near = |kept: &Kept| odd_within(kept.id.received, kept.request.completed);
    let own = site.edge.around_any((first.at().minus(scales.config.lateness), latest), &keys, odd_within);
    let others = host.around_any((first.at().minus(scales.config.tight), latest), &keys, odd_within);
    let all = own.chain(others).chain(chain.held.values());
    let mut requests: Vec<(&'s Arc<Kept>, bool)> =
        all.map(|kept| (kept, reappears(kept))).filter(|(kept, reappears)| *reappears || near(kept)).collect();
    requests.sort_unstable_by_key(|(kept, _)| kept.id);
    requests.dedup_by_key(|(kept, _)| kept.id);
    let mut matches = Vec::new();
    for (kept, reappears) in requests {
        let from = kept.id.received.minus(scales.config.skew);
        let reached = kept.request.completed.plus(reach);
        for on in observed.iter().skip(observed.partition_point(|on| on.at() < from)) {
            let ordinary = on.is_ordinary();
            // Later ones are tied by nothing but what reappears.
            if !reappears && on.at() > reached {
                break;
            }
            if (ordinary || on.at() > reached) && !(reappears && on.may_echo(kept.keys())) {
                continue;
            }
            let Some(tie) = scales.tie(kept, on) else { continue };
            let apart = match tie.timing {
                Timing::Distant => true,
                Timing::Loose | Timing::Tight => ordinary,
                _ => false,
            };
            if if apart { tie.decisive() } else { !ordinary || !tie.echoes.is_empty() } {
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
    if let Some(host) = seen.as_host() {
        return tied.any(|found| asked_for(host, seen.at(), found));
    }
    tied.any(|found| {
        // Whoever fetches for its users reaches what they name.
        let class = found.kept.verdict.as_ref().map(|verdict| verdict.class);
        let fetches = class.is_some_and(score::reaches_out);
        if fetches && (seen.novelty() != Novelty::New || score::fetched_as_usual(seen, found.kept)) {
            return false;
        }
        let rare = found.tie.timing == Timing::InFlight
            && found.kept.specificity() == Specificity::Specific
            && !class.is_some_and(score::only_reads);
        found.tie.decisive()
            || (rare
                && matches!(seen.novelty(), Novelty::New | Novelty::Notorious)
                && found.tie.weight >= IN_PROCESS_WEIGHT)
    })
}

/// Whether a request is why an ordinary finding happened. Libraries ask for credentials every hour and scanners ask for the same all
/// day: some request lies within the clocks' greatest skew of every refresh. What is done on behalf of a request happens while that is
/// in flight, at the workload that takes it.
fn asked_for(host: &HostEvidence, at: Timestamp, found: &Match<'_>) -> bool {
    if found.tie.echoes.is_empty() || found.tie.decisive() {
        return found.tie.decisive() && found.tie.timing.pinned();
    }
    let Request { received, completed, target_status, .. } = found.kept.request;
    let refused = target_status.is_some_and(|status| (400..500).contains(&status));
    let in_flight = received.minus(USUAL_SKEW) <= at && at <= completed.plus(USUAL_SKEW);
    let explained = host.own_accord && !found.kept.brings_a_token();
    in_flight && !refused && !explained && found.tie.join >= Join::SameWorkload
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
