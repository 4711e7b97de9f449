//! The store from outside: what `breachline incidents` reads while the agent runs. In: a state directory. Out:
//! incidents as of the last commit. Never writes, and never keeps the agent from writing.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use redb::backends::InMemoryBackend;
use redb::{Database, ReadOnlyDatabase, StorageBackend as _};

use super::disk::{self, DiskError, Table};
use super::incidents::{self, IncidentSummary};
use super::{Blob, Config, FILE_NAME, StoreError};

/// Largest database that is read as a copy in memory, after its agent was killed: all bounds of the store together, and redb's
/// own spare room.
const COPY_BYTES_MAX: u64 = 512 << 20;

/// A store opened for reading.
pub struct View {
    path: PathBuf,
    database: Content,
}

enum Content {
    File(ReadOnlyDatabase),
    /// What a killed agent left needs repair, which writes: it is done on a copy.
    Copy(Database),
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("path", &self.path).finish_non_exhaustive()
    }
}

impl View {
    /// Opens the database in `config.directory`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`] when there is none, when it may not be read, or when it is damaged.
    pub fn open(config: &Config) -> Result<Self, StoreError> {
        let path = config.directory.join(FILE_NAME);
        let content = match disk::builder().open_read_only(&path) {
            Ok(database) => Ok(Content::File(database)),
            Err(redb::DatabaseError::RepairAborted) => copy(&path).map(Content::Copy),
            Err(error) => Err(error.into()),
        };
        match content {
            Ok(database) => Ok(Self { path, database }),
            Err(error) => Err(StoreError::Unreadable { path, reason: error.to_string() }),
        }
    }

    fn scan(&self, table: Table, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StoreError> {
        let scanned = match &self.database {
            Content::File(database) => disk::scan(database, table, from, visit),
            Content::Copy(database) => disk::scan(database, table, from, visit),
        };
        scanned.map_err(|error| StoreError::Unreadable { path: self.path.clone(), reason: error.to_string() })
    }

    /// The bytes last saved under `name`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`] when the disk fails.
    pub fn load(&self, blob: Blob, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut found = None;
        self.scan(blob.table(), name.as_bytes(), &mut |key, value| {
            found = (key == name.as_bytes()).then(|| value.to_vec());
            false
        })?;
        Ok(found)
    }

    /// Every incident kept, the latest evidence first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`] when the disk fails.
    pub fn incidents(&self) -> Result<Vec<IncidentSummary>, StoreError> {
        let mut list = Vec::new();
        self.scan(Table::Incident, &[], &mut |_, value| {
            list.extend(serde_json::from_slice::<IncidentSummary>(value));
            true
        })?;
        incidents::sort(&mut list);
        Ok(list)
    }

    /// The JSON records of an incident's revisions, oldest first; empty when there is no such incident.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`] when the disk fails.
    pub fn revisions(&self, id: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut revisions = Vec::new();
        let prefix = incidents::prefix(id);
        self.scan(Table::Revision, &prefix, &mut |key, value| {
            let belongs = key.starts_with(&prefix);
            if belongs {
                revisions.push(value.to_vec());
            }
            belongs
        })?;
        Ok(revisions)
    }
}

/// A copy in memory, repaired there; the file stays as it is.
fn copy(path: &Path) -> Result<Database, DiskError> {
    let unavailable = |error: std::io::Error| DiskError::Unavailable(error.to_string());
    let mut file = File::open(path).map_err(unavailable)?;
    let length = file.metadata().map_err(unavailable)?.len();
    if length > COPY_BYTES_MAX {
        return Err(DiskError::Unavailable(
            "it was not closed and is too large for a copy; start the agent once".into(),
        ));
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content).map_err(unavailable)?;
    let backend = InMemoryBackend::new();
    backend.set_len(content.len() as u64).map_err(unavailable)?;
    backend.write(0, &content).map_err(unavailable)?;
    // Memory has no locks, which the modes that share a file need.
    Ok(Database::builder().create_with_backend(backend)?)
}
