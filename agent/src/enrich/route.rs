//! A request's target in, the workload that got it out; and the workloads behind that one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lru::LruCache;
use serde::{Deserialize, Serialize};

use super::Enricher;
use super::listeners::{Listeners, Socket};
use super::monitor;
use super::process_table::{Process, ProcessTable};
use super::role::Role;
use super::topology::Topology;
use crate::event::{Actor, ProcessKey};
use crate::evidence::RouteBasis;
use crate::request::{AccessRecord, Target};
use crate::workload::Workload;

/// Workloads looked at behind a front: each of its requests is weighed on all of them.
const BEHIND_MAX: usize = 16;

/// Requests for this host name and path prefix belong to that workload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteRule {
    /// Host name, without port; any when empty.
    pub host: String,
    /// Beginning of the path; any when empty.
    pub path: String,
    /// Key of the workload, as `status` shows it: `unit:shop.service`, `pod:shop/web`.
    pub workload: String,
}

/// Which workload a request went to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Who owns the target's listener.
    pub owner: Option<ProcessKey>,
    /// How it was found.
    pub basis: RouteBasis,
}

impl Enricher {
    /// The workload a request's target is: by the listener that owns it, else by the address alone. `None` when the target
    /// is no address of this host.
    #[must_use]
    pub fn route(&self, target: Target) -> Option<Route> {
        match target {
            Target::Socket(socket) => self.route_socket(socket).or_else(|| self.route_address(socket.ip())),
            Target::Address(address) => self.route_address(address),
            Target::Lambda | Target::None | Target::Unlogged => None,
        }
    }

    /// The workload of a request: by its target, else by the configured routes.
    #[must_use]
    pub fn route_request(&self, record: &AccessRecord<'_>) -> Option<Route> {
        if let Target::Socket(socket) = record.target
            && let Some(then) = self.departed.find(socket, record.received)
        {
            return Some(then.clone());
        }
        let by_target = self.route(record.target);
        if by_target.as_ref().is_some_and(|route| route.basis == RouteBasis::Listener) {
            return by_target;
        }
        let by_rule = self.routes.iter().find(|(rule, _)| rule.matches(record)).and_then(|(_, workload)| {
            Some(Route { workload: Arc::clone(workload.as_ref()?), owner: None, basis: RouteBasis::Route })
        });
        by_rule.or(by_target)
    }

    /// The workloads that a request to `front` may be passed on to, on this host: the evidence of what it did may show there.
    pub fn behind(&mut self, front: &Route) -> &[Route] {
        let Self { topology, listeners, processes, cgroups, host, .. } = self;
        let known = Known { listeners, processes, cgroups, host };
        topology.behind(&front.workload.key, |topology| known.behind(topology, front))
    }

    pub(super) fn workload_of(&self, actor: &Actor) -> Arc<Workload> {
        self.known().workload(self.processes.get(actor.process), self.cgroup_of(actor))
    }

    pub(super) const fn known(&self) -> Known<'_> {
        let Self { listeners, processes, cgroups, host, .. } = self;
        Known { listeners, processes, cgroups, host }
    }

    fn route_socket(&self, target: SocketAddr) -> Option<Route> {
        let published = self.owns(target.ip()).then(|| self.published.find(target)).flatten();
        let container = published.and_then(|container| self.listeners.find(container));
        container.or_else(|| self.listeners.find(target)).map(|socket| self.known().route_to(socket))
    }

    /// An address without a known port: the one workload that listens there, else the host.
    fn route_address(&self, address: IpAddr) -> Option<Route> {
        if self.listeners.namespaces_of(address).is_empty() {
            return None;
        }
        let mut workloads: Vec<_> =
            self.listeners.on_address(address).map(|socket| self.known().workload_of_socket(socket)).collect();
        workloads.sort_unstable_by(|one, other| (&one.key, &one.cgroup).cmp(&(&other.key, &other.cgroup)));
        workloads.dedup_by(|one, other| one.key == other.key);
        let workload = match workloads.as_slice() {
            [alone] => Arc::clone(alone),
            _ => Arc::clone(&self.host),
        };
        Some(Route { workload, owner: None, basis: RouteBasis::Address })
    }
}

