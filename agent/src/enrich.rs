//! Host events in; who did it, on which workload, under which service out. Also: which workload an address and port is.
//!
//! [`Enricher`] is pure and knows nothing but what it was told: facts from /proc come in as events too
//! ([`procfs`] alone reads files), so a recording replays the same anywhere. It never judges.

mod departed;
pub mod listeners;
mod monitor;
pub(crate) mod names;
pub mod passive_dns;
pub mod process_table;
pub mod procfs;
mod published;
mod role;
mod route;
mod topology;
mod workload;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::event::{
    Actor, CgroupSeen, Connection, Contact, Exec, Fork, HostEvent, HostEventKind, Listen, NameAnswer, ProcessKey,
    ProcessSeen, Serving,
};
use crate::evidence::{Placement, ProcessNode, RouteBasis, ServiceRoot};
use crate::timestamp::Timestamp;
use crate::workload::Workload;
use departed::Departed;
use listeners::Listeners;
use passive_dns::{Named, PassiveDns};
use process_table::{LINEAGE_MAX, ProcessTable};
use published::Published;
use role::Role;
pub use route::{Route, RouteRule};
use topology::Topology;

/// Listeners named in a service root: enough to recognise it, few enough for every record.
const SERVICE_LISTENERS_MAX: usize = 16;

/// Starts of programs for which it is remembered who was at the other end; the one not asked about for longest goes first.
const SERVINGS_MAX: NonZeroUsize = NonZeroUsize::new(2048).expect("not zero");

/// Units that look names up on behalf of everybody, asked through sockets that carry no DNS (`nss-resolve`, `nscd`).
const RESOLVERS: [&str; 4] = ["systemd-resolved.service", "nscd.service", "unscd.service", "nsncd.service"];

/// What the stage may keep, and what it cannot see by itself.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bounds of the process table.
    pub processes: process_table::Config,
    /// Bounds of the listener table.
    pub listeners: listeners::Config,
    /// Cgroups whose workload is known; the one not met for longest goes first.
    pub max_cgroups: NonZeroUsize,
    /// Workloads of requests whose log does not name a target, or names one behind address translation. The first that
    /// matches counts.
    pub routes: Vec<RouteRule>,
}

impl Default for Config {
    fn default() -> Self {
        const MAX_CGROUPS: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");
        Self {
            processes: process_table::Config::default(),
            listeners: listeners::Config::default(),
            max_cgroups: MAX_CGROUPS,
            routes: Vec::new(),
        }
    }
}

/// What the stage did and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// The process table's.
    pub processes: process_table::Counters,
    /// The listener table's.
    pub listeners: listeners::Counters,
    /// Cgroups dropped because the bound was reached.
    pub cgroups_evicted: u64,
    /// Listeners that are gone and no longer remembered: late lines for them find no workload.
    pub departed_evicted: u64,
    /// Connections between workloads, and published ports, not followed because a bound was reached.
    pub forwards_refused: u64,
    /// Names looked up.
    pub names: passive_dns::Counters,
    /// Processes held now.
    pub processes_held: usize,
    /// Listening sockets held now.
    pub listeners_held: usize,
    /// Cgroups held now.
    pub cgroups_held: usize,
}

/// The stage.
#[derive(Debug)]
pub struct Enricher {
    processes: ProcessTable,
    listeners: Listeners,
    cgroups: LruCache<u64, Arc<Workload>>,
    cgroups_evicted: u64,
    /// Configured routes, each with its workload once that was met on this host.
    routes: Vec<(RouteRule, Option<Arc<Workload>>)>,
    host: Arc<Workload>,
    topology: Topology,
    published: Published,
    departed: Departed,
    names: PassiveDns,
    /// By the process that started a program.
    servings: LruCache<ProcessKey, Serving>,
}

