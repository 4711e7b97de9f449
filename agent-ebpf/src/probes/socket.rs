//! Sense: TCP states. Which sockets listen, what became of the connections that were reported, and a cross-check of the
//! connect hooks: a SYN without one is reported from here.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use breachline_abi::contact::HOOK_SOCK_STATE;
use breachline_abi::control::{COUNTER_CROSS_CHECK, EndpointKey, LastConnect};
use breachline_abi::hello::FLOW_UP;
use breachline_abi::record::KIND_LISTEN;
use breachline_abi::socket::{FLOW_CLOSED, FLOW_ESTABLISHED, FLOW_FAILED, FLOW_REFUSED, ListenRecord};

use crate::contact::{self, Attempt};
use crate::emit::{self, Lane, count};
use crate::flow::{self, Flow};
use crate::known::Who;
use crate::maps::{FLOWS, LAST_CONNECT};
use crate::memory::{Address, Object, Typed, parameter};
use crate::task::{self, with_current};

/// `include/net/tcp_states.h`.
const ESTABLISHED: u32 = 1;
const SYN_SENT: u32 = 2;
const CLOSE: u32 = 7;
const LISTEN: u32 = 10;
/// Bit of `sk_flags` that the peer's FIN sets (`enum sock_flags`, second since 2.6).
const SOCK_DONE: u64 = 1;

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(context: BtfTracePointContext) -> i32 {
    // TP_PROTO(const struct sock *sk, const int oldstate, const int newstate)
    if let Some(sock) = Typed::new(context.arg(0)) {
        match context.arg::<u32>(2) {
            state @ (ESTABLISHED | CLOSE) => changed(sock, state),
            SYN_SENT => cross_check(&context, sock),
            LISTEN => listens(sock),
            _ => {}
        }
    }
    0
}

/// Peer of a socket, canonical, and whether it was v4-mapped.
#[inline(always)]
fn peer(sock: Typed) -> (EndpointKey, bool) {
    let port: u16 = sock.number(parameter!(sock_dport));
    if flow::is_v6(sock) {
        contact::v6(sock.address().number(parameter!(sock_v6_daddr)), port)
    } else {
        (contact::v4(sock.number(parameter!(sock_daddr)), port), false)
    }
}

#[inline(always)]
fn changed(sock: Typed, state: u32) {
    // Cookies are given out when first asked for, which the connect hook does for the contacts it reports: most sockets
    // have none.
    let cookie: u64 = sock.number(parameter!(sock_cookie));
    if cookie == 0 {
        return;
    }
    let Some(bits) = FLOWS.get_ptr_mut(cookie) else { return };
    // SAFETY: a valid map value; one socket changes state in one place at a time.
    let outcome = unsafe {
        if state == ESTABLISHED {
            *bits |= FLOW_UP;
            FLOW_ESTABLISHED
        } else if *bits & FLOW_UP != 0 {
            FLOW_CLOSED
        } else if flow::refused(sock) {
            FLOW_REFUSED
        } else {
            FLOW_FAILED
        }
    };
    if state == CLOSE {
        let _ = FLOWS.remove(cookie);
    }
    report(sock, cookie, outcome);
}

#[inline(always)]
fn report(sock: Typed, socket: u64, state: u8) {
    let (peer, _) = peer(sock);
    // Beyond `struct sock`, where the verifier does not let a typed pointer go.
    let tcp = sock.address();
    let sent: u64 = tcp.number(parameter!(tcp_bytes_sent));
    let received: u64 = tcp.number(parameter!(tcp_bytes_received));
    // The peer's FIN was counted as a byte.
    let fin = sock.number::<u64>(parameter!(sock_flags)) >> SOCK_DONE & 1;
    // Not `bytes_acked`: that one counts SYN and FIN as bytes.
    let sent = sent.saturating_sub(tcp.number(parameter!(tcp_bytes_retransmitted)));
    let (bytes_sent, bytes_received, bytes_elsewhere) = (sent, received.saturating_sub(fin), 0);
    let protocol = contact::TCP;
    flow::tell(sock, &Flow { socket, peer, state, protocol, bytes_sent, bytes_received, bytes_elsewhere });
}

/// A SYN of a socket that the connect hook has just seen on this processor needs no second look.
#[inline(always)]
fn cross_check(context: &BtfTracePointContext, sock: Typed) {
    // SAFETY: this CPU's own value.
    let last = LAST_CONNECT.get_ptr(emit::processor()).map(|slot| unsafe { &(*slot).last });
    if !last.is_some_and(|last| last.sock == sock.address().get()) {
        compare_peers(context, sock, last);
    }
}

#[inline(always)]
fn compare_peers(context: &BtfTracePointContext, sock: Typed, last: Option<&LastConnect>) {
    let (peer, mapped) = peer(sock);
    if last.is_some_and(|last| last.task == task::current_address().map_or(0, Address::get) && last.peer == peer) {
        return;
    }
    let attempt = Attempt { peer, protocol: contact::TCP, hook: HOOK_SOCK_STATE, mapped };
    with_current!(|task| {
        if contact::note(task, &attempt, || sock.number(parameter!(sock_cookie))) {
            count(COUNTER_CROSS_CHECK);
            debug!(
                context,
                "no connect hook saw the contact of {} with port {}",
                task::tgid(task),
                u16::from_be(peer.port)
            );
        }
    });
}

#[inline(always)]
fn listens(sock: Typed) {
    if u32::from(sock.number::<u16>(parameter!(sock_protocol))) != contact::TCP {
        return;
    }
    let net_ns = sock.object(parameter!(sock_net)).map(|net| net.number(parameter!(net_inum)));
    with_current!(|task| {
        emit::in_place(Lane::Priority, KIND_LISTEN, |header, record: *mut ListenRecord| {
            let (exe_inode, exe_device) = task::exe_id(task);
            let who = Who { cgroup: task::current_cgroup(), exe_inode, exe_device, protocol: contact::TCP };
            // SAFETY: room for a record, each field of which is written.
            unsafe {
                (&raw mut (*record).header).write(header);
                task::write_actor(task, &who, &raw mut (*record).actor);
                if let Some(net_ns) = net_ns {
                    (&raw mut (*record).actor.net_ns).write(net_ns);
                }
                (&raw mut (*record).local).write(flow::local(sock).bytes());
                (&raw mut (*record).port).write(sock.number(parameter!(sock_num)));
                (&raw mut (*record).padding).write([0; 6]);
            }
            true
        });
    });
}
