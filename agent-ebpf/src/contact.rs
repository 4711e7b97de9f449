//! First contact: what is remembered of who reached for whom, and when that is worth a record.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use breachline_abi::contact::{ContactRecord, FLAG_FIRST, FLAG_MAPPED, FLAG_METADATA, FLAG_TAINTED};
use breachline_abi::control::{ContactKey, ContactMemory, EndpointKey, TAINT_METADATA};
use breachline_abi::record::KIND_CONTACT;

use crate::emit::{self, Lane};
use crate::maps::{CONTACTS, FLOWS, METADATA};
use crate::memory::Object;
use crate::{taint, task, watch};

/// A process that reaches for the same noted peer again within this time (ns) is only counted: without it one loop
/// around `connect` could fill the priority ring.
const REPEAT_NS: u64 = 1_000_000_000;
/// `IPPROTO_TCP`.
pub const TCP: u32 = 6;
/// `IPPROTO_MPTCP`: TCP to everyone but the kernel.
const MPTCP: u32 = 262;
/// Third word of a v4-mapped address (RFC 4291 2.5.5.2), and first word of NAT64's well-known prefix (RFC 6052 2.1).
const V4_MAPPED: u32 = 0x0000_ffff_u32.to_be();
const NAT64: u32 = 0x0064_ff9b_u32.to_be();

/// Who is being reached for, as a hook saw it.
#[derive(Copy, Clone)]
pub struct Attempt {
    /// Peer.
    pub peer: EndpointKey,
    /// IP protocol number.
    pub protocol: u32,
    /// `HOOK_` number.
    pub hook: u8,
    /// The address came as v4-mapped or NAT64.
    pub mapped: bool,
}

/// A v4 peer. Both in network byte order.
#[inline(always)]
pub fn v4(address: u32, port: u16) -> EndpointKey {
    EndpointKey { address: [0, 0, V4_MAPPED, address], port, padding: 0 }
}

/// A v6 peer with v4-mapped and NAT64 forms unwrapped, and whether it was one.
#[inline(always)]
pub fn v6(address: [u32; 4], port: u16) -> (EndpointKey, bool) {
    let [first, second, third, last] = address;
    let nat64 = first == NAT64 && second == 0 && third == 0;
    let mapped = first == 0 && second == 0 && third == V4_MAPPED;
    if nat64 || mapped { (v4(last, port), true) } else { (EndpointKey { address, port, padding: 0 }, false) }
}

/// Notes an attempt of the current task; hands over a record when it is news. `cookie` is asked for only then. Returns
/// whether it was the first of its key.
#[inline(always)]
pub fn note<K: Object>(task: K, attempt: &Attempt, cookie: impl FnOnce() -> u64) -> bool {
    let (exe_inode, exe_device) = task::exe_id(task);
    let protocol = if attempt.protocol == MPTCP { TCP } else { attempt.protocol };
    let EndpointKey { address, port, .. } = attempt.peer;
    let cgroup = task::current_cgroup();
    let key = ContactKey { cgroup, exe_inode, address, exe_device, port, protocol: protocol as u16 };
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let tainted = taint::of(pid) != 0;
    // Only a connection has an outcome to be joined with.
    let socket = || if protocol == TCP { cookie() } else { 0 };
    let Some(memory) = CONTACTS.get_ptr_mut(key) else {
        let metadata = is_metadata(&attempt.peer);
        let flags = flags(true, metadata, tainted, attempt.mapped);
        // What could not be handed over was no first contact: the next one is.
        if report(task, attempt, protocol, flags, socket()) {
            remember(&key, pid, metadata);
        }
        return true;
    };
    // SAFETY: a valid map value; the count is a hint, a lost increment is no loss of evidence.
    let memory = unsafe { &mut *memory };
    memory.count += 1;
    let metadata = memory.metadata != 0;
    if (metadata || tainted) && due(memory, pid) {
        report(task, attempt, protocol, flags(false, metadata, tainted, attempt.mapped), socket());
    }
    false
}

#[inline(always)]
fn remember(key: &ContactKey, pid: u32, metadata: bool) {
    let memory =
        ContactMemory { count: 1, reported_boot_ns: emit::boot_ns(), reported_pid: pid, metadata: u32::from(metadata) };
    // Another CPU may have been first: then both reported it, which is one record more and none lost.
    let _ = CONTACTS.insert(key, memory, u64::from(BPF_NOEXIST));
}

#[inline(always)]
fn due(memory: &mut ContactMemory, pid: u32) -> bool {
    let now = emit::boot_ns();
    if memory.reported_pid == pid && now.wrapping_sub(memory.reported_boot_ns) < REPEAT_NS {
        return false;
    }
    memory.reported_pid = pid;
    memory.reported_boot_ns = now;
    true
}

#[inline(always)]
fn is_metadata(peer: &EndpointKey) -> bool {
    let Some(endpoint) = METADATA.get_ptr(peer.address) else { return false };
    // SAFETY: a valid map value, filled before the programs are attached.
    let endpoint = unsafe { &*endpoint };
    endpoint.any != 0 || (peer.port != 0 && endpoint.ports.contains(&peer.port))
}

#[inline(always)]
fn flags(first: bool, metadata: bool, tainted: bool, mapped: bool) -> u8 {
    let bit = |set: bool, flag: u8| if set { flag } else { 0 };
    bit(first, FLAG_FIRST) | bit(metadata, FLAG_METADATA) | bit(tainted, FLAG_TAINTED) | bit(mapped, FLAG_MAPPED)
}

/// Hands a contact over; whether that succeeded. Not inlined: its record must not share a stack frame (512 bytes) with
/// the caller's keys.
#[inline(never)]
fn report<K: Object>(task: K, attempt: &Attempt, protocol: u32, flags: u8, socket: u64) -> bool {
    let metadata = flags & FLAG_METADATA != 0;
    let actor = task::actor(task);
    if metadata {
        taint::mark(actor.process.pid, TAINT_METADATA);
    }
    if socket != 0 {
        // A full table forgets the oldest connection's outcome, nothing else.
        let _ = FLOWS.insert(socket, 0, 0);
        if metadata {
            watch::begin(socket, actor, &attempt.peer);
        }
    }
    let lane = if metadata { Lane::Urgent } else { Lane::Priority };
    emit::record(lane, KIND_CONTACT, |header| ContactRecord {
        header,
        actor,
        socket,
        peer: attempt.peer.bytes(),
        port: u16::from_be(attempt.peer.port),
        protocol: protocol as u8,
        hook: attempt.hook,
        flags,
        padding: [0; 3],
    })
}
