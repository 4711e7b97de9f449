//! From sessions to revisions: which incident a session is, whether what is known of it now is news, and what an open incident
//! holds on to.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::incident::{Incident, Severity, Stage};
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

use super::Correlator;
use super::account::{self, Circumstances};
use super::kept::{Kept, RequestId};
use super::observation::{Lineage, Observation};
use super::score::Score;
use super::session::{self, Session};
use super::site::{Chain, Raised, Site};
use super::tie::Scales;

const HOUR_NS: i64 = 3_600_000_000_000;
/// Requests that an open incident keeps from being forgotten: those that its record may name, and as many again.
const HELD_MAX: usize = 64;

/// What a chain amounts to now.
struct Assessment {
    incidents: Vec<Incident>,
    held: BTreeMap<RequestId, Arc<Kept>>,
    /// Start of the earliest session that may still change.
    open: Option<Timestamp>,
}

impl Correlator {
    /// Reviews every chain of the instance that `lineage` is of: they share contacts.
    pub(super) fn review_instance(&mut self, key: &WorkloadKey, lineage: &Lineage, out: &mut Vec<Incident>) {
        let Some(site) = self.sites.get(key) else { return };
        let same = site.chains.keys().filter(|other| other.cgroup == lineage.cgroup);
        for lineage in same.cloned().collect::<Vec<_>>() {
            self.review(key, &lineage, out);
        }
    }

    pub(super) fn scales<'s>(&'s self, workload: &'s WorkloadKey, site: &'s Site) -> Scales<'s> {
        Scales { config: &self.config, workload, rates: &site.rates, host_rates: &self.host_rates }
    }

    /// Reviews one chain and reports what is news. Returns the start of the earliest session that may still change.
    pub(super) fn review(
        &mut self,
        key: &WorkloadKey,
        lineage: &Lineage,
        out: &mut Vec<Incident>,
    ) -> Option<Timestamp> {
        let assessment = self.assess(key, lineage)?;
        let (now, renotify, kept) = (self.now, self.config.renotify, self.observations_kept());
        let chain = self.sites.get_mut(key)?.chains.get_mut(lineage)?;
        chain.held = assessment.held;
        let (first_new, horizon) = (out.len(), now.minus(kept));
        let mut told = false;
        chain.supersede(&assessment.incidents, (now, kept), out);
        for incident in assessment.incidents {
            let settled = incident.settled;
            let id = incident.id.clone();
            if let Some(raised) = chain.raised.get_mut(&incident.id) {
                raised.waits = false;
            }
            if let Some(revision) = chain.revise(incident, now, renotify) {
                out.push(revision);
            }
            if settled {
                told |= chain.raised.remove(&id).is_some();
            }
        }
        if told {
            // It was told to its end: what it was made of goes with it, and cannot be raised again should a clock be set back.
            chain.forget(horizon, assessment.open);
        }
        let open = !chain.raised.is_empty();
        let later =
            chain.raised.values().filter(|raised| raised.waits).map(|raised| raised.notified.plus(renotify)).min();
        match later {
            Some(at) => self.look_at_when(key, at),
            None if open => self.look_at_open(key),
            None => {}
        }
        for revision in &out[first_new..] {
            let counter =
                if revision.revision == 1 { &mut self.counters.incidents } else { &mut self.counters.revisions };
            *counter += 1;
        }
        assessment.open
    }

    fn assess(&self, key: &WorkloadKey, lineage: &Lineage) -> Option<Assessment> {
        let site = self.sites.get(key)?;
        let chain = site.chains.get(lineage)?;
        let scales = self.scales(key, site);
        let mut assessment = Assessment { incidents: Vec::new(), held: BTreeMap::new(), open: None };
        for session in session::sessions(lineage, chain, site, &self.host_edge, scales) {
            let (first, last) = session.span();
            let settled = self.now.since(last) > self.observations_kept();
            if !settled {
                assessment.open = Some(assessment.open.map_or(first, |open| open.min(first)));
            }
            let incident = self.incident(&session, key, lineage, chain, settled);
            if !settled && (incident.is_some() || !chain.raised.is_empty()) {
                // What reappears comes first: without it the session would end with the request's time, and be told again without it.
                let (sure, near): (Vec<_>, Vec<_>) = session.requests.iter().partition(|found| found.tie.decisive());
                let held = sure.into_iter().chain(near).take(HELD_MAX);
                assessment.held.extend(held.map(|found| (found.kept.id, Arc::clone(found.kept))));
            }
            let Some(incident) = incident else { continue };
            assessment.incidents.push(incident);
        }
        Some(assessment)
    }

    fn incident(
        &self,
        session: &Session<'_>,
        key: &WorkloadKey,
        lineage: &Lineage,
        chain: &Chain,
        settled: bool,
    ) -> Option<Incident> {
        let id = incident_id(key, lineage, session.anchor()?);
        let counted = session.counted();
        let score = Score::of(counted.as_ref().unwrap_or(session));
        // What was raised once is told to its end, also when it turned out to be less.
        let severity = score.severity(&self.config).or(chain.raised.contains_key(&id).then_some(Severity::Low))?;
        let (first, last) = session.span();
        let around = Circumstances {
            platform: self.config.platform,
            edge_seen: self.sources.values().copied().max(),
            gaps: self.gaps.between(first.minus(self.config.loose), last.plus(self.config.skew), key),
            omitted: chain.pivots.omitted.count() + chain.contacts.omitted.count(),
            settled,
        };
        let incident = account::incident(session, score, severity, &around)?;
        Some(Incident { id, ..incident })
    }
}

