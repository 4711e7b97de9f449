//! What became of a socket: the one record that tells it, whatever the protocol.

use breachline_abi::control::EndpointKey;
use breachline_abi::record::KIND_FLOW;
use breachline_abi::socket::FlowRecord;

use crate::contact;
use crate::emit::{self, Lane};
use crate::memory::{Object, parameter};

/// `ECONNREFUSED`, as `sk_err` has it.
const REFUSED: u32 = 111;
/// `AF_INET6`.
const INET6: u16 = 10;

/// All that a record tells.
pub struct Flow {
    /// Socket cookie.
    pub socket: u64,
    /// Far end.
    pub peer: EndpointKey,
    /// `FLOW_` number.
    pub state: u8,
    /// IP protocol number.
    pub protocol: u32,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// See [`FlowRecord::bytes_elsewhere`].
    pub bytes_elsewhere: u64,
}

/// Whether a socket's last error says that nobody listened at its far end.
#[inline(always)]
pub fn refused<K: Object>(sock: K) -> bool {
    sock.number::<u32>(parameter!(sock_err)) == REFUSED
}

/// Whether it is an IPv6 socket, be its peers IPv4.
#[inline(always)]
pub fn is_v6<K: Object>(sock: K) -> bool {
    sock.number::<u16>(parameter!(sock_family)) == INET6
}

/// Own address of a socket; the port is left out.
#[inline(always)]
pub fn local<K: Object>(sock: K) -> EndpointKey {
    if is_v6(sock) {
        contact::v6(sock.address().number(parameter!(sock_v6_rcv_saddr)), 0).0
    } else {
        contact::v4(sock.number(parameter!(sock_rcv_saddr)), 0)
    }
}

/// Hands it over. Written where it will be read: no record fits beside what else stands on the stacks (512 bytes) of those
/// that tell.
#[inline(always)]
pub fn tell<K: Object>(sock: K, flow: &Flow) {
    emit::in_place(Lane::Bulk, KIND_FLOW, |header, record: *mut FlowRecord| {
        // SAFETY: room for a record, each field of which is written.
        unsafe {
            (&raw mut (*record).header).write(header);
            (&raw mut (*record).socket).write(flow.socket);
            (&raw mut (*record).bytes_sent).write(flow.bytes_sent);
            (&raw mut (*record).bytes_received).write(flow.bytes_received);
            (&raw mut (*record).peer).write(flow.peer.bytes());
            (&raw mut (*record).local).write(local(sock).bytes());
            (&raw mut (*record).peer_port).write(u16::from_be(flow.peer.port));
            (&raw mut (*record).local_port).write(sock.number(parameter!(sock_num)));
            (&raw mut (*record).state).write(flow.state);
            (&raw mut (*record).padding).write([0; 3]);
            (&raw mut (*record).bytes_elsewhere).write(flow.bytes_elsewhere);
            (&raw mut (*record).protocol).write(flow.protocol as u8);
            (&raw mut (*record).reserved).write([0; 7]);
        }
        true
    });
}
