//! The addresses a network namespace owns, from any process in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::read_text;
use crate::event::AddressesSeen;

/// Most of `fib_trie` that is read: a host with thousands of container routes has some hundred KiB.
const FIB_TRIE_BYTES_MAX: u64 = 4 << 20;

/// Most of `if_inet6` that is read, 54 bytes an address.
const IF_INET6_BYTES_MAX: u64 = 1 << 20;

/// Addresses of the namespace `pid` is in; `None` when neither family can be read.
pub(super) fn read(net_ns: u32, pid: u32) -> Option<AddressesSeen> {
    let directory = PathBuf::from(format!("/proc/{pid}/net"));
    let v4 = read_text(&directory.join("fib_trie"), FIB_TRIE_BYTES_MAX);
    let v6 = read_text(&directory.join("if_inet6"), IF_INET6_BYTES_MAX);
    if v4.is_none() && v6.is_none() {
        return None;
    }
    let mut addresses: Vec<IpAddr> = local_v4(&v4.unwrap_or_default()).map(IpAddr::V4).collect();
    addresses.extend(local_v6(&v6.unwrap_or_default()).map(IpAddr::V6));
    addresses.sort_unstable();
    addresses.dedup();
    Some(AddressesSeen { net_ns, addresses })
}

/// Addresses under `/32 host LOCAL` (`net/ipv4/fib_trie.c`, `fib_trie_seq_show`): the leaf's address stands on the line before.
fn local_v4(fib_trie: &str) -> impl Iterator<Item = Ipv4Addr> {
    let mut leaf = None;
    fib_trie.lines().filter_map(move |line| {
        let line = line.trim_start();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
            return None;
        }
        (line == "/32 host LOCAL").then_some(leaf).flatten()
    })
}

/// The first column of `if_inet6`: 32 hex digits (`net/ipv6/addrconf.c`, `if6_seq_show`).
fn local_v6(if_inet6: &str) -> impl Iterator<Item = Ipv6Addr> {
    if_inet6.lines().filter_map(|line| {
        let digits = line.split_ascii_whitespace().next().filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_told_from_routes() {
        let fib_trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.0.0.0\n        \
                        /24 link UNICAST\n     |-- 10.0.0.5\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link \
                        BROADCAST\nLocal:\n     |-- 127.0.0.1\n        /32 host LOCAL\n        |-- not.an.address\n    /32 host LOCAL\n";
        let found: Vec<_> = local_v4(fib_trie).map(|address| address.to_string()).collect();
        assert_eq!(found, ["10.0.0.5", "127.0.0.1"]);
    }

    #[test]
    fn interfaces_give_their_v6_addresses() {
        let if_inet6 = "00000000000000000000000000000001 01 80 10 80       lo\n20010db8000000000000000000000005 02 40 00 80 eth0\nshort 1\n";
        let found: Vec<_> = local_v6(if_inet6).map(|address| address.to_string()).collect();
        assert_eq!(found, ["::1", "2001:db8::5"]);
    }

    #[test]
    fn this_namespace_owns_loopback() {
        let seen = read(1, std::process::id()).expect("readable");
        assert!(seen.addresses.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{seen:?}");
    }
}
