//! DNS answers on their way in: which are worth telling, and how many.

use aya_ebpf::helpers::generated;
use aya_ebpf::programs::SkBuffContext;
use breachline_abi::control::COUNTER_LOST;
use breachline_abi::limits::{ANSWER_BYTES_MAX, ANSWERS_PER_WINDOW};
use breachline_abi::names::AnswerRecord;
use breachline_abi::record::KIND_ANSWER;

use crate::emit::{self, Lane, count};
use crate::maps::{ANSWER_BUDGET, ANSWER_ROOM, ANSWER_SCRATCH};
use crate::packet::{self, TCP, Transport, tcp_payload, udp_payload};

/// Port of name servers, network byte order.
pub const DNS_PORT: u16 = 53_u16.to_be();
/// Bytes of a message's header (RFC 1035 4.1.1).
const HEADER_BYTES: u32 = 12;
/// Bytes before a message over TCP: its length (RFC 1035 4.2.2).
const TCP_LENGTH_BYTES: u32 = 2;
/// Bit of a message's third byte that says that it answers, and bits of the fourth that say that it failed.
const ANSWERS: u8 = 0x80;
const FAILED: u8 = 0x0f;
/// Nanoseconds in a window of the budget, as a power of two: 1.07 s.
const WINDOW_BITS: u32 = 30;
/// Where the source address stands (RFC 791 3.1, RFC 8200 3).
const IPV4_SOURCE: usize = 12;
const IPV6_SOURCE: usize = 8;
const IPV4_HEADER: u32 = 20;

/// Hands over a packet from a name server if it holds an answer with records in it.
#[inline(always)]
pub fn look(context: &SkBuffContext, transport: &Transport) {
    let message = if transport.protocol == TCP {
        let Some(payload) = tcp_payload(context, transport.offset) else { return };
        payload + TCP_LENGTH_BYTES
    } else {
        udp_payload(transport.offset)
    };
    let length = context.len().saturating_sub(message);
    if length <= HEADER_BYTES || !has_answers(context, message) {
        return;
    }
    if !affordable() {
        count(COUNTER_LOST + u32::from(KIND_ANSWER));
        return;
    }
    hand_over(context, transport, message, length);
}

/// Whether the header says: an answer, no failure, at least one record.
#[inline(always)]
fn has_answers(context: &SkBuffContext, message: u32) -> bool {
    // Flags and counts: bytes 2 to 7.
    let Ok(flags) = context.load::<[u8; 2]>(message as usize + 2) else { return false };
    let Ok(records) = context.load::<[u8; 2]>(message as usize + 6) else { return false };
    flags[0] & ANSWERS != 0 && flags[1] & FAILED == 0 && (records[0] != 0 || records[1] != 0)
}

/// Whether this window's budget has room.
#[inline(always)]
fn affordable() -> bool {
    let Some(budget) = ANSWER_BUDGET.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's own value.
    let budget = unsafe { &mut *budget };
    let window = emit::boot_ns() >> WINDOW_BITS;
    if budget.window != window {
        budget.window = window;
        budget.spent = 0;
    }
    budget.spent += 1;
    budget.spent <= u64::from(ANSWERS_PER_WINDOW)
}

#[inline(always)]
fn hand_over(context: &SkBuffContext, transport: &Transport, message: u32, length: u32) {
    let Some(scratch) = ANSWER_SCRATCH.get_ptr_mut(0) else { return };
    let length = if length > ANSWER_BYTES_MAX as u32 { ANSWER_BYTES_MAX as u32 } else { length };
    let whole = size_of::<AnswerRecord>() as u32 + length;
    let skb = context.skb.skb;
    // SAFETY: this CPU's own scratch value, with twice ANSWER_ROOM for the message.
    unsafe {
        (*scratch).record = AnswerRecord {
            header: emit::header(KIND_ANSWER, whole),
            cgroup: generated::bpf_skb_cgroup_id(skb),
            server: source(context, transport),
            protocol: u32::from(transport.protocol),
            message_len: length,
        };
        if packet::copy::<ANSWER_ROOM>(context, message, (&raw mut (*scratch).message).cast(), 0, length) {
            let start = scratch.cast_const().cast();
            emit::built::<AnswerRecord, { 2 * ANSWER_ROOM - 1 }>(Lane::Bulk, KIND_ANSWER, start, length);
        }
    }
}

/// Source address, IPv4 in its v4-mapped form.
#[inline(always)]
fn source(context: &SkBuffContext, transport: &Transport) -> [u8; 16] {
    if transport.offset != IPV4_HEADER {
        return context.load(IPV6_SOURCE).unwrap_or_default();
    }
    let [a, b, c, d]: [u8; 4] = context.load(IPV4_SOURCE).unwrap_or_default();
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}
