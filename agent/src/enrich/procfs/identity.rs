//! Which known program a file is by its content: a shell that was copied to another name is still that shell.
//!
//! The linker's build id tells it where there is one; it survives appended bytes. Else the whole content does, which is
//! hashed only for files of a known program's size. Each file is looked at once, and again when its change time moved.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Duration;

use lru::LruCache;
use sha2::{Digest as _, Sha256};

use crate::enrich::names::{class_of, is_multi_call};
use crate::event::{Exec, FileId, ProgramSeen};
use crate::timestamp::Timestamp;

/// Contents kept. Every image of every container may bring its own shells; beyond this, new ones are known by name only.
const KNOWN_MAX: usize = 4096;

/// Files remembered as looked at; one that drops out costs another look.
const CHECKED_MAX: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

/// Largest file hashed: interpreters without a build id stay below; hashing takes about 3 ms a MiB and core.
const HASHED_BYTES_MAX: u64 = 16 << 20;

/// Program headers and bytes of notes looked at: real programs have a dozen headers and some hundred bytes.
const PROGRAM_HEADERS_MAX: usize = 64;
const NOTES_BYTES_MAX: usize = 64 * 1024;

/// How long a file in a system directory is taken for unchanged: only root can write there, and asking for its change time
/// costs several microseconds an exec.
const SYSTEM_FILE_TRUSTED_FOR: Duration = Duration::from_secs(60);

/// Directories that only root can write to, on the host.
const SYSTEM_DIRECTORIES: &[&str] = &["/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/"];

/// Directories whose shells and interpreters are known from the start.
const DIRECTORIES: &[&str] = &["/bin", "/usr/bin", "/usr/local/bin", "/sbin", "/usr/sbin"];

/// What makes two files the same program.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Identity {
    BuildId(Vec<u8>),
    Content([u8; 32]),
}

/// A file that was looked at.
#[derive(Debug, Clone, Copy)]
struct Checked {
    at: Timestamp,
    /// Its change time then.
    changed: (i64, i64),
}

/// The known programs' contents.
#[derive(Debug)]
pub(super) struct Identities {
    known: HashMap<Identity, Box<str>>,
    /// Sizes of the known programs that have no build id.
    sizes: HashSet<u64>,
    checked: LruCache<FileId, Checked>,
}

impl Identities {
    pub(super) fn new() -> Self {
        Self { known: HashMap::new(), sizes: HashSet::new(), checked: LruCache::new(CHECKED_MAX) }
    }

    /// Learns the shells and interpreters installed on this host.
    pub(super) fn learn_installed(&mut self) {
        self.learn_below(DIRECTORIES.iter().map(Path::new));
    }

    fn learn_below<'p>(&mut self, directories: impl Iterator<Item = &'p Path>) {
        let entries = directories.filter_map(|directory| std::fs::read_dir(directory).ok()).flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| is_known_name(&path.to_string_lossy())) {
            if let Ok(file) = File::open(&path) {
                self.learn(&file, &own_name(&path));
            }
        }
    }

    /// Looks at what an exec runs, unless that was done; the answer is a program of another name whose content it has.
    pub(super) fn check(&mut self, exec: &Exec, at: Timestamp) -> Option<ProgramSeen> {
        let before = self.checked.get(&exec.actor.exe).copied();
        let system = SYSTEM_DIRECTORIES.iter().any(|directory| exec.exe_path.starts_with(directory));
        if system && before.is_some_and(|before| at.distance(before.at) < SYSTEM_FILE_TRUSTED_FOR) {
            return None;
        }
        let file = open(exec)?;
        let metadata = file.metadata().ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        self.checked.put(exec.actor.exe, Checked { at, changed });
        if before.is_some_and(|before| before.changed == changed) {
            return None;
        }
        if is_known_name(&exec.exe_path) {
            self.learn(&file, &exec.exe_path);
            return None;
        }
        let identity = build_id(&file).map(Identity::BuildId).or_else(|| {
            let candidate = self.sizes.contains(&metadata.len());
            candidate.then(|| content(&file)).flatten().map(Identity::Content)
        })?;
        let copy_of = self.known.get(&identity)?.to_string();
        Some(ProgramSeen { file: exec.actor.exe, copy_of })
    }

    fn learn(&mut self, file: &File, path: &str) {
        if self.known.len() >= KNOWN_MAX {
            return;
        }
        if let Some(build_id) = build_id(file) {
            self.name(Identity::BuildId(build_id), path);
        } else if let (Ok(metadata), Some(content)) = (file.metadata(), content(file)) {
            self.sizes.insert(metadata.len());
            self.name(Identity::Content(content), path);
        }
    }

    /// The first name of a content stays, unless another says more: of busybox's hard links only `busybox` tells that
    /// the arguments decide what it is.
    fn name(&mut self, identity: Identity, path: &str) {
        let name = self.known.entry(identity).or_insert_with(|| path.into());
        if is_multi_call(path) && !is_multi_call(name) {
            *name = path.into();
        }
    }
}

