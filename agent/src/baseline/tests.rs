use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn start() -> Timestamp {
    Timestamp::from_unix_millis(1_700_000_000_000)
}

fn shop() -> WorkloadKey {
    WorkloadKey::new("unit:shop.service")
}

fn peer(baseline: &mut Baseline, address: &str, at: Timestamp) -> Novelty {
    baseline.peer(&shop(), address.parse().expect("an address"), Protocol::Tcp, None, at)
}

/// A baseline of the shop, a day and an hour old.
fn learned() -> (Baseline, Timestamp) {
    let mut baseline = Baseline::new(Config::default());
    assert_eq!(peer(&mut baseline, "203.0.113.7:443", start()), Novelty::NewWhileLearning);
    (baseline, start().plus(DAY + HOUR))
}

#[test]
fn what_was_learned_is_known() {
    let (mut baseline, now) = learned();
    assert_eq!(peer(&mut baseline, "203.0.113.7:443", start().plus(HOUR)), Novelty::Known);
    let mut check =
        |address: &str, novelty: Novelty| assert_eq!(peer(&mut baseline, address, now), novelty, "{address}");
    check("203.0.113.7:443", Novelty::Known);
    check("203.0.113.99:443", Novelty::Known);
    check("[::ffff:203.0.113.7]:443", Novelty::Known);
    check("203.0.113.7:4444", Novelty::New);
    check("203.0.114.7:443", Novelty::New);
    check("[2001:db8::1]:443", Novelty::New);
}

#[test]
fn names_count_before_addresses() {
    let (mut baseline, now) = learned();
    let mut named = |address: &str, name: &str, at: Timestamp| {
        baseline.peer(&shop(), address.parse().expect("an address"), Protocol::Tcp, Some(name), at)
    };
    named("203.0.113.50:443", "api.pay.example.com", start());
    assert_eq!(named("198.51.100.9:443", "API.Pay2.example.com.", now), Novelty::Known);
    // Tenants of one provider are different peers: the private section of the public suffix list.
    named("198.51.100.10:443", "mine.github.io", start());
    assert_eq!(named("198.51.100.10:443", "other.github.io", now), Novelty::New);
}

#[test]
fn later_habits_settle_before_they_count() {
    let (mut baseline, now) = learned();
    assert_eq!(peer(&mut baseline, "198.51.100.1:443", now), Novelty::New);
    assert_eq!(peer(&mut baseline, "198.51.100.1:443", now.plus(HOUR)), Novelty::New);
    assert_eq!(peer(&mut baseline, "198.51.100.1:443", now.plus(DAY)), Novelty::Known);
}

#[test]
fn unseen_habits_are_forgotten() {
    let (mut baseline, now) = learned();
    assert_eq!(peer(&mut baseline, "203.0.113.7:443", now.plus(DAY * 30)), Novelty::New);
    baseline.prune(now.plus(DAY * 61));
    assert!(baseline.workloads().is_empty());
}

#[test]
fn an_incident_takes_back_what_it_taught() {
    let (mut baseline, now) = learned();
    peer(&mut baseline, "198.51.100.1:443", now);
    baseline.freeze(&shop(), now.minus(HOUR));
    peer(&mut baseline, "198.51.100.2:443", now.plus(HOUR));
    baseline.thaw(&shop());
    let later = now.plus(DAY * 3);
    assert_eq!(peer(&mut baseline, "198.51.100.1:443", later), Novelty::New);
    assert_eq!(peer(&mut baseline, "198.51.100.2:443", later), Novelty::New);
    assert_eq!(peer(&mut baseline, "203.0.113.7:443", later), Novelty::Known);
}

#[test]
fn what_must_not_be_learned_is_not() {
    let mut baseline = Baseline::new(Config::default());
    let mut shell = |learn: Learn, at: Timestamp| {
        baseline.shell(&shop(), "/usr/sbin/php-fpm8.2", "/usr/bin/dash", "sh -c id", learn, at)
    };
    assert_eq!(shell(Learn::Never, start()), Novelty::NewWhileLearning);
    assert_eq!(shell(Learn::Never, start()), Novelty::NewWhileLearning);
    assert_eq!(shell(Learn::Yes, start()), Novelty::NewWhileLearning);
    assert_eq!(shell(Learn::Yes, start()), Novelty::Known);
}

#[test]
fn slow_poisoning_meets_a_bound() {
    let mut baseline = Baseline::new(Config { additions_per_day: 2, ..Config::default() });
    baseline.touch(&shop(), start());
    let now = start().plus(DAY * 2);
    for third in 1..=10 {
        peer(&mut baseline, &format!("198.51.{third}.1:443"), now);
    }
    assert_eq!(baseline.counters().refused, 8);
    let known = (1..=10)
        .filter(|third| peer(&mut baseline, &format!("198.51.{third}.1:443"), now.plus(DAY * 2)) == Novelty::Known)
        .count();
    assert_eq!(known, 2);
}

#[test]
fn every_table_keeps_its_bound() {
    let config = Config { max_workloads: 2, max_peers: 3, additions_per_day: 100, ..Config::default() };
    let mut baseline = Baseline::new(config);
    for third in 0..10 {
        peer(&mut baseline, &format!("198.51.{third}.1:443"), start());
    }
    for third in 10..20 {
        peer(&mut baseline, &format!("198.51.{third}.1:443"), start().plus(DAY * 2));
    }
    for name in ["a", "b", "c"] {
        baseline.touch(&WorkloadKey::new(name), start().plus(DAY * 3));
    }
    let counters = baseline.counters();
    assert_eq!((counters.refused, counters.evicted, counters.workloads_evicted), (7, 10, 2));
    assert_eq!(baseline.workloads().len(), 2);
}

#[test]
fn a_stored_baseline_comes_back_the_same() {
    let (mut baseline, now) = learned();
    baseline.caller(&shop(), "/opt/shop", "aws_imds", MetadataPath::Credential, Learn::Yes, now);
    let bytes = baseline.to_bytes().expect("serialises");
    let mut again = Baseline::from_bytes(Config::default(), &bytes).expect("reads");
    assert_eq!(again.to_bytes().expect("serialises"), bytes);
    assert_eq!(peer(&mut again, "203.0.113.7:443", now), Novelty::Known);
    let small = Baseline::from_bytes(Config { max_peers: 0, ..Config::default() }, &bytes).expect("reads");
    assert_eq!(small.habits(&shop()).map(|habits| habits.len()), [0, 1, 0]);
}

#[test]
fn another_hosts_baseline_ends_the_learning_here() {
    let (theirs, now) = learned();
    let mut ours = Baseline::new(Config::default());
    ours.touch(&shop(), now);
    assert!(ours.is_learning(&shop(), now));
    ours.import(&theirs);
    assert!(!ours.is_learning(&shop(), now));
    assert_eq!(peer(&mut ours, "203.0.113.7:443", now), Novelty::Known);
}

#[test]
fn damaged_bytes_say_so() {
    let check = |bytes: &[u8], message: &str| {
        let error = Baseline::from_bytes(Config::default(), bytes).expect_err("refused");
        assert!(error.to_string().contains(message), "{error}");
    };
    check(b"", "damaged");
    check(b"{\"version\":1}", "damaged");
    check(b"{\"version\":9,\"profiles\":{}}", "format 9");
}
