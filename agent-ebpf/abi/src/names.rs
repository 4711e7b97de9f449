//! A DNS answer as it came in: which name somebody will reach an address by.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::Header;

/// Fixed part of an answer. The DNS message follows (RFC 1035 4.1), `message_len` bytes of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct AnswerRecord {
    /// Header.
    pub header: Header,
    /// cgroup v2 id of the socket that received it: who asked.
    pub cgroup: u64,
    /// Server, IPv4 in its v4-mapped form.
    pub server: [u8; 16],
    /// IP protocol number: 17, or 6 for a segment that begins with an answer (RFC 7766).
    pub protocol: u32,
    /// Bytes of the message that follow.
    pub message_len: u32,
}

const _: () = assert!(size_of::<AnswerRecord>() == 56);
