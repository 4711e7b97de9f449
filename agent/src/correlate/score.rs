//! What a session amounts to: additive, each summand named and explained, each stage capped so that no amount of noise adds up.

use crate::evidence::{HostFinding, Novelty, ProgramClass};
use crate::incident::{Contribution, Echo, Join, Severity, Stage};
use crate::request::{AttackClass, Indicator};

use super::Config;
use super::kept::Kept;
use super::observation::Observation;
use super::session::{Match, Session};
use super::sought::Sought;

/// Most that the edge can weigh: a distinctive echo and a little.
const EDGE_CAP: f64 = 12.0;
/// Most that findings on the host can weigh together.
const HOST_CAP: f64 = 8.0;
/// Most that contacts can weigh together.
const EGRESS_CAP: f64 = 5.0;
/// Log-odds against a breach before any evidence; only the shape of the confidence hangs on it.
const PRIOR: f64 = 4.5;
/// Least score of any incident of two stages.
const MEDIUM: f64 = 5.0;
/// Least score of two stages that make a high one.
const HIGH: f64 = 8.0;
/// Least score of three stages that make a critical one.
const CRITICAL: f64 = 10.0;
/// Least weight with which a stage is present at all.
const PRESENT: f64 = 1.0;
/// Least weight of the edge stage in a critical incident: one in seven by chance at most.
const CRITICAL_EDGE: f64 = 2.0;

/// The score of a session.
pub(super) struct Score {
    pub(super) contributions: Vec<Contribution>,
    pub(super) stages: Vec<Stage>,
    total: f64,
    edge: Edge,
    /// Both a program was started and credentials were asked for.
    both_host_kinds: bool,
    /// Each program was started on the very URL that a request asked the service to fetch: a service that fetches for its users.
    fetched: Option<Fetched>,
    /// It has a finding, or a contact that a request opened.
    begun: bool,
    /// Nothing was found on the host but what is ordinary there, and what a request had in common with it may be chance.
    doubtful: bool,
    /// Nothing in it is more than new to a workload whose habits are still being learned.
    only_learning: bool,
}

/// A program that fetched what its request asked for.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Fetched {
    /// By a workload that does not do so as a rule.
    New,
    /// By one that does so as a rule, or whose habits are still being learned: as likely as not it is one of them.
    Usual,
}

#[derive(Copy, Clone, Default)]
struct Edge {
    weight: f64,
    /// Tied at least to the same workload, or by a distinctive echo.
    joined: bool,
    /// Tied by more than time: something distinctive reappeared, or it came over the connection that was being answered.
    certain: bool,
    /// A distinctive echo of a class whose input runs as code: the service had no other reason to do it.
    code_echo: bool,
}

impl Score {
    pub(super) fn of(session: &Session<'_>) -> Self {
        let mut score = Self {
            contributions: Vec::new(),
            stages: Vec::new(),
            total: 0.0,
            edge: Edge::default(),
            both_host_kinds: false,
            fetched: fetched(session),
            begun: !session.findings.is_empty() || !session.in_process.is_empty(),
            doubtful: doubtful(session),
            only_learning: only_learning(session),
        };
        score.edge_stage(session);
        score.host_stage(session);
        score.egress_stage(session);
        score.total = [(Stage::Edge, EDGE_CAP), (Stage::Host, HOST_CAP), (Stage::Egress, EGRESS_CAP)]
            .into_iter()
            .map(|(stage, cap)| score.weight(stage).min(cap))
            .sum();
        score
    }

    /// The sum, each stage's part capped.
    pub(super) const fn total(&self) -> f64 {
        self.total
    }

    /// Whether the request named first is part of it, rather than one that only was there.
    pub(super) fn names_request(&self) -> bool {
        self.stages.contains(&Stage::Edge)
    }

    /// Probability that the score amounts to, 0 to 0.99.
    pub(super) fn confidence(&self) -> f64 {
        rounded(1.0 / (1.0 + f64::exp(PRIOR - self.total))).min(0.99)
    }

