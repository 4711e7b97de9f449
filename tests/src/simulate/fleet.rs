//! A fleet through its days: who runs where, what happens when, what arrives when.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use breachline::config::Config;
use breachline::timestamp::Timestamp;

use super::access_log::{Balancer, Line};
use super::chain::{Attack, Script, scripts};
use super::corpus::Corpus;
use super::host::{Arrival, Input, Told, Watched, feed};
use super::machine::Machine;
use super::ordinary::{self, Habit};
use super::random::Random;
use super::scene::Scene;
use super::service::{Credentials, Instance, Service, host_address};
use super::{beginning, later};

const DAY: f64 = 86_400.0;
/// Libraries renew some minutes before the hour that a credential is good for.
const REFRESH: f64 = 3300.0;
/// Services for each host; every service has two replicas, on neighbouring hosts.
const SERVICES_PER_HOST: u64 = 5;

/// How large, how long, how busy.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where chance starts.
    pub seed: u64,
    /// Virtual days.
    pub days: u32,
    /// Services.
    pub workloads: u64,
    /// How often each kind of breach is played.
    pub breaches: u32,
    /// Users' requests to one instance in a day, on average.
    pub visits: f64,
    /// Scanners' requests to one instance in a day, bursts apart.
    pub scans: f64,
}

/// A breach that was played.
#[derive(Clone, Debug)]
pub struct Played {
    /// What kind.
    pub script: Script,
    /// Stands in its requests.
    pub token: String,
    /// Workload that it hit.
    pub key: String,
    /// On which host.
    pub host: u8,
    /// Its first request.
    pub from: Timestamp,
    /// The last thing that it did.
    pub to: Timestamp,
}

/// What became of one host.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Breaches that were played there.
    pub played: Vec<Played>,
    /// Incidents raised there.
    pub told: Vec<Told>,
    /// Host events.
    pub events: u64,
    /// Lines.
    pub lines: u64,
}

/// A breach to be played.
#[derive(Clone, Debug)]
struct Due {
    day: u32,
    second: f64,
    service: u64,
    replica: u8,
    script: usize,
    number: usize,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Visit,
    Scan(SocketAddr),
    Probe,
    Habit(Habit),
    Refresh,
    Deploy,
    ScaleUp,
    ScaleDown,
    Beside,
    Breach(usize),
}

impl Plan {
    /// Hosts that the services need.
    #[must_use]
    pub fn hosts(&self) -> u8 {
        u8::try_from(self.workloads.div_ceil(SERVICES_PER_HOST).max(2)).unwrap_or(u8::MAX)
    }

    fn runs_on(&self, service: u64, replica: u8) -> u8 {
        u8::try_from((service + u64::from(replica)) % u64::from(self.hosts())).unwrap_or(0)
    }

    /// Every breach of the fleet: spread over services and days, never two on a service within two days. The first day belongs to
    /// learning.
    fn breaches(&self) -> Vec<Due> {
        let mut random = Random::of(self.seed, &[1]);
        let scripts = scripts().len();
        let mut slots: Vec<(u64, u32)> = Vec::new();
        for service in 0..self.workloads {
            let first = 1 + u32::try_from(random.below(2)).unwrap_or(0);
            slots.extend((first..self.days.saturating_sub(1)).step_by(3).map(|day| (service, day)));
        }
        for at in (1..slots.len()).rev() {
            slots.swap(at, random.index(at + 1));
        }
        let wanted = scripts * self.breaches as usize;
        let of_slot = |(number, (service, day)): (usize, (u64, u32))| Due {
            day,
            second: random.between(0.05, 0.95) * DAY,
            service,
            replica: random.byte() % 2,
            script: number % scripts,
            number,
        };
        slots.into_iter().take(wanted).enumerate().map(of_slot).collect()
    }

