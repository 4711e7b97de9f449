//! What hosts tell each other of what is normal. In: one [`Record`] for each host and workload. Out: a [`Fleet`], which says of a
//! habit how many hosts vouch for it.
//!
//! The fleet is derived from the set of records and from nothing else: arrival order, repetition and merging in any order give
//! the same. No host's word changes what others said. Against a host that lies: one host alone makes nothing normal where
//! another one knows the service too; of what a host took up after its learning time only so much a day is believed; a record
//! has bounds. A host's word is gone when its record is. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::profile::Kind;
use super::{Baseline, Config};
use crate::evidence::Prevalence;
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

/// Version of the record. A reader passes over records of other versions: hosts are not all updated at once.
const RECORD_VERSION: u32 = 1;

/// Bytes of a record: half of what a NATS server takes by default (`max_payload`, 1 MiB), so that it always gets through.
pub const RECORD_BYTES_MAX: usize = 512 << 10;

/// Habits told of each kind, the latest seen first. A service that does more different things is not one that others can know.
const TOLD_MAX: [(Kind, usize); 3] = [(Kind::Peer, 1024), (Kind::Caller, 64), (Kind::Shell, 256)];

/// Bytes of a habit's name; the longest that [`Baseline`] itself makes are below.
const NAME_BYTES_MAX: usize = 2048;

/// Records believed of one workload, and kept of all (some 20 KiB each, those of services elsewhere less): a fleet larger than this
/// is sampled, by name.
const HOSTS_MAX: usize = 64;
const RECORDS_MAX: usize = 4096;

/// Hosts that must vouch for a habit where so many know the service.
const QUORUM: u32 = 2;

/// A record dated further ahead than this is not believed: it would outlive every true one.
const AHEAD_MAX: Duration = Duration::from_secs(3600);

/// What one host knows of one workload: the versioned form in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// The host that says it.
    pub host: String,
    /// Of which workload.
    pub workload: WorkloadKey,
    /// When.
    pub taken: Timestamp,
    /// Since when the host knows the workload.
    first_seen: Timestamp,
    /// Each habit with when it began.
    habits: BTreeMap<Kind, BTreeMap<String, Timestamp>>,
}

impl Record {
    /// The serialised form; habits seen longest ago are left out until it fits.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Plain data with string keys always has a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a record from the bucket; `None` for anything that is none, of another version, or out of bounds.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > RECORD_BYTES_MAX {
            return None;
        }
        let record: Self = serde_json::from_slice(bytes).ok()?;
        let within = |(kind, max): &(Kind, usize)| record.habits.get(kind).is_none_or(|habits| habits.len() <= *max);
        let named = record.habits.values().flat_map(BTreeMap::keys).all(|name| name.len() <= NAME_BYTES_MAX);
        let fits = record.version == RECORD_VERSION && TOLD_MAX.iter().all(within) && named;
        fits.then_some(record)
    }

    /// Whether it says the same as another, whenever that was.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.first_seen == other.first_seen && self.habits == other.habits
    }

    /// The same of a service that is not this host's, though it may have the name of one: it is told apart by the word in its key.
    #[must_use]
    pub fn elsewhere(mut self, word: &str) -> Self {
        self.workload = WorkloadKey::new(&format!("elsewhere:{word}"));
        self
    }

    /// The habits that are believed: those of the learning time, and so many of each later day.
    fn believed(&self, config: &Config) -> impl Iterator<Item = (Kind, &str)> {
        const DAY_NANOS: i64 = 86_400_000_000_000;
        let mut later: Vec<_> =
            self.each().filter(|(.., first)| first.since(self.first_seen) >= config.learn_for).collect();
        later.sort_unstable_by_key(|(kind, name, first)| (*first, *kind, *name));
        let mut days: HashMap<i64, u32> = HashMap::new();
        later.retain(|(.., first)| {
            let day = days.entry(first.as_unix_nanos().div_euclid(DAY_NANOS)).or_default();
            *day += 1;
            *day <= config.additions_per_day
        });
        let learned = self.each().filter(|(.., first)| first.since(self.first_seen) < config.learn_for);
        learned.chain(later).map(|(kind, name, _)| (kind, name))
    }

    fn each(&self) -> impl Iterator<Item = (Kind, &str, Timestamp)> {
        self.habits.iter().flat_map(|(kind, habits)| habits.iter().map(|(name, first)| (*kind, name.as_str(), *first)))
    }
}

