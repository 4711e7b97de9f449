//! Who was at the other end when a program was started: the connections of its parent on which something had just been
//! received, and the one that is its own input or output.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::SERVING_MAX;
use crate::record::{Header, ProcessId};

/// One established TCP connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ConnectionRecord {
    /// Far end, IPv4 in its v4-mapped form.
    pub peer: [u8; 16],
    /// Near end, likewise.
    pub local: [u8; 16],
    /// Far port.
    pub peer_port: u16,
    /// Near port.
    pub local_port: u16,
    /// Ticks since something was last received on it.
    pub idle_ticks: u32,
}

/// The connections of the parent of a process that just started a program.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ServingRecord {
    /// Header.
    pub header: Header,
    /// The process that started the program.
    pub child: ProcessId,
    /// Its parent, whose connections these are.
    pub server: ProcessId,
    /// How many are filled.
    pub count: u32,
    /// How many there were, as far as was looked.
    pub found: u32,
    /// The connection that is the child's own descriptor 0, 1 or 2, the first of them; ports 0 when there is none.
    pub stdio: ConnectionRecord,
    /// The connections, in the order of their descriptors.
    pub connections: [ConnectionRecord; SERVING_MAX],
}

const _: () = assert!(size_of::<ConnectionRecord>() == 40 && size_of::<ServingRecord>() == 104 + 40 * SERVING_MAX);
