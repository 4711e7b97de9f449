//! Was it caught, and is that right? A pure judgement over what was expected, what happened and what was raised.
//!
//! In: a scenario's expectation, the attack as it was sent, the incidents as they arrived. Out: an [`Outcome`], with the reason
//! for every "no". It never asks the agent how it felt: only incidents count.

use serde::Serialize;

use super::scenario::Expect;
use crate::evidence::{HostFinding, ProcessNode};
use crate::incident::{Incident, Severity, Stage, StepEvidence};
use crate::timestamp::Timestamp;

/// One revision, and when it came out of the pipeline.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    pub(super) at: Timestamp,
    pub(super) incident: Incident,
}

/// The attack as it happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Attack {
    /// As its author meant it.
    pub(super) plain: String,
    /// Path and query as sent.
    pub(super) target: String,
    /// Just before its first byte left.
    pub(super) sent: Timestamp,
    /// When the load balancer's line could be read: at once, or after it was released.
    pub(super) line_available: Timestamp,
    /// What the intruder got: posted, typed back by a shell, or in the response.
    pub(super) loot: String,
}

/// One point of the chain's story.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Milestone {
    /// `shell`, `metadata`, `egress`, `raised`, `revised`.
    pub what: &'static str,
    /// Milliseconds after the request was sent.
    pub ms: f64,
    /// In words.
    pub text: String,
}

/// What a scenario came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// Its name.
    pub scenario: &'static str,
    /// What was expected, in words.
    pub expected: String,
    /// An incident was raised on the service.
    pub caught: bool,
    /// Every expectation held.
    pub right: bool,
    /// One sentence for each that did not.
    pub wrong: Vec<String>,
    /// The incident's id.
    pub incident_id: Option<String>,
    /// Its last revision.
    pub revision: Option<u32>,
    /// Its severity in the end.
    pub severity: Option<Severity>,
    /// The request it names first.
    pub request_named: Option<String>,
    /// The attack's request, as its author meant it.
    pub request_sent: Option<String>,
    /// What happened when, from the request on.
    pub story: Vec<Milestone>,
    /// From the last evidence of the first revision (the kernel's time of a finding, or a line being there) to its being raised,
    /// in milliseconds.
    pub latency_ms: Option<f64>,
    /// From the late line being there to the revision it made, in milliseconds.
    pub revision_latency_ms: Option<f64>,
    /// A silent scenario: how soon the attack that followed it was raised; the proof that the sensor was awake.
    pub awake_ms: Option<f64>,
    /// What was not real about it.
    pub simulated: Option<&'static str>,
    /// The incident's last revision, in full.
    pub incident: Option<Incident>,
}

/// Judges what an attack brought about. `sightings` are all revisions on the service, in order of arrival.
pub(super) fn judge_attack(expect: &Expect, attack: &Attack, sightings: &[Sighting]) -> Outcome {
    let last = settled(sightings).last().map(|sighting| &sighting.incident);
    let mut outcome = Outcome {
        caught: last.is_some(),
        request_sent: Some(attack.plain.clone()),
        wrong: objections(expect, attack, sightings),
        ..Outcome::default()
    };
    outcome.right = outcome.wrong.is_empty();
    if let Some(incident) = last {
        outcome.incident_id = Some(incident.id.clone());
        outcome.incident = Some(incident.clone());
        outcome.revision = Some(incident.revision);
        outcome.severity = Some(incident.severity);
        outcome.request_named = named(incident).map(str::to_owned);
        outcome.story = story(attack, sightings);
        outcome.latency_ms = latency(attack, sightings);
        outcome.revision_latency_ms = revision_latency(attack, sightings);
    }
    outcome
}

