use super::*;

const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) const CALL: Call<'static> = Call {
    exe_path: "/opt/shop",
    service: "aws_imds",
    path: MetadataPath::Credential,
    role: None,
    process: None,
    started: None,
    token: None,
};

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
    baseline.caller(&shop(), &CALL, Learn::Yes, now);
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

/// A baseline whose shop refreshed its credential for a week, every hour or so, as the role `shop`.
fn refreshing() -> (Baseline, Timestamp) {
    let mut baseline = Baseline::new(Config::default());
    let call = Call { role: Some("shop"), ..CALL };
    let mut at = start();
    for round in 0..150_u64 {
        // The library asks which role there is, then for it, and once more when the answer was slow.
        for later in [0, 2, 9] {
            baseline.caller(&shop(), &call, Learn::Yes, at.plus(Duration::from_secs(later)));
        }
        at = at.plus(HOUR + Duration::from_secs(round * 17 % 300));
    }
    (baseline, at)
}

#[test]
fn an_sdk_that_refreshes_is_known_and_off_its_cadence_it_is_not() {
    let (mut baseline, at) = refreshing();
    let call = Call { role: Some("shop"), ..CALL };
    let mut check = |call: &Call<'_>, at: Timestamp, expected: (Novelty, Manner)| {
        assert_eq!(baseline.caller(&shop(), call, Learn::Yes, at), expected);
    };
    let due = (Novelty::Known, Manner::OwnAccord);
    check(&call, at, due);
    for seconds in [180, 2400, 3000] {
        let gap = Duration::from_secs(seconds);
        let early = Manner::Early { gap, shortest: HOUR - Duration::from_secs(9) };
        check(&call, at.plus(gap), (Novelty::New, early));
    }
    // A restart of the service is no oddity.
    let restarted = Call { started: Some(at.plus(Duration::from_secs(3098))), ..call };
    check(&restarted, at.plus(Duration::from_secs(3100)), (Novelty::Known, Manner::Alike));
    check(&call, at.plus(HOUR * 2), due);
    // What the workload's own shell asks for is never its library's doing.
    let told = baseline.caller(&shop(), &call, Learn::Never, at.plus(HOUR * 3));
    assert_eq!(told, (Novelty::Known, Manner::Alike));
    // What stays odd for a day becomes a habit like any other.
    let mut at = at.plus(HOUR * 2);
    for _ in 0..200 {
        at = at.plus(Duration::from_secs(600));
        baseline.caller(&shop(), &call, Learn::Yes, at);
    }
    assert_eq!(baseline.caller(&shop(), &call, Learn::Yes, at.plus(Duration::from_secs(600))), due);
}

#[test]
fn what_a_forged_request_asks_does_not_make_the_next_refresh_odd() {
    let (mut baseline, at) = refreshing();
    let call = Call { role: Some("shop"), ..CALL };
    baseline.caller(&shop(), &call, Learn::Yes, at);
    let forged = baseline.caller(&shop(), &call, Learn::Yes, at.plus(Duration::from_secs(3000)));
    assert_eq!(forged.0, Novelty::New);
    let refresh = baseline.caller(&shop(), &call, Learn::Yes, at.plus(HOUR));
    assert_eq!(refresh, (Novelty::Known, Manner::OwnAccord));
}

#[test]
fn another_role_is_another_thing_to_ask_for() {
    let (mut baseline, at) = refreshing();
    let other = Call { role: Some("admin"), ..CALL };
    assert_eq!(baseline.caller(&shop(), &other, Learn::Yes, at), (Novelty::New, Manner::Role));
    let unnamed = Call { role: None, ..CALL };
    assert_eq!(baseline.caller(&shop(), &unnamed, Learn::Yes, at.plus(HOUR)), (Novelty::Known, Manner::OwnAccord));
    // A memory from before roles were told apart: the first one is no news.
    let mut old = Baseline::new(Config::default());
    old.caller(&shop(), &CALL, Learn::Yes, start());
    let now = start().plus(DAY * 2);
    for minutes in [0, 1] {
        let again = now.plus(Duration::from_secs(minutes * 60));
        let named = old.caller(&shop(), &Call { role: Some("shop"), ..CALL }, Learn::Yes, again);
        assert_eq!(named, (Novelty::Known, Manner::Alike));
    }
    assert_eq!(old.caller(&shop(), &other, Learn::Yes, now.plus(HOUR)), (Novelty::New, Manner::Role));
}

#[test]
fn a_call_without_the_usual_session_token_is_odd_where_one_is_usual() {
    let check = |usual: &[Option<bool>], now: Option<bool>, expected: (Novelty, Manner)| {
        let mut baseline = Baseline::new(Config::default());
        let mut at = start();
        for _ in 0..40_u64 {
            for token in usual {
                baseline.caller(&shop(), &Call { token: *token, ..CALL }, Learn::Yes, at);
            }
            at = at.plus(HOUR);
        }
        // From another of its processes, of which no cadence is known.
        let process = Some(ProcessKey { pid: 77, start_ticks: 1 });
        let call = Call { token: now, process, ..CALL };
        assert_eq!(baseline.caller(&shop(), &call, Learn::Yes, at), expected, "{usual:?} {now:?}");
    };
    let (alike, own) = ((Novelty::Known, Manner::Alike), (Novelty::Known, Manner::OwnAccord));
    check(&[Some(true)], Some(true), own);
    check(&[Some(true)], Some(false), (Novelty::New, Manner::Bare));
    check(&[Some(false)], Some(false), alike);
    check(&[Some(false)], Some(true), own);
    check(&[Some(true), Some(false)], Some(false), alike);
    // What was learned before tokens were told apart.
    check(&[None], Some(false), alike);
    check(&[Some(true)], None, alike);
}

#[test]
fn a_hundred_thousand_peers_stay_within_the_bound() {
    for begun in [start(), start().plus(DAY * 2)] {
        let mut baseline = Baseline::new(Config::default());
        baseline.touch(&shop(), start());
        for number in 0..100_000_u32 {
            let [_, second, third, fourth] = number.to_be_bytes();
            peer(&mut baseline, &format!("198.{}.{}.1:{}", third, fourth, 443 + u16::from(second)), begun);
        }
        let [peers, ..] = baseline.habits(&shop());
        assert!(peers.len() <= Config::default().max_peers, "{}", peers.len());
        assert!(baseline.to_bytes().expect("serialises").len() < 1 << 20);
        assert!(baseline.counters().refused >= 90_000);
    }
}
