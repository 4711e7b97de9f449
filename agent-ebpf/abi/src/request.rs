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

const _: () = assert!(size_of::<WatchedSocket>() == 112 && size_of::<RequestRecord>() == 152 + REQUEST_BYTES_MAX);
