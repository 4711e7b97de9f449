//! The range's network: the service's host on one side of a veth pair, the rest of the world on the other.
//!
//! ```text
//!  world (namespace 2)                                             the service's host (namespace 1)
//!  users, monitor, scanner, intruder -> load balancer 192.0.2.10 --- eth0 10.20.0.10  shop :8080
//!  metadata 169.254.169.254, [fd00:ec2::254]  <---------------------'  default route
//!  outside: payment provider 192.0.2.80, intruder's collector 203.0.113.66
//! ```
//!
//! Two namespaces and not one: a peer that sits on the service's own host is no egress, and a sensor would be right to
//! say so. Nothing leaves the machine, for neither
//! namespace has a way out. Both vanish with the last process in them.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use nix::sched::{CloneFlags, setns, unshare};

use super::DrillError;
use crate::netlink::Netlink;

/// The service's host.
pub(super) const SERVICE: SocketAddr = v4(10, 20, 0, 10, 8080);
/// The world's end of the wire: the load balancer reaches the service from here.
const WORLD: IpAddr = v4(10, 20, 0, 1, 0).ip();
/// The load balancer as its clients know it.
pub(super) const BALANCER: SocketAddr = v4(192, 0, 2, 10, 80);
/// The instance metadata service, at the address every cloud uses.
pub(super) const METADATA: SocketAddr = v4(169, 254, 169, 254, 80);
/// The same over IPv6, as on AWS Nitro instances.
pub(super) const METADATA_V6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), 80);
/// Where the service takes its payments: its one honest peer, in another network than the intruder's (a baseline keeps nameless
/// peers by their /24).
pub(super) const PAYMENTS: SocketAddr = v4(192, 0, 2, 80, 443);
/// Where the intruder collects what he steals.
pub(super) const COLLECTOR: SocketAddr = v4(203, 0, 113, 66, 80);
/// Where the intruder waits for a shell to call home.
pub(super) const HANDLER: SocketAddr = v4(203, 0, 113, 66, 4444);
/// An ordinary user.
pub(super) const USER: IpAddr = v4(198, 51, 100, 7, 0).ip();
/// The load balancer owner's uptime monitor.
pub(super) const MONITOR: IpAddr = v4(198, 51, 100, 8, 0).ip();
/// Somebody's scanner, asking everybody for everything.
pub(super) const SCANNER: IpAddr = v4(198, 51, 100, 99, 0).ip();
/// The intruder.
pub(super) const INTRUDER: IpAddr = v4(198, 51, 100, 23, 0).ip();

/// The documentation networks (RFC 5737). Answered for, not owned: an address that some interface of this machine has is no
/// outside to a sensor, and rightly so.
const PUBLIC_NETWORKS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 0, 2, 0), Ipv4Addr::new(198, 51, 100, 0), Ipv4Addr::new(203, 0, 113, 0)];

const SERVICE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd20, 0, 0, 0x20, 0, 0, 0, 0x10));
const WORLD_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd20, 0, 0, 0x20, 0, 0, 0, 1));

const fn v4(a: u8, b: u8, c: u8, d: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

/// The two namespaces, held open until their processes run.
pub(super) struct Network {
    service: File,
    world: File,
    /// The kernel gave the wire IPv6 addresses.
    pub(super) ipv6: bool,
}

impl Network {
    /// Makes both namespaces and the wire between them. Changes the calling thread's namespace: call it on a thread of
    /// its own.
    ///
    /// # Errors
    ///
    /// The step that failed, and the kernel's reason.
    pub(super) fn build() -> Result<Self, DrillError> {
        let service = new_namespace()?;
        step("bring up the service's loopback", Netlink::open().and_then(|link| link.link_up("lo")))?;
        let world = new_namespace()?;
        step("make the wire", Netlink::open().and_then(|link| lay_wire(&link, &service)))?;
        let mut network = Self { service, world, ipv6: false };
        network.enter_service_host()?;
        step("address the service's host", Netlink::open().and_then(|link| address_service(&link)))?;
        // A host with IPv6 switched off refuses the addresses; one scenario is lost by it, not the drill.
        let service_v6 = Netlink::open().and_then(|link| address_service_v6(&link));
        network.enter_world()?;
        let world_v6 = Netlink::open().and_then(|link| address_world_v6(&link));
        network.ipv6 = service_v6.and(world_v6).is_ok();
        Ok(network)
    }

    /// Moves the calling thread, and what it starts from now on, to the service's host.
    pub(super) fn enter_service_host(&self) -> Result<(), DrillError> {
        step("enter the service's namespace", enter(&self.service))
    }

    /// Moves the calling thread, and what it starts from now on, to the world.
    pub(super) fn enter_world(&self) -> Result<(), DrillError> {
        step("enter the world's namespace", enter(&self.world))
    }
}

fn step(what: &'static str, outcome: io::Result<()>) -> Result<(), DrillError> {
    outcome.map_err(|source| DrillError::Network { what, source })
}

fn new_namespace() -> Result<File, DrillError> {
    let made = unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
    // Not /proc/self: that is the process' first thread, which stays where it was.
    let opened = made.and_then(|()| File::open("/proc/thread-self/ns/net"));
    opened.map_err(|source| DrillError::Network { what: "make a network namespace", source })
}

fn enter(namespace: &File) -> io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

fn lay_wire(world: &Netlink, service: &File) -> io::Result<()> {
    world.link_up("lo")?;
    world.add_veth("wire", "eth0", service.as_fd())?;
    world.add_address("wire", WORLD, 24)?;
    world.link_up("wire")?;
    for network in PUBLIC_NETWORKS {
        world.add_local_network("lo", network, 24)?;
    }
    world.add_address("lo", METADATA.ip(), 32)
}

fn address_service(host: &Netlink) -> io::Result<()> {
    host.add_address("eth0", SERVICE.ip(), 24)?;
    host.link_up("eth0")?;
    host.add_default_route("eth0", WORLD)
}

fn address_service_v6(host: &Netlink) -> io::Result<()> {
    host.add_address("eth0", SERVICE_V6, 64)?;
    host.add_default_route("eth0", WORLD_V6)
}

fn address_world_v6(world: &Netlink) -> io::Result<()> {
    world.add_address("wire", WORLD_V6, 64)?;
    world.add_address("lo", METADATA_V6.ip(), 128)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn the_service_reaches_metadata_and_the_outside() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: making network namespaces needs root");
            return;
        }
        let check = |network: &Network, peer: SocketAddr| {
            network.enter_world().expect("world");
            let listener = TcpListener::bind(peer).expect("the world owns the address");
            network.enter_service_host().expect("service");
            let stream = std::net::TcpStream::connect_timeout(&peer, super::super::http::SILENCE_MAX).expect("reaches");
            assert!(listener.accept().is_ok());
            stream.local_addr().expect("address").ip()
        };
        // A thread of its own: the test runner's must keep its namespace.
        thread::spawn(move || {
            let network = Network::build().expect("builds");
            assert_eq!(check(&network, METADATA), SERVICE.ip());
            assert_eq!(check(&network, COLLECTOR), SERVICE.ip());
            if network.ipv6 {
                assert_eq!(check(&network, METADATA_V6), SERVICE_V6);
            }
        })
        .join()
        .expect("no panic");
    }
}