    /// One host through all its days. `progress` hears of each day that is over.
    ///
    /// # Errors
    ///
    /// The detector cannot be built.
    pub fn run(
        &self,
        host: u8,
        corpus: &Corpus,
        config: &Config,
        mut progress: impl FnMut(u32),
    ) -> anyhow::Result<Outcome> {
        let mut month = Month::new(self, host, corpus, Watched::new(config)?);
        for day in 0..self.days {
            month.day(day);
            progress(day);
        }
        feed(&mut month.watched, &mut month.pending, later(beginning(), DAY * (f64::from(self.days) + 1.0)));
        month.watched.settle();
        Ok(Outcome {
            played: month.played,
            told: month.watched.told.into_values().collect(),
            events: month.watched.events,
            lines: month.watched.lines,
        })
    }
}

/// One host on its way through its days.
struct Month<'m> {
    plan: &'m Plan,
    host: u8,
    corpus: &'m Corpus,
    machine: Machine,
    /// Instances by slot; autoscaled ones have slots of their own.
    instances: BTreeMap<u8, Instance>,
    watched: Watched,
    pending: Vec<Arrival>,
    breaches: Vec<Due>,
    played: Vec<Played>,
    /// Lines of these services between these times arrive this much later.
    holdups: Vec<(Arc<str>, Timestamp, Timestamp, f64)>,
    /// This host's clock beside the balancers'.
    skew: f64,
    order: u64,
}

impl<'m> Month<'m> {
    fn new(plan: &'m Plan, host: u8, corpus: &'m Corpus, watched: Watched) -> Self {
        let mut random = Random::of(plan.seed, &[2, u64::from(host)]);
        let start = beginning();
        let mut machine = Machine::boot(host_address(host), later(start, -3600.0));
        let mut instances = BTreeMap::new();
        let here = (0..plan.workloads).flat_map(|service| [(service, 0), (service, 1)]);
        for (slot, (service, _)) in
            (0..).zip(here.filter(|(service, replica)| plan.runs_on(*service, *replica) == host))
        {
            let at = later(start, random.between(0.0, 5.0));
            instances.insert(slot, Service::of(service).start(&mut machine, at, host, slot, 0, &mut random));
        }
        let breaches =
            plan.breaches().into_iter().filter(|due| plan.runs_on(due.service, due.replica) == host).collect();
        // Clocks are kept by NTP: milliseconds; on one host in ten they are not kept well.
        let skew = if random.chance(0.1) { random.between(-0.9, 0.9) } else { random.between(-0.02, 0.02) };
        Self {
            plan,
            host,
            corpus,
            machine,
            instances,
            watched,
            pending: Vec::new(),
            breaches,
            played: Vec::new(),
            holdups: Vec::new(),
            skew,
            order: 0,
        }
    }

    fn day(&mut self, day: u32) {
        let start = later(beginning(), f64::from(day) * DAY);
        let mut schedule = self.schedule(day);
        schedule.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut random = Random::of(self.plan.seed, &[3, u64::from(self.host), u64::from(day)]);
        let mut lines = Vec::new();
        for (second, slot, happening) in schedule {
            self.happen(later(start, second), slot, happening, &mut lines, &mut random);
        }
        self.ship(lines);
        feed(&mut self.watched, &mut self.pending, later(start, DAY));
    }

    /// What will happen in a day, by second and instance, in no order.
    fn schedule(&self, day: u32) -> Vec<(f64, u8, Happening)> {
        let mut all = Vec::new();
        for (slot, instance) in &self.instances {
            let stream = [4, u64::from(self.host), u64::from(*slot), u64::from(day)];
            self.instance_day(day, *slot, instance, &mut Random::of(self.plan.seed, &stream), &mut all);
        }
        let mut random = Random::of(self.plan.seed, &[5, u64::from(self.host), u64::from(day)]);
        all.extend((0..30).map(|_| (random.between(60.0, DAY), 0, Happening::Beside)));
        for (index, due) in self.breaches.iter().enumerate().filter(|(_, due)| due.day == day) {
            let slot = self.instances.iter().find(|(_, instance)| instance.service.number == due.service);
            all.extend(slot.map(|(slot, _)| (due.second, *slot, Happening::Breach(index))));
        }
        all
    }

