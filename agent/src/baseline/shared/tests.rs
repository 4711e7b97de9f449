use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::baseline::tests::{CALL, DAY};
use crate::baseline::{Learn, Manner};
use crate::event::Protocol;
use crate::evidence::Novelty;
use std::sync::Arc;

fn start() -> Timestamp {
    Timestamp::from_unix_millis(1_700_000_000_000)
}

fn now() -> Timestamp {
    start().plus(DAY * 3)
}

fn shop() -> WorkloadKey {
    WorkloadKey::new("unit:shop.service")
}

fn peer(baseline: &mut Baseline, workload: &WorkloadKey, address: &str, at: Timestamp) -> Novelty {
    let address: SocketAddr = address.parse().expect("an address");
    baseline.peer(workload, address, Protocol::Tcp, None, at)
}

/// What a host says that learned these peers of the workload, three days ago.
fn record(host: &str, workload: &WorkloadKey, peers: &[&str]) -> Record {
    let mut baseline = Baseline::new(Config::default());
    baseline.caller(workload, &CALL, Learn::Yes, start());
    for address in peers {
        peer(&mut baseline, workload, address, start());
    }
    baseline.records(host, now()).pop().expect("it is learned")
}

fn fleet(records: &[Record]) -> Fleet {
    let mut all = Records::default();
    for record in records {
        all.put(record.clone(), true);
    }
    Fleet::of(&all, "me", &Config::default(), now())
}

/// A host that was started a minute ago and has heard these records.
fn started(records: &[Record]) -> Baseline {
    let mut baseline = Baseline::new(Config::default());
    baseline.set_fleet(Arc::new(fleet(records)));
    baseline.touch(&shop(), now());
    baseline
}

const PAYMENTS: &str = "203.0.113.7:443";
const MAIL: &str = "198.51.100.7:587";

#[test]
fn a_host_started_a_minute_ago_knows_its_service() {
    let others = ["a", "b"].map(|host| record(host, &shop(), &[PAYMENTS]));
    let mut baseline = started(&others);
    let at = now().plus(Duration::from_secs(60));
    assert!(!baseline.is_learning(&shop(), at));
    assert_eq!(peer(&mut baseline, &shop(), PAYMENTS, at), Novelty::Known);
    assert_eq!(baseline.caller(&shop(), &CALL, Learn::Yes, at), (Novelty::Known, Manner::Alike));
    // What nobody does is new, and does not become normal by having been done in this host's first day.
    assert_eq!(peer(&mut baseline, &shop(), "192.0.2.9:4444", at), Novelty::New);
    assert_eq!(peer(&mut baseline, &shop(), "192.0.2.9:4444", at.plus(DAY / 2)), Novelty::New);
    // Another service is learned as ever.
    let mail = WorkloadKey::new("unit:mail.service");
    assert_eq!(peer(&mut baseline, &mail, PAYMENTS, at), Novelty::NewWhileLearning);
}

#[test]
fn one_host_alone_makes_nothing_normal_where_others_know_the_service() {
    let honest = ["a", "b", "c"].map(|host| record(host, &shop(), &[PAYMENTS]));
    let taken_over = record("d", &shop(), &[PAYMENTS, "192.0.2.9:4444"]);
    let mut baseline = started(&[&honest[..], std::slice::from_ref(&taken_over)].concat());
    assert_eq!(peer(&mut baseline, &shop(), "192.0.2.9:4444", now()), Novelty::New);
    assert_eq!(peer(&mut baseline, &shop(), PAYMENTS, now()), Novelty::Known);
    // Where it is the only one that knows the service, it is believed.
    let mut baseline = started(&[taken_over]);
    assert_eq!(peer(&mut baseline, &shop(), "192.0.2.9:4444", now()), Novelty::Known);
}

#[test]
fn a_days_additions_of_one_host_are_bounded_whatever_it_claims() {
    let mut record = record("a", &shop(), &[PAYMENTS]);
    let later = start().plus(DAY * 2);
    let made: BTreeMap<String, Timestamp> =
        (0..1000).map(|number| (format!("{number}.example 443/tcp"), later)).collect();
    record.habits.get_mut(&Kind::Peer).expect("peers").extend(made);
    let config = Config::default();
    let believed = record.believed(&config).filter(|(kind, _)| *kind == Kind::Peer).count();
    assert_eq!(believed, 2 - 1 + config.additions_per_day as usize);
}

