//! How far every source was read, on disk. In: settled positions. Out: the position that a source was left at, after a
//! kill at any moment.
//!
//! One redb file. Positions are written together and synced; a crash between two writes makes lines go twice, never not
//! at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use redb::{Database, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};

use super::ForwardError;
use crate::intake::Cursor;

/// Source to position, as JSON.
const POSITIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("positions");

/// Memory for pages of the database; positions are small, and most are never read again.
const CACHE_BYTES: usize = 4 << 20;

/// How far a source was read.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) cursor: Cursor,
    /// Of a complete file: its size and its modification time (nanoseconds since 1970) when it was read.
    pub(super) size: u64,
    pub(super) modified: i128,
    /// Of a complete file: nothing more is to be read.
    pub(super) done: bool,
}

/// The positions; none is kept without a directory.
#[derive(Debug)]
pub(super) struct Cursors {
    database: Option<Database>,
    path: PathBuf,
}

impl Cursors {
    /// Opens or makes the file in `directory`.
    ///
    /// # Errors
    ///
    /// The directory cannot be written, or another forwarder uses it.
    pub(super) fn open(directory: &Path) -> Result<Self, ForwardError> {
        if directory.as_os_str().is_empty() {
            return Ok(Self { database: None, path: PathBuf::new() });
        }
        let path = directory.join("cursors.redb");
        let failed = |reason: String| ForwardError::State { path: path.clone(), reason };
        fs::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(&path);
        let database = database.map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => failed("another forwarder uses it".into()),
            other => failed(other.to_string()),
        })?;
        Ok(Self { database: Some(database), path })
    }

    /// The position last saved for `source`. What cannot be read counts as never read: lines go twice.
    pub(super) fn load(&self, source: &str) -> Option<Position> {
        let transaction = self.database.as_ref()?.begin_read().ok()?;
        let bytes = transaction.open_table(POSITIONS).ok()?.get(source).ok()??;
        serde_json::from_slice(bytes.value()).ok()
    }

    /// Saves positions, synced to disk.
    ///
    /// # Errors
    ///
    /// The disk's; positions saved before stay.
    pub(super) fn save(&self, positions: &BTreeMap<Arc<str>, Position>) -> Result<(), ForwardError> {
        let write = |database: &Database| -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(POSITIONS)?;
                for (source, position) in positions {
                    let bytes =
                        serde_json::to_vec(position).map_err(|error| redb::Error::Io(io::Error::other(error)))?;
                    table.insert(&**source, bytes.as_slice())?;
                }
            }
            Ok(transaction.commit()?)
        };
        self.database
            .as_ref()
            .filter(|_| !positions.is_empty())
            .map_or(Ok(()), write)
            .map_err(|error| self.failed(&error))
    }

    /// Forgets the sources that `gone` says are no more.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub(super) fn forget(&self, gone: impl Fn(&str) -> bool) -> Result<(), ForwardError> {
        let sweep = |database: &Database| -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            transaction.open_table(POSITIONS)?.retain(|source, _| !gone(source))?;
            Ok(transaction.commit()?)
        };
        self.database.as_ref().map_or(Ok(()), sweep).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &redb::Error) -> ForwardError {
        ForwardError::State { path: self.path.clone(), reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_outlive_the_process_and_can_be_forgotten() {
        let directory = tempfile::tempdir().expect("directory");
        let position = |size| Position { size, done: true, ..Position::default() };
        {
            let cursors = Cursors::open(directory.path()).expect("opens");
            assert!(cursors.load("a").is_none());
            let positions = [("a", 1), ("b", 2)].map(|(source, size)| (Arc::from(source), position(size)));
            cursors.save(&positions.into()).expect("saves");
            let second = Cursors::open(directory.path()).expect_err("in use").to_string();
            assert!(second.contains("another forwarder uses it"), "{second}");
        }
        let cursors = Cursors::open(directory.path()).expect("opens");
        assert_eq!(cursors.load("a"), Some(position(1)));
        cursors.forget(|source| source == "a").expect("forgets");
        assert_eq!((cursors.load("a"), cursors.load("b")), (None, Some(position(2))));
    }

    #[test]
    fn without_a_directory_nothing_is_kept() {
        let cursors = Cursors::open(Path::new("")).expect("opens");
        cursors.save(&[(Arc::from("a"), Position::default())].into()).expect("saves");
        assert!(cursors.load("a").is_none());
    }
}
