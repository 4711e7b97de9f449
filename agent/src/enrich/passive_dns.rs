//! Which name each workload looked an address up by: answers of name servers in, the name of a peer out.
//!
//! Kept by the cgroup that received the answer. A resolver that asks on behalf of the whole host (systemd-resolved, nscd:
//! programs reach them through sockets that carry no DNS) is believed for everybody. Bounded; never asks anybody.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;

use crate::event::{NameAnswer, NamedAddress};
use crate::metadata::canonical;
use crate::timestamp::Timestamp;

/// Cgroups whose look-ups are kept, and addresses of each; what was not met for longest goes first. A crawler forgets its own
/// names before anybody else's.
const CGROUPS_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
const ADDRESSES_MAX: NonZeroUsize = NonZeroUsize::new(512).expect("not zero");
/// A name counts for this long even if its answer was to be used for less: programs keep connections and addresses well beyond
/// the time they are given.
const KEEP_MIN: Duration = Duration::from_secs(3600);
/// And for no longer than this, whatever the answer says.
const KEEP_MAX: Duration = Duration::from_secs(24 * 3600);

/// What a look-up gave for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name asked for.
    pub name: Arc<str>,
    /// Who answered.
    pub server: IpAddr,
    until: Timestamp,
}

/// What is known of the name of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'n> {
    /// The workload, or its resolver, looked it up.
    By(&'n Name),
    /// The workload's look-ups are seen and none gave this address: it was written down somewhere.
    Literal,
    /// The workload's look-ups are not seen.
    Unknown,
}

/// What the tables hold and dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counters {
    /// Answers taken in.
    pub answers: u64,
    /// Addresses dropped because a table was full.
    pub evicted: u64,
    /// Tables dropped because there were too many.
    pub tables_evicted: u64,
    /// Addresses held now.
    pub held: usize,
}

type Table = LruCache<IpAddr, Name>;

/// The tables.
#[derive(Debug)]
pub(super) struct PassiveDns {
    own: LruCache<u64, Table>,
    shared: Table,
    counters: Counters,
}

impl Default for PassiveDns {
    fn default() -> Self {
        Self { own: LruCache::new(CGROUPS_MAX), shared: Table::new(ADDRESSES_MAX), counters: Counters::default() }
    }
}

impl PassiveDns {
    /// Takes in an answer that came at `at`. `for_all` when whoever asked did so on behalf of others.
    pub(super) fn answered(&mut self, answer: &NameAnswer, for_all: bool, at: Timestamp) {
        self.counters.answers += 1;
        let name: Arc<str> = Arc::from(answer.name.as_str());
        let named = |found: &NamedAddress| {
            let lasts = Duration::from_secs(found.ttl_seconds.into()).clamp(KEEP_MIN, KEEP_MAX);
            (canonical(found.address), Name { name: Arc::clone(&name), server: answer.server, until: at.plus(lasts) })
        };
        if !self.own.contains(&answer.cgroup) && self.own.push(answer.cgroup, Table::new(ADDRESSES_MAX)).is_some() {
            self.counters.tables_evicted += 1;
        }
        for (address, name) in answer.addresses.iter().map(named) {
            if for_all {
                self.counters.evicted += u64::from(put(&mut self.shared, address, name.clone()));
            }
            if let Some(table) = self.own.get_mut(&answer.cgroup) {
                self.counters.evicted += u64::from(put(table, address, name));
            }
        }
    }

    /// What `address` is called by the workload in `cgroup`.
    pub(super) fn name_of(&self, cgroup: u64, address: IpAddr, at: Timestamp) -> Named<'_> {
        let address = canonical(address);
        let own = self.own.peek(&cgroup);
        let found = own.and_then(|table| table.peek(&address)).or_else(|| self.shared.peek(&address));
        match found.filter(|name| at <= name.until) {
            Some(name) => Named::By(name),
            None if own.is_some() || !self.shared.is_empty() => Named::Literal,
            None => Named::Unknown,
        }
    }

    pub(super) fn counters(&self) -> Counters {
        let own: usize = self.own.iter().map(|(_, table)| table.len()).sum();
        Counters { held: own + self.shared.len(), ..self.counters }
    }
}

