//! Sense: sockets whose owner writes packets by hand, and those of protocols whose contacts no hook tells (SCTP, DCCP, L2TP, the
//! datagrams of ICMP). What is sent on them passes the connect sense, so that making one is evidence of its own. It always
//! allows.
//!
//! Internet sockets are seen as they are made. `AF_PACKET` has no cgroup hook on any kernel; where the kernel tells of every
//! use of a capability (`cap_capable`, 6.14), the one that such a socket takes is seen instead.

use aya_ebpf::helpers::generated;
use aya_ebpf::macros::{btf_tracepoint, cgroup_sock};
use aya_ebpf::programs::{BtfTracePointContext, SockContext};
use breachline_abi::raw::{FAMILY_INET, FAMILY_INET6, FAMILY_PACKET, FAMILY_UNKNOWN, RawSocketRecord};
use breachline_abi::record::KIND_RAW_SOCKET;

use crate::emit::{self, Lane};
use crate::maps::RAW_MAKERS;
use crate::memory::{Address, Object, parameter};
use crate::task::{self, with_current};

/// What a cgroup socket program returns to let the socket be made. 0 would be EPERM for the workload.
const PROCEED: i32 = 1;
/// `SOCK_RAW`.
const RAW: u32 = 3;
/// Protocols that the connect sense follows (`in.h`): TCP, UDP, UDP-Lite, and two that are TCP below, MPTCP and SMC.
const FOLLOWED: [u32; 5] = [6, 17, 136, 262, 256];
/// `CAP_NET_RAW` (capability.h).
const NET_RAW: u32 = 13;
/// `socket` and `setsockopt` in x86_64's system call table: the one makes such sockets, the other uses the same capability
/// for harmless things (`SO_BINDTODEVICE`, `IP_TRANSPARENT`).
const SYS_SOCKET: u64 = 41;
const SYS_SETSOCKOPT: u64 = 54;
/// A process is reported for sockets of one kind once in this time (ns): without it a loop around `socket` could fill the
/// priority ring.
const REPEAT_NS: u64 = 1_000_000_000;

#[cgroup_sock(sock_create)]
pub fn raw_socket(context: SockContext) -> i32 {
    // SAFETY: the context is valid for the program's run; the verifier checks the fields.
    let (kind, family, protocol) = unsafe {
        let sock = context.sock;
        (
            (&raw const (*sock).type_).read_volatile(),
            (&raw const (*sock).family).read_volatile(),
            (&raw const (*sock).protocol).read_volatile(),
        )
    };
    if kind == RAW || !FOLLOWED.contains(&protocol) {
        with_current!(|task| {
            report(task, family as u16, protocol as u16);
        });
    }
    PROCEED
}

#[btf_tracepoint(function = "cap_capable")]
pub fn cap_capable(context: BtfTracePointContext) -> i32 {
    // TP_PROTO(const struct cred *cred, struct user_namespace *target_ns, const struct user_namespace *capable_ns, int cap,
    // int ret)
    if context.arg::<u32>(3) == NET_RAW && context.arg::<u32>(4) == 0 {
        capability_used();
    }
    0
}

#[inline(always)]
fn capability_used() {
    if parameter!(task_registers) == 0 {
        return;
    }
    // SAFETY: the helpers have no preconditions; that the task is the current one satisfies the second.
    let registers = unsafe { generated::bpf_task_pt_regs(generated::bpf_get_current_task_btf()) };
    let Some(registers) = Address::new(registers as u64) else { return };
    let call: u64 = registers.number(parameter!(regs_syscall));
    let argument: u64 = registers.number(parameter!(regs_first_argument));
    let family = match (call, argument as u16) {
        // `raw_socket` tells these.
        (SYS_SOCKET, FAMILY_INET | FAMILY_INET6) | (SYS_SETSOCKOPT, _) => return,
        (SYS_SOCKET, FAMILY_PACKET) => FAMILY_PACKET,
        // A 32-bit call, io_uring: what for cannot be read from the registers.
        _ => FAMILY_UNKNOWN,
    };
    with_current!(|task| {
        report(task, family, 0);
    });
}

#[inline(always)]
fn report<K: Object>(task: K, family: u16, protocol: u16) {
    let pid = task::tgid(task);
    let key = u64::from(pid) << 32 | u64::from(family) << 16 | u64::from(protocol);
    let now = emit::boot_ns();
    if let Some(last) = RAW_MAKERS.get_ptr(key) {
        // SAFETY: a valid map value.
        if now.wrapping_sub(unsafe { *last }) < REPEAT_NS {
            return;
        }
    }
    let _ = RAW_MAKERS.insert(key, now, 0);
    emit::record(Lane::Priority, KIND_RAW_SOCKET, |header| RawSocketRecord {
        header,
        actor: task::actor(task),
        family,
        protocol,
        padding: 0,
    });
}
