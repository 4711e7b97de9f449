//! Writes down processes made and ended, and hands a processor's log over when it is full: see
//! [`breachline_abi::process`].
//!
//! No clock is asked: a fork's time is its child's start, an exit's is when it is told.

use breachline_abi::limits::LINEAGE_ENTRIES;
use breachline_abi::process::{LineageEntry, LineageLog, counted, written};
use breachline_abi::record::{KIND_LINEAGE, ProcessId};

use crate::emit::{self, Lane};
use crate::maps::LINEAGE;

/// `parent` made `child`.
#[inline(always)]
pub fn fork(parent: ProcessId, child: ProcessId) {
    write(true, parent, child, 0);
}

/// `process` ended.
#[inline(always)]
pub fn exit(process: ProcessId, wait_status: u32) {
    write(false, process, ProcessId { start_boot_ns: 0, pid: 0, padding: 0 }, wait_status);
}

/// Only the programs on fork and exit write, which the kernel does not run inside each other on one processor.
#[inline(always)]
fn write(fork: bool, process: ProcessId, child: ProcessId, wait_status: u32) {
    let Some(slot) = LINEAGE.get_ptr_mut(emit::processor()) else { return };
    // SAFETY: a valid map value of this processor's own. In this order, since user space reads while it is written.
    unsafe {
        let log: *mut LineageLog = &raw mut (*slot).log;
        let counts = (*log).counts;
        let number = written(counts);
        let entry: *mut LineageEntry = &raw mut (*log).entries[number as usize & (LINEAGE_ENTRIES - 1)];
        (&raw mut (*entry).number).write_volatile(number);
        (&raw mut (*entry).start_boot_ns).write_volatile(process.start_boot_ns);
        (&raw mut (*entry).child_start_boot_ns).write_volatile(child.start_boot_ns);
        (&raw mut (*entry).pid).write_volatile(process.pid);
        (&raw mut (*entry).child).write_volatile(child.pid);
        (&raw mut (*entry).wait_status).write_volatile(wait_status);
        (&raw mut (*log).counts).write_volatile(counted(counts, fork));
        if number as usize & (LINEAGE_ENTRIES - 1) == LINEAGE_ENTRIES - 1 {
            hand_over_log();
        }
    }
}

/// Hands this processor's log over. Exported, and so a function of its own: out of the way of what nearly always runs.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hand_over_log() -> u32 {
    let Some(slot) = LINEAGE.get_ptr_mut(emit::processor()) else { return 0 };
    // SAFETY: a valid map value of this processor's own.
    unsafe {
        let log: *mut LineageLog = &raw mut (*slot).log;
        (*log).header = emit::header(KIND_LINEAGE, size_of::<LineageLog>() as u32);
        emit::built::<LineageLog, 0>(Lane::Bulk, KIND_LINEAGE, log.cast_const().cast(), 0);
    }
    1
}