    fn instance_day(
        &self,
        day: u32,
        slot: u8,
        instance: &Instance,
        random: &mut Random,
        all: &mut Vec<(f64, u8, Happening)>,
    ) {
        let service = &instance.service;
        // Some services are busier than others; nights are quieter than days.
        let size = [0.3, 0.6, 1.0, 1.1, 2.0][usize::try_from(service.number).unwrap_or(0) % 5];
        let daily = |second: f64| 0.25 + 0.75 * (std::f64::consts::PI * second / DAY).sin().powi(2);
        let mut often = |mean_per_day: f64, what: Happening, random: &mut Random, diurnal: bool| {
            let mut second = random.waiting(DAY / mean_per_day);
            while second < DAY {
                if second > 10.0 && (!diurnal || random.chance(daily(second))) {
                    all.push((second, slot, what));
                }
                second += random.waiting(DAY / mean_per_day);
            }
        };
        often(self.plan.visits * size * 1.6, Happening::Visit, random, true);
        let scanner = SocketAddr::from(([45, random.byte(), random.byte(), random.byte()], 33_000));
        often(self.plan.scans, Happening::Scan(scanner), random, false);
        if random.chance(0.15) {
            let burst = SocketAddr::from(([64, 62, random.byte(), random.byte()], 33_000));
            let start = random.between(0.0, DAY - 700.0);
            all.extend((0..1500).map(|_| (start + random.between(0.0, 600.0), slot, Happening::Scan(burst))));
        }
        let mut often = |mean_per_day: f64, what: Happening, random: &mut Random| {
            let mut second = random.waiting(DAY / mean_per_day);
            while second < DAY {
                all.push((second.max(10.0), slot, what));
                second += random.waiting(DAY / mean_per_day);
            }
        };
        for (habit, mean) in service.profile.habits {
            often(*mean, Happening::Habit(*habit), random);
        }
        if service.profile.balancer != Balancer::Alb {
            all.extend((0..2880).map(|number| (f64::from(number) * 30.0 + 1.0, slot, Happening::Probe)));
        }
        if service.profile.credentials != Credentials::None {
            let mut second = self.first_refresh(slot) - f64::from(day) * DAY;
            second += (-second / REFRESH).ceil().max(0.0) * REFRESH;
            while second < DAY {
                all.push((second + random.between(0.0, 5.0), slot, Happening::Refresh));
                second += REFRESH;
            }
        }
        self.changes(slot, service, random, all);
    }

    /// When an instance's library renewed its credential first; it does so from then on, through nights and days.
    fn first_refresh(&self, slot: u8) -> f64 {
        Random::of(self.plan.seed, &[7, u64::from(self.host), u64::from(slot)]).between(0.0, REFRESH)
    }

    /// Deployments, a third of the days; pods scale up at noon and down in the evening.
    fn changes(&self, slot: u8, service: &Service, random: &mut Random, all: &mut Vec<(f64, u8, Happening)>) {
        if random.chance(0.3) {
            all.push((random.between(8.0, 18.0) * 3600.0, slot, Happening::Deploy));
        }
        if service.profile.pod && random.chance(0.3) && slot < 100 {
            all.push((11.0 * 3600.0 + random.between(0.0, 3600.0), slot, Happening::ScaleUp));
            all.push((19.0 * 3600.0 + random.between(0.0, 3600.0), slot + 100, Happening::ScaleDown));
        }
    }