    /// Severity; `None` when this is no incident.
    pub(super) fn severity(&self, config: &Config) -> Option<Severity> {
        let has = |stage| self.stages.contains(&stage);
        let severity = match (has(Stage::Edge), has(Stage::Host), has(Stage::Egress)) {
            (true, true, true) => {
                let whole = self.edge.joined && self.edge.weight >= CRITICAL_EDGE && self.total >= CRITICAL;
                Some(if whole { Severity::Critical } else { Severity::High }).filter(|_| self.total >= MEDIUM)
            }
            // Without a finding on the host only code that the request itself named makes more of a contact.
            (true, false, true) if !self.edge.code_echo => (self.total >= MEDIUM).then_some(Severity::Medium),
            (false, true, _) if self.both_host_kinds => (self.total >= MEDIUM).then_some(Severity::High),
            // That both happened at one moment may be chance, once in hundreds of odd shells.
            (true, true, false) if !self.edge.certain && !self.both_host_kinds => {
                (self.total >= MEDIUM).then_some(Severity::Medium)
            }
            (true, true, false) | (false, true, true) | (true, false, true) => match self.total {
                HIGH.. => Some(Severity::High),
                MEDIUM.. => Some(Severity::Medium),
                _ => None,
            },
            _ => None,
        };
        let severity = severity.filter(|_| !self.only_learning && self.begun);
        let severity = match self.fetched {
            Some(Fetched::Usual) => None,
            Some(Fetched::New) => severity.map(|severity| severity.min(Severity::Medium)),
            None if self.doubtful => severity.map(|severity| severity.min(Severity::Medium)),
            None => severity,
        };
        severity.or(config.single_stage.then_some(Severity::Low).filter(|_| !self.stages.is_empty()))
    }

    fn weight(&self, stage: Stage) -> f64 {
        self.contributions.iter().filter(|part| part.stage == stage).map(|part| part.weight).sum()
    }

    fn add(&mut self, stage: Stage, name: &str, weight: f64, reason: String) {
        if weight > 0.0 {
            self.contributions.push(Contribution { stage, name: name.to_owned(), weight: rounded(weight), reason });
        }
    }

    fn edge_stage(&mut self, session: &Session<'_>) {
        let Some(best) = session.requests.first() else { return };
        let weight = best.tie.weight;
        let verdict = best.kept.verdict.as_ref().filter(|verdict| verdict.exploit_like());
        if weight >= PRESENT && (verdict.is_some() || best.kept.spike.is_some() || best.tie.decisive()) {
            self.stages.push(Stage::Edge);
        }
        self.edge = Edge {
            weight,
            joined: best.tie.join >= Join::SameWorkload || best.tie.decisive(),
            certain: best.tie.join == Join::Connection
                || best.tie.decisive()
                || best.tie.timing.pinned() && !best.tie.echoes.is_empty(),
            code_echo: best.tie.decisive() && verdict.is_some_and(|verdict| !reaches_out(verdict.class)),
        };
        let name = match (best.tie.decisive(), best.tie.timing.pinned()) {
            (true, _) => "indicator_echo",
            (_, true) => "request_in_flight",
            _ => "request_before",
        };
        self.add(Stage::Edge, name, weight.min(EDGE_CAP), super::account::match_reason(best, session.in_flight));
    }

    fn host_stage(&mut self, session: &Session<'_>) {
        if session.findings.is_empty() {
            return;
        }
        self.stages.push(Stage::Host);
        let executions = session.findings.iter().filter(|finding| finding.is_execution());
        let execution = heaviest(executions.clone().copied(), Observation::weight);
        let below = |finding: &Observation| {
            executions.clone().any(|shell| {
                shell.id != finding.id && shell.process().is_some_and(|process| finding.place().descends_from(process))
            })
        };
        let credential = |finding: &Observation| {
            let odd = finding.weight() + if below(finding) { 2.0 } else { 0.0 };
            // Ordinary here, and yet a request in flight asked for it.
            if odd > 0.0 { odd } else { 1.0 }
        };
        let asking = session.findings.iter().copied().filter(|finding| !finding.is_execution());
        if let Some((finding, weight)) = execution {
            self.add(Stage::Host, "execution", weight, finding.reason().to_owned());
        }
        if let Some(reason) = tool_after_shell(session) {
            self.add(Stage::Host, "tool_after_shell", 1.5, reason);
        }
        if let Some((finding, weight)) = heaviest(asking, credential) {
            let by_line = if below(finding) { ", asked by a descendant of the program that was started" } else { "" };
            self.add(Stage::Host, "metadata", weight, format!("{}{by_line}", finding.reason()));
            let told = matches!(finding.as_host().map(|host| &host.finding), Some(HostFinding::Metadata { path, .. }) if *path != crate::event::MetadataPath::Benign);
            // What the service's own library asks for has nothing to do with a shell that happens to be there.
            self.both_host_kinds = told && below(finding);
        }
    }

