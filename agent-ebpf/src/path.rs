//! The path of a file by its directory entries: what a program is, whatever it was called when it was asked for.
//!
//! Written from the leaf to the root, so that nothing has to be moved in the kernel; the decoder turns it round.
//! Symbolic links are already followed, mount points are crossed, the walk ends at the process' root.

use breachline_abi::limits::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX, PATH_COMPONENTS_MAX, TAIL_BYTES_MAX};

use crate::maps::EXEC_SCRATCH;
use crate::memory::{Address, Object, parameter};

/// A place in the file system: `struct path`.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct Place {
    /// `dentry`
    pub dentry: Address,
    /// `vfsmount`
    pub mount: Address,
}

impl Place {
    #[inline(always)]
    fn new(dentry: u64, mount: u64) -> Option<Self> {
        Some(Self { dentry: Address::new(dentry)?, mount: Address::new(mount)? })
    }

    /// The place whose two pointers lie at these offsets of `object`.
    #[inline(always)]
    pub fn read(object: Address, dentry: u32, mount: u32) -> Option<Self> {
        Some(Self { dentry: object.object(dentry)?, mount: object.object(mount)? })
    }

    /// Where this file system is mounted; `None` at the top.
    #[inline(always)]
    fn mountpoint(self) -> Option<Self> {
        let mount = self.mount.container(parameter!(mount_vfsmount))?;
        let above = mount.object(parameter!(mount_parent))?;
        if above == mount {
            return None;
        }
        Some(Self {
            dentry: mount.object(parameter!(mount_mountpoint))?,
            mount: above.after(parameter!(mount_vfsmount))?,
        })
    }
}

/// What came of a walk.
#[derive(Copy, Clone)]
pub struct Walk {
    /// Where the text ends in the tail.
    pub end: u32,
    /// Whether the root was not reached.
    pub truncated: bool,
}

/// Set in the answer of [`walk_path`] when the root was not reached.
const TRUNCATED: u32 = 1 << 31;

/// Writes the components of `place` to the scratch record's tail from `start` on.
#[inline(always)]
pub fn write(place: Place, root: Place, start: u32) -> Walk {
    let answer = walk_path(place.dentry.get(), place.mount.get(), root.dentry.get(), root.mount.get(), start);
    Walk { end: answer & (TAIL_BYTES_MAX as u32 - 1), truncated: answer & TRUNCATED != 0 }
}

/// [`write`] in numbers. Exported: the verifier checks it once on its own instead of along every path through its
/// callers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_path(dentry: u64, mount: u64, root_dentry: u64, root_mount: u64, start: u32) -> u32 {
    let Some(scratch) = EXEC_SCRATCH.get_ptr_mut(0) else { return start | TRUNCATED };
    // SAFETY: this CPU's own scratch value.
    let tail = unsafe { (&raw mut (*scratch).tail).cast::<u8>() };
    let (Some(root), Some(mut at)) = (Place::new(root_dentry, root_mount), Place::new(dentry, mount)) else {
        return start | TRUNCATED;
    };
    let mut end = start & (TAIL_BYTES_MAX as u32 - 1);
    for _ in 0..PATH_COMPONENTS_MAX {
        if at == root {
            return end;
        }
        let Some(parent) = at.dentry.object(parameter!(dentry_parent)) else { break };
        if at.mount.object(parameter!(vfsmount_root)) == Some(at.dentry) {
            let Some(above) = at.mountpoint() else { return end };
            at = above;
            continue;
        }
        let Some(name) = at.dentry.object(parameter!(dentry_name)) else { break };
        if end.wrapping_sub(start) > (PATH_BYTES_MAX - COMPONENT_BYTES_MAX) as u32 {
            break;
        }
        // SAFETY: `end` is masked below, and a component more lies inside the tail.
        let written = unsafe { name.string(tail.add(end as usize), COMPONENT_BYTES_MAX as u32) };
        if written == 0 {
            break;
        }
        end = (end + written) & (TAIL_BYTES_MAX as u32 - 1);
        if parent == at.dentry {
            // A file of no mounted file system (memfd): its name is all there is.
            return end;
        }
        at.dentry = parent;
    }
    end | TRUNCATED
}
