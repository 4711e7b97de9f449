//! Files whose content is used while the agent runs: keys and certificates that are renewed under it. In: paths and a way
//! to load them. Out: the content as it is now; one that cannot be loaded leaves the last good one in use.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::IntakeError;

/// How often the files are looked at: what a renewed certificate is late by, and what a connection costs at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What tells one content from another: inode, size, seconds and nanoseconds of its change.
type Stamp = Option<(u64, u64, i64, i64)>;

type Load<T> = Box<dyn Fn() -> Result<T, IntakeError> + Send + Sync>;

/// Content that follows its files.
pub(super) struct Watched<T> {
    paths: Vec<PathBuf>,
    load: Load<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    content: Arc<T>,
    stamps: Vec<Stamp>,
    looked: Instant,
}

impl<T> std::fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl<T> Watched<T> {
    /// Loads for the first time, which must succeed.
    pub(super) fn open(
        paths: Vec<PathBuf>,
        load: impl Fn() -> Result<T, IntakeError> + Send + Sync + 'static,
    ) -> Result<Self, IntakeError> {
        let stamps = paths.iter().map(stamp).collect();
        let state = State { content: Arc::new(load()?), stamps, looked: Instant::now() };
        Ok(Self { paths, load: Box::new(load), state: Mutex::new(state) })
    }

    /// The content as it is now.
    pub(super) fn current(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_INTERVAL {
            state.looked = Instant::now();
            self.refresh(&mut state);
        }
        Arc::clone(&state.content)
    }

    fn refresh(&self, state: &mut State<T>) {
        let stamps: Vec<Stamp> = self.paths.iter().map(stamp).collect();
        if stamps == state.stamps {
            return;
        }
        // Noted even when it does not load: it is tried again when it changes again, not with every connection.
        state.stamps = stamps;
        match (self.load)() {
            Ok(content) => {
                tracing::info!(files = ?self.paths, "loaded anew");
                state.content = Arc::new(content);
            }
            Err(error) => tracing::warn!(%error, "what was loaded before stays in use"),
        }
    }
}

fn stamp(path: &PathBuf) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_followed_and_a_fault_is_not() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("number");
        std::fs::write(&path, "1").expect("writes");
        let file = path.clone();
        let load = move || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let wrong = |_| IntakeError::Secret { key: "test", path: file.clone(), reason: "no number".into() };
            text.parse::<u32>().map_err(wrong)
        };
        let watched = Watched::open(vec![path.clone()], load).expect("loads");
        let becomes = |expected: u32| {
            let deadline = Instant::now() + Duration::from_secs(20);
            while *watched.current() != expected {
                assert!(Instant::now() < deadline, "still {}", watched.current());
                std::thread::yield_now();
            }
        };
        becomes(1);
        std::fs::write(&path, "20").expect("writes");
        becomes(20);
        std::fs::write(&path, "three").expect("writes");
        let state = || watched.state.lock().expect("no panic").stamps.clone();
        let deadline = Instant::now() + Duration::from_secs(20);
        while state() != [stamp(&path)] {
            assert_eq!(*watched.current(), 20);
            assert!(Instant::now() < deadline, "looked at");
        }
        std::fs::write(&path, "4").expect("writes");
        becomes(4);
    }
}
