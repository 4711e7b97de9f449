//! One host's story for tests: a day is learned, the services are used and scanned, then one breach of any scripted kind.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use breachline::event::{HOST_SCHEMA_VERSION, HostEvent};

use super::access_log::Line;
use super::chain::{Attack, scripts};
use super::corpus::Corpus;
use super::machine::Machine;
use super::random::Random;
use super::scene::Scene;
use super::service::{Service, host_address};
use super::{beginning, later, ordinary};

/// When the breach begins, seconds: a day has been learned.
pub const BREACH: f64 = 90_000.0;

/// Everything that happened, without when it is heard of.
pub struct Story {
    /// The kind of breach.
    pub breach: &'static str,
    /// What the kernel says, by time.
    pub events: Vec<HostEvent>,
    /// What balancers say, by the time at which the response was complete.
    pub lines: Vec<Line>,
    /// What an agent that starts at the breach's end reads from /proc.
    pub snapshot: Vec<HostEvent>,
}

impl Story {
    /// The same seed gives the same story.
    #[must_use]
    pub fn of(seed: u64) -> Self {
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
        let mut scene =
            Scene { machine: &mut machine, lines: &mut lines, random: &mut random, instance: &instance, at };
        (script.play)(&mut scene, &attack);
        let snapshot = machine.snapshot(at);
        let mut events = std::mem::take(&mut machine.events);
        events.sort_by_key(|event| event.at);
        lines.sort_by_key(|line| (line.completed, line.received));
        Self { breach: script.name, events, lines, snapshot }
    }

    /// Writes it as recordings that `breachline replay` reads: the host's, and one edge log for each service.
    ///
    /// # Errors
    ///
    /// The file system's own.
    pub fn record(&self, directory: &Path) -> io::Result<(PathBuf, Vec<PathBuf>)> {
        let host = directory.join("host.ndjson");
        let mut out = BufWriter::new(File::create(&host)?);
        writeln!(out, "{{\"schema\":{HOST_SCHEMA_VERSION},\"agent\":\"simulated\"}}")?;
        for event in &self.events {
            serde_json::to_writer(&mut out, event)?;
            writeln!(out)?;
        }
        out.flush()?;
        let mut logs = BTreeMap::new();
        let mut text = String::new();
        for line in &self.lines {
            let path = directory.join(format!("{}.log", line.service));
            if !logs.contains_key(&path) {
                logs.insert(path.clone(), BufWriter::new(File::create(&path)?));
            }
            let Some(log) = logs.get_mut(&path) else { continue };
            line.render(&mut text);
            writeln!(log, "{}", text.trim_end())?;
        }
        logs.values_mut().try_for_each(io::Write::flush)?;
        Ok((host, logs.into_keys().collect()))
    }
}
