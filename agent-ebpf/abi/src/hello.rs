//! The beginning of a TLS connection: which server its client asks for.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::HELLO_BYTES_MAX;
use crate::record::Header;

/// Bit of a value in `FLOWS`: the connection was established.
pub const FLOW_UP: u32 = 1;
/// Bit of a value in `FLOWS`: its hello was handed over. Without it one connection could fill the ring with hellos.
pub const FLOW_HELLO: u32 = 1 << 1;

/// Fixed part of a hello. The first bytes that were sent follow, `text_len` of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct HelloRecord {
    /// Header.
    pub header: Header,
    /// Socket cookie of the contact.
    pub socket: u64,
    /// Bytes that follow.
    pub text_len: u32,
    /// Zero.
    pub padding: u32,
}

/// A hello with room for the longest text.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct HelloText {
    /// Fixed part.
    pub record: HelloRecord,
    /// Text.
    pub text: [u8; HELLO_BYTES_MAX],
}

const _: () = assert!(size_of::<HelloRecord>() == 40 && size_of::<HelloText>() == 40 + HELLO_BYTES_MAX);
