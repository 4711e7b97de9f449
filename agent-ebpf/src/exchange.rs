//! Requests to metadata endpoints and the status of their answers, gathered from however many segments they come in.
//!
//! Of an answer nothing but the twelve bytes of its status line is ever looked at: its body is the secret.

use core::hint::black_box;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated;
use aya_ebpf::programs::SkBuffContext;
use breachline_abi::limits::{REQUEST_BYTES_MAX, REQUESTS_PER_SOCKET};
use breachline_abi::record::{ActorRecord, Header, KIND_REQUEST, KIND_STATUS, ProcessId};
use breachline_abi::request::{
    Exchange, RequestRecord, STATUS_BYTES_MAX, STATUS_LINE_BYTES, StatusRecord, WatchedSocket,
};

use crate::emit::{self, Lane};
use crate::maps::{EXCHANGES, WATCHED_SOCKETS};
use crate::packet::tcp_payload;
use crate::watch;

/// How an answer begins (RFC 9112 4); the minor version follows.
const VERSION: [u8; 7] = *b"HTTP/1.";
/// End of a request's head (RFC 9112 2.1).
const HEAD_END: [u8; 4] = *b"\r\n\r\n";

/// A conversation of which nothing was seen.
static BLANK: Exchange = Exchange {
    awaiting: 0,
    answer_len: 0,
    answer: [0; 2 * STATUS_BYTES_MAX],
    request: RequestRecord {
        header: Header { kind: 0, version: 0, length: 0, boot_ns: 0, cpu: 0, padding: 0 },
        socket: WatchedSocket {
            actor: ActorRecord {
                process: ProcessId { start_boot_ns: 0, pid: 0, padding: 0 },
                parent: ProcessId { start_boot_ns: 0, pid: 0, padding: 0 },
                cgroup: 0,
                exe_inode: 0,
                exe_device: 0,
                uid: 0,
                euid: 0,
                net_ns: 0,
                mnt_ns: 0,
                pid_ns: 0,
                comm: [0; 16],
            },
            peer: [0; 16],
            port: 0,
            requests: 0,
            padding: [0; 4],
        },
        cookie: 0,
        text_len: 0,
        padding: 0,
        text: [0; REQUEST_BYTES_MAX],
    },
    slack: [0; REQUEST_BYTES_MAX],
};

/// A connection that is watched, and what is under way on it.
struct Conversation {
    cookie: u64,
    socket: *mut WatchedSocket,
    exchange: *mut Exchange,
}

/// A segment goes out on some connection.
#[inline(always)]
pub fn asking(context: &SkBuffContext, transport: u32) {
    let Some(talk) = conversation(context) else { return };
    let Some((payload, length)) = payload(context, transport) else { return };
    // SAFETY: a valid map value; segments of one connection leave one after the other.
    let request = unsafe { &mut (*talk.exchange).request };
    if request.text_len == 0 && !begins_request(context, payload) {
        return;
    }
    append(context, request, payload, length);
    if request.text_len as usize >= REQUEST_BYTES_MAX || ends_head(context, payload, length) {
        report(&talk);
    }
}

/// A segment came in on some connection.
#[inline(always)]
pub fn answered(context: &SkBuffContext, transport: u32) {
    let Some(talk) = conversation(context) else { return };
    let Some((payload, length)) = payload(context, transport) else { return };
    // SAFETY: a valid map value; segments of one connection come in one after the other.
    let exchange = unsafe { &mut *talk.exchange };
    if exchange.request.text_len != 0 {
        // What is answered was asked, whatever its head ended with (a request with a body).
        report(&talk);
    }
    if exchange.awaiting != 0 && read_status_line(context, exchange, payload, length) {
        exchange.awaiting = 0;
        report_status(&talk);
    }
}

#[inline(always)]
fn conversation(context: &SkBuffContext) -> Option<Conversation> {
    // SAFETY: the helper takes the context of exactly these programs.
    let cookie = unsafe { generated::bpf_get_socket_cookie(context.skb.skb.cast()) };
    let socket = WATCHED_SOCKETS.get_ptr_mut(cookie)?;
    let exchange = match EXCHANGES.get_ptr_mut(cookie) {
        Some(exchange) => exchange,
        None => {
            // A full table lets the oldest go; another CPU may have been first.
            let _ = EXCHANGES.insert(cookie, &BLANK, u64::from(BPF_NOEXIST));
            EXCHANGES.get_ptr_mut(cookie)?
        }
    };
    Some(Conversation { cookie, socket, exchange })
}

