//! Fork, exec and exit in; who descends from whom out.
//!
//! A process keeps the parent it was forked from: reparenting does not cut its line, and an exited ancestor stays in the
//! table for as long as a descendant is in it. The table is bounded; it never reads /proc and never judges.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::role::Role;
use crate::event::{Actor, Exec, FileId, Fork, ProcessKey, ProcessSeen};
use crate::evidence::{ProcessNode, ServiceRoot};
use crate::timestamp::Timestamp;
use crate::workload::Workload;

/// Longest command line kept, in bytes. With 1 KiB a payload of some hundred base64 digits still stands in it whole;
/// without a bound, arguments alone would fill the memory the table is allowed.
const COMMAND_LINE_BYTES_MAX: usize = 1024;

/// Longest program path kept, in bytes (`PATH_MAX` of the kernel).
const EXE_PATH_BYTES_MAX: usize = 4096;

/// How many ancestors a lineage names. Process trees under a service are seldom deeper than eight; a longer chain is an
/// endless daemonisation, whose near end and service are what matters.
pub const LINEAGE_MAX: usize = 16;

/// One eviction at capacity removes this fraction of the table, so that its cost is spread over as many insertions.
const EVICTION_SHARE: usize = 16;

/// Bounds of the table.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Processes kept, exited ones included. Each takes about 250 bytes.
    pub max_processes: usize,
    /// Exited processes kept although no descendant needs them, for records that arrive after the exit.
    pub max_exited: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_processes: 131_072, max_exited: 8192 }
    }
}

/// What the table did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Processes taken in.
    pub admitted: u64,
    /// Exited processes dropped in the ordinary way.
    pub forgotten: u64,
    /// Exited processes that a descendant still needed, dropped because the table was full.
    pub evicted_exited: u64,
    /// Running processes dropped because the table was full: their lineage is incomplete from then on.
    pub evicted_running: u64,
    /// Processes whose exit was never seen, found out because their pid was given again.
    pub exits_missed: u64,
}

/// What a process runs, shared by all that were forked without a new program.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) exe_path: Arc<str>,
    pub(super) exe: FileId,
    pub(super) command_line: Arc<str>,
    pub(super) role: Role,
}

/// What is known of a process' workload beside its cgroup; inherited.
#[derive(Debug, Clone, Default)]
struct Belonging {
    /// Where cgroup v2 does not tell processes apart.
    legacy: Option<Arc<Workload>>,
    /// The container of the monitor that it descends from.
    watched: Option<Arc<Workload>>,
}

/// A child's own, filled up with its parent's.
fn inherited(own: Option<Arc<Belonging>>, parents: Option<Arc<Belonging>>) -> Option<Arc<Belonging>> {
    match (own, parents) {
        (Some(own), Some(parents)) if !Arc::ptr_eq(&own, &parents) => {
            let legacy = own.legacy.as_ref().or(parents.legacy.as_ref()).cloned();
            let watched = own.watched.as_ref().or(parents.watched.as_ref()).cloned();
            Some(Arc::new(Belonging { legacy, watched }))
        }
        (own, parents) => own.or(parents),
    }
}

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) parent: ProcessKey,
    pub(super) image: Arc<Image>,
    /// The service it descends from: its own when it listens, else its parent's at the fork. No exec takes it away.
    pub(super) service: Option<Arc<ServiceRoot>>,
    /// Nearly always nothing: one pointer, since there are many processes.
    belonging: Option<Arc<Belonging>>,
    pub(super) started: Timestamp,
    pub(super) cgroup: u64,
    admitted: u64,
    children: u32,
    pub(super) net_ns: u32,
    pub(super) uid: u32,
    running: bool,
    /// The parent is the one that forked it, rather than whoever adopted it since.
    pub(super) parent_certain: bool,
}

/// The table.
#[derive(Debug)]
pub(super) struct ProcessTable {
    config: Config,
    processes: HashMap<ProcessKey, Process>,
    /// The process a pid stands for now.
    running: HashMap<u32, ProcessKey>,
    /// Exited and without descendants here, oldest first; may name processes that are gone or have descendants again.
    exited: VecDeque<ProcessKey>,
    texts: Texts,
    nothing: Arc<Image>,
    /// Processes found to be gone, or dropped, without an exit record; taken by whoever keeps something of theirs.
    departed: Vec<ProcessKey>,
    counters: Counters,
}

