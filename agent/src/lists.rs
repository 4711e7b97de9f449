//! The owner's lists of peers: known good ones, and threat intelligence. In: plain text, one address, network or domain a line.
//! Out: what a list says of a peer, weighed into the evidence: a listed bad peer is never ordinary, a known good one is.
//!
//! The lists themselves are pure; [`files`] reads them and notices changes. Bounded by [`ENTRIES_MAX`].

pub mod files;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::evidence::{EgressEvidence, Novelty};
use crate::metadata::canonical;

/// Entries kept of all lists together, about 60 bytes each: public feeds have some hundred thousand; the rest is counted as
/// left out.
pub const ENTRIES_MAX: usize = 1_000_000;

/// Which files there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Peers that are known good.
    pub good: Vec<PathBuf>,
    /// Peers that are known bad. A peer on both counts as bad.
    pub bad: Vec<PathBuf>,
}

/// What a list calls its entries.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opinion {
    /// Known good.
    Good,
    /// Known bad.
    Bad,
}

/// What was read and used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Addresses, networks and domains known.
    pub entries: usize,
    /// Lines that are none of these.
    pub unreadable: u64,
    /// Entries for which there was no room.
    pub left_out: u64,
    /// Contacts with a peer listed as good.
    pub good_met: u64,
    /// Contacts with a peer listed as bad.
    pub bad_met: u64,
}

/// One list's name and opinion.
#[derive(Clone, Debug)]
struct List {
    name: String,
    opinion: Opinion,
}

/// All lists.
#[derive(Debug, Default)]
pub struct Lists {
    lists: Vec<List>,
    /// Networks by version and prefix length, then by first address.
    networks: BTreeMap<(bool, u8), HashMap<u128, usize>>,
    domains: HashMap<String, usize>,
    counters: Counters,
}

impl Lists {
    /// Adds a list: `text` has an address, network or domain a line; what follows `#` or `;`, or a blank, is a comment.
    pub fn add(&mut self, name: &str, opinion: Opinion, text: &str) {
        let number = self.lists.len();
        self.lists.push(List { name: name.to_owned(), opinion });
        for line in text.lines() {
            let entry = line.split(['#', ';', ' ', '\t', ',', '\r']).next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            if self.counters.entries >= ENTRIES_MAX {
                self.counters.left_out += 1;
            } else if !self.add_entry(entry, number) {
                self.counters.unreadable += 1;
            }
        }
    }

    fn add_entry(&mut self, entry: &str, list: usize) -> bool {
        let network = entry.parse::<IpNet>().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
        let known = if let Ok(network) = network {
            let (key, at) = (key(network.network()), network.prefix_len());
            // `::/0` or `0.0.0.0/0` would have an opinion of everybody: a slip of the pen, not intelligence.
            if at == 0 {
                return false;
            }
            let of_length = self.networks.entry((network.addr().is_ipv4(), at)).or_default();
            keep(of_length.entry(key).or_insert(list), list, &self.lists)
        } else {
            let domain = entry.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) || !byte.is_ascii();
            if domain.len() > 253 || !domain.contains('.') || !domain.bytes().all(plain) {
                return false;
            }
            keep(self.domains.entry(domain).or_insert(list), list, &self.lists)
        };
        self.counters.entries += usize::from(known);
        true
    }

    /// What the lists say of a peer, and which list says so. The name counts as well as the address, bad before good.
    #[must_use]
    pub fn opinion(&self, address: IpAddr, name: Option<&str>) -> Option<(Opinion, &str)> {
        let by_address = self.by_address(canonical(address));
        let by_name = name.and_then(|name| self.by_name(name));
        let found = by_address.into_iter().chain(by_name).filter_map(|list| self.lists.get(list));
        found.max_by_key(|list| list.opinion).map(|list| (list.opinion, list.name.as_str()))
    }

    /// The longest prefix decides, of a bad and a good one alike the bad.
    fn by_address(&self, address: IpAddr) -> Option<usize> {
        let (v4, bits) = (address.is_ipv4(), key(address));
        let width: u8 = if v4 { 32 } else { 128 };
        let lengths = self.networks.range((v4, 1)..=(v4, width)).rev();
        let mut hits = lengths.filter_map(|((_, length), networks)| {
            let masked = bits >> (width - length) << (width - length);
            networks.get(&masked).copied()
        });
        hits.next()
    }

    fn by_name(&self, name: &str) -> Option<usize> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let mut rest = name.as_str();
        loop {
            if let Some(list) = self.domains.get(rest) {
                return Some(*list);
            }
            rest = rest.split_once('.')?.1;
        }
    }

    /// Lets the lists weigh in on a contact.
    pub fn weigh(&mut self, evidence: &mut EgressEvidence) {
        if self.counters.entries == 0 {
            return;
        }
        let by_peer = self.opinion(evidence.peer.ip(), evidence.name.as_deref());
        // The intruder chooses what his TLS hello asks for: that speaks against him alone.
        let asked = evidence.server_name.as_deref().and_then(|name| self.opinion(evidence.peer.ip(), Some(name)));
        let Some((opinion, list)) = asked.filter(|(opinion, _)| *opinion == Opinion::Bad).or(by_peer) else { return };
        let said = match opinion {
            Opinion::Good => "known good",
            Opinion::Bad => "known bad",
        };
        evidence.reason = format!("{}; {said} by the owner's list {list}", evidence.reason);
        match opinion {
            Opinion::Good => {
                evidence.novelty = Novelty::Known;
                self.counters.good_met += 1;
            }
            Opinion::Bad => {
                evidence.novelty = Novelty::Notorious;
                self.counters.bad_met += 1;
            }
        }
    }

    /// Takes the place of `older` lists, whose meetings count on.
    #[must_use]
    pub fn after(mut self, older: &Self) -> Self {
        (self.counters.good_met, self.counters.bad_met) = (older.counters.good_met, older.counters.bad_met);
        self
    }

    /// What was read and used.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }
}

