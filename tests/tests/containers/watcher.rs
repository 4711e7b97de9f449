//! The senses with the tables behind them: where does a program stand that bears a mark.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use breachline::decode::BootClock;
use breachline::enrich::procfs::{self, Resolver};
use breachline::enrich::{self, Enricher};
use breachline::event::{HostEvent, HostEventKind};
use breachline::evidence::Placement;
use breachline::kernel::{self, Sensor};
use breachline::timestamp::Timestamp;
use nix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

/// Longest wait for a record that must come: machines under test are busy.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Watcher {
    sensor: Sensor,
    runtime: Runtime,
    clock: BootClock,
    resolver: Resolver,
    enricher: Enricher,
    /// Programs, with where they stood when they started.
    started: Vec<(Vec<String>, Placement)>,
}

impl Watcher {
    /// The senses loaded, and what is there looked at.
    pub(crate) fn load() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sensor = runtime.block_on(async { Sensor::load(&kernel::Config::default()) })?;
        let now = nanos(ClockId::CLOCK_REALTIME)?;
        let clock = BootClock { offset_ns: now - nanos(ClockId::CLOCK_BOOTTIME)? };
        let mut watcher = Self {
            sensor,
            runtime,
            clock,
            resolver: Resolver::new(&procfs::Config::default()),
            enricher: Enricher::new(enrich::Config::default()),
            started: Vec::new(),
        };
        // Whoever runs the tests may listen somewhere, and nobody becomes a container's monitor below a service: these runtimes are
        // to stand as if init had started them.
        let facts = watcher.resolver.snapshot(Timestamp::from_unix_nanos(now)).into_iter();
        for fact in facts.filter(|fact| !matches!(fact.kind, HostEventKind::Listen(_))) {
            watcher.enricher.observe(&fact);
        }
        Ok(watcher)
    }

    /// Where busybox stood when it was started with `mark`; the runtime's own command has it among its words too.
    pub(crate) fn place_of(&mut self, mark: &str) -> Result<Placement> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read();
            let is_meant = |argv: &[String]| argv.first().is_some_and(|program| program.ends_with("busybox"));
            let marked = |argv: &[String]| argv.iter().any(|word| word == mark);
            let found = self.started.iter().find(|(argv, _)| is_meant(argv) && marked(argv));
            if let Some((_, place)) = found {
                return Ok(place.clone());
            }
            if Instant::now() > deadline {
                bail!("no program with {mark} was told");
            }
            self.runtime.block_on(self.sensor.ready());
        }
    }

    fn read(&mut self) {
        let mut events = Vec::new();
        while self.sensor.drain(self.clock, &mut events) > 0 {}
        for event in events {
            for fact in self.resolver.facts_for(&event) {
                self.enricher.observe(&fact);
            }
            self.observe(&event);
        }
    }

    fn observe(&mut self, event: &HostEvent) {
        self.enricher.observe(event);
        if let HostEventKind::Exec(exec) = &event.kind {
            self.started.push((exec.argv.clone(), self.enricher.place(&exec.actor, event.at)));
        }
    }
}

fn nanos(clock: ClockId) -> Result<i64> {
    let time = clock_gettime(clock)?;
    Ok(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}