impl ProcessTable {
    pub(super) fn new(config: Config) -> Self {
        let nothing = Image {
            exe_path: Arc::from(""),
            exe: FileId::default(),
            command_line: Arc::from(""),
            role: Role::Ordinary,
        };
        Self {
            config: Config { max_processes: config.max_processes.max(EVICTION_SHARE), ..config },
            processes: HashMap::new(),
            running: HashMap::new(),
            exited: VecDeque::new(),
            texts: Texts::default(),
            nothing: Arc::new(nothing),
            departed: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Processes that left without an exit record since the last call.
    pub(super) fn take_departed(&mut self) -> Vec<ProcessKey> {
        std::mem::take(&mut self.departed)
    }

    pub(super) const fn counters(&self) -> Counters {
        self.counters
    }

    pub(super) fn len(&self) -> usize {
        self.processes.len()
    }

    pub(super) fn get(&self, key: ProcessKey) -> Option<&Process> {
        self.processes.get(&key)
    }

    /// Takes in an actor that may be unknown, and what its record says of it.
    pub(super) fn observe(&mut self, actor: &Actor, at: Timestamp) {
        self.admit(actor.process, actor.parent, at);
        let Some(process) = self.processes.get_mut(&actor.process) else { return };
        process.uid = actor.uid;
        process.net_ns = actor.net_ns;
        if actor.cgroup != 0 {
            process.cgroup = actor.cgroup;
        }
    }

    /// The child starts as a copy of its parent. Its exec may have been read before its fork: what it runs then stays.
    pub(super) fn fork(&mut self, fork: &Fork, at: Timestamp) {
        self.admit(fork.actor.process, fork.actor.parent, at);
        self.admit(fork.child, fork.actor.process, at);
        self.set_parent(fork.child, fork.actor.process, at);
        let Some(parent) = self.processes.get(&fork.actor.process) else { return };
        let (image, service) = (Arc::clone(&parent.image), parent.service.clone());
        let belonging = parent.belonging.clone();
        let (cgroup, net_ns, uid) = (parent.cgroup, parent.net_ns, parent.uid);
        let Some(child) = self.processes.get_mut(&fork.child) else { return };
        child.service = child.service.take().or(service);
        child.belonging = inherited(child.belonging.take(), belonging);
        if child.image.exe_path.is_empty() {
            child.image = image;
            child.started = at;
        }
        if child.cgroup == 0 {
            (child.cgroup, child.net_ns, child.uid) = (cgroup, net_ns, uid);
        }
    }

    pub(super) fn exec(&mut self, exec: &Exec, at: Timestamp) {
        self.observe(&exec.actor, at);
        self.link_ancestors(&exec.actor.process, &exec.ancestors, at);
        let image = self.image(&exec.exe_path, exec.actor.exe, &exec.argv);
        if let Some(process) = self.processes.get_mut(&exec.actor.process) {
            process.image = image;
            process.started = at;
        }
    }

    pub(super) fn seen(&mut self, seen: &ProcessSeen, legacy_workload: Option<Arc<Workload>>, at: Timestamp) {
        self.observe(&seen.actor, at);
        let image = self.image(&seen.exe_path, seen.actor.exe, &seen.argv);
        if let Some(process) = self.processes.get_mut(&seen.actor.process) {
            process.image = image;
            process.started = seen.started.unwrap_or(at);
            if let Some(legacy) = legacy_workload {
                Arc::make_mut(process.belonging.get_or_insert_default()).legacy = Some(legacy);
            }
        }
    }

    pub(super) fn exit(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        if !std::mem::replace(&mut process.running, false) {
            return;
        }
        let childless = process.children == 0;
        if self.running.get(&key.pid) == Some(&key) {
            self.running.remove(&key.pid);
        }
        if childless {
            self.forget_later(key);
        }
    }

    /// Makes `key` the head of a service, or adds a listener to the one it is.
    pub(super) fn set_service(&mut self, key: ProcessKey, service: ServiceRoot) {
        if let Some(process) = self.processes.get_mut(&key) {
            process.service = Some(Arc::new(service));
        }
    }

    /// Makes `key` the monitor of a container: what it forks from now on is in it.
    pub(super) fn set_watched(&mut self, key: ProcessKey, container: Workload) {
        if let Some(process) = self.processes.get_mut(&key) {
            Arc::make_mut(process.belonging.get_or_insert_default()).watched = Some(Arc::new(container));
        }
    }

    /// The process and its ancestors, from itself upward, at most [`LINEAGE_MAX`].
    pub(super) fn lineage(&self, key: ProcessKey) -> impl Iterator<Item = (ProcessKey, &Process)> {
        let mut next = Some(key);
        std::iter::from_fn(move || {
            let key = next?;
            let process = self.processes.get(&key)?;
            next = Some(process.parent).filter(|parent| *parent != key);
            Some((key, process))
        })
        .take(LINEAGE_MAX)
    }

    /// What the kernel's own lineage adds where this table has gaps.
    fn link_ancestors(&mut self, key: &ProcessKey, ancestors: &[ProcessKey], at: Timestamp) {
        let mut child = *key;
        for ancestor in ancestors.iter().take(LINEAGE_MAX).filter(|ancestor| ancestor.pid != 0) {
            if self.processes.get(&child).is_some_and(|process| process.parent_certain) {
                child = *ancestor;
                continue;
            }
            self.admit(child, *ancestor, at);
            self.set_parent(child, *ancestor, at);
            child = *ancestor;
        }
    }

    /// Makes sure that `key` is in the table, and its parent with it, so that the line goes on when more is learned.
    fn admit(&mut self, key: ProcessKey, parent: ProcessKey, at: Timestamp) {
        if self.processes.contains_key(&key) {
            return;
        }
        if parent.pid != 0 && parent != key && !self.processes.contains_key(&parent) {
            self.insert(parent, ProcessKey::default(), at);
        }
        self.insert(key, parent, at);
    }

    fn insert(&mut self, key: ProcessKey, parent: ProcessKey, at: Timestamp) {
        if self.processes.len() >= self.config.max_processes {
            self.make_room();
        }
        if let Some(previous) = self.running.insert(key.pid, key) {
            self.counters.exits_missed += 1;
            self.departed.push(previous);
            self.exit(previous);
        }
        self.counters.admitted += 1;
        let inherited = self.processes.get_mut(&parent).map(|parent| {
            parent.children += 1;
            (parent.service.clone(), parent.belonging.clone())
        });
        let (service, belonging) = inherited.unwrap_or_default();
        let process = Process {
            parent,
            image: Arc::clone(&self.nothing),
            service,
            belonging,
            started: at,
            cgroup: 0,
            admitted: self.counters.admitted,
            children: 0,
            net_ns: 0,
            uid: 0,
            running: true,
            parent_certain: false,
        };
        self.processes.insert(key, process);
    }

    /// Fixes the parent for good.
    fn set_parent(&mut self, key: ProcessKey, parent: ProcessKey, at: Timestamp) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.parent_certain = true;
        let before = std::mem::replace(&mut process.parent, parent);
        if before == parent {
            return;
        }
        self.lose_child(before);
        if !self.processes.contains_key(&parent) {
            self.insert(parent, ProcessKey::default(), at);
        }
        if let Some(parent) = self.processes.get_mut(&parent) {
            parent.children += 1;
        }
    }

    fn lose_child(&mut self, parent: ProcessKey) {
        let Some(process) = self.processes.get_mut(&parent) else { return };
        process.children = process.children.saturating_sub(1);
        if process.children == 0 && !process.running {
            self.forget_later(parent);
        }
    }

    fn forget_later(&mut self, key: ProcessKey) {
        self.exited.push_back(key);
        while self.exited.len() > self.config.max_exited {
            self.forget_oldest();
        }
    }

    /// Drops the process that has been exited and childless for longest.
    fn forget_oldest(&mut self) -> bool {
        while let Some(key) = self.exited.pop_front() {
            if self.processes.get(&key).is_some_and(|process| !process.running && process.children == 0) {
                self.remove(key);
                self.counters.forgotten += 1;
                return true;
            }
        }
        false
    }

    fn remove(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.remove(&key) else { return };
        if self.running.get(&key.pid) == Some(&key) {
            self.running.remove(&key.pid);
        }
        if let Some(parent) = self.processes.get_mut(&process.parent) {
            parent.children = parent.children.saturating_sub(1);
            if parent.children == 0 && !parent.running {
                self.exited.push_back(process.parent);
            }
        }
    }

    /// At capacity: exited before running, leaves before those with descendants, heads of services last, oldest first.
    fn make_room(&mut self) {
        if self.forget_oldest() {
            return;
        }
        let mut ranked: Vec<_> = self
            .processes
            .iter()
            .map(|(key, process)| {
                let heads = process.service.as_ref().is_some_and(|service| service.process == *key);
                (process.running, heads, process.children > 0, process.admitted, *key)
            })
            .collect();
        let count = (self.config.max_processes / EVICTION_SHARE).max(1).min(ranked.len());
        ranked.select_nth_unstable(count - 1);
        ranked.truncate(count);
        ranked.sort_unstable();
        for (running, .., key) in ranked {
            self.remove(key);
            if running {
                self.departed.push(key);
            }
            let evicted = if running { &mut self.counters.evicted_running } else { &mut self.counters.evicted_exited };
            *evicted += 1;
        }
    }

    fn image(&mut self, exe_path: &str, exe: FileId, argv: &[String]) -> Arc<Image> {
        let mut path = String::new();
        push_printable(&mut path, cut(exe_path, EXE_PATH_BYTES_MAX));
        let line = command_line(argv);
        Arc::new(Image {
            exe_path: self.texts.shared(&path),
            exe,
            command_line: self.texts.shared(&line),
            role: Role::of(exe_path, argv),
        })
    }
}

impl Process {
    /// Its workload where cgroup v2 does not tell processes apart.
    pub(super) fn legacy_workload(&self) -> Option<&Arc<Workload>> {
        self.belonging.as_ref()?.legacy.as_ref()
    }