/// What is known of sockets and their workloads, apart from what is derived of it.
pub(super) struct Known<'e> {
    listeners: &'e Listeners,
    processes: &'e ProcessTable,
    cgroups: &'e LruCache<u64, Arc<Workload>>,
    host: &'e Arc<Workload>,
}

impl Known<'_> {
    /// The workload of a process in a cgroup.
    fn workload(&self, process: Option<&Process>, cgroup: u64) -> Arc<Workload> {
        let legacy = process.and_then(Process::legacy_workload);
        let told = Arc::clone(legacy.or_else(|| self.cgroups.peek(&cgroup)).unwrap_or(self.host));
        let watched = process.filter(|process| !process.is_launcher()).and_then(Process::watched);
        monitor::better(told, watched)
    }

    fn workload_of_process(&self, key: ProcessKey) -> Option<Arc<Workload>> {
        let process = self.processes.get(key)?;
        Some(self.workload(Some(process), process.cgroup))
    }

    pub(super) fn workload_of_socket(&self, socket: &Socket) -> Arc<Workload> {
        let owner = socket.owner().and_then(|owner| self.processes.get(owner));
        self.workload(owner, socket.cgroup)
    }

    /// The same for a socket that is released: its last owner is told apart.
    pub(super) fn workload_of_departed(&self, socket: &Socket, owner: ProcessKey) -> Arc<Workload> {
        self.workload(self.processes.get(owner), socket.cgroup)
    }

    fn route_to(&self, socket: &Socket) -> Route {
        Route { workload: self.workload_of_socket(socket), owner: socket.owner(), basis: RouteBasis::Listener }
    }

    /// Everything behind `front`, breadth first, each workload once.
    fn behind(&self, topology: &Topology, front: &Route) -> Vec<Route> {
        let mut found: Vec<Route> = vec![front.clone()];
        let mut at = 0;
        while let Some(from) = found.get(at).map(|route| route.workload.key.clone()) {
            let sockets =
                topology.listeners_behind(&from).filter_map(|(net_ns, local)| self.listeners.at(net_ns, local));
            let mut routes: Vec<Route> = sockets.map(|socket| self.route_to(socket)).collect();
            let passes_on = |owner: ProcessKey| {
                self.processes.get(owner).is_some_and(|process| process.image.role == Role::FrontServer)
            };
            if found.get(at).and_then(|route| route.owner).is_some_and(passes_on) {
                routes.extend(topology.portless().filter_map(|server| {
                    let workload = self.workload_of_process(server)?;
                    Some(Route { workload, owner: Some(server), basis: RouteBasis::Listener })
                }));
            }
            for route in routes {
                let known = found.iter().any(|other| other.workload.key == route.workload.key);
                if !known && found.len() <= BEHIND_MAX {
                    found.push(route);
                }
            }
            at += 1;
        }
        found.remove(0);
        found
    }
}

impl RouteRule {
    fn matches(&self, record: &AccessRecord<'_>) -> bool {
        let host_fits = self.host.is_empty() || host_of(record.authority).eq_ignore_ascii_case(self.host.as_bytes());
        host_fits && record.path_and_query.starts_with(self.path.as_bytes())
    }
}

/// The host name in `https://shop.example:443`; an address in brackets keeps them.
fn host_of(authority: &[u8]) -> &[u8] {
    let after_scheme = memchr::memmem::find(authority, b"://").map_or(0, |at| at + "://".len());
    let host = authority.get(after_scheme..).unwrap_or_default();
    let name_ends = host.iter().position(|byte| *byte == b']').unwrap_or(0);
    let port = host.iter().skip(name_ends).position(|byte| *byte == b':').map(|at| at + name_ends);
    host.get(..port.unwrap_or(host.len())).unwrap_or_default()
}