/// Judges a scenario that should be silent. `noise` is what was raised about it; `proof` the attack that followed, and when its
/// incident was raised.
pub(super) fn judge_silence(noise: &[Sighting], proof: &Attack, awake_at: Option<Timestamp>) -> Outcome {
    let mut outcome = Outcome {
        caught: !noise.is_empty(),
        awake_ms: awake_at.map(|at| millis(proof.sent, at)),
        ..Outcome::default()
    };
    if let Some(Sighting { incident, .. }) = noise.last() {
        outcome.incident_id = Some(incident.id.clone());
        outcome.incident = Some(incident.clone());
        outcome.revision = Some(incident.revision);
        outcome.severity = Some(incident.severity);
        outcome.wrong.push(format!("an incident was raised: {}", incident.title));
    }
    if awake_at.is_none() {
        outcome.wrong.push("the attack played afterwards was not caught: the silence proves nothing".into());
    }
    outcome.right = outcome.wrong.is_empty();
    outcome
}

/// What was expected, in words.
pub(super) fn describe(expect: &Expect) -> String {
    match expect {
        Expect::Silence => "silence".into(),
        Expect::Incident { severity, provisional_first: false, .. } => {
            format!("one {} incident that names the request", severity_word(*severity))
        }
        Expect::Incident { severity, .. } => {
            format!(
                "an incident without the request at once, the same one {} and naming it afterwards",
                severity_word(*severity)
            )
        }
    }
}

/// Whether `sightings` already hold all that is expected: nothing more needs to be waited for.
pub(super) fn complete(expect: &Expect, attack: &Attack, sightings: &[Sighting]) -> bool {
    objections(expect, attack, sightings).is_empty()
}

/// Whether an incident holds all that the host can tell: nothing of the kernel's is under way when the clocks are moved on.
pub(super) fn host_half_complete(sightings: &[Sighting]) -> bool {
    sightings
        .last()
        .is_some_and(|last| [Stage::Host, Stage::Egress].iter().all(|stage| last.incident.stages.contains(stage)))
}

fn objections(expect: &Expect, attack: &Attack, sightings: &[Sighting]) -> Vec<String> {
    let Expect::Incident { severity, stages, provisional_first, loot } = expect else { return Vec::new() };
    let mut wrong = Vec::new();
    if !attack.loot.contains(loot) {
        wrong.push(format!("the attack itself failed: nothing containing `{loot}` reached the intruder"));
    }
    let Some(last) = settled(sightings).last().map(|sighting| &sighting.incident) else {
        wrong.push("no incident was raised".into());
        return wrong;
    };
    if let Some(other) = settled(sightings).find(|sighting| sighting.incident.id != last.id) {
        wrong.push(format!("one attack made a second incident: {}", other.incident.title));
    }
    if last.severity != *severity {
        wrong.push(format!("severity is {}, not {}", severity_word(last.severity), severity_word(*severity)));
    }
    if last.stages != *stages {
        wrong.push(format!("stages are {:?}, not {stages:?}", last.stages));
    }
    match named(last) {
        Some(url) if url.ends_with(&attack.target) => {}
        Some(url) => wrong.push(format!("another request is named: {url}")),
        None => wrong.push("no request is named".into()),
    }
    if *provisional_first {
        wrong.extend(provisional_objection(attack, last, sightings));
    }
    wrong
}

fn provisional_objection(attack: &Attack, last: &Incident, sightings: &[Sighting]) -> Option<String> {
    let first = sightings.iter().find(|sighting| sighting.incident.id == last.id)?;
    if first.at > attack.line_available {
        return Some("nothing was raised before the load balancer's line was there".into());
    }
    (named(&first.incident).is_some()).then(|| "a request was named before its line was there".into())
}

/// Revisions of incidents that stand in the end: not found to be part of another.
fn settled(sightings: &[Sighting]) -> impl Iterator<Item = &Sighting> {
    sightings.iter().filter(|candidate| {
        let last = sightings.iter().rfind(|sighting| sighting.incident.id == candidate.incident.id);
        last.is_some_and(|last| last.incident.superseded_by.is_none())
    })
}

fn named(incident: &Incident) -> Option<&str> {
    incident.candidates.best().map(|candidate| candidate.request.url.as_str())
}

