//! The account given of a session: timeline, candidates, sentences, what was missing. In: a session and its score. Out: an
//! incident record without revision.

use crate::event::MetadataPath;
use crate::evidence::{EgressEvidence, Gap, HostEvidence, HostFinding, Novelty, ProgramClass};
use crate::incident::exposure::{self, Exposure, Provider};
use crate::incident::process_tree::ProcessTree;
use crate::incident::technique::Technique;
use crate::incident::{Candidate, Candidates, Incident, Join, Severity, Stage, Step, StepEvidence, Timing, response};
use crate::timestamp::Timestamp;
use crate::workload::Workload;

use super::observation::{Finding, Observation};
use super::score::{Score, match_weight};
use super::session::{Match, Session};

/// Steps that a timeline lists; more is told as a number. Without it a busy intruder would fill the record.
const STEPS_MAX: usize = 40;
/// Candidates that are listed.
const CANDIDATES_MAX: usize = 8;
/// Peers that the response names.
const PEERS_MAX: usize = 5;

/// Requests this close to the best, nats, are as good candidates: not ten times less likely.
const ALIKE: f64 = 2.3;

/// What a session cannot know by itself.
pub(super) struct Circumstances<'c> {
    pub(super) platform: Option<Provider>,
    /// Latest line of each edge source.
    pub(super) edge_seen: Option<Timestamp>,
    /// Losses that may touch the session.
    pub(super) gaps: Vec<&'c Gap>,
    /// Observations that found no room.
    pub(super) omitted: u64,
    /// Nothing more can come.
    pub(super) settled: bool,
}

/// The record; `id` and `revision` are the caller's.
pub(super) fn incident(
    session: &Session<'_>,
    score: Score,
    severity: Severity,
    around: &Circumstances<'_>,
) -> Option<Incident> {
    let anchor = session.anchor()?;
    let workload = Workload::clone(&anchor.place().workload);
    let told = told_requests(session, &score);
    let mut timeline = timeline(session, &told);
    let first_seen = timeline.first()?.at;
    let last_seen = timeline.last()?.at;
    let techniques = techniques(&timeline);
    let listed = timeline.len().min(STEPS_MAX);
    let omitted = (timeline.len() - listed) as u64 + around.omitted;
    timeline.truncate(listed);
    let hosts = session.findings.iter().filter_map(|finding| finding.as_host());
    let exposures = exposure::exposures(hosts, around.platform);
    let provisional = !score.stages.contains(&Stage::Edge) && !around.settled;
    let everything = session.findings.iter().copied().chain(session.contacts.iter().map(|(contact, _)| *contact));
    Some(Incident {
        severity,
        title: title(session, &score, &exposures, &workload),
        first_seen,
        last_seen,
        provisional,
        settled: around.settled,
        confidence: score.confidence(),
        missing: missing(session, &score, around),
        timeline,
        timeline_omitted: omitted,
        candidates: candidates(session),
        campaign: super::campaign::of(session, &score),
        processes: ProcessTree::of(everything.map(Observation::place)),
        response: response::steps(&workload, &exposures, &peers(session)),
        exposures,
        techniques,
        stages: score.stages,
        contributions: score.contributions,
        workload,
        ..Incident::default()
    })
}

/// The requests that the timeline tells: the best one, and others that something distinctive ties to another finding (a web shell
/// dropped in one request and used in the next).
fn told_requests<'m, 's>(session: &'m Session<'s>, score: &Score) -> Vec<&'m Match<'s>> {
    let edge = score.stages.contains(&Stage::Edge);
    let mut told: Vec<&Match<'_>> = Vec::new();
    for found in session.requests.iter().take(CANDIDATES_MAX) {
        let first = told.is_empty() && (edge || found.tie.timing.pinned());
        let another = !told.is_empty() && found.tie.decisive() && told.iter().all(|other| other.on.id != found.on.id);
        if first || another {
            told.push(found);
        }
    }
    told
}

fn timeline(session: &Session<'_>, told: &[&Match<'_>]) -> Vec<Step> {
    let requests = told.iter().map(|found| request_step(found, session.in_flight));
    let findings = session.findings.iter().map(|finding| {
        let join = if finding.place().service.is_some() { Join::Descendant } else { Join::SameWorkload };
        observation_step(finding, join)
    });
    let contacts = session.contacts.iter().map(|(contact, join)| observation_step(contact, *join));
    let mut steps: Vec<Step> = requests.chain(findings).chain(contacts).collect();
    steps.sort_by_key(|step| (step.at, step.stage));
    steps
}

