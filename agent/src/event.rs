//! What the host did: kernel records decoded, and the facts /proc and cgroupfs add to them.
//!
//! [`HostEvent`] is also the recording format: `breachline run --record DIR` writes one JSON object a line, `breachline
//! replay --host FILE` reads them. Everything that a live agent had to look up (process table at start, cgroup paths,
//! listeners) is an event here too, so a recording replays on another machine without looking anything up.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// Version of the recording format, in its first line (`{"schema":1,…}`). Fields may be added under the same
/// version; a changed meaning takes a new one.
pub const HOST_SCHEMA_VERSION: u32 = 1;

/// A process for ever: pid and start time. A pid alone is reused.
///
/// The start is in clock ticks since boot (`USER_HZ` = 100), the unit of `/proc/PID/stat` field 22, so that kernel
/// records (`task_struct.start_boottime`, nanoseconds, divided by 10,000,000) and procfs give the same key.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ProcessKey {
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// Clock ticks since boot; 0 when not known.
    pub start_ticks: u64,
}

impl ProcessKey {
    /// Nanoseconds in a clock tick.
    pub const TICK_NS: u64 = 10_000_000;

    /// From a kernel record's start time.
    #[must_use]
    pub const fn from_boot_ns(pid: u32, start_boot_ns: u64) -> Self {
        Self { pid, start_ticks: start_boot_ns / Self::TICK_NS }
    }
}

impl fmt::Debug for ProcessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid, self.start_ticks)
    }
}

/// A file for as long as it exists: what a program *is*, whatever it is called.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct FileId {
    /// Device number as the kernel keeps it (`MKDEV` form, `super_block.s_dev`).
    pub device: u32,
    /// Inode number.
    pub inode: u64,
}

/// Who did it: the identity every kernel record carries.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Actor {
    /// The process.
    pub process: ProcessKey,
    /// Its parent at that moment (`real_parent`); a reparented child shows its reaper here, the process table keeps the truth.
    pub parent: ProcessKey,
    /// Real user id, initial user namespace.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// cgroup v2 id; 0 when the process sits in none (pure v1).
    pub cgroup: u64,
    /// Network namespace inode number.
    pub net_ns: u32,
    /// Mount namespace inode number.
    pub mnt_ns: u32,
    /// Pid namespace inode number.
    pub pid_ns: u32,
    /// The running program's file.
    pub exe: FileId,
    /// `comm`, for display only: the process chooses it.
    pub comm: String,
}

/// What a standard descriptor is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdio {
    /// Not known on this kernel.
    #[default]
    Unknown,
    /// Closed.
    Closed,
    /// A file, or a device that is no terminal.
    File,
    /// A terminal.
    Terminal,
    /// A pipe or FIFO.
    Pipe,
    /// An internet socket: a shell on one is a reverse or bind shell.
    InetSocket,
    /// Any other socket.
    OtherSocket,
}

/// A program started: the kernel is past the point of no return.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Exec {
    /// Who, already with the new program's identity.
    pub actor: Actor,
    /// Resolved path of the running file (symlinks followed; mount points crossed), as the process' root sees it.
    pub exe_path: String,
    /// Path as it was asked for (`bprm->filename`): a script's own path, a symlink's.
    pub filename: String,
    /// Interpreter path (`bprm->interp`) when it differs from `filename`: this was a script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
    /// Arguments, lossily decoded, up to 4 KiB together.
    pub argv: Vec<String>,
    /// Whether `argv` was cut.
    #[serde(default)]
    pub argv_truncated: bool,
    /// Working directory; empty when not known.
    #[serde(default)]
    pub cwd: String,
    /// Descriptors 0, 1 and 2.
    #[serde(default)]
    pub stdio: [Stdio; 3],
    /// Links to the file: 0 means it has no name any more (memfd, deleted).
    pub link_count: u32,
    /// The file lives in memory only (`memfd_create`).
    #[serde(default)]
    pub memfd: bool,
    /// Effective capabilities, one bit each (`capability.h` order).
    #[serde(default)]
    pub capabilities: u64,
    /// Ancestors from the parent upward as the kernel's own lineage knows them, frozen at fork: reparenting does not change it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<ProcessKey>,
}

/// A process was made. The child of a vfork or `posix_spawn` is not told: its exec names its line.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fork {
    /// The parent: the process alone; the rest is left empty, its own records said it.
    pub actor: Actor,
    /// The child.
    pub child: ProcessKey,
}

/// A process (its last thread) ended.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Exit {
    /// Who: the process alone, the rest is left empty.
    pub actor: Actor,
    /// Exit status, when it ended by itself.
    pub status: u8,
    /// Signal that ended it, 0 when none.
    pub signal: u8,
}

