//! Requests to metadata endpoints and the status of their answers, gathered from however many segments they come in.
//!
//! No secret leaves the kernel: of a request only its first line does, since its headers carry tokens; of an answer only its
//! status, since its body is the secret.

use core::mem::offset_of;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated;
use aya_ebpf::programs::SkBuffContext;
use breachline_abi::limits::{REQUEST_BYTES_MAX, REQUESTS_PER_SOCKET};
use breachline_abi::record::{ActorRecord, Header, KIND_REQUEST, KIND_STATUS, ProcessId};
use breachline_abi::request::{
    Exchange, FLAG_TOKEN, RequestRecord, STATUS_BYTES_MAX, STATUS_LINE_BYTES, StatusRecord, WatchedSocket,
};

use crate::emit::{self, Lane};
use crate::maps::{EXCHANGES, WATCHED_SOCKETS};
use crate::packet::{self, tcp_payload};
use crate::watch;

/// How an answer begins (RFC 9112 4); the minor version follows.
const VERSION: [u8; 7] = *b"HTTP/1.";
/// End of a request's head (RFC 9112 2.1).
const HEAD_END: [u8; 4] = *b"\r\n\r\n";

/// Names of the headers that carry a session token, lower case, with their colon; zeros fill them up.
const NAME_BYTES: usize = 32;
static AWS_TOKEN: [u8; NAME_BYTES] = *b"x-aws-ec2-metadata-token:\0\0\0\0\0\0\0";
static ALIYUN_TOKEN: [u8; NAME_BYTES] = *b"x-aliyun-ecs-metadata-token:\0\0\0\0";
/// Set in the answer of [`scan_head`] when a token header was found.
const TOKEN_FOUND: u32 = 1 << 31;
/// Bits of a line's length: up to and with [`REQUEST_BYTES_MAX`].
const LINE_MASK: u32 = 2 * REQUEST_BYTES_MAX as u32 - 1;

