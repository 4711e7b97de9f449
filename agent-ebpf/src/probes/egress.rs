//! Sense: packets sent, of which three kinds are looked at: the beginnings of TLS connections that the connect sense told, for the
//! server that they name, plain requests on connections to metadata endpoints, and datagrams, for how much goes to a peer. It
//! always lets the packet pass.

use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use crate::packet::{self, TCP};
use crate::{datagrams, exchange, hello, watch};

/// What a cgroup packet program returns to let the packet pass. 0 would drop it.
const PASS: i32 = 1;

#[cgroup_skb(egress)]
pub fn sent(context: SkBuffContext) -> i32 {
    if let Some(datagram) = packet::datagram(&context) {
        datagrams::sent(&context, &datagram);
        return PASS;
    }
    let watching = watch::active();
    if (watching || hello::may_hold(&context))
        && let Some(transport) = packet::transport(&context)
        && transport.protocol == TCP
    {
        hello::look(&context, transport.offset);
        if watching {
            exchange::asking(&context, transport.offset);
        }
    }
    PASS
}