impl Enricher {
    /// A stage that knows nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            processes: ProcessTable::new(config.processes),
            listeners: Listeners::new(config.listeners),
            cgroups: LruCache::new(config.max_cgroups),
            cgroups_evicted: 0,
            routes: config.routes.into_iter().map(|rule| (rule, None)).collect(),
            host: Arc::new(Workload::host()),
            topology: Topology::default(),
            published: Published::default(),
            departed: Departed::default(),
            names: PassiveDns::default(),
            servings: LruCache::new(SERVINGS_MAX),
        }
    }

    /// Learns what an event tells of processes, workloads and listeners. To be called before the event is judged.
    pub fn observe(&mut self, event: &HostEvent) {
        match &event.kind {
            HostEventKind::Fork(fork) => self.fork(fork, event.at),
            HostEventKind::Exec(exec) => self.exec(exec, event.at),
            HostEventKind::Exit(exit) => {
                self.gone(exit.actor.process);
                self.processes.exit(exit.actor.process);
            }
            HostEventKind::Process(seen) => self.seen(seen, event.at),
            HostEventKind::Listen(listen) => self.listen(listen, event.at),
            HostEventKind::Cgroup(seen) => self.cgroup(seen),
            HostEventKind::Addresses(seen) => self.listeners.set_addresses(seen.net_ns, &seen.addresses),
            HostEventKind::Contact(contact) => self.contact(contact, event.at),
            HostEventKind::MetadataRequest(request) => self.processes.observe(&request.actor, event.at),
            HostEventKind::RawSocket(made) => self.processes.observe(&made.actor, event.at),
            HostEventKind::Answer(answer) => self.answered(answer, event.at),
            HostEventKind::Serving(serving) => drop(self.servings.put(serving.child, serving.clone())),
            HostEventKind::MetadataStatus(_)
            | HostEventKind::Flow(_)
            | HostEventKind::Hello(_)
            | HostEventKind::Program(_)
            | HostEventKind::Loss(_) => {}
        }
        for departed in self.processes.take_departed() {
            self.gone(departed);
        }
        for (socket, owner) in self.listeners.take_released() {
            let workload = self.known().workload_of_departed(&socket, owner);
            for address in self.listeners.answers_at(&socket) {
                let (workload, owner) = (Arc::clone(&workload), Some(owner));
                self.departed.note(address, event.at, Route { workload, owner, basis: RouteBasis::Listener });
            }
        }
    }

    /// Where `actor` stands: its line, its workload, the service it descends from. `at` stands in for its start where the
    /// table does not hold it.
    #[must_use]
    pub fn place(&self, actor: &Actor, at: Timestamp) -> Placement {
        let mut lineage: Vec<ProcessNode> =
            self.processes.lineage(actor.process).map(|(key, process)| process.node(key)).collect();
        if lineage.is_empty() {
            lineage.push(unknown_process(actor, at));
        }
        let service = self.service_of(actor.process);
        // A chain of daemons may be longer than a lineage: its service is named all the same.
        if let Some(root) = service.as_ref().map(|service| service.process)
            && !lineage.iter().any(|node| node.process == root)
            && let Some(process) = self.processes.get(root)
        {
            lineage.truncate(LINEAGE_MAX - 1);
            lineage.push(process.node(root));
        }
        let service = service.map(|service| ServiceRoot::clone(&service));
        Placement { workload: self.workload_of(actor), lineage, service }
    }

    /// Whether what `actor` does may be the doing of someone who came in over the network: it descends from a service, or
    /// nobody can say what it descends from and its cgroup holds a service. What init, a container runtime, a login or
    /// cron started beside the service (`kubectl exec`, probes, `ExecReload=`) is not.
    #[must_use]
    pub fn is_exposed(&self, actor: &Actor) -> bool {
        let mut certain = true;
        for (key, process) in self.processes.lineage(actor.process) {
            if process.service.is_some() {
                return true;
            }
            // Init and runtimes adopt orphans: as a parent read from /proc they prove nothing.
            if (process.image.role == Role::Launcher || key.pid == 1) && certain {
                return false;
            }
            certain = process.parent_certain;
        }
        self.listeners.in_cgroup(self.cgroup_of(actor))
    }

    /// Whether `actor` is the head of a service and was started by nothing that belongs to one.
    #[must_use]
    pub fn heads_a_service_of_its_own(&self, actor: &Actor) -> bool {
        let mut line = self.processes.lineage(actor.process);
        let heads = line.next().and_then(|(key, process)| Some(process.service.as_ref()?.process == key));
        heads == Some(true) && line.all(|(_, process)| process.service.is_none())
    }

    /// What `actor`'s workload calls `address`.
    #[must_use]
    pub fn name_of(&self, actor: &Actor, address: IpAddr, at: Timestamp) -> Named<'_> {
        self.names.name_of(self.cgroup_of(actor), address, at)
    }

    /// The accepted connections that were being served when the first program of `actor`'s line was started, the latest used
    /// first: of the nearest ancestor, itself included, for whose start any is known.
    #[must_use]
    pub fn serving(&self, actor: &Actor) -> Vec<Connection> {
        let accepted = |key: ProcessKey| {
            let serving = self.servings.peek(&key)?;
            let own = |one: &&Connection| self.listeners.has_port(actor.net_ns, one.local.port());
            let found: Vec<Connection> = serving.connections.iter().filter(own).copied().collect();
            (!found.is_empty()).then_some(found)
        };
        let line = self.processes.lineage(actor.process).map(|(key, _)| key);
        std::iter::once(actor.process).chain(line).find_map(accepted).unwrap_or_default()
    }

    /// The connection that is descriptor 0, 1 or 2 of the program that `process` started.
    #[must_use]
    pub fn stdio_of(&self, process: ProcessKey) -> Option<Connection> {
        self.servings.peek(&process)?.stdio
    }

    /// Whether the address is this host's, in any of its network namespaces.
    #[must_use]
    pub fn owns(&self, address: IpAddr) -> bool {
        !self.listeners.namespaces_of(address).is_empty()
    }

    /// Every address of this host, in all of its network namespaces, sorted.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.listeners.addresses()
    }

    /// What the stage did and holds.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            processes: self.processes.counters(),
            listeners: self.listeners.counters(),
            cgroups_evicted: self.cgroups_evicted,
            departed_evicted: self.departed.evicted(),
            names: self.names.counters(),
            forwards_refused: self.topology.refused() + self.published.refused(),
            processes_held: self.processes.len(),
            listeners_held: self.listeners.len(),
            cgroups_held: self.cgroups.len(),
        }
    }

    fn answered(&mut self, answer: &NameAnswer, at: Timestamp) {
        let unit = self.cgroups.peek(&answer.cgroup).and_then(|workload| workload.unit.as_deref());
        let for_all = unit.is_some_and(|unit| RESOLVERS.contains(&unit));
        self.names.answered(answer, for_all, at);
    }

    fn gone(&mut self, process: ProcessKey) {
        if self.listeners.opener_of(process).is_some() {
            self.listeners.let_go(process);
            self.topology.changed();
        }
        self.topology.no_longer_portless(process);
        self.published.ended(process);
    }

    /// What a program that has just become known is apart from itself: an application server, a published port, the monitor of a
    /// container.
    fn recognise(&mut self, key: ProcessKey, exe_path: &str, argv: &[String]) {
        self.head_application_server(key);
        // Below a service it would be an intruder who sends requests elsewhere.
        if self.service_of(key).is_none() {
            self.published.started(key, exe_path, argv);
            if self.processes.get(key).is_some_and(process_table::Process::is_launcher)
                && let Some(container) = monitor::container_of(exe_path, argv)
            {
                self.processes.set_watched(key, container);
            }
        }
    }

    /// A service's own process reached another workload's listener: it passes requests on. What a shell below it reaches
    /// says nothing of the kind.
    fn contact(&mut self, contact: &Contact, at: Timestamp) {
        self.processes.observe(&contact.actor, at);
        let Some(socket) = self.listeners.find_from(contact.actor.net_ns, contact.peer) else { return };
        let exe_path = |key: ProcessKey| self.processes.get(key).map(|process| &process.image.exe_path);
        let Some(service) = self.service_of(contact.actor.process) else { return };
        let (front, back) = (self.workload_of(&contact.actor), self.known().workload_of_socket(socket));
        if exe_path(service.process) == exe_path(contact.actor.process) && front.key != back.key {
            self.topology.connects(&front.key, socket.net_ns, socket.local);
        }
    }

    fn fork(&mut self, fork: &Fork, at: Timestamp) {
        self.processes.fork(fork, at);
        let parent = fork.actor.process;
        if !self.processes.get(parent).is_some_and(process_table::Process::is_launcher) {
            self.listeners.fork(parent, fork.child);
        }
    }

    fn exec(&mut self, exec: &Exec, at: Timestamp) {
        let key = exec.actor.process;
        self.cgroups.promote(&exec.actor.cgroup);
        // The child of a vfork is told by its exec alone. The parent that this one names may be who adopted it.
        if let Some(forker) = exec.ancestors.first().filter(|forker| self.processes.get(**forker).is_some())
            && self.processes.get(key).is_none()
        {
            let actor = Actor { process: *forker, ..Actor::default() };
            self.fork(&Fork { actor, child: key }, at);
        }
        let before = self.processes.get(key).map(|process| Arc::clone(&process.image));
        self.processes.exec(exec, at);
        // Listening sockets are close-on-exec in servers, but for those that start themselves anew (nginx, haproxy, unicorn).
        let same = before.is_some_and(|image| {
            image.exe == exec.actor.exe && image.exe.inode != 0 || *image.exe_path == *exec.exe_path
        });
        if !same && self.listeners.opener_of(key) != Some(key) {
            self.listeners.let_go(key);
        }
        self.recognise(key, &exec.exe_path, &exec.argv);
    }

    fn seen(&mut self, seen: &ProcessSeen, at: Timestamp) {
        let legacy = seen.legacy_cgroup.as_ref().map(|path| {
            let path = CgroupSeen { id: 0, path: path.clone(), container_name: None, image: None, pod: None };
            Arc::new(workload::workload_of(&path))
        });
        self.processes.seen(seen, legacy, at);
        self.recognise(seen.actor.process, &seen.exe_path, &seen.argv);
    }

    /// An application server heads a service even if it only listens on a Unix socket. Below another one it is its worker.
    fn head_application_server(&mut self, key: ProcessKey) {
        let is_server = |key: ProcessKey| {
            self.processes.get(key).is_some_and(|process| process.image.role == Role::ApplicationServer)
        };
        let worker = self.service_of(key).is_some_and(|service| service.process != key && is_server(service.process));
        if is_server(key) && !worker && self.may_head(key) {
            let listeners = self.service_listeners(key);
            if listeners.is_empty() {
                self.topology.serves_without_port(key);
            }
            self.processes.set_service(key, ServiceRoot { process: key, listeners });
        }
    }

    fn listen(&mut self, listen: &Listen, at: Timestamp) {
        self.processes.observe(&listen.actor, at);
        let (key, net_ns) = (listen.actor.process, listen.actor.net_ns);
        self.topology.changed();
        self.topology.no_longer_portless(key);
        let opener = self
            .processes
            .lineage(key)
            .skip(1)
            .map(|(ancestor, _)| ancestor)
            .find(|ancestor| self.listeners.is_owner(*ancestor, net_ns, listen.local));
        if let Some(opener) = opener {
            self.listeners.hold(key, opener);
        } else if self.listeners.listen(key, self.cgroup_of(&listen.actor), net_ns, listen.local) && self.may_head(key)
        {
            self.processes.set_service(key, ServiceRoot { process: key, listeners: self.service_listeners(key) });
        }
    }

    fn service_listeners(&self, key: ProcessKey) -> Vec<SocketAddr> {
        let mut listeners = self.listeners.of_process(key);
        listeners.truncate(SERVICE_LISTENERS_MAX);
        listeners
    }

    /// Whether a process may be the head of a service. Launchers are not. Nor is what a service started through a shell or
    /// a relay: a bind shell's descendants still descend from the service that was broken into.
    fn may_head(&self, key: ProcessKey) -> bool {
        let Some(process) = self.processes.get(key) else { return false };
        if key.pid == 1 || process.is_launcher() {
            return false;
        }
        let mut through_shell = false;
        for (ancestor, process) in self.processes.lineage(key) {
            through_shell |= process.image.role == Role::Shell;
            match &process.service {
                Some(service) if service.process == key => return true,
                Some(service) if service.process == ancestor => return !through_shell,
                _ => {}
            }
        }
        process.service.is_none()
    }

    fn cgroup(&mut self, seen: &CgroupSeen) {
        let workload = Arc::new(workload::workload_of(seen));
        self.topology.changed();
        for (rule, known) in &mut self.routes {
            if rule.workload == workload.key.as_str() {
                *known = Some(Arc::clone(&workload));
            }
        }
        if let Some((id, _)) = self.cgroups.push(seen.id, workload)
            && id != seen.id
        {
            self.cgroups_evicted += 1;
        }
    }

    /// The nearest ancestor that heads a service; where the line is cut, the one it was born under.
    fn service_of(&self, key: ProcessKey) -> Option<Arc<ServiceRoot>> {
        let mut inherited = None;
        for (ancestor, process) in self.processes.lineage(key) {
            match &process.service {
                Some(service) if service.process == ancestor => return Some(Arc::clone(service)),
                Some(service) => inherited = inherited.or_else(|| Some(Arc::clone(service))),
                None => {}
            }
        }
        inherited
    }

    /// A record's cgroup; what /proc tells of a process leaves it out.
    fn cgroup_of(&self, actor: &Actor) -> u64 {
        match actor.cgroup {
            0 => self.processes.get(actor.process).map_or(0, |process| process.cgroup),
            cgroup => cgroup,
        }
    }
}

/// What an actor says of itself where the table does not hold it.
fn unknown_process(actor: &Actor, at: Timestamp) -> ProcessNode {
    ProcessNode {
        process: actor.process,
        exe_path: Arc::from(""),
        exe: actor.exe,
        command_line: Arc::from(""),
        uid: actor.uid,
        started: at,
    }
}

#[cfg(test)]
mod tests;
