//! Incidents kept for later: the latest revision of each, and the revisions before it. In: one revision at a time. Out:
//! a list of summaries, or one incident's revisions.
//!
//! Bounded by count, bytes and age: the oldest of the lowest severity goes first. An old or repeated revision changes
//! nothing but its own row.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::buffer::WriteBuffer;
use super::disk::Table;
use crate::incident::Severity;
use crate::timestamp::Timestamp;

/// Revisions kept of one incident. A chain that goes on for days revises its incident again and again; each revision
/// holds everything the ones before it did.
const REVISIONS_MAX: usize = 16;

/// What bounds the incidents kept.
#[derive(Copy, Clone, Debug)]
pub(super) struct Bounds {
    pub(super) count: usize,
    pub(super) bytes: u64,
    pub(super) age: Duration,
}

/// One revision of an incident, as its JSON record and the few fields the store sorts by.
#[derive(Copy, Clone, Debug)]
pub struct Revision<'r> {
    /// The incident.
    pub id: &'r str,
    /// Which revision.
    pub number: u32,
    /// How bad.
    pub severity: Severity,
    /// One sentence.
    pub title: &'r str,
    /// Where.
    pub workload: &'r str,
    /// An operator expects it.
    pub expected: bool,
    /// Time of the latest evidence.
    pub last_seen: Timestamp,
    /// The record.
    pub json: &'r [u8],
}

/// An incident at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentSummary {
    /// The incident.
    pub id: String,
    /// Latest revision.
    pub revision: u32,
    /// Severity of that revision.
    pub severity: Severity,
    /// Its title.
    pub title: String,
    /// Where it happened.
    #[serde(default)]
    pub workload: String,
    /// An operator expects it: it was not delivered.
    #[serde(default)]
    pub expected: bool,
    /// Time of its latest evidence.
    pub last_seen: Timestamp,
    /// Revisions kept, and the size of each record in bytes.
    pub revisions: BTreeMap<u32, u64>,
}

/// Every incident's summary; the revisions themselves are rows.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    summaries: BTreeMap<String, IncidentSummary>,
    bytes: u64,
}

impl Incidents {
    /// Reads the summaries from their rows; one that does not read is passed over.
    pub(super) fn load(buffer: &mut WriteBuffer) -> Self {
        let rows = buffer.range(Table::Incident, &[], usize::MAX);
        let read = |(_, value): &(Vec<u8>, Vec<u8>)| serde_json::from_slice::<IncidentSummary>(value).ok();
        let summaries: BTreeMap<_, _> =
            rows.iter().filter_map(read).map(|summary| (summary.id.clone(), summary)).collect();
        let bytes = summaries.values().flat_map(|summary| summary.revisions.values()).sum();
        Self { summaries, bytes }
    }

    /// Keeps a revision. The caller syncs.
    pub(super) fn record(&mut self, buffer: &mut WriteBuffer, revision: &Revision<'_>) {
        let summary = self.summaries.entry(revision.id.to_owned()).or_insert_with(|| IncidentSummary {
            id: revision.id.to_owned(),
            revision: 0,
            severity: revision.severity,
            title: String::new(),
            workload: String::new(),
            expected: false,
            last_seen: revision.last_seen,
            revisions: BTreeMap::new(),
        });
        if revision.number >= summary.revision {
            summary.revision = revision.number;
            summary.severity = revision.severity;
            revision.title.clone_into(&mut summary.title);
            revision.workload.clone_into(&mut summary.workload);
            summary.expected = revision.expected;
            summary.last_seen = revision.last_seen;
        }
        let size = revision.json.len() as u64;
        self.bytes += size;
        self.bytes -= summary.revisions.insert(revision.number, size).unwrap_or(0);
        buffer.set(Table::Revision, key(revision.id, revision.number), Some(revision.json.to_vec()));
        while summary.revisions.len() > REVISIONS_MAX {
            let Some((number, size)) = summary.revisions.pop_first() else { break };
            self.bytes -= size;
            buffer.set(Table::Revision, key(revision.id, number), None);
        }
        // A summary of strings and numbers has a JSON form.
        let row = serde_json::to_vec(summary).unwrap_or_default();
        buffer.set(Table::Incident, revision.id.as_bytes().to_vec(), Some(row));
    }

    /// Drops incidents until the bounds hold at `now`; returns how many.
    pub(super) fn trim(&mut self, buffer: &mut WriteBuffer, bounds: Bounds, now: Timestamp) -> u64 {
        let oldest = now.minus(bounds.age);
        let expired = self.summaries.values().filter(|summary| summary.last_seen < oldest);
        let mut leaving: Vec<String> = expired.map(|summary| summary.id.clone()).collect();
        let mut dropped = 0;
        loop {
            while let Some(id) = leaving.pop() {
                self.remove(buffer, &id);
                dropped += 1;
            }
            if self.summaries.len() <= bounds.count && self.bytes <= bounds.bytes {
                return dropped;
            }
            let least = self.summaries.values().min_by_key(|summary| (summary.severity, summary.last_seen));
            leaving.extend(least.map(|summary| summary.id.clone()));
        }
    }

    fn remove(&mut self, buffer: &mut WriteBuffer, id: &str) {
        let Some(summary) = self.summaries.remove(id) else { return };
        buffer.set(Table::Incident, id.as_bytes().to_vec(), None);
        for (number, size) in summary.revisions {
            self.bytes -= size;
            buffer.set(Table::Revision, key(id, number), None);
        }
    }

    /// All of them, the latest evidence first.
    pub(super) fn list(&self) -> Vec<IncidentSummary> {
        let mut list: Vec<_> = self.summaries.values().cloned().collect();
        sort(&mut list);
        list
    }

    /// The JSON records of an incident's revisions, oldest first.
    pub(super) fn revisions(&self, buffer: &mut WriteBuffer, id: &str) -> Vec<Vec<u8>> {
        let numbers = self.summaries.get(id).into_iter().flat_map(|summary| summary.revisions.keys());
        numbers.filter_map(|number| buffer.get(Table::Revision, &key(id, *number))).collect()
    }

    /// Number of the latest revision of an incident.
    pub(super) fn latest(&self, id: &str) -> Option<u32> {
        self.summaries.get(id).map(|summary| summary.revision)
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.summaries.len()
    }
}

/// The latest evidence first.
pub(super) fn sort(list: &mut [IncidentSummary]) {
    list.sort_by(|one, other| other.last_seen.cmp(&one.last_seen).then_with(|| one.id.cmp(&other.id)));
}

/// Revisions of one incident stand together, in order.
fn key(id: &str, revision: u32) -> Vec<u8> {
    [prefix(id).as_slice(), &revision.to_be_bytes()].concat()
}

/// What the keys of an incident's revisions begin with.
pub(super) fn prefix(id: &str) -> Vec<u8> {
    [id.as_bytes(), &[0]].concat()
}
