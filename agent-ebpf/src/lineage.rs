//! The table of living processes: who forked whom, frozen at fork, and which lines are tainted.
//!
//! Reparenting does not change it: a daemonised child keeps the service above it. Entries are made at fork and leave at exit;
//! processes older than the sensor are taken from `real_parent` when they are first needed.

use breachline_abi::control::{COUNTER_LINEAGE_FULL, Lineage};
use breachline_abi::limits::ANCESTORS_MAX;
use breachline_abi::record::ProcessId;

use crate::emit::count;
use crate::maps::{LINEAGE, LINEAGE_SCRATCH};
use crate::memory::{Object, parameter};
use crate::task;

/// Whose scratch entry is used: the kernel never runs one program inside itself on a CPU, but may run one inside another.
#[derive(Copy, Clone)]
#[repr(u32)]
pub enum Hook {
    /// `sched_process_exec`
    Exec,
    /// `sched_process_fork`
    Fork,
}

impl Hook {
    /// How many there are.
    pub const COUNT: u32 = 2;
}

/// What is known of a living process. The pointer is a map value: good until the program ends, its content until the process does.
#[inline(always)]
pub fn find(process: ProcessId) -> Option<*mut Lineage> {
    let entry = LINEAGE.get_ptr_mut(process.pid)?;
    // SAFETY: a valid map value.
    if unsafe { (*entry).process.start_boot_ns } == process.start_boot_ns { Some(entry) } else { None }
}

/// Taint of a thread group; 0 when nothing is known.
#[inline(always)]
pub fn taint(pid: u32) -> u32 {
    // SAFETY: a valid map value.
    LINEAGE.get_ptr(pid).map_or(0, |entry| unsafe { (*entry).taint })
}

/// Marks a line from now on.
#[inline(always)]
pub fn mark(pid: u32, taint: u32) {
    if let Some(entry) = LINEAGE.get_ptr_mut(pid) {
        // SAFETY: a valid map value; only this process' own threads mark it, a lost bit is set again by the next finding.
        unsafe { (*entry).taint |= taint };
    }
}

/// The entry of the current task's process, made from the kernel's own parent chain if it is older than the sensor.
#[inline(always)]
pub fn find_or_adopt(process: ProcessId, hook: Hook) -> Option<*mut Lineage> {
    find(process).or_else(|| {
        adopt_lineage(hook as u32);
        find(process)
    })
}

/// Makes the entry of a current process older than the sensor. Exported: the verifier checks it once on its own instead of along every path
/// through its callers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn adopt_lineage(hook: u32) -> u32 {
    let Some(task) = task::current_address() else { return 0 };
    let Some(scratch) = LINEAGE_SCRATCH.get_ptr_mut(hook) else { return 0 };
    // SAFETY: this CPU's own scratch value.
    let entry = unsafe { &mut *scratch };
    entry.process = task::process(task);
    entry.taint = 0;
    entry.padding = 0;
    let mut next = task.object(parameter!(task_real_parent));
    for ancestor in &mut entry.ancestors {
        *ancestor = next.map(task::process).unwrap_or_default();
        // pid 0 is its own parent.
        next = if ancestor.pid == 0 { None } else { next.and_then(|task| task.object(parameter!(task_real_parent))) };
    }
    insert(entry);
    0
}

/// Remembers that `parent` forked `child`.
#[inline(always)]
pub fn forked(parent: *mut Lineage, child: ProcessId) {
    let Some(scratch) = LINEAGE_SCRATCH.get_ptr_mut(Hook::Fork as u32) else { return };
    // SAFETY: a valid map value and this CPU's own scratch value.
    let (parent, entry) = unsafe { (&*parent, &mut *scratch) };
    entry.process = child;
    entry.ancestors[0] = parent.process;
    let mut depth = 1;
    while depth < ANCESTORS_MAX {
        entry.ancestors[depth] = parent.ancestors[depth - 1];
        depth += 1;
    }
    entry.taint = parent.taint;
    entry.padding = 0;
    insert(entry);
}

/// Forgets a process.
#[inline(always)]
pub fn exited(pid: u32) {
    // A process that was never in the table is no error.
    let _ = LINEAGE.remove(pid);
}

#[inline(always)]
fn insert(entry: &Lineage) {
    if LINEAGE.insert(entry.process.pid, entry, 0).is_err() {
        count(COUNTER_LINEAGE_FULL);
    }
}
