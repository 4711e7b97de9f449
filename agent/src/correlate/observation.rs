//! What the host and egress stages say, in one shape: a time, a place, a weight, and the surface that a request may echo on.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::event::{MetadataPath, ProcessKey};
use crate::evidence::{EgressEvidence, HostEvidence, HostFinding, Novelty, Placement, Prevalence, ProgramClass};
use crate::incident::Echo;
use crate::timestamp::Timestamp;

use super::echo::{Keys, Surface};
use super::fingerprint;
use super::kept::Kept;
use super::sought::Sought;

/// Identity of an observation: its time and its content without the judgement of it, so that the same event judged twice
/// (a second delivery, when the baseline already knows it) stays one.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ObservationId {
    pub(super) at: Timestamp,
    fingerprint: u64,
}

impl ObservationId {
    /// The least identity at `at`: a bound for ranges.
    pub(super) const fn first_at(at: Timestamp) -> Self {
        Self { at, fingerprint: 0 }
    }
}

/// Host or egress evidence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Finding {
    Host(HostEvidence),
    Egress(EgressEvidence),
}

/// Evidence with what the correlator derives from it once.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    pub(super) id: ObservationId,
    pub(super) finding: Finding,
    weight: f64,
    keys: Box<[u64]>,
    /// Worked out when something that a request named is among the keys, which is rare.
    surface: OnceLock<Box<Surface>>,
}

/// Chains are told apart by the instance and by the process that everything descends from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Lineage {
    /// Cgroup path of the instance.
    pub(super) cgroup: std::sync::Arc<str>,
    /// The service's process; `None` when no listener is known: then the whole instance is one lineage.
    pub(super) root: Option<ProcessKey>,
}

impl Lineage {
    /// Of a place. A pre-fork server's workers count as their master: the root is the outermost ancestor of the service's process
    /// that runs the same program without a gap.
    pub(super) fn of(place: &Placement) -> Self {
        let root = place.service.as_ref().map(|service| {
            let from_service = place.lineage.iter().skip_while(|node| node.process != service.process);
            let mut same = from_service.peekable();
            let program = same.peek().map(|node| node.exe);
            same.take_while(|node| Some(node.exe) == program).last().map_or(service.process, |node| node.process)
        });
        Self { cgroup: std::sync::Arc::clone(&place.workload.cgroup), root }
    }
}

impl Observation {
    pub(super) fn host(evidence: HostEvidence) -> Self {
        let process = evidence.place.process().map(|node| node.process);
        let id = ObservationId { at: evidence.at, fingerprint: fingerprint::of(&(0_u8, process, &evidence.finding)) };
        let keys = Keys::of(&evidence.place).with_finding(&evidence.finding);
        Self::new(id, Finding::Host(evidence), keys)
    }

    pub(super) fn egress(evidence: EgressEvidence) -> Self {
        let process = evidence.place.process().map(|node| node.process);
        let said = (1_u8, process, evidence.peer, evidence.protocol);
        let id = ObservationId { at: evidence.at, fingerprint: fingerprint::of(&said) };
        let keys = Keys::of(&evidence.place).with_peer(evidence.peer, names_of(&evidence));
        Self::new(id, Finding::Egress(evidence), keys)
    }

    fn new(id: ObservationId, finding: Finding, keys: Box<[u64]>) -> Self {
        let weight = finding.weight();
        Self { id, finding, weight, keys, surface: OnceLock::new() }
    }

    pub(super) fn from(finding: Finding) -> Self {
        match finding {
            Finding::Host(evidence) => Self::host(evidence),
            Finding::Egress(evidence) => Self::egress(evidence),
        }
    }

    /// Keys of everything that a request could name and find here, sorted.
    pub(super) fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// Whether anything with these keys may reappear here.
    pub(super) fn may_echo(&self, keys: &[Option<u64>]) -> bool {
        keys.iter().any(|key| self.may_hold(*key))
    }

    fn may_hold(&self, key: Option<u64>) -> bool {
        key.is_none_or(|key| self.keys.binary_search(&key).is_ok())
    }

    /// What of a request reappears here.
    pub(super) fn echoes_of(&self, kept: &Kept) -> Vec<Echo> {
        if self.may_echo(kept.keys()) { self.echoes(kept.sought()) } else { Vec::new() }
    }

    /// What of `sought` reappears here, in the same order.
    pub(super) fn echoes(&self, sought: &[Sought]) -> Vec<Echo> {
        if !sought.iter().any(|sought| self.may_hold(sought.key)) {
            return Vec::new();
        }
        let surface = self.surface.get_or_init(|| {
            let surface = Surface::of(self.place());
            Box::new(match &self.finding {
                Finding::Host(evidence) => surface.with_finding(&evidence.finding),
                Finding::Egress(evidence) => surface.with_peer(evidence.peer, names_of(evidence)),
            })
        });
        surface.echoes(sought.iter().filter(|sought| self.may_hold(sought.key)))
    }

    pub(super) const fn at(&self) -> Timestamp {
        self.id.at
    }

    pub(super) const fn place(&self) -> &Placement {
        match &self.finding {
            Finding::Host(evidence) => &evidence.place,
            Finding::Egress(evidence) => &evidence.place,
        }
    }

    pub(super) fn reason(&self) -> &str {
        match &self.finding {
            Finding::Host(evidence) => &evidence.reason,
            Finding::Egress(evidence) => &evidence.reason,
        }
    }

