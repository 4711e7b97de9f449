//! Connections: the one a request came over, and what became of those that were made.

use crate::event::{Connection, FlowState};
use crate::evidence::{EgressEvidence, HostEvidence, Outcome};
use crate::incident::{Join, StepEvidence};

use super::build::*;

/// A shell started while the service was answering these peers.
fn shell_for(seconds: f64, peers: &[&str]) -> HostEvidence {
    let local = "10.0.0.5:8080".parse().expect("an address");
    let inbound = peers.iter().map(|peer| Connection { peer: peer.parse().expect("an address"), local });
    HostEvidence { inbound: inbound.collect(), ..shell(seconds, "id") }
}

/// Of requests that look the same and are in flight together, the one whose connection was being answered is named.
#[test]
fn the_connection_that_was_being_answered_names_the_request() {
    let check = |upstream: [Option<&'static str>; 3], peers: &[&str], expected: Option<(&str, Join)>| {
        let mut run = Run::new();
        for (n, upstream) in upstream.into_iter().enumerate() {
            run.feed(Line { upstream, ..line(0.05, &format!("/order/{n}")) });
        }
        run.feed(shell_for(0.1, peers));
        run.feed(egress(0.2, "203.0.113.7:80"));
        let best = run.only().candidates.best().expect("a request");
        if let Some((url, join)) = expected {
            assert!(best.request.url.ends_with(url), "{} {}", best.request.url, best.reason);
            assert_eq!(best.join, join);
        } else {
            assert_eq!(best.join, Join::Descendant, "{upstream:?} {peers:?}");
        }
    };
    let nodes = [Some("10.0.0.9:1111"), Some("10.0.0.9:2222"), Some("10.0.0.9:3333")];
    check(nodes, &["10.0.0.9:2222"], Some(("/order/1", Join::Connection)));
    check(nodes, &["[::ffff:10.0.0.9]:3333"], Some(("/order/2", Join::Connection)));
    // Some formats log the port alone.
    check([None, Some("0.0.0.0:2222"), None], &["10.0.0.9:2222"], Some(("/order/1", Join::Connection)));
    check(nodes, &["10.0.0.9:4444"], None);
    check([None; 3], &["10.0.0.9:2222"], None);
    check(nodes, &[], None);
}

/// A connection is used again: what it carried before is not what was being answered.
#[test]
fn an_earlier_request_on_the_same_connection_is_not_meant() {
    let mut run = Run::new();
    let upstream = Some("10.0.0.9:2222");
    run.feed(Line { upstream, ..injection(-60.0) });
    run.feed(shell_for(0.1, &["10.0.0.9:2222"]));
    run.feed(egress(0.2, "203.0.113.7:80"));
    assert!(run.only().candidates.ranked.iter().all(|candidate| candidate.join != Join::Connection));
}

fn sent(evidence: EgressEvidence) -> EgressEvidence {
    let outcome = Outcome {
        state: FlowState::Closed,
        effective: None,
        bytes_sent: 3_200_000,
        bytes_received: 117,
        bytes_elsewhere: 0,
        lasted_ms: 4_200,
    };
    EgressEvidence { outcome: Some(outcome), ..evidence }
}

/// What became of a contact, and what an endpoint answered, is told in its step, whatever came first.
#[test]
fn an_end_completes_its_step() {
    let answered = HostEvidence { status: Some(200), ..credential(0.2) };
    let parts: [Input; 6] = [
        injection(0.0).into(),
        shell(0.1, "ping 127.0.0.1;curl http://203.0.113.7/x").into(),
        credential(0.2).into(),
        answered.into(),
        egress(0.3, "203.0.113.7:80").into(),
        sent(egress(0.3, "203.0.113.7:80")).into(),
    ];
    let orders = [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 5, 2, 4, 0, 1]];
    let runs = orders.map(|order| {
        let mut run = Run::of(order.map(|part| parts[part].clone()));
        // The end of a contact alone is no reason to notify again at once.
        run.settle();
        run
    });
    for run in &runs {
        let incident = run.only();
        let told: Vec<_> = incident
            .timeline
            .iter()
            .map(|step| match &step.evidence {
                StepEvidence::Host { status, .. } => status.map(u64::from),
                StepEvidence::Peer { outcome, .. } => outcome.map(|outcome| outcome.bytes_sent),
                StepEvidence::Request { .. } => None,
            })
            .collect();
        assert_eq!(told, [None, None, Some(200), Some(3_200_000)]);
        assert!(incident.exposures[0].how.ends_with(", and answered (200)"), "{}", incident.exposures[0].how);
        assert_eq!(run.finals(), runs[0].finals());
    }
}
