//! What every record begins with: its kind, version and length, its time, and who did it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::COMM_BYTES;

/// Version of the record layouts.
pub const VERSION: u16 = 1;

/// A program started ([`crate::exec::ExecRecord`]).
pub const KIND_EXEC: u16 = 1;
/// A process was made: never a record of its own, see [`KIND_LINEAGE`].
pub const KIND_FORK: u16 = 2;
/// A process ended: likewise.
pub const KIND_EXIT: u16 = 3;
/// A peer was reached for ([`crate::contact::ContactRecord`]).
pub const KIND_CONTACT: u16 = 4;
/// What became of a connection ([`crate::socket::FlowRecord`]).
pub const KIND_FLOW: u16 = 5;
/// A socket listens ([`crate::socket::ListenRecord`]).
pub const KIND_LISTEN: u16 = 6;
/// A metadata request began ([`crate::request::RequestRecord`]).
pub const KIND_REQUEST: u16 = 7;
/// A DNS answer came in ([`crate::names::AnswerRecord`]).
pub const KIND_ANSWER: u16 = 8;
/// A socket was made that writes packets by hand ([`crate::raw::RawSocketRecord`]).
pub const KIND_RAW_SOCKET: u16 = 9;
/// A metadata endpoint answered ([`crate::request::StatusRecord`]).
pub const KIND_STATUS: u16 = 10;
/// What a process was serving when it started a program ([`crate::serving::ServingRecord`]).
pub const KIND_SERVING: u16 = 11;
/// A TLS connection began ([`crate::hello::HelloRecord`]).
pub const KIND_HELLO: u16 = 12;
/// Processes made and ended ([`crate::process::LineageLog`]).
pub const KIND_LINEAGE: u16 = 13;
/// One above the highest kind; sizes per-kind tables.
pub const KIND_END: u16 = 14;

/// First field of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Header {
    /// One of the `KIND_` numbers.
    pub kind: u16,
    /// [`VERSION`].
    pub version: u16,
    /// Bytes of the whole record, header included.
    pub length: u32,
    /// Nanoseconds since boot, suspend included (`bpf_ktime_get_boot_ns`).
    pub boot_ns: u64,
    /// Processor it happened on.
    pub cpu: u32,
    /// Zero.
    pub padding: u32,
}

/// A process: thread group id and the group leader's start.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ProcessId {
    /// `task_struct.start_boottime` of the group leader, nanoseconds since boot.
    pub start_boot_ns: u64,
    /// Thread group id, initial pid namespace.
    pub pid: u32,
    /// Zero.
    pub padding: u32,
}

/// The process that did it.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ActorRecord {
    /// Itself.
    pub process: ProcessId,
    /// `real_parent` at that moment.
    pub parent: ProcessId,
    /// cgroup v2 id.
    pub cgroup: u64,
    /// Inode of the running program.
    pub exe_inode: u64,
    /// Device of the running program (`super_block.s_dev`).
    pub exe_device: u32,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Network namespace inode number.
    pub net_ns: u32,
    /// Mount namespace inode number.
    pub mnt_ns: u32,
    /// Inode number of the pid namespace its children get (`nsproxy.pid_ns_for_children`; its own unless it unshared).
    pub pid_ns: u32,
    /// `task_struct.comm`.
    pub comm: [u8; COMM_BYTES],
}

const _: () = assert!(size_of::<Header>() == 24 && size_of::<ProcessId>() == 16 && size_of::<ActorRecord>() == 88);
