//! Programs that do nothing, on the hooks of those that do: what the kernel's own counting adds to every figure of
//! theirs. Loaded by the benchmark alone.

use aya_ebpf::macros::{btf_tracepoint, cgroup_sock_addr};
use aya_ebpf::programs::{BtfTracePointContext, SockAddrContext};

#[btf_tracepoint(function = "sched_process_exec")]
pub fn floor_exec(_: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "sched_process_fork")]
pub fn floor_fork(_: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "sched_process_exit")]
pub fn floor_exit(_: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn floor_sock_state(_: BtfTracePointContext) -> i32 {
    0
}

/// Proceeds, as everything on this hook must.
#[cgroup_sock_addr(connect4)]
pub fn floor_connect4(_: SockAddrContext) -> i32 {
    1
}
