//! The spool: alerts on their way to the sinks. In: records in order, each with its severity. Out: for each sink, what
//! it has not had yet.
//!
//! Each sink has a cursor of its own; a record leaves when every sink is past it. Bounded by count and bytes: when
//! full, the oldest record of the lowest severity goes first, and is counted. A sequence number is never used twice.

use std::collections::{BTreeMap, BTreeSet};

use super::buffer::WriteBuffer;
use super::disk::Table;
use crate::incident::Severity;

/// Rows read at a time while the index is built, so that a full spool does not double in memory.
const LOAD_ROWS: usize = 64;

/// What the key of a sink's cursor starts with, in the cursor table.
pub(super) const SINK_PREFIX: &str = "sink:";

/// Bounds of the spool.
#[derive(Copy, Clone, Debug)]
pub(super) struct Bounds {
    pub(super) records: usize,
    pub(super) bytes: u64,
}

/// A record as a sink gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolRecord {
    /// Place in the spool; grows from record to record, with gaps.
    pub sequence: u64,
    /// How bad it is.
    pub severity: Severity,
    /// What [`super::Store::append`] was given.
    pub bytes: Vec<u8>,
}

/// What is in the spool, and how far each sink is. The records themselves are rows.
#[derive(Debug, Default)]
pub(super) struct Spool {
    next: u64,
    /// Severity and size of each record.
    index: BTreeMap<u64, (Severity, u64)>,
    /// The same by severity: the first one is the next to go.
    order: BTreeSet<(Severity, u64)>,
    bytes: u64,
    /// Highest sequence each sink is done with.
    sinks: BTreeMap<String, u64>,
}

impl Spool {
    /// Reads the index from the rows. Numbers start above everything in sight and not below `floor`, so that a
    /// spool begun while the disk was away does not reuse a number.
    pub(super) fn load(buffer: &mut WriteBuffer, floor: u64) -> Self {
        let mut spool = Self { next: floor, ..Self::default() };
        let mut from = Vec::new();
        loop {
            let rows = buffer.range(Table::Spool, &from, LOAD_ROWS);
            for (key, value) in &rows {
                if let (Some(sequence), Some((severity, bytes))) = (number(key), unpack(value)) {
                    spool.insert(sequence, severity, bytes.len() as u64);
                }
            }
            match rows.last() {
                Some((key, _)) if rows.len() == LOAD_ROWS => from = [key.as_slice(), &[0]].concat(),
                _ => break,
            }
        }
        for (_, value) in buffer.range(Table::Cursor, SINK_PREFIX.as_bytes(), usize::MAX) {
            spool.next = spool.next.max(number(&value).map_or(0, |done| done.saturating_add(1)));
        }
        spool
    }

    fn insert(&mut self, sequence: u64, severity: Severity, bytes: u64) {
        self.next = self.next.max(sequence.saturating_add(1));
        self.index.insert(sequence, (severity, bytes));
        self.order.insert((severity, sequence));
        self.bytes += bytes;
    }

    /// Names the sinks that records wait for, each with the cursor it left behind.
    pub(super) fn open_sinks(&mut self, buffer: &mut WriteBuffer, names: &[&str]) {
        let cursor = |name: &&str| {
            let row = buffer.get(Table::Cursor, cursor_key(name).as_slice());
            ((*name).to_owned(), row.and_then(|value| number(&value)).unwrap_or(0))
        };
        self.sinks = names.iter().map(cursor).collect();
        self.release(buffer);
    }

    /// The sinks' names.
    pub(super) fn sinks(&self) -> Vec<String> {
        self.sinks.keys().cloned().collect()
    }

    /// Adds a record; returns its number. The caller syncs.
    pub(super) fn push(&mut self, buffer: &mut WriteBuffer, severity: Severity, bytes: &[u8]) -> u64 {
        let sequence = self.next;
        buffer.set(Table::Spool, sequence.to_be_bytes().to_vec(), Some(pack(severity, bytes)));
        self.insert(sequence, severity, bytes.len() as u64);
        sequence
    }

    /// Drops records until the bounds hold; returns how many.
    pub(super) fn trim(&mut self, buffer: &mut WriteBuffer, bounds: Bounds) -> u64 {
        let mut dropped = 0;
        while self.index.len() > bounds.records || self.bytes > bounds.bytes {
            let Some(&(_, sequence)) = self.order.first() else { break };
            self.remove(buffer, sequence);
            dropped += 1;
        }
        dropped
    }

    fn remove(&mut self, buffer: &mut WriteBuffer, sequence: u64) {
        if let Some((severity, bytes)) = self.index.remove(&sequence) {
            self.order.remove(&(severity, sequence));
            self.bytes -= bytes;
            buffer.cancel(Table::Spool, sequence.to_be_bytes().to_vec());
        }
    }

    /// What `sink` has not had yet: the next records in order, at least one where there is any, else within both
    /// limits.
    pub(super) fn pending(
        &self,
        buffer: &mut WriteBuffer,
        sink: &str,
        records_max: usize,
        bytes_max: u64,
    ) -> Vec<SpoolRecord> {
        let done = self.sinks.get(sink).copied().unwrap_or(0);
        let mut bytes = 0;
        let mut pending = Vec::new();
        for (&sequence, &(severity, size)) in self.index.range(done.saturating_add(1)..).take(records_max) {
            bytes += size;
            if bytes > bytes_max && !pending.is_empty() {
                break;
            }
            let row = buffer.get(Table::Spool, &sequence.to_be_bytes());
            if let Some((_, bytes)) = row.as_deref().and_then(unpack) {
                pending.push(SpoolRecord { sequence, severity, bytes: bytes.to_vec() });
            }
        }
        pending
    }

    /// `sink` is done with everything up to `sequence`. The caller need not sync: what a kill makes it forget is sent
    /// again.
    pub(super) fn advance(&mut self, buffer: &mut WriteBuffer, sink: &str, sequence: u64) {
        let Some(done) = self.sinks.get_mut(sink) else { return };
        *done = sequence.max(*done);
        buffer.set(Table::Cursor, cursor_key(sink), Some(done.to_be_bytes().to_vec()));
        self.release(buffer);
    }

    /// Removes what every sink has had; without sinks there is nobody to wait for.
    fn release(&mut self, buffer: &mut WriteBuffer) {
        let done = self.sinks.values().min().copied().unwrap_or(u64::MAX);
        while let Some((&sequence, _)) = self.index.first_key_value() {
            if sequence > done {
                break;
            }
            self.remove(buffer, sequence);
        }
    }

    /// The number that the next record gets.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Records waiting.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn cursor_key(sink: &str) -> Vec<u8> {
    format!("{SINK_PREFIX}{sink}").into_bytes()
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// One byte of severity, then the record.
fn pack(severity: Severity, bytes: &[u8]) -> Vec<u8> {
    let severity = match severity {
        Severity::Low => 0,
        Severity::Medium => 1,
        Severity::High => 2,
        Severity::Critical => 3,
    };
    [&[severity], bytes].concat()
}

fn unpack(row: &[u8]) -> Option<(Severity, &[u8])> {
    let (severity, bytes) = row.split_first()?;
    let severity = match severity {
        0 => Severity::Low,
        1 => Severity::Medium,
        2 => Severity::High,
        3 => Severity::Critical,
        _ => return None,
    };
    Some((severity, bytes))
}
