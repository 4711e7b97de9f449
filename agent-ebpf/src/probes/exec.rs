//! Sense: a program started. `sched_process_exec` fires once per exec, after the point of no return: what is read here
//! can no longer be swapped by the process.

use aya_ebpf::helpers::generated;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use breachline_abi::control::{TAINT_FILELESS, TAINT_SOCKET_SHELL};
use breachline_abi::exec::{
    ExecRecord, FLAG_ARGV_TRUNCATED, FLAG_CWD_TRUNCATED, FLAG_EXE_PATH_KNOWN, FLAG_EXE_PATH_TRUNCATED,
    FLAG_INTERPRETED, FLAG_LINK_COUNT_KNOWN, FLAG_MEMFD, STDIO_INET_SOCKET,
};
use breachline_abi::filter::FILTER_PROGRAMS;
use breachline_abi::limits::{ARGV_BYTES_MAX, NAME_BYTES_MAX, PROGRAM_NAME_BYTES, TAIL_BYTES_MAX};
use breachline_abi::parameters::MISSING;
use breachline_abi::record::KIND_EXEC;

use crate::emit::{self, Lane};
use crate::known::Who;
use crate::maps::{EXEC_SCRATCH, ExecScratch, PRIORITY_PROGRAMS};
use crate::memory::{Address, Object, Typed, parameter};
use crate::{filter, lineage, path, serving, stdio, taint, task};

/// How `memfd_create` names its files, as the start of a word.
const MEMFD_PREFIX: u64 = u64::from_ne_bytes(*b"memfd:\0\0");
const MEMFD_MASK: u64 = u64::from_ne_bytes([u8::MAX, u8::MAX, u8::MAX, u8::MAX, u8::MAX, u8::MAX, 0, 0]);

#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(context: BtfTracePointContext) -> i32 {
    // TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
    if let (Some(task), Some(binprm)) = (Typed::new(context.arg(0)), Typed::new(context.arg(2))) {
        sense(task, binprm);
    }
    0
}

#[inline(always)]
fn sense(task: Typed, binprm: Typed) {
    let Some(scratch) = EXEC_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own scratch value; plain numbers, valid whatever they hold.
    let scratch = unsafe { &mut *scratch };
    let record = &mut scratch.record;
    let (exe_inode, exe_device) = task::exe_id(task);
    let who = Who { cgroup: task::current_cgroup(), exe_inode, exe_device, protocol: 0 };
    // Where it will be read: the stack is shared with the functions that this program calls.
    // SAFETY: a field of the scratch.
    unsafe { task::write_actor(task, &who, &raw mut record.actor) };
    record.flags = 0;
    record.padding = [0; 2];
    record.stdio = stdio::classify(task);
    record.capabilities = capabilities(task);
    record.ancestor_count =
        lineage::refresh_ancestors(task, &record.actor, &mut record.ancestors, u32::from(record.ancestor_count)) as u8;
    write_link_count(record, task);
    let tail_len = write_tail(scratch, task, binprm);
    let program = program_name(scratch, task);
    let lane = lane(&mut scratch.record, program);
    if lane != Lane::Bulk {
        // Told before the program itself: whoever judges that knows already what its parent was being asked.
        serving::report_serving();
    }
    hand_over(scratch, lane, tail_len);
}

#[inline(always)]
fn capabilities(task: Typed) -> u64 {
    // An array of two u32 before 6.3, one u64 since: the same bytes, which only the helper reads without minding the
    // type.
    let Some(cred) = task.object(parameter!(task_cred)) else { return 0 };
    cred.address().number(parameter!(cred_cap_effective))
}

#[inline(always)]
fn write_link_count(record: &mut ExecRecord, task: Typed) {
    record.link_count = 0;
    if let Some(inode) = task::exe_inode(task)
        && parameter!(inode_nlink) != MISSING
    {
        record.link_count = inode.number(parameter!(inode_nlink));
        record.flags |= FLAG_LINK_COUNT_KNOWN;
    }
}

/// The start of the program's base name as two words, NULs behind it and one in the last place; zeros when it is not known.
/// It begins the path that was written, unless the file is a mount point: then it has a name of its own below.
#[inline(always)]
fn program_name(scratch: &ExecScratch, task: Typed) -> [u64; 2] {
    if scratch.record.exe_path_len == 0 || exe_is_mounted(task) {
        return own_name(task).unwrap_or_default();
    }
    // SAFETY: the tail is longer, and aligned to 8 bytes like the record before it.
    let [low, high] = unsafe { (&raw const scratch.tail).cast::<[u64; 2]>().read() };
    let (low, ended) = up_to_nul(low);
    let (high, _) = up_to_nul(high);
    [low, if ended { 0 } else { high & LAST_BYTE_NUL }]
}

/// All but the byte that lies last in memory.
const LAST_BYTE_NUL: u64 = u64::MAX >> 8;

/// A word of text with zeros from its first NUL on, and whether there is one. The bytes of a NUL are found by subtraction's
/// borrow (Hacker's Delight 6-1); the lowest that is found is always a true one.
#[inline(always)]
fn up_to_nul(word: u64) -> (u64, bool) {
    let nul = word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080;
    let first = nul & nul.wrapping_neg();
    (word & first.wrapping_sub(1), nul != 0)
}

#[inline(always)]
fn exe_file(task: Typed) -> Option<Typed> {
    task.object(parameter!(task_mm))?.object(parameter!(mm_exe_file))
}

