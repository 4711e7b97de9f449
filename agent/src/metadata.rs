//! Cloud metadata and credential endpoints: the addresses both roads watch for.
//!
//! Facts are the vendors' documentation's; link-local and unique-local addresses are matched on their bytes, v4-mapped
//! and NAT64 forms are unwrapped before a look-up (see [`canonical`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One address that hands out credentials or instance data.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address.
    pub address: IpAddr,
    /// Ports that count; empty means every port.
    pub ports: &'static [u16],
    /// Service behind it; several clouds share 169.254.169.254.
    pub service: &'static str,
}

const fn v4(octets: [u8; 4], ports: &'static [u16], service: &'static str) -> Endpoint {
    Endpoint { address: IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])), ports, service }
}

const fn v6(segments: [u16; 8], ports: &'static [u16], service: &'static str) -> Endpoint {
    let [a, b, c, d, e, f, g, h] = segments;
    Endpoint { address: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), ports, service }
}

/// Ports of plain and TLS metadata servers, GKE's node-local ones included.
const HTTP: &[u16] = &[80, 443, 987, 988];

/// The built-in table; the config may add local metadata proxies.
pub const ENDPOINTS: &[Endpoint] = &[
    v4([169, 254, 169, 254], HTTP, "instance_metadata"),
    v4([169, 254, 169, 252], HTTP, "gke_metadata"),
    v4([169, 254, 170, 2], &[80], "aws_ecs"),
    v4([169, 254, 170, 23], &[80], "aws_eks_pod_identity"),
    v4([168, 63, 129, 16], &[80, 32526], "azure_wireserver"),
    v4([100, 100, 100, 200], &[80], "alibaba_ecs"),
    v4([169, 254, 0, 23], &[80], "tencent_cvm"),
    v4([169, 254, 42, 42], &[80], "scaleway"),
    v4([192, 0, 0, 192], &[80], "oracle_classic"),
    v6([0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254], HTTP, "aws_imds"),
    v6([0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x23], &[80], "aws_eks_pod_identity"),
    v6([0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254], HTTP, "gcp_metadata"),
    v6([0xfd00, 0x00c1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], &[80], "oracle_oci"),
    v6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe], &[80], "openstack"),
    v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1], &[80], "linode"),
    v6([0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x42], &[80], "scaleway"),
];

/// The endpoint that `peer` is, if it is one.
#[must_use]
pub fn find(peer: SocketAddr) -> Option<&'static Endpoint> {
    let address = canonical(peer.ip());
    ENDPOINTS.iter().find(|endpoint| {
        endpoint.address == address && (endpoint.ports.is_empty() || endpoint.ports.contains(&peer.port()))
    })
}

/// `address` with v4-mapped (RFC 4291 2.5.5.2) and NAT64 well-known-prefix (RFC 6052 2.1, `64:ff9b::/96`) forms unwrapped.
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_endpoint_is_found() {
        let check = |peer: &str, service: Option<&str>| {
            assert_eq!(find(peer.parse().expect("address")).map(|endpoint| endpoint.service), service, "{peer}");
        };
        check("169.254.169.254:80", Some("instance_metadata"));
        check("[::ffff:169.254.169.254]:80", Some("instance_metadata"));
        check("[64:ff9b::a9fe:a9fe]:80", Some("instance_metadata"));
        check("[fd00:ec2::254]:80", Some("aws_imds"));
        check("168.63.129.16:32526", Some("azure_wireserver"));
        check("168.63.129.16:53", None);
        check("169.254.169.253:53", None);
    }
}