/// What a file calls itself: where its links lead, if that is a known program's name. Where busybox is installed, `wget` and
/// `sh` are links to it, and its content must not be taken for wget's.
fn own_name(path: &Path) -> String {
    let target = std::fs::canonicalize(path).ok().map(|target| target.to_string_lossy().into_owned());
    target.filter(|target| is_known_name(target)).unwrap_or_else(|| path.to_string_lossy().into_owned())
}

fn is_known_name(path: &str) -> bool {
    class_of(path).is_some() || is_multi_call(path)
}

/// The running file: by its process, or, if that is gone already, by its path as its parent sees it.
fn open(exec: &Exec) -> Option<File> {
    let (process, parent) = (exec.actor.process.pid, exec.actor.parent.pid);
    let is_meant = |file: &File| file.metadata().is_ok_and(|metadata| metadata.ino() == exec.actor.exe.inode);
    let by_process = File::open(format!("/proc/{process}/exe")).ok().filter(is_meant);
    by_process.or_else(|| {
        let path = exec
            .exe_path
            .strip_prefix('/')
            .filter(|path| !Path::new(path).components().any(|part| part.as_os_str() == ".."))?;
        File::open(Path::new(&format!("/proc/{parent}/root")).join(path)).ok().filter(is_meant)
    })
}

fn content(file: &File) -> Option<[u8; 32]> {
    if file.metadata().ok()?.len() > HASHED_BYTES_MAX {
        return None;
    }
    let mut hash = Sha256::new();
    let mut block = vec![0; 64 * 1024];
    let mut reader = file.take(HASHED_BYTES_MAX);
    loop {
        match reader.read(&mut block).ok()? {
            0 => return Some(hash.finalize().into()),
            length => hash.update(block.get(..length)?),
        }
    }
}

/// The build id of a 64-bit little-endian ELF file: the note of type 3 and owner `GNU` (elf(5), `NT_GNU_BUILD_ID`).
fn build_id(file: &File) -> Option<Vec<u8>> {
    const HEADER_BYTES: usize = 64;
    const PROGRAM_HEADER_BYTES: usize = 56;
    const PT_NOTE: u32 = 4;
    let header = read_at(file, 0, HEADER_BYTES)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, count) = (u64_at(&header, 32)?, usize::from(u16_at(&header, 56)?).min(PROGRAM_HEADERS_MAX));
    let table = read_at(file, table, count * PROGRAM_HEADER_BYTES)?;
    table.chunks_exact(PROGRAM_HEADER_BYTES).filter(|entry| u32_at(entry, 0) == Some(PT_NOTE)).find_map(|entry| {
        let length = usize::try_from(u64_at(entry, 32)?).ok()?.min(NOTES_BYTES_MAX);
        build_id_note(&read_at(file, u64_at(entry, 8)?, length)?)
    })
}

/// Notes lie one after the other: lengths of name and description, type, then both, each padded to 4 bytes.
fn build_id_note(mut notes: &[u8]) -> Option<Vec<u8>> {
    const NT_GNU_BUILD_ID: u32 = 3;
    loop {
        let (name_length, length, kind) = (u32_at(notes, 0)?, u32_at(notes, 4)?, u32_at(notes, 8)?);
        let (name_length, length) = (usize::try_from(name_length).ok()?, usize::try_from(length).ok()?);
        let name = notes.get(12..12_usize.checked_add(name_length)?)?;
        let start = 12_usize.checked_add(name_length.checked_next_multiple_of(4)?)?;
        let description = notes.get(start..start.checked_add(length)?)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" && !description.is_empty() {
            return Some(description.to_vec());
        }
        notes = notes.get(start.checked_add(length.checked_next_multiple_of(4)?)?..)?;
    }
}

