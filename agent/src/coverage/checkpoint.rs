//! What was counted, as bytes and back: an agent that is restarted goes on telling how well it sees from before.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::day::Day;
use super::delays::Delays;
use super::{Balancer, Coverage, ONE_START, Watched};
use crate::incident::coverage::EdgeCoverage;
use crate::request::Target;
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

/// Version of the saved form; a changed meaning takes a new one.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    now: Timestamp,
    since: Option<Timestamp>,
    halved: Timestamp,
    workloads: Vec<(WorkloadKey, SavedWatched)>,
    balancers: Vec<(Vec<u8>, SavedBalancer)>,
    targets: Vec<(SocketAddr, WorkloadKey)>,
    ports: BTreeMap<u16, WorkloadKey>,
    losses: BTreeMap<String, Day>,
    unread: u64,
}

#[derive(Serialize, Deserialize)]
struct SavedWatched {
    since: Timestamp,
    edge: EdgeCoverage,
    delays: Vec<(usize, u32)>,
    listens_on: Option<SocketAddr>,
    starts: BTreeMap<String, Timestamp>,
    instances: Day,
    portless: Option<SocketAddr>,
    elsewhere: u64,
}

#[derive(Serialize, Deserialize)]
struct SavedBalancer {
    lines: u64,
    matched: u64,
    delays: Vec<(usize, u32)>,
    latest: Timestamp,
    unmatched: Option<Target>,
}

/// Why a saved memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not the saved form.
    #[error("the saved coverage is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// Written by another version.
    #[error("the saved coverage has format {found}, this agent reads {VERSION}")]
    Version {
        /// The format found.
        found: u32,
    },
}

impl Coverage {
    /// Everything counted, to be saved: bounded as the tables are, some 300 bytes for each workload. The same counts give the
    /// same bytes.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        // The least recently heard of first: that order is what makes room later.
        let saved = Saved {
            version: VERSION,
            now: self.now,
            since: self.since,
            halved: self.halved,
            workloads: self
                .workloads
                .iter()
                .rev()
                .map(|(key, watched)| (key.clone(), SavedWatched::of(watched)))
                .collect(),
            balancers: self
                .balancers
                .iter()
                .rev()
                .map(|(name, seen)| (name.to_vec(), SavedBalancer::of(seen)))
                .collect(),
            targets: self.targets.iter().rev().map(|(socket, key)| (*socket, key.clone())).collect(),
            ports: self.ports.iter().map(|(port, key)| (*port, key.clone())).collect(),
            losses: self.losses.clone(),
            unread: self.unread,
        };
        // Plain data with string keys always has a JSON form.
        serde_json::to_vec(&saved).unwrap_or_default()
    }

    /// Goes on with what [`Coverage::checkpoint`] gave. Listeners that are found again within a minute of the first
    /// [`Coverage::advance`] after it are the old ones, not new instances.
    ///
    /// # Errors
    ///
    /// The bytes are damaged or another version's; nothing is changed then.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let saved: Saved = serde_json::from_slice(bytes)?;
        if saved.version != VERSION {
            return Err(CheckpointError::Version { found: saved.version });
        }
        (self.now, self.since, self.halved) = (saved.now, saved.since, saved.halved);
        saved.workloads.into_iter().for_each(|(key, watched)| drop(self.workloads.put(key, watched.into())));
        saved.balancers.into_iter().for_each(|(name, seen)| drop(self.balancers.put(name.into(), seen.into())));
        saved.targets.into_iter().for_each(|(socket, key)| drop(self.targets.put(socket, key)));
        self.ports = saved.ports.into_iter().collect();
        self.losses = saved.losses;
        self.unread = saved.unread;
        self.found_again_until = None;
        self.restored = true;
        Ok(())
    }

    /// Whether a listener met now may be one from before the restart.
    pub(super) fn found_again(&self, at: Timestamp) -> bool {
        self.found_again_until.map_or(self.restored, |until| at <= until)
    }

    /// The first time told after a restart.
    pub(super) fn resumed(&mut self) {
        if self.restored && self.found_again_until.is_none() {
            self.found_again_until = Some(self.now.plus(ONE_START));
        }
    }
}

impl SavedWatched {
    fn of(watched: &Watched) -> Self {
        Self {
            since: watched.since,
            edge: watched.edge.clone(),
            delays: watched.delays.save(),
            listens_on: watched.listens_on,
            starts: watched.starts.clone(),
            instances: watched.instances.clone(),
            portless: watched.portless,
            elsewhere: watched.elsewhere,
        }
    }
}

impl From<SavedWatched> for Watched {
    fn from(saved: SavedWatched) -> Self {
        Self {
            since: saved.since,
            edge: saved.edge,
            delays: Delays::of(&saved.delays),
            listens_on: saved.listens_on,
            starts: saved.starts,
            instances: saved.instances,
            portless: saved.portless,
            elsewhere: saved.elsewhere,
        }
    }
}

impl SavedBalancer {
    fn of(balancer: &Balancer) -> Self {
        Self {
            lines: balancer.lines,
            matched: balancer.matched,
            delays: balancer.delays.save(),
            latest: balancer.latest,
            unmatched: balancer.unmatched,
        }
    }
}

impl From<SavedBalancer> for Balancer {
    fn from(saved: SavedBalancer) -> Self {
        Self {
            lines: saved.lines,
            matched: saved.matched,
            delays: Delays::of(&saved.delays),
            latest: saved.latest,
            unmatched: saved.unmatched,
        }
    }
}
