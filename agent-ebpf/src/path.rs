//! The path of a file by its directory entries: what a program is, whatever it was called when it was asked for.
//!
//! Written from the leaf to the root, so that nothing has to be moved in the kernel; the decoder turns it round.
//! Symbolic links are already followed, mount points are crossed, the walk ends at the process' root.

use breachline_abi::limits::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX, PATH_COMPONENTS_MAX, TAIL_BYTES_MAX};

use crate::maps::{EXEC_SCRATCH, ExecScratch};
use crate::memory::{Address, Object, parameter};

/// A place in the file system: the pointers of a `struct path`.
#[derive(Copy, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct Place {
    dentry: u64,
    mount: u64,
}

/// The same with both ends known to be there.
#[derive(Copy, Clone, PartialEq, Eq)]
struct At {
    dentry: Address,
    mount: Address,
}

impl Place {
    /// The place whose two pointers lie at these offsets of `object`.
    #[inline(always)]
    pub fn read(object: impl Object, dentry: u32, mount: u32) -> Option<Self> {
        Some(Self { dentry: object.object(dentry)?.address().get(), mount: object.object(mount)?.address().get() })
    }

    #[inline(always)]
    fn at(self) -> Option<At> {
        Some(At { dentry: Address::new(self.dentry)?, mount: Address::new(self.mount)? })
    }
}

impl At {
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

/// Parent and name of a directory entry. On every kernel so far they stand beside each other, the name's hash between
/// them: one read instead of two.
#[inline(always)]
fn entry(dentry: Address) -> (Option<Address>, Option<Address>) {
    let (parent, name) = (parameter!(dentry_parent), parameter!(dentry_name));
    if name.wrapping_sub(parent) == 16 {
        let [parent, _, name]: [u64; 3] = dentry.number(parent);
        (Address::new(parent), Address::new(name))
    } else {
        (dentry.object(parent), dentry.object(name))
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
pub fn write(scratch: &mut ExecScratch, place: Place, root: Place, start: u32) -> Walk {
    scratch.walk = [place, root];
    let answer = walk_path(start);
    Walk { end: answer & (TAIL_BYTES_MAX as u32 - 1), truncated: answer & TRUNCATED != 0 }
}

/// [`write`] of the places in the scratch. Exported: the verifier checks it once on its own instead of along every path
/// through its callers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_path(start: u32) -> u32 {
    let Some(scratch) = EXEC_SCRATCH.get_ptr_mut(0) else { return start | TRUNCATED };
    // SAFETY: this CPU's own scratch value.
    let (tail, [place, root]) = unsafe { ((&raw mut (*scratch).tail).cast::<u8>(), (*scratch).walk) };
    let (Some(root), Some(mut at)) = (root.at(), place.at()) else { return start | TRUNCATED };
    let mut end = start & (TAIL_BYTES_MAX as u32 - 1);
    let mut mount_root = at.mount.object(parameter!(vfsmount_root));
    for _ in 0..PATH_COMPONENTS_MAX {
        if at == root {
            return end;
        }
        if mount_root == Some(at.dentry) {
            let Some(above) = at.mountpoint() else { return end };
            at = above;
            mount_root = at.mount.object(parameter!(vfsmount_root));
            continue;
        }
        let (Some(parent), Some(name)) = entry(at.dentry) else { break };
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
