//! The store from outside: what `breachline incidents` reads while the agent runs. In: a state directory. Out:
//! incidents as of the last commit. Never writes, and never keeps the agent from writing.

use std::path::PathBuf;

use redb::ReadOnlyDatabase;

use super::disk::{self, DiskError, Table};
use super::incidents::{self, IncidentSummary};
use super::{Config, FILE_NAME, StoreError};

/// A store opened for reading.
pub struct View {
    path: PathBuf,
    database: ReadOnlyDatabase,
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
    /// [`StoreError::Unreadable`] when there is none, when it may not be read, or when the agent died and has
    /// not started since.
    pub fn open(config: &Config) -> Result<Self, StoreError> {
        let path = config.directory.join(FILE_NAME);
        match disk::builder().open_read_only(&path).map_err(DiskError::from) {
            Ok(database) => Ok(Self { path, database }),
            Err(error) => Err(StoreError::Unreadable { path, reason: error.to_string() }),
        }
    }

    /// Every incident kept, the latest evidence first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`] when the disk fails.
    pub fn incidents(&self) -> Result<Vec<IncidentSummary>, StoreError> {
        let mut list = Vec::new();
        let scanned = disk::scan(&self.database, Table::Incident, &[], &mut |_, value| {
            list.extend(serde_json::from_slice::<IncidentSummary>(value));
            true
        });
        scanned.map_err(|error| self.unreadable(&error))?;
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
        let scanned = disk::scan(&self.database, Table::Revision, &prefix, &mut |key, value| {
            let belongs = key.starts_with(&prefix);
            if belongs {
                revisions.push(value.to_vec());
            }
            belongs
        });
        scanned.map_err(|error| self.unreadable(&error))?;
        Ok(revisions)
    }

    fn unreadable(&self, error: &DiskError) -> StoreError {
        StoreError::Unreadable { path: self.path.clone(), reason: error.to_string() }
    }
}
