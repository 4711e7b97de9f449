//! The one reader of /proc and cgroupfs: what was there before the first kernel record, and what a record leaves out.
//!
//! Answers are facts in the form of events ([`HostEventKind::Process`], [`HostEventKind::Cgroup`], …), to be observed, and
//! recorded, before the event that asked for them. What cannot be read (gone, not permitted, too large) is left out and
//! counted: an alert never waits for it, and no file here can fail the agent.

mod addresses;
mod cgroups;
mod container_state;
mod identity;
mod processes;
mod sockets;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use serde::{Deserialize, Serialize};

use super::role::Role;
use crate::event::{Actor, AddressesSeen, CgroupSeen, HostEvent, HostEventKind, ProcessKey, ProcessSeen};
use crate::timestamp::Timestamp;
use cgroups::Cgroups;
use identity::Identities;
use processes::Snapshot;

/// Ancestors read at most for one event whose parent is not known.
const ANCESTORS_MAX: usize = 16;

/// Namespaces whose addresses were read lately, for the rate bound; the oldest goes first and is read again.
const NAMESPACES_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Launchers remembered: init, and a shim for each container.
const LAUNCHERS_MAX: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

/// How much is remembered and how often a miss may cost a scan.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Processes remembered as already told. One that drops out is read again when it is met again.
    pub max_processes: NonZeroUsize,
    /// Cgroups remembered as already told; keep it below the enricher's own bound.
    pub max_cgroups: NonZeroUsize,
    /// Least time between two walks over all of cgroupfs, which an unknown cgroup id may cost.
    #[serde(with = "crate::config::duration")]
    pub rescan_every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        const MAX_PROCESSES: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");
        const MAX_CGROUPS: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");
        Self { max_processes: MAX_PROCESSES, max_cgroups: MAX_CGROUPS, rescan_every: Duration::from_secs(1) }
    }
}

/// What the resolver read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Processes read because a record named one that was not known.
    pub processes_read: u64,
    /// Such processes that were gone already.
    pub processes_gone: u64,
    /// Cgroup ids resolved.
    pub cgroups_read: u64,
    /// Cgroup ids that could not be resolved when they were met.
    pub cgroups_missed: u64,
    /// Walks over all of cgroupfs.
    pub scans: u64,
}

/// The reader, with what it has told already.
#[derive(Debug)]
pub struct Resolver {
    cgroups: Cgroups,
    identities: Identities,
    told_cgroups: LruCache<u64, ()>,
    told_processes: LruCache<ProcessKey, ()>,
    /// Processes that move what they start to another cgroup; looked for only where cgroup v2 tells nothing apart.
    launchers: LruCache<ProcessKey, ()>,
    /// When a namespace's addresses were read last.
    addresses_read: LruCache<u32, Timestamp>,
    rescan_every: Duration,
    counters: Counters,
}

