//! Processes made and ended, as each processor writes them down.
//!
//! Nothing is handed over one by one: a ring takes 0.2 us for each record, as long as all the rest of a fork or an exit. A
//! log is copied to the ring whole whenever it is full; what it holds in between, user space reads where it is.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::LINEAGE_ENTRIES;
use crate::record::Header;

/// A process was made, or one ended. Threads are not told, nor is a child in its parent's memory (vfork, `posix_spawn`):
/// its exec names its line. Carries the line and nothing else: each field costs a cold cache line here, and whatever the
/// child does names the rest.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct LineageEntry {
    /// Start of the process that forked or ended, nanoseconds since boot.
    pub start_boot_ns: u64,
    /// Start of the child, which is when it was made.
    pub child_start_boot_ns: u64,
    /// The process that forked or ended.
    pub pid: u32,
    /// The child; 0 where the process ended (its last thread did).
    pub child: u32,
    /// How it ended, as `wait(2)` reports it: signal in the low 7 bits, exit status in the second byte.
    pub wait_status: u32,
    /// Number of this entry among those of its processor, wrapping. Last in memory and written first: who reads from the
    /// front while it is overwritten finds another number than the one looked for.
    pub number: u32,
}

/// What a processor wrote down last; a map value, and a record of the bulk ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct LineageLog {
    /// Of the record; its time is when the log was full.
    pub header: Header,
    /// How many entries were written since load: forks in the upper half, all in the lower, each wrapping. One word, so
    /// that both are read at once. Written last.
    pub counts: u64,
    /// An entry stands at its number modulo [`LINEAGE_ENTRIES`].
    pub entries: [LineageEntry; LINEAGE_ENTRIES],
}

/// [`LineageLog`] with so much behind it that no cache line is shared with the next processor's.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct LineageSlot {
    /// The log.
    pub log: LineageLog,
    /// Zeros.
    pub apart: [u64; 8],
}

/// All entries that `counts` of a log counts, wrapping.
#[inline]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
pub const fn written(counts: u64) -> u32 {
    counts as u32
}

/// The forks among them, wrapping.
#[inline]
#[must_use]
pub const fn forks(counts: u64) -> u32 {
    (counts >> 32) as u32
}

/// `counts` with one more entry.
#[inline]
#[must_use]
pub const fn counted(counts: u64, fork: bool) -> u64 {
    (forks(counts).wrapping_add(fork as u32) as u64) << 32 | written(counts).wrapping_add(1) as u64
}

const _: () = assert!(
    size_of::<LineageEntry>() == 32
        && size_of::<LineageLog>() == 32 + 32 * LINEAGE_ENTRIES
        && LINEAGE_ENTRIES.is_power_of_two()
);
