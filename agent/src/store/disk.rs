//! The database file. In: rows of bytes to put or remove, as one transaction. Out: rows, or an error that says whether
//! the file is busy, damaged or out of reach.
//!
//! Damage never stops the agent: a file that cannot be read, or that a newer version wrote, is renamed to
//! `NAME.corrupt-<n>` and a fresh one takes its place. Never knows what a row means.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition, TableError,
};

/// Row layout of this version. A file with a higher number is set aside: guessing at its rows could lose them for good.
pub(super) const LAYOUT_VERSION: u8 = 1;

/// Where the layout's version stands.
pub(super) const LAYOUT_KEY: &[u8] = b"version";

/// Pages redb may keep in memory. Rows are small and rarely read twice; the default (1 GiB) would eat the agent's
/// budget.
const CACHE_BYTES: usize = 4 << 20;

/// Damaged files kept beside the database; without it a disk that keeps going bad would fill up with copies.
const SET_ASIDE_MAX: u32 = 8;

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The tables. The order is the order of rows in the write buffer, nothing else.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Layout,
    Baseline,
    Checkpoint,
    Cursor,
    Incident,
    Revision,
    Spool,
    Rejected,
}

impl Table {
    const ALL: [Self; 8] = [
        Self::Layout,
        Self::Baseline,
        Self::Checkpoint,
        Self::Cursor,
        Self::Incident,
        Self::Revision,
        Self::Spool,
        Self::Rejected,
    ];

    const fn rows(self) -> Rows {
        TableDefinition::new(match self {
            Self::Layout => "layout",
            Self::Baseline => "baseline",
            Self::Checkpoint => "checkpoint",
            Self::Cursor => "cursor",
            Self::Incident => "incident",
            Self::Revision => "revision",
            Self::Spool => "spool",
            Self::Rejected => "rejected",
        })
    }
}

/// A row's key and its value.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// One row to put (`Some`) or to remove (`None`).
pub(super) type Change<'c> = (Table, &'c [u8], Option<&'c [u8]>);

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    /// Another process writes to it.
    #[error("another process has the database open")]
    Busy,
    /// Its content cannot be used by this version.
    #[error("{0}")]
    Damaged(String),
    /// The disk is full, read-only or failing: worth another try.
    #[error("{0}")]
    Unavailable(String),
}

/// An open database.
#[derive(Debug)]
pub(super) struct Disk {
    database: Database,
}

