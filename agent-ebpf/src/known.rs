//! The contacts that are known: a table of four-way sets, one cache line each, keyed by a hash of who reached for whom.
//!
//! A general LRU map takes two cold cache lines and a spin lock per contact and 100 bytes of kernel memory; a set takes
//! one line, no lock and 16 bytes. What it gives up: contacts that share a place push each other out before the whole
//! table is full, which costs one record more, and two processors that fill one place at once may forget one of them,
//! likewise.

use aya_ebpf::helpers::generated;
use breachline_abi::control::{CONTACT_WAYS, ContactSet, EndpointKey, KnownContact, SEEN_TICKS_SHIFT};

use crate::maps::CONTACTS;
use crate::memory::parameter;

/// Odd constants with well spread bits (the golden ratio's and those of the 64-bit finaliser of MurmurHash3, public
/// domain): multiplication carries every bit upward, the shifts bring it down again.
const SPREAD: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53];

/// Everything that makes a contact one contact. All but the peer is fixed for the life of a service.
pub struct Who {
    /// cgroup v2 id.
    pub cgroup: u64,
    /// Program's inode.
    pub exe_inode: u64,
    /// Program's device.
    pub exe_device: u32,
    /// IP protocol number.
    pub protocol: u32,
}

/// A contact's place in the table.
#[derive(Copy, Clone)]
pub struct Place {
    set: *mut ContactSet,
    /// See [`KnownContact::tag`].
    pub tag: u64,
}

#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    let mut hash = (hash ^ word).wrapping_mul(SPREAD[1]);
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(SPREAD[2]);
    hash ^ hash >> 29
}

/// Never 0, which stands for an empty way.
#[inline(always)]
fn hash(who: &Who, peer: &EndpointKey) -> u64 {
    let seed = u64::from(parameter!(contact_seed_low)) | u64::from(parameter!(contact_seed_high)) << 32;
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let [first, second, third, last] = peer.address;
    let mut hash = mix(seed ^ SPREAD[0], who.cgroup);
    hash = mix(hash, who.exe_inode);
    hash = mix(hash, pair(who.exe_device, u32::from(peer.port) | who.protocol << 16));
    hash = mix(hash, pair(first, second));
    hash = mix(hash, pair(third, last) ^ seed.rotate_left(31));
    if hash == 0 { 1 } else { hash }
}

/// Where the contact stands or would stand.
#[inline(always)]
pub fn place(who: &Who, peer: &EndpointKey) -> Option<Place> {
    let tag = hash(who, peer);
    let set = CONTACTS.get_ptr_mut(tag as u32 & parameter!(contact_set_mask))?;
    Some(Place { set, tag })
}

/// Whether the contact is known: `None` when not, else whether the peer is a metadata endpoint. Being asked for at `now`
/// keeps it.
#[inline(always)]
pub fn find(place: Place, now: u32) -> Option<bool> {
    for way in 0..CONTACT_WAYS as usize {
        // SAFETY: a way of a valid map value; a race costs at most a record more.
        let known = unsafe { &mut (*place.set)[way] };
        if known.tag == place.tag {
            if known.seen != now {
                known.seen = now;
            }
            return Some(known.metadata != 0);
        }
    }
    None
}

/// Remembers it as met at `now`, in place of the one that was met longest ago where its place is full.
#[inline(always)]
pub fn remember(place: Place, metadata: bool, now: u32) {
    // SAFETY: ways of a valid map value; a race costs at most a record more.
    let set = unsafe { &mut *place.set };
    let contact = KnownContact { tag: place.tag, seen: now, metadata: u32::from(metadata) };
    let age = |way: usize| if set[way].tag == 0 { u32::MAX } else { now.wrapping_sub(set[way].seen) };
    let ages = [age(0), age(1), age(2), age(3)];
    // Written out: an index that is computed is a bound to prove to the verifier.
    let (first, second) = (ages[0] >= ages[1], ages[2] >= ages[3]);
    let front = if first { ages[0] } else { ages[1] };
    let back = if second { ages[2] } else { ages[3] };
    match (front >= back, first, second) {
        (true, true, _) => set[0] = contact,
        (true, false, _) => set[1] = contact,
        (false, _, true) => set[2] = contact,
        (false, _, false) => set[3] = contact,
    }
}

/// The time as contacts have it, see [`SEEN_TICKS_SHIFT`].
#[inline(always)]
pub fn ticks() -> u32 {
    // SAFETY: the helper has no preconditions.
    (unsafe { generated::bpf_jiffies64() } >> SEEN_TICKS_SHIFT) as u32
}
