//! What must hold of the whole detector, whatever arrives when: order, duplicates, unrelated lines, restarts, bounds.
//!
//! Each case is a day and a few hours of one host: services that learn, are used and scanned, and breaches of any scripted kind.

use std::collections::BTreeMap;

use breachline::config::Config;
use breachline::detector::Detector;
use breachline::event::HostEvent;
use breachline::incident::{Incident, Severity};
use breachline::timestamp::Timestamp;
use breachline_tests::simulate::access_log::Line;
use breachline_tests::simulate::chain::{Attack, scripts};
use breachline_tests::simulate::corpus::Corpus;
use breachline_tests::simulate::machine::Machine;
use breachline_tests::simulate::ordinary;
use breachline_tests::simulate::random::Random;
use breachline_tests::simulate::scene::Scene;
use breachline_tests::simulate::service::{Service, host_address};
use breachline_tests::simulate::{beginning, later};
use proptest::prelude::*;

/// Latest that a line may be, seconds: the default bound less what a request itself takes.
const LATEST: u64 = 6 * 3600 - 120;
/// When the breach begins, seconds: a day has been learned.
const BREACH: f64 = 90_000.0;

/// One host's story: everything that happened, without when it is heard of.
struct Story {
    events: Vec<HostEvent>,
    lines: Vec<Line>,
    /// What an agent that starts at the breach's end reads from /proc.
    snapshot: Vec<HostEvent>,
}

fn story(seed: u64) -> Story {
    let mut random = Random::of(seed, &[21]);
    let corpus = Corpus::made();
    let mut machine = Machine::boot(host_address(1), later(beginning(), -3600.0));
    let instances: Vec<_> = (0..)
        .zip([0, 1, 2, 6])
        .map(|(slot, number)| Service::of(number).start(&mut machine, beginning(), 1, slot, 0, &mut random))
        .collect();
    let mut lines = Vec::new();
    for number in 0..600_u32 {
        let at = later(beginning(), 60.0 + f64::from(number) * 165.0);
        let instance = random.pick(&instances).clone();
        let mut scene =
            Scene { machine: &mut machine, lines: &mut lines, random: &mut random, instance: &instance, at };
        match scene.random.below(4) {
            0 => ordinary::visited(&mut scene, &corpus.ordinary),
            1 => {
                let client = scene.user();
                ordinary::scanned(&mut scene, &corpus.hostile, client);
            }
            2 => {
                let (habit, _) = *scene.random.pick(instance.service.profile.habits);
                ordinary::happens(habit, &mut scene);
            }
            _ => scene.refresh(0.0, instance.main),
        }
    }
    let scripts = scripts();
    let script = scripts[random.index(scripts.len())];
    let instance = random.pick(&instances).clone();
    let attack = Attack::of(1, &mut random);
    let at = later(beginning(), BREACH);
    let mut scene = Scene { machine: &mut machine, lines: &mut lines, random: &mut random, instance: &instance, at };
    (script.play)(&mut scene, &attack);
    let snapshot = machine.snapshot(at);
    let mut events = std::mem::take(&mut machine.events);
    events.sort_by_key(|event| event.at);
    lines.sort_by_key(|line| (line.completed, line.received));
    Story { events, lines, snapshot }
}

/// What is heard, in order of arrival.
#[derive(Clone, Copy)]
enum Heard<'s> {
    Event(&'s HostEvent),
    Line(&'s Line),
}

/// The story as it is heard: events at once, each line as late as `delays` says (in turn).
fn heard<'s>(story: &'s Story, delays: &[u64]) -> Vec<(Timestamp, Heard<'s>)> {
    let events = story.events.iter().map(|event| (event.at, Heard::Event(event)));
    let lines = story
        .lines
        .iter()
        .zip(delays.iter().cycle())
        .map(|(line, delay)| (line.completed.plus(std::time::Duration::from_secs(*delay)), Heard::Line(line)));
    let mut all: Vec<_> = events.chain(lines).collect();
    all.sort_by_key(|(at, _)| *at);
    all
}

/// A detector with what it raised.
struct Run {
    detector: Detector,
    raised: Vec<Incident>,
    tick: Timestamp,
}

impl Run {
    fn new() -> Self {
        let detector = Detector::new(&Config::default()).expect("builds");
        Self { detector, raised: Vec::new(), tick: beginning() }
    }

    fn advance(&mut self, at: Timestamp) {
        while self.tick <= at {
            self.detector.advance(self.tick, &mut self.raised);
            self.tick = later(self.tick, 60.0);
        }
    }

    fn hear(&mut self, at: Timestamp, heard: Heard<'_>) {
        self.advance(at);
        match heard {
            Heard::Event(event) => {
                self.detector.host(event, &mut self.raised);
            }
            Heard::Line(line) => {
                let mut text = String::new();
                line.render(&mut text);
                self.detector.edge(&line.service, text.as_bytes(), &mut self.raised);
            }
        }
    }

