//! Sense: packets received, of which three kinds are looked at: answers of name servers, answers of metadata endpoints on
//! connections that are being watched, and datagrams, for how much comes from a peer. Every other packet costs a few
//! comparisons. It always lets the packet pass.

use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use crate::names::{self, DNS_PORT};
use crate::packet::{self, TCP, UDP};
use crate::{datagrams, exchange, watch};

/// What a cgroup packet program returns to let the packet pass. 0 would drop it.
const PASS: i32 = 1;

#[cgroup_skb(ingress)]
pub fn received(context: SkBuffContext) -> i32 {
    if let Some(datagram) = packet::datagram(&context) {
        datagrams::received(&context, &datagram);
    }
    if let Some(transport) = packet::transport(&context) {
        if transport.source_port == DNS_PORT && (transport.protocol == UDP || transport.protocol == TCP) {
            names::look(&context, &transport);
        } else if transport.protocol == TCP && watch::active() {
            exchange::answered(&context, transport.offset);
        }
    }
    PASS
}
