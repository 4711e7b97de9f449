//! Sense: what is asked of a metadata endpoint. Looks at the first bytes of plain requests on connections that the
//! connect sense reported, and at nothing else. It always lets the packet pass.

use core::hint::black_box;

use aya_ebpf::helpers::generated;
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use breachline_abi::limits::{REQUEST_BYTES_MAX, REQUESTS_PER_SOCKET};
use breachline_abi::record::KIND_REQUEST;
use breachline_abi::request::{RequestRecord, WatchedSocket};

use crate::emit::{self, Lane};
use crate::maps::WATCHED_SOCKETS;
use crate::watch;

/// What a cgroup packet program returns to let the packet pass. 0 would drop it.
const PASS: i32 = 1;
/// Bytes of an IPv6 header; extension headers are not expected towards a metadata endpoint.
const IPV6_HEADER: u32 = 40;
/// Offset of the TCP header's data offset (RFC 9293 3.1).
const TCP_DATA_OFFSET: u32 = 12;

#[cgroup_skb(egress)]
pub fn metadata_request(context: SkBuffContext) -> i32 {
    if watch::active() {
        // SAFETY: the helper takes the context of exactly these programs.
        let cookie = unsafe { generated::bpf_get_socket_cookie(context.skb.skb.cast()) };
        if let Some(socket) = WATCHED_SOCKETS.get_ptr_mut(cookie) {
            look(&context, cookie, socket);
        }
    }
    PASS
}

#[inline(always)]
fn look(context: &SkBuffContext, cookie: u64, socket: *mut WatchedSocket) {
    let Some(payload) = payload_offset(context) else { return };
    let length = context.len().saturating_sub(payload);
    // SAFETY: a valid map value; a race between two packets of one connection costs at most a record more.
    let requests = unsafe { &mut (*socket).requests };
    if length == 0 || *requests >= REQUESTS_PER_SOCKET || !begins_request(context, payload) {
        return;
    }
    *requests += 1;
    watch::extend();
    emit::in_place(Lane::Urgent, KIND_REQUEST, |header, record: *mut RequestRecord| {
        // Hidden from the compiler, which knows that it is in bounds and would leave out the check that shows it to the
        // verifier.
        let text_len = black_box(if length > REQUEST_BYTES_MAX as u32 { REQUEST_BYTES_MAX as u32 } else { length });
        if text_len == 0 || text_len > REQUEST_BYTES_MAX as u32 {
            return false;
        }
        // SAFETY: room for a record, each field of which is written; of the text as much as `text_len` says.
        unsafe {
            (&raw mut (*record).header).write(header);
            (&raw mut (*record).socket).write(*socket);
            (&raw mut (*record).cookie).write(cookie);
            (&raw mut (*record).text_len).write(text_len);
            (&raw mut (*record).padding).write(0);
            let text = (&raw mut (*record).text).cast();
            generated::bpf_skb_load_bytes(context.skb.skb.cast(), payload, text, text_len) == 0
        }
    });
}

/// Where the TCP payload begins, from the network header on.
#[inline(always)]
fn payload_offset(context: &SkBuffContext) -> Option<u32> {
    let first: u8 = context.load(0).ok()?;
    let network = match first >> 4 {
        4 => u32::from(first & 0xf) * 4,
        6 => IPV6_HEADER,
        _ => return None,
    };
    let data_offset: u8 = context.load((network + TCP_DATA_OFFSET) as usize).ok()?;
    Some(network + u32::from(data_offset >> 4) * 4)
}

/// Whether the payload begins as an HTTP method does. What does not is the rest of a request, or encrypted.
#[inline(always)]
fn begins_request(context: &SkBuffContext, payload: u32) -> bool {
    context.load::<u8>(payload as usize).is_ok_and(|first| first.is_ascii_uppercase())
}
