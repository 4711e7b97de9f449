//! A process was made; a process ended.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::{Header, ProcessId};

/// A process was made. Threads are not reported, nor is a child in its parent's memory (vfork, `posix_spawn`):
/// its exec names its line. Carries the line and nothing else: each field costs a cold cache line here, and
/// whatever the child does names the rest.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ForkRecord {
    /// Header.
    pub header: Header,
    /// The parent.
    pub process: ProcessId,
    /// The child. Its start is the record's time.
    pub child: ProcessId,
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

const _: () = assert!(size_of::<ForkRecord>() == 56 && size_of::<ExitRecord>() == 48);
