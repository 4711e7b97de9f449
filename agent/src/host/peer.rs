//! An address in, how far away it is out: metadata endpoint, inside, or outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::Config;
use crate::metadata::{self, canonical};

/// How far away a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope<'c> {
    /// A metadata endpoint, by the name of the service behind it.
    Metadata(&'c str),
    /// This host, its network or the owner's.
    Internal,
    /// Anywhere else.
    External,
}

impl<'c> Scope<'c> {
    /// What to call the endpoint; one that only the kernel's table has was configured away since.
    pub(super) const fn service(self) -> &'c str {
        match self {
            Self::Metadata(service) => service,
            Self::Internal | Self::External => "metadata",
        }
    }
}

/// Networks that are nobody's outside: special-purpose registries of IANA (RFC 6890 and its updates). The documentation
/// networks (RFC 5737, RFC 3849) and the benchmarking one (RFC 2544) are left out on purpose: nothing honest talks to them.
const INTERNAL_V4: &[([u8; 4], u8)] = &[
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10), // shared address space, RFC 6598
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 168, 0, 0], 16),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4), // reserved, and the broadcast address
];

/// Azure's platform address: public in looks, but DNS, DHCP and health probes of every machine there
/// (learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16). Its wire server ports are metadata.
const AZURE_PLATFORM: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

impl Config {
    /// How far away `peer` is. `own` tells this host's addresses.
    pub(super) fn scope(&self, peer: SocketAddr, own: impl Fn(IpAddr) -> bool) -> Scope<'_> {
        let address = canonical(peer.ip());
        let configured = self.metadata_endpoints.iter().find(|endpoint| {
            canonical(endpoint.address) == address && (endpoint.port == 0 || endpoint.port == peer.port())
        });
        if let Some(endpoint) = configured {
            return Scope::Metadata(&endpoint.service);
        }
        if let Some(endpoint) = metadata::find(peer) {
            return Scope::Metadata(endpoint.service);
        }
        let inside =
            is_internal(address) || own(address) || self.internal.iter().any(|net: &IpNet| net.contains(&address));
        if inside { Scope::Internal } else { Scope::External }
    }
}

fn is_internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4 == AZURE_PLATFORM
                || INTERNAL_V4.iter().any(|(network, length)| {
                    let shift = 32 - u32::from(*length);
                    u32::from(v4) >> shift == u32::from(Ipv4Addr::from(*network)) >> shift
                })
        }
        IpAddr::V6(v6) => is_internal_v6(v6),
    }
}

/// Unspecified, loopback, unique local (RFC 4193), link-local and multicast (RFC 4291).
const fn is_internal_v6(address: Ipv6Addr) -> bool {
    address.is_unspecified()
        || address.is_loopback()
        || address.is_unique_local()
        || address.is_unicast_link_local()
        || address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::super::MetadataEndpoint;
    use super::*;

    #[test]
    fn every_kind_of_address_has_its_scope() {
        let config = Config {
            internal: vec!["203.0.113.128/25".parse().expect("a network")],
            metadata_endpoints: vec![MetadataEndpoint {
                address: [127, 0, 0, 1].into(),
                port: 8181,
                service: "kiam".to_owned(),
            }],
        };
        let own: IpAddr = "198.51.100.200".parse().expect("an address");
        let check = |peer: &str, scope: Scope<'_>| {
            assert_eq!(config.scope(peer.parse().expect("an address"), |address| address == own), scope, "{peer}");
        };
        for peer in [
            "127.0.0.1:80",
            "10.1.2.3:443",
            "172.31.255.255:1",
            "192.168.1.1:1",
            "100.127.0.1:1",
            "169.254.169.253:53",
            "168.63.129.16:53",
            "224.0.0.251:5353",
            "255.255.255.255:67",
            "198.51.100.200:80",
            "203.0.113.200:80",
            "[::1]:80",
            "[fe80::1]:80",
            "[fd12::1]:80",
            "[ff02::1]:80",
            "[::ffff:10.0.0.1]:80",
            "[64:ff9b::a00:1]:80",
        ] {
            check(peer, Scope::Internal);
        }
        for peer in [
            "172.32.0.1:1",
            "203.0.113.7:443",
            "192.0.2.1:80",
            "198.18.0.1:80",
            "198.51.100.1:80",
            "[2001:db8::1]:443",
            "[64:ff9b::cb00:7107]:443",
        ] {
            check(peer, Scope::External);
        }
        check("169.254.169.254:80", Scope::Metadata("instance_metadata"));
        check("168.63.129.16:80", Scope::Metadata("azure_wireserver"));
        check("127.0.0.1:8181", Scope::Metadata("kiam"));
    }
}
