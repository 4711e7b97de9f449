//! What a process was being asked over the network when it started a program: the established connections among the
//! descriptors of the parent. Looked at only for programs that take the priority ring: it costs some microseconds.
//!
//! The accept itself has a hook only where trampolines or kprobes exist; what a process holds at that moment is there on
//! every kernel, and says the same for servers that answer one request at a time in each process.

use aya_ebpf::helpers::generated;
use breachline_abi::limits::{SERVING_DESCRIPTORS_MAX, SERVING_MAX};
use breachline_abi::record::KIND_SERVING;
use breachline_abi::serving::{ConnectionRecord, ServingRecord};

use crate::contact::{self, TCP};
use crate::emit::{self, Lane};
use crate::maps::SERVING_SCRATCH;
use crate::memory::{Address, Object, parameter};
use crate::task;

/// `S_IFMT` and the socket type below it (`stat.h`).
const TYPE_MASK: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;
/// States in which a peer can be waiting for an answer (`tcp_states.h`): established, and established with the peer's side
/// already closed.
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
/// `AF_INET`, `AF_INET6`.
const INET: u16 = 2;
const INET6: u16 = 10;
/// A connection on which nothing came for longer (in ticks: 15 s at 1000 Hz, 60 s at 250 Hz) is not what is being answered.
const IDLE_TICKS_MAX: u32 = 15_000;
/// Bits of a word of `fdtable.open_fds`.
const WORD_BITS: u32 = u64::BITS;

/// Hands over the connections of the current process' parent and of its own standard descriptors, if there are any.
/// Exported: the verifier checks it once on its own instead of along every path through its callers.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn report_serving() -> u32 {
    let Some(task) = task::current_address() else { return 0 };
    let Some(parent) = task.object(parameter!(task_real_parent)) else { return 0 };
    let Some(scratch) = SERVING_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own scratch value.
    let record = unsafe { &mut *scratch };
    record.found = 0;
    record.stdio.peer_port = 0;
    record.stdio.local_port = 0;
    if let Some(table) = descriptors(task) {
        stdio(table, record);
    }
    if let Some(table) = descriptors(parent) {
        gather(table, record);
    }
    let found = record.found;
    if found != 0 || record.stdio.local_port != 0 {
        record.count = if found > SERVING_MAX as u32 { SERVING_MAX as u32 } else { found };
        record.child = task::process(task);
        record.server = task::process(parent);
        let length = size_of::<ServingRecord>() as u32;
        record.header = emit::header(KIND_SERVING, length);
        // SAFETY: the whole of a map value.
        unsafe { emit::built::<ServingRecord, 0>(Lane::Priority, KIND_SERVING, scratch.cast_const().cast(), 0) };
    }
    found
}

/// A task's table of descriptors.
#[inline(always)]
fn descriptors(task: Address) -> Option<Address> {
    task.object(parameter!(task_files))?.object(parameter!(files_fdt))
}

/// Notes the first connection among descriptors 0 to 2.
#[inline(always)]
fn stdio(table: Address, record: &mut ServingRecord) {
    let Some(files) = table.object(parameter!(fdtable_fd)) else { return };
    let mut descriptor = 0;
    while descriptor < 3 && record.stdio.local_port == 0 {
        if let Some((sock, family)) = internet_socket(files.get() + descriptor * 8) {
            record.stdio = connection(sock, family, 0);
        }
        descriptor += 1;
    }
}

/// Notes every connection among the open descriptors.
#[inline(always)]
fn gather(table: Address, record: &mut ServingRecord) {
    let (Some(open), Some(files)) = (table.object(parameter!(fdtable_open_fds)), table.object(parameter!(fdtable_fd)))
    else {
        return;
    };
    let places: u32 = table.number(parameter!(fdtable_max_fds));
    let mut word = 0_u64;
    let mut descriptor = 0;
    while descriptor < SERVING_DESCRIPTORS_MAX {
        if descriptor % WORD_BITS == 0 {
            if descriptor >= places {
                return;
            }
            word = open.number(descriptor / 8);
        }
        if word >> (descriptor % WORD_BITS) & 1 != 0 {
            look(files.get() + u64::from(descriptor) * 8, record);
        }
        descriptor += 1;
    }
}

/// The internet socket behind the file pointer at `place`, and its family.
#[inline(always)]
fn internet_socket(place: u64) -> Option<(Address, u16)> {
    let file = Address::new(place)?.object(0)?;
    let inode = file.object(parameter!(file_inode))?;
    if inode.number::<u16>(parameter!(inode_mode)) & TYPE_MASK != SOCKET {
        return None;
    }
    let sock = file.object(parameter!(file_private_data))?.object(parameter!(socket_sk))?;
    let family: u16 = sock.number(parameter!(sock_family));
    if family == INET || family == INET6 { Some((sock, family)) } else { None }
}

/// Notes the connection behind the file pointer at `place`, if it is one and was just used.
#[inline(always)]
fn look(place: u64, record: &mut ServingRecord) {
    let Some((sock, family)) = internet_socket(place) else { return };
    let state: u8 = sock.number(parameter!(sock_state));
    if (state != ESTABLISHED && state != CLOSE_WAIT) || u32::from(sock.number::<u16>(parameter!(sock_protocol))) != TCP
    {
        return;
    }
    // SAFETY: the helper has no preconditions. Ticks are compared as the kernel does: in 32 bits, wrapping.
    let now = unsafe { generated::bpf_jiffies64() } as u32;
    let idle_ticks = now.wrapping_sub(sock.number(parameter!(tcp_last_received)));
    if idle_ticks > IDLE_TICKS_MAX {
        return;
    }
    let slot = record.found as usize & (SERVING_MAX - 1);
    record.found += 1;
    if record.found <= SERVING_MAX as u32 {
        record.connections[slot] = connection(sock, family, idle_ticks);
    }
}

#[inline(always)]
fn connection(sock: Address, family: u16, idle_ticks: u32) -> ConnectionRecord {
    let (peer, local) = if family == INET6 {
        let peer = contact::v6(sock.number(parameter!(sock_v6_daddr)), 0).0;
        (peer, contact::v6(sock.number(parameter!(sock_v6_rcv_saddr)), 0).0)
    } else {
        let peer = contact::v4(sock.number(parameter!(sock_daddr)), 0);
        (peer, contact::v4(sock.number(parameter!(sock_rcv_saddr)), 0))
    };
    ConnectionRecord {
        peer: peer.bytes(),
        local: local.bytes(),
        peer_port: u16::from_be(sock.number(parameter!(sock_dport))),
        local_port: sock.number(parameter!(sock_num)),
        idle_ticks,
    }
}