    pub(super) const fn novelty(&self) -> Novelty {
        self.finding.novelty()
    }

    /// Whether its end is known: what a metadata endpoint answered, what became of a contact.
    pub(super) const fn has_ended(&self) -> bool {
        match &self.finding {
            Finding::Host(evidence) => evidence.status.is_some(),
            Finding::Egress(evidence) => evidence.outcome.is_some(),
        }
    }

    /// Whether more is known of it than when it was first told: what its TLS hello asked for.
    pub(super) const fn has_greeted(&self) -> bool {
        matches!(&self.finding, Finding::Egress(EgressEvidence { server_name: Some(_), .. }))
    }

    pub(super) const fn as_host(&self) -> Option<&HostEvidence> {
        match &self.finding {
            Finding::Host(evidence) => Some(evidence),
            Finding::Egress(_) => None,
        }
    }

    pub(super) const fn as_egress(&self) -> Option<&EgressEvidence> {
        match &self.finding {
            Finding::Egress(evidence) => Some(evidence),
            Finding::Host(_) => None,
        }
    }

    pub(super) fn process(&self) -> Option<ProcessKey> {
        self.place().process().map(|node| node.process)
    }

    /// Whether it starts a program (rather than asking for credentials or reaching a peer).
    pub(super) const fn is_execution(&self) -> bool {
        match &self.finding {
            Finding::Host(evidence) => evidence.finding.is_execution(),
            Finding::Egress(_) => false,
        }
    }

    /// Whether it can open a chain by itself: a finding on the host that is not ordinary here.
    pub(super) fn is_pivot(&self) -> bool {
        self.as_host().is_some_and(|_| self.weight() > 0.0)
    }

    /// Whether it counts by itself, without a request that asked for it.
    pub(super) fn counts(&self) -> bool {
        self.is_pivot() || (self.as_egress().is_some() && self.novelty() != Novelty::Known)
    }

    /// Whether it is ordinary here: it counts only together with a request that asked for it.
    pub(super) fn is_ordinary(&self) -> bool {
        self.novelty() == Novelty::Known && !self.is_pivot()
    }

    /// How much likelier a breach makes this than an ordinary day, in nats.
    pub(super) const fn weight(&self) -> f64 {
        self.weight
    }
}

impl Finding {
    const fn novelty(&self) -> Novelty {
        match self {
            Self::Host(evidence) => evidence.novelty,
            Self::Egress(evidence) => evidence.novelty,
        }
    }

    /// How much likelier a breach makes this than an ordinary day, in nats. Judgement, from the false-positive causes that the
    /// field reports for each kind: an odd shell under a service is rare (3.0: twenty to one), a shell on a socket has next to no
    /// honest use, credentials are asked for by every SDK, new peers come with every webhook.
    fn weight(&self) -> f64 {
        let (base, intrinsic) = match self {
            Self::Host(evidence) => host_weight(&evidence.finding),
            Self::Egress(evidence) => {
                let rarity = evidence.prevalence.map_or(1.0, rarity);
                (rarity, if evidence.name.is_none() { 0.5 } else { 0.0 })
            }
        };
        match self.novelty() {
            Novelty::New => base + intrinsic,
            Novelty::NewWhileLearning => base * 0.5 + intrinsic,
            // Nothing honest has a reason to be there; as much again as being new.
            Novelty::Notorious => base + intrinsic + 2.5,
            // What is odd in itself stays odd, however often it was seen.
            Novelty::Known => intrinsic,
        }
    }
}

/// The names that a peer was reached by.
fn names_of(evidence: &EgressEvidence) -> impl Iterator<Item = &str> {
    evidence.name.iter().chain(&evidence.server_name).map(|name| &**name)
}

/// Hosts from which on it says something that none or so many of them contact a peer.
const HOSTS_SAY: u32 = 3;

/// What a new peer weighs by how usual it is on other hosts: a provider that many use is less odd, one that nobody ever
/// contacted is more so. Both by a factor that alone lifts nothing over a threshold.
const fn rarity(prevalence: Prevalence) -> f64 {
    match prevalence {
        Prevalence { any: 0, any_of: HOSTS_SAY.., .. } => 1.5,
        Prevalence { any: HOSTS_SAY.., .. } => 0.5,
        Prevalence { .. } => 1.0,
    }
}

/// Weight that novelty scales, and weight that the finding has in any case.
const fn host_weight(finding: &HostFinding) -> (f64, f64) {
    match finding {
        HostFinding::Spawn { class, socket_stdio, fileless } => {
            let base = match class {
                ProgramClass::Shell => 3.0,
                ProgramClass::Interpreter | ProgramClass::TransferTool => 2.5,
            };
            let socket = if *socket_stdio { 3.0 } else { 0.0 };
            let memory = if *fileless { 2.5 } else { 0.0 };
            (base, socket + memory)
        }
        HostFinding::FilelessExec => (1.5, 2.5),
        // ping and its like have one for ICMP; nothing else under a web service needs to write packets by hand.
        HostFinding::RawSocket { protocol: 1 | 58, .. } => (0.3, 0.0),
        HostFinding::RawSocket { .. } => (1.5, 0.0),
        HostFinding::Metadata { path, .. } => match path {
            MetadataPath::Credential => (3.0, 0.0),
            MetadataPath::Recon | MetadataPath::UserData => (2.0, 0.0),
            MetadataPath::Session | MetadataPath::Unknown => (1.5, 0.0),
            MetadataPath::Benign => (0.5, 0.0),
        },
    }
}
