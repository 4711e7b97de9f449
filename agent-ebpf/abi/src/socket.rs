//! What became of a socket: a connection's outcome, a listener.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::{ActorRecord, Header};

/// The handshake completed.
pub const FLOW_ESTABLISHED: u8 = 1;
/// It ended without having been established.
pub const FLOW_FAILED: u8 = 2;
/// It ended after having been established.
pub const FLOW_CLOSED: u8 = 3;

/// Outcome of a connection whose contact was reported.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct FlowRecord {
    /// Header.
    pub header: Header,
    /// Socket cookie.
    pub socket: u64,
    /// Payload bytes sent, at close; retransmissions left out.
    pub bytes_sent: u64,
    /// Payload bytes received, at close.
    pub bytes_received: u64,
    /// Far end, IPv4 in its v4-mapped form.
    pub peer: [u8; 16],
    /// Near end, likewise.
    pub local: [u8; 16],
    /// Far port.
    pub peer_port: u16,
    /// Near port.
    pub local_port: u16,
    /// `FLOW_` number.
    pub state: u8,
    /// Zero.
    pub padding: [u8; 3],
}

/// A TCP socket listens.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ListenRecord {
    /// Header.
    pub header: Header,
    /// Owner; `net_ns` is the socket's.
    pub actor: ActorRecord,
    /// Address, IPv4 in its v4-mapped form (so `0.0.0.0` and `::` differ).
    pub local: [u8; 16],
    /// Port.
    pub port: u16,
    /// Zero.
    pub padding: [u8; 6],
}

const _: () = assert!(size_of::<FlowRecord>() == 88 && size_of::<ListenRecord>() == 136);
