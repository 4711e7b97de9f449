//! Which request did it? Breaches at a target under a given rate of requests, their lines late by anything up to the bound.

use breachline::config::Config;

use super::access_log::Line;
use super::chain::{Attack, Script, Trace, scripts};
use super::corpus::Corpus;
use super::host::{Arrival, Input, Watched, feed};
use super::machine::Machine;
use super::ordinary;
use super::random::Random;
use super::scene::Scene;
use super::service::{Instance, Service, host_address};
use super::{beginning, later};

/// Virtual seconds between two breaches: more than the engine's quiet time and lateness together.
const APART: f64 = 14.0 * 3600.0;
/// Latest that lines arrive: the bound less the traffic's own length.
const LATEST: f64 = 5.5 * 3600.0;
/// Lines around one breach at most: what 1,000 requests a second bring in half a minute.
const LINES_MAX: f64 = 30_000.0;
/// Share of scanners' requests among all.
const SCANNED: f64 = 0.01;

/// What trials at one rate came to.
#[derive(Copy, Clone, Debug, Default)]
pub struct Trials {
    /// Requests a second.
    pub rate: u32,
    /// Breaches played.
    pub played: u32,
    /// Those whose request was named first.
    pub first: u32,
    /// Those whose request was among the candidates.
    pub listed: u32,
}

/// Plays `count` breaches whose exploit stands in the line, each amid `rate` requests a second to its target.
///
/// # Errors
///
/// The detector cannot be built.
pub fn trials(seed: u64, rate: u32, count: u32, corpus: &Corpus, config: &Config) -> anyhow::Result<Trials> {
    let mut random = Random::of(seed, &[7, u64::from(rate)]);
    let mut machine = Machine::boot(host_address(1), later(beginning(), -3600.0));
    // Kinds whose log has milliseconds; one of whole seconds cannot tell requests of one second apart.
    let services: Vec<Service> = [0, 1, 3].map(Service::of).into();
    let instances: Vec<Instance> = (0..)
        .zip(&services)
        .map(|(slot, service)| service.start(&mut machine, beginning(), 1, slot, 0, &mut random))
        .collect();
    let scripts: Vec<Script> = scripts().into_iter().filter(|script| script.request == Trace::Visible).collect();
    let mut watched = Watched::new(config)?;
    let mut trials = Trials { rate, ..Trials::default() };
    let mut pending = Vec::new();
    for number in 0..count as usize {
        let at = later(beginning(), 90_000.0 + APART * number as f64);
        let instance = &instances[number % instances.len()];
        let script = scripts[random.index(scripts.len())];
        let mut lines = Vec::new();
        let mut scene = Scene { machine: &mut machine, lines: &mut lines, random: &mut random, instance, at };
        let attack = Attack::of(number, scene.random);
        (script.play)(&mut scene, &attack);
        traffic(&mut scene, rate, corpus);
        ship(&mut machine, lines, &mut random, &mut pending);
        feed(&mut watched, &mut pending, later(at, APART - 60.0));
        trials.judge(&mut watched, &attack, script);
    }
    Ok(trials)
}

/// Everybody else's requests around the breach.
fn traffic(scene: &mut Scene<'_>, rate: u32, corpus: &Corpus) {
    let rate = f64::from(rate);
    let before = (LINES_MAX / rate).min(900.0);
    let start = scene.at;
    let mut second = -before * 0.7;
    while second < before * 0.3 {
        scene.at = later(start, second);
        if scene.random.chance(SCANNED) {
            let client = scene.user();
            ordinary::scanned(scene, &corpus.hostile, client);
        } else {
            ordinary::visited(scene, &corpus.ordinary);
        }
        second += scene.random.waiting(1.0 / rate);
    }
    scene.at = start;
}

fn ship(machine: &mut Machine, lines: Vec<Line>, random: &mut Random, pending: &mut Vec<Arrival>) {
    let mut order = 0;
    let mut push = |at, input| {
        order += 1;
        pending.push(Arrival { at, order, input });
    };
    for event in machine.events.drain(..) {
        push(later(event.at, 0.05), Input::Host(Box::new(event)));
    }
    let late = if random.chance(0.3) { 0.2 } else { random.between(0.0, LATEST) };
    for line in lines {
        push(later(line.completed, late), Input::Line(Box::new(line)));
    }
}

impl Trials {
    fn judge(&mut self, watched: &mut Watched, attack: &Attack, script: Script) {
        self.played += 1;
        let told: Vec<_> = std::mem::take(&mut watched.told).into_values().collect();
        let standing = || told.iter().filter(|told| told.last.superseded_by.is_none()).map(|told| &told.last);
        let ours = |url: &str| url.contains(&attack.token);
        let first = standing().any(|incident| incident.candidates.best().is_some_and(|best| ours(&best.request.url)));
        let listed = standing().any(|incident| incident.candidates.ranked.iter().any(|one| ours(&one.request.url)));
        self.first += u32::from(first);
        self.listed += u32::from(listed);
        if !first && std::env::var_os("SIMULATE_VERBOSE").is_some() {
            for incident in standing() {
                let best = incident.candidates.best().map(|best| (&best.request.url, &best.reason));
                eprintln!("{} a second, `{}`: {} named {best:?}", self.rate, script.name, incident.title);
            }
        }
    }
}