    fn egress_stage(&mut self, session: &Session<'_>) {
        let weight = |contact: &Observation, join| {
            let lineage = match (join, contact.novelty()) {
                (Join::Descendant | Join::Connection, Novelty::New | Novelty::Notorious) => 2.5,
                (Join::Descendant | Join::Connection, Novelty::NewWhileLearning) => 1.5,
                (Join::SameHost, _) => -0.5,
                _ => 0.0,
            };
            (contact.weight() + lineage).max(0.0)
        };
        let best = session.contacts.iter().map(|(contact, join)| (*contact, *join, weight(contact, *join)));
        let Some((contact, join, weight)) = best.reduce(|a, b| if b.2 > a.2 { b } else { a }) else { return };
        if weight >= PRESENT || !session.in_process.is_empty() {
            self.stages.push(Stage::Egress);
        }
        let (name, by) = match join {
            Join::Descendant | Join::Connection => {
                ("egress_by_lineage", "by a descendant of the program that was started")
            }
            Join::SameWorkload => ("egress_by_service", "by the same service"),
            Join::SameHost => ("egress_by_workload", "by another process of the same workload"),
        };
        self.add(Stage::Egress, name, weight.min(EGRESS_CAP), format!("{}, {by}", contact.reason()));
    }
}

/// Whether there are findings, all of them ordinary by themselves, and nothing distinctive of the best request reappeared.
fn doubtful(session: &Session<'_>) -> bool {
    let decisive = session.requests.first().is_some_and(|best| best.tie.decisive());
    !decisive && !session.findings.is_empty() && session.findings.iter().all(|finding| finding.is_ordinary())
}

/// Whether all there is is a first time while everything is one: nothing odd in itself, no credential asked for below a program
/// that was started, and no request but such as come by all day.
fn only_learning(session: &Session<'_>) -> bool {
    let odd = |finding: &Observation| match finding.as_host().map(|host| &host.finding) {
        Some(HostFinding::Spawn { socket_stdio, fileless, .. }) => *socket_stdio || *fileless,
        Some(HostFinding::FilelessExec) => true,
        Some(HostFinding::Metadata { .. }) => below_any(finding, session),
        _ => false,
    };
    let new = |seen: &Observation| seen.novelty() == Novelty::New;
    let learning = session.findings.iter().any(|finding| finding.novelty() == Novelty::NewWhileLearning);
    let decisive = session.requests.first().is_some_and(|best| best.tie.decisive());
    learning
        && !decisive
        && !session.findings.iter().any(|finding| new(finding) || odd(finding))
        && !session.contacts.iter().any(|(contact, _)| new(contact))
}

/// Classes of input that make a service fetch something: many do so for their users.
pub(super) const fn reaches_out(class: AttackClass) -> bool {
    matches!(class, AttackClass::Ssrf | AttackClass::Rfi | AttackClass::OpenRedirect | AttackClass::Xxe)
}

/// Classes of input that get at what the service holds: where they make it contact someone, they name whom.
pub(super) const fn only_reads(class: AttackClass) -> bool {
    use AttackClass::{Ldapi, Nosqli, Sqli, Traversal};
    matches!(class, Sqli | Traversal | Ldapi | Nosqli)
}

