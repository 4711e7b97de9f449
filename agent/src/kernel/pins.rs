//! The senses outlive the agent: links, rings and what is noted of processes, kept in a BPF file system.
//!
//! In: a directory there. Out: what an earlier agent left in it, or a place for what this one loads. One directory holds
//! one set of senses, named by everything that must be equal for another agent to take it over; a lock on it says that an
//! agent lives. Never: reads a record.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{BtfTracePoint, ProgramFd};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Maps that the next agent reads: the rings, what was counted and told, what is noted of processes.
const MAPS: [&str; 8] = ["PRIORITY", "BULK", "COUNTS", "TOLD", "TAINTED", "ORPHANS", "LINEAGE", "LINEAGE_TOLD"];
/// A set that is still being pinned has this before its name: an agent that dies half-way leaves nothing to be trusted.
const UNFINISHED: &str = "new_";
/// What the names of pinned links begin with; the program's follows. (A BPF file system takes no dots in names.)
const LINK: &str = "link_";
/// The same of pinned programs. To ask for a program by its id takes `CAP_SYS_ADMIN`, which the agent has not.
const PROGRAM: &str = "prog_";
/// Where the system's BPF file system belongs; mounted here where it is not.
const SYSTEM: &str = "/sys/fs/bpf";

/// Why the senses end with the agent.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There is no BPF file system.
    #[error("{path} is not in a BPF file system ({reason}); mount one: `mount -t bpf bpf {SYSTEM}`", path = path.display())]
    NoFilesystem {
        /// As configured.
        path: PathBuf,
        /// What was tried.
        reason: String,
    },
    /// Another agent lives.
    #[error("{path} belongs to another agent that is running", path = path.display())]
    Taken {
        /// As configured.
        path: PathBuf,
    },
    /// A file or object could not be kept or read.
    #[error("{path}: {reason}", path = path.display())]
    Object {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        reason: String,
    },
}

fn object(path: &Path, reason: impl ToString) -> PinError {
    PinError::Object { path: path.to_owned(), reason: reason.to_string() }
}

/// The directory, locked for as long as this lives.
#[derive(Debug)]
pub(super) struct Pins {
    root: PathBuf,
    own: String,
    _lock: Flock<File>,
}