impl Disk {
    /// Opens `path`, creating it and its directory (mode 0700: incidents name credentials) where absent. Sets a damaged
    /// file aside and returns where it went.
    pub(super) fn open(path: &Path) -> Result<(Self, Option<PathBuf>), DiskError> {
        if let Some(directory) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(|error| DiskError::Unavailable(format!("cannot create {}: {error}", directory.display())))?;
        }
        match Self::open_or_begin(path) {
            Err(DiskError::Damaged(reason)) => {
                let aside = set_aside(path)?;
                tracing::warn!(error = reason, set_aside = %aside.display(), "database unusable; starting a fresh one");
                Ok((Self::open_or_begin(path)?, Some(aside)))
            }
            other => Ok((other?, None)),
        }
    }

    /// A new file that a full disk let begin but not end is removed: it would be taken for a damaged one.
    fn open_or_begin(path: &Path) -> Result<Self, DiskError> {
        let begun_here = path.metadata().is_ok_and(|file| file.len() == 0) || !path.exists();
        let opened = Self::open_file(path);
        if begun_here && matches!(opened, Err(DiskError::Unavailable(_) | DiskError::Damaged(_))) {
            // Where even that fails, it is set aside later.
            drop(fs::remove_file(path));
        }
        opened
    }

    fn open_file(path: &Path) -> Result<Self, DiskError> {
        // redb checks what it reads, but promises no more than "may panic" for a file altered behind its back.
        let opened = catch_unwind(AssertUnwindSafe(|| builder().create(path)));
        let database =
            opened.map_err(|_| DiskError::Damaged("reading the database failed an internal check".into()))??;
        Self::prepare(database)
    }

    /// Opens over any storage: how tests make a disk fail.
    #[cfg(test)]
    pub(super) fn with_backend(backend: impl redb::StorageBackend) -> Result<Self, DiskError> {
        Self::prepare(builder().create_with_backend(backend)?)
    }

    /// Checks the layout. A new database gets every table, so that later reads find them.
    fn prepare(database: Database) -> Result<Self, DiskError> {
        let disk = Self { database };
        if disk.is_new()? {
            let transaction = disk.database.begin_write().map_err(redb::Error::from)?;
            for table in Table::ALL {
                transaction.open_table(table.rows())?;
            }
            transaction.open_table(Table::Layout.rows())?.insert(LAYOUT_KEY, [LAYOUT_VERSION].as_slice())?;
            transaction.commit().map_err(redb::Error::from)?;
        }
        match disk.get(Table::Layout, LAYOUT_KEY)?.as_deref() {
            Some([LAYOUT_VERSION]) => Ok(disk),
            other => Err(DiskError::Damaged(format!("row layout {other:?} is not {LAYOUT_VERSION}"))),
        }
    }

    fn is_new(&self) -> Result<bool, DiskError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        Ok(transaction.list_tables()?.next().is_none())
    }

    /// Writes all changes or none, durably: one transaction, on disk (fsync) when this returns.
    ///
    /// `Durability::Immediate` and not `None`: an alert that was acknowledged must survive a power cut as well as a
    /// SIGKILL. What may be lost (cursors) waits in the write buffer instead and rides along with the next transaction.
    pub(super) fn apply<'c>(&self, changes: impl Iterator<Item = Change<'c>>) -> Result<(), DiskError> {
        let transaction = self.database.begin_write().map_err(redb::Error::from)?;
        for (table, key, value) in changes {
            let mut rows = transaction.open_table(table.rows())?;
            match value {
                Some(value) => drop(rows.insert(key, value)?),
                None => drop(rows.remove(key)?),
            }
        }
        transaction.commit().map_err(redb::Error::from)?;
        Ok(())
    }

    /// The value under `key`.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let rows = transaction.open_table(table.rows())?;
        Ok(rows.get(key)?.map(|value| value.value().to_vec()))
    }

    /// As [`scan`].
    pub(super) fn scan(
        &self,
        table: Table,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), DiskError> {
        scan(&self.database, table, from, visit)
    }
}

/// Hands every row from `from` upward to `visit`, in key order, until that returns false.
pub(super) fn scan(
    database: &impl ReadableDatabase,
    table: Table,
    from: &[u8],
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), DiskError> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    let rows = transaction.open_table(table.rows())?;
    for row in rows.range(from..)? {
        let (key, value) = row?;
        if !visit(key.value(), value.value()) {
            break;
        }
    }
    Ok(())
}

/// Single writer, any number of readers: `breachline incidents` looks on while the agent runs.
pub(super) fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder.set_check_integrity_on_open(true);
    builder
}

/// Renames the damaged file to the first free `NAME.corrupt-<n>`; the last name is reused when all are taken.
fn set_aside(path: &Path) -> Result<PathBuf, DiskError> {
    let named = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".corrupt-{number}"));
        PathBuf::from(name)
    };
    let aside = (1..SET_ASIDE_MAX).map(named).find(|name| !name.exists()).unwrap_or_else(|| named(SET_ASIDE_MAX));
    fs::rename(path, &aside)
        .map_err(|error| DiskError::Unavailable(format!("cannot set {} aside: {error}", path.display())))?;
    Ok(aside)
}

impl From<DatabaseError> for DiskError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Self::Busy,
            DatabaseError::UpgradeRequired(version) => Self::Damaged(format!("file format {version} is not supported")),
            DatabaseError::RepairAborted => {
                Self::Damaged("it was not closed and needs repair, which starting the agent does".into())
            }
            other => redb::Error::from(other).into(),
        }
    }
}

impl From<TableError> for DiskError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<StorageError> for DiskError {
    fn from(error: StorageError) -> Self {
        redb::Error::from(error).into()
    }
}

impl From<redb::Error> for DiskError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(reason) => Self::Damaged(reason),
            // What redb says of a file that is not one of its own, and of one that ends early.
            redb::Error::Io(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Self::Damaged(error.to_string())
            }
            other => Self::Unavailable(other.to_string()),
        }
    }
}
