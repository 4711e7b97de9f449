//! What became of a socket: a connection's outcome, a listener.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::control::EndpointKey;
use crate::limits::PEERS_PER_SOCKET;
use crate::record::{ActorRecord, Header};

/// The handshake completed.
pub const FLOW_ESTABLISHED: u8 = 1;
/// It ended without having been established.
pub const FLOW_FAILED: u8 = 2;
/// It ended after having been established; datagrams: after an answer.
pub const FLOW_CLOSED: u8 = 3;
/// It was refused: a reset in answer to the SYN, ICMP's word for a port on which nobody listens.
pub const FLOW_REFUSED: u8 = 4;

/// Outcome of a connection, or of the datagrams to and from one peer, whose contact was reported.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct FlowRecord {
    /// Header.
    pub header: Header,
    /// Socket cookie.
    pub socket: u64,
    /// Payload bytes sent, at close; retransmissions left out. Of datagrams those to this peer.
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
    /// Payload bytes of datagrams that this socket exchanged with other peers than those that are told, both ways.
    pub bytes_elsewhere: u64,
    /// IP protocol number; MPTCP (262) as 6.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// Bit of [`Talk::state`]: it belongs to a peer.
pub const TALK_BEGUN: u32 = 1;
/// Bit of [`Talk::state`]: a datagram came back, be it empty.
pub const TALK_ANSWERED: u32 = 1 << 1;

/// Datagrams between a socket and one peer; part of a map value.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Talk {
    /// Whom the contact was with, as it was asked for.
    pub peer: EndpointKey,
    /// `TALK_` bits; 0 where there is none.
    pub state: u32,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
}

/// What a UDP socket exchanged since a contact of it was reported; a map value, by socket cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Datagrams {
    /// By peer, in the order of their contacts.
    pub talks: [Talk; PEERS_PER_SOCKET],
    /// Payload bytes to and from everybody else.
    pub bytes_elsewhere: u64,
}

impl Datagrams {
    /// Nothing yet.
    pub const NONE: Self = {
        let peer = EndpointKey { address: [0; 4], port: 0, padding: 0 };
        Self {
            talks: [Talk { peer, state: 0, bytes_sent: 0, bytes_received: 0 }; PEERS_PER_SOCKET],
            bytes_elsewhere: 0,
        }
    };
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

const _: () = assert!(size_of::<Talk>() == 40 && size_of::<Datagrams>() == 8 + 40 * PEERS_PER_SOCKET);
const _: () = assert!(size_of::<FlowRecord>() == 104 && size_of::<ListenRecord>() == 136);
