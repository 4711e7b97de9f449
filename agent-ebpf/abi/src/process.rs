//! A process was made; a process ended.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::{ActorRecord, Header, ProcessId};

/// A process was made. Threads are not reported.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ForkRecord {
    /// Header.
    pub header: Header,
    /// The parent.
    pub actor: ActorRecord,
    /// The child.
    pub child: ProcessId,
}

/// The last thread of a process ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ExitRecord {
    /// Header.
    pub header: Header,
    /// Who.
    pub actor: ActorRecord,
    /// As `wait(2)` reports it: signal in the low 7 bits, exit status in the second byte.
    pub wait_status: u32,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<ForkRecord>() == 128 && size_of::<ExitRecord>() == 120);