fn request_step(found: &Match<'_>, in_flight: u64) -> Step {
    Step {
        at: found.kept.request.received,
        stage: Stage::Edge,
        technique: Technique::EXPLOIT_PUBLIC_FACING,
        evidence: StepEvidence::Request {
            request: Box::new(found.kept.request.clone()),
            verdict: found.kept.verdict.clone().map(Box::new),
        },
        reason: match_reason(found, in_flight),
        join: found.tie.join,
    }
}

fn observation_step(observation: &Observation, join: Join) -> Step {
    let process = observation.place().process().cloned();
    let (stage, technique, evidence) = match &observation.finding {
        Finding::Host(host) => {
            let exe = process.as_ref().map_or("", |node| &node.exe_path);
            let technique = Technique::of_finding(&host.finding, exe);
            (Stage::Host, technique, StepEvidence::Host { finding: host.finding.clone(), process, status: host.status })
        }
        Finding::Egress(egress) => {
            let EgressEvidence { peer, protocol, name, server_name, outcome, .. } = egress;
            let (peer, protocol, outcome) = (*peer, *protocol, *outcome);
            let (name, server_name) = (name.clone(), server_name.clone());
            let evidence = StepEvidence::Peer { peer, protocol, name, server_name, process, outcome };
            (Stage::Egress, Technique::of_contact(peer.port()), evidence)
        }
    };
    Step { at: observation.at(), stage, technique, evidence, reason: observation.reason().to_owned(), join }
}

fn techniques(timeline: &[Step]) -> Vec<Technique> {
    let mut techniques: Vec<Technique> = timeline.iter().map(|step| step.technique.clone()).collect();
    let on_socket = |step: &Step| {
        matches!(&step.evidence, StepEvidence::Host { finding: HostFinding::Spawn { socket_stdio: true, .. }, .. })
    };
    if timeline.iter().any(on_socket) {
        techniques.push(Technique::NON_APPLICATION_LAYER);
    }
    techniques.sort();
    techniques.dedup();
    techniques
}

fn candidates(session: &Session<'_>) -> Candidates {
    let ranked = session.requests.iter().take(CANDIDATES_MAX).map(|found| Candidate {
        request: found.kept.request.clone(),
        verdict: found.kept.verdict.clone(),
        join: found.tie.join,
        timing: found.tie.timing,
        echoes: found.tie.echoes.clone(),
        weight: match_weight(found),
        reason: match_reason(found, session.in_flight),
    });
    Candidates {
        ranked: ranked.collect(),
        in_flight: session.in_flight,
        omitted: session.requests.len().saturating_sub(CANDIDATES_MAX) as u64,
    }
}

/// Why a request is tied to what followed, in one sentence.
pub(super) fn match_reason(found: &Match<'_>, in_flight: u64) -> String {
    let what = match &found.kept.verdict {
        Some(verdict) if verdict.exploit_like() => format!("exploit-like request ({})", verdict.reason),
        Some(_) => "slightly suspicious request".into(),
        None => "ordinary-looking request".into(),
    };
    let to = match found.tie.join {
        Join::Connection => "over the very connection that was being answered when this began",
        Join::Descendant => "to the very process that this descends from",
        Join::SameWorkload => "to this workload",
        Join::SameHost => "to another workload of this host",
    };
    let after = found.on.at().since(found.kept.request.completed.max(found.kept.request.received));
    let when = match found.tie.timing {
        Timing::InFlight => "in flight at that moment".into(),
        Timing::Skewed => "in flight at that moment if the clocks' skew is allowed for".into(),
        Timing::Tight | Timing::Loose | Timing::Distant => format!("answered {} s before", after.as_secs()),
    };
    let shared = match in_flight {
        2.. if found.tie.timing.pinned() => format!("; one of {in_flight} in flight then"),
        _ => String::new(),
    };
    let echo = found.tie.echoes.iter().find(|echo| echo.distinctive).or(found.tie.echoes.first());
    let echo = echo.map_or_else(String::new, |echo| {
        format!("; {} from the request reappears in {}", indicator_text(&echo.indicator), echo.seen_in)
    });
    format!("{what} {to}, {when}{shared}{echo}")
}

fn indicator_text(indicator: &crate::request::Indicator) -> String {
    use crate::request::Indicator as I;
    match indicator {
        I::Address(address) => format!("address {address}"),
        I::Host(host) => format!("host {host}"),
        I::Url(url) => format!("URL {url}"),
        I::Command(command) => format!("command `{command}`"),
        I::Path(path) => format!("path {path}"),
    }
}

