//! How well each workload is seen: do its edge lines arrive, how late, how are they joined, what was lost. In: every line with
//! the route that was found for it, listeners as they open, losses. Out: [`Report`], and one workload's part of it for an incident.
//!
//! It decides nothing and changes no incident. Pure: the time is the caller's. Bounded: workloads, balancers and targets have
//! limits, the one heard of longest ago makes room and is counted. What was counted outlives a restart ([`Coverage::checkpoint`]).

mod checkpoint;
mod day;
mod delays;
mod gaps;
mod report;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use serde::Serialize;

pub use self::checkpoint::CheckpointError;
use self::day::Day;
use self::delays::Delays;
pub use self::report::{BalancerCoverage, Report};
use crate::enrich::Route;
use crate::event::Loss;
use crate::evidence::RouteBasis;
use crate::incident::coverage::EdgeCoverage;
use crate::request::{AccessRecord, Target};
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

/// Workloads kept (about 1.5 KiB each): as many as the correlator's default times a half; a host has hundreds at most.
const WORKLOADS_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// Balancers kept; their names come from log lines.
const BALANCERS_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
/// Listening addresses kept after their end, so that a late line for one is recognised.
const TARGETS_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
/// Two starts in one cgroup this close together are workers of one server.
const ONE_START: Duration = Duration::from_secs(60);
/// After this, old delays count half: the answer is about now.
const HALF_LIFE: Duration = Duration::from_secs(86_400);

/// What was let go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Workloads that had to go for a newer one.
    pub workloads_evicted: u64,
    /// Balancers that had to go for a newer one.
    pub balancers_evicted: u64,
}

/// One workload, as far as coverage goes.
#[derive(Debug)]
struct Watched {
    since: Timestamp,
    edge: EdgeCoverage,
    delays: Delays,
    listens_on: Option<SocketAddr>,
    /// Starts of its instances, by cgroup.
    starts: BTreeMap<String, Timestamp>,
    instances: Day,
    /// A target that has the host's address and nobody's port, as an example.
    portless: Option<SocketAddr>,
    /// Lines for its port at an address that is not this host's.
    elsewhere: u64,
}

/// One balancer.
#[derive(Debug, Default)]
struct Balancer {
    lines: u64,
    matched: u64,
    delays: Delays,
    latest: Timestamp,
    /// A target that is no address of this host, as an example.
    unmatched: Option<Target>,
}

/// The stage.
#[derive(Debug)]
pub struct Coverage {
    now: Timestamp,
    since: Option<Timestamp>,
    halved: Timestamp,
    /// How long evidence is remembered for a late line.
    remembered: Duration,
    workloads: LruCache<WorkloadKey, Watched>,
    balancers: LruCache<Box<[u8]>, Balancer>,
    /// Listening sockets by their exact address, and by port where they listen on every address.
    targets: LruCache<SocketAddr, WorkloadKey>,
    ports: HashMap<u16, WorkloadKey>,
    losses: BTreeMap<String, Day>,
    unread: u64,
    /// The counts are an earlier run's, and until when listeners found are those it had.
    restored: bool,
    found_again_until: Option<Timestamp>,
    counters: Counters,
}

impl Coverage {
    /// A stage that saw nothing yet; evidence is remembered for `remembered`.
    #[must_use]
    pub fn new(remembered: Duration) -> Self {
        Self {
            now: Timestamp::MIN,
            since: None,
            halved: Timestamp::MIN,
            remembered,
            workloads: LruCache::new(WORKLOADS_MAX),
            balancers: LruCache::new(BALANCERS_MAX),
            targets: LruCache::new(TARGETS_MAX),
            ports: HashMap::new(),
            losses: BTreeMap::new(),
            unread: 0,
            restored: false,
            found_again_until: None,
            counters: Counters::default(),
        }
    }

