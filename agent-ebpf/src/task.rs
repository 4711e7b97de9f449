//! Who did it: the identity of a task, and of the program it runs.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated;
use breachline_abi::limits::COMM_BYTES;
use breachline_abi::record::{ActorRecord, ProcessId};

use crate::known::Who;
use crate::memory::{Address, Number, Object, Typed, parameter};

/// Runs `body` with the current task: as a typed pointer where cgroup programs may have one (5.11), else as an address.
/// The branch not taken is removed by the verifier.
macro_rules! with_current {
    (|$task:ident| $body:expr) => {
        if $crate::memory::parameter!(current_task_btf) == 1 {
            if let Some($task) = $crate::task::current_typed() {
                $body
            }
        } else if let Some($task) = $crate::task::current_address() {
            $body
        }
    };
}
pub(crate) use with_current;

#[inline(always)]
pub fn current_typed() -> Option<Typed> {
    // SAFETY: the helper has no preconditions.
    Typed::new(unsafe { generated::bpf_get_current_task_btf() }.cast_const().cast())
}

#[inline(always)]
pub fn current_address() -> Option<Address> {
    // SAFETY: the helper has no preconditions.
    Address::new(unsafe { generated::bpf_get_current_task() })
}

/// Thread group id.
#[inline(always)]
pub fn tgid(task: impl Object) -> u32 {
    task.number(parameter!(task_tgid))
}

/// Pid and start of the process that `task` is a thread of.
#[inline(always)]
pub fn process(task: impl Object) -> ProcessId {
    let leader = task.object(parameter!(task_group_leader)).unwrap_or(task);
    ProcessId { start_boot_ns: leader.number(parameter!(task_start_boottime)), pid: tgid(task), padding: 0 }
}

/// The parent process.
#[inline(always)]
pub fn parent(task: impl Object) -> ProcessId {
    task.object(parameter!(task_real_parent)).map(process).unwrap_or_default()
}

/// The file of the running program.
#[inline(always)]
pub fn exe_inode<K: Object>(task: K) -> Option<K> {
    let mm = task.object(parameter!(task_mm))?;
    let file = mm.object(parameter!(mm_exe_file))?;
    file.object(parameter!(file_inode))
}

/// Inode number and device of the running program; zeros for a kernel thread and after the memory is gone.
#[inline(always)]
pub fn exe_id(task: impl Object) -> (u64, u32) {
    let Some(inode) = exe_inode(task) else { return (0, 0) };
    (inode.number(parameter!(inode_ino)), device(inode))
}

#[inline(always)]
fn device(inode: impl Object) -> u32 {
    let Some(super_block) = inode.object(parameter!(inode_sb)) else { return 0 };
    super_block.number(parameter!(super_block_dev))
}

/// cgroup v2 id of the current task.
#[inline(always)]
pub fn current_cgroup() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { generated::bpf_get_current_cgroup_id() }
}

#[inline(always)]
fn nested<T: Number, K: Object>(object: Option<K>, pointer: u32, field: u32) -> T {
    object.and_then(|object| object.object(pointer)).map(|inner| inner.number(field)).unwrap_or_default()
}

/// The identity of `task`, which must be the current one (cgroup and `comm` are taken from there).
#[inline(always)]
pub fn actor<K: Object>(task: K) -> ActorRecord {
    let (exe_inode, exe_device) = exe_id(task);
    let who = Who { cgroup: current_cgroup(), exe_inode, exe_device, protocol: 0 };
    let mut actor = MaybeUninit::uninit();
    // SAFETY: room for an actor, each field of which is written.
    unsafe {
        write_actor(task, &who, actor.as_mut_ptr());
        actor.assume_init()
    }
}

/// [`actor`] where it will be read, what is known already taken from `who`.
///
/// # Safety
///
/// `to` must be writable.
#[inline(always)]
pub unsafe fn write_actor<K: Object>(task: K, who: &Who, to: *mut ActorRecord) {
    let cred = task.object(parameter!(task_cred));
    let namespaces = task.object(parameter!(task_nsproxy));
    // SAFETY: the caller vouches for the place; the helper gets the size of the field.
    unsafe {
        (&raw mut (*to).process).write(process(task));
        (&raw mut (*to).parent).write(parent(task));
        (&raw mut (*to).cgroup).write(who.cgroup);
        (&raw mut (*to).exe_inode).write(who.exe_inode);
        (&raw mut (*to).exe_device).write(who.exe_device);
        (&raw mut (*to).uid).write(cred.map(|cred| cred.number(parameter!(cred_uid))).unwrap_or_default());
        (&raw mut (*to).euid).write(cred.map(|cred| cred.number(parameter!(cred_euid))).unwrap_or_default());
        (&raw mut (*to).net_ns).write(nested(namespaces, parameter!(nsproxy_net_ns), parameter!(net_inum)));
        (&raw mut (*to).mnt_ns).write(nested(namespaces, parameter!(nsproxy_mnt_ns), parameter!(mnt_namespace_inum)));
        (&raw mut (*to).pid_ns).write(nested(namespaces, parameter!(nsproxy_pid_ns), parameter!(pid_namespace_inum)));
        // On failure the helper fills it with zeros.
        generated::bpf_get_current_comm((&raw mut (*to).comm).cast(), COMM_BYTES as u32);
    }
}
