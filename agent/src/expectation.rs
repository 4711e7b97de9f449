//! Incidents that an operator expects: a deploy script that shells out, a scanner of one's own. In: an incident marked as expected,
//! with who says so, why and until when. Out: whether a later incident is the same thing again.
//!
//! The same thing means: the same workload, and nothing in it that the marked incident did not have (each step reduced to its
//! shape: program and form of its command line, metadata service and path, peer, class and path of the request), and no higher a
//! severity. So an intruder who uses the same shell for something else is not covered. Expected incidents are kept, counted and
//! shown, only not delivered. Pure; bounded; the one that ends first makes room.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::baseline::{peer_name, template};
use crate::event::ProcessKey;
use crate::evidence::{HostFinding, ProcessNode};
use crate::incident::{Expected, Incident, Severity, Step, StepEvidence};
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

/// Expectations kept: each is a person's decision, and a list longer than this is read by nobody.
pub const EXPECTATIONS_MAX: usize = 256;
/// Bytes of owner and of reason.
const WORDS_MAX: usize = 1024;
/// Version of the serialised form.
const FORMAT_VERSION: u32 = 1;

/// Why an incident cannot be marked, or the stored list not be read.
#[derive(Debug, thiserror::Error)]
pub enum ExpectationError {
    /// There is nothing in it to recognise it by.
    #[error(
        "incident {id} lists not every step that it has; what is left out could be anything, so it cannot be expected"
    )]
    Incomplete {
        /// The incident.
        id: String,
    },
    /// The end lies in the past.
    #[error("`until` {until} has passed; name a time to come")]
    Over {
        /// As given.
        until: Timestamp,
    },
    /// Owner or reason is missing or endless.
    #[error("{what} must have 1 to 1024 bytes")]
    Words {
        /// Which.
        what: &'static str,
    },
    /// The list is full.
    #[error("there are {EXPECTATIONS_MAX} expectations already; withdraw some (`breachline incidents expected`)")]
    Full,
    /// Not the serialised form.
    #[error("the list of expected incidents is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// Written by another version.
    #[error("the list of expected incidents has format {found}, this agent reads {FORMAT_VERSION}")]
    Version {
        /// The format found.
        found: u32,
    },
}

/// One expectation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// The incident that was marked; names the expectation too.
    pub incident: String,
    /// On which workload.
    pub workload: WorkloadKey,
    /// Shapes of its steps.
    pub shapes: BTreeSet<String>,
    /// The highest severity that it covers.
    pub severity: Severity,
    /// Who, why, until when.
    #[serde(flatten)]
    pub said: Expected,
    /// Incidents that it covered.
    #[serde(default)]
    pub covered: u64,
    /// The latest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<String>,
}

/// What became of incidents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Expectations that hold now.
    pub standing: usize,
    /// Revisions that were expected, and so not delivered.
    pub revisions_covered: u64,
    /// Expectations that came to their end.
    pub ended: u64,
}

/// All expectations.
#[derive(Debug, Default)]
pub struct Expectations {
    list: Vec<Expectation>,
    counters: Counters,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    expectations: Vec<Expectation>,
}

impl Expectations {
    /// From now on `incident` and its like are expected; one made from the same incident before is replaced.
    ///
    /// # Errors
    ///
    /// Why it cannot be.
    pub fn expect(
        &mut self,
        incident: &Incident,
        said: Expected,
        now: Timestamp,
    ) -> Result<&Expectation, ExpectationError> {
        let words = |text: &str| (1..=WORDS_MAX).contains(&text.len());
        for (what, text) in [("owner", &said.owner), ("reason", &said.reason)] {
            if !words(text) {
                return Err(ExpectationError::Words { what });
            }
        }
        if said.until <= now {
            return Err(ExpectationError::Over { until: said.until });
        }
        let shapes = shapes(incident).ok_or_else(|| ExpectationError::Incomplete { id: incident.id.clone() })?;
        self.list.retain(|other| other.incident != incident.id && other.said.until > now);
        if self.list.len() >= EXPECTATIONS_MAX {
            return Err(ExpectationError::Full);
        }
        self.list.push(Expectation {
            incident: incident.id.clone(),
            workload: incident.workload.key.clone(),
            shapes,
            severity: incident.severity,
            said,
            covered: 0,
            latest: None,
        });
        self.list.sort_by(|one, other| one.incident.cmp(&other.incident));
        let at = self.list.iter().position(|made| made.incident == incident.id);
        at.and_then(|at| self.list.get(at)).ok_or(ExpectationError::Full)
    }

