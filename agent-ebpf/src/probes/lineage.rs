//! Sense: processes made and ended. Threads are left out: a thread is its process.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use breachline_abi::process::{ExitRecord, ForkRecord};
use breachline_abi::record::{KIND_EXIT, KIND_FORK, ProcessId};

use crate::emit::{self, Lane};
use crate::memory::{Object, Typed, parameter};
use crate::{lineage, taint, task};

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
    let process = task::process(parent);
    let child_process = task::process(child);
    if child.object(parameter!(task_real_parent)).map(task::tgid) != Some(process.pid) {
        lineage::made_sibling(child_process);
    }
    taint::inherit(process.pid, child_process.pid);
    report(parent, process, child_process);
}

#[inline(always)]
fn report(parent: Typed, process: ProcessId, child: ProcessId) {
    let cred = parent.object(parameter!(task_cred));
    emit::record(Lane::Bulk, KIND_FORK, |header| ForkRecord {
        header,
        process,
        parent: task::parent(parent),
        child,
        cgroup: task::current_cgroup(),
        uid: cred.map(|cred| cred.number(parameter!(cred_uid))).unwrap_or_default(),
        euid: cred.map(|cred| cred.number(parameter!(cred_euid))).unwrap_or_default(),
        net_ns: task::net_ns(parent),
        padding: 0,
    });
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
    lineage::ended(has_children(task));
    taint::forget(process.pid);
    let group: u32 = signal.number(parameter!(signal_group_exit_code));
    let own: u32 = task.number(parameter!(task_exit_code));
    let wait_status = if group != 0 { group } else { own };
    emit::record(Lane::Bulk, KIND_EXIT, |header| ExitRecord { header, process, wait_status, padding: 0 });
}

/// Whether the list of children leads anywhere but back to its head. The last thread of a process has them all.
#[inline(always)]
fn has_children(task: Typed) -> bool {
    let first: u64 = task.number(parameter!(task_children));
    let head = task::current_address().and_then(|task| task.after(parameter!(task_children)));
    head.is_some_and(|head| head.get() != first)
}
