//! Who descends from whom, also after the parents in between have ended.
//!
//! The kernel's own parent pointers tell it while all are alive: nothing is kept for the ordinary fork. Two things
//! break them, and only those are written down: a parent that ends before its child (a daemon's double fork), and a
//! child made to look like its parent's sibling (`CLONE_PARENT`).

use aya_ebpf::bindings::BPF_NOEXIST;
use breachline_abi::control::{COUNTER_LINEAGE_CUT, Orphan};
use breachline_abi::limits::{ANCESTORS_MAX, ORPHANED_CHILDREN_MAX};
use breachline_abi::record::{ActorRecord, ProcessId};

use crate::emit::count;
use crate::maps::{ORPHAN_SCRATCH, ORPHANS};
use crate::memory::{Address, Object, parameter};
use crate::noted;
use crate::task;

/// Brings `ancestors`, which hold those of another process (or nothing), up to those of `task`, which is `actor`; returns
/// how many.
///
/// Programs are started by the same few parents again and again: if the first ancestor is this task's parent already,
/// the rest is true too, and stays true whatever became of them since. That saves a walk through eight cold tasks.
#[inline(always)]
pub fn refresh_ancestors<K: Object>(
    task: K,
    actor: &ActorRecord,
    ancestors: &mut [ProcessId; ANCESTORS_MAX],
    count: u32,
) -> u32 {
    if count > 0 && ancestors[0] == actor.parent && find(actor.process).is_none() {
        return count;
    }
    write_ancestors(task, ancestors)
}

/// Writes the ancestors of the process of `task`, its parent first; returns how many.
#[inline(always)]
fn write_ancestors<K: Object>(task: K, ancestors: &mut [ProcessId; ANCESTORS_MAX]) -> u32 {
    let mut below = task;
    let mut depth = 0;
    while depth < ANCESTORS_MAX {
        if let Some(lost) = find(task::process(below)) {
            return splice(lost, ancestors, depth);
        }
        let Some(parent) = below.object(parameter!(task_real_parent)) else { break };
        let process = task::process(parent);
        // pid 0 is its own parent.
        if process.pid == 0 {
            break;
        }
        ancestors[depth] = process;
        below = parent;
        depth += 1;
    }
    depth as u32
}

/// Takes over the ancestors that an orphan lost, from `depth` on.
#[inline(always)]
fn splice(lost: *const Orphan, ancestors: &mut [ProcessId; ANCESTORS_MAX], depth: usize) -> u32 {
    // SAFETY: a valid map value.
    let lost = unsafe { &*lost };
    let mut end = depth;
    let mut next = 0;
    while end < ANCESTORS_MAX && lost.ancestors[next].pid != 0 {
        ancestors[end] = lost.ancestors[next];
        end += 1;
        next += 1;
    }
    end as u32
}

/// What an orphan lost.
#[inline(always)]
fn find(process: ProcessId) -> Option<*const Orphan> {
    if !noted::any(process.pid) {
        return None;
    }
    let entry = ORPHANS.get_ptr(process.pid)?;
    // SAFETY: a valid map value.
    if unsafe { (*entry).process.start_boot_ns } == process.start_boot_ns { Some(entry) } else { None }
}

/// Remembers the children of the current process, which is ending. Exported: the verifier checks it once on its own
/// instead of along every path through its callers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn orphan_children() -> u32 {
    let Some(task) = task::current_address() else { return 0 };
    let Some(head) = task.after(parameter!(task_children)) else { return 0 };
    let Some(entry) = begin(task) else { return 0 };
    let mut link = head.object(0);
    for _ in 0..ORPHANED_CHILDREN_MAX {
        let Some(place) = link else { return 0 };
        if place == head {
            return 0;
        }
        if let Some(child) = place.container(parameter!(task_sibling)) {
            remember(entry, task::process(child));
        }
        link = place.object(0);
    }
    count(COUNTER_LINEAGE_CUT);
    0
}

/// Remembers that the current process made `child`, whose parent pointer tells otherwise. Exported like
/// [`orphan_children`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn adopt_sibling(pid: u32, start_boot_ns: u64) -> u32 {
    if let Some(task) = task::current_address()
        && let Some(entry) = begin(task)
    {
        remember(entry, ProcessId { start_boot_ns, pid, padding: 0 });
    }
    0
}

/// Remembers the children of the current process, which is ending.
#[inline(always)]
pub fn ended() {
    orphan_children();
}

/// Forgets whose child a process was that ended. Only to be called where [`noted::any`] says that there may be something.
#[inline(always)]
pub fn forget(pid: u32) {
    if ORPHANS.remove(pid).is_ok() {
        noted::removed(pid);
    }
}

/// Remembers a child that was made to look like a sibling.
#[inline(always)]
pub fn made_sibling(child: ProcessId) {
    adopt_sibling(child.pid, child.start_boot_ns);
}

/// An orphan whose lost parent is the process of `task`.
#[inline(always)]
fn begin(task: Address) -> Option<*mut Orphan> {
    let entry = ORPHAN_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: this CPU's own scratch value.
    let ancestors = unsafe { &mut (*entry).ancestors };
    *ancestors = [ProcessId::default(); ANCESTORS_MAX];
    write_ancestors(task, ancestors);
    let mut depth = ANCESTORS_MAX - 1;
    while depth > 0 {
        ancestors[depth] = ancestors[depth - 1];
        depth -= 1;
    }
    ancestors[0] = task::process(task);
    Some(entry)
}

#[inline(always)]
fn remember(entry: *mut Orphan, child: ProcessId) {
    // SAFETY: this CPU's own scratch value.
    let entry = unsafe { &mut *entry };
    entry.process = child;
    if ORPHANS.insert(child.pid, &*entry, u64::from(BPF_NOEXIST)).is_ok() {
        noted::added(child.pid);
    } else if ORPHANS.insert(child.pid, &*entry, 0).is_err() {
        count(COUNTER_LINEAGE_CUT);
    }
}
