//! What a host in a URL really is: every spelling of an address that resolvers accept, and names that mean the
//! inside.
//!
//! Text goes in, an address or a kind of name comes out; nothing is looked up. Numbers are read as BSD's
//! `inet_aton` does (one to four parts, decimal, octal, hexadecimal), with the overflow that some parsers wrap;
//! IPv6 with v4-mapped and NAT64 forms unwrapped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::metadata::{ENDPOINTS, canonical};

/// Where a host lies, seen from the web server that would be made to call it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// A metadata or credential endpoint of a cloud.
    Metadata,
    /// The machine itself.
    Loopback,
    /// The network around it.
    Private,
    /// A service that records who calls: testing tools and attackers use them to see a request come out.
    CallbackService,
    /// A public address written as a number.
    PublicAddress,
    /// Any other name.
    Name,
}

/// A host, understood.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// The address, if it is one.
    pub(super) address: Option<IpAddr>,
    /// Where it lies.
    pub(super) reach: Reach,
    /// Written in a form that people do not use.
    pub(super) disguised: bool,
}

/// Names that mean a metadata service.
const METADATA_NAMES: &[&[u8]] = &[
    b"metadata.google.internal",
    b"metadata.goog",
    b"metadata",
    b"instance-data",
    b"instance-data.ec2.internal",
    b"metadata.tencentyun.com",
    b"metadata.packet.net",
    b"metadata.platformequinix.com",
    b"metadata.azure.internal",
    b"rancher-metadata",
    b"metadata.nicmanager.com",
    b"metadata.oraclecloud.com",
];

/// Names and suffixes that resolve to the machine itself or to the inside of a cluster.
const LOOPBACK_NAMES: &[&[u8]] = &[
    b"localhost",
    b"localhost4",
    b"localhost6",
    b"localhost4.localdomain4",
    b"localhost6.localdomain6",
    b"ip6-localhost",
    b"ipv6-localhost",
    b"ip6-loopback",
    b"localhost.localdomain",
    b"loopback",
    b"localtest.me",
    b"lvh.me",
    b"vcap.me",
    b"lacolhost.com",
    b"fuf.me",
    b"spoofed.burpcollaborator.net",
    b"host.docker.internal",
    b"gateway.docker.internal",
    b"kubernetes.docker.internal",
    b"host.containers.internal",
    b"kubernetes.default.svc",
    b"kubernetes.default",
    b"kubernetes",
];

const INSIDE_SUFFIXES: &[&[u8]] = &[
    b".localhost",
    b".localtest.me",
    b".lvh.me",
    b".internal",
    b".svc",
    b".svc.cluster.local",
    b".cluster.local",
    b".localdomain",
    b".consul",
    b".local",
    b".intranet",
    b".corp",
];

/// Wildcard names that carry an address in the name, or change what they resolve to.
const REBINDING_SUFFIXES: &[&[u8]] =
    &[b".nip.io", b".sslip.io", b".xip.io", b".1u.ms", b".rbndr.us", b".traefik.me", b".localhost.direct"];

/// Services that record callbacks.
const CALLBACK_SUFFIXES: &[&[u8]] = &[
    b"oast.pro",
    b"oast.live",
    b"oast.site",
    b"oast.online",
    b"oast.fun",
    b"oast.me",
    b"interact.sh",
    b"interactsh.com",
    b"burpcollaborator.net",
    b"oastify.com",
    b"dnslog.cn",
    b"dnslog.link",
    b"dnslog.pw",
    b"ceye.io",
    b"eyes.sh",
    b"dig.pm",
    b"callback.red",
    b"bxss.me",
    b"xss.ht",
    b"r87.me",
    b"webhook.site",
    b"requestbin.net",
    b"requestbin.com",
    b"requestcatcher.com",
    b"pipedream.net",
    b"canarytokens.com",
    b"beeceptor.com",
    b"pingb.in",
    b"ezxss.com",
    b"xsshunter.com",
    b"tukutuk.net",
    b"leakix.net",
    b"hackerone-ext-content.com",
];

/// Services that are hosts of their own.
const CALLBACK_HOSTS: &[&[u8]] = &[b"dnsbin.zhack.ca", b"log4j.binaryedge.io"];

/// Understands `host` (lower case, without port; brackets allowed).
pub(super) fn classify(host: &[u8]) -> Host {
    let host = host.strip_suffix(b".").unwrap_or(host);
    if let Some((address, disguised)) = address(host) {
        let plain = canonical(address);
        return Host { address: Some(plain), reach: reach(plain), disguised };
    }
    let named = |names: &[&[u8]]| names.contains(&host);
    let ends = |suffixes: &[&[u8]]| suffixes.iter().any(|suffix| host.ends_with(suffix));
    let (reach, disguised) = if named(METADATA_NAMES) {
        (Reach::Metadata, false)
    } else if named(LOOPBACK_NAMES) {
        (Reach::Loopback, false)
    } else if is_callback_service(host) {
        (Reach::CallbackService, false)
    } else if ends(REBINDING_SUFFIXES) {
        (Reach::Private, true)
    } else if ends(INSIDE_SUFFIXES) {
        (Reach::Private, false)
    } else {
        (Reach::Name, false)
    };
    Host { address: None, reach, disguised }
}

/// Whether `host` is, or lies below, a service that records callbacks.
pub(super) fn is_callback_service(host: &[u8]) -> bool {
    // All of them are two labels; compared without the rest, a long list costs one search for a dot.
    let Some(dot) = memchr::memrchr(b'.', host) else { return false };
    let start = memchr::memrchr(b'.', &host[..dot]).map_or(0, |dot| dot + 1);
    CALLBACK_SUFFIXES.contains(&&host[start..]) || CALLBACK_HOSTS.contains(&host)
}

