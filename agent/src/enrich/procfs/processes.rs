//! Processes as /proc shows them.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cgroups::Cgroups;
use super::{read_bounded, read_text};
use crate::event::{Actor, FileId, ProcessKey, ProcessSeen};
use crate::redact;
use crate::timestamp::Timestamp;

/// Bytes read of `cmdline`: as much as an exec record carries.
const CMDLINE_BYTES_MAX: u64 = 4096;

/// Bytes read of `stat` and `status`: both are shorter.
const STAT_BYTES_MAX: u64 = 16 * 1024;

/// Processes read in one snapshot: the kernel's own bound on pids (`PID_MAX_LIMIT`) is 4 million, a host's is seldom 100,000.
const PROCESSES_MAX: usize = 262_144;

/// Kernel threads descend from pid 2 (`kthreadd`); they have no program and serve nobody.
const KTHREADD: u32 = 2;

/// All processes at one moment, sorted by start: parents come before children.
#[derive(Debug)]
pub(super) struct Snapshot {
    processes: Vec<ProcessSeen>,
}

impl Snapshot {
    /// `members` tells the cgroup of each process; `at` is now.
    pub(super) fn read(members: &BTreeMap<u32, u64>, cgroups: &Cgroups, at: Timestamp) -> Self {
        let booted = booted(at);
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).take(PROCESSES_MAX);
        let stats: HashMap<u32, Stat> = pids.filter_map(|pid| Some((pid, Stat::read(pid)?))).collect();
        let mut processes: Vec<ProcessSeen> = stats
            .iter()
            .filter(|(pid, stat)| **pid != KTHREADD && stat.parent != KTHREADD)
            .map(|(pid, stat)| {
                let parent = stats.get(&stat.parent).map_or_else(ProcessKey::default, |parent| parent.key(stat.parent));
                let cgroup = members.get(pid).copied().unwrap_or(0);
                describe(stat.key(*pid), parent, cgroup, cgroups, booted)
            })
            .collect();
        processes.sort_unstable_by_key(|seen| (seen.actor.process.start_ticks, seen.actor.process.pid));
        Self { processes }
    }

    pub(super) fn actors(&self) -> impl Iterator<Item = &Actor> {
        self.processes.iter().map(|seen| &seen.actor)
    }

    /// Each network namespace with a process in it; the host's own (pid 1's, else this process') first.
    pub(super) fn namespaces(&self) -> Vec<(u32, u32)> {
        let own = std::process::id();
        let home = |pid: u32| self.actors().find(|actor| actor.process.pid == pid && actor.net_ns != 0);
        let mut namespaces: Vec<(u32, u32)> =
            [home(1), home(own)].into_iter().flatten().map(|actor| (actor.net_ns, actor.process.pid)).collect();
        for actor in self.actors().filter(|actor| actor.net_ns != 0) {
            if !namespaces.iter().any(|(net_ns, _)| *net_ns == actor.net_ns) {
                namespaces.push((actor.net_ns, actor.process.pid));
            }
        }
        namespaces.dedup_by_key(|(net_ns, _)| *net_ns);
        namespaces
    }

    pub(super) fn into_processes(self) -> impl Iterator<Item = ProcessSeen> {
        self.processes.into_iter()
    }
}

/// One process, if it is still the one meant. Its cgroup is taken from `near` when it is that process' namespace-mate
/// by pid, and is otherwise told by its own records.
pub(super) fn read(key: ProcessKey, near: &Actor, cgroups: &Cgroups, at: Timestamp) -> Option<ProcessSeen> {
    let stat = Stat::read(key.pid)?;
    if key.start_ticks != 0 && stat.start_ticks != key.start_ticks {
        return None;
    }
    let parent = Stat::read(stat.parent).map_or_else(ProcessKey::default, |parent| parent.key(stat.parent));
    let cgroup = if key == near.process { near.cgroup } else { 0 };
    Some(describe(stat.key(key.pid), parent, cgroup, cgroups, booted(at)))
}

