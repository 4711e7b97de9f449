//! Sense: peers being reached for. Cgroup socket-address hooks see what every way of connecting has in common (system
//! call of either width, io_uring, TCP fast open) and every unconnected UDP send. They always allow.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use breachline_abi::contact::{HOOK_CONNECT, HOOK_SENDMSG};
use breachline_abi::control::{EndpointKey, LastConnect};

use crate::contact::{self, Attempt};
use crate::emit;
use crate::maps::LAST_CONNECT;
use crate::memory::Object as _;
use crate::task::with_current;

/// What a cgroup socket-address program returns to let the call proceed. 0 would be EPERM for the workload.
const PROCEED: i32 = 1;

#[cgroup_sock_addr(connect4)]
pub fn connect4(context: SockAddrContext) -> i32 {
    reached(context.sock_addr, (peer_v4(context.sock_addr), false), HOOK_CONNECT)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(context: SockAddrContext) -> i32 {
    reached(context.sock_addr, peer_v6(context.sock_addr), HOOK_CONNECT)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(context: SockAddrContext) -> i32 {
    reached(context.sock_addr, (peer_v4(context.sock_addr), false), HOOK_SENDMSG)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(context: SockAddrContext) -> i32 {
    reached(context.sock_addr, peer_v6(context.sock_addr), HOOK_SENDMSG)
}

#[inline(always)]
fn reached(address: *mut bpf_sock_addr, (peer, mapped): (EndpointKey, bool), hook: u8) -> i32 {
    // SAFETY: the context is valid for the program's run; the verifier checks the field.
    let protocol = unsafe { (&raw const (*address).protocol).read_volatile() };
    let attempt = Attempt { peer, protocol, hook, mapped };
    // SAFETY: the helper takes the context of exactly these programs.
    let cookie = || unsafe { generated::bpf_get_socket_cookie(address.cast()) };
    with_current!(|task| {
        // UDP has no states that could be cross-checked.
        if hook == HOOK_CONNECT && protocol != contact::UDP {
            remember(address, task.address().get(), peer);
        }
        contact::note(task, &attempt, cookie);
    });
    PROCEED
}

#[inline(always)]
fn remember(address: *mut bpf_sock_addr, task: u64, peer: EndpointKey) {
    if let Some(slot) = LAST_CONNECT.get_ptr_mut(emit::processor()) {
        // SAFETY: a field of the context, as in `reached`; this CPU's own value.
        unsafe {
            let sock = (&raw const (*address).__bindgen_anon_1.sk).read_volatile().addr() as u64;
            (&raw mut (*slot).last).write(LastConnect { sock, task, peer, padding: 0 });
        }
    }
}

#[inline(always)]
fn port(address: *mut bpf_sock_addr) -> u16 {
    // SAFETY: as in `reached`. The port stands in the low half, network byte order.
    unsafe { (&raw const (*address).user_port).read_volatile() as u16 }
}

#[inline(always)]
fn peer_v4(address: *mut bpf_sock_addr) -> EndpointKey {
    // SAFETY: as in `reached`.
    contact::v4(unsafe { (&raw const (*address).user_ip4).read_volatile() }, port(address))
}

#[inline(always)]
fn peer_v6(address: *mut bpf_sock_addr) -> (EndpointKey, bool) {
    // SAFETY: as in `reached`; word by word, as the verifier wants it.
    let word = |index: usize| unsafe { (&raw const (*address).user_ip6[index]).read_volatile() };
    contact::v6([word(0), word(1), word(2), word(3)], port(address))
}
