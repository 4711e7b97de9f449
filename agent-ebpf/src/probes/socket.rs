//! Sense: TCP states. Which sockets listen, what became of the connections that were reported, and a cross-check of the
//! connect hooks: a SYN without one is reported from here.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use breachline_abi::contact::HOOK_SOCK_STATE;
use breachline_abi::control::{COUNTER_CROSS_CHECK, EndpointKey, LastConnect};
use breachline_abi::record::{KIND_FLOW, KIND_LISTEN};
use breachline_abi::socket::{FLOW_CLOSED, FLOW_ESTABLISHED, FLOW_FAILED, FlowRecord, ListenRecord};

use crate::contact::{self, Attempt};
use crate::emit::{self, Lane, count};
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
/// `AF_INET6`.
const INET6: u16 = 10;

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(context: BtfTracePointContext) -> i32 {
    // TP_PROTO(const struct sock *sk, const int oldstate, const int newstate)
    if let Some(sock) = Typed::new(context.arg(0)) {
        match context.arg::<u32>(2) {
            state @ (ESTABLISHED | CLOSE) => flow(sock, state),
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
    if sock.number::<u16>(parameter!(sock_family)) == INET6 {
        contact::v6(sock.address().number(parameter!(sock_v6_daddr)), port)
    } else {
        (contact::v4(sock.number(parameter!(sock_daddr)), port), false)
    }
}

/// Own address of a socket; the port is left out.
#[inline(always)]
fn local(sock: Typed) -> EndpointKey {
    if sock.number::<u16>(parameter!(sock_family)) == INET6 {
        contact::v6(sock.address().number(parameter!(sock_v6_rcv_saddr)), 0).0
    } else {
        contact::v4(sock.number(parameter!(sock_rcv_saddr)), 0)
    }
}

#[inline(always)]
fn flow(sock: Typed, state: u32) {
    // Cookies are given out when first asked for, which the connect hook does for the contacts it reports: most sockets
    // have none.
    let cookie: u64 = sock.number(parameter!(sock_cookie));
    if cookie == 0 {
        return;
    }
    let Some(established) = FLOWS.get_ptr_mut(cookie) else { return };
    // SAFETY: a valid map value; one socket changes state in one place at a time.
    let outcome = unsafe {
        if state == ESTABLISHED {
            *established = 1;
            FLOW_ESTABLISHED
        } else if *established == 1 {
            FLOW_CLOSED
        } else {
            FLOW_FAILED
        }
    };
    if state == CLOSE {
        let _ = FLOWS.remove(cookie);
    }
    report_flow(sock, cookie, outcome);
}

#[inline(never)]
fn report_flow(sock: Typed, cookie: u64, state: u8) {
    let (peer, _) = peer(sock);
    // Beyond `struct sock`, where the verifier does not let a typed pointer go.
    let tcp = sock.address();
    let sent: u64 = tcp.number(parameter!(tcp_bytes_sent));
    let received: u64 = tcp.number(parameter!(tcp_bytes_received));
    // The peer's FIN was counted as a byte.
    let fin = sock.number::<u64>(parameter!(sock_flags)) >> SOCK_DONE & 1;
    emit::record(Lane::Bulk, KIND_FLOW, |header| FlowRecord {
        header,
        socket: cookie,
        // Not `bytes_acked`: that one counts SYN and FIN as bytes.
        bytes_sent: sent.saturating_sub(tcp.number(parameter!(tcp_bytes_retransmitted))),
        bytes_received: received.saturating_sub(fin),
        peer: peer.bytes(),
        local: local(sock).bytes(),
        peer_port: u16::from_be(peer.port),
        local_port: sock.number(parameter!(sock_num)),
        state,
        padding: [0; 3],
    });
}

/// A SYN of a socket that the connect hook has just seen on this processor needs no second look.
#[inline(always)]
fn cross_check(context: &BtfTracePointContext, sock: Typed) {
    // SAFETY: this CPU's own value.
    let last = LAST_CONNECT.get_ptr(0).map(|last| unsafe { &*last });
    if !last.is_some_and(|last| last.sock == sock.address().get()) {
        compare_peers(context, sock, last);
    }
}

#[inline(never)]
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

#[inline(never)]
fn listens(sock: Typed) {
    if u32::from(sock.number::<u16>(parameter!(sock_protocol))) != contact::TCP {
        return;
    }
    let net_ns = sock.object(parameter!(sock_net)).map(|net| net.number(parameter!(net_inum)));
    with_current!(|task| {
        let mut actor = task::actor(task);
        actor.net_ns = net_ns.unwrap_or(actor.net_ns);
        emit::record(Lane::Priority, KIND_LISTEN, |header| ListenRecord {
            header,
            actor,
            local: local(sock).bytes(),
            port: sock.number(parameter!(sock_num)),
            padding: [0; 6],
        });
    });
}