fn read_at(file: &File, offset: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|field| u16::from_le_bytes(*field))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|field| u32::from_le_bytes(*field))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|field| u64::from_le_bytes(*field))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::event::{Actor, ProcessKey};

    /// An exec by this process of a file it can see.
    fn exec(path: &Path) -> Exec {
        let own = ProcessKey { pid: std::process::id(), start_ticks: 0 };
        let inode = std::fs::metadata(path).expect("a file").ino();
        let exe = FileId { device: 1, inode };
        let actor =
            Actor { process: ProcessKey { pid: u32::MAX, start_ticks: 0 }, parent: own, exe, ..Actor::default() };
        Exec { actor, exe_path: path.to_string_lossy().into_owned(), ..Exec::default() }
    }

    #[test]
    fn a_copied_shell_is_known_also_with_bytes_appended() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut identities = Identities::new();
        identities.learn_installed();
        let copy = directory.path().join("innocent");
        std::fs::copy("/bin/sh", &copy).expect("copies");
        let seen = identities.check(&exec(&copy), Timestamp::default()).expect("a known program");
        assert!(class_of(&seen.copy_of).is_some() || is_multi_call(&seen.copy_of), "{seen:?}");
        // Told once, and told again when the file changes.
        assert_eq!(identities.check(&exec(&copy), Timestamp::default()), None);
        if build_id(&File::open(&copy).expect("opens")).is_some() {
            File::options().append(true).open(&copy).expect("opens").write_all(b"x").expect("writes");
            assert_eq!(
                identities.check(&exec(&copy), Timestamp::default()).map(|again| again.copy_of),
                Some(seen.copy_of)
            );
        }
    }

    #[test]
    fn without_a_build_id_the_content_decides() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        for (name, content) in [("zsh", "one"), ("copy", "one"), ("same-size", "two"), ("longer", "one!")] {
            std::fs::write(path(name), content).expect("writes");
        }
        let mut identities = Identities::new();
        let mut copy_of =
            |name: &str| identities.check(&exec(&path(name)), Timestamp::default()).map(|seen| seen.copy_of);
        assert_eq!(copy_of("zsh"), None);
        assert_eq!(copy_of("copy").as_deref(), path("zsh").to_str());
        assert_eq!(copy_of("same-size"), None);
        assert_eq!(copy_of("longer"), None);
    }

    #[test]
    fn a_copy_of_busybox_is_busybox_whatever_its_links_are_called() {
        type Link = fn(&Path, &Path) -> std::io::Result<()>;
        let check = |link: Link| {
            let directory = tempfile::tempdir().expect("a directory");
            let path = |name: &str| directory.path().join(name);
            std::fs::write(path("busybox"), "applets").expect("writes");
            for applet in ["ash", "awk", "nc", "sh", "vi", "wget"] {
                link(&path("busybox"), &path(applet)).expect("links");
            }
            std::fs::write(path("innocent"), "applets").expect("writes");
            let mut identities = Identities::new();
            identities.learn_below([directory.path()].into_iter());
            let seen = identities.check(&exec(&path("innocent")), Timestamp::default()).expect("a known program");
            assert_eq!(Some(seen.copy_of.as_str()), path("busybox").to_str());
        };
        check(|file, link| std::os::unix::fs::symlink(file, link));
        check(|file, link| std::fs::hard_link(file, link));
    }

    proptest! {
        #[test]
        fn any_notes_are_read_without_harm(notes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = build_id_note(&notes);
        }

        #[test]
        fn a_build_id_is_found_behind_other_notes(owner in "[A-Z]{1,9}", id in proptest::collection::vec(any::<u8>(), 1..40)) {
            let note = |owner: &[u8], kind: u32, description: &[u8]| {
                let mut bytes = Vec::new();
                for field in [u32::try_from(owner.len()).expect("small"), u32::try_from(description.len()).expect("small"), kind] {
                    bytes.extend(field.to_le_bytes());
                }
                for part in [owner, description] {
                    bytes.extend(part);
                    bytes.resize(bytes.len().next_multiple_of(4), 0);
                }
                bytes
            };
            let notes = [note(owner.as_bytes(), 1, &id), note(b"GNU\0", 1, b"abi"), note(b"GNU\0", 3, &id)].concat();
            prop_assert_eq!(build_id_note(&notes), Some(id));
        }
    }
}
