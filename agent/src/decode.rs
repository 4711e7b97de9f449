//! Ring bytes to typed events. Total: any bytes give an event or an error.
//!
//! Comes in: one record and the boot clock's distance to wall-clock time. Goes out: a [`HostEvent`] or a
//! [`DecodeError`]. Text is decoded lossily (a path or an argument may be any bytes). Never: I/O, looking anything up,
//! trusting a length.

mod dns;
mod exec;
pub mod hello;
mod request;
mod serving;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use breachline_abi::contact::{
    ContactRecord, FLAG_FIRST, FLAG_MAPPED, FLAG_METADATA, HOOK_CONNECT, HOOK_SENDMSG, HOOK_SOCK_STATE,
};
use breachline_abi::process::LineageEntry;
use breachline_abi::raw::{FAMILY_INET, FAMILY_INET6, FAMILY_PACKET, FAMILY_UNKNOWN, RawSocketRecord};
use breachline_abi::record::{
    ActorRecord, Header, KIND_ANSWER, KIND_CONTACT, KIND_EXEC, KIND_FLOW, KIND_HELLO, KIND_LISTEN, KIND_RAW_SOCKET,
    KIND_REQUEST, KIND_SERVING, KIND_STATUS, ProcessId, VERSION,
};
use breachline_abi::socket::{FLOW_CLOSED, FLOW_ESTABLISHED, FLOW_FAILED, FLOW_REFUSED, FlowRecord, ListenRecord};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::event::{
    Actor, Contact, ContactHook, Exit, FileId, Flow, FlowState, Fork, HostEvent, HostEventKind, Listen, ProcessKey,
    Protocol, RawFamily, RawSocket,
};
use crate::timestamp::Timestamp;

/// The boot clock's distance to wall-clock time: `CLOCK_REALTIME` minus `CLOCK_BOOTTIME`. `clock` reads it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct BootClock {
    /// Nanoseconds.
    pub offset_ns: i64,
}

impl BootClock {
    /// Wall-clock time of a moment of the boot clock; saturates.
    #[must_use]
    pub fn at(self, boot_ns: u64) -> Timestamp {
        let boot_ns = i64::try_from(boot_ns).unwrap_or(i64::MAX);
        Timestamp::from_unix_nanos(boot_ns.saturating_add(self.offset_ns))
    }
}

/// Why bytes are no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the record has.
    #[error("record cut: {need} bytes wanted, {got} there")]
    Truncated {
        /// Bytes the record has.
        need: usize,
        /// Bytes that are there.
        got: usize,
    },
    /// Of another version of the kernel half.
    #[error("record version {0} is not {VERSION}: agent and kernel half are of different builds")]
    Version(u16),
    /// Of no known kind.
    #[error("record kind {0} is not known")]
    Kind(u16),
    /// A number that stands for nothing.
    #[error("{field} {value} stands for nothing")]
    Value {
        /// Which.
        field: &'static str,
        /// What it was.
        value: u32,
    },
    /// What came from a name server's port is no DNS answer.
    #[error("datagram from port 53 is no DNS answer")]
    NoAnswer,
}

/// One record to an event.
///
/// # Errors
///
/// [`DecodeError`]; the bytes should be counted and dropped.
pub fn decode(bytes: &[u8], clock: BootClock) -> Result<HostEvent, DecodeError> {
    let header: Header = prefix(bytes)?;
    if header.version != VERSION {
        return Err(DecodeError::Version(header.version));
    }
    let length = usize::try_from(header.length).unwrap_or(usize::MAX);
    let record = bytes.get(..length).ok_or(DecodeError::Truncated { need: length, got: bytes.len() })?;
    let kind = match header.kind {
        KIND_EXEC => HostEventKind::Exec(Box::new(exec::decode(record)?)),
        KIND_CONTACT => HostEventKind::Contact(contact(&prefix(record)?)?),
        KIND_FLOW => HostEventKind::Flow(flow(&prefix(record)?)?),
        KIND_LISTEN => HostEventKind::Listen(listen(&prefix(record)?)),
        KIND_REQUEST => HostEventKind::MetadataRequest(request::decode(record)?),
        KIND_STATUS => HostEventKind::MetadataStatus(request::status(&prefix(record)?)?),
        KIND_ANSWER => HostEventKind::Answer(dns::decode(record)?),
        KIND_RAW_SOCKET => HostEventKind::RawSocket(raw_socket(&prefix(record)?)?),
        KIND_SERVING => HostEventKind::Serving(serving::decode(&prefix(record)?)),
        KIND_HELLO => HostEventKind::Hello(hello::decode(record)?),
        other => return Err(DecodeError::Kind(other)),
    };
    Ok(HostEvent { at: clock.at(header.boot_ns), kind })
}