fn missing(session: &Session<'_>, score: &Score, around: &Circumstances<'_>) -> Vec<String> {
    let mut missing = Vec::new();
    if !score.stages.contains(&Stage::Edge) {
        missing.push(match (around.edge_seen, session.requests.first()) {
            (None, _) => "no load balancer line has been received at all: the request is not known".into(),
            (Some(_), Some(best)) if best.tie.timing.pinned() => {
                "the request is named by time alone: nothing in its line looks like an exploit".into()
            }
            (Some(seen), _) => {
                format!("no matching request was seen by {seen}, the time of the latest load balancer line")
            }
        });
    }
    if session.findings.iter().any(|finding| finding.place().service.is_none()) {
        missing.push("no listener is known above the process: it is tied to the workload only".into());
    }
    let learning = |seen: &&Observation| seen.novelty() == Novelty::NewWhileLearning;
    let contacts = session.contacts.iter().map(|(contact, _)| *contact);
    if session.findings.iter().copied().chain(contacts).any(|seen| learning(&seen)) {
        missing.push("the baseline of this workload was still learning: what is new here counts less".into());
    }
    for gap in &around.gaps {
        let count = if gap.count == 0 { "an unknown number of".to_owned() } else { gap.count.to_string() };
        missing.push(format!("{count} {} records were lost between {} and {}", gap.sense, gap.from, gap.to));
    }
    missing
}

fn peers(session: &Session<'_>) -> Vec<String> {
    let mut peers: Vec<String> = Vec::new();
    for (contact, _) in &session.contacts {
        let Some(egress) = contact.as_egress() else { continue };
        let peer = peer_text(egress);
        if peers.len() < PEERS_MAX && !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    peers
}

fn peer_text(egress: &EgressEvidence) -> String {
    match egress.name.as_ref().or(egress.server_name.as_ref()) {
        Some(name) => format!("{name} ({})", egress.peer),
        None => egress.peer.to_string(),
    }
}

/// One sentence: who, what, where.
fn title(session: &Session<'_>, score: &Score, exposures: &[Exposure], workload: &Workload) -> String {
    let hosts = || session.findings.iter().filter_map(|finding| finding.as_host());
    let mut did: Vec<String> = Vec::new();
    if let Some(execution) = hosts().find(|host| host.finding.is_execution()) {
        did.push(execution_text(execution));
    }
    if let Some(exposure) = exposures.iter().find(|exposure| exposure.requested).or(exposures.first()) {
        did.push(format!("{} {}", if exposure.requested { "asked for" } else { "reached for" }, exposure.credential));
    } else if hosts().any(|host| matches!(host.finding, HostFinding::Metadata { path: MetadataPath::Benign, .. })) {
        did.push("reached the metadata API".into());
    }
    let contact =
        session.contacts.iter().rev().max_by_key(|(_, join)| *join).and_then(|(contact, _)| contact.as_egress());
    if let Some(egress) = contact.filter(|_| score.stages.contains(&Stage::Egress)) {
        did.push(format!("contacted {}", peer_text(egress)));
    }
    let deed = match did.split_last() {
        None => "did something odd".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    };
    match session.requests.first().filter(|_| score.stages.contains(&Stage::Edge)) {
        Some(found) => format!("{} {deed} after {}", workload.key, named(found, session)),
        None => format!("{} {deed}", workload.key),
    }
}

/// The request named first, or how many it is one of: an earlier revision may have to choose before the right line has arrived.
fn named(best: &Match<'_>, session: &Session<'_>) -> String {
    let alike = session.requests.iter().filter(|found| found.tie.rank > best.tie.rank - ALIKE).count();
    if alike > 1 && !best.tie.decisive() {
        return format!("one of {alike} candidate requests");
    }
    let from = best.kept.request.client.map_or_else(String::new, |client| format!(" from {}", client.ip()));
    format!("a request{from}")
}

fn execution_text(host: &HostEvidence) -> String {
    let name = host.place.process().and_then(|node| node.exe_path.rsplit('/').next()).filter(|name| !name.is_empty());
    match &host.finding {
        HostFinding::Spawn { class, socket_stdio, .. } => {
            let what = match class {
                ProgramClass::Shell => "a shell",
                ProgramClass::Interpreter => "an interpreter",
                ProgramClass::TransferTool => "a transfer tool",
            };
            let on = if *socket_stdio { " on a socket" } else { "" };
            format!("started {what}{}{on}", name.map_or_else(String::new, |name| format!(" ({name})")))
        }
        HostFinding::FilelessExec | HostFinding::Metadata { .. } | HostFinding::RawSocket { .. } => {
            "ran a program from memory".into()
        }
    }
}