/// From the request to the end of the chain: what the kernel saw, then what was raised.
fn story(attack: &Attack, sightings: &[Sighting]) -> Vec<Milestone> {
    let Some(last) = settled(sightings).last() else { return Vec::new() };
    let mut story: Vec<Milestone> = Vec::new();
    for step in &last.incident.timeline {
        let Some((what, text)) = deed(&step.evidence) else { continue };
        // The first of each kind tells the story; the incident itself has them all.
        if !story.iter().any(|milestone| milestone.what == what) {
            story.push(Milestone { what, ms: millis(attack.sent, step.at), text });
        }
    }
    let mut told = None;
    for Sighting { at, incident } in sightings.iter().filter(|sighting| sighting.incident.id == last.incident.id) {
        let what = if told.is_none() { "raised" } else { "revised" };
        let request = match named(incident) {
            Some(url) if url.ends_with(&attack.target) => "the request named",
            Some(_) => "another request suspected so far",
            None => "no request yet",
        };
        let news = (incident.severity, request);
        // Revisions that only add evidence are the incident's to tell.
        if told.replace(news) != Some(news) {
            let text = format!("{}, {request} (revision {})", severity_word(incident.severity), incident.revision);
            story.push(Milestone { what, ms: millis(attack.sent, *at), text });
        }
    }
    story
}

/// What was done on the host, by which program; nothing for a request.
fn deed(evidence: &StepEvidence) -> Option<(&'static str, String)> {
    let program = |process: &Option<ProcessNode>| {
        let path = process.as_ref().map_or("?", |node| &*node.exe_path);
        path.rsplit('/').next().unwrap_or(path).to_owned()
    };
    Some(match evidence {
        StepEvidence::Request { .. } => return None,
        StepEvidence::Host { finding: HostFinding::Metadata { endpoint, .. }, process, .. } => {
            ("metadata", format!("{} to {endpoint}", program(process)))
        }
        StepEvidence::Host { finding: HostFinding::RawSocket { .. }, process, .. } => {
            ("raw socket", format!("made by {}", program(process)))
        }
        StepEvidence::Host { process, .. } => {
            ("shell", process.as_ref().map_or_else(String::new, |node| node.command_line.to_string()))
        }
        StepEvidence::Peer { peer, name, server_name, process, .. } => {
            let peer = name
                .as_ref()
                .or(server_name.as_ref())
                .map_or_else(|| peer.to_string(), |name| format!("{name} ({peer})"));
            ("egress", format!("{} to {peer}", program(process)))
        }
    })
}

fn latency(attack: &Attack, sightings: &[Sighting]) -> Option<f64> {
    let first = sightings.first()?;
    let known = first.incident.timeline.iter().map(|step| match &step.evidence {
        StepEvidence::Request { request, .. } if request.url.ends_with(&attack.target) => attack.line_available,
        StepEvidence::Request { request, .. } => request.completed,
        StepEvidence::Host { .. } | StepEvidence::Peer { .. } => step.at,
    });
    Some(millis(known.max()?, first.at))
}

fn revision_latency(attack: &Attack, sightings: &[Sighting]) -> Option<f64> {
    let revised =
        sightings.iter().find(|sighting| named(&sighting.incident).is_some_and(|url| url.ends_with(&attack.target)))?;
    (revised.incident.revision > 1).then(|| millis(attack.line_available, revised.at))
}

/// Milliseconds from `from` to `to`, to a hundredth; clocks of two roads may make it slightly negative.
fn millis(from: Timestamp, to: Timestamp) -> f64 {
    let micros = to.as_unix_nanos().saturating_sub(from.as_unix_nanos()) / 10_000;
    // Exact: a scenario's times lie minutes apart at most.
    f64::from(i32::try_from(micros).unwrap_or(i32::MAX)) / 100.0
}

/// As JSON writes it.
pub(super) const fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

#[cfg(test)]
mod tests;
