//! A process was made; a process ended.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::{Header, ProcessId};

/// A process was made. Threads are not reported. Carries what a process takes from its parent and may have changed
/// since its exec; the rest stands in the exec record, and each field costs a cold cache line here.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ForkRecord {
    /// Header.
    pub header: Header,
    /// The parent.
    pub process: ProcessId,
    /// Its own parent.
    pub parent: ProcessId,
    /// The child.
    pub child: ProcessId,
    /// cgroup v2 id.
    pub cgroup: u64,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Network namespace inode number.
    pub net_ns: u32,
    /// Zero.
    pub padding: u32,
}

/// The last thread of a process ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ExitRecord {
    /// Header.
    pub header: Header,
    /// Who.
    pub process: ProcessId,
    /// As `wait(2)` reports it: signal in the low 7 bits, exit status in the second byte.
    pub wait_status: u32,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<ForkRecord>() == 96 && size_of::<ExitRecord>() == 48);
