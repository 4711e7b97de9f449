//! Which lines have already done something that a chain is made of. The mark is inherited at fork and leaves with the
//! process.

use aya_ebpf::bindings::BPF_NOEXIST;
use breachline_abi::control::COUNTER_LINEAGE_CUT;

use crate::emit::count;
use crate::maps::TAINTED;
use crate::noted;

/// `TAINT_` bits of a thread group.
#[inline(always)]
pub fn of(pid: u32) -> u32 {
    if noted::any(pid) { recorded(pid) } else { 0 }
}

#[inline(always)]
fn recorded(pid: u32) -> u32 {
    // SAFETY: a valid map value.
    TAINTED.get_ptr(pid).map_or(0, |taint| unsafe { *taint })
}

/// Marks a thread group from now on.
#[inline(always)]
pub fn mark(pid: u32, bits: u32) {
    if TAINTED.insert(pid, bits, u64::from(BPF_NOEXIST)).is_ok() {
        noted::added(pid);
    } else if TAINTED.insert(pid, recorded(pid) | bits, 0).is_err() {
        count(COUNTER_LINEAGE_CUT);
    }
}

/// Gives a parent's mark to its child.
#[inline(always)]
pub fn inherit(parent: u32, child: u32) {
    let taint = of(parent);
    if taint != 0 {
        mark(child, taint);
    }
}

/// Forgets a process that ended. Only to be called where [`noted::any`] says that there may be something.
#[inline(always)]
pub fn forget(pid: u32) {
    if TAINTED.remove(pid).is_ok() {
        noted::removed(pid);
    }
}