/// Transport protocol of a contact.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP (MPTCP included).
    Tcp,
    /// UDP.
    Udp,
    /// Any other, by its number.
    Other(u8),
}

/// How the contact was sensed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactHook {
    /// `cgroup/connect4`, `cgroup/connect6`.
    Connect,
    /// `cgroup/sendmsg4`, `cgroup/sendmsg6`.
    Sendmsg,
    /// `inet_sock_set_state` to SYN_SENT without a connect record: the cross-check.
    SockState,
}

/// A process reached for a peer. One record for the first contact of (workload, program, peer, port, protocol); the kernel only
/// counts the rest, unless the line is tainted or the peer is a metadata endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Who.
    pub actor: Actor,
    /// Address asked for, v4-mapped and NAT64 forms unwrapped.
    pub peer: SocketAddr,
    /// The address came in a v4-mapped or NAT64 form.
    #[serde(default)]
    pub mapped: bool,
    /// Transport.
    pub protocol: Protocol,
    /// Sensed by.
    pub hook: ContactHook,
    /// First contact of this key since the kernel's memory of it began.
    pub first: bool,
    /// The peer stands in the metadata table.
    #[serde(default)]
    pub metadata: bool,
    /// Socket cookie: joins this with its [`Flow`]; 0 when not known.
    #[serde(default)]
    pub socket: u64,
}

/// What became of a connection, or of a contact by datagrams.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// The handshake completed.
    Established,
    /// It ended without having been established; datagrams: unanswered.
    Failed,
    /// The other side refused it: a reset, or ICMP's word for a port on which nobody listens. Of datagrams that word is seen
    /// only where the process did not take note of it.
    Refused,
    /// It ended after having been established; datagrams: answered.
    Closed,
}

/// Outcome of a connection of interest (a first contact's, a metadata endpoint's), or of such a contact by datagrams, which
/// ends with its socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Socket cookie of the [`Contact`].
    pub socket: u64,
    /// Far end.
    pub peer: SocketAddr,
    /// Near end.
    pub local: SocketAddr,
    /// What became of it.
    pub state: FlowState,
    /// How.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    /// Payload bytes sent, retransmissions left out, when closed.
    #[serde(default)]
    pub bytes_sent: u64,
    /// Payload bytes received, when closed.
    #[serde(default)]
    pub bytes_received: u64,
    /// Payload bytes of datagrams that the socket exchanged with peers of which no outcome is told, both ways.
    #[serde(default)]
    pub bytes_elsewhere: u64,
}

/// What recordings meant that did not say.
const fn tcp() -> Protocol {
    Protocol::Tcp
}

/// A socket listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// Owner.
    pub actor: Actor,
    /// Address and port; unspecified (`0.0.0.0`, `::`) means every address of the namespace.
    pub local: SocketAddr,
    /// Known from /proc at start rather than seen happening.
    #[serde(default)]
    pub at_start: bool,
}

/// What a metadata request asked for, from its first line.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetadataPath {
    /// An IMDSv2 session token.
    Session,
    /// Which credentials there are.
    Recon,
    /// Credentials themselves.
    Credential,
    /// User data, start-up scripts, custom data.
    UserData,
    /// Instance id, placement and the like.
    Benign,
    /// Not seen or not understood.
    Unknown,
}

/// A plain HTTP request to a metadata endpoint, as far as its first bytes tell. Never a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataRequest {
    /// Who, when the socket could be traced to its process.
    pub actor: Actor,
    /// Socket cookie of the [`Contact`].
    pub socket: u64,
    /// Endpoint.
    pub peer: SocketAddr,
    /// HTTP method.
    pub method: String,
    /// Path class.
    pub path: MetadataPath,
    /// Role or account named in the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The request carried a session token header (IMDSv2).
    #[serde(default)]
    pub token: bool,
}

/// A metadata endpoint answered. Nothing of the answer is known but its status: its body is the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataStatus {
    /// Who had asked.
    pub actor: Actor,
    /// Socket cookie of the [`MetadataRequest`], the last one on it is meant.
    pub socket: u64,
    /// Endpoint.
    pub peer: SocketAddr,
    /// HTTP status code.
    pub status: u16,
}

/// An address that a name stands for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedAddress {
    /// The address.
    pub address: IpAddr,
    /// How long the answer may be used, seconds: the shortest of the records that lead to the address.
    pub ttl_seconds: u32,
}

/// A name server answered somebody on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameAnswer {
    /// cgroup v2 id of the socket that received it: who asked, or who asked on behalf of others.
    pub cgroup: u64,
    /// The server.
    pub server: IpAddr,
    /// The name asked for, lower case, without a dot at its end; whatever aliases lay between it and the addresses.
    pub name: String,
    /// What it stands for.
    pub addresses: Vec<NamedAddress>,
}

