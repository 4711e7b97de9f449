//! Where a rotated log went. In: the log's path, and what the lost file was recognised by. Out: the file under its new
//! name, and the files that were the log in between.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::log_file::{Identity, LogFile};

/// Rotated files looked at; logrotate keeps a few dozen at most. Without a bound a directory full of files would be
/// opened on each rotation.
const ROTATED_MAX: usize = 128;

/// A file that may once have been the log.
struct Candidate {
    modified: SystemTime,
    path: PathBuf,
}

/// The file that `lost` is now: under another name (rotation by rename), as a copy (copytruncate), or packed. It holds
/// at least what was recognised.
pub(super) fn find(log: &Path, lost: &Identity) -> Option<LogFile> {
    let mut copy = None;
    for candidate in candidates(log) {
        let Ok(file) = LogFile::open(&candidate.path) else { continue };
        let Ok(identity) = file.identity() else { continue };
        if !matches!(file.begins_like(lost), Ok(true)) {
            continue;
        }
        if identity.same_inode(lost) {
            return Some(file);
        }
        if !lost.head.is_empty() {
            copy = Some(file);
        }
    }
    copy
}

/// The files that were the log since `since` and are not `known`, the oldest first: what several rotations in a row
/// leave behind.
pub(super) fn between(log: &Path, since: SystemTime, known: &[Identity]) -> Vec<LogFile> {
    let unknown = |file: &LogFile| {
        let Ok(identity) = file.identity() else { return false };
        !known.iter().any(|known| {
            let alike = matches!(file.begins_like(known), Ok(true));
            alike && (identity.same_inode(known) || !known.head.is_empty())
        })
    };
    candidates(log)
        .into_iter()
        // Not only later: the kernel stamps files once per tick (4 ms at 250 Hz), in which a rotation may fall.
        .filter(|candidate| candidate.modified >= since)
        .filter_map(|candidate| LogFile::open(&candidate.path).ok())
        .filter(unknown)
        .collect()
}

/// Files named like the log with something behind it (`access.log.1`, `access.log-20261122.gz`), the oldest first.
fn candidates(log: &Path) -> Vec<Candidate> {
    let (Some(directory), Some(name)) = (log.parent(), log.file_name()) else { return Vec::new() };
    let name = name.as_encoded_bytes();
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut candidates: Vec<Candidate> = entries
        .flatten()
        .filter(|entry| {
            let other = entry.file_name();
            let rest = other.as_encoded_bytes().strip_prefix(name);
            rest.is_some_and(|rest| matches!(rest.first(), Some(b'.' | b'-' | b'_')))
        })
        .filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some(Candidate { modified: metadata.modified().ok()?, path: entry.path() })
        })
        .collect();
    candidates.sort_by(|one, other| (one.modified, &one.path).cmp(&(other.modified, &other.path)));
    let excess = candidates.len().saturating_sub(ROTATED_MAX);
    candidates.split_off(excess)
}
