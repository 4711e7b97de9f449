//! What is normal, shared by hosts through a real nats-server on loopback: over its restarts, with TLS and a token, and by agents
//! that run.

#[path = "forward/bus.rs"]
#[expect(dead_code, reason = "what only the forwarder's tests need")]
mod bus;
#[path = "fleet/live.rs"]
mod live;

use std::net::SocketAddr;
use std::time::Duration;

use breachline::baseline::{Baseline, Config};
use breachline::event::Protocol;
use breachline::evidence::Novelty;
use breachline::fleet::{self, Link, Sharing, Told};
use breachline::timestamp::Timestamp;
use breachline::workload::WorkloadKey;
use breachline_tests::wait_for;

use crate::bus::Bus;

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn start() -> Timestamp {
    Timestamp::from_unix_millis(1_780_000_000_000)
}

/// Every host's clock: three days later.
fn now() -> Timestamp {
    start().plus(DAY * 3)
}

fn shop() -> WorkloadKey {
    WorkloadKey::new("unit:shop.service")
}

const PAYMENTS: &str = "203.0.113.7:443";

/// One host: its baseline, and its end of the bus.
struct Host {
    baseline: Baseline,
    sharing: Sharing,
    link: Link,
}

impl Host {
    fn start(bus: &Bus, name: &str, saved: Option<&[u8]>) -> Self {
        let config =
            fleet::Config { enabled: true, name: name.into(), server: bus.config().server, ..fleet::Config::default() };
        config.check().expect("a config that works");
        let (sharing, link) = Sharing::start(&config, Config::default(), saved, now);
        Self { baseline: Baseline::new(Config::default()), sharing, link }
    }

    fn contacts(&mut self, peer: &str, at: Timestamp) -> Novelty {
        let peer: SocketAddr = peer.parse().expect("an address");
        self.baseline.peer(&shop(), peer, Protocol::Tcp, None, at)
    }

    /// As the engine does it every minute.
    fn tell(&self) {
        let workloads = self.baseline.workloads().into_iter().cloned().collect();
        self.link.tell.send_replace(Told { workloads, records: self.baseline.records(&self.link.host, now()) });
    }

    /// Hears until so many other hosts are known.
    fn hear(&mut self, hosts: u32) {
        let heard = wait_for(LIMIT, || (self.link.heard.borrow_and_update().fleet.hosts() == hosts).then_some(()));
        assert!(heard.is_some(), "{:?}", self.sharing.description().status());
        let fleet = self.link.heard.borrow().fleet.clone();
        self.baseline.set_fleet(fleet);
    }
}

/// A host that learned its shop three days ago.
fn old(bus: &Bus, name: &str, peers: &[&str]) -> Host {
    let mut host = Host::start(bus, name, None);
    for peer in peers {
        host.contacts(peer, start());
    }
    host.tell();
    host
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_started_a_minute_ago_knows_its_service_and_keeps_knowing_it_while_the_bus_is_away() {
    let mut bus = Bus::start(&[]);
    let first = old(&bus, "first", &[PAYMENTS, "198.51.100.1:443"]);
    let second = old(&bus, "second", &[PAYMENTS, "198.51.101.2:443"]);
    let mut young = Host::start(&bus, "young", None);
    young.baseline.touch(&shop(), now());
    young.tell();
    young.hear(2);
    assert!(!young.baseline.is_learning(&shop(), now()));
    assert_eq!(young.contacts(PAYMENTS, now()), Novelty::Known);
    assert_eq!(young.contacts("198.51.100.1:443", now()), Novelty::New, "one host alone says so");
    assert_eq!(young.contacts("192.0.2.66:4444", now()), Novelty::New);
    let prevalence =
        |host: &Host| host.baseline.prevalence(&shop(), PAYMENTS.parse().expect("one"), Protocol::Tcp, None);
    assert_eq!(prevalence(&young).map(|found| (found.same, found.same_of)), Some((2, 2)));
    // The bus goes and comes back: nothing is forgotten meanwhile, and a later word arrives.
    bus.restart();
    assert_eq!(young.contacts(PAYMENTS, now()), Novelty::Known);
    let third = old(&bus, "third", &[PAYMENTS]);
    young.hear(3);
    assert_eq!(prevalence(&young).map(|found| (found.same, found.same_of)), Some((3, 3)));
    // Restarted while no bus is there: what was saved serves.
    let saved = young.link.heard.borrow().saved.clone();
    young.sharing.stop(Duration::from_secs(5)).await;
    for host in [first, second, third] {
        host.sharing.stop(Duration::from_secs(5)).await;
    }
    drop(bus);
    let nowhere = fleet::Config { enabled: true, name: "young".into(), ..fleet::Config::default() };
    let (sharing, link) = Sharing::start(&nowhere, Config::default(), Some(&saved), now);
    let mut again = Baseline::new(Config::default());
    again.set_fleet(link.heard.borrow().fleet.clone());
    assert_eq!(again.peer(&shop(), PAYMENTS.parse().expect("one"), Protocol::Tcp, None, now()), Novelty::Known);
    sharing.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_with_a_token_and_nobody_speaks_for_another() {
    let directory = tempfile::tempdir().expect("directory");
    let bus = Bus::start_with_tls(directory.path(), "a secret");
    let honest = old(&bus, "honest", &[PAYMENTS]);
    let mut young = Host::start(&bus, "young", None);
    young.baseline.touch(&shop(), now());
    young.tell();
    young.hear(1);
    // A host that writes its own record into its own place, in the name of another.
    let mut liar = Host::start(&bus, "liar", None);
    liar.contacts("192.0.2.66:4444", start());
    let records = liar.baseline.records("honest", now());
    liar.link.tell.send_replace(Told { workloads: vec![shop()], records });
    let refused = wait_for(LIMIT, || (young.sharing.description().status().counters.refused > 0).then_some(()));
    assert!(refused.is_some(), "{:?}", young.sharing.description().status());
    young.hear(1);
    assert_eq!(young.contacts("192.0.2.66:4444", now()), Novelty::New);
    assert_eq!(young.contacts(PAYMENTS, now()), Novelty::Known);
    for host in [honest, young, liar] {
        host.sharing.stop(Duration::from_secs(5)).await;
    }
}
