//! Ports of the host that Docker passes on to containers, from the arguments of its proxy processes.
//!
//! Whoever holds the listening socket (`docker-proxy`, or `dockerd` on its behalf), the proxy's arguments say which container
//! the port is. What netfilter rules alone pass on, with the proxy switched off, is not seen: a configured route is.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::names::basename;
use crate::event::ProcessKey;
use crate::metadata::canonical;

/// Published ports known at a time. Docker starts a proxy process for each port and family.
const PUBLISHED_MAX: usize = 8192;

/// One published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Publication {
    /// Address on the host; unspecified for every one.
    pub(super) host: SocketAddr,
    /// The container's listener.
    pub(super) container: SocketAddr,
    proxy: ProcessKey,
}

/// All published ports.
#[derive(Debug, Default)]
pub(super) struct Published {
    by_port: HashMap<u16, Vec<Publication>>,
    proxies: HashMap<ProcessKey, u16>,
    refused: u64,
}

impl Published {
    /// A program started; whether it is a proxy that publishes a port.
    pub(super) fn started(&mut self, proxy: ProcessKey, exe_path: &str, argv: &[String]) -> bool {
        if basename(exe_path) != "docker-proxy" {
            return false;
        }
        let Some((host, container)) = addresses(argv) else { return false };
        if self.proxies.len() >= PUBLISHED_MAX {
            self.refused += 1;
            return false;
        }
        if self.proxies.insert(proxy, host.port()).is_none() {
            self.by_port.entry(host.port()).or_default().push(Publication { host, container, proxy });
        }
        true
    }

    /// A process ended; whether it was a proxy.
    pub(super) fn ended(&mut self, process: ProcessKey) -> bool {
        let Some(port) = self.proxies.remove(&process) else { return false };
        if let Some(publications) = self.by_port.get_mut(&port) {
            publications.retain(|publication| publication.proxy != process);
            if publications.is_empty() {
                self.by_port.remove(&port);
            }
        }
        true
    }

    /// The container's listener that `target`, an address of this host, is passed on to.
    pub(super) fn find(&self, target: SocketAddr) -> Option<SocketAddr> {
        let address = canonical(target.ip());
        let publications = self.by_port.get(&target.port())?;
        let fits = |publication: &&Publication| {
            let host = publication.host.ip();
            host == address || (host.is_unspecified() && host.is_ipv4() == address.is_ipv4())
        };
        publications.iter().find(fits).map(|publication| publication.container)
    }

    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }
}

/// Host and container side: `-proto tcp -host-ip A -host-port N -container-ip B -container-port M` (moby, `cmd/docker-proxy`).
fn addresses(argv: &[String]) -> Option<(SocketAddr, SocketAddr)> {
    let value =
        |flag: &str| argv.iter().position(|word| word == flag).and_then(|at| argv.get(at + 1)).map(String::as_str);
    if value("-proto").is_some_and(|protocol| protocol != "tcp") {
        return None;
    }
    let side = |address: &str, port: &str| -> Option<SocketAddr> {
        Some(SocketAddr::new(value(address)?.parse::<IpAddr>().ok()?, value(port)?.parse().ok()?))
    };
    Some((side("-host-ip", "-host-port")?, side("-container-ip", "-container-port")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_tell_which_container_a_port_is() {
        let mut published = Published::default();
        let mut start = |pid: u32, line: &str| {
            let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
            published.started(ProcessKey { pid, start_ticks: 1 }, "/usr/bin/docker-proxy", &argv)
        };
        assert!(start(
            1,
            "docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80"
        ));
        assert!(start(
            2,
            "docker-proxy -proto tcp -host-ip 10.0.0.5 -host-port 81 -container-ip 172.17.0.3 -container-port 80 -use-listen-fd"
        ));
        assert!(!start(
            3,
            "docker-proxy -proto udp -host-ip 0.0.0.0 -host-port 53 -container-ip 172.17.0.2 -container-port 53"
        ));
        assert!(!start(4, "docker-proxy -host-ip x -host-port"));
        let check = |published: &Published, target: &str, container: Option<&str>| {
            let found = published.find(target.parse().expect("an address"));
            assert_eq!(found, container.map(|container| container.parse().expect("an address")), "{target}");
        };
        check(&published, "10.0.0.5:8080", Some("172.17.0.2:80"));
        check(&published, "[::ffff:10.0.0.5]:8080", Some("172.17.0.2:80"));
        check(&published, "[2001:db8::5]:8080", None);
        check(&published, "10.0.0.5:81", Some("172.17.0.3:80"));
        check(&published, "10.0.0.6:81", None);
        assert!(published.ended(ProcessKey { pid: 1, start_ticks: 1 }));
        check(&published, "10.0.0.5:8080", None);
    }
}