    /// Takes back the expectation made from `incident`; whether there was one.
    pub fn withdraw(&mut self, incident: &str) -> bool {
        let before = self.list.len();
        self.list.retain(|expectation| expectation.incident != incident);
        self.list.len() < before
    }

    /// Marks a revision when it is expected, and counts it.
    pub fn mark(&mut self, incident: &mut Incident) {
        if self.list.is_empty() {
            return;
        }
        let Some(shapes) = shapes(incident) else { return };
        let covers = |expectation: &&mut Expectation| {
            expectation.workload == incident.workload.key
                && incident.severity <= expectation.severity
                && incident.last_seen < expectation.said.until
                && shapes.is_subset(&expectation.shapes)
        };
        let Some(expectation) = self.list.iter_mut().find(covers) else { return };
        incident.expected = Some(expectation.said.clone());
        self.counters.revisions_covered += 1;
        if expectation.latest.as_ref() != Some(&incident.id) {
            expectation.covered += 1;
            expectation.latest = Some(incident.id.clone());
        }
    }

    /// Forgets what has come to its end.
    pub fn advance(&mut self, now: Timestamp) {
        let before = self.list.len();
        self.list.retain(|expectation| expectation.said.until > now);
        self.counters.ended += (before - self.list.len()) as u64;
    }

    /// All of them, by incident.
    #[must_use]
    pub fn list(&self) -> &[Expectation] {
        &self.list
    }

    /// What became of incidents.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { standing: self.list.len(), ..self.counters }
    }

    /// The serialised form.
    ///
    /// # Errors
    ///
    /// None that can happen with the types at hand; the serializer's own is passed on.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ExpectationError> {
        Ok(serde_json::to_vec(&Stored { version: FORMAT_VERSION, expectations: self.list.clone() })?)
    }

    /// Reads the list as `breachline incidents expected --json` prints it.
    ///
    /// # Errors
    ///
    /// When it is no such list.
    pub fn from_listed(json: &[u8]) -> Result<Self, ExpectationError> {
        let mut list: Vec<Expectation> = serde_json::from_slice(json)?;
        list.truncate(EXPECTATIONS_MAX);
        Ok(Self { list, counters: Counters::default() })
    }

    /// Reads the serialised form.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged or another version's.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ExpectationError> {
        let mut stored: Stored = serde_json::from_slice(bytes)?;
        if stored.version != FORMAT_VERSION {
            return Err(ExpectationError::Version { found: stored.version });
        }
        stored.expectations.truncate(EXPECTATIONS_MAX);
        Ok(Self { list: stored.expectations, counters: Counters::default() })
    }
}

/// The shapes of an incident's steps; `None` when not all of its steps are listed.
fn shapes(incident: &Incident) -> Option<BTreeSet<String>> {
    let whole = incident.timeline_omitted == 0 && !incident.timeline.is_empty();
    whole.then(|| incident.timeline.iter().map(|step| shape(step, incident)).collect())
}

fn shape(step: &Step, incident: &Incident) -> String {
    let program = |node: &Option<ProcessNode>| node.as_ref().map_or_else(String::new, |node| node.exe_path.to_string());
    match &step.evidence {
        StepEvidence::Request { request, verdict } => {
            let path = request.url.split(['?', '#']).next().unwrap_or_default();
            let class = verdict.as_ref().map_or_else(|| "ordinary".into(), |verdict| format!("{:?}", verdict.class));
            format!("request {} {path} {class}", request.method)
        }
        StepEvidence::Host { finding: HostFinding::Metadata { service, path, .. }, process, .. } => {
            format!("metadata {} {service} {path:?}", program(process))
        }
        StepEvidence::Host { process, .. } => {
            let parent = process.as_ref().and_then(|node| parent(incident, node.process)).unwrap_or_default();
            let line = process.as_ref().map_or("", |node| &node.command_line);
            format!("program {parent} > {}: {}", program(process), template(line))
        }
        StepEvidence::Peer { peer, protocol, name, process, .. } => {
            format!("peer {} -> {}", program(process), peer_name(*peer, *protocol, name.as_deref()))
        }
    }
}

