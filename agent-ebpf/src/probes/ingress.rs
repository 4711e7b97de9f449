//! Sense: packets received, of which two kinds are looked at: answers of name servers, and answers of metadata endpoints on
//! connections that are being watched. Every other packet costs a few comparisons. It always lets the packet pass.

use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use crate::names::{self, DNS_PORT};
use crate::packet::{self, TCP, UDP};
use crate::{exchange, watch};

/// What a cgroup packet program returns to let the packet pass. 0 would drop it.
const PASS: i32 = 1;

#[cgroup_skb(ingress)]
pub fn received(context: SkBuffContext) -> i32 {
    if let Some(transport) = packet::transport(&context) {
        if transport.source_port == DNS_PORT && (transport.protocol == UDP || transport.protocol == TCP) {
            names::look(&context, &transport);
        } else if transport.protocol == TCP && watch::active() {
            exchange::answered(&context, transport.offset);
        }
    }
    PASS
}