/// The word for a workload in the bucket's keys: the same on every host of one `group`, and no text of anybody's.
#[must_use]
pub fn token(group: &str, workload: &WorkloadKey) -> String {
    let digest = Sha256::digest(format!("{group}\0{workload}").as_bytes());
    digest[..10].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Records by workload and host: of two of the same host the later counts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Records(BTreeMap<(WorkloadKey, String), Record>);

impl Records {
    /// Takes in a record, unless a later one of the same host is there or there is no room. Of a service that does not run here
    /// (`own` says whether it does) only the peers are kept, and half of the room is not for it. Whether something changed.
    pub fn put(&mut self, mut record: Record, own: bool) -> bool {
        if !own {
            record.habits.retain(|kind, _| *kind == Kind::Peer);
        }
        let room = if own { RECORDS_MAX } else { RECORDS_MAX / 2 };
        let key = (record.workload.clone(), record.host.clone());
        // What it says decides between two of the same moment, so that order does not: it may have been taken for another service's
        // before, and only its peers kept.
        let order = |record: &Record| (record.taken, record.each().count(), record.to_bytes());
        match self.0.get(&key) {
            Some(known) if order(known) >= order(&record) => false,
            None if self.0.len() >= room => false,
            _ => {
                self.0.insert(key, record);
                true
            }
        }
    }

    /// Takes a host's record of a workload out. Whether it was there.
    pub fn remove(&mut self, workload_token: &str, host: &str, group: &str) -> bool {
        let before = self.0.len();
        let elsewhere = format!("elsewhere:{workload_token}");
        self.0.retain(|(workload, of), _| {
            of != host || token(group, workload) != workload_token && workload.as_str() != elsewhere
        });
        self.0.len() < before
    }

    /// Lets go of what is older than `forget_after`.
    pub fn forget(&mut self, forget_after: Duration, now: Timestamp) -> bool {
        let before = self.0.len();
        self.0.retain(|_, record| now.since(record.taken) < forget_after);
        self.0.len() < before
    }

    /// The serialised form of the records of these workloads, to be read after a restart while the bus is away.
    #[must_use]
    pub fn to_bytes(&self, workloads: &[WorkloadKey]) -> Vec<u8> {
        let own: Vec<&Record> = self.0.values().filter(|record| workloads.contains(&record.workload)).collect();
        serde_json::to_vec(&own).unwrap_or_default()
    }

    /// Reads the serialised form; what does not read is left out.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let list: Vec<Record> = serde_json::from_slice(bytes).unwrap_or_default();
        let mut records = Self::default();
        for record in list {
            records.put(record, true);
        }
        records
    }
}

/// What the hosts of a fleet know together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Fleet {
    services: HashMap<WorkloadKey, Service>,
    /// Hosts that contact a peer, whatever their service.
    peers: HashMap<String, u32>,
    hosts: u32,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Service {
    hosts: u32,
    since: Vec<Timestamp>,
    habits: HashMap<Kind, HashMap<String, u32>>,
}