impl Resolver {
    /// Finds the cgroup hierarchies of this host. Where there is no cgroup v2, workloads come from v1's `name=systemd`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            cgroups: Cgroups::find(),
            identities: Identities::new(),
            told_cgroups: LruCache::new(config.max_cgroups),
            told_processes: LruCache::new(config.max_processes),
            launchers: LruCache::new(LAUNCHERS_MAX),
            addresses_read: LruCache::new(NAMESPACES_MAX),
            rescan_every: config.rescan_every,
            counters: Counters::default(),
        }
    }

    /// Everything there is now: cgroups, addresses, processes with parents before children, listening sockets. All at `at`.
    pub fn snapshot(&mut self, at: Timestamp) -> Vec<HostEvent> {
        self.identities.learn_installed();
        let tree = self.cgroups.walk(at);
        let snapshot = Snapshot::read(&tree.members, &self.cgroups, at);
        let mut facts: Vec<HostEventKind> = tree.cgroups.into_iter().map(HostEventKind::Cgroup).collect();
        let namespaces = snapshot.namespaces();
        facts.extend(
            namespaces.iter().filter_map(|(net_ns, pid)| addresses::read(*net_ns, *pid)).map(HostEventKind::Addresses),
        );
        let listens = sockets::listening(&namespaces, &snapshot);
        facts.extend(snapshot.into_processes().map(HostEventKind::Process));
        facts.extend(listens.into_iter().map(HostEventKind::Listen));
        let events: Vec<HostEvent> = facts.into_iter().map(|kind| HostEvent { at, kind }).collect();
        for event in &events {
            self.remember(event);
        }
        events
    }

    /// Addresses and listening sockets as they are now: they change without a record that would tell. Cheap enough for once
    /// a minute.
    #[must_use]
    pub fn refresh(&self, at: Timestamp) -> Vec<HostEvent> {
        let snapshot = Snapshot::read(&BTreeMap::new(), &self.cgroups, at);
        let namespaces = snapshot.namespaces();
        let addresses =
            namespaces.iter().filter_map(|(net_ns, pid)| addresses::read(*net_ns, *pid)).map(HostEventKind::Addresses);
        let listens = sockets::listening(&namespaces, &snapshot).into_iter().map(HostEventKind::Listen);
        addresses.chain(listens).map(|kind| HostEvent { at, kind }).collect()
    }

    /// What must be known before `event` is observed and is not known yet. Mostly nothing: then it costs two
    /// look-ups, and for an exec a look at its file's change time.
    pub fn facts_for(&mut self, event: &HostEvent) -> Vec<HostEvent> {
        let mut facts = Vec::new();
        if let Some(actor) = actor_of(&event.kind) {
            self.cgroup_of(actor, event.at, &mut facts);
            self.processes_of(event, actor, &mut facts);
        }
        match &event.kind {
            HostEventKind::Listen(listen) => {
                facts.extend(self.addresses_of(&listen.actor, event.at).map(HostEventKind::Addresses));
            }
            HostEventKind::Exec(exec) => {
                facts.extend(self.identities.check(exec, event.at).map(HostEventKind::Program))
            }
            _ => {}
        }
        let facts: Vec<HostEvent> = facts.into_iter().map(|kind| HostEvent { at: event.at, kind }).collect();
        for fact in &facts {
            self.remember(fact);
        }
        self.remember(event);
        facts
    }

    /// What the resolver read so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    fn remember(&mut self, event: &HostEvent) {
        match &event.kind {
            HostEventKind::Fork(fork) => {
                self.told_processes.put(fork.child, ());
            }
            HostEventKind::Exec(exec) => self.remember_process(&exec.actor, &exec.exe_path, &exec.argv),
            HostEventKind::Process(seen) => self.remember_process(&seen.actor, &seen.exe_path, &seen.argv),
            HostEventKind::Exit(exit) => {
                self.told_processes.pop(&exit.actor.process);
            }
            HostEventKind::Cgroup(seen) => {
                self.told_cgroups.put(seen.id, ());
            }
            _ => {}
        }
    }

    fn remember_process(&mut self, actor: &Actor, exe_path: &str, argv: &[String]) {
        self.told_processes.put(actor.process, ());
        if self.cgroups.tells_nothing(actor.cgroup) && Role::of(exe_path, argv) == Role::Launcher {
            self.launchers.put(actor.process, ());
        }
    }

    fn cgroup_of(&mut self, actor: &Actor, at: Timestamp, facts: &mut Vec<HostEventKind>) {
        if actor.cgroup == 0 || self.told_cgroups.get(&actor.cgroup).is_some() {
            return;
        }
        if let Some(seen) = self.cgroups.of_process(actor.process.pid, actor.cgroup) {
            self.counters.cgroups_read += 1;
            facts.push(HostEventKind::Cgroup(seen));
            return;
        }
        let scan_due = self.cgroups.last_walk().is_none_or(|last| at.distance(last) >= self.rescan_every);
        if scan_due {
            self.counters.scans += 1;
            let unknown = |seen: &CgroupSeen| self.told_cgroups.peek(&seen.id).is_none();
            facts.extend(self.cgroups.walk(at).cgroups.into_iter().filter(unknown).map(HostEventKind::Cgroup));
        }
        let found = facts.iter().any(|fact| matches!(fact, HostEventKind::Cgroup(seen) if seen.id == actor.cgroup));
        let counter = if found { &mut self.counters.cgroups_read } else { &mut self.counters.cgroups_missed };
        *counter += 1;
    }

    /// The actor and its ancestors, as far as they are not known; oldest first. A fork or exec introduces its own process.
    fn processes_of(&mut self, event: &HostEvent, actor: &Actor, facts: &mut Vec<HostEventKind>) {
        let start = match &event.kind {
            HostEventKind::Exit(_) | HostEventKind::Process(_) => return,
            HostEventKind::Exec(exec) if self.may_have_moved(actor) => {
                facts.extend(self.legacy_process(actor, &exec.exe_path, &exec.argv).map(HostEventKind::Process));
                actor.parent
            }
            HostEventKind::Exec(_) => actor.parent,
            _ => actor.process,
        };
        let mut unknown = Vec::new();
        let mut next = start;
        while next.pid != 0 && unknown.len() < ANCESTORS_MAX && self.told_processes.get(&next).is_none() {
            let Some(seen) = processes::read(next, actor, &self.cgroups, event.at) else {
                self.counters.processes_gone += 1;
                break;
            };
            self.counters.processes_read += 1;
            next = seen.actor.parent;
            unknown.push(seen);
        }
        facts.extend(unknown.into_iter().rev().map(HostEventKind::Process));
    }

    /// Whether a process may sit in another v1 cgroup than the one that forked it: launchers move their children before
    /// these start their program.
    fn may_have_moved(&self, actor: &Actor) -> bool {
        let launched = || actor.parent.pid == 1 || self.launchers.contains(&actor.parent);
        self.cgroups.tells_nothing(actor.cgroup) && launched()
    }

    /// Where cgroup v2 tells nothing apart, a process is told with its v1 path.
    fn legacy_process(&self, actor: &Actor, exe_path: &str, argv: &[String]) -> Option<ProcessSeen> {
        let legacy_cgroup = Some(self.cgroups.legacy_path(actor.process.pid)?);
        Some(ProcessSeen {
            actor: actor.clone(),
            exe_path: exe_path.to_owned(),
            argv: argv.to_vec(),
            legacy_cgroup,
            started: None,
        })
    }

    fn addresses_of(&mut self, actor: &Actor, at: Timestamp) -> Option<AddressesSeen> {
        let fresh = self.addresses_read.get(&actor.net_ns).is_some_and(|read| at.distance(*read) < self.rescan_every);
        if fresh {
            return None;
        }
        self.addresses_read.put(actor.net_ns, at);
        addresses::read(actor.net_ns, actor.process.pid)
    }
}