    /// The container of the monitor that it descends from.
    pub(super) fn watched(&self) -> Option<&Arc<Workload>> {
        self.belonging.as_ref()?.watched.as_ref()
    }

    /// Whether it starts other people's programs. Below a service it is a program like any other.
    pub(super) fn is_launcher(&self) -> bool {
        self.image.role == Role::Launcher && self.service.is_none()
    }

    /// As kept for explanation.
    pub(super) fn node(&self, process: ProcessKey) -> ProcessNode {
        ProcessNode {
            process,
            exe_path: Arc::clone(&self.image.exe_path),
            exe: self.image.exe,
            command_line: Arc::clone(&self.image.command_line),
            uid: self.uid,
            started: self.started,
        }
    }
}

/// Arguments joined with spaces, control characters escaped, bounded.
fn command_line(argv: &[String]) -> String {
    let mut line = String::new();
    for argument in argv {
        if line.len() >= COMMAND_LINE_BYTES_MAX {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        push_printable(&mut line, cut(argument, COMMAND_LINE_BYTES_MAX));
    }
    line.truncate(line.floor_char_boundary(COMMAND_LINE_BYTES_MAX));
    line
}

fn push_printable(to: &mut String, text: &str) {
    for letter in text.chars() {
        if letter.is_control() {
            to.extend(letter.escape_default());
        } else {
            to.push(letter);
        }
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

/// One copy of each text in use: a thousand workers share their path and arguments.
#[derive(Debug, Default)]
struct Texts {
    shared: HashSet<Arc<str>>,
    /// Size at which unused texts are swept out; twice what was in use at the last sweep, so that sweeping stays cheap.
    sweep_at: usize,
}

impl Texts {
    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.shared.get(text) {
            return Arc::clone(known);
        }
        if self.shared.len() >= self.sweep_at {
            self.shared.retain(|text| Arc::strong_count(text) > 1);
            self.sweep_at = (self.shared.len() * 2).max(1024);
        }
        let text: Arc<str> = Arc::from(text);
        self.shared.insert(Arc::clone(&text));
        text
    }
}

#[cfg(test)]
mod tests;