fn reach(address: IpAddr) -> Reach {
    if ENDPOINTS.iter().any(|endpoint| endpoint.address == address) {
        return Reach::Metadata;
    }
    let (loopback, private) = match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xC0 == 64;
            (v4.is_loopback() || v4.octets()[0] == 0, v4.is_private() || v4.is_link_local() || shared)
        }
        IpAddr::V6(v6) => (v6.is_loopback() || v6.is_unspecified(), v6.is_unique_local() || v6.is_unicast_link_local()),
    };
    match (loopback, private) {
        (true, _) => Reach::Loopback,
        (_, true) => Reach::Private,
        _ => Reach::PublicAddress,
    }
}

/// The address that `host` spells, and whether the spelling is unusual.
fn address(host: &[u8]) -> Option<(IpAddr, bool)> {
    if let Some(inner) = host.strip_prefix(b"[") {
        let inner = inner.strip_suffix(b"]").unwrap_or(inner);
        let (inner, zone) = match memchr::memchr(b'%', inner) {
            Some(at) => (&inner[..at], true),
            None => (inner, false),
        };
        let v6: Ipv6Addr = std::str::from_utf8(inner).ok()?.parse().ok()?;
        let wraps = canonical(IpAddr::V6(v6)).is_ipv4();
        return Some((IpAddr::V6(v6), wraps || zone));
    }
    if host.is_empty() || !host.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b'x')) {
        return None;
    }
    inet_aton(host)
}

/// One to four numbers; the last fills what is left. With four numbers each is cut to a byte, as lenient parsers do.
fn inet_aton(host: &[u8]) -> Option<(IpAddr, bool)> {
    let mut numbers = [0_u64; 4];
    let mut count = 0;
    let mut disguised = false;
    for part in host.split(|byte| *byte == b'.') {
        let (value, odd) = number(part)?;
        *numbers.get_mut(count)? = value;
        count += 1;
        disguised |= odd;
    }
    let value = match (count, numbers) {
        (1, [whole, ..]) => whole & 0xFFFF_FFFF,
        (2, [a, rest, ..]) => (a & 0xFF) << 24 | rest & 0xFF_FFFF,
        (3, [a, b, rest, _]) => (a & 0xFF) << 24 | (b & 0xFF) << 16 | rest & 0xFFFF,
        (_, [a, b, c, d]) => (a & 0xFF) << 24 | (b & 0xFF) << 16 | (c & 0xFF) << 8 | d & 0xFF,
    };
    disguised |= count != 4 || numbers.iter().any(|number| *number > 0xFF);
    Some((IpAddr::V4(Ipv4Addr::from(u32::try_from(value).ok()?)), disguised))
}

/// A decimal, `0`-octal or `0x`-hexadecimal number, and whether it is not plain decimal.
fn number(part: &[u8]) -> Option<(u64, bool)> {
    let (digits, radix) = match part {
        [b'0', b'x', hex @ ..] if !hex.is_empty() => (hex, 16),
        [b'0', octal @ ..] if !octal.is_empty() => (octal, 8),
        decimal => (decimal, 10),
    };
    // Leading zeros may be many; the value is what has to fit.
    if digits.is_empty() || digits.len() > 64 {
        return None;
    }
    let value = digits.iter().try_fold(0_u64, |sum, byte| {
        sum.checked_mul(u64::from(radix))?.checked_add(u64::from(char::from(*byte).to_digit(radix)?))
    })?;
    Some((value, radix != 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_metadata_address_is_it() {
        for host in [
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0xa9.0xfe.0xa9.0xfe",
            "0251.0376.0251.0376",
            "025177524776",
            "0251.254.169.254",
            "169.254.43518",
            "169.16689662",
            "425.510.425.510",
            "0000251.0376.0251.0376",
            "[::ffff:a9fe:a9fe]",
            "[::ffff:169.254.169.254]",
            "[0:0:0:0:0:ffff:a9fe:a9fe]",
            "[64:ff9b::a9fe:a9fe]",
            "[fd00:ec2::254]",
            "169.254.169.254.",
            "metadata.google.internal",
            "instance-data",
            "169.254.170.2",
            "100.100.100.200",
        ] {
            assert_eq!(classify(host.as_bytes()).reach, Reach::Metadata, "{host}");
        }
    }

    #[test]
    fn hosts_are_told_apart() {
        let check = |host: &str, reach: Reach, disguised: bool| {
            let found = classify(host.as_bytes());
            assert_eq!((found.reach, found.disguised), (reach, disguised), "{host}");
        };
        check("127.0.0.1", Reach::Loopback, false);
        check("127.1", Reach::Loopback, true);
        check("0177.0.0.1", Reach::Loopback, true);
        check("0", Reach::Loopback, true);
        check("[::1]", Reach::Loopback, false);
        check("localhost", Reach::Loopback, false);
        check("10.1.2.3", Reach::Private, false);
        check("192.168.0.1", Reach::Private, false);
        check("10.0.0.1.nip.io", Reach::Private, true);
        check("api.default.svc.cluster.local", Reach::Private, false);
        check("x.oast.fun", Reach::CallbackService, false);
        check("notoast.fun", Reach::Name, false);
        check("198.51.100.7", Reach::PublicAddress, false);
        check("shop.example", Reach::Name, false);
        check("", Reach::Name, false);
        check("1.2.3.4.5", Reach::Name, false);
        check("0x", Reach::Name, false);
        check("[zz]", Reach::Name, false);
    }
}