impl Pins {
    /// Opens `root`, makes and mounts it where needed, and locks it. `identity` names this agent's set.
    ///
    /// # Errors
    ///
    /// [`PinError`]: the senses work, but end with the agent.
    pub(super) fn open(root: &Path, identity: u64) -> Result<Self, PinError> {
        let parent = root.parent().unwrap_or(root);
        ensure_filesystem(parent)?;
        match fs::create_dir(root) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(object(root, error)),
            _ => {}
        }
        let pins = Self { root: root.to_owned(), own: format!("{identity:016x}"), _lock: lock(root)? };
        for unfinished in pins.sets()?.into_iter().filter(|set| name_of(set).starts_with(UNFINISHED)) {
            remove(&unfinished).map_err(|error| object(&unfinished, error))?;
        }
        Ok(pins)
    }

    /// What an earlier agent like this one left.
    pub(super) fn kept(&self) -> Option<Kept> {
        let directory = self.root.join(&self.own);
        directory.is_dir().then_some(Kept { directory })
    }

    /// What agents unlike this one left.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub(super) fn others(&self) -> Result<Vec<Kept>, PinError> {
        let others = self.sets()?.into_iter().filter(|set| name_of(set) != self.own);
        Ok(others.map(|directory| Kept { directory }).collect())
    }

    fn sets(&self) -> Result<Vec<PathBuf>, PinError> {
        let mut sets = list(&self.root).map_err(|error| object(&self.root, error))?;
        sets.sort();
        Ok(sets)
    }

    fn unfinished(&self) -> PathBuf {
        self.root.join(format!("{UNFINISHED}{}", self.own))
    }

    /// Keeps the maps of a loaded object. Call before they are taken out of it.
    ///
    /// # Errors
    ///
    /// [`PinError::Object`]; nothing is kept then.
    pub(super) fn keep_maps(&self, ebpf: &Ebpf) -> Result<(), PinError> {
        let directory = self.unfinished();
        fs::create_dir(&directory).map_err(|error| object(&directory, error))?;
        for name in MAPS {
            let path = directory.join(name);
            let map = ebpf.map(name).ok_or_else(|| object(&path, "not in the object"))?;
            map.pin(&path).map_err(|error| object(&path, error))?;
        }
        Ok(())
    }

    /// Keeps the links of every attached program; from now on the set is whole.
    ///
    /// # Errors
    ///
    /// [`PinError::Object`]; the set stays unfinished and goes with [`Self::forget`].
    pub(super) fn keep_links(&self, ebpf: &mut Ebpf) -> Result<(), PinError> {
        let directory = self.unfinished();
        for (name, program) in ebpf.programs_mut() {
            let path = directory.join(format!("{LINK}{name}"));
            // A program that was refused is not loaded.
            let Ok(info) = program.info() else { continue };
            if let Some(descriptor) = link_of(info.id()).map_err(|error| object(&path, error))? {
                program.pin(directory.join(format!("{PROGRAM}{name}"))).map_err(|error| object(&path, error))?;
                pin_link(descriptor, &path)?;
            }
        }
        let own = self.root.join(&self.own);
        fs::rename(&directory, &own).map_err(|error| object(&own, error))
    }

    /// Removes what was not finished.
    pub(super) fn forget(&self) {
        if let Err(error) = remove(&self.unfinished()) {
            tracing::warn!(%error, "an unfinished set of pins is left");
        }
    }

    /// Removes everything here and the directory itself. The senses end once nobody holds them.
    ///
    /// # Errors
    ///
    /// The first file that cannot be removed.
    pub(super) fn remove_all(&self) -> Result<(), PinError> {
        for set in self.sets()? {
            remove(&set).map_err(|error| object(&set, error))?;
        }
        fs::remove_dir(&self.root).map_err(|error| object(&self.root, error))
    }
}

/// A set of senses that an earlier agent left.
#[derive(Debug)]
pub(super) struct Kept {
    directory: PathBuf,
}

impl Kept {
    /// One of its maps.
    ///
    /// # Errors
    ///
    /// It is not there or not a map.
    pub(super) fn map(&self, name: &str) -> Result<Map, PinError> {
        let path = self.directory.join(name);
        let data = MapData::from_pin(&path).map_err(|error| object(&path, error))?;
        Map::from_map_data(data).map_err(|error| object(&path, error))
    }

    /// Names of its attached programs.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub(super) fn names(&self) -> Result<Vec<String>, PinError> {
        Ok(self.links()?.into_iter().map(|(name, _)| name).collect())
    }

    /// Its attached programs, by name, to ask what they cost. Those that this user may not open are left out.
    pub(super) fn programs(&self) -> Vec<(String, ProgramFd)> {
        let open = |(name, link): (String, PathBuf)| {
            // Whatever the program's kind: it is asked for its descriptor and nothing else.
            let program = BtfTracePoint::from_pin(link.with_file_name(format!("{PROGRAM}{name}"))).ok()?;
            Some((name, program.fd().ok()?.try_clone().ok()?))
        };
        self.links().unwrap_or_default().into_iter().filter_map(open).collect()
    }

    /// The ids of its attached programs, by name.
    ///
    /// # Errors
    ///
    /// One of its links cannot be opened.
    pub(super) fn program_ids(&self) -> Result<Vec<(String, u32)>, PinError> {
        let id = |(name, path): (String, PathBuf)| {
            let link = FdLink::from(PinnedLink::from_pin(&path).map_err(|error| object(&path, error))?);
            Ok((name, link.info().map_err(|error| object(&path, error))?.program_id()))
        };
        self.links()?.into_iter().map(id).collect()
    }

    fn links(&self) -> Result<Vec<(String, PathBuf)>, PinError> {
        let files = list(&self.directory).map_err(|error| object(&self.directory, error))?;
        let mut links: Vec<_> =
            files.into_iter().filter_map(|path| Some((name_of(&path).strip_prefix(LINK)?.to_owned(), path))).collect();
        links.sort();
        Ok(links)
    }

    /// Detaches its programs: whoever holds nothing of it sees it end.
    pub(super) fn remove(&self) {
        if let Err(error) = remove(&self.directory) {
            tracing::warn!(%error, directory = %self.directory.display(), "pins of an earlier agent are left");
        }
    }
}

