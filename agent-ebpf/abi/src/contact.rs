//! A process reached for a peer.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::{ActorRecord, Header};

/// First contact of its key.
pub const FLAG_FIRST: u8 = 1;
/// The peer is a metadata endpoint.
pub const FLAG_METADATA: u8 = 1 << 1;
/// The address came as v4-mapped or NAT64.
pub const FLAG_MAPPED: u8 = 1 << 2;
/// The process' line is tainted.
pub const FLAG_TAINTED: u8 = 1 << 3;

/// Sensed by `cgroup/connect4|6`.
pub const HOOK_CONNECT: u8 = 1;
/// Sensed by `cgroup/sendmsg4|6`.
pub const HOOK_SENDMSG: u8 = 2;
/// Sensed by `inet_sock_set_state` to SYN_SENT.
pub const HOOK_SOCK_STATE: u8 = 3;

/// A process reached for a peer.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ContactRecord {
    /// Header.
    pub header: Header,
    /// Who.
    pub actor: ActorRecord,
    /// Socket cookie; 0 when not known.
    pub socket: u64,
    /// Peer: an IPv6 address, IPv4 in its v4-mapped form.
    pub peer: [u8; 16],
    /// Port, as a number.
    pub port: u16,
    /// IP protocol number; MPTCP (262) as 6.
    pub protocol: u8,
    /// `HOOK_` number.
    pub hook: u8,
    /// `FLAG_` bits.
    pub flags: u8,
    /// Zero.
    pub padding: [u8; 3],
}

const _: () = assert!(size_of::<ContactRecord>() == 144);
