//! Cgroup ids and their paths: an id of cgroup v2 is the inode number of its directory (`kernfs_node` id, 64-bit kernels).

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{container_state, read_text};
use crate::enrich::workload::names_container;
use crate::event::CgroupSeen;
use crate::timestamp::Timestamp;

/// Directories visited in one walk. A large Kubernetes node has a few thousand; a tree that someone fills with
/// more is left unexplored beyond.
const DIRECTORIES_MAX: usize = 65_536;

/// Bytes read of one `cgroup.procs`: a pid a line, so half a million processes.
const PROCS_BYTES_MAX: u64 = 4 << 20;

/// Bytes read of `mountinfo` and of `/proc/PID/cgroup`.
const TABLE_BYTES_MAX: u64 = 1 << 20;

/// The hierarchies of this host.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// Where cgroup v2 is mounted.
    mount: Option<PathBuf>,
    /// Id of the root cgroup.
    root: u64,
    /// There are v1 hierarchies too: cgroup v2 may hold everything in its root.
    hybrid: bool,
    last_walk: Option<Timestamp>,
}

/// All of cgroupfs at one moment.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) cgroups: Vec<CgroupSeen>,
    /// The cgroup of each process.
    pub(super) members: BTreeMap<u32, u64>,
}

impl Cgroups {
    pub(super) fn find() -> Self {
        let mounts = read_text(Path::new("/proc/self/mountinfo"), TABLE_BYTES_MAX).unwrap_or_default();
        let (mount, hybrid) = hierarchies(&mounts);
        let root = mount.as_deref().and_then(inode).unwrap_or(0);
        Self { mount, root, hybrid, last_walk: None }
    }

    pub(super) const fn last_walk(&self) -> Option<Timestamp> {
        self.last_walk
    }

    /// Whether an id says nothing of the workload: on a hybrid host, the root's.
    pub(super) const fn tells_nothing(&self, id: u64) -> bool {
        self.hybrid && (id == 0 || id == self.root)
    }

    /// Every cgroup and its processes.
    pub(super) fn walk(&mut self, at: Timestamp) -> Tree {
        self.last_walk = Some(at);
        let mut tree = Tree::default();
        let Some(mount) = self.mount.clone() else { return tree };
        let mut pending = vec![mount.clone()];
        while let Some(directory) = pending.pop() {
            let Some(id) = inode(&directory) else { continue };
            let procs = read_text(&directory.join("cgroup.procs"), PROCS_BYTES_MAX).unwrap_or_default();
            tree.members.extend(procs.lines().filter_map(|line| Some((line.parse().ok()?, id))));
            tree.cgroups.push(seen(id, &mount, &directory));
            if tree.cgroups.len() + pending.len() < DIRECTORIES_MAX {
                pending.extend(subdirectories(&directory));
            }
        }
        tree
    }

    /// The cgroup `id`, by way of a process that is or was in it.
    pub(super) fn of_process(&self, pid: u32, id: u64) -> Option<CgroupSeen> {
        let mount = self.mount.as_deref()?;
        let table = read_text(Path::new(&format!("/proc/{pid}/cgroup")), TABLE_BYTES_MAX)?;
        let path = path_in(&table, "")?;
        // From within a cgroup namespace the path begins with `/..` for each level above: then only a walk can tell.
        let directory = mount.join(path.trim_start_matches('/'));
        let same = !path.starts_with("/..") && inode(&directory) == Some(id);
        same.then(|| seen(id, mount, &directory))
    }

    /// The path of a process in v1: systemd's own hierarchy, else one of a container runtime that systemd knows nothing of.
    pub(super) fn legacy_path(&self, pid: u32) -> Option<String> {
        let table = read_text(Path::new(&format!("/proc/{pid}/cgroup")), TABLE_BYTES_MAX)?;
        legacy_path_in(&table)
    }
}

fn legacy_path_in(table: &str) -> Option<String> {
    if let Some(path) = path_in(table, "name=systemd").filter(|path| *path != "/") {
        return Some(path.to_owned());
    }
    ["memory", "pids"]
        .iter()
        .filter_map(|controller| path_in(table, controller))
        .find(|path| names_container(path))
        .map(str::to_owned)
}

/// The path in the hierarchy of `controller` (empty for v2): `4:memory:/docker/…`, `0::/system.slice/…` (cgroups(7)).
fn path_in<'t>(table: &'t str, controller: &str) -> Option<&'t str> {
    table.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        controllers.split(',').any(|name| name == controller).then_some(path)
    })
}

/// Where cgroup v2 is mounted from its root, and whether there is v1 beside it (proc_pid_mountinfo(5)).
fn hierarchies(mountinfo: &str) -> (Option<PathBuf>, bool) {
    let mut mount = None;
    let mut hybrid = false;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut fields = left.split(' ').skip(3);
        let (root, point) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        match right.split(' ').next() {
            Some("cgroup2") if root == "/" && mount.is_none() => mount = Some(PathBuf::from(point)),
            Some("cgroup") => hybrid = true,
            _ => {}
        }
    }
    (mount, hybrid)
}

fn seen(id: u64, mount: &Path, directory: &Path) -> CgroupSeen {
    let below = directory.strip_prefix(mount).unwrap_or(directory);
    let path = format!("/{}", below.to_string_lossy());
    let mut seen = CgroupSeen { id, path, container_name: None, image: None, pod: None };
    container_state::name(&mut seen);
    seen
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_in_the_mount_table() {
        let check = |mountinfo: &str, mount: Option<&str>, hybrid: bool| {
            assert_eq!(hierarchies(mountinfo), (mount.map(PathBuf::from), hybrid), "{mountinfo}");
        };
        let unified = "31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        check(unified, Some("/sys/fs/cgroup"), false);
        let hybrid = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        check(hybrid, Some("/sys/fs/cgroup/unified"), true);
        // A container's view of its own cgroup only is no root of the hierarchy.
        check("31 23 0:27 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n", None, false);
        check("garbage\n", None, false);
    }

    #[test]
    fn the_right_v1_hierarchy_counts() {
        let id = "a".repeat(64);
        let check = |table: &str, path: Option<&str>| assert_eq!(legacy_path_in(table).as_deref(), path, "{table}");
        check("9:name=systemd:/system.slice/web.service\n4:memory:/x\n0::/\n", Some("/system.slice/web.service"));
        check(
            "9:name=systemd:/\n4:memory:/docker/ID\n0::/\n".replace("ID", &id).as_str(),
            Some(&format!("/docker/{id}")),
        );
        check("9:name=systemd:/\n4:cpu,memory:/batch\n0::/\n", None);
        check("0::/system.slice/web.service\n", None);
    }
}
