//! Listening sockets in; which process serves an address and port out.
//!
//! A socket is known by its network namespace, address and port. It belongs to the process that called `listen` and is
//! shared by what that process forked (pre-fork servers): it is released when the last of them is gone. Bounded; what does
//! not fit is refused and counted, so that a process that opens sockets without end pushes nobody else's out.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::event::ProcessKey;
use crate::metadata::canonical;

/// Bounds of the table.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Listening sockets known at a time, over all namespaces.
    pub max_listeners: usize,
    /// Listening sockets of one process.
    pub max_listeners_per_process: usize,
    /// Processes that hold listening sockets, workers of pre-fork servers included.
    pub max_holders: usize,
    /// Network namespaces whose addresses are known.
    pub max_namespaces: usize,
    /// Addresses of one network namespace.
    pub max_addresses: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_listeners: 16_384,
            max_listeners_per_process: 256,
            max_holders: 65_536,
            max_namespaces: 4096,
            max_addresses: 1024,
        }
    }
}

/// What the table did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Sockets taken in.
    pub opened: u64,
    /// Sockets whose last holder is gone.
    pub released: u64,
    /// Sockets refused: a bound was reached.
    pub refused: u64,
    /// Holders not followed: the bound was reached; their socket may be released too early.
    pub holders_refused: u64,
    /// Namespaces or addresses refused: a bound was reached.
    pub addresses_refused: u64,
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) net_ns: u32,
    pub(super) local: SocketAddr,
    /// Who called `listen`, first come first; several with `SO_REUSEPORT`.
    owners: Vec<ProcessKey>,
    pub(super) cgroup: u64,
}

impl Socket {
    pub(super) fn owner(&self) -> Option<ProcessKey> {
        self.owners.first().copied()
    }
}

/// What one process opened, and how many hold it.
#[derive(Debug, Default)]
struct Group {
    sockets: Vec<(u32, SocketAddr)>,
    holders: usize,
}

/// The table.
#[derive(Debug)]
pub(super) struct Listeners {
    config: Config,
    by_port: HashMap<u16, Vec<Socket>>,
    len: usize,
    per_cgroup: HashMap<u64, usize>,
    groups: HashMap<ProcessKey, Group>,
    /// Which opener's sockets a process holds.
    holds: HashMap<ProcessKey, ProcessKey>,
    namespaces: BTreeMap<u32, Vec<IpAddr>>,
    owned_by: HashMap<IpAddr, Vec<u32>>,
    /// The namespace told first, the host's own: where two own the same loopback address, it counts.
    home: Option<u32>,
    /// Sockets released since they were last taken, each with its last owner.
    released: Vec<(Socket, ProcessKey)>,
    counters: Counters,
}

