//! Sense: processes made and ended. Threads are left out: a thread is its process.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use breachline_abi::process::{ExitRecord, ForkRecord};
use breachline_abi::record::{KIND_EXIT, KIND_FORK};

use crate::emit::{self, Lane};
use crate::lineage::{self, Hook};
use crate::memory::{Object, Typed, parameter};
use crate::task;

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
    let child = task::process(child);
    if let Some(entry) = lineage::find_or_adopt(task::process(parent), Hook::Fork) {
        lineage::forked(entry, child);
    }
    emit::record(Lane::Bulk, KIND_FORK, |header| ForkRecord { header, actor: task::actor(parent), child });
}

#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(context: BtfTracePointContext) -> i32 {
    // TP_PROTO(struct task_struct *p); since 6.15 also (bool group_dead), which older kernels do not have: the counter says it too.
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
    let group: u32 = signal.number(parameter!(signal_group_exit_code));
    let own: u32 = task.number(parameter!(task_exit_code));
    let wait_status = if group != 0 { group } else { own };
    emit::record(Lane::Bulk, KIND_EXIT, |header| ExitRecord {
        header,
        actor: task::actor(task),
        wait_status,
        padding: 0,
    });
    lineage::exited(task::tgid(task));
}
