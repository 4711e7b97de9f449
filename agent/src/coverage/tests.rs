use std::sync::Arc;

use super::*;
use crate::incident::coverage::GapKind;
use crate::workload::{Runtime, Workload};

const HOUR: Duration = Duration::from_secs(3600);

fn start() -> Timestamp {
    "2026-03-02T10:00:00Z".parse().expect("time")
}

fn shop() -> WorkloadKey {
    WorkloadKey::new("unit:shop.service")
}

fn route(basis: RouteBasis) -> Route {
    let workload = Arc::new(Workload::bare(shop(), Runtime::Systemd, "/system.slice/shop.service"));
    Route { workload, owner: None, basis }
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("socket")
}

fn line(completed: Timestamp, target: &str) -> AccessRecord<'static> {
    AccessRecord {
        target: Target::Socket(socket(target)),
        balancer: b"app/shop/1",
        ..AccessRecord::blank(completed, completed)
    }
}

/// A stage that watches a shop on `local` since `start`.
fn watching(local: &str) -> Coverage {
    let mut coverage = Coverage::new(6 * HOUR);
    coverage.advance(start());
    coverage.listens(&shop(), "/system.slice/shop.service", socket(local), start());
    coverage
}

fn kinds(coverage: &Coverage, learning: bool) -> Vec<GapKind> {
    let found = coverage.of(&shop(), learning).expect("watched");
    found.gaps.iter().map(|gap| gap.kind).collect()
}

#[test]
fn lines_that_arrive_late_are_told_with_their_quantiles() {
    let mut coverage = watching("0.0.0.0:8080");
    coverage.advance(start().plus(HOUR));
    for number in 0..100_u64 {
        let late = if number < 90 { 60 } else { 1800 };
        let completed = start().plus(HOUR).minus(Duration::from_secs(late));
        coverage.line(&line(completed, "10.0.0.5:8080"), Some(&route(RouteBasis::Listener)));
    }
    let found = coverage.of(&shop(), false).expect("watched");
    let within = |found: Option<u64>, exact: u64| found.is_some_and(|ms| ms >= exact && ms <= exact + exact / 8);
    assert!(within(found.edge.delay_p50_ms, 60_000) && within(found.edge.delay_p99_ms, 1_800_000), "{found:?}");
    assert_eq!((found.edge.lines, found.joined_share(), found.gaps.len()), (100, Some(1.0), 0), "{found:?}");
    let report = coverage.report(|_| false);
    assert_eq!((report.balancers[0].name.as_str(), report.balancers[0].matched), ("app/shop/1", 100));
    assert!(report.text().contains("unit:shop.service") && report.text().contains("no gaps"), "{}", report.text());
}

#[test]
fn a_listener_without_lines_is_named_after_a_while() {
    let mut coverage = watching("0.0.0.0:8080");
    assert_eq!(kinds(&coverage, false), []);
    coverage.advance(start().plus(HOUR));
    assert_eq!(kinds(&coverage, false), [GapKind::NoEdgeLines]);
    assert_eq!(kinds(&coverage, true), [GapKind::NoEdgeLines, GapKind::StillLearning]);
}

#[test]
fn lines_that_stop_are_named() {
    let mut coverage = watching("0.0.0.0:8080");
    for _ in 0..30 {
        coverage.line(&line(start(), "10.0.0.5:8080"), Some(&route(RouteBasis::Listener)));
    }
    coverage.advance(start().plus(HOUR / 2));
    assert_eq!(kinds(&coverage, false), []);
    coverage.advance(start().plus(2 * HOUR));
    assert_eq!(kinds(&coverage, false), [GapKind::EdgeLinesStopped]);
}

#[test]
fn translation_shows_as_a_port_without_a_listener_or_as_an_address_elsewhere() {
    let mut coverage = watching("10.244.0.7:8080");
    for _ in 0..5 {
        coverage.line(&line(start(), "10.0.0.5:30080"), Some(&route(RouteBasis::Address)));
    }
    assert_eq!(kinds(&coverage, false), [GapKind::AddressTranslation]);
    assert!(coverage.of(&shop(), false).expect("watched").gaps[0].text.contains("10.0.0.5:30080"));

    let mut coverage = watching("0.0.0.0:8080");
    for _ in 0..20 {
        coverage.line(&line(start(), "203.0.113.5:8080"), None);
    }
    assert_eq!(kinds(&coverage, false), [GapKind::AddressTranslation]);
    coverage.line(&line(start(), "10.0.0.5:8080"), Some(&route(RouteBasis::Listener)));
    assert_eq!(kinds(&coverage, false), [], "other replicas' lines are no gap");
}

#[test]
fn a_line_for_an_instance_that_is_gone_is_named() {
    let mut coverage = watching("10.244.0.7:8080");
    coverage.line(&line(start(), "10.244.0.7:8080"), None);
    assert_eq!(kinds(&coverage, false), [GapKind::Ephemeral]);
}

