//! The write buffer between the store and its file. In: rows to put and remove. Out: rows as they stand, whether or not
//! the disk has them yet.
//!
//! Every write lands here first; [`WriteBuffer::sync`] moves the whole buffer to disk in one transaction. So a full or
//! failing disk needs no second way of working: the rows simply stay, reads still see them, and the next sync tries
//! again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::disk::{Disk, DiskError, Row, Table};

/// Opens the database anew: with its file, and where a damaged one was set aside.
pub(super) type Open = Box<dyn Fn() -> Result<(Disk, Option<PathBuf>), DiskError> + Send>;

/// What a sync did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Synced {
    /// Everything is on disk.
    Durable,
    /// Everything is on disk, and the database had to be opened anew: what was indexed before may be stale.
    Reopened,
    /// The disk does not take it; rows stay in memory.
    InMemory,
}

/// Rows on disk under rows that wait.
pub(super) struct WriteBuffer {
    open: Open,
    disk: Option<Disk>,
    unsaved: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
    unsaved_bytes: usize,
    /// The disk was opened anew since the last sync that went through.
    reopened: bool,
    /// Why rows wait; the disk may be readable all the same.
    pub(super) trouble: Option<String>,
    /// Where the latest damaged file went.
    pub(super) set_aside: Option<PathBuf>,
}

impl WriteBuffer {
    /// Opens the disk. Only a second writer is an error: two agents on one state directory would undo each other.
    pub(super) fn new(open: Open) -> Result<Self, DiskError> {
        let mut buffer = Self {
            open,
            disk: None,
            unsaved: BTreeMap::new(),
            unsaved_bytes: 0,
            reopened: false,
            trouble: None,
            set_aside: None,
        };
        match buffer.reopen() {
            Err(DiskError::Busy) => Err(DiskError::Busy),
            Err(error) => {
                buffer.trouble = Some(error.to_string());
                Ok(buffer)
            }
            Ok(()) => {
                buffer.reopened = false;
                Ok(buffer)
            }
        }
    }

    fn reopen(&mut self) -> Result<(), DiskError> {
        self.disk = None; // its lock would make the file busy
        let (disk, set_aside) = (self.open)()?;
        self.disk = Some(disk);
        self.reopened = true;
        self.set_aside = set_aside.or(self.set_aside.take());
        Ok(())
    }

    /// Puts or removes a row, in memory.
    pub(super) fn set(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        let weight = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        self.unsaved_bytes += key.len() + weight(&value);
        let length = key.len();
        if let Some(old) = self.unsaved.insert((table, key), value) {
            self.unsaved_bytes -= length + weight(&old);
        }
    }

    /// Bytes that wait for the disk.
    pub(super) fn unsaved_bytes(&self) -> usize {
        self.unsaved_bytes
    }

    /// Removes a row whose key is never written twice: where it still waits, the disk need not hear of it. While
    /// the disk is away, a row on it stays: nobody could read it, so nobody can be done with it.
    pub(super) fn cancel(&mut self, table: Table, key: Vec<u8>) {
        if matches!(self.unsaved.get(&(table, key.clone())), Some(Some(_))) {
            self.drop_waiting(&(table, key));
        } else if !self.offline() {
            self.set(table, key, None);
        }
    }

    /// Forgets waiting rows of `table` whose key starts with `prefix`.
    pub(super) fn forget(&mut self, table: Table, prefix: &[u8]) {
        let matching = |(name, key): &&(Table, Vec<u8>)| *name == table && key.starts_with(prefix);
        let keys: Vec<_> = self.unsaved.keys().filter(matching).cloned().collect();
        keys.iter().for_each(|key| self.drop_waiting(key));
    }

    /// Forgets waiting rows of `table`, in key order, until no more than `bytes_max` wait in all; returns how many.
    pub(super) fn shed(&mut self, table: Table, bytes_max: usize) -> u64 {
        let mut dropped = 0;
        while self.unsaved_bytes > bytes_max {
            let first = self.unsaved.range((table, Vec::new())..).next().map(|(key, _)| key.clone());
            let Some(key) = first.filter(|(name, _)| *name == table) else { break };
            self.drop_waiting(&key);
            dropped += 1;
        }
        dropped
    }

    fn drop_waiting(&mut self, key: &(Table, Vec<u8>)) {
        if let Some(value) = self.unsaved.remove(key) {
            self.unsaved_bytes -= key.1.len() + value.map_or(0, |value| value.len());
        }
    }

    /// Whether the disk cannot even be read.
    pub(super) fn offline(&self) -> bool {
        self.disk.is_none()
    }

    /// Moves everything to disk in one transaction.
    ///
    /// `retry` says whether a disk that failed before is tried again: opening it reads the whole file, which is for a
    /// timer, not for each alert.
    pub(super) fn sync(&mut self, retry: bool) -> Synced {
        if self.trouble.is_some() && !retry {
            return Synced::InMemory;
        }
        match self.write() {
            Ok(()) => {
                self.trouble = None;
                if std::mem::take(&mut self.reopened) { Synced::Reopened } else { Synced::Durable }
            }
            Err(error) => {
                // A full disk can still be read, once it is opened anew.
                drop(self.reopen());
                self.trouble = Some(error.to_string());
                Synced::InMemory
            }
        }
    }

    fn write(&mut self) -> Result<(), DiskError> {
        if self.disk.is_none() {
            self.reopen()?;
        }
        if let (Some(disk), false) = (self.disk.as_ref(), self.unsaved.is_empty()) {
            let changes = self.unsaved.iter();
            disk.apply(changes.map(|((table, key), value)| (*table, key.as_slice(), value.as_deref())))?;
        }
        self.unsaved.clear();
        self.unsaved_bytes = 0;
        Ok(())
    }

    /// redb refuses all work after a failed write or read until it is opened again.
    fn fail(&mut self, error: &DiskError) {
        self.trouble = Some(error.to_string());
        self.disk = None;
    }

    /// The row under `key`.
    pub(super) fn get(&mut self, table: Table, key: &[u8]) -> Option<Vec<u8>> {
        if let Some(value) = self.unsaved.get(&(table, key.to_vec())) {
            return value.clone();
        }
        match self.disk.as_ref()?.get(table, key) {
            Ok(value) => value,
            Err(error) => {
                self.fail(&error);
                None
            }
        }
    }

    /// Up to `limit` rows from key `from` upward, in key order.
    pub(super) fn range(&mut self, table: Table, from: &[u8], limit: usize) -> Vec<Row> {
        let waiting: Vec<(&[u8], Option<&[u8]>)> = self
            .unsaved
            .range((table, from.to_vec())..)
            .take_while(|((name, _), _)| *name == table)
            .map(|((_, key), value)| (key.as_slice(), value.as_deref()))
            .collect();
        let mut rows = BTreeMap::new();
        let mut failure = None;
        if let Some(disk) = self.disk.as_ref() {
            // Rows that a waiting change replaces or removes do not count towards the limit.
            let wanted = limit.saturating_add(waiting.len());
            let scanned = disk.scan(table, from, &mut |key, value| {
                if rows.len() < wanted {
                    rows.insert(key.to_vec(), value.to_vec());
                }
                rows.len() < wanted
            });
            failure = scanned.err();
        }
        for (key, value) in waiting {
            match value {
                Some(value) => drop(rows.insert(key.to_vec(), value.to_vec())),
                None => drop(rows.remove(key)),
            }
        }
        if let Some(error) = failure {
            self.fail(&error);
        }
        rows.into_iter().take(limit).collect()
    }
}
