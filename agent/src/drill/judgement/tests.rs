//! Judgements over incidents made by hand: each way of being wrong is told from being right.

use std::sync::Arc;

use super::*;
use crate::incident::{Candidate, Candidates, Join, Timing};
use crate::request::{Request, Target};

const CRITICAL: Expect = Expect::Incident {
    severity: Severity::Critical,
    stages: &[Stage::Edge, Stage::Host, Stage::Egress],
    provisional_first: false,
    loot: "secret",
};
const CRITICAL_AFTER_PROVISIONAL: Expect = Expect::Incident {
    severity: Severity::Critical,
    stages: &[Stage::Edge, Stage::Host, Stage::Egress],
    provisional_first: true,
    loot: "secret",
};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_763_805_600_000 + ms)
}

fn attack() -> Attack {
    Attack {
        plain: "GET /ping?host=;id".into(),
        target: "/ping?host=%3Bid".into(),
        sent: at(0),
        line_available: at(100),
        loot: "a secret".into(),
    }
}

/// A critical incident that names `url`, seen `ms` after the attack.
fn critical(ms: i64, id: &str, revision: u32, url: Option<&str>) -> Sighting {
    let candidate = |url: &str| Candidate {
        request: Request {
            received: at(0),
            completed: at(0),
            client: None,
            target: Target::None,
            method: "GET".into(),
            url: url.into(),
            user_agent: String::new(),
            status: None,
            target_status: None,
            balancer: String::new(),
            trace_id: String::new(),
        },
        verdict: None,
        join: Join::Descendant,
        timing: Timing::InFlight,
        echoes: Vec::new(),
        weight: 1.0,
        reason: String::new(),
    };
    let incident = Incident {
        id: id.into(),
        title: id.into(),
        revision,
        severity: Severity::Critical,
        stages: vec![Stage::Edge, Stage::Host, Stage::Egress],
        candidates: Candidates { ranked: url.into_iter().map(candidate).collect(), ..Candidates::default() },
        ..Incident::default()
    };
    Sighting { at: at(ms), incident }
}

const RIGHT_URL: Option<&str> = Some("http://shop.example:80/ping?host=%3Bid");

fn check(expect: &Expect, attack: &Attack, sightings: &[Sighting], wrong: &[&str]) {
    let outcome = judge_attack(expect, attack, sightings);
    assert_eq!(outcome.wrong, wrong);
    assert_eq!(outcome.right, wrong.is_empty());
    assert_eq!(complete(expect, attack, sightings), wrong.is_empty());
}

#[test]
fn one_incident_with_the_right_request_is_right() {
    check(&CRITICAL, &attack(), &[critical(20, "a", 1, RIGHT_URL)], &[]);
}

#[test]
fn nothing_raised_is_wrong() {
    check(&CRITICAL, &attack(), &[], &["no incident was raised"]);
}

#[test]
fn an_attack_that_failed_proves_nothing() {
    let failed = Attack { loot: "curl: not found".into(), ..attack() };
    let wrong = "the attack itself failed: nothing containing `secret` reached the intruder";
    check(&CRITICAL, &failed, &[critical(20, "a", 1, RIGHT_URL)], &[wrong]);
}

#[test]
fn the_request_must_be_the_right_one() {
    let named = [critical(20, "a", 1, Some("http://shop.example:80/search?q=1"))];
    check(&CRITICAL, &attack(), &named, &["another request is named: http://shop.example:80/search?q=1"]);
    check(&CRITICAL, &attack(), &[critical(20, "a", 1, None)], &["no request is named"]);
}

#[test]
fn one_attack_makes_one_incident() {
    let two = [critical(20, "a", 1, RIGHT_URL), critical(30, "b", 1, RIGHT_URL)];
    check(&CRITICAL, &attack(), &two, &["one attack made a second incident: a"]);

    let mut merged = two.to_vec();
    let mut gone = critical(40, "a", 2, RIGHT_URL);
    gone.incident.superseded_by = Some("b".into());
    merged.push(gone);
    check(&CRITICAL, &attack(), &merged, &[]);
}

#[test]
fn severity_and_stages_must_be_as_expected() {
    let mut less = critical(20, "a", 1, RIGHT_URL);
    less.incident.severity = Severity::High;
    less.incident.stages.pop();
    let wrong = ["severity is high, not critical", "stages are [Edge, Host], not [Edge, Host, Egress]"];
    check(&CRITICAL, &attack(), &[less], &wrong);
}

#[test]
fn a_late_line_raises_the_revision_of_the_same_incident() {
    let provisional = critical(20, "a", 1, None);
    let revised = critical(130, "a", 2, RIGHT_URL);
    let outcome = judge_attack(&CRITICAL_AFTER_PROVISIONAL, &attack(), &[provisional, revised.clone()]);
    assert!(outcome.right, "{:?}", outcome.wrong);
    assert_eq!(outcome.revision_latency_ms, Some(30.0));

    let late = ["nothing was raised before the load balancer's line was there"];
    check(&CRITICAL_AFTER_PROVISIONAL, &attack(), std::slice::from_ref(&revised), &late);
    let guessed = ["a request was named before its line was there"];
    check(&CRITICAL_AFTER_PROVISIONAL, &attack(), &[critical(20, "a", 1, RIGHT_URL), revised], &guessed);
}

#[test]
fn silence_needs_the_proof_that_the_sensor_was_awake() {
    let awake = judge_silence(&[], &attack(), Some(at(25)));
    assert!(awake.right && !awake.caught);
    assert_eq!(awake.awake_ms, Some(25.0));
    assert!(!judge_silence(&[], &attack(), None).right);
    assert!(!judge_silence(&[critical(-5, "a", 1, None)], &attack(), Some(at(25))).right);
}

#[test]
fn the_story_is_told_from_the_request_on() {
    let mut raised = critical(20, "a", 1, RIGHT_URL);
    raised.incident.timeline = vec![crate::incident::Step {
        at: at(4),
        stage: Stage::Egress,
        technique: crate::incident::technique::Technique::APPLICATION_LAYER_PROTOCOL,
        evidence: StepEvidence::Peer {
            peer: "203.0.113.66:80".parse().expect("address"),
            protocol: crate::event::Protocol::Tcp,
            name: None::<Arc<str>>,
            server_name: None,
            process: None,
            outcome: None,
        },
        reason: "never contacted before".into(),
        join: Join::Descendant,
    }];
    let outcome = judge_attack(&CRITICAL, &attack(), &[raised]);
    let told: Vec<_> = outcome.story.iter().map(|milestone| (milestone.what, milestone.ms)).collect();
    assert_eq!(told, [("egress", 4.0), ("raised", 20.0)]);
    assert_eq!(outcome.latency_ms, Some(16.0));
}
