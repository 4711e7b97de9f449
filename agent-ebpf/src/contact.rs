//! First contact: when it is worth a record that somebody reached for somebody.

use breachline_abi::contact::{ContactRecord, FLAG_FIRST, FLAG_MAPPED, FLAG_METADATA, FLAG_TAINTED};
use breachline_abi::control::{EndpointKey, RepeatKey, TAINT_METADATA};
use breachline_abi::filter::FILTER_METADATA;
use breachline_abi::record::KIND_CONTACT;

use crate::emit::{self, Lane};
use crate::known::{self, Who};
use crate::maps::{FLOWS, METADATA, REPEATS};
use crate::memory::Object;
use crate::{datagrams, filter, taint, task, watch};

/// A process that reaches for the same noted peer again within this time (ns) is only counted: without it one loop
/// around `connect` could fill the priority ring.
const REPEAT_NS: u64 = 1_000_000_000;
/// `IPPROTO_TCP` and `IPPROTO_UDP`.
pub const TCP: u32 = 6;
pub const UDP: u32 = 17;
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
    let who = Who { cgroup: task::current_cgroup(), exe_inode, exe_device, protocol };
    let Some(place) = known::place(&who, &attempt.peer) else { return false };
    let pid = task::tgid(task);
    let tainted = taint::of(pid) != 0;
    // Only these have an outcome to be joined with.
    let socket = || if protocol == TCP || protocol == UDP { cookie() } else { 0 };
    let now = known::ticks();
    let known = known::find(place, now);
    let first = known.is_none();
    let metadata = known.unwrap_or_else(|| is_metadata(&attempt.peer));
    if !first && !((metadata || tainted) && due(place.tag, pid)) {
        return false;
    }
    let flags = flags(first, metadata, tainted, attempt.mapped);
    // What could not be handed over was no first contact: the next one is.
    if report(task, attempt, &who, flags, socket()) && first {
        known::remember(place, metadata, now);
    }
    first
}

/// Whether a noted contact is told again.
#[inline(always)]
fn due(tag: u64, pid: u32) -> bool {
    let (key, now) = (RepeatKey { tag, pid, padding: 0 }, emit::boot_ns());
    // SAFETY: a valid map value.
    let recent = REPEATS.get_ptr(key).is_some_and(|told| now.wrapping_sub(unsafe { *told }) < REPEAT_NS);
    if !recent {
        // A full table lets the oldest go.
        let _ = REPEATS.insert(key, now, 0);
    }
    !recent
}

#[inline(always)]
fn is_metadata(peer: &EndpointKey) -> bool {
    let [first, second, third, last] = peer.address;
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    if !filter::may_hold(FILTER_METADATA, [pair(first, second), pair(third, last)]) {
        return false;
    }
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

/// Hands a contact over; whether that succeeded. Filled in where it will be read: a record does not fit beside the keys on
/// the stack (512 bytes). No function of its own: before Linux 6.4 the verifier knows a program with static functions too
/// little to prune its paths, and checks it for minutes.
#[inline(always)]
fn report<K: Object>(task: K, attempt: &Attempt, who: &Who, flags: u8, socket: u64) -> bool {
    let metadata = flags & FLAG_METADATA != 0;
    if metadata {
        taint::mark(task::tgid(task), TAINT_METADATA);
    }
    if socket != 0 && who.protocol == TCP {
        // A full table forgets the oldest connection's outcome, nothing else.
        let _ = FLOWS.insert(socket, 0, 0);
        if metadata {
            watch::begin(task, socket, &attempt.peer);
        }
    }
    let lane = match flags & (FLAG_METADATA | FLAG_TAINTED) {
        0 => emit::unless_crowded(),
        FLAG_TAINTED => Lane::Priority,
        _ => Lane::Urgent,
    };
    let told = emit::in_place(lane, KIND_CONTACT, |header, record: *mut ContactRecord| {
        // SAFETY: room for a record, each field of which is written.
        unsafe {
            (&raw mut (*record).header).write(header);
            task::write_actor(task, who, &raw mut (*record).actor);
            (&raw mut (*record).socket).write(socket);
            (&raw mut (*record).peer).write(attempt.peer.bytes());
            (&raw mut (*record).port).write(u16::from_be(attempt.peer.port));
            (&raw mut (*record).protocol).write(who.protocol as u8);
            (&raw mut (*record).hook).write(attempt.hook);
            (&raw mut (*record).flags).write(flags);
            (&raw mut (*record).padding).write([0; 3]);
        }
        true
    });
    // Last: what the verifier must follow from here on is least.
    if socket != 0 && who.protocol == UDP {
        datagrams::follow(socket, &attempt.peer);
    }
    told
}
