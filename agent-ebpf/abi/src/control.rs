//! What lies in the maps: keys and values that both halves read or write, and the counter slots.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::ANCESTORS_MAX;
use crate::record::{KIND_END, ProcessId};

/// An address and port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct EndpointKey {
    /// IPv6 address, IPv4 in its v4-mapped form, network byte order.
    pub address: [u32; 4],
    /// Port, network byte order.
    pub port: u16,
    /// Zero.
    pub padding: u16,
}

impl EndpointKey {
    /// The address as bytes.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> [u8; 16] {
        let [first, second, third, last] = self.address;
        let (first, second) = (first.to_ne_bytes(), second.to_ne_bytes());
        let (third, last) = (third.to_ne_bytes(), last.to_ne_bytes());
        [
            first[0], first[1], first[2], first[3], second[0], second[1], second[2], second[3], third[0], third[1],
            third[2], third[3], last[0], last[1], last[2], last[3],
        ]
    }
}

/// A contact in the kernel's memory: a hash stands for (workload, program, peer, port, protocol). It is keyed with a
/// number drawn at load, so that nobody can make a contact that passes for another's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct KnownContact {
    /// The hash; 0 where there is none.
    pub tag: u64,
    /// When it was last met, in [`SEEN_TICKS_SHIFT`]ed ticks: the oldest makes room.
    pub seen: u32,
    /// 1 when the peer is a metadata endpoint.
    pub metadata: u32,
}

/// Contacts that share a place; a cache line of them.
pub const CONTACT_WAYS: usize = 4;
/// One place of the contact table.
pub type ContactSet = [KnownContact; CONTACT_WAYS];
/// Ticks (`bpf_jiffies64`) are divided by 2 to this: fine enough to tell which contact is oldest, coarse enough that one
/// met all the time is seldom written.
pub const SEEN_TICKS_SHIFT: u32 = 10;

/// Under what a noted contact's last report is remembered.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct RepeatKey {
    /// [`KnownContact::tag`].
    pub tag: u64,
    /// Process.
    pub pid: u32,
    /// Zero.
    pub padding: u32,
}

/// Most ports of one metadata endpoint.
pub const METADATA_PORTS_MAX: usize = 8;

/// Ports of a metadata endpoint, network byte order; unused ones 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct MetadataPorts {
    /// The ports.
    pub ports: [u16; METADATA_PORTS_MAX],
    /// 1 when every port counts.
    pub any: u32,
}

/// Whose child a process was when its parent ended, or when it was made to look like its parent's sibling
/// (`CLONE_PARENT`): what the kernel's own parent pointer no longer tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Orphan {
    /// The process itself: tells a reused pid.
    pub process: ProcessId,
    /// The parent it lost and that one's ancestors. Unfilled ones have pid 0.
    pub ancestors: [ProcessId; ANCESTORS_MAX],
}

/// The line ran a program that takes the priority ring (shell, interpreter, transfer tool) with a socket as stdio.
pub const TAINT_SOCKET_SHELL: u32 = 1;
/// The line ran a program without a name on disk.
pub const TAINT_FILELESS: u32 = 1 << 1;
/// The line reached a metadata endpoint.
pub const TAINT_METADATA: u32 = 1 << 2;

/// The last connect of a processor: lets the socket-state cross-check pass by what the connect hook saw.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct LastConnect {
    /// Address of the `struct sock`.
    pub sock: u64,
    /// Address of the `struct task_struct`. An MPTCP connection shows with another socket in its states.
    pub task: u64,
    /// Peer asked for.
    pub peer: EndpointKey,
    /// Zero.
    pub padding: u32,
}

/// Records handed over, by kind: slot `COUNTER_EMITTED + kind`.
pub const COUNTER_EMITTED: u32 = 0;
/// Records lost because the ring was full, by kind: slot `COUNTER_LOST + kind`.
pub const COUNTER_LOST: u32 = KIND_END as u32;
/// Times user space was woken at once.
pub const COUNTER_WAKEUPS: u32 = 2 * KIND_END as u32;
/// Processes whose taint or lost parent could not be noted because a table was full or a parent had too many children.
pub const COUNTER_LINEAGE_CUT: u32 = COUNTER_WAKEUPS + 1;
/// Contacts that the socket-state cross-check found and no connect hook had seen.
pub const COUNTER_CROSS_CHECK: u32 = COUNTER_WAKEUPS + 2;
/// How many slots there are.
pub const COUNTERS: u32 = COUNTER_WAKEUPS + 3;

const _: () = assert!(
    size_of::<EndpointKey>() == 20
        && size_of::<ContactSet>() == 64
        && size_of::<RepeatKey>() == 16
        && size_of::<MetadataPorts>() == 20
        && size_of::<Orphan>() == 16 + 16 * ANCESTORS_MAX
        && size_of::<LastConnect>() == 40
);
