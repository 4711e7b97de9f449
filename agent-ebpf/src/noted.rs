//! Whether anything at all is written down of a process. One load of a cache line that is always warm, in place of a
//! search through hash tables that nearly never hold it.

use breachline_abi::limits::NOTED_SLOTS;

use crate::maps::NOTED;
use crate::memory;

#[inline(always)]
fn slot(pid: u32) -> Option<*mut u64> {
    NOTED.get_ptr_mut(pid & (NOTED_SLOTS - 1))
}

/// Whether a process of this pid, or of one that shares its place, has notes.
#[inline(always)]
pub fn any(pid: u32) -> bool {
    // SAFETY: a valid map value.
    slot(pid).is_none_or(|notes| unsafe { notes.read_volatile() } != 0)
}

/// A note was added. Called once per entry that is new in its table.
#[inline(always)]
pub fn added(pid: u32) {
    add(pid, 1);
}

/// A note was removed. One that its table evicted is not: its place costs a search until the agent starts anew.
#[inline(always)]
pub fn removed(pid: u32) {
    add(pid, u64::MAX);
}

/// Processors may meet here, and a lost count would hide a note.
#[inline(always)]
fn add(pid: u32, amount: u64) {
    if let Some(notes) = slot(pid) {
        // SAFETY: a valid map value, aligned to 8 bytes.
        unsafe { memory::add(notes, amount) };
    }
}