fn describe(
    process: ProcessKey,
    parent: ProcessKey,
    cgroup: u64,
    cgroups: &Cgroups,
    booted: Option<Timestamp>,
) -> ProcessSeen {
    let directory = PathBuf::from(format!("/proc/{}", process.pid));
    let (uid, euid) = user_ids(&read_text(&directory.join("status"), STAT_BYTES_MAX).unwrap_or_default());
    let namespace = |name: &str| namespace_of(&directory, name).unwrap_or(0);
    let actor = Actor {
        process,
        parent,
        uid,
        euid,
        cgroup,
        net_ns: namespace("net"),
        mnt_ns: namespace("mnt"),
        pid_ns: namespace("pid"),
        exe: file_of(&directory).unwrap_or_default(),
        comm: read_text(&directory.join("comm"), STAT_BYTES_MAX).unwrap_or_default().trim_end().to_owned(),
    };
    let legacy_cgroup = cgroups.tells_nothing(cgroup).then(|| cgroups.legacy_path(process.pid)).flatten();
    let since_boot = Duration::from_nanos(process.start_ticks.saturating_mul(ProcessKey::TICK_NS));
    ProcessSeen {
        actor,
        exe_path: exe_path(&directory).unwrap_or_default(),
        argv: arguments(&directory),
        legacy_cgroup,
        started: booted.map(|booted| booted.plus(since_boot)),
    }
}

/// When the machine started, given that it is `at` now (`/proc/uptime`: seconds with two decimals).
fn booted(at: Timestamp) -> Option<Timestamp> {
    let text = read_text(Path::new("/proc/uptime"), STAT_BYTES_MAX)?;
    let seconds: f64 = text.split(' ').next()?.parse().ok()?;
    Some(at.minus(Duration::try_from_secs_f64(seconds).ok()?))
}

/// What `stat` says of identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    start_ticks: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&read_text(Path::new(&format!("/proc/{pid}/stat")), STAT_BYTES_MAX)?)
    }

    /// Fields 4 and 22 (proc_pid_stat(5)). The name in field 2 may hold anything, brackets and spaces too: the last `)` ends it.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ').skip(1);
        let parent = fields.next()?.parse().ok()?;
        Some(Self { parent, start_ticks: fields.nth(17)?.trim_end().parse().ok()? })
    }

    const fn key(self, pid: u32) -> ProcessKey {
        ProcessKey { pid, start_ticks: self.start_ticks }
    }
}

/// Real and effective user id.
fn user_ids(status: &str) -> (u32, u32) {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let mut ids = line.split_ascii_whitespace().map(|id| id.parse().unwrap_or(0));
    (ids.next().unwrap_or(0), ids.next().unwrap_or(0))
}

/// `net:[4026531840]`
fn namespace_of(directory: &Path, name: &str) -> Option<u32> {
    let link = std::fs::read_link(directory.join("ns").join(name)).ok()?;
    let text = link.to_str()?;
    text.strip_prefix(name)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

/// The program's path; the kernel marks one that is gone, and shows a memfd as a file in the root.
fn exe_path(directory: &Path) -> Option<String> {
    let link = std::fs::read_link(directory.join("exe")).ok()?;
    let path = link.to_string_lossy();
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
    let memfd = path.strip_prefix('/').filter(|name| name.starts_with("memfd:"));
    Some(memfd.unwrap_or(path).to_owned())
}

fn file_of(directory: &Path) -> Option<FileId> {
    let metadata = std::fs::metadata(directory.join("exe")).ok()?;
    Some(FileId { device: kernel_device(metadata.dev()), inode: metadata.ino() })
}

/// The kernel's own form of a device number (`MKDEV`, 20 bits of minor), which differs from the one stat(2) gives.
fn kernel_device(device: u64) -> u32 {
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    u32::try_from(((major & 0xfff) << 20) | (minor & 0xf_ffff)).unwrap_or(0)
}

fn arguments(directory: &Path) -> Vec<String> {
    let bytes = read_bounded(&directory.join("cmdline"), CMDLINE_BYTES_MAX).unwrap_or_default();
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    let arguments = bytes.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned());
    let mut arguments: Vec<String> = arguments.collect();
    redact::arguments(&mut arguments);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let check = |stat: &str, expected: Option<(u32, u64)>| {
            assert_eq!(Stat::parse(stat).map(|stat| (stat.parent, stat.start_ticks)), expected, "{stat}");
        };
        let tail = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 100 1\n";
        check(&format!("42 (sh) {tail}"), Some((7, 4242)));
        check(&format!("42 (a) R 1 (b c) {tail}"), Some((7, 4242)));
        check("42 (sh) S 7", None);
        check("42 (sh", None);
        check("", None);
    }

    #[test]
    fn device_numbers_are_the_kernels() {
        // 259:3 as stat(2) encodes it, and as the kernel keeps it.
        assert_eq!(kernel_device(nix::sys::stat::makedev(259, 3)), (259 << 20) | 3);
        assert_eq!(kernel_device(nix::sys::stat::makedev(8, 300)), (8 << 20) | 300);
    }

    #[test]
    fn user_ids_are_read() {
        assert_eq!(user_ids("Name:\tx\nUid:\t33\t0\t33\t33\n"), (33, 0));
        assert_eq!(user_ids("garbage"), (0, 0));
    }
}