/// Bad before good; whether the place was new.
fn keep(place: &mut usize, list: usize, lists: &[List]) -> bool {
    let opinion = |list: usize| lists.get(list).map(|list| list.opinion);
    let new = *place == list;
    if opinion(list) > opinion(*place) {
        *place = list;
    }
    new
}

fn key(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| u128::from(v6), |v4: Ipv4Addr| u128::from(u32::from(v4))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::event::Protocol;
    use crate::evidence::Placement;
    use crate::timestamp::Timestamp;
    use crate::workload::Workload;

    fn lists() -> Lists {
        let mut lists = Lists::default();
        let good = "198.51.100.0/24 partner\n# a comment\npayments.example.com\n2001:db8:5::/48\n";
        lists.add("partners.txt", Opinion::Good, good);
        let bad = "198.51.100.66\n203.0.113.0/28,feed,2026\n*.evil.example\n0.0.0.0/0\nno domain!\n2001:db8:bad::1\r\n";
        lists.add("feed.txt", Opinion::Bad, bad);
        lists
    }

    #[test]
    fn the_longest_prefix_and_the_worse_opinion_decide() {
        let check = |address: &str, name: Option<&str>, expected: Option<(Opinion, &str)>| {
            let lists = lists();
            assert_eq!(lists.opinion(address.parse().expect("address"), name), expected, "{address} {name:?}");
        };
        let (good, bad) = (Some((Opinion::Good, "partners.txt")), Some((Opinion::Bad, "feed.txt")));
        check("198.51.100.7", None, good);
        check("198.51.100.66", None, bad);
        check("::ffff:198.51.100.66", None, bad);
        check("203.0.113.15", None, bad);
        check("203.0.113.16", None, None);
        check("2001:db8:5::9", None, good);
        check("2001:db8:bad::1", None, bad);
        check("192.0.2.1", Some("API.payments.example.com."), good);
        check("192.0.2.1", Some("xpayments.example.com"), None);
        check("198.51.100.7", Some("a.b.evil.example"), bad);
        assert_eq!((lists().counters().entries, lists().counters().unreadable), (7, 2));
    }

    /// What a TLS hello asks for is the client's own choice.
    #[test]
    fn a_server_name_speaks_against_its_client_alone() {
        let check = |name: Option<&str>, server_name: Option<&str>, expected: Novelty| {
            let mut evidence = EgressEvidence {
                at: Timestamp::default(),
                place: Placement { workload: Arc::new(Workload::host()), lineage: Vec::new(), service: None },
                peer: "192.0.2.1:443".parse().expect("address"),
                protocol: Protocol::Tcp,
                name: name.map(Arc::from),
                server_name: server_name.map(Arc::from),
                novelty: Novelty::New,
                reason: "x".to_owned(),
                prevalence: None,
                outcome: None,
            };
            lists().weigh(&mut evidence);
            assert_eq!(evidence.novelty, expected, "{name:?} {server_name:?}");
        };
        let (good, bad) = (Some("api.payments.example.com"), Some("x7.evil.example"));
        check(good, None, Novelty::Known);
        check(None, good, Novelty::New);
        check(None, bad, Novelty::Notorious);
        check(good, bad, Novelty::Notorious);
        check(bad, good, Novelty::Notorious);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "\\PC*|[0-9a-f:./\n*-]*", address: [u8; 16]) {
            let mut lists = Lists::default();
            lists.add("x", Opinion::Bad, &text);
            let _ = lists.opinion(IpAddr::from(address), Some(&text));
            let _ = lists.opinion(IpAddr::from([address[0], address[1], address[2], address[3]]), None);
        }

        #[test]
        fn a_network_has_an_opinion_of_its_own_addresses_alone(network: [u8; 4], length in 1_u8..=32, asked: [u8; 4]) {
            let network = IpNet::new(IpAddr::from(network), length).expect("a network");
            let mut lists = Lists::default();
            lists.add("x", Opinion::Bad, &network.to_string());
            let asked = IpAddr::from(asked);
            prop_assert_eq!(lists.opinion(asked, None).is_some(), network.contains(&asked));
        }
    }
}
