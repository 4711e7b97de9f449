//! Evidence: something the host did or the edge saw, judged and placed on a workload. The correlator speaks nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{Connection, FileId, FlowState, MetadataPath, ProcessKey, Protocol, RawFamily};
use crate::request::{AccessRecord, Verdict};
use crate::timestamp::Timestamp;
use crate::workload::{Workload, WorkloadKey};

/// One process of a lineage, as kept for explanation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessNode {
    /// Who.
    pub process: ProcessKey,
    /// Resolved path of its program; empty when it was never learned.
    pub exe_path: Arc<str>,
    /// Its program's file.
    pub exe: FileId,
    /// Arguments joined with spaces, bounded and printable.
    pub command_line: Arc<str>,
    /// Real user id.
    pub uid: u32,
    /// When it started this program.
    pub started: Timestamp,
}

/// Where a thing happened: process, its ancestors, its workload, the service it serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// The workload instance.
    pub workload: Arc<Workload>,
    /// The process and its ancestors, from itself upward; bounded. Frozen at fork: reparenting does not cut it.
    pub lineage: Vec<ProcessNode>,
    /// The nearest member of `lineage` that owns (or inherited) a listening socket: the service it descends from.
    pub service: Option<ServiceRoot>,
}

impl Placement {
    /// The process itself.
    #[must_use]
    pub fn process(&self) -> Option<&ProcessNode> {
        self.lineage.first()
    }

    /// Whether the process is, or descends from, `ancestor`.
    #[must_use]
    pub fn descends_from(&self, ancestor: ProcessKey) -> bool {
        self.lineage.iter().any(|node| node.process == ancestor)
    }
}

/// The process that owns a workload's listening sockets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceRoot {
    /// Who listens.
    pub process: ProcessKey,
    /// On what.
    pub listeners: Vec<SocketAddr>,
}

/// What the baseline says of something.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Novelty {
    /// Never seen on this workload, whose learning is complete.
    New,
    /// Never seen, but the workload is still being learned.
    NewWhileLearning,
    /// Seen before as ordinary.
    Known,
    /// A list of the owner's calls it bad, whether or not it was seen before.
    Notorious,
}

/// Family of a program that runs what it is told.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramClass {
    /// sh, bash, dash, zsh, ksh, ash, busybox and toybox as a shell, fish, …
    Shell,
    /// python, perl, ruby, php, node, lua, awk, … run on code that did not come with the service.
    Interpreter,
    /// curl, wget, nc, socat, openssl s_client, …: fetches or connects on command.
    TransferTool,
}

/// What a workload did that an intruder does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "host", rename_all = "snake_case")]
pub enum HostFinding {
    /// A shell or interpreter was started under a service.
    Spawn {
        /// What kind of program.
        class: ProgramClass,
        /// One of its descriptors 0 to 2 is an internet socket.
        socket_stdio: bool,
        /// It runs from memory or from a deleted file.
        fileless: bool,
    },
    /// A program without a name on disk was started under a service.
    FilelessExec,
    /// A metadata endpoint was reached.
    Metadata {
        /// Endpoint.
        endpoint: SocketAddr,
        /// Service behind the address (`aws_imds`, `aws_ecs`, `gcp`, …: `kernel::metadata` table).
        service: Arc<str>,
        /// What was asked, as far as it was seen.
        path: MetadataPath,
        /// Role or account named.
        role: Option<Arc<str>>,
        /// IMDSv2 token carried, when a request was seen.
        token: Option<bool>,
    },
    /// A socket was made on which packets are written by hand: what is sent there, no sense sees.
    RawSocket {
        /// Of which family.
        family: RawFamily,
        /// IP protocol number of an internet socket.
        protocol: u8,
    },
}

impl HostFinding {
    /// Whether a program was started.
    #[must_use]
    pub const fn is_execution(&self) -> bool {
        matches!(self, Self::Spawn { .. } | Self::FilelessExec)
    }
}