    /// Time passes; never back.
    pub fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.resumed();
        if self.since.is_none() {
            (self.since, self.halved) = (Some(self.now), self.now);
        }
        if self.now.since(self.halved) >= HALF_LIFE {
            self.halved = self.now;
            self.workloads.iter_mut().for_each(|(_, watched)| watched.delays.halve());
            self.balancers.iter_mut().for_each(|(_, balancer)| balancer.delays.halve());
        }
    }

    /// A line arrived, and this is the route found for it.
    pub fn line(&mut self, record: &AccessRecord<'_>, route: Option<&Route>) {
        let delay = self.now.since(record.completed);
        self.balancer(record, delay, route.is_some());
        match route {
            Some(route) => self.joined(record, delay, route),
            None => self.unmatched(record.target),
        }
    }

    /// A line that could not be read.
    pub fn unread(&mut self) {
        self.unread += 1;
    }

    /// A workload listens; `cgroup` tells its instances apart.
    pub fn listens(&mut self, workload: &WorkloadKey, cgroup: &str, local: SocketAddr, at: Timestamp) {
        let found_again = self.found_again(at);
        let watched = self.watched(workload, at);
        watched.listens_on = watched.listens_on.or(Some(local));
        let before = watched.starts.insert(cgroup.to_owned(), at);
        if !(found_again && before.is_some()) && before.is_none_or(|before| at.since(before) > ONE_START) {
            watched.instances.add(at, 1);
        }
        while watched.starts.len() > day::HOURS {
            watched.starts.pop_first();
        }
        if local.ip().is_unspecified() {
            self.ports.insert(local.port(), workload.clone()); // 65,536 of them at most
        } else {
            self.targets.put(local, workload.clone());
        }
    }

    /// Kernel records were lost.
    pub fn loss(&mut self, loss: &Loss, at: Timestamp) {
        // Senses are a handful, named by the agent itself.
        self.losses.entry(loss.sense.clone()).or_default().add(at, loss.count);
    }

    /// What was let go.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    fn watched(&mut self, workload: &WorkloadKey, at: Timestamp) -> &mut Watched {
        if !self.workloads.contains(workload) && self.workloads.len() == self.workloads.cap().get() {
            self.counters.workloads_evicted += 1;
        }
        self.workloads.get_or_insert_mut_ref(workload, || Watched {
            since: at,
            edge: EdgeCoverage::default(),
            delays: Delays::default(),
            listens_on: None,
            starts: BTreeMap::new(),
            instances: Day::default(),
            portless: None,
            elsewhere: 0,
        })
    }

    fn balancer(&mut self, record: &AccessRecord<'_>, delay: Duration, matched: bool) {
        if self.balancers.peek(record.balancer).is_none() {
            self.counters.balancers_evicted += u64::from(self.balancers.len() == self.balancers.cap().get());
            self.balancers.put(record.balancer.into(), Balancer::default());
        }
        let Some(balancer) = self.balancers.get_mut(record.balancer) else { return };
        balancer.lines += 1;
        balancer.matched += u64::from(matched);
        balancer.delays.add(delay);
        balancer.latest = balancer.latest.max(record.completed);
        if !matched && matches!(record.target, Target::Socket(_) | Target::Address(_)) {
            balancer.unmatched = Some(record.target);
        }
    }

    fn joined(&mut self, record: &AccessRecord<'_>, delay: Duration, route: &Route) {
        let (now, remembered) = (self.now, self.remembered);
        let watched = self.watched(&route.workload.key, now);
        let edge = &mut watched.edge;
        edge.lines += 1;
        edge.latest = Some(now);
        edge.too_late += u64::from(delay > remembered);
        watched.delays.add(delay);
        match (route.basis, record.target) {
            (RouteBasis::Listener, _) => edge.by_listener += 1,
            (RouteBasis::Route, _) => edge.by_route += 1,
            (RouteBasis::Address, target) => {
                edge.by_address += 1;
                if let Target::Socket(socket) = target {
                    watched.portless = Some(socket);
                }
            }
        }
    }

    fn unmatched(&mut self, target: Target) {
        let Target::Socket(socket) = target else { return };
        if let Some(watched) = self.targets.peek(&socket).and_then(|gone| self.workloads.peek_mut(gone)) {
            watched.edge.after_end += 1;
        } else if let Some(watched) = self.ports.get(&socket.port()).and_then(|other| self.workloads.peek_mut(other)) {
            watched.elsewhere += 1;
        }
    }
}

#[cfg(test)]
mod tests;
