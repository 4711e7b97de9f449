//! The one place that reserves and submits. Counts what went out and what was lost, by kind; decides when user space is
//! woken.

use core::arch::asm;

use aya_ebpf::helpers::generated;
use aya_ebpf::maps::RingBuf;
use breachline_abi::control::{COUNTER_EMITTED, COUNTER_LOST, COUNTER_WAKEUPS};
use breachline_abi::record::{Header, VERSION};

use crate::maps::{BULK, COUNTS, LAST_WAKE, PRIORITY};
use crate::memory::parameter;

/// `BPF_RB_NO_WAKEUP`: user space finds the record when it next looks.
const NO_WAKEUP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP`: an inter-processor interrupt, 5 to 20 us on a virtual machine.
const FORCE_WAKEUP: u64 = 2;
/// `BPF_RB_AVAIL_DATA`: bytes not yet read.
const AVAILABLE: u64 = 0;

/// One record of a kind in so many looks how full the bulk ring is: the ring's positions lie in cache lines that the
/// reader writes. A quarter of the smallest sensible ring (64 KiB) holds more than that many.
const LOOK_EVERY: u64 = 32;

/// Which ring a record takes and how soon user space must see it.
#[derive(Copy, Clone, PartialEq, Eq)]
pub enum Lane {
    /// Ordinary: the bulk ring, woken only when it fills.
    Bulk,
    /// A chain hangs on it: a ring that no flood of ordinary records can fill.
    Priority,
    /// The same, and user space is woken at once (not more often than the loader's interval).
    Urgent,
}

impl Lane {
    #[inline(always)]
    fn ring(self) -> &'static RingBuf {
        if self == Self::Bulk { &BULK } else { &PRIORITY }
    }

    /// How to submit a record of a kind of which this CPU handed over `emitted` before.
    #[inline(always)]
    fn wake_flags(self, emitted: u64) -> u64 {
        let due = match self {
            Self::Priority => false,
            Self::Urgent => true,
            Self::Bulk => {
                emitted.is_multiple_of(LOOK_EVERY) && BULK.query(AVAILABLE) > u64::from(parameter!(bulk_wake_bytes))
            }
        };
        if due && wake_allowed() { FORCE_WAKEUP } else { NO_WAKEUP }
    }
}

/// The priority ring, or the bulk ring while the other is half full: a scan of ten thousand peers must not push out the
/// shells, tainted lines and metadata contacts that the rest is kept for.
#[inline(always)]
pub fn unless_crowded() -> Lane {
    let crowded = PRIORITY.query(AVAILABLE) > u64::from(parameter!(priority_crowded_bytes));
    if crowded { Lane::Bulk } else { Lane::Priority }
}

/// Adds one to a counter of this CPU; returns what it was.
#[inline(always)]
pub fn count(slot: u32) -> u64 {
    let Some(counter) = COUNTS.get_ptr_mut(slot) else { return 0 };
    // SAFETY: a valid pointer to this CPU's own slot.
    unsafe {
        let before = *counter;
        *counter = before + 1;
        before
    }
}

/// Hands a record of `kind` over by `output`, which is told how to wake, and counts it as handed over or lost; which of
/// the two it was. The counter is looked up once for both.
#[inline(always)]
fn counted(lane: Lane, kind: u16, output: impl FnOnce(u64) -> bool) -> bool {
    let Some(emitted) = COUNTS.get_ptr_mut(COUNTER_EMITTED + u32::from(kind)) else { return false };
    // SAFETY: a valid pointer to this CPU's own slot.
    let sent = output(lane.wake_flags(unsafe { *emitted }));
    if sent {
        // SAFETY: as above.
        unsafe { *emitted += 1 };
    } else {
        count(COUNTER_LOST + u32::from(kind));
    }
    sent
}

/// Nanoseconds since boot, suspend included.
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { generated::bpf_ktime_get_boot_ns() }
}

#[inline(always)]
fn wake_allowed() -> bool {
    let now = boot_ns();
    let Some(last) = LAST_WAKE.get_ptr_mut(0) else { return false };
    // SAFETY: a valid map value; a race with another CPU costs at most one wake-up more.
    unsafe {
        if now.wrapping_sub(last.read_volatile()) < u64::from(parameter!(wake_interval_us)) * 1000 {
            return false;
        }
        last.write_volatile(now);
    }
    count(COUNTER_WAKEUPS);
    true
}

/// The header of a record of `kind` with `length` bytes, now.
#[inline(always)]
pub fn header(kind: u16, length: u32) -> Header {
    Header { kind, version: VERSION, length, boot_ns: boot_ns(), cpu: processor(), padding: 0 }
}

/// The processor that this runs on.
#[inline(always)]
pub fn processor() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { generated::bpf_get_smp_processor_id() }
}

/// Hands over the record of fixed size that `build` makes from its header; whether there was room.
#[inline(always)]
pub fn record<T: 'static>(lane: Lane, kind: u16, build: impl FnOnce(Header) -> T) -> bool {
    let record = build(header(kind, size_of::<T>() as u32));
    // One helper call in place of two: these records are small.
    counted(lane, kind, |flags| lane.ring().output::<T>(&record, flags).is_ok())
}

/// Hands over the record of fixed size that `fill` writes where it will be read, unless it thinks better of it. Bytes
/// that it leaves unwritten hold what the ring held there before.
#[inline(always)]
pub fn in_place<T: 'static>(lane: Lane, kind: u16, fill: impl FnOnce(Header, *mut T) -> bool) -> bool {
    let Some(mut entry) = lane.ring().reserve::<T>(0) else {
        count(COUNTER_LOST + u32::from(kind));
        return false;
    };
    if !fill(header(kind, size_of::<T>() as u32), entry.as_mut_ptr()) {
        entry.discard(NO_WAKEUP);
        return false;
    }
    entry.submit(lane.wake_flags(count(COUNTER_EMITTED + u32::from(kind))));
    true
}

/// Hands over a record that was built elsewhere: a `T` at `start` and `tail` bytes behind it, at most `TAIL_MASK` (a power
/// of two less one; more wrap).
///
/// The bound is a machine instruction right before the call: verifiers before Linux 6.4 lose it on the way.
///
/// # Safety
///
/// A `T` and `TAIL_MASK` bytes behind it must be readable at `start`.
#[inline(always)]
pub unsafe fn built<T, const TAIL_MASK: usize>(lane: Lane, kind: u16, start: *const u8, tail: u32) {
    let ring = core::ptr::from_ref(lane.ring()).cast_mut().cast();
    counted(lane, kind, |flags| {
        let mut length = u64::from(tail);
        // SAFETY: arithmetic on a number; a map's address and a range the caller vouches for, which the verifier checks
        // again.
        unsafe {
            asm!(
                "{length} &= {mask}",
                "{length} += {head}",
                length = inout(reg) length,
                mask = const TAIL_MASK,
                head = const size_of::<T>(),
            );
            generated::bpf_ringbuf_output(ring, start.cast_mut().cast(), length, flags) == 0
        }
    });
}
