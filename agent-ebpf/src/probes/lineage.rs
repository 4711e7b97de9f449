//! Sense: processes made and ended. Threads are left out: a thread is its process.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use breachline_abi::parameters::MISSING;

use crate::memory::{Object, Typed, parameter};
use crate::{lineage, log, noted, taint, task};

#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(context: BtfTracePointContext) -> i32 {
    // TP_PROTO(struct task_struct *parent, struct task_struct *child)
    if let (Some(parent), Some(child)) = (Typed::new(context.arg(0)), Typed::new(context.arg(1)))
        && task::tgid(parent) != task::tgid(child)
    {
        forked(parent, child);
    }
    0
}

#[inline(always)]
fn forked(parent: Typed, child: Typed) {
    let pid = task::tgid(parent);
    // A new process leads itself.
    let made = task::leader(child);
    // Nearly always the parent is the task that forked: then nothing more has to be read.
    let elsewhere = child.object(parameter!(task_real_parent)).is_some_and(|real| real.address() != parent.address());
    if elsewhere && task::parent(child).pid != pid {
        lineage::made_sibling(made);
    }
    taint::inherit(pid, made.pid);
    if !shares_memory(parent, child) {
        log::fork(task::process(parent), made);
    }
}

/// Whether the child runs in its parent's memory: it was made by vfork or `posix_spawn` and is about to start a program,
/// whose record names its line. (That its parent waits for it cannot be seen yet: `vfork_done` is set after this hook.)
#[inline(always)]
fn shares_memory(parent: Typed, child: Typed) -> bool {
    let mm = |task: Typed| task.number::<u64>(parameter!(task_mm));
    mm(child) == mm(parent)
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