/// Where the payload begins and how long it is; `None` without one.
#[inline(always)]
fn payload(context: &SkBuffContext, transport: u32) -> Option<(u32, u32)> {
    let payload = tcp_payload(context, transport)?;
    let length = context.len().saturating_sub(payload);
    if length == 0 { None } else { Some((payload, length)) }
}

/// Whether the payload begins as an HTTP method does. What does not is the rest of a body, or encrypted.
#[inline(always)]
fn begins_request(context: &SkBuffContext, payload: u32) -> bool {
    context.load::<u8>(payload as usize).is_ok_and(|first| first.is_ascii_uppercase())
}

/// Whether the segment ends as the head of a request does.
#[inline(always)]
fn ends_head(context: &SkBuffContext, payload: u32, length: u32) -> bool {
    let mut last = [0; HEAD_END.len()];
    let wanted = HEAD_END.len() as u32;
    if length >= wanted {
        last = context.load((payload + length - wanted) as usize).unwrap_or_default();
    }
    last == HEAD_END
}

/// Adds a segment's text, as far as there is room.
#[inline(always)]
fn append(context: &SkBuffContext, request: &mut RequestRecord, payload: u32, length: u32) {
    let room = REQUEST_BYTES_MAX as u32;
    // Hidden from the compiler, which would leave out the checks that show the bounds to the verifier.
    let at = black_box(request.text_len) & (room - 1);
    let length = black_box(if length > room { room } else { length });
    if length == 0 || length > room {
        return;
    }
    // SAFETY: text and slack lie behind each other in an `Exchange`: the position is below `room`, the length at most.
    let failed = unsafe {
        let text = (&raw mut request.text).cast::<u8>().add(at as usize);
        generated::bpf_skb_load_bytes(context.skb.skb.cast(), payload, text.cast(), length)
    };
    if failed == 0 {
        request.text_len = if at + length > room { room } else { at + length };
    }
}

/// Hands over the request that was gathered.
#[inline(always)]
fn report(talk: &Conversation) {
    // SAFETY: valid map values; a race between two CPUs costs at most a record more.
    let (socket, exchange) = unsafe { (&mut *talk.socket, &mut *talk.exchange) };
    let text_len = exchange.request.text_len;
    let whole = size_of::<RequestRecord>() as u32;
    if socket.requests < REQUESTS_PER_SOCKET {
        socket.requests += 1;
        watch::extend();
        exchange.request.header = emit::header(KIND_REQUEST, whole);
        exchange.request.socket = *socket;
        exchange.request.cookie = talk.cookie;
        exchange.request.text_len = text_len;
        // SAFETY: the record lies whole in the map value.
        unsafe { emit::built(Lane::Urgent, KIND_REQUEST, (&raw const exchange.request).cast(), whole) };
        exchange.awaiting = 1;
        exchange.answer_len = 0;
    }
    exchange.request.text_len = 0;
}

/// Adds to what is known of an answer's beginning; whether that is all of its status line now.
#[inline(always)]
fn read_status_line(context: &SkBuffContext, exchange: &mut Exchange, payload: u32, length: u32) -> bool {
    let at = black_box(exchange.answer_len) & (STATUS_BYTES_MAX as u32 - 1);
    let wanted = STATUS_LINE_BYTES as u32;
    let missing = if at < wanted { wanted - at } else { 0 };
    let length = black_box(if length > missing { missing } else { length });
    if length == 0 || length > wanted {
        return true;
    }
    // SAFETY: the position is below STATUS_BYTES_MAX, the length at most that: twice as much lies there.
    let failed = unsafe {
        let answer = (&raw mut exchange.answer).cast::<u8>().add(at as usize);
        generated::bpf_skb_load_bytes(context.skb.skb.cast(), payload, answer.cast(), length)
    };
    if failed == 0 {
        exchange.answer_len = at + length;
    }
    failed == 0 && at + length >= wanted
}

/// Hands over the status, if that is what the answer begins with.
#[inline(always)]
fn report_status(talk: &Conversation) {
    // SAFETY: valid map values.
    let (socket, answer) = unsafe { (&*talk.socket, &(*talk.exchange).answer) };
    let mut same = true;
    let mut at = 0;
    while at < VERSION.len() {
        same &= answer[at] == VERSION[at];
        at += 1;
    }
    let digit = |at: usize| u32::from(answer[at].wrapping_sub(b'0'));
    let (hundreds, tens, ones) = (digit(9), digit(10), digit(11));
    if !same || hundreds > 9 || tens > 9 || ones > 9 {
        return;
    }
    watch::extend();
    emit::record(Lane::Priority, KIND_STATUS, |header| StatusRecord {
        header,
        socket: *socket,
        cookie: talk.cookie,
        status: hundreds * 100 + tens * 10 + ones,
        padding: 0,
    });
}