/// Whether another address had to go.
fn put(table: &mut Table, address: IpAddr, name: Name) -> bool {
    table.push(address, name).is_some_and(|(gone, _)| gone != address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_millis(1_700_000_000_000).plus(Duration::from_secs(seconds))
    }

    fn answer(cgroup: u64, name: &str, addresses: &[&str], ttl_seconds: u32) -> NameAnswer {
        let address = |text: &&str| NamedAddress { address: text.parse().expect("an address"), ttl_seconds };
        NameAnswer {
            cgroup,
            server: IpAddr::from([127, 0, 0, 53]),
            name: name.to_owned(),
            addresses: addresses.iter().map(address).collect(),
        }
    }

    fn name(dns: &PassiveDns, cgroup: u64, address: &str, at: Timestamp) -> String {
        match dns.name_of(cgroup, address.parse().expect("an address"), at) {
            Named::By(name) => name.name.to_string(),
            Named::Literal => "literal".to_owned(),
            Named::Unknown => "unknown".to_owned(),
        }
    }

    #[test]
    fn everybody_has_his_own_names_but_for_the_hosts_resolver() {
        let mut dns = PassiveDns::default();
        assert_eq!(name(&dns, 7, "203.0.113.66", at(0)), "unknown");
        dns.answered(&answer(7, "evil.example", &["203.0.113.66", "2001:db8::66"], 60), false, at(0));
        let check = |dns: &PassiveDns, cgroup: u64, address: &str, expected: &str| {
            assert_eq!(name(dns, cgroup, address, at(1)), expected, "{cgroup} {address}");
        };
        check(&dns, 7, "203.0.113.66", "evil.example");
        check(&dns, 7, "::ffff:203.0.113.66", "evil.example");
        check(&dns, 7, "2001:db8::66", "evil.example");
        check(&dns, 7, "203.0.113.67", "literal");
        check(&dns, 8, "203.0.113.66", "unknown");
        dns.answered(&answer(9, "pay.example", &["203.0.113.9"], 60), true, at(0));
        check(&dns, 8, "203.0.113.9", "pay.example");
        check(&dns, 8, "203.0.113.66", "literal");
    }

    #[test]
    fn names_wear_off_and_the_latest_counts() {
        let mut dns = PassiveDns::default();
        dns.answered(&answer(7, "a.example", &["203.0.113.1"], 1), false, at(0));
        dns.answered(&answer(7, "b.example", &["203.0.113.2"], u32::MAX), false, at(0));
        let check = |dns: &PassiveDns, address: &str, seconds: u64, expected: &str| {
            assert_eq!(name(dns, 7, address, at(seconds)), expected, "{address} after {seconds} s");
        };
        check(&dns, "203.0.113.1", 3600, "a.example");
        check(&dns, "203.0.113.1", 3601, "literal");
        check(&dns, "203.0.113.2", 24 * 3600 + 1, "literal");
        dns.answered(&answer(7, "c.example", &["203.0.113.1"], 60), false, at(10));
        check(&dns, "203.0.113.1", 20, "c.example");
    }

    #[test]
    fn a_flood_stays_within_bounds_and_is_counted() {
        let mut dns = PassiveDns::default();
        dns.answered(&answer(1, "pay.example", &["203.0.113.9"], 60), false, at(0));
        for number in 0..600_u32 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string();
            dns.answered(&answer(2, "crawled.example", &[&address], 60), false, at(1));
        }
        assert_eq!((dns.counters().held, dns.counters().evicted), (513, 88));
        assert_eq!(name(&dns, 1, "203.0.113.9", at(2)), "pay.example");
        for cgroup in 3..300 {
            dns.answered(&answer(cgroup, "x.example", &["203.0.113.1"], 60), false, at(3));
        }
        assert_eq!(dns.counters().tables_evicted, 43);
    }
}
