//! A directory that complete files are put into: a bucket that is synced. In: the directory. Out: each file once, in the
//! order of names, which is that of time within a load balancer's layout (`…/yyyy/mm/dd/…`).
//!
//! A file is known by its path, size and modification time. One that changes is read on; one that cannot be unpacked is
//! tried again when it changes, and a few times before.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::config::ObjectsConfig;
use super::cursors::{Cursors, Position};
use super::log::{Feed, Log, Turn};
use super::pattern;
use super::progress::{Counters, count};

/// Files found by one scan at most; the others are found by the next one, when these are read.
const WAITING_MAX: usize = 16_384;
/// Directories within directories; a load balancer's layout has nine.
const DEPTH_MAX: usize = 24;
/// Directories remembered as read, so that a scan need not look at each of their files again.
const SETTLED_MAX: usize = 65_536;
/// A directory whose files are all read is looked into again for so long after the latest of them.
const SETTLED_AFTER: Duration = Duration::from_secs(3600);
/// Tries before a damaged file is left alone until it changes.
const TRIES_MAX: u32 = 4;
/// Damaged files remembered.
const DAMAGED_MAX: usize = 4096;
/// Files read whose lines are not taken yet. With so many, no further one is begun: they are known by nothing else.
const UNSETTLED_MAX: usize = 65_536;

/// One directory.
#[derive(Debug)]
pub(super) struct Tree {
    config: ObjectsConfig,
    feed: Feed,
    waiting: VecDeque<Found>,
    current: Option<Log>,
    next_scan: Instant,
    settled: HashMap<PathBuf, Settled>,
    damaged: HashMap<PathBuf, Damaged>,
    /// Files read to their end that the cursors do not know of yet, with size and modification time.
    unsettled: HashMap<PathBuf, (u64, i128)>,
    once: bool,
    scanned: bool,
    pub(super) trouble: Option<String>,
}

/// A file to read.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    key: Arc<str>,
    position: Option<Position>,
    size: u64,
    modified: i128,
}

/// A directory without anything new, as of its modification time; what directories it holds.
#[derive(Debug)]
struct Settled {
    modified: SystemTime,
    directories: Vec<PathBuf>,
}

/// A file that could not be read.
#[derive(Debug)]
struct Damaged {
    size: u64,
    modified: i128,
    tries: u32,
}

impl Tree {
    pub(super) fn new(config: &ObjectsConfig, feed: Feed, once: bool) -> Self {
        Self {
            config: config.clone(),
            feed,
            waiting: VecDeque::new(),
            current: None,
            next_scan: Instant::now(),
            settled: HashMap::new(),
            damaged: HashMap::new(),
            unsettled: HashMap::new(),
            once,
            scanned: false,
            trouble: None,
        }
    }

    /// Reads on in the present file, or begins with the next one.
    pub(super) fn turn(&mut self, now: Instant, cursors: &Cursors, counters: &Counters) -> Turn {
        if let Some(current) = &mut self.current {
            match current.turn(now, counters) {
                Turn::Over => self.finish(counters),
                turn => return turn,
            }
        }
        let due = if self.once { !self.scanned } else { now >= self.next_scan };
        if self.waiting.is_empty() && due {
            self.scan(cursors);
            self.next_scan = Instant::now() + self.config.rescan;
        }
        match self.waiting.pop_front() {
            Some(found) => {
                self.begin(found);
                Turn::Lines(super::log::Read::default())
            }
            None if self.once => Turn::Over,
            None => Turn::Idle,
        }
    }

    /// The source that the latest lines are of.
    pub(super) fn feed(&mut self) -> &mut Feed {
        self.current.as_mut().map_or(&mut self.feed, |log| &mut log.feed)
    }

    fn begin(&mut self, found: Found) {
        let Found { path, key, position, size, modified } = found;
        let mut feed = self.feed.clone();
        feed.header = bytes::Bytes::new();
        self.current = Some(Log::read(&path, key, feed, position, size, modified));
    }

    fn finish(&mut self, counters: &Counters) {
        let Some(log) = self.current.take() else { return };
        self.feed.format = log.feed.format; // the next file is most likely of the same format
        let Some(trouble) = log.trouble else {
            self.damaged.remove(&log.path);
            self.unsettled.insert(log.path, log.complete.unwrap_or_default());
            return count(&counters.objects_read, 1);
        };
        if self.damaged.len() >= DAMAGED_MAX {
            self.damaged.clear();
        }
        let (size, modified) = fs::metadata(&log.path).map_or((0, 0), |metadata| identity(&metadata));
        let damaged = self.damaged.entry(log.path).or_insert(Damaged { size, modified, tries: 0 });
        if (damaged.size, damaged.modified) != (size, modified) {
            *damaged = Damaged { size, modified, tries: 0 };
        }
        damaged.tries += 1;
        if damaged.tries == TRIES_MAX {
            tracing::warn!(trouble, "a file is left alone until it changes");
            count(&counters.objects_damaged, 1);
        }
        self.trouble = Some(trouble);
    }