/// A TLS connection began: the client's hello, which travels in the clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsHello {
    /// Socket cookie of the [`Contact`].
    pub socket: u64,
    /// The server asked for, lower case. The client chose it: nobody vouches for it. `None` where none was asked for, or where the
    /// hello was cut before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// Family of a socket whose owner writes packets by hand.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RawFamily {
    /// IPv4, below the transport.
    Inet,
    /// IPv6, below the transport.
    Inet6,
    /// `AF_PACKET`: whole frames, past every other sense.
    Packet,
    /// Not known: the right to make one (`CAP_NET_RAW`) was used in a way that does not show the family.
    Unknown,
}

/// A process made a socket on which it writes packets by hand, or whose protocol is not followed (SCTP, DCCP, L2TP, datagrams of
/// ICMP).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawSocket {
    /// Who.
    pub actor: Actor,
    /// Of which family.
    pub family: RawFamily,
    /// IP protocol number of an internet socket (1 and 58 are ping's), 0 otherwise.
    pub protocol: u8,
}

/// An established TCP connection, both ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Connection {
    /// Far end.
    pub peer: SocketAddr,
    /// Near end.
    pub local: SocketAddr,
}

/// Who was at the other end when a program was started. Comes before its [`Exec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// The process that starts the program.
    pub child: ProcessKey,
    /// Its parent.
    pub server: ProcessKey,
    /// The parent's connections on which something had just been received, the latest first. Accepted ones and others: which
    /// are which, its listeners tell.
    pub connections: Vec<Connection>,
    /// Further ones that are not listed.
    #[serde(default)]
    pub omitted: u32,
    /// The connection that is the program's own descriptor 0, 1 or 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdio: Option<Connection>,
}

/// A process that was already there (read from /proc at start, or on a miss).
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProcessSeen {
    /// Who.
    pub actor: Actor,
    /// Resolved path of its program.
    pub exe_path: String,
    /// Arguments.
    pub argv: Vec<String>,
    /// Path in the `name=systemd` hierarchy of cgroup v1, on hosts where cgroup v2 holds every process in its root and so
    /// tells nothing apart. Counts for the process and what it forks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy_cgroup: Option<String>,
    /// When it was started; the event's time where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
}

/// The path behind a cgroup id, read from cgroupfs when the id was first met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupSeen {
    /// cgroup v2 id.
    pub id: u64,
    /// Path from the hierarchy's root, e.g. `/system.slice/nginx.service`.
    pub path: String,
    /// Container name and image, where the runtime's state told them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// Image reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// `namespace/name` of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

/// The addresses a network namespace owns, so that a target `ip:port` finds the listener bound to `0.0.0.0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressesSeen {
    /// Network namespace inode number.
    pub net_ns: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A file has the content of a known program, whatever it is called: a copied or renamed shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramSeen {
    /// The file.
    pub file: FileId,
    /// Path of the program whose content it has, as it was first met.
    pub copy_of: String,
}

/// Records the kernel half could not hand over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Record kind (`exec`, `fork`, `exit`, `connect`, `flow`, `listen`, `metadata`, `names`, `server names`, `raw`,
    /// `inbound`).
    pub sense: String,
    /// How many since the last such event; 0 when nobody knows, because nobody watched.
    pub count: u64,
    /// From when on, where that is longer ago than the agent's usual interval: an agent took over from an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// One thing the host did, or one fact about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HostEventKind {
    /// A program started.
    Exec(Box<Exec>),
    /// A process was made.
    Fork(Fork),
    /// A process ended.
    Exit(Exit),
    /// A peer was reached for.
    Contact(Contact),
    /// What became of a connection.
    Flow(Flow),
    /// A socket listens.
    Listen(Listen),
    /// A metadata request's first line.
    MetadataRequest(MetadataRequest),
    /// The status of its answer.
    MetadataStatus(MetadataStatus),
    /// A name server's answer.
    Answer(NameAnswer),
    /// A TLS connection began.
    Hello(TlsHello),
    /// A raw or packet socket was made.
    RawSocket(RawSocket),
    /// Who was at the other end when a program was started.
    Serving(Serving),
    /// A process that was already there.
    Process(ProcessSeen),
    /// A cgroup's path.
    Cgroup(CgroupSeen),
    /// A namespace's addresses.
    Addresses(AddressesSeen),
    /// A file's content is a known program's.
    Program(ProgramSeen),
    /// Records lost.
    Loss(Loss),
}

/// [`HostEventKind`] with its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEvent {
    /// Event time: the kernel's boot clock turned to wall-clock time.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub kind: HostEventKind,
}
