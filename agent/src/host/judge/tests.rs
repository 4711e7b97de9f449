use std::fmt::Write as _;

use super::*;
use crate::{baseline, enrich};

/// Names of peers, ends of contacts, raw sockets, connections being served.
mod senses;

/// A shop that mails, pays and asks for its own credentials; a day later the same, a login, and a break-in.
const BREAK_IN: &str = include_str!("break_in.ndjson");

/// What is to be said of it.
const EVIDENCE: &str = include_str!("break_in.expected");

fn stages(recording: &str) -> Vec<Stage> {
    judged(recording.lines().map(|line| serde_json::from_str::<HostEvent>(line).expect("an event")))
}

fn judged(events: impl IntoIterator<Item = HostEvent>) -> Vec<Stage> {
    let mut enricher = Enricher::new(enrich::Config::default());
    let mut baseline = Baseline::new(baseline::Config::default());
    let mut judge = Judge::new(Config::default());
    events
        .into_iter()
        .filter_map(|event| {
            enricher.observe(&event);
            judge.judge(&event, &enricher, &mut baseline)
        })
        .collect()
}

fn text(stage: &Stage) -> String {
    let (at, place, finding, novelty, reason) = match stage {
        Stage::Host(host) => {
            let finding = serde_json::to_value(&host.finding).expect("serialises").to_string();
            (host.at, &host.place, finding, host.novelty, &host.reason)
        }
        Stage::Egress(egress) => {
            (egress.at, &egress.place, format!("egress {}", egress.peer), egress.novelty, &egress.reason)
        }
    };
    let line: Vec<_> = place.lineage.iter().map(|node| node.process.pid.to_string()).collect();
    let service = place.service.as_ref().map_or(0, |service| service.process.pid);
    let workload = &place.workload.key;
    format!("{at} {workload} service={service} line={} {novelty:?}\n  {finding}\n  {reason}", line.join("<"))
}

#[test]
fn a_break_in_is_told_from_an_ordinary_day() {
    let mut told = String::new();
    for stage in stages(BREAK_IN) {
        writeln!(told, "{}", text(&stage)).expect("writes");
    }
    assert_eq!(told, EVIDENCE, "\n{told}");
}

#[test]
fn shells_above_the_service_say_nothing() {
    let node = |pid: u32, exe_path: &str| ProcessNode {
        process: crate::event::ProcessKey { pid, start_ticks: 1 },
        exe_path: exe_path.into(),
        exe: FileId::default(),
        command_line: exe_path.into(),
        uid: 0,
        started: Timestamp::default(),
    };
    let check = |paths: &[&str], service: Option<u32>, expected: Option<u32>| {
        let lineage: Vec<_> = (1..).zip(paths).map(|(pid, path)| node(pid, path)).collect();
        let service = service.map(|pid| crate::evidence::ServiceRoot {
            process: crate::event::ProcessKey { pid, start_ticks: 1 },
            listeners: Vec::new(),
        });
        let place = Placement { workload: Arc::new(crate::workload::Workload::host()), lineage, service };
        assert_eq!(below_shell(&place).map(|node| node.process.pid), expected, "{paths:?}");
    };
    check(&["/srv/shop", "/usr/bin/bash", "/sbin/init"], Some(1), None);
    check(&["/srv/worker", "/srv/shop", "/usr/bin/bash"], Some(2), None);
    check(&["/usr/bin/curl", "/usr/bin/dash", "/srv/shop", "/usr/bin/bash"], Some(3), Some(2));
    check(&["/usr/bin/curl", "/usr/bin/dash", "/srv/shop"], None, Some(2));
}
