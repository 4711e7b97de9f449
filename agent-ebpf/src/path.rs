//! The path of a file by its directory entries: what a program is, whatever it was called when it was asked for.
//!
//! Written from the leaf to the root, so that nothing has to be moved in the kernel; the decoder turns it round.
//! Symbolic links are already followed, mount points are crossed, the walk ends at the process' root.

use breachline_abi::limits::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX, PATH_COMPONENTS_MAX, TAIL_BYTES_MAX};

use crate::maps::EXEC_SCRATCH;
use crate::memory::{Address, Object, parameter};
use crate::task::with_current;

/// A place in the file system: the pointers of a `struct path`.
#[derive(Copy, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct Place {
    dentry: u64,
    mount: u64,
}

/// The same as objects.
#[derive(Copy, Clone)]
struct Ends<K> {
    dentry: K,
    mount: K,
}

impl<K: Object> Ends<K> {
    #[inline(always)]
    fn place(self) -> Place {
        Place { dentry: self.dentry.address().get(), mount: self.mount.address().get() }
    }
}

/// The same with both ends known to be there.
#[derive(Copy, Clone, PartialEq, Eq)]
struct At {
    dentry: Address,
    mount: Address,
}

impl Place {
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
/// Answer of [`walk_path`] when there is no path. No position is as large.
const UNKNOWN: u32 = 1 << 30;

/// The running program's file, and the working directory.
pub const PROGRAM: u32 = 0;
pub const DIRECTORY: u32 = 1;

/// Writes the components of a path of the current task to the scratch record's tail from `start` on; `None` when the task
/// has no such path.
#[inline(always)]
pub fn write(which: u32, start: u32) -> Option<Walk> {
    let answer = walk_path(which, start);
    if answer == UNKNOWN {
        return None;
    }
    Some(Walk { end: answer & (TAIL_BYTES_MAX as u32 - 1), truncated: answer & TRUNCATED != 0 })
}

/// [`write`]. Exported: the verifier checks it once on its own instead of along every path through its callers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_path(which: u32, start: u32) -> u32 {
    let mut answer = UNKNOWN;
    with_current!(|task| {
        answer = walk_from(task, which, start).unwrap_or(UNKNOWN);
    });
    answer
}

/// Up to the root, or to where another file system is mounted on: from there on by [`walk_on`]. Nearly all of a path lies in
/// one file system, and there the typed pointers that most kernels give are plain loads, no helper calls.
#[inline(always)]
fn walk_from<K: Object>(task: K, which: u32, start: u32) -> Option<u32> {
    // SAFETY: this CPU's own scratch value.
    let scratch = unsafe { &mut *EXEC_SCRATCH.get_ptr_mut(0)? };
    let fs = task.object(parameter!(task_fs))?;
    let root = Ends { dentry: fs.object(parameter!(fs_root_dentry))?, mount: fs.object(parameter!(fs_root_mnt))? };
    let mut at = if which == DIRECTORY {
        Ends { dentry: fs.object(parameter!(fs_pwd_dentry))?, mount: fs.object(parameter!(fs_pwd_mnt))? }
    } else {
        let file = task.object(parameter!(task_mm))?.object(parameter!(mm_exe_file))?;
        Ends { dentry: file.object(parameter!(file_dentry))?, mount: file.object(parameter!(file_mnt))? }
    };
    let at_root_mount = at.mount.address() == root.mount.address();
    let mount_root = at.mount.object(parameter!(vfsmount_root))?;
    let tail = (&raw mut scratch.tail).cast::<u8>();
    let mut end = start & (TAIL_BYTES_MAX as u32 - 1);
    for _ in 0..PATH_COMPONENTS_MAX {
        if at_root_mount && at.dentry.address() == root.dentry.address() {
            return Some(end);
        }
        if at.dentry.address() == mount_root.address() {
            scratch.walk = [at.place(), root.place()];
            return Some(walk_on(start, end));
        }
        let Some(name) = Address::new(at.dentry.number(parameter!(dentry_name))) else { break };
        let Some(parent) = at.dentry.object(parameter!(dentry_parent)) else { break };
        if end.wrapping_sub(start) > (PATH_BYTES_MAX - COMPONENT_BYTES_MAX) as u32 {
            break;
        }
        // SAFETY: `end` is masked below, and a component more lies inside the tail.
        let written = unsafe { name.string(tail.add(end as usize), COMPONENT_BYTES_MAX as u32) };
        if written == 0 {
            break;
        }
        end = (end + written) & (TAIL_BYTES_MAX as u32 - 1);
        if parent.address() == at.dentry.address() {
            // A file of no mounted file system (memfd): its name is all there is.
            return Some(end);
        }
        at.dentry = parent;
    }
    Some(end | TRUNCATED)
}

/// Goes on from the places in the scratch, across mount points, with what began at `start` and goes up to `end` already
/// written. Exported like [`walk_path`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_on(start: u32, end: u32) -> u32 {
    let Some(scratch) = EXEC_SCRATCH.get_ptr_mut(0) else { return start | TRUNCATED };
    // SAFETY: this CPU's own scratch value.
    let (tail, [place, root]) = unsafe { ((&raw mut (*scratch).tail).cast::<u8>(), (*scratch).walk) };
    let (Some(root), Some(mut at)) = (root.at(), place.at()) else { return start | TRUNCATED };
    let mut end = end & (TAIL_BYTES_MAX as u32 - 1);
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
