//! Datagrams of the UDP sockets whose contact was told: what goes to each peer and comes from it is added up, and told when
//! the socket is released. UDP has no end of its own, and no counters in the kernel.
//!
//! Peers are told apart by the addresses in the packets. A socket has an entry of its own, so that its end finds all of
//! them; it holds the first few ([`PEERS_PER_SOCKET`](breachline_abi::limits::PEERS_PER_SOCKET)) that were reported, and one
//! amount for everybody else.

use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST};
use aya_ebpf::programs::SkBuffContext;
use breachline_abi::control::EndpointKey;
use breachline_abi::socket::{Datagrams, FLOW_CLOSED, FLOW_FAILED, FLOW_REFUSED, TALK_ANSWERED, TALK_BEGUN, Talk};

use crate::contact::UDP;
use crate::emit;
use crate::flow::{self, Flow};
use crate::maps::{DATAGRAMS, LAST_CONNECT};
use crate::memory::{self, Address, Object as _, parameter};
use crate::packet::Datagram;

/// A socket of which nothing was counted.
static BLANK: Datagrams = Datagrams::NONE;

/// A contact of the socket with this peer was told: from now on its datagrams are counted.
#[inline(always)]
pub fn follow(cookie: u64, peer: &EndpointKey) {
    let followed = match DATAGRAMS.get_ptr_mut(cookie) {
        Some(followed) => followed,
        None => {
            // Only now: an insertion in vain may evict another's entry. A full table lets the oldest go.
            let _ = DATAGRAMS.insert(cookie, &BLANK, u64::from(BPF_NOEXIST));
            let Some(followed) = DATAGRAMS.get_ptr_mut(cookie) else { return };
            followed
        }
    };
    // SAFETY: a valid map value; two processors that add a peer at once may forget one of them.
    for talk in unsafe { &mut (*followed).talks } {
        if talk.state == 0 {
            talk.peer = *peer;
            talk.state = TALK_BEGUN;
            return;
        }
        if same(&talk.peer, peer) {
            return;
        }
    }
}

/// A datagram goes out on some socket.
#[inline(always)]
pub fn sent(context: &SkBuffContext, datagram: &Datagram) {
    let Some(followed) = followed(context, 0) else { return };
    let bytes = datagram.payload(context);
    let talk = datagram.destination(context).and_then(|peer| talk_with(followed, &peer));
    // SAFETY: numbers of a valid map value, each aligned to 8 bytes.
    unsafe {
        match talk {
            Some(talk) => memory::add(&raw mut (*talk).bytes_sent, bytes),
            None => memory::add(&raw mut (*followed).bytes_elsewhere, bytes),
        }
    }
}

/// A datagram comes in on some socket.
#[inline(always)]
pub fn received(context: &SkBuffContext, datagram: &Datagram) {
    let Some(followed) = followed(context, 1) else { return };
    let bytes = datagram.payload(context);
    let talk = datagram.source(context).and_then(|peer| talk_with(followed, &peer));
    // SAFETY: as in `sent`; the state is written by nobody else once it has begun.
    unsafe {
        match talk {
            Some(talk) => {
                (*talk).state = TALK_BEGUN | TALK_ANSWERED;
                memory::add(&raw mut (*talk).bytes_received, bytes);
            }
            None => memory::add(&raw mut (*followed).bytes_elsewhere, bytes),
        }
    }
}

/// The packet's socket, if it is one of those. Its cookie is read where it lies: the helper would first give one to every
/// socket that sends or receives a datagram, which takes several times as long, and each of them would be searched for.
#[inline(always)]
fn followed(context: &SkBuffContext, way: usize) -> Option<*mut Datagrams> {
    let slot = LAST_CONNECT.get_ptr_mut(emit::processor())?;
    let skb: *mut __sk_buff = context.skb.skb;
    // SAFETY: a field of the context; this CPU's own value, and a word of it that there is.
    let sock = unsafe {
        let word = &raw mut (*slot).sockets[way];
        word.write_volatile((*skb).__bindgen_anon_2.sk.addr() as u64);
        word.read_volatile()
    };
    match Address::new(sock)?.number(parameter!(sock_cookie)) {
        0 => None,
        cookie => DATAGRAMS.get_ptr_mut(cookie),
    }
}

#[inline(always)]
fn talk_with(followed: *mut Datagrams, peer: &EndpointKey) -> Option<*mut Talk> {
    // SAFETY: a valid map value. A talk that has not begun has the address `::`, which no packet bears.
    unsafe { (*followed).talks.iter_mut() }.find(|talk| same(&talk.peer, peer)).map(core::ptr::from_mut)
}

/// Word by word: what the compiler makes of the comparison of arrays is a call.
#[inline(always)]
fn same(one: &EndpointKey, other: &EndpointKey) -> bool {
    one.address[3] == other.address[3]
        && one.port == other.port
        && one.address[2] == other.address[2]
        && one.address[1] == other.address[1]
        && one.address[0] == other.address[0]
}

/// A UDP socket is released: tells what became of each contact of it.
#[inline(always)]
pub fn released(sock: Address) {
    // As for connections: most sockets were never asked for a cookie, or have one and no entry.
    let cookie: u64 = sock.number(parameter!(sock_cookie));
    if cookie == 0 {
        return;
    }
    let Some(followed) = DATAGRAMS.get_ptr(cookie) else { return };
    // Of the peer that the socket is connected to, if it is.
    let refused = flow::refused(sock);
    let port: u16 = sock.number(parameter!(sock_dport));
    // SAFETY: a valid map value. It stays one after its removal for as long as this program runs, but may become another's.
    let (talks, bytes_elsewhere) = unsafe { (&(*followed).talks, (*followed).bytes_elsewhere) };
    for talk in talks {
        if talk.state == 0 {
            break;
        }
        let state = match talk.state & TALK_ANSWERED {
            0 if refused && port == talk.peer.port => FLOW_REFUSED,
            0 => FLOW_FAILED,
            _ => FLOW_CLOSED,
        };
        let Talk { peer, bytes_sent, bytes_received, .. } = *talk;
        flow::tell(
            sock,
            &Flow { socket: cookie, peer, state, protocol: UDP, bytes_sent, bytes_received, bytes_elsewhere },
        );
    }
    let _ = DATAGRAMS.remove(cookie);
}