fn actor_of(kind: &HostEventKind) -> Option<&Actor> {
    match kind {
        HostEventKind::Exec(exec) => Some(&exec.actor),
        HostEventKind::Fork(fork) => Some(&fork.actor),
        HostEventKind::Exit(exit) => Some(&exit.actor),
        HostEventKind::Contact(contact) => Some(&contact.actor),
        HostEventKind::Listen(listen) => Some(&listen.actor),
        HostEventKind::MetadataRequest(request) => Some(&request.actor),
        HostEventKind::MetadataStatus(status) => Some(&status.actor),
        HostEventKind::RawSocket(made) => Some(&made.actor),
        HostEventKind::Process(_)
        | HostEventKind::Answer(_)
        | HostEventKind::Serving(_)
        | HostEventKind::Flow(_)
        | HostEventKind::Hello(_)
        | HostEventKind::Cgroup(_)
        | HostEventKind::Addresses(_)
        | HostEventKind::Program(_)
        | HostEventKind::Loss(_) => None,
    }
}

/// A file of /proc or a runtime, up to `bytes_max`; `None` when it cannot be read.
fn read_bounded(path: &std::path::Path, bytes_max: u64) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The same as text, undecodable bytes replaced.
fn read_text(path: &std::path::Path, bytes_max: u64) -> Option<String> {
    read_bounded(path, bytes_max).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
