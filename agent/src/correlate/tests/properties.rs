//! What must hold for any order, any lateness, any restart.

use proptest::prelude::*;

use crate::correlate::{Config, Correlator};
use crate::event::MetadataPath;
use crate::evidence::{EgressEvidence, HostEvidence, Novelty};
use crate::request::{AttackClass, Indicator};

use super::build::*;

/// Chains and what surrounds them, all within a few hours.
fn pool() -> Vec<Input> {
    let mut inputs = full_chain();
    let ssrf = Line {
        verdict: Some(verdict(
            AttackClass::Ssrf,
            95,
            vec![Indicator::Address("169.254.169.254".parse().expect("address"))],
        )),
        ..line(900.0, "/fetch?url=http://169.254.169.254/")
    };
    inputs.push(ssrf.into());
    let sdk = HostEvidence { novelty: Novelty::Known, ..metadata(900.1, below(&[]), MetadataPath::Credential) };
    inputs.push(sdk.into());
    inputs.push(shell(2000.1, "uname -a").into());
    inputs.push(line(2000.0, "/api/upload").into());
    inputs.push(reverse_shell(5400.0, "bash -i").into());
    inputs.push(contact(5401.0, below(&[(200, "/usr/bin/bash", "bash -i")]), "203.0.113.50:4444").into());
    let hook = contact(5000.0, below(&[]), "203.0.113.80:443");
    inputs.push(EgressEvidence { name: Some("hooks.example".into()), ..hook }.into());
    for n in 0..6_u32 {
        inputs.push(probe(f64::from(n) * 700.0 - 10.0, n).into());
        inputs.push(line(f64::from(n) * 611.0, &format!("/item/{n}")).into());
        inputs.push(Line { workload: workload("blog"), owner: None, ..injection(f64::from(n) * 800.0 + 5.0) }.into());
    }
    inputs
}

/// Inputs in the order of their arrival: each late by its own delay, time moving on meanwhile.
fn arrive(inputs: &[Input], delays: &[u64]) -> Run {
    let mut arrivals: Vec<_> = inputs
        .iter()
        .zip(delays)
        .map(|(input, delay)| (input.event_time().plus(std::time::Duration::from_secs(*delay)), input))
        .collect();
    arrivals.sort_by_key(|(arrival, _)| *arrival);
    let mut run = Run::new();
    for (arrival, input) in arrivals {
        run.revisions.extend(run.engine.advance(arrival));
        run.feed(input.clone());
    }
    run.settle();
    run
}

fn delays(inputs: usize) -> impl Strategy<Value = Vec<u64>> {
    let most = hours(6).as_secs() - 1;
    prop::collection::vec(prop_oneof![Just(0), 0..120_u64, 0..most], inputs)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_arrival_order_within_the_bound_ends_in_the_same_incidents(delays in delays(pool().len())) {
        let inputs = pool();
        let in_order = arrive(&inputs, &vec![0; inputs.len()]).finals();
        prop_assert!(!in_order.is_empty());
        prop_assert_eq!(arrive(&inputs, &delays).finals(), in_order);
    }

    #[test]
    fn duplicates_change_nothing(delays in delays(pool().len()), twice in prop::collection::vec(0..pool().len(), 0..20)) {
        let inputs = pool();
        let once = arrive(&inputs, &delays);
        let mut inputs_twice = inputs.clone();
        let mut delays_twice = delays.clone();
        for n in twice {
            inputs_twice.push(inputs[n].clone());
            delays_twice.push((delays[n] + 77) % 21_000);
        }
        prop_assert_eq!(arrive(&inputs_twice, &delays_twice).finals(), once.finals());
    }

    #[test]
    fn unrelated_lines_change_no_verdict(kept in prop::collection::vec(any::<bool>(), 200)) {
        let outcome = |keep: &dyn Fn(usize) -> bool| {
            let mut inputs = full_chain();
            let unrelated = (0..200).filter(|n| keep(*n)).map(|n| {
                let n = u32::try_from(n).expect("few");
                Line { workload: workload("blog"), owner: None, ..line(f64::from(n) * 30.0 - 3000.0, &format!("/post/{n}")) }
            });
            inputs.extend(unrelated.map(Input::from));
            let run = arrive(&inputs, &vec![0; inputs.len()]);
            run.finals().into_values().map(|i| (i.id.clone(), i.severity, i.confidence.to_bits(), i.timeline.len())).collect::<Vec<_>>()
        };
        prop_assert_eq!(outcome(&|n| kept[n]), outcome(&|_| false));
    }

    #[test]
    fn a_restart_at_any_point_changes_nothing(delays in delays(pool().len()), at_input in 0..pool().len()) {
        let inputs = pool();
        let mut arrivals: Vec<_> = inputs.iter().zip(&delays).collect();
        arrivals.sort_by_key(|(input, delay)| input.event_time().plus(std::time::Duration::from_secs(**delay)));
        let mut straight = Run::new();
        let mut restarted = Run::new();
        for (n, (input, delay)) in arrivals.into_iter().enumerate() {
            let arrival = input.event_time().plus(std::time::Duration::from_secs(*delay));
            if n == at_input {
                let bytes = restarted.engine.checkpoint();
                restarted.engine = Correlator::restore(Config::default(), &bytes).expect("restores");
                prop_assert_eq!(restarted.engine.checkpoint(), bytes);
            }
            for run in [&mut straight, &mut restarted] {
                run.revisions.extend(run.engine.advance(arrival));
                run.feed(input.clone());
            }
        }
        straight.settle();
        restarted.settle();
        prop_assert_eq!(restarted.revisions, straight.revisions);
    }
}

#[test]
fn a_checkpoint_that_is_none_is_refused() {
    let check = |bytes: &[u8], expected: &str| {
        let error = Correlator::restore(Config::default(), bytes).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(b"", "cannot be read");
    check(b"{\"version\":3}", "cannot be read");
    check(b"{\"version\":999}", "has version 999");
}
