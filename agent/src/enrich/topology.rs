//! Who passes requests on to whom on this host: a request that the balancer sent to nginx may be what broke php-fpm.
//!
//! Learned from contacts of a service's own processes with another workload's listener; what an application server on a Unix
//! socket serves cannot be seen and is taken to come from the web servers of the host. Bounded; forgets nothing that still
//! listens.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use super::Route;
use crate::event::ProcessKey;
use crate::workload::WorkloadKey;

/// Workloads whose connections are followed, and listeners followed of each: beyond, a front server's requests are looked for
/// on the workloads met first.
const FRONTS_MAX: usize = 4096;
const LISTENERS_PER_FRONT_MAX: usize = 64;

/// Application servers without a port.
const PORTLESS_MAX: usize = 1024;

/// What passes on to what.
#[derive(Debug, Default)]
pub(super) struct Topology {
    /// Listeners (network namespace, address) that a workload's services connect to.
    forwards: BTreeMap<WorkloadKey, BTreeSet<(u32, SocketAddr)>>,
    portless: BTreeSet<ProcessKey>,
    /// What lies behind each front, until something changes.
    found: HashMap<WorkloadKey, Vec<Route>>,
    refused: u64,
}

impl Topology {
    /// A service of `front` connected to a listener of another workload.
    pub(super) fn connects(&mut self, front: &WorkloadKey, net_ns: u32, listener: SocketAddr) {
        let listeners = self.forwards.get(front).map_or(0, BTreeSet::len);
        let known = self.forwards.get(front).is_some_and(|known| known.contains(&(net_ns, listener)));
        if known {
            return;
        }
        if listeners >= LISTENERS_PER_FRONT_MAX || (listeners == 0 && self.forwards.len() >= FRONTS_MAX) {
            self.refused += 1;
            return;
        }
        self.forwards.entry(front.clone()).or_default().insert((net_ns, listener));
        self.changed();
    }

    /// An application server started that listens on no port.
    pub(super) fn serves_without_port(&mut self, server: ProcessKey) {
        if self.portless.len() >= PORTLESS_MAX {
            self.refused += 1;
        } else if self.portless.insert(server) {
            self.changed();
        }
    }

    /// A process ended, or got a port after all.
    pub(super) fn no_longer_portless(&mut self, server: ProcessKey) {
        if self.portless.remove(&server) {
            self.changed();
        }
    }

    /// Listeners or workloads changed: what was found must be looked for anew.
    pub(super) fn changed(&mut self) {
        self.found.clear();
    }

    pub(super) fn listeners_behind(&self, front: &WorkloadKey) -> impl Iterator<Item = (u32, SocketAddr)> {
        self.forwards.get(front).into_iter().flatten().copied()
    }

    pub(super) fn portless(&self) -> impl Iterator<Item = ProcessKey> {
        self.portless.iter().copied()
    }

    /// What lies behind a front, looked for with `find` if that is not known.
    pub(super) fn behind(&mut self, front: &WorkloadKey, find: impl FnOnce(&Self) -> Vec<Route>) -> &[Route] {
        if !self.found.contains_key(front) {
            if self.found.len() >= FRONTS_MAX {
                self.found.clear();
            }
            let routes = find(self);
            self.found.insert(front.clone(), routes);
        }
        self.found.get(front).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }
}