impl Listeners {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            by_port: HashMap::new(),
            len: 0,
            per_cgroup: HashMap::new(),
            groups: HashMap::new(),
            holds: HashMap::new(),
            namespaces: BTreeMap::new(),
            owned_by: HashMap::new(),
            home: None,
            released: Vec::new(),
            counters: Counters::default(),
        }
    }

    pub(super) const fn counters(&self) -> Counters {
        self.counters
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Takes in a socket. Whether it is known now: `false` when a bound refused it.
    pub(super) fn listen(&mut self, process: ProcessKey, cgroup: u64, net_ns: u32, local: SocketAddr) -> bool {
        let local = SocketAddr::new(canonical(local.ip()), local.port());
        if self.is_owner(process, net_ns, local) {
            return true;
        }
        let opened = self.groups.get(&process).map_or(0, |group| group.sockets.len());
        if self.len >= self.config.max_listeners || opened >= self.config.max_listeners_per_process {
            self.counters.refused += 1;
            return false;
        }
        let sockets = self.by_port.entry(local.port()).or_default();
        match sockets.iter_mut().find(|socket| socket.net_ns == net_ns && socket.local == local) {
            Some(socket) => socket.owners.push(process),
            None => {
                sockets.push(Socket { net_ns, local, owners: vec![process], cgroup });
                *self.per_cgroup.entry(cgroup).or_default() += 1;
                self.len += 1;
                self.counters.opened += 1;
            }
        }
        self.hold(process, process);
        self.groups.entry(process).or_default().sockets.push((net_ns, local));
        true
    }

    /// A fork: the child holds what its parent holds.
    pub(super) fn fork(&mut self, parent: ProcessKey, child: ProcessKey) {
        if let Some(opener) = self.holds.get(&parent).copied() {
            self.hold(child, opener);
        }
    }

    /// Makes a process one of the holders of `opener`'s sockets.
    pub(super) fn hold(&mut self, process: ProcessKey, opener: ProcessKey) {
        if self.holds.get(&process) == Some(&opener) {
            return;
        }
        if self.holds.len() >= self.config.max_holders && !self.holds.contains_key(&process) {
            self.counters.holders_refused += 1;
            return;
        }
        // The new group exists before the old one is left, which may be empty then.
        self.groups.entry(opener).or_default().holders += 1;
        if let Some(before) = self.holds.insert(process, opener) {
            self.leave(before);
        }
    }

    /// A process ended, or runs another program now and so closed what it had inherited.
    pub(super) fn let_go(&mut self, process: ProcessKey) {
        if let Some(opener) = self.holds.remove(&process) {
            self.leave(opener);
        }
    }

    /// Whose sockets the process holds.
    pub(super) fn opener_of(&self, process: ProcessKey) -> Option<ProcessKey> {
        self.holds.get(&process).copied()
    }

    /// Whether `process` called `listen` on this very socket.
    pub(super) fn is_owner(&self, process: ProcessKey, net_ns: u32, local: SocketAddr) -> bool {
        let local = SocketAddr::new(canonical(local.ip()), local.port());
        self.groups.get(&process).is_some_and(|group| group.sockets.contains(&(net_ns, local)))
    }

    /// What a process listens on, sorted.
    pub(super) fn of_process(&self, process: ProcessKey) -> Vec<SocketAddr> {
        let sockets = self.groups.get(&process).map(|group| group.sockets.as_slice()).unwrap_or_default();
        let mut locals: Vec<_> = sockets.iter().map(|(_, local)| *local).collect();
        locals.sort_unstable();
        locals.dedup();
        locals
    }

    /// Whether anything in the namespace listens on this port.
    pub(super) fn has_port(&self, net_ns: u32, port: u16) -> bool {
        self.by_port.get(&port).is_some_and(|sockets| sockets.iter().any(|socket| socket.net_ns == net_ns))
    }

    /// Whether anything in the cgroup listens.
    pub(super) fn in_cgroup(&self, cgroup: u64) -> bool {
        self.per_cgroup.contains_key(&cgroup)
    }

    /// Replaces the addresses of a namespace.
    pub(super) fn set_addresses(&mut self, net_ns: u32, addresses: &[IpAddr]) {
        if !self.namespaces.contains_key(&net_ns) && self.namespaces.len() >= self.config.max_namespaces {
            self.counters.addresses_refused += 1;
            return;
        }
        self.home.get_or_insert(net_ns);
        let refused = addresses.len().saturating_sub(self.config.max_addresses);
        self.counters.addresses_refused += refused as u64;
        let now: Vec<IpAddr> =
            addresses.iter().take(self.config.max_addresses).map(|address| canonical(*address)).collect();
        for address in self.namespaces.insert(net_ns, now.clone()).unwrap_or_default() {
            if let Some(owners) = self.owned_by.get_mut(&address) {
                owners.retain(|owner| *owner != net_ns);
                if owners.is_empty() {
                    self.owned_by.remove(&address);
                }
            }
        }
        for address in now {
            let owners = self.owned_by.entry(address).or_default();
            if !owners.contains(&net_ns) {
                owners.push(net_ns);
            }
        }
    }

    /// Namespaces that own `address`, in no order that matters.
    pub(super) fn namespaces_of(&self, address: IpAddr) -> &[u32] {
        self.owned_by.get(&canonical(address)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The socket that receives what is sent to `target`: bound to the very address before any wildcard, the address's own
    /// family before a dual-stack one; of equals the host's own namespace, then the lowest number.
    pub(super) fn find(&self, target: SocketAddr) -> Option<&Socket> {
        let address = canonical(target.ip());
        self.by_port
            .get(&target.port())?
            .iter()
            .filter_map(|socket| Some((self.fit(socket, address)?, socket)))
            .min_by_key(|(fit, socket)| (*fit, self.home != Some(socket.net_ns), socket.net_ns))
            .map(|(_, socket)| socket)
    }

    /// The socket bound to exactly this.
    pub(super) fn at(&self, net_ns: u32, local: SocketAddr) -> Option<&Socket> {
        self.by_port.get(&local.port())?.iter().find(|socket| socket.net_ns == net_ns && socket.local == local)
    }

    /// The socket that a process in namespace `net_ns` reaches at `target`: loopback is its own namespace's.
    pub(super) fn find_from(&self, net_ns: u32, target: SocketAddr) -> Option<&Socket> {
        let address = canonical(target.ip());
        if !address.is_loopback() {
            return self.find(target);
        }
        let sockets = self.by_port.get(&target.port())?.iter().filter(|socket| socket.net_ns == net_ns);
        sockets
            .filter_map(|socket| Some((self.fit(socket, address)?, socket)))
            .min_by_key(|(fit, _)| *fit)
            .map(|(_, socket)| socket)
    }

    /// Sockets released since the last call: to be asked after every event, so that few are held here.
    pub(super) fn take_released(&mut self) -> Vec<(Socket, ProcessKey)> {
        std::mem::take(&mut self.released)
    }

    /// Addresses and port at which a socket answers: a wildcard at every address of its namespace.
    pub(super) fn answers_at(&self, socket: &Socket) -> Vec<SocketAddr> {
        let bound = socket.local.ip();
        if !bound.is_unspecified() {
            return vec![socket.local];
        }
        let addresses = self.namespaces.get(&socket.net_ns).map(Vec::as_slice).unwrap_or_default();
        let fits = addresses.iter().filter(|address| address.is_ipv4() || bound.is_ipv6());
        fits.map(|address| SocketAddr::new(*address, socket.local.port())).collect()
    }

    /// Every socket that answers on `address`, whatever its port.
    pub(super) fn on_address(&self, address: IpAddr) -> impl Iterator<Item = &Socket> {
        let address = canonical(address);
        self.by_port.values().flatten().filter(move |socket| self.fit(socket, address).is_some())
    }

    /// How well a socket's address fits: 0 exact, 1 wildcard, 2 dual-stack wildcard; `None` when it does not.
    fn fit(&self, socket: &Socket, address: IpAddr) -> Option<u8> {
        let bound = socket.local.ip();
        if bound == address {
            return Some(0);
        }
        if !bound.is_unspecified() || !self.namespaces_of(address).contains(&socket.net_ns) {
            return None;
        }
        match (bound.is_ipv4(), address.is_ipv4()) {
            (true, true) | (false, false) => Some(1),
            // IPV6_V6ONLY is not known: most servers leave it off (net.ipv6.bindv6only = 0, RFC 3493 5.3).
            (false, true) => Some(2),
            (true, false) => None,
        }
    }

    fn leave(&mut self, opener: ProcessKey) {
        let Some(group) = self.groups.get_mut(&opener) else { return };
        group.holders = group.holders.saturating_sub(1);
        if group.holders > 0 {
            return;
        }
        let Some(group) = self.groups.remove(&opener) else { return };
        for (net_ns, local) in group.sockets {
            self.release(opener, net_ns, local);
        }
    }

    fn release(&mut self, opener: ProcessKey, net_ns: u32, local: SocketAddr) {
        let Some(sockets) = self.by_port.get_mut(&local.port()) else { return };
        let Some(at) = sockets.iter().position(|socket| socket.net_ns == net_ns && socket.local == local) else {
            return;
        };
        let Some(socket) = sockets.get_mut(at) else { return };
        socket.owners.retain(|owner| *owner != opener);
        if !socket.owners.is_empty() {
            return;
        }
        let socket = sockets.remove(at);
        let cgroup = socket.cgroup;
        self.released.push((socket, opener));
        if let Some(count) = self.per_cgroup.get_mut(&cgroup) {
            *count -= 1;
            if *count == 0 {
                self.per_cgroup.remove(&cgroup);
            }
        }
        if sockets.is_empty() {
            self.by_port.remove(&local.port());
        }
        self.len -= 1;
        self.counters.released += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: u32 = 1;
    const POD: u32 = 2;

    fn key(pid: u32) -> ProcessKey {
        ProcessKey { pid, start_ticks: 1 }
    }

    fn socket(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn table(listens: &[(u32, u32, &str)]) -> Listeners {
        let mut listeners = Listeners::new(Config::default());
        listeners.set_addresses(HOST, &["127.0.0.1", "10.0.0.5", "2001:db8::5"].map(|text| text.parse().expect("ip")));
        listeners.set_addresses(POD, &["127.0.0.1", "10.1.0.9"].map(|text| text.parse().expect("ip")));
        for (pid, net_ns, local) in listens {
            assert!(listeners.listen(key(*pid), 0, *net_ns, socket(local)));
        }
        listeners
    }

    #[test]
    fn the_closest_socket_answers() {
        let listeners = table(&[
            (1, HOST, "0.0.0.0:80"),
            (2, HOST, "[::]:80"),
            (3, HOST, "10.0.0.5:8080"),
            (4, HOST, "0.0.0.0:8080"),
            (5, POD, "0.0.0.0:80"),
            (6, POD, "127.0.0.1:9000"),
            (7, HOST, "127.0.0.1:9000"),
            (8, HOST, "[::]:8443"),
            (9, POD, "[::ffff:10.1.0.9]:7000"),
        ]);
        let check = |target: &str, pid: Option<u32>| {
            let owner = listeners.find(socket(target)).and_then(Socket::owner);
            assert_eq!(owner, pid.map(key), "{target}");
        };
        check("10.0.0.5:80", Some(1));
        check("[2001:db8::5]:80", Some(2));
        check("[::ffff:10.0.0.5]:80", Some(1));
        check("10.0.0.5:8080", Some(3));
        check("127.0.0.1:8080", Some(4));
        check("10.1.0.9:80", Some(5));
        check("127.0.0.1:9000", Some(7));
        check("10.0.0.5:8443", Some(8));
        check("10.1.0.9:7000", Some(9));
        // Another host's address, and a port nobody listens on.
        check("10.0.0.6:80", None);
        check("10.0.0.5:81", None);
    }

    #[test]
    fn a_socket_lives_as_long_as_a_holder() {
        let mut listeners = table(&[(10, HOST, "0.0.0.0:80")]);
        listeners.fork(key(10), key(11));
        listeners.fork(key(11), key(12));
        listeners.let_go(key(10));
        listeners.let_go(key(12));
        // The opener stays its name: workers descend from it.
        assert_eq!(listeners.find(socket("10.0.0.5:80")).and_then(Socket::owner), Some(key(10)));
        listeners.let_go(key(11));
        assert_eq!(listeners.find(socket("10.0.0.5:80")), None);
        assert_eq!((listeners.len(), listeners.counters().released), (0, 1));
    }

    #[test]
    fn a_shared_port_passes_to_the_next_owner() {
        let mut listeners = table(&[(10, HOST, "0.0.0.0:80"), (20, HOST, "0.0.0.0:80")]);
        listeners.let_go(key(10));
        assert_eq!(listeners.find(socket("10.0.0.5:80")).and_then(Socket::owner), Some(key(20)));
    }

    #[test]
    fn a_worker_that_listens_itself_keeps_both() {
        let mut listeners = table(&[(10, HOST, "0.0.0.0:80")]);
        listeners.fork(key(10), key(11));
        assert!(listeners.listen(key(11), 0, HOST, socket("127.0.0.1:6060")));
        assert_eq!(listeners.find(socket("10.0.0.5:80")).and_then(Socket::owner), Some(key(10)));
        listeners.let_go(key(11));
        assert_eq!(listeners.find(socket("127.0.0.1:6060")), None);
    }

    #[test]
    fn bounds_refuse_and_count() {
        let mut listeners = Listeners::new(Config {
            max_listeners: 3,
            max_listeners_per_process: 2,
            max_holders: 2,
            max_namespaces: 1,
            max_addresses: 1,
        });
        let mut listen =
            |pid: u32, port: u16| listeners.listen(key(pid), 0, HOST, SocketAddr::new([0, 0, 0, 0].into(), port));
        assert_eq!(
            [listen(1, 1), listen(1, 2), listen(1, 3), listen(2, 4), listen(2, 5)],
            [true, true, false, true, false]
        );
        listeners.fork(key(1), key(3));
        listeners.set_addresses(HOST, &[[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]);
        listeners.set_addresses(POD, &[[10, 0, 0, 3].into()]);
        let counters = listeners.counters();
        assert_eq!((counters.refused, counters.holders_refused, counters.addresses_refused), (2, 1, 2));
    }
}
