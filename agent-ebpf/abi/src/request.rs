//! The beginning of a plain request to a metadata endpoint.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::REQUEST_BYTES_MAX;
use crate::record::{ActorRecord, Header};

/// A connection to a metadata endpoint whose requests are looked at; a map value, by socket cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct WatchedSocket {
    /// Who made it.
    pub actor: ActorRecord,
    /// Endpoint, IPv4 in its v4-mapped form.
    pub peer: [u8; 16],
    /// Port.
    pub port: u16,
    /// Requests reported so far.
    pub requests: u16,
    /// Zero.
    pub padding: [u8; 4],
}

/// The first bytes of a segment that begins a request. They may hold a secret (a token header): the decoder keeps the
/// method, the path's class and whether there was a token, nothing else.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct RequestRecord {
    /// Header.
    pub header: Header,
    /// The connection.
    pub socket: WatchedSocket,
    /// Its cookie.
    pub cookie: u64,
    /// Bytes of `text` that are filled.
    pub text_len: u32,
    /// Zero.
    pub padding: u32,
    /// The segment's first bytes.
    pub text: [u8; REQUEST_BYTES_MAX],
}

/// What is remembered of a conversation with a metadata endpoint while a request or its answer is under way; a map value,
/// by socket cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Exchange {
    /// 1 while a request was told and its answer's status was not.
    pub awaiting: u32,
    /// Bytes of `answer` that are filled.
    pub answer_len: u32,
    /// The beginning of an answer, up to [`STATUS_LINE_BYTES`]; the rest is room for the longest read.
    pub answer: [u8; 2 * STATUS_BYTES_MAX],
    /// The request, gathered from its segments. `text_len` is 0 when none is under way.
    pub request: RequestRecord,
    /// Room for the longest read behind a text that is almost full.
    pub slack: [u8; REQUEST_BYTES_MAX],
}

/// Bytes of `HTTP/1.1 200` (RFC 9112 4): nothing of an answer beyond these is looked at.
pub const STATUS_LINE_BYTES: usize = 12;
/// The next power of two, for the kernel half to mask with.
pub const STATUS_BYTES_MAX: usize = 16;

/// A metadata endpoint answered a request. Nothing of the answer but its status leaves the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct StatusRecord {
    /// Header.
    pub header: Header,
    /// The connection.
    pub socket: WatchedSocket,
    /// Its cookie.
    pub cookie: u64,
    /// HTTP status code.
    pub status: u32,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<Exchange>() == 40 + size_of::<RequestRecord>() + REQUEST_BYTES_MAX);
const _: () = assert!(size_of::<StatusRecord>() == 152);
const _: () = assert!(size_of::<WatchedSocket>() == 112 && size_of::<RequestRecord>() == 152 + REQUEST_BYTES_MAX);
