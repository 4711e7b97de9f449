//! Sense: what is asked of a metadata endpoint. Looks at the first bytes of plain requests on connections that the
//! connect sense reported, and at nothing else. It always lets the packet pass.

use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use crate::packet::{self, TCP};
use crate::{exchange, watch};

/// What a cgroup packet program returns to let the packet pass. 0 would drop it.
const PASS: i32 = 1;

#[cgroup_skb(egress)]
pub fn metadata_request(context: SkBuffContext) -> i32 {
    if watch::active()
        && let Some(transport) = packet::transport(&context)
        && transport.protocol == TCP
    {
        exchange::asking(&context, transport.offset);
    }
    PASS
}
