//! Sense: processes made and ended. Threads are left out: a thread is its process.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use breachline_abi::parameters::MISSING;
use breachline_abi::record::ProcessId;

use crate::memory::{Object, Typed, parameter};
use crate::{lineage, log, noted, taint, task};

#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(context: BtfTracePointContext) -> i32 {
    // TP_PROTO(struct task_struct *parent, struct task_struct *child)
    if let (Some(parent), Some(child)) = (Typed::new(context.arg(0)), Typed::new(context.arg(1))) {
        // Asked for once: this program is run so seldom that its own instructions are cold, and every field is forty bytes
        // of them.
        let tgid = parameter!(task_tgid);
        let (pid, made) = (parent.number(tgid), child.number(tgid));
        if pid != made {
            forked(parent, pid, child, made);
        }
    }
    0
}

#[inline(always)]
fn forked(parent: Typed, pid: u32, child: Typed, made: u32) {
    let start = parameter!(task_start_boottime);
    // A new process leads itself.
    let made = ProcessId { start_boot_ns: child.number(start), pid: made, padding: 0 };
    // Nearly always the parent is the task that forked: then nothing more has to be read.
    let elsewhere = child.object(parameter!(task_real_parent)).is_some_and(|real| real.address() != parent.address());
    if elsewhere && task::parent(child).pid != pid {
        lineage::made_sibling(made);
    }
    taint::inherit(pid, made.pid);
    if !shares_memory(parent, child) {
        let leader = parent.object(parameter!(task_group_leader)).unwrap_or(parent);
        log::fork(ProcessId { start_boot_ns: leader.number(start), pid, padding: 0 }, made);
    }
}

/// Whether the child runs in its parent's memory: it was made by vfork or `posix_spawn` and is about to start a program,
/// whose record names its line. (That its parent waits for it cannot be seen yet: `vfork_done` is set after this hook.)
#[inline(always)]
fn shares_memory(parent: Typed, child: Typed) -> bool {
    let mm = parameter!(task_mm);
    child.number::<u64>(mm) == parent.number::<u64>(mm)
}

#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(context: BtfTracePointContext) -> i32 {
    // TP_PROTO(struct task_struct *p); since 6.15 also (bool group_dead), which older kernels do not have: the counter
    // says it too.
    if let Some(task) = Typed::new(context.arg(0))
        && let Some(signal) = task.object(parameter!(task_signal))
        && signal.number::<u32>(parameter!(signal_live)) == 0
    {
        ended(task, signal);
    }
    0
}

#[inline(always)]
fn ended(task: Typed, signal: Typed) {
    let process = task::process(task);
    if has_children(task) {
        lineage::ended();
    }
    if noted::any(process.pid) {
        lineage::forget(process.pid);
        taint::forget(process.pid);
    }
    let group: u32 = signal.number(parameter!(signal_group_exit_code));
    let wait_status = if group != 0 { group } else { task.number(parameter!(task_exit_code)) };
    log::exit(process, wait_status);
}

/// Whether the list of children leads anywhere but back to its head. The last thread of a process has them all.
#[inline(always)]
fn has_children(task: Typed) -> bool {
    let children = parameter!(task_children);
    let head = task.address().after(children);
    children != MISSING && head.is_some_and(|head| head.get() != task.number::<u64>(children))
}