/// The fixed part that a record begins with.
fn prefix<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<T, DecodeError> {
    match T::read_from_prefix(bytes) {
        Ok((record, _)) => Ok(record),
        Err(_) => Err(DecodeError::Truncated { need: size_of::<T>(), got: bytes.len() }),
    }
}

/// A process made or ended, which comes in a log with others; an end, whose own time was not asked for, was found at
/// `found_boot_ns`.
#[must_use]
pub fn lineage(entry: &LineageEntry, found_boot_ns: u64, clock: BootClock) -> HostEvent {
    let actor = Actor { process: ProcessKey::from_boot_ns(entry.pid, entry.start_boot_ns), ..Actor::default() };
    if entry.child == 0 {
        let [low, high, ..] = entry.wait_status.to_le_bytes();
        let kind = HostEventKind::Exit(Exit { actor, status: high, signal: low & 0x7f });
        return HostEvent { at: clock.at(found_boot_ns), kind };
    }
    let child = ProcessKey::from_boot_ns(entry.child, entry.child_start_boot_ns);
    HostEvent { at: clock.at(entry.child_start_boot_ns), kind: HostEventKind::Fork(Fork { actor, child }) }
}

fn contact(record: &ContactRecord) -> Result<Contact, DecodeError> {
    let hook = match record.hook {
        HOOK_CONNECT => ContactHook::Connect,
        HOOK_SENDMSG => ContactHook::Sendmsg,
        HOOK_SOCK_STATE => ContactHook::SockState,
        other => return Err(DecodeError::Value { field: "hook", value: other.into() }),
    };
    let flag = |flag: u8| record.flags & flag != 0;
    Ok(Contact {
        actor: actor(&record.actor),
        peer: endpoint(record.peer, record.port),
        mapped: flag(FLAG_MAPPED),
        protocol: protocol(record.protocol),
        hook,
        first: flag(FLAG_FIRST),
        metadata: flag(FLAG_METADATA),
        socket: record.socket,
    })
}

fn flow(record: &FlowRecord) -> Result<Flow, DecodeError> {
    let state = match record.state {
        FLOW_ESTABLISHED => FlowState::Established,
        FLOW_FAILED => FlowState::Failed,
        FLOW_REFUSED => FlowState::Refused,
        FLOW_CLOSED => FlowState::Closed,
        other => return Err(DecodeError::Value { field: "flow state", value: other.into() }),
    };
    Ok(Flow {
        socket: record.socket,
        peer: endpoint(record.peer, record.peer_port),
        local: endpoint(record.local, record.local_port),
        state,
        protocol: protocol(record.protocol),
        bytes_sent: record.bytes_sent,
        bytes_received: record.bytes_received,
        bytes_elsewhere: record.bytes_elsewhere,
    })
}

fn listen(record: &ListenRecord) -> Listen {
    Listen { actor: actor(&record.actor), local: endpoint(record.local, record.port), at_start: false }
}

fn actor(record: &ActorRecord) -> Actor {
    Actor {
        process: process(record.process),
        parent: process(record.parent),
        uid: record.uid,
        euid: record.euid,
        cgroup: record.cgroup,
        net_ns: record.net_ns,
        mnt_ns: record.mnt_ns,
        pid_ns: record.pid_ns,
        exe: FileId { device: record.exe_device, inode: record.exe_inode },
        comm: text(&record.comm),
    }
}

fn process(id: ProcessId) -> ProcessKey {
    ProcessKey::from_boot_ns(id.pid, id.start_boot_ns)
}

fn raw_socket(record: &RawSocketRecord) -> Result<RawSocket, DecodeError> {
    let family = match record.family {
        FAMILY_INET => RawFamily::Inet,
        FAMILY_INET6 => RawFamily::Inet6,
        FAMILY_PACKET => RawFamily::Packet,
        FAMILY_UNKNOWN => RawFamily::Unknown,
        other => return Err(DecodeError::Value { field: "family", value: other.into() }),
    };
    // IPPROTO_RAW is 255; what is larger (MPTCP) is no raw socket's protocol.
    let protocol = u8::try_from(record.protocol).unwrap_or(u8::MAX);
    Ok(RawSocket { actor: actor(&record.actor), family, protocol })
}

/// The kernel half has every address as IPv6; v4-mapped ones are IPv4 again here.
fn endpoint(address: [u8; 16], port: u16) -> SocketAddr {
    let address = Ipv6Addr::from(address);
    SocketAddr::new(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4), port)
}

/// IANA protocol numbers.
fn protocol(number: u8) -> Protocol {
    match number {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        other => Protocol::Other(other),
    }
}

/// Text up to its NUL.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests;
