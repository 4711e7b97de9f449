//! Which connections to metadata endpoints are looked at, and for how long packets are worth a look at all.

use aya_ebpf::helpers::generated;
use breachline_abi::control::EndpointKey;
use breachline_abi::request::WatchedSocket;

use crate::maps::{WATCH_UNTIL, WATCHED_SOCKETS};
use crate::memory::Object;
use crate::task;

/// How long after the last contact or request packets are looked at, in ticks: 10 s at 1000 Hz, 100 s at 100 Hz.
const WATCH_TICKS: u64 = 10_000;

/// Whether any connection is being watched.
#[inline(always)]
pub fn active() -> bool {
    // SAFETY: a valid map value.
    WATCH_UNTIL.get_ptr(0).is_some_and(|until| now() < unsafe { until.read_volatile() })
}

/// Goes on watching from now.
#[inline(always)]
pub fn extend() {
    if let Some(until) = WATCH_UNTIL.get_ptr_mut(0) {
        // SAFETY: a valid map value; whoever writes last writes the same within a tick.
        unsafe { until.write_volatile(now() + WATCH_TICKS) };
    }
}

/// Watches a connection of the current task.
#[inline(always)]
pub fn begin<K: Object>(task: K, cookie: u64, peer: &EndpointKey) {
    let actor = task::actor(task);
    let socket =
        WatchedSocket { actor, peer: peer.bytes(), port: u16::from_be(peer.port), requests: 0, padding: [0; 4] };
    // A full table lets the oldest go.
    let _ = WATCHED_SOCKETS.insert(cookie, socket, 0);
    extend();
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { generated::bpf_jiffies64() }
}
