//! A socket whose owner writes packets by hand, or of a protocol that is not followed: what it sends passes every other sense.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::{ActorRecord, Header};

/// The socket's family is not known: a process used its right to make such sockets in a way that does not show which.
pub const FAMILY_UNKNOWN: u16 = 0;
/// `AF_INET`.
pub const FAMILY_INET: u16 = 2;
/// `AF_INET6`.
pub const FAMILY_INET6: u16 = 10;
/// `AF_PACKET`.
pub const FAMILY_PACKET: u16 = 17;

/// A raw or packet socket was made.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct RawSocketRecord {
    /// Header.
    pub header: Header,
    /// Who.
    pub actor: ActorRecord,
    /// `FAMILY_` number.
    pub family: u16,
    /// IP protocol number of an internet socket; 0 otherwise.
    pub protocol: u16,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<RawSocketRecord>() == 120);