/// The host stage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostEvidence {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub place: Placement,
    /// What.
    #[serde(flatten)]
    pub finding: HostFinding,
    /// What is normal here.
    pub novelty: Novelty,
    /// Whether it is known as something that the workload does by itself, in a way that no request brings about: a credential
    /// renewed when it was due, or with the session token that a forged request cannot hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_accord: bool,
    /// One sentence: why this counts.
    pub reason: String,
    /// The accepted connections that the service was answering when it started what this descends from, the latest used
    /// first. Empty when none is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inbound: Vec<Connection>,
    /// HTTP status that a metadata endpoint answered with, once it did. The same evidence is told again then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// What became of a contact.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Outcome {
    /// Refused or not answered, or closed after a conversation.
    pub state: FlowState,
    /// The address that was reached, where something on this host had rewritten the one asked for (a service proxy).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<SocketAddr>,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes, both ways, of datagrams to and from other peers on the same socket, of which no outcome is told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes_elsewhere: u64,
    /// From the contact to its end, milliseconds.
    pub lasted_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How many of the other hosts that share what is normal contact a peer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Prevalence {
    /// Hosts of the same service that do.
    pub same: u32,
    /// Hosts of the same service.
    pub same_of: u32,
    /// Hosts of any service that do.
    pub any: u32,
    /// Hosts of any service.
    pub any_of: u32,
}

/// The egress stage: an external peer was reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EgressEvidence {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub place: Placement,
    /// Whom.
    pub peer: SocketAddr,
    /// How.
    pub protocol: Protocol,
    /// Name the workload looked up for the address, where one was seen.
    pub name: Option<Arc<str>>,
    /// The server that its TLS hello asked for, once it did. The same evidence is told again then. Whoever connects chooses it: it
    /// is told, and makes nothing ordinary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<Arc<str>>,
    /// What is normal here.
    pub novelty: Novelty,
    /// One sentence: why this counts.
    pub reason: String,
    /// How many other hosts contact it, where hosts share what is normal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prevalence: Option<Prevalence>,
    /// What became of it, once it has ended. The same evidence is told again then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// An unusual share of errors at a target.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorSpike {
    /// Errors made by the target in the window.
    pub errors: u32,
    /// Requests in the window.
    pub requests: u32,
    /// Errors that were to be expected.
    pub expected: f64,
    /// Probability of so many or more by chance.
    pub tail_probability: f64,
}

/// Which workload a request's target is, and how that was found.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteBasis {
    /// A route in the config (host name or path).
    Route,
    /// The target's address is this host's, the port nobody's that is known.
    Address,
    /// A listener owns exactly this address and port.
    Listener,
}

/// The edge stage: any request routed to a workload, benign ones included (a shell inside its window pins it). Borrowed: the
/// correlator keeps what deserves it.
#[derive(Clone, Debug)]
pub struct EdgeEvidence<'l> {
    /// The request.
    pub record: AccessRecord<'l>,
    /// The judge's word; `None` for an ordinary request.
    pub verdict: Option<&'l Verdict>,
    /// The workload it was routed to.
    pub workload: Arc<Workload>,
    /// The process that owns the target's listener.
    pub owner: Option<ProcessKey>,
    /// How the workload was found.
    pub basis: RouteBasis,
    /// The target is in an error spike.
    pub spike: Option<ErrorSpike>,
}

/// Telemetry that did not arrive: lost, shed, or cut off. Named in every incident it may have touched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gap {
    /// Start of the time that it concerns.
    pub from: Timestamp,
    /// End of that time.
    pub to: Timestamp,
    /// What is missing: a kernel sense (`exec`, `connect`, …) or an edge source.
    pub sense: String,
    /// How many records; 0 when nobody could count them.
    pub count: u64,
    /// The workload concerned; `None` when any may be.
    pub workload: Option<WorkloadKey>,
}