fn lock(root: &Path) -> Result<Flock<File>, PinError> {
    let directory = File::open(root).map_err(|error| object(root, error))?;
    Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => PinError::Taken { path: root.to_owned() },
        other => object(root, other),
    })
}

/// Makes sure that `parent` lies in a BPF file system. Only the system's own place is mounted.
fn ensure_filesystem(parent: &Path) -> Result<(), PinError> {
    let is_bpf = || statfs(parent).map(|filesystem| filesystem.filesystem_type() == BPF_FS_MAGIC);
    let no = |reason: String| PinError::NoFilesystem { path: parent.to_owned(), reason };
    match is_bpf() {
        Ok(true) => return Ok(()),
        Ok(false) if parent == Path::new(SYSTEM) => {}
        Ok(false) => return Err(no("it is another file system".to_owned())),
        Err(error) => return Err(no(error.to_string())),
    }
    mount(Some("bpf"), parent, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .map_err(|error| no(format!("mounting it: {error}")))
}

/// The descriptor of this process that is a link of program `id` (proc(5): fdinfo of a link has `prog_id`, and
/// `link_id`, which a program's own descriptor lacks).
fn link_of(id: u32) -> io::Result<Option<i32>> {
    let wanted = |info: &str| {
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
        field("link_id:").is_some() && field("prog_id:") == Some(id)
    };
    for entry in list(Path::new("/proc/self/fdinfo"))? {
        // A descriptor may be closed by another thread meanwhile.
        if fs::read_to_string(&entry).is_ok_and(|info| wanted(&info)) {
            return Ok(name_of(&entry).parse().ok());
        }
    }
    Ok(None)
}

/// Pins a link of this process by its descriptor. aya 0.14 lets go of the links of most programs but not of those on
/// socket addresses: the descriptor is duplicated and pinned through the one type that takes any (pinning is the same
/// system call for every kind of object).
fn pin_link(descriptor: i32, path: &Path) -> Result<(), PinError> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|error| object(path, error))?;
    let link = pidfd_getfd(own.as_fd(), descriptor, PidfdGetfdFlags::empty()).map_err(|error| object(path, error))?;
    let link = MapData::from_fd(link).map_err(|error| object(path, error))?;
    link.pin(path).map_err(|error| object(path, error))
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Links first: what they hold ends before what it writes to.
fn remove(set: &Path) -> io::Result<()> {
    let mut files = match list(set) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        files => files?,
    };
    files.sort_by_key(|file| !name_of(file).starts_with(LINK));
    files.iter().try_for_each(fs::remove_file)?;
    fs::remove_dir(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_bpf_file_system_is_said_with_the_way_to_have_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = Pins::open(&directory.path().join("senses"), 1).expect_err("refused").to_string();
        assert!(error.contains("mount -t bpf") && error.contains(&directory.path().display().to_string()), "{error}");
    }

    #[test]
    fn links_go_before_maps() {
        let directory = tempfile::tempdir().expect("a directory");
        let set = directory.path().join("set");
        fs::create_dir(&set).expect("made");
        for name in ["BULK", "link_connect4", "COUNTS"] {
            fs::write(set.join(name), "").expect("written");
        }
        remove(&set).expect("removed");
        assert!(!set.exists());
        remove(&set).expect("what is not there is removed");
    }
}