#[test]
fn what_is_learned_during_an_incident_or_not_yet_settled_is_not_told() {
    let mut baseline = Baseline::new(Config::default());
    peer(&mut baseline, &shop(), PAYMENTS, start());
    assert!(baseline.records("a", start().plus(DAY / 2)).is_empty(), "still learning");
    peer(&mut baseline, &shop(), MAIL, now());
    let told = baseline.records("a", now().plus(Duration::from_secs(60))).pop().expect("a record");
    assert_eq!(told.habits[&Kind::Peer].len(), 1, "{told:?}");
    baseline.freeze(&shop(), now());
    assert!(baseline.records("a", now()).is_empty(), "an incident is open");
}

#[test]
fn prevalence_counts_hosts_and_the_own_one_is_not_among_them() {
    let mail = WorkloadKey::new("unit:mail.service");
    let fleet = fleet(&[
        record("a", &shop(), &[PAYMENTS]),
        record("b", &shop(), &[PAYMENTS, MAIL]),
        record("c", &mail, &[MAIL]),
        record("me", &shop(), &["192.0.2.9:4444"]),
    ]);
    let check = |peer: &str, same: u32, any: u32| {
        let name = crate::baseline::peer_name(peer.parse().expect("an address"), Protocol::Tcp, None);
        let expected = Prevalence { same, same_of: 2, any, any_of: 3 };
        assert_eq!(fleet.prevalence(&shop(), &name), Some(expected), "{peer}");
    };
    check(PAYMENTS, 2, 2);
    check(MAIL, 1, 2);
    check("192.0.2.9:4444", 0, 0);
    assert_eq!(Fleet::default().prevalence(&shop(), "x"), None);
}

#[test]
fn records_out_of_bounds_or_of_another_version_are_none() {
    let good = record("a", &shop(), &[PAYMENTS]);
    assert_eq!(Record::from_bytes(&good.to_bytes()).as_ref(), Some(&good));
    let mut many = good.clone();
    let names = (0..2000).map(|number| (format!("{number}.example 443/tcp"), start()));
    many.habits.get_mut(&Kind::Peer).expect("peers").extend(names);
    let newer = Record { version: RECORD_VERSION + 1, ..good.clone() };
    let mut long = good.clone();
    long.habits.get_mut(&Kind::Peer).expect("peers").insert("x".repeat(NAME_BYTES_MAX + 1), start());
    for record in [many, newer, long] {
        assert_eq!(Record::from_bytes(&record.to_bytes()), None);
    }
    assert_eq!(Record::from_bytes(&vec![b' '; RECORD_BYTES_MAX + 1]), None);
    // A record dated ahead would outlive all others; one that is too old is forgotten.
    for taken in [now().plus(DAY), start().minus(DAY * 40)] {
        assert_eq!(fleet(&[Record { taken, ..good.clone() }]), Fleet::default());
    }
}

#[test]
fn the_largest_record_fits() {
    let mut baseline = Baseline::new(Config { max_shells: 5000, ..Config::default() });
    for number in 0..5000 {
        let line = format!("sh -c {} word{number}x", "argument ".repeat(40));
        baseline.shell(&shop(), "/usr/bin/parent", "/bin/sh", &line, Learn::Yes, start());
        peer(&mut baseline, &shop(), &format!("198.{}.{}.1:443", number / 250, number % 250), start());
    }
    let record = baseline.records("a", now()).pop().expect("a record");
    let bytes = record.to_bytes();
    assert!(bytes.len() <= RECORD_BYTES_MAX, "{}", bytes.len());
    assert_eq!(Record::from_bytes(&bytes), Some(record));
}

proptest! {
    #[test]
    fn the_order_in_which_hosts_are_heard_and_how_often_changes_nothing(
        told in prop::collection::vec((0..6_u8, 0..3_u8, prop::collection::vec(0..5_u8, 0..4), 0..3_u64), 1..20),
        seed: u64,
    ) {
        let records: Vec<Record> = told
            .iter()
            .map(|(host, workload, peers, later)| {
                let peers: Vec<String> = peers.iter().map(|third| format!("198.51.{third}.1:443")).collect();
                let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
                let workload = WorkloadKey::new(&format!("unit:{workload}.service"));
                let record = record(&format!("host-{host}"), &workload, &peers);
                Record { taken: now().minus(DAY * u32::try_from(*later).expect("small")), ..record }
            })
            .collect();
        let mut again: Vec<Record> = records.iter().chain(&records).cloned().collect();
        let mut state = seed | 1;
        for at in (1..again.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            again.swap(at, usize::try_from(state >> 33).expect("fits") % (at + 1));
        }
        prop_assert_eq!(fleet(&again), fleet(&records));
    }

    #[test]
    fn any_bytes_are_a_record_or_none(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Record::from_bytes(&bytes).is_none());
        prop_assert_eq!(Records::from_bytes(&bytes), Records::default());
    }
}
