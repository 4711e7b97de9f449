//! The incident: one record that a responder can act on without opening anything else.
//!
//! In: what the correlator found, as plain values. Out: a versioned JSON record (serde) and its human forms
//! ([`text`], [`html`]). It never judges: severity, confidence and order come with the values.

pub mod coverage;
pub mod exposure;
pub mod html;
pub mod process_tree;
pub mod response;
pub mod technique;
pub mod text;
pub mod wording;

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::Protocol;
use crate::evidence::{HostFinding, Outcome, ProcessNode};
use crate::request::{Indicator, Request, Verdict};
use crate::timestamp::Timestamp;
use crate::workload::{Runtime, Workload, WorkloadKey};

use coverage::{SenseCoverage, WorkloadCoverage};
use exposure::Exposure;
use process_tree::ProcessTree;
use response::ResponseStep;
use technique::Technique;

/// Version of the incident record (`schema` field). Fields may be added under the same version.
pub const INCIDENT_SCHEMA_VERSION: u32 = 1;

/// How bad it is; follows from the stages present and the strength of their joins.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// One stage: recorded, never raised by default.
    Low,
    /// Two stages loosely joined.
    Medium,
    /// Two stages strongly joined.
    High,
    /// All three.
    Critical,
}

/// The three stages of a web breach (MITRE ATT&CK analytic AN0223).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The load balancer logged exploit-like input, or an error spike.
    Edge,
    /// The workload started a shell or reached for credentials.
    Host,
    /// The workload reached an external peer it never needed before.
    Egress,
}

/// How two pieces of evidence are tied in space, weakest first.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// They happened on the same host.
    SameHost,
    /// They happened in the same instance of the workload.
    SameWorkload,
    /// The later one descends from the process behind the earlier one: the owner of the target's listener, or the shell.
    Descendant,
    /// The request came over the very connection that the service was answering when it started what followed.
    Connection,
}

/// How a request and what followed it are tied in time, weakest first.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    /// Longer before than the loose window; only an echo ties them.
    Distant,
    /// Before, within the loose window (default 15 minutes).
    Loose,
    /// Before, within the tight window (default 120 seconds).
    Tight,
    /// In flight when the clocks' skew is allowed for.
    Skewed,
    /// In flight: received before and completed after.
    InFlight,
}

impl Timing {
    /// Whether the request is pinned: in flight, skew allowed for.
    #[must_use]
    pub const fn pinned(self) -> bool {
        matches!(self, Self::Skewed | Self::InFlight)
    }
}

/// Something of the request that reappeared on the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Echo {
    /// What the request said.
    pub indicator: Indicator,
    /// Where it reappeared: a command line, a name looked up, a peer.
    pub seen_in: String,
    /// Distinctive enough to decide by itself; a common word (`id`, `/etc/passwd`) counts only while in flight.
    pub distinctive: bool,
}

/// A request that may have done it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The request.
    pub request: Request,
    /// The judge's word; absent for a request that looked ordinary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Tie in space.
    pub join: Join,
    /// Tie in time.
    pub timing: Timing,
    /// What reappeared on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub echoes: Vec<Echo>,
    /// Natural logarithm of how much likelier a breach makes this match than chance does; rounded to 0.01.
    pub weight: f64,
    /// One sentence: why it is a candidate.
    pub reason: String,
}

/// The requests that may have done it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Candidates {
    /// Best first; the first is the one named. Bounded.
    pub ranked: Vec<Candidate>,
    /// Requests in flight at the first finding on the host, about; 0 when none was seen.
    pub in_flight: u64,
    /// Further candidates that are not listed.
    pub omitted: u64,
}

impl Candidates {
    /// The request named first.
    #[must_use]
    pub fn best(&self) -> Option<&Candidate> {
        self.ranked.first()
    }
}

/// The attack that an incident is part of, as far as what the attacker brought along tells: incidents of other root processes,
/// replicas and hosts with the same name, or with an indicator in common, are the same attacker's doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// Made of the first indicator alone: the same wherever that one shows.
    pub id: String,
    /// `address A`, `host NAME`, `client A`; the attacker's own first. Bounded.
    pub indicators: Vec<String>,
}

/// What stands behind a step of the timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StepEvidence {
    /// A request at the edge.
    Request {
        /// The request.
        request: Box<Request>,
        /// The judge's word.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verdict: Option<Box<Verdict>>,
    },
    /// A finding on the host.
    Host {
        /// What.
        finding: HostFinding,
        /// Which process.
        process: Option<ProcessNode>,
        /// What a metadata endpoint answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
    /// An external peer.
    Peer {
        /// Whom.
        peer: SocketAddr,
        /// How.
        protocol: Protocol,
        /// Name the workload looked up for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Arc<str>>,
        /// The server that its TLS hello asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server_name: Option<Arc<str>>,
        /// Which process.
        process: Option<ProcessNode>,
        /// What became of it, once it has ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcome: Option<Outcome>,
    },
}