/// Whether all that was started stands to reason: the best request names a URL, does nothing but name it, and every program's
/// command line holds exactly that one. What an intruder starts beside it, or on another path of the same place, is not covered.
/// Without a finding the same is asked of what was reached: the program is one that the service starts all day.
fn fetched(session: &Session<'_>) -> Option<Fetched> {
    let best = session.requests.first()?;
    if !only_names(best.kept) {
        return None;
    }
    if session.findings.is_empty() {
        let mut contacts = session.contacts.iter();
        let all = contacts.len() > 0 && contacts.all(|(contact, _)| fetched_as_usual(contact, best.kept));
        return all.then_some(Fetched::Usual);
    }
    // What the service itself asks a metadata service for has nothing to do with it.
    let started: Vec<&Observation> = session
        .findings
        .iter()
        .copied()
        .filter(|finding| finding.is_execution() || below_any(finding, session))
        .collect();
    if started.is_empty() || !started.iter().all(|finding| stands_to_reason(finding, best.kept)) {
        return None;
    }
    let usual = started.iter().all(|finding| matches!(finding.novelty(), Novelty::NewWhileLearning | Novelty::Known));
    Some(if usual { Fetched::Usual } else { Fetched::New })
}

/// Whether a request does no more than name something to be fetched, as far as its text tells.
pub(super) fn only_names(kept: &Kept) -> bool {
    kept.verdict.as_ref().is_some_and(|verdict| reaches_out(verdict.class) || !verdict.exploit_like())
}

/// Whether an observation is what fetching what the request named looks like: a program with exactly that URL on its command line,
/// a contact with that place.
pub(super) fn stands_to_reason(seen: &Observation, kept: &Kept) -> bool {
    let echoes = seen.echoes_of(kept);
    let mut distinctive = echoes.iter().filter(|echo| echo.distinctive).map(|echo| &echo.indicator);
    match seen.as_host().map(|host| &host.finding) {
        Some(HostFinding::Spawn { socket_stdio: false, fileless: false, .. }) => {
            distinctive.any(|indicator| matches!(indicator, Indicator::Url(_)))
        }
        Some(_) => false,
        None => distinctive.any(|what| matches!(what, Indicator::Url(_) | Indicator::Address(_) | Indicator::Host(_))),
    }
}

/// Whether a contact is that of a program which was started on exactly the URL that the request names, with the place that it
/// names; that no finding tells of the program says that starting it is ordinary. What the service itself reaches is not covered.
pub(super) fn fetched_as_usual(contact: &Observation, kept: &Kept) -> bool {
    let Some(egress) = contact.as_egress() else { return false };
    let on_its_line = |echo: &Echo| echo.distinctive && matches!(echo.indicator, Indicator::Url(_));
    let names = || egress.name.iter().chain(&egress.server_name).map(|name| &**name);
    let there = |sought: &Sought| sought.names_place(egress.peer.ip(), names());
    contact.echoes_of(kept).iter().any(on_its_line) && kept.sought().iter().any(there)
}

/// Whether a finding descends from a program that another one tells of.
fn below_any(finding: &Observation, session: &Session<'_>) -> bool {
    session.findings.iter().any(|other| {
        let started = other.is_execution().then(|| other.process()).flatten();
        other.id != finding.id && started.is_some_and(|process| finding.place().descends_from(process))
    })
}

/// A shell and then another kind of program below it: what one-line payloads do.
fn tool_after_shell(session: &Session<'_>) -> Option<String> {
    let class = |finding: &Observation| match finding.as_host().map(|host| &host.finding) {
        Some(HostFinding::Spawn { class, .. }) => Some(*class),
        _ => None,
    };
    let shell = session.findings.iter().find(|finding| class(finding) == Some(ProgramClass::Shell))?;
    let process = shell.process()?;
    let tool = session.findings.iter().find(|finding| {
        finding.id != shell.id
            && class(finding).is_some_and(|class| class != ProgramClass::Shell)
            && finding.weight() > 0.0
            && finding.place().descends_from(process)
    })?;
    Some(tool.reason().to_owned())
}

/// The heaviest, of equals the first.
fn heaviest<'o>(
    observations: impl Iterator<Item = &'o Observation>,
    weight: impl Fn(&Observation) -> f64,
) -> Option<(&'o Observation, f64)> {
    observations.map(|seen| (seen, weight(seen))).reduce(|a, b| if b.1 > a.1 { b } else { a })
}

/// To a hundredth: what people read, and what survives any text form unchanged.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The part of a match that is told as its weight.
pub(super) fn match_weight(found: &Match<'_>) -> f64 {
    rounded(found.tie.weight.min(EDGE_CAP))
}