    fn of(all: &[(Timestamp, Heard<'_>)]) -> Self {
        let mut run = Self::new();
        all.iter().for_each(|(at, heard)| run.hear(*at, *heard));
        run
    }

    /// The agent stops and starts again: its memory is saved and read, the rest is asked of /proc.
    fn restart(&mut self, snapshot: &[HostEvent]) {
        let baseline = self.detector.baseline().to_bytes().expect("serialises");
        let checkpoint = self.detector.checkpoint();
        self.detector = Detector::restore(&Config::default(), Some(&baseline), Some(&checkpoint)).expect("builds");
        for fact in snapshot {
            self.detector.host(fact, &mut self.raised);
        }
    }

    /// The last word on every incident, once nothing can change any more.
    fn finals(mut self) -> BTreeMap<String, Final> {
        let end = later(self.tick, 30.0 * 3600.0);
        self.advance(end);
        let mut finals = BTreeMap::new();
        for incident in self.raised {
            let last = if incident.superseded_by.is_some() { None } else { Some(Final::of(&incident)) };
            finals.insert(incident.id.clone(), last);
        }
        finals.into_iter().filter_map(|(id, last)| Some((id, last?))).collect()
    }
}

/// What an incident says in the end.
#[derive(Debug, PartialEq)]
struct Final {
    severity: Severity,
    confidence: u64,
    stages: usize,
    timeline: Vec<(Timestamp, String)>,
    requests: Vec<String>,
    campaign: Option<String>,
}

impl Final {
    /// What holds however late a line is: which of the host's steps far from the request are listed in the timeline of a chain
    /// of hours depends on it still.
    fn outline(&self) -> (Severity, usize, Option<String>) {
        (self.severity, self.stages, self.requests.first().cloned())
    }

    fn of(incident: &Incident) -> Self {
        Self {
            severity: incident.severity,
            confidence: incident.confidence.to_bits(),
            stages: incident.stages.len(),
            timeline: incident.timeline.iter().map(|step| (step.at, step.reason.clone())).collect(),
            requests: incident.candidates.ranked.iter().map(|one| one.request.url.clone()).collect(),
            campaign: incident.campaign.as_ref().map(|campaign| campaign.id.clone()),
        }
    }
}

fn delays() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(prop_oneof![Just(0), 0..400_u64, 0..LATEST], 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn however_late_each_line_is_the_final_incidents_are_the_same(seed: u64, delays in delays()) {
        let story = story(seed);
        let outline = |run: Run| run.finals().into_iter().map(|(id, last)| (id, last.outline())).collect::<Vec<_>>();
        let at_once = outline(Run::of(&heard(&story, &[0])));
        prop_assert_eq!(outline(Run::of(&heard(&story, &delays))), at_once);
    }

    #[test]
    fn lines_heard_twice_change_nothing(seed: u64, delays in delays(), later_by in 0..3600_u64) {
        let story = story(seed);
        let once = heard(&story, &delays);
        let again = |(at, heard): &(Timestamp, _)| match heard {
            Heard::Line(_) => Some((at.plus(std::time::Duration::from_secs(later_by)), *heard)),
            Heard::Event(_) => None,
        };
        let mut twice = once.clone();
        // What would come too late comes once.
        let bound = |at: Timestamp, heard: Heard<'_>| matches!(heard, Heard::Line(line) if at.since(line.completed).as_secs() < LATEST);
        twice.extend(once.iter().filter_map(again).filter(|(at, heard)| bound(*at, *heard)));
        twice.sort_by_key(|(at, _)| *at);
        prop_assert_eq!(Run::of(&twice).finals(), Run::of(&once).finals());
    }

    #[test]
    fn lines_for_others_change_nothing(seed: u64, count in 1..2000_u16) {
        let story = story(seed);
        let alone = heard(&story, &[0]);
        let corpus = Corpus::made();
        let mut machine = Machine::boot(host_address(9), later(beginning(), -3600.0));
        let mut random = Random::of(seed, &[22]);
        let elsewhere = Service::of(8).start(&mut machine, beginning(), 9, 0, 0, &mut random);
        let mut lines = Vec::new();
        for number in 0..count {
            let at = later(beginning(), BREACH - 900.0 + f64::from(number));
            let mut scene = Scene { machine: &mut machine, lines: &mut lines, random: &mut random, instance: &elsewhere, at };
            let client = scene.user();
            ordinary::scanned(&mut scene, &corpus.hostile, client);
        }
        let mut among = alone.clone();
        among.extend(lines.iter().map(|line| (line.completed, Heard::Line(line))));
        among.sort_by_key(|(at, _)| *at);
        prop_assert_eq!(Run::of(&among).finals(), Run::of(&alone).finals());
    }

    #[test]
    fn a_restart_after_the_breach_changes_nothing(seed: u64, delays in delays()) {
        let story = story(seed);
        let all = heard(&story, &delays);
        let straight = Run::of(&all).finals();
        let mut run = Run::new();
        let last_event = story.events.iter().map(|event| event.at).max().unwrap_or(Timestamp::MIN);
        let (before, after) = all.split_at(all.partition_point(|(at, _)| *at <= last_event));
        before.iter().for_each(|(at, heard)| run.hear(*at, *heard));
        run.restart(&story.snapshot);
        after.iter().for_each(|(at, heard)| run.hear(*at, *heard));
        prop_assert_eq!(run.finals(), straight);
    }
}