/// One step of the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// Which stage.
    pub stage: Stage,
    /// ATT&CK technique.
    pub technique: Technique,
    /// What stands behind it.
    pub evidence: StepEvidence,
    /// One sentence: why this counts.
    pub reason: String,
    /// How it is tied to the chain.
    pub join: Join,
}

/// One summand of the score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// Stage that it belongs to; each stage is capped.
    pub stage: Stage,
    /// Stable name.
    pub name: String,
    /// Log-likelihood ratio (nats), rounded to 0.01.
    pub weight: f64,
    /// One sentence.
    pub reason: String,
}

/// One revision of one incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// [`INCIDENT_SCHEMA_VERSION`].
    pub schema: u32,
    /// Stable for the incident's life.
    pub id: String,
    /// 1 for the first, growing by one.
    pub revision: u32,
    /// Severity now.
    pub severity: Severity,
    /// One sentence.
    pub title: String,
    /// Time of the earliest evidence.
    pub first_seen: Timestamp,
    /// Time of the latest evidence.
    pub last_seen: Timestamp,
    /// Where.
    pub workload: Workload,
    /// Edge evidence is still pending: a load balancer's line may yet arrive and raise this.
    #[serde(default)]
    pub provisional: bool,
    /// Nothing that arrives within the lateness bound can change this any more.
    #[serde(default)]
    pub settled: bool,
    /// This record was found to be part of another incident, whose id this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<String>,
    /// Stages present, in the chain's order.
    #[serde(default)]
    pub stages: Vec<Stage>,
    /// Probability of a breach that the contributions amount to, 0 to 0.99, rounded to 0.01.
    #[serde(default)]
    pub confidence: f64,
    /// What the confidence is made of, strongest first within each stage.
    #[serde(default)]
    pub contributions: Vec<Contribution>,
    /// What happened, in order. Bounded.
    #[serde(default)]
    pub timeline: Vec<Step>,
    /// Further evidence of the same chain that is not listed, about.
    #[serde(default)]
    pub timeline_omitted: u64,
    /// The requests that may have done it.
    #[serde(default)]
    pub candidates: Candidates,
    /// The attack that it is part of, where something tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Campaign>,
    /// Processes involved.
    #[serde(default)]
    pub processes: ProcessTree,
    /// Credentials exposed.
    #[serde(default)]
    pub exposures: Vec<Exposure>,
    /// What to do next, in order.
    #[serde(default)]
    pub response: Vec<ResponseStep>,
    /// ATT&CK techniques of the whole chain.
    #[serde(default)]
    pub techniques: Vec<Technique>,
    /// Telemetry that was absent, late or lost: one sentence each.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Who answers for the workload, where the operator's config names someone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// How well the workload is seen; only a live agent can say, since it hangs on when things arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<WorkloadCoverage>,
    /// What each kernel sense could do when this was raised; only a live agent can say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub senses: Vec<SenseCoverage>,
    /// An operator said that this is to be expected: kept and counted, not delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
}

/// Who said that an incident is to be expected, why, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// From then on it is an incident again.
    pub until: Timestamp,
}

impl Default for Incident {
    /// An empty record on an unknown workload, to be filled with struct update syntax.
    fn default() -> Self {
        Self {
            schema: INCIDENT_SCHEMA_VERSION,
            id: String::new(),
            revision: 1,
            severity: Severity::Low,
            title: String::new(),
            first_seen: Timestamp::default(),
            last_seen: Timestamp::default(),
            workload: Workload {
                key: WorkloadKey::new("host"),
                runtime: Runtime::Unknown,
                cgroup: Arc::from("/"),
                unit: None,
                container_id: None,
                container_name: None,
                image: None,
                pod_uid: None,
                pod: None,
            },
            provisional: false,
            settled: false,
            superseded_by: None,
            stages: Vec::new(),
            confidence: 0.0,
            contributions: Vec::new(),
            timeline: Vec::new(),
            timeline_omitted: 0,
            candidates: Candidates::default(),
            campaign: None,
            processes: ProcessTree::default(),
            exposures: Vec::new(),
            response: Vec::new(),
            techniques: Vec::new(),
            missing: Vec::new(),
            owner: None,
            coverage: None,
            senses: Vec::new(),
            expected: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_first_fields_alone_is_still_read() {
        let text = r#"{"schema":1,"id":"a","revision":2,"severity":"high","title":"t",
            "first_seen":"2026-11-22T10:00:00Z","last_seen":"2026-11-22T10:00:01Z",
            "workload":{"key":"unit:shop.service","runtime":"systemd","cgroup":"/system.slice/shop.service"}}"#;
        let incident: Incident = serde_json::from_str(text).expect("reads");
        assert_eq!((incident.revision, incident.timeline.len(), incident.provisional), (2, 0, false));
        let again: Incident = serde_json::from_str(&serde_json::to_string(&incident).expect("writes")).expect("reads");
        assert_eq!(incident, again);
    }
}