/// A conversation of which nothing was seen.
static BLANK: Exchange = Exchange {
    awaiting: 0,
    answer_len: 0,
    answer: [0; 2 * STATUS_BYTES_MAX],
    scan: [0; 4],
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
        flags: 0,
    },
    text: [0; REQUEST_BYTES_MAX],
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
    let exchange = unsafe { &mut *talk.exchange };
    if exchange.request.text_len == 0 && !begins_request(context, payload) {
        return;
    }
    append(context, exchange, payload, length);
    if exchange.request.text_len as usize >= REQUEST_BYTES_MAX || ends_head(context, payload, length) {
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
fn append(context: &SkBuffContext, exchange: &mut Exchange, payload: u32, length: u32) {
    let room = REQUEST_BYTES_MAX as u32;
    let at = exchange.request.text_len & (room - 1);
    let length = if length > room { room } else { length };
    // SAFETY: text and slack, each of that size, lie behind each other in an `Exchange`.
    let copied = unsafe {
        let text = (&raw mut *exchange).cast::<u8>().add(offset_of!(Exchange, text));
        packet::copy::<REQUEST_BYTES_MAX>(context, payload, text, at, length)
    };
    if copied {
        exchange.request.text_len = if at + length > room { room } else { at + length };
    }
}

/// Hands over the first line of the request that was gathered.
#[inline(always)]
fn report(talk: &Conversation) {
    // SAFETY: valid map values; a race between two CPUs costs at most a record more.
    let (socket, exchange) = unsafe { (&mut *talk.socket, &mut *talk.exchange) };
    if socket.requests < REQUESTS_PER_SOCKET {
        socket.requests += 1;
        watch::extend();
        let found = scan_head(talk.cookie);
        let line = found & LINE_MASK;
        let request = &mut exchange.request;
        request.header = emit::header(KIND_REQUEST, size_of::<RequestRecord>() as u32 + line);
        request.socket = *socket;
        request.cookie = talk.cookie;
        request.text_len = line;
        request.flags = if found & TOKEN_FOUND == 0 { 0 } else { FLAG_TOKEN };
        // SAFETY: the record, the text behind it and its slack lie in one map value.
        unsafe {
            let start = (&raw const *exchange).cast::<u8>().add(offset_of!(Exchange, request));
            emit::built::<RequestRecord, { LINE_MASK as usize }>(Lane::Urgent, KIND_REQUEST, start, line);
        }
        exchange.awaiting = 1;
        exchange.answer_len = 0;
    }
    exchange.request.text_len = 0;
}

/// Finds the end of a request's first line, and whether a token header follows it. Returns the line's length, with
/// [`TOKEN_FOUND`] if one does. Exported: the verifier checks it once on its own instead of along every path through its
/// callers. What it knows between two bytes lies in the map, where the verifier does not follow it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scan_head(cookie: u64) -> u32 {
    let Some(exchange) = EXCHANGES.get_ptr_mut(cookie) else { return 0 };
    // SAFETY: a valid map value.
    let (text, text_len, scan) = unsafe {
        let scan = (&raw mut (*exchange).scan).cast::<u32>();
        ((&raw const (*exchange).text).cast::<u8>(), (&raw const (*exchange).request.text_len).read_volatile(), scan)
    };
    let [line, aws, aliyun, token] = [0, 1, 2, 3].map(|place| scan.wrapping_add(place));
    // SAFETY: four numbers of the map value, and bytes below the text's length.
    unsafe {
        line.write_volatile(u32::MAX);
        aws.write_volatile(u32::MAX);
        aliyun.write_volatile(u32::MAX);
        token.write_volatile(0);
        let mut at = 0;
        while at < REQUEST_BYTES_MAX as u32 && at < text_len {
            let byte = text.add(at as usize).read_volatile();
            if (byte == b'\r' || byte == b'\n') && line.read_volatile() == u32::MAX {
                line.write_volatile(at);
            }
            follow(byte, &AWS_TOKEN, aws, token);
            follow(byte, &ALIYUN_TOKEN, aliyun, token);
            at += 1;
        }
        let length = line.read_volatile();
        let length = if length > text_len { text_len } else { length };
        (length & LINE_MASK) | if token.read_volatile() == 0 { 0 } else { TOKEN_FOUND }
    }
}

/// One step of comparing a header's name: `place` is the position in `name` that this line has reached, far beyond its end
/// when it is another header.
///
/// # Safety
///
/// Both places must be valid.
#[inline(always)]
unsafe fn follow(byte: u8, name: &'static [u8; NAME_BYTES], place: *mut u32, token: *mut u32) {
    // SAFETY: the caller vouches for the places; the position is masked below the name's length.
    unsafe {
        let position = place.read_volatile();
        let wanted = name.as_ptr().add(position as usize & (NAME_BYTES - 1)).read_volatile();
        if byte == b'\n' {
            place.write_volatile(0);
        } else if position < NAME_BYTES as u32 && wanted == byte.to_ascii_lowercase() {
            place.write_volatile(position + 1);
            if byte == b':' {
                token.write_volatile(1);
            }
        } else {
            place.write_volatile(u32::MAX);
        }
    }
}

/// Adds to what is known of an answer's beginning; whether that is all of its status line now.
#[inline(always)]
fn read_status_line(context: &SkBuffContext, exchange: &mut Exchange, payload: u32, length: u32) -> bool {
    let at = exchange.answer_len & (STATUS_BYTES_MAX as u32 - 1);
    let wanted = STATUS_LINE_BYTES as u32;
    let missing = wanted.saturating_sub(at);
    let length = if length > missing { missing } else { length };
    if length == 0 {
        return true;
    }
    // SAFETY: twice STATUS_BYTES_MAX lie there.
    let copied = unsafe {
        let answer = (&raw mut exchange.answer).cast::<u8>();
        packet::copy::<STATUS_BYTES_MAX>(context, payload, answer, at, length)
    };
    if copied {
        exchange.answer_len = at + length;
    }
    copied && at + length >= wanted
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