    /// Looks for files that are not read yet.
    fn scan(&mut self, cursors: &Cursors) {
        self.trouble = None;
        if self.settled.len() > SETTLED_MAX {
            self.settled.clear();
        }
        self.unsettled.retain(|path, read| !is_read(cursors.load(&key(path)).as_ref(), *read));
        if self.unsettled.len() >= UNSETTLED_MAX {
            return;
        }
        let directory = self.config.directory.clone();
        let mut found = VecDeque::new();
        if let Err(error) = self.walk(&directory, 0, SystemTime::now(), cursors, &mut found) {
            self.trouble = Some(format!("cannot read {}: {error}", directory.display()));
        }
        self.scanned = found.len() < WAITING_MAX;
        self.waiting = found;
    }

    fn walk(
        &mut self,
        directory: &Path,
        depth: usize,
        now: SystemTime,
        cursors: &Cursors,
        found: &mut VecDeque<Found>,
    ) -> std::io::Result<()> {
        let modified = fs::metadata(directory)?.modified()?;
        let settled = self.settled.get(directory).filter(|settled| settled.modified == modified);
        let directories = match settled.map(|settled| settled.directories.clone()) {
            Some(directories) => directories,
            None => self.look_into(directory, modified, now, cursors, found)?,
        };
        for below in directories {
            if depth < DEPTH_MAX && found.len() < WAITING_MAX {
                // One that was removed meanwhile, or may not be read: the others go on.
                drop(self.walk(&below, depth + 1, now, cursors, found));
            }
        }
        Ok(())
    }

    /// Goes through the files of one directory; gives the directories in it.
    fn look_into(
        &mut self,
        directory: &Path,
        modified: SystemTime,
        now: SystemTime,
        cursors: &Cursors,
        found: &mut VecDeque<Found>,
    ) -> std::io::Result<Vec<PathBuf>> {
        let mut entries: Vec<_> = fs::read_dir(directory)?.flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        let (mut directories, mut quiet) = (Vec::new(), true);
        for entry in entries {
            let (Ok(kind), path) = (entry.file_type(), entry.path()) else { continue };
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_file() && self.is_named(&entry.file_name()) {
                let Ok(metadata) = entry.metadata() else { continue };
                let age = metadata.modified().ok().and_then(|at| now.duration_since(at).ok()).unwrap_or_default();
                quiet &= age > SETTLED_AFTER;
                if let Some(new) = self.unread(path, &metadata, age, cursors) {
                    quiet = false;
                    if found.len() < WAITING_MAX {
                        found.push_back(new);
                    }
                }
            }
        }
        if quiet {
            self.settled.insert(directory.to_owned(), Settled { modified, directories: directories.clone() });
        }
        Ok(directories)
    }

    fn is_named(&self, name: &std::ffi::OsStr) -> bool {
        self.config.names.iter().any(|pattern| pattern::fits(pattern.as_bytes(), name.as_encoded_bytes()))
    }

    fn unread(&self, path: PathBuf, metadata: &Metadata, age: Duration, cursors: &Cursors) -> Option<Found> {
        let (size, modified) = identity(metadata);
        let given_up = self
            .damaged
            .get(&path)
            .is_some_and(|damaged| (damaged.size, damaged.modified) == (size, modified) && damaged.tries >= TRIES_MAX);
        let unsettled = self.unsettled.get(&path) == Some(&(size, modified));
        if age < self.config.settle || age > self.config.newer_than || given_up || unsettled {
            return None;
        }
        let key: Arc<str> = key(&path).into();
        let position = cursors.load(&key);
        let read = is_read(position.as_ref(), (size, modified));
        (!read).then_some(Found { path, key, position, size, modified })
    }
}

/// Whether a file of this size and modification time was read to its end.
fn is_read(position: Option<&Position>, identity: (u64, i128)) -> bool {
    position.is_some_and(|position| position.done && (position.size, position.modified) == identity)
}

/// Name of a complete file among the cursors.
pub(super) fn key(path: &Path) -> String {
    format!("object:{}", path.display())
}

/// Whether a cursor is of a file that is no more, so that its cursor can go.
pub(super) fn is_gone(key: &str) -> bool {
    key.strip_prefix("object:").is_some_and(|path| !Path::new(path).exists())
}

fn identity(metadata: &Metadata) -> (u64, i128) {
    (metadata.size(), i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests;