#[test]
fn instances_that_come_and_go_need_a_baseline_brought_along() {
    let mut coverage = watching("10.244.0.1:8080");
    for number in 2..6 {
        let local = socket(&format!("10.244.0.{number}:8080"));
        coverage.listens(&shop(), &format!("/pod{number}"), local, start());
        coverage.listens(&shop(), &format!("/pod{number}"), local, start().plus(HOUR / 120));
    }
    let found = coverage.of(&shop(), true).expect("watched");
    assert_eq!(found.instances, 5);
    assert_eq!(kinds(&coverage, true), [GapKind::Autoscaled, GapKind::StillLearning]);
    assert_eq!(kinds(&coverage, false), []);
}

#[test]
fn evidence_that_is_forgotten_before_its_line_comes_is_named() {
    let mut coverage = watching("0.0.0.0:8080");
    coverage.advance(start().plus(7 * HOUR));
    coverage.line(&line(start(), "10.0.0.5:8080"), Some(&route(RouteBasis::Listener)));
    assert_eq!(kinds(&coverage, false), [GapKind::ShortRetention]);
    assert_eq!(coverage.of(&shop(), false).expect("watched").edge.too_late, 1);
}

#[test]
fn losses_and_unread_lines_are_the_hosts() {
    let mut coverage = watching("0.0.0.0:8080");
    coverage.loss(&Loss { sense: "exec".into(), count: 7, since: None }, start());
    coverage.unread();
    let report = coverage.report(|_| false);
    let kinds: Vec<_> = report.gaps.iter().map(|gap| gap.kind).collect();
    assert_eq!(kinds, [GapKind::ProcessTelemetryLost, GapKind::UnreadLines]);
    assert_eq!(report.workloads[0].lost_records, 7);
    coverage.advance(start().plus(48 * HOUR));
    assert_eq!(coverage.report(|_| false).workloads[0].lost_records, 0, "of the last day");
}

#[test]
fn names_from_outside_do_not_fill_the_memory() {
    let mut coverage = Coverage::new(HOUR);
    coverage.advance(start());
    for number in 0..10_000_u32 {
        let name = number.to_string().into_bytes();
        let record = AccessRecord { balancer: &name, ..line(start(), "10.0.0.5:80") };
        coverage.line(&record, None);
        coverage.listens(&WorkloadKey::new(&format!("cgroup:/{number}")), "/", socket("10.0.0.5:80"), start());
    }
    assert_eq!((coverage.balancers.len(), coverage.workloads.len()), (BALANCERS_MAX.get(), WORKLOADS_MAX.get()));
    assert!(coverage.counters().balancers_evicted > 0 && coverage.counters().workloads_evicted > 0);
}

#[test]
fn a_restart_forgets_nothing_and_takes_no_old_listener_for_a_new_instance() {
    let mut coverage = watching("0.0.0.0:8080");
    coverage.advance(start().plus(HOUR));
    for late in 0..100_u64 {
        let completed = start().plus(HOUR).minus(Duration::from_secs(late * 30));
        coverage.line(&line(completed, "10.0.0.5:8080"), Some(&route(RouteBasis::Listener)));
        coverage.line(&line(completed, "10.9.9.9:9999"), None);
    }
    coverage.unread();
    coverage.loss(&Loss { sense: "exec".into(), count: 7, since: None }, start().plus(HOUR));
    let bytes = coverage.checkpoint();
    let mut again = Coverage::new(6 * HOUR);
    again.restore(&bytes).expect("reads");
    assert_eq!(again.report(|_| false), coverage.report(|_| false));
    assert_eq!(again.checkpoint(), bytes);
    again.advance(start().plus(2 * HOUR));
    let later = start().plus(2 * HOUR);
    again.listens(&shop(), "/system.slice/shop.service", socket("0.0.0.0:8080"), later);
    assert_eq!(again.of(&shop(), false).expect("watched").instances, 1);
    again.listens(&shop(), "/system.slice/shop.service", socket("0.0.0.0:8080"), later.plus(HOUR));
    assert_eq!(again.of(&shop(), false).expect("watched").instances, 2);
    for damaged in [&b""[..], b"{}", br#"{"version":9}"#] {
        assert!(again.restore(damaged).is_err());
    }
}

#[test]
fn the_answer_fits_a_terminal_and_says_each_thing_to_do_once() {
    let mut coverage = watching("0.0.0.0:8080");
    for name in ["unit:a.service", "unit:b.service", "pod:kubernetes/a-very-long-name-of-a-deployment/container"] {
        let key = WorkloadKey::new(name);
        coverage.listens(&key, name, socket("0.0.0.0:9090"), start());
    }
    coverage.loss(&Loss { sense: "exec".into(), count: 7, since: None }, start());
    coverage.advance(start().plus(HOUR));
    let text = coverage.report(|_| true).text();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words.matches("still being learned").count(), 1, "{text}");
    assert!(
        words.contains("unit:a.service, unit:b.service: it listens") && text.contains("this host: 7 records"),
        "{text}"
    );
}