impl Chain {
    /// The next revision, when it is news: at once for a higher severity, another stage, another request, one that is certain now, or a credential that was
    /// not known to be exposed; within `renotify` for anything else.
    fn revise(&mut self, incident: Incident, now: Timestamp, renotify: std::time::Duration) -> Option<Incident> {
        let revision = match self.raised.get(&incident.id) {
            // It was told to its end; what is still remembered of it is no news.
            None if incident.settled => return None,
            None => 1,
            Some(last) => {
                let known = &last.incident;
                let alike = Incident { revision: known.revision, settled: known.settled, ..incident.clone() };
                if alike == *known {
                    return None;
                }
                let request = |incident: &Incident| incident.candidates.best().map(|best| best.request.clone());
                let certain = |incident: &Incident| {
                    incident.candidates.best().is_some_and(|best| best.echoes.iter().any(|echo| echo.distinctive))
                };
                let told =
                    |incident: &Incident| incident.timeline.iter().filter(|step| step.stage == Stage::Edge).count();
                let urgent = certain(&incident) && !certain(known)
                    || told(&incident) > told(known)
                    || incident.severity > known.severity
                    || incident.stages.iter().any(|stage| !known.stages.contains(stage))
                    || request(&incident) != request(known)
                    || incident.exposures.iter().any(|exposed| !known.exposures.contains(exposed));
                if !urgent && !incident.settled && now.since(last.notified) < renotify {
                    if let Some(last) = self.raised.get_mut(&incident.id) {
                        last.waits = true;
                    }
                    return None;
                }
                known.revision + 1
            }
        };
        let incident = Incident { revision, ..incident };
        self.raised.insert(incident.id.clone(), Raised { incident: incident.clone(), notified: now, waits: false });
        Some(incident)
    }

    /// Closes incidents that turned out to be part of another: an earlier finding arrived late, and moved the start.
    fn supersede(
        &mut self,
        now_known: &[Incident],
        (now, kept): (Timestamp, std::time::Duration),
        out: &mut Vec<Incident>,
    ) {
        let gone = self.raised.keys().filter(|id| now_known.iter().all(|incident| incident.id != **id));
        for id in gone.cloned().collect::<Vec<_>>() {
            let Some(Raised { incident, .. }) = self.raised.get(&id) else { continue };
            let covers =
                |other: &&Incident| other.first_seen <= incident.last_seen && incident.first_seen <= other.last_seen;
            let Some(heir) = now_known.iter().find(covers) else {
                // It turned out to be less: it stands as it was told, and ends with its time.
                if now.since(incident.last_seen) > kept {
                    out.push(Incident { revision: incident.revision + 1, settled: true, ..incident.clone() });
                    self.raised.remove(&id);
                }
                continue;
            };
            out.push(Incident {
                revision: incident.revision + 1,
                superseded_by: Some(heir.id.clone()),
                settled: true,
                ..incident.clone()
            });
            self.raised.remove(&id);
        }
    }
}

/// The incident's name: workload, instance, root process with its start time, and the hour of the first finding. All of them are
/// properties of the evidence and none of its arrival; the start time (wall clock, nanoseconds) keeps hosts apart.
fn incident_id(key: &WorkloadKey, lineage: &Lineage, anchor: &Observation) -> String {
    let nodes = &anchor.place().lineage;
    let root = nodes.iter().find(|node| Some(node.process) == lineage.root).or(nodes.last());
    let (process, started) = root.map_or_else(Default::default, |node| (node.process, node.started));
    let hour = anchor.at().as_unix_nanos().div_euclid(HOUR_NS);
    let name = format!("{key}\0{}\0{process:?}\0{}\0{hour}", lineage.cgroup, started.as_unix_nanos());
    let digest = Sha256::digest(name.as_bytes());
    let hex: String = digest[..10].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("bl-{hex}")
}