impl Fleet {
    /// What these records amount to for the host `own`, whose own record says nothing that it does not know.
    #[must_use]
    pub fn of(records: &Records, own: &str, config: &Config, now: Timestamp) -> Self {
        let mut fleet = Self::default();
        let mut peers: BTreeMap<&str, HashMap<&str, ()>> = BTreeMap::new();
        let fresh = |record: &&Record| {
            record.host != own && now.since(record.taken) < config.forget_after && record.taken <= now.plus(AHEAD_MAX)
        };
        for record in records.0.values().filter(fresh) {
            let of_host = peers.entry(&record.host).or_default();
            let service = fleet.services.entry(record.workload.clone()).or_default();
            let counted = (service.hosts as usize) < HOSTS_MAX;
            if counted {
                service.hosts += 1;
                service.since.push(record.first_seen);
            }
            for (kind, name) in record.believed(config) {
                if kind == Kind::Peer {
                    of_host.insert(name, ());
                }
                if counted {
                    *service.habits.entry(kind).or_default().entry(name.to_owned()).or_default() += 1;
                }
            }
        }
        fleet.services.values_mut().for_each(|service| service.since.sort_unstable());
        fleet.hosts = u32::try_from(peers.len()).unwrap_or(u32::MAX);
        for name in peers.values().flat_map(HashMap::keys) {
            *fleet.peers.entry((*name).to_owned()).or_default() += 1;
        }
        fleet
    }

    /// Since when the service is known; `None` when it is not.
    pub(super) fn known_since(&self, workload: &WorkloadKey) -> Option<Timestamp> {
        let service = self.services.get(workload)?;
        service.since.get(service.quorum().saturating_sub(1) as usize).copied()
    }

    /// Whether enough hosts of the same service do it.
    pub(super) fn vouches(&self, workload: &WorkloadKey, kind: Kind, name: &str) -> bool {
        let Some(service) = self.services.get(workload) else { return false };
        service.hosts > 0 && service.count(kind, name) >= service.quorum()
    }

    /// How many hosts contact a peer; `None` where nobody shares anything.
    pub(super) fn prevalence(&self, workload: &WorkloadKey, name: &str) -> Option<Prevalence> {
        let service = self.services.get(workload);
        (self.hosts > 0).then(|| Prevalence {
            same: service.map_or(0, |service| service.count(Kind::Peer, name)),
            same_of: service.map_or(0, |service| service.hosts),
            any: self.peers.get(name).copied().unwrap_or(0),
            any_of: self.hosts,
        })
    }

    /// Hosts heard of.
    #[must_use]
    pub const fn hosts(&self) -> u32 {
        self.hosts
    }
}

impl Service {
    fn quorum(&self) -> u32 {
        QUORUM.min(self.hosts)
    }

    fn count(&self, kind: Kind, name: &str) -> u32 {
        self.habits.get(&kind).and_then(|habits| habits.get(name)).copied().unwrap_or(0)
    }
}

impl Baseline {
    /// What this host tells others: of each workload that is learned and has no open incident, the habits that count as known.
    #[must_use]
    pub fn records(&self, host: &str, at: Timestamp) -> Vec<Record> {
        let mut records: Vec<_> = self
            .profiles
            .iter()
            .filter(|(_, profile)| !profile.frozen && !profile.is_learning(&self.config, at))
            .map(|(workload, profile)| Record {
                version: RECORD_VERSION,
                host: host.to_owned(),
                workload: workload.clone(),
                taken: at,
                first_seen: profile.first_seen,
                habits: TOLD_MAX.map(|(kind, max)| (kind, profile.known(&self.config, kind, max, at))).into(),
            })
            .map(Record::bounded)
            .collect();
        records.sort_unstable_by(|one, other| one.workload.cmp(&other.workload));
        records
    }
}

impl Record {
    /// Leaves out names that are too long, then shells, until it fits.
    fn bounded(mut self) -> Self {
        self.habits.values_mut().for_each(|habits| habits.retain(|name, _| name.len() <= NAME_BYTES_MAX));
        while self.to_bytes().len() > RECORD_BYTES_MAX {
            let largest = self.habits.values_mut().max_by_key(|habits| habits.keys().map(String::len).sum::<usize>());
            let Some(largest) = largest else { break };
            let keep = largest.len() / 2;
            let names: Vec<String> = largest.keys().skip(keep).cloned().collect();
            for name in &names {
                largest.remove(name);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests;