fn parent(incident: &Incident, process: ProcessKey) -> Option<&str> {
    let nodes = &incident.processes.nodes;
    let node = nodes.iter().find(|node| node.process.process == process)?;
    nodes.get(node.parent?).map(|parent| &*parent.process.exe_path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn incident(id: &str) -> Incident {
        let mut incident: Incident =
            serde_json::from_str(include_str!("incident/text/full_chain.json")).expect("reads");
        incident.id = id.into();
        incident
    }

    fn said() -> Expected {
        let until = incident("a").last_seen.plus(Duration::from_secs(86_400));
        Expected { owner: "shop team".into(), reason: "the nightly probe".into(), until }
    }

    fn expecting() -> Expectations {
        let mut expectations = Expectations::default();
        let marked = incident("a");
        expectations.expect(&marked, said(), marked.last_seen).expect("marked");
        expectations
    }

    fn is_expected(expectations: &mut Expectations, change: impl FnOnce(&mut Incident)) -> bool {
        let mut later = incident("b");
        change(&mut later);
        expectations.mark(&mut later);
        later.expected.is_some()
    }

    #[test]
    fn the_same_again_is_expected_and_counted() {
        let mut expectations = expecting();
        assert!(is_expected(&mut expectations, |_| ()));
        assert!(is_expected(&mut expectations, |later| later.timeline.truncate(2)), "less of the same");
        assert_eq!((expectations.list()[0].covered, expectations.counters().revisions_covered), (1, 2));
    }

    #[test]
    fn anything_else_is_not() {
        let mut expectations = expecting();
        assert!(!is_expected(&mut expectations, |later| later.workload.key = WorkloadKey::new("unit:other.service")));
        assert!(!is_expected(&mut expectations, |later| later.last_seen = said().until));
        assert!(!is_expected(&mut expectations, |later| later.timeline_omitted = 1));
        let other_command = |later: &mut Incident| match &mut later.timeline[1].evidence {
            StepEvidence::Host { process: Some(process), .. } => process.command_line = "sh -c id".into(),
            _ => panic!("a shell"),
        };
        assert!(!is_expected(&mut expectations, other_command));
        let other_peer = |later: &mut Incident| match &mut later.timeline[3].evidence {
            StepEvidence::Peer { peer, .. } => *peer = "198.51.100.77:4444".parse().expect("peer"),
            _ => panic!("a peer"),
        };
        assert!(!is_expected(&mut expectations, other_peer));
        expectations.list[0].severity = Severity::High;
        assert!(!is_expected(&mut expectations, |_| ()), "worse than what was marked");
    }

    #[test]
    fn an_end_and_a_withdrawal_end_it() {
        let mut expectations = expecting();
        expectations.advance(said().until);
        assert_eq!((expectations.list().len(), expectations.counters().ended), (0, 1));
        let mut expectations = expecting();
        assert!(expectations.withdraw("a") && !expectations.withdraw("a"));
        assert!(!is_expected(&mut expectations, |_| ()));
    }

    #[test]
    fn what_cannot_be_expected_is_refused() {
        let check = |change: &dyn Fn(&mut Incident, &mut Expected), expected: &str| {
            let (mut marked, mut said) = (incident("a"), said());
            change(&mut marked, &mut said);
            let error =
                Expectations::default().expect(&marked, said, marked.last_seen).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&|_, said| said.owner.clear(), "owner");
        check(&|_, said| said.reason = "x".repeat(2000), "reason");
        check(&|marked, said| said.until = marked.last_seen, "has passed");
        check(&|marked, _| marked.timeline_omitted = 3, "every step");
        let mut full = Expectations::default();
        for number in 0..EXPECTATIONS_MAX {
            let marked = incident(&number.to_string());
            full.expect(&marked, said(), marked.last_seen).expect("room");
        }
        let one_more = incident("more");
        assert!(full.expect(&one_more, said(), one_more.last_seen).is_err());
    }

    #[test]
    fn the_stored_form_reads_back_and_rubbish_does_not() {
        let expectations = expecting();
        let bytes = expectations.to_bytes().expect("writes");
        assert_eq!(Expectations::from_bytes(&bytes).expect("reads").list(), expectations.list());
        assert!(Expectations::from_bytes(b"[]").is_err());
        assert!(Expectations::from_bytes(br#"{"version":9,"expectations":[]}"#).is_err());
    }
}
