//! TLS hellos on their way out: the first bytes of a connection that was told, where they name the server.

use core::arch::asm;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated;
use aya_ebpf::programs::SkBuffContext;
use breachline_abi::hello::{FLOW_HELLO, HelloRecord, HelloText};
use breachline_abi::limits::HELLO_BYTES_MAX;
use breachline_abi::record::KIND_HELLO;

use crate::emit;
use crate::maps::FLOWS;
use crate::packet::tcp_payload;

/// Bytes from the TCP header on below which there is no hello: the header (20), record and message headers (9), version,
/// random and the empty rest (41). Acknowledgements, which most packets without a payload are, end here.
const SEGMENT_BYTES_MIN: u32 = 20 + 9 + 41;
/// Bytes of the shorter of the two IP headers.
const IP_BYTES_MIN: u32 = 20;
/// What `bytes_acked` counts for a handshake: its SYN (RFC 9293 3.4), where that is acknowledged by itself.
const HANDSHAKE_BYTES: u64 = 1;
/// How a hello begins: type of the record, its version (and minor version and length), type of the message (RFC 8446 5.1, 4).
const HANDSHAKE: u8 = 22;
const VERSION: u8 = 3;
const CLIENT_HELLO: u8 = 1;

/// Whether the packet, whatever it is, is long enough: one that is not need not be read.
#[inline(always)]
pub fn may_hold(context: &SkBuffContext) -> bool {
    context.len() >= IP_BYTES_MIN + SEGMENT_BYTES_MIN
}

/// A segment goes out on some connection.
#[inline(always)]
pub fn look(context: &SkBuffContext, transport: u32) {
    if context.len() < transport + SEGMENT_BYTES_MIN || !begins(context) {
        return;
    }
    let Some(payload) = tcp_payload(context, transport) else { return };
    let Ok([HANDSHAKE, VERSION, _, _, _, CLIENT_HELLO]) = context.load::<[u8; 6]>(payload as usize) else { return };
    // SAFETY: the helper takes the context of exactly these programs.
    let cookie = unsafe { generated::bpf_get_socket_cookie(context.skb.skb.cast()) };
    let Some(flow) = FLOWS.get_ptr_mut(cookie) else { return };
    // SAFETY: a valid map value; segments of one connection leave one after the other.
    unsafe {
        if *flow & FLOW_HELLO != 0 {
            return;
        }
        *flow |= FLOW_HELLO;
    }
    hand_over(context, payload, cookie);
}

/// Whether the other side has acknowledged nothing yet but the handshake: a connection's first bytes. Read from the socket, since
/// a look into the packet costs several times as much, and most packets are later ones.
#[inline(always)]
fn begins(context: &SkBuffContext) -> bool {
    let skb: *mut __sk_buff = context.skb.skb;
    // SAFETY: a field of the context, and one of a socket that the helper says is a whole TCP socket.
    unsafe {
        let sock = (*skb).__bindgen_anon_2.sk;
        if sock.is_null() {
            return false;
        }
        let tcp = generated::bpf_tcp_sock(sock);
        !tcp.is_null() && (&raw const (*tcp).bytes_acked).read_volatile() <= HANDSHAKE_BYTES
    }
}

/// Written where it will be read: with the longest hello it is too long for the stack, and so no scratch is shared with a packet
/// that interrupts this one.
#[inline(always)]
fn hand_over(context: &SkBuffContext, payload: u32, cookie: u64) {
    let length = context.len().saturating_sub(payload);
    let length = if length > HELLO_BYTES_MAX as u32 { HELLO_BYTES_MAX as u32 } else { length };
    // The ring that its contact took, so that both are read together; a flood of hellos ends where the ring is half full.
    emit::in_place(emit::unless_crowded(), KIND_HELLO, |header, record: *mut HelloText| {
        // SAFETY: room for a record, whose fixed part is written and whose text is as long as it says.
        unsafe {
            (&raw mut (*record).record).write(HelloRecord { header, socket: cookie, text_len: length, padding: 0 });
            copy(context, payload, (&raw mut (*record).text).cast(), length)
        }
    });
}

/// Copies 1 to [`HELLO_BYTES_MAX`] bytes (others wrap) to as many at `to`; whether that succeeded. As `packet::copy`, whose
/// destination it does not fit: a ring has no room to spare.
#[inline(always)]
unsafe fn copy(context: &SkBuffContext, from: u32, to: *mut u8, length: u32) -> bool {
    const { assert!(HELLO_BYTES_MAX.is_power_of_two()) };
    let mut length = u64::from(length);
    // SAFETY: arithmetic on a number; the caller vouches for the place.
    unsafe {
        asm!(
            "{length} += -1",
            "{length} &= {mask}",
            "{length} += 1",
            length = inout(reg) length,
            mask = const HELLO_BYTES_MAX - 1,
        );
        generated::bpf_skb_load_bytes(context.skb.skb.cast(), from, to.cast(), length as u32) == 0
    }
}