    fn happen(&mut self, at: Timestamp, slot: u8, what: Happening, lines: &mut Vec<Line>, random: &mut Random) {
        let Some(instance) = self.instances.get(&slot).cloned() else { return };
        let mut scene = Scene { machine: &mut self.machine, lines, random, instance: &instance, at };
        match what {
            Happening::Visit => ordinary::visited(&mut scene, &self.corpus.ordinary),
            Happening::Scan(client) => ordinary::scanned(&mut scene, &self.corpus.hostile, client),
            Happening::Probe => ordinary::probed(&mut scene),
            Happening::Habit(habit) => ordinary::happens(habit, &mut scene),
            Happening::Refresh => {
                let worker = instance.main;
                scene.refresh(0.0, worker);
            }
            Happening::Deploy => {
                instance.stop(&mut self.machine, at);
                let (host, release) = (self.host, instance.release + 1);
                let next = instance.service.start(&mut self.machine, later(at, 1.0), host, slot, release, random);
                self.instances.insert(slot, next);
            }
            Happening::ScaleUp => {
                let next =
                    instance.service.start(&mut self.machine, at, self.host, slot + 100, instance.release, random);
                self.instances.insert(slot + 100, next);
            }
            Happening::ScaleDown => {
                instance.stop(&mut self.machine, at);
                self.instances.remove(&slot);
            }
            Happening::Beside => {
                let here: Vec<&Instance> = self.instances.values().collect();
                ordinary::beside(&mut self.machine, &here, at, random);
            }
            Happening::Breach(index) => self.breach(at, &instance, index, lines, random),
        }
    }

    fn breach(&mut self, at: Timestamp, instance: &Instance, index: usize, lines: &mut Vec<Line>, random: &mut Random) {
        let Some(due) = self.breaches.get(index).cloned() else { return };
        let script = scripts()[due.script];
        let attack = Attack::of(due.number, random);
        if random.chance(0.5) {
            // The load balancer's log is late exactly now; a file is never later than the bound that the agent is told.
            let late = random.between(0.0, 5.5 * 3600.0);
            self.holdups.push((Arc::clone(&instance.service.name), later(at, -7500.0), later(at, 900.0), late));
        }
        let mut scene = Scene { machine: &mut self.machine, lines, random, instance, at };
        let lasted = (script.play)(&mut scene, &attack);
        self.played.push(Played {
            script,
            token: attack.token,
            key: instance.service.key(),
            host: self.host,
            from: at,
            to: later(at, lasted),
        });
    }

    /// Gives everything that was written its time of arrival.
    fn ship(&mut self, lines: Vec<Line>) {
        for mut event in std::mem::take(&mut self.machine.events) {
            let at = later(event.at, 0.05);
            event.at = later(event.at, self.skew);
            self.order += 1;
            self.pending.push(Arrival { at, order: self.order, input: Input::Host(Box::new(event)) });
        }
        for line in lines {
            self.order += 1;
            let (at, again) = self.delivered(&line);
            let input = Input::Line(Box::new(line));
            if let Some(again) = again {
                self.pending.push(Arrival { at: again, order: self.order, input: input.clone() });
            }
            self.pending.push(Arrival { at, order: self.order, input });
        }
    }

    /// When a line arrives, and when it arrives again if it does.
    fn delivered(&self, line: &Line) -> (Timestamp, Option<Timestamp>) {
        if line.balancer != Balancer::Alb {
            return (later(line.completed, 0.2), None);
        }
        let seconds = line.completed.as_unix_nanos() / 1_000_000_000;
        let file = u64::try_from(seconds / 300 + 1).unwrap_or(0);
        let number = line.service.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte));
        let mut random = Random::of(self.plan.seed, &[6, number, file]);
        let written = Timestamp::from_unix_millis(i64::try_from(file * 300_000).unwrap_or(i64::MAX));
        let mut at = later(written, random.between(5.0, 60.0));
        let held = self
            .holdups
            .iter()
            .find(|(name, from, to, _)| *from <= line.received && line.received <= *to && *name == line.service);
        if let Some((.., late)) = held {
            at = later(at, *late);
        } else if random.chance(0.01) {
            at = later(at, random.between(600.0, 5.5 * 3600.0));
        }
        let again = random.chance(0.005).then(|| later(at, random.between(1.0, 900.0)));
        (at, again)
    }
}