#[inline(always)]
fn exe_is_mounted(task: Typed) -> bool {
    let ends = || {
        let file = exe_file(task)?;
        let root = file.object(parameter!(file_mnt))?.object(parameter!(vfsmount_root))?;
        Some(file.object(parameter!(file_dentry))?.address() == root.address())
    };
    ends().unwrap_or(true)
}

#[inline(always)]
fn own_name(task: Typed) -> Option<[u64; 2]> {
    let dentry = exe_file(task)?.object(parameter!(file_dentry))?;
    let text = Address::new(dentry.number(parameter!(dentry_name)))?;
    let mut name = [0; 2];
    // SAFETY: an array of that size.
    unsafe { text.string((&raw mut name).cast(), PROGRAM_NAME_BYTES as u32) };
    Some(name)
}

/// Writes the variable part and its lengths; returns its size.
#[inline(always)]
fn write_tail(scratch: &mut ExecScratch, task: Typed, binprm: Typed) -> u32 {
    let mut end = 0;
    scratch.record.exe_path_len = 0;
    scratch.record.cwd_len = 0;
    if let Some(walk) = path::write(path::PROGRAM, end) {
        scratch.record.exe_path_len = (walk.end - end) as u16;
        scratch.record.flags |= FLAG_EXE_PATH_KNOWN | if walk.truncated { FLAG_EXE_PATH_TRUNCATED } else { 0 };
        end = walk.end;
    }
    if let Some(walk) = path::write(path::DIRECTORY, end) {
        scratch.record.cwd_len = (walk.end - end) as u16;
        scratch.record.flags |= if walk.truncated { FLAG_CWD_TRUNCATED } else { 0 };
        end = walk.end;
    }
    write_arguments(&mut scratch.record, scratch.tail.as_mut_ptr(), end, task, binprm)
}

#[inline(always)]
fn write_arguments(record: &mut ExecRecord, tail: *mut u8, start: u32, task: Typed, binprm: Typed) -> u32 {
    let mut end = start & (TAIL_BYTES_MAX as u32 - 1);
    let filename = Address::new(binprm.number(parameter!(binprm_filename)));
    let interpreter = Address::new(binprm.number(parameter!(binprm_interp)));
    record.filename_len = write_name(filename, tail, end) as u16;
    end = (end + u32::from(record.filename_len)) & (TAIL_BYTES_MAX as u32 - 1);
    record.interpreter_len = 0;
    if interpreter != filename {
        record.flags |= FLAG_INTERPRETED;
        record.interpreter_len = write_name(interpreter, tail, end) as u16;
        end = (end + u32::from(record.interpreter_len)) & (TAIL_BYTES_MAX as u32 - 1);
    }
    record.argv_len = 0;
    let Some(mm) = task.object(parameter!(task_mm)) else { return end };
    let (from, to): (u64, u64) = (mm.number(parameter!(mm_arg_start)), mm.number(parameter!(mm_arg_end)));
    let whole = to.wrapping_sub(from);
    let length = if whole > ARGV_BYTES_MAX as u64 { ARGV_BYTES_MAX as u32 } else { whole as u32 };
    // SAFETY: the masked position plus ARGV_BYTES_MAX lies inside the scratch tail; the helper checks the user's
    // address.
    let failed = unsafe { generated::bpf_probe_read_user(tail.add(end as usize).cast(), length, from as *const _) };
    if failed == 0 {
        record.argv_len = length as u16;
        end += length;
    }
    if failed != 0 || whole > ARGV_BYTES_MAX as u64 {
        record.flags |= FLAG_ARGV_TRUNCATED;
    }
    end
}

#[inline(always)]
fn write_name(name: Option<Address>, tail: *mut u8, position: u32) -> u32 {
    let Some(name) = name else { return 0 };
    // SAFETY: the caller masked `position`; NAME_BYTES_MAX more lie inside the scratch tail.
    unsafe { name.string(tail.add(position as usize), NAME_BYTES_MAX as u32) }
}

/// Which ring it takes, and what it makes of its line.
#[inline(always)]
fn lane(record: &mut ExecRecord, program: [u64; 2]) -> Lane {
    let nameless = record.flags & FLAG_LINK_COUNT_KNOWN != 0 && record.link_count == 0;
    let [begins, _] = program;
    if nameless && begins & MEMFD_MASK == MEMFD_PREFIX {
        record.flags |= FLAG_MEMFD;
    }
    // SAFETY: the map is filled before the programs are attached and not changed after.
    let listed = filter::may_hold(FILTER_PROGRAMS, program) && unsafe { PRIORITY_PROGRAMS.get(program) }.is_some();
    let on_socket = record.stdio.contains(&STDIO_INET_SOCKET);
    let bits = if nameless { TAINT_FILELESS } else { 0 } | if listed && on_socket { TAINT_SOCKET_SHELL } else { 0 };
    if bits != 0 {
        taint::mark(record.actor.process.pid, bits);
        return Lane::Urgent;
    }
    if listed { Lane::Priority } else { Lane::Bulk }
}

#[inline(always)]
fn hand_over(scratch: &mut ExecScratch, lane: Lane, tail_len: u32) {
    scratch.record.header = emit::header(KIND_EXEC, size_of::<ExecRecord>() as u32 + tail_len);
    // SAFETY: that many bytes lie behind the record in the scratch.
    unsafe {
        emit::built::<ExecRecord, { 2 * TAIL_BYTES_MAX - 1 }>(lane, KIND_EXEC, (&raw const *scratch).cast(), tail_len);
    }
}
