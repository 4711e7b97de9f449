//! How fast the correlator and the stages before it are on one core, how much they hold in a flood, and how long a late line takes.
//!
//! Prints one JSON object per figure: `{name, value, unit, peer, peer_value, ratio}`; the peer is the target. Nothing is sent and
//! no clock but the stopwatch is read: event time is made up.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use breachline::config::Config;
use breachline::correlate::Correlator;
use breachline::detector::Detector;
use breachline::edge::judge::{Judge, Scratch};
use breachline::event::HostEvent;
use breachline::evidence::{EdgeEvidence, RouteBasis};
use breachline::request::{AccessRecord, Target, Verdict};
use breachline::timestamp::Timestamp;
use breachline::workload::{Runtime, Workload, WorkloadKey};
use breachline_tests::simulate::access_log::Line;
use breachline_tests::simulate::chain::{Attack, scripts};
use breachline_tests::simulate::corpus::Corpus;
use breachline_tests::simulate::machine::Machine;
use breachline_tests::simulate::ordinary::{self, Habit};
use breachline_tests::simulate::random::Random;
use breachline_tests::simulate::scene::Scene;
use breachline_tests::simulate::service::{Instance, Service, host_address};
use breachline_tests::simulate::{beginning, later};
use serde_json::json;

/// Records of one speed figure: a second or two of work.
const RECORDS: u64 = 3_000_000;
/// One request in so many is a scanner's.
const SCANNED: u64 = 50;
/// The flood: probes, and addresses that they come from.
const FLOOD: (u64, u64) = (10_000_000, 1_000_000);
/// Workloads at both ends of the flatness figures.
const FEW_AND_MANY: (u64, u64) = (10, 10_000);
/// Breaches whose line comes late.
const LATE: usize = 400;

fn main() -> anyhow::Result<()> {
    // One part alone, by its name: for a profiler.
    let only = std::env::args().nth(1).filter(|word| !word.starts_with('-'));
    let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    let corpus = Corpus::load()?;
    eprintln!("correlate_bench: requests from {}", corpus.source);
    let judged = judged(&corpus);
    let (few, many) = FEW_AND_MANY;
    if wanted("edge") {
        let [at_few, at_many] = [few, many].map(|workloads| edge_cost(&judged, workloads));
        put("judged edge records", 1e9 / at_few, "records/s", 2_000_000.0)?;
        put(&format!("edge record at {few} workloads"), at_few, "ns", 500.0)?;
        put(&format!("edge record at {many} workloads"), at_many, "ns", 500.0)?;
    }
    if wanted("host") {
        let [at_few, at_many] = [few, many].map(host_cost);
        let (at_few, at_many) = (at_few?, at_many?);
        put("host events", 1e9 / at_few, "events/s", 500_000.0)?;
        put(&format!("host event at {few} workloads"), at_few, "ns", 2000.0)?;
        put(&format!("host event at {many} workloads"), at_many, "ns", 2000.0)?;
    }
    if wanted("late") {
        let late = late_lines(&corpus)?;
        put("late line to revision, p50", late.0, "ms", 10.0)?;
        put("late line to revision, p99", late.1, "ms", 10.0)?;
    }
    if wanted("flood") {
        put("memory of the correlator in the flood", flood(&judged)?, "MiB", 64.0)?;
    }
    if wanted("lines") {
        let (memory, cost) = flood_of_lines(&corpus)?;
        put("memory of the whole detector in the flood", memory, "MiB", 64.0)?;
        put("hostile line through the whole detector", cost, "ns", 0.0)?;
    }
    Ok(())
}

fn put(name: &str, value: f64, unit: &str, target: f64) -> anyhow::Result<()> {
    let ratio = if target == 0.0 { 0.0 } else { value / target };
    let figure =
        json!({"name": name, "value": value, "unit": unit, "peer": "target", "peer_value": target, "ratio": ratio});
    Ok(writeln!(std::io::stdout().lock(), "{figure}")?)
}

/// Requests with what the judge says of them; scanners' ones one in [`SCANNED`].
struct Judged {
    said: Vec<(Arc<breachline_tests::simulate::access_log::Said>, Option<Verdict>)>,
    hostile: Vec<usize>,
}

fn judged(corpus: &Corpus) -> Judged {
    let (judge, mut scratch) = (Judge::new(), Scratch::default());
    let mut verdict = |said: &breachline_tests::simulate::access_log::Said| {
        let record = AccessRecord {
            method: said.method.as_bytes(),
            path_and_query: said.url.as_bytes(),
            user_agent: said.agent.as_bytes(),
            ..AccessRecord::blank(beginning(), beginning())
        };
        judge.judge(&record, &mut scratch)
    };
    let mut random = Random::of(11, &[]);
    let mut said = Vec::new();
    // Few enough to stay in the processor's cache, as a line that was just parsed is.
    for number in 0..1024_u64 {
        let from = if number % SCANNED == 0 { &corpus.hostile } else { &corpus.ordinary };
        let one = Arc::clone(random.pick(from));
        let judgement = verdict(&one);
        said.push((one, judgement));
    }
    let hostile =
        said.iter().enumerate().filter(|(_, (_, verdict))| verdict.as_ref().is_some_and(Verdict::exploit_like));
    let hostile = hostile.map(|(index, _)| index).collect();
    Judged { said, hostile }
}

fn workload(number: u64) -> Arc<Workload> {
    let name = format!("w{number}.service");
    Arc::new(Workload {
        key: WorkloadKey::new(&format!("unit:{name}")),
        runtime: Runtime::Systemd,
        cgroup: Arc::from(format!("/system.slice/{name}")),
        unit: Some(Arc::from(name)),
        container_id: None,
        container_name: None,
        image: None,
        pod_uid: None,
        pod: None,
    })
}

fn feed(engine: &mut Correlator, judged: &Judged, index: usize, at: Timestamp, client: u64, workload: &Arc<Workload>) {
    let (said, verdict) = &judged.said[index];
    let record = AccessRecord {
        balancer: b"app/shop/50dc6c495c0c9188",
        client: Some(SocketAddr::from((u32::try_from(client).unwrap_or(0).to_be_bytes(), 4711))),
        target: Target::Socket(SocketAddr::from(([10, 0, 0, 5], 8080))),
        status: Some(404),
        target_status: Some(404),
        method: said.method.as_bytes(),
        authority: b"https://shop.example:443",
        path_and_query: said.url.as_bytes(),
        user_agent: said.agent.as_bytes(),
        ..AccessRecord::blank(at, at.plus(Duration::from_millis(20)))
    };
    let workload = Arc::clone(workload);
    let evidence = EdgeEvidence {
        record,
        verdict: verdict.as_ref(),
        workload,
        owner: None,
        basis: RouteBasis::Listener,
        spike: None,
    };
    engine.edge(evidence);
}

/// Nanoseconds that the correlator takes for one judged record, at this many workloads.
fn edge_cost(judged: &Judged, workloads: u64) -> f64 {
    let mut engine = Correlator::new(Config::default().correlate);
    let all: Vec<_> = (0..workloads).map(workload).collect();
    let mut random = Random::of(12, &[workloads]);
    let start = beginning();
    let run = |engine: &mut Correlator, random: &mut Random, from: u64, records: u64| {
        let begun = Instant::now();
        for number in from..from + records {
            // 1,000 requests a second of event time, time passing every one of them.
            let at = start.plus(Duration::from_micros(number * 1000));
            if number % 1000 == 0 {
                engine.advance(at);
            }
            let index = random.index(judged.said.len());
            let workload = random.index(all.len());
            feed(engine, judged, index, at, number % 65_536, &all[workload]);
        }
        begun.elapsed().as_nanos() as f64 / records as f64
    };
    run(&mut engine, &mut random, 0, RECORDS / 6);
    run(&mut engine, &mut random, RECORDS / 6, RECORDS)
}

/// What services do all day in the measurement; a partner is called as often as all else together.
const HABITS: [Habit; 6] = [Habit::Mail, Habit::Health, Habit::Git, Habit::Partner, Habit::Partner, Habit::Partner];
/// Rounds of all habits in which a workload learns them: a partner is one of five networks, each of which has to come by. Without
/// it ten thousand workloads would be measured at what is new and ten at what is known, which is other work.
const LEARNING: u32 = 6;
/// Things that happen in the measurement, at all workloads together.
const HAPPENINGS: u32 = 60_000;

/// Nanoseconds that the detector takes for one host event of ordinary life, at this many workloads: the same happenings, spread over
/// as many, each of which has learned them before.
fn host_cost(workloads: u64) -> anyhow::Result<f64> {
    let mut random = Random::of(13, &[workloads]);
    let mut machine = Machine::boot(host_address(1), later(beginning(), -3600.0));
    let instances: Vec<_> = (0..workloads)
        .map(|number| {
            // A kind without a port of its own per service: pods.
            let service = Service::of(number * 7 + 5);
            let slot = u8::try_from(number / 250 % 250).unwrap_or(0);
            service.start(&mut machine, beginning(), slot, 1, u32::try_from(number % 250).unwrap_or(0), &mut random)
        })
        .collect();
    let mut detector = Detector::new(&Config::default())?;
    let (mut raised, mut lines) = (Vec::new(), Vec::new());
    let mut at = later(beginning(), 60.0);
    let mut happen = |machine: &mut Machine, instance: &Instance, habit: Habit| {
        at = later(at, 0.01);
        let mut scene = Scene { machine, lines: &mut lines, random: &mut random, instance, at };
        ordinary::happens(habit, &mut scene);
    };
    for _ in 0..LEARNING {
        for instance in &instances {
            HABITS.iter().for_each(|habit| happen(&mut machine, instance, *habit));
        }
        machine.events.sort_by_key(|event| event.at);
        for event in machine.events.drain(..) {
            detector.host(&event, &mut raised);
        }
    }
    let mut order = Random::of(16, &[workloads]);
    for _ in 0..HAPPENINGS {
        let (instance, habit) = (order.pick(&instances), *order.pick(&HABITS));
        happen(&mut machine, instance, habit);
    }
    let mut events: Vec<HostEvent> = std::mem::take(&mut machine.events);
    events.sort_by_key(|event| event.at);
    let begun = Instant::now();
    for (number, event) in events.iter().enumerate() {
        if number % 1000 == 0 {
            detector.advance(event.at, &mut raised);
        }
        detector.host(event, &mut raised);
    }
    Ok(begun.elapsed().as_nanos() as f64 / events.len() as f64)
}

/// Milliseconds (p50, p99) from a late line's bytes to the revision that it leads to, with that many chains open.
fn late_lines(corpus: &Corpus) -> anyhow::Result<(f64, f64)> {
    let mut random = Random::of(14, &[]);
    let mut machine = Machine::boot(host_address(1), later(beginning(), -3600.0));
    let script = *scripts().iter().find(|script| script.name == "curl into sh").context("there is such a script")?;
    let mut lines: Vec<Line> = Vec::new();
    let mut late = Vec::new();
    for number in 0..LATE {
        let service = Service::of(number as u64 * 7 + 5);
        let slot = u8::try_from(number / 250).unwrap_or(0);
        let release = u32::try_from(number % 250).unwrap_or(0);
        let instance = service.start(&mut machine, beginning(), slot, 1, release, &mut random);
        let at = later(beginning(), 90_000.0 + number as f64 * 10.0);
        let attack = Attack::of(number, &mut random);
        let mut own = Vec::new();
        let mut scene = Scene { machine: &mut machine, lines: &mut own, random: &mut random, instance: &instance, at };
        (script.play)(&mut scene, &attack);
        late.append(&mut own);
        let mut scene =
            Scene { machine: &mut machine, lines: &mut lines, random: &mut random, instance: &instance, at };
        for _ in 0..200 {
            ordinary::visited(&mut scene, &corpus.ordinary);
            let client = scene.user();
            ordinary::scanned(&mut scene, &corpus.hostile, client);
        }
    }
    let mut detector = Detector::new(&Config::default())?;
    let (mut raised, mut text) = (Vec::new(), String::new());
    machine.events.sort_by_key(|event| event.at);
    for event in &machine.events {
        detector.advance(event.at, &mut raised);
        detector.host(event, &mut raised);
    }
    for line in &lines {
        line.render(&mut text);
        detector.edge("envoy", text.as_bytes(), &mut raised);
    }
    detector.advance(later(beginning(), 90_000.0 + 3600.0 * 3.0), &mut raised);
    let mut took = Vec::new();
    for line in &late {
        line.render(&mut text);
        raised.clear();
        let begun = Instant::now();
        detector.edge("envoy", text.as_bytes(), &mut raised);
        let elapsed = begun.elapsed().as_secs_f64() * 1000.0;
        anyhow::ensure!(!raised.is_empty(), "a late line led to no revision: {text}");
        took.push(elapsed);
    }
    took.sort_by(f64::total_cmp);
    let at = |share: usize| took.get(took.len() * share / 100).copied().context("nothing was timed");
    Ok((at(50)?, at(99)?))
}

/// Memory, in MiB, that ten million exploit-like probes from a million addresses make the correlator hold.
fn flood(judged: &Judged) -> anyhow::Result<f64> {
    let before = resident()?;
    let mut engine = Correlator::new(Config::default().correlate);
    let all: Vec<_> = (0..50).map(workload).collect();
    let mut random = Random::of(15, &[]);
    let (mut most, start) = (0.0_f64, beginning());
    for number in 0..FLOOD.0 {
        // A day's worth at 115 a second.
        let at = start.plus(Duration::from_micros(number * 8640));
        if number % 10_000 == 0 {
            engine.advance(at);
            most = most.max(resident()? - before);
        }
        let index = *random.pick(&judged.hostile);
        let workload = random.index(all.len());
        feed(&mut engine, judged, index, at, random.below(FLOOD.1), &all[workload]);
    }
    Ok(most)
}

/// The same flood as a balancer's lines, to fifty services of one host, through everything from the parser on: memory in MiB, and
/// nanoseconds for a line.
fn flood_of_lines(corpus: &Corpus) -> anyhow::Result<(f64, f64)> {
    let mut random = Random::of(17, &[]);
    let mut machine = Machine::boot(host_address(1), later(beginning(), -3600.0));
    let start = |number: u32| {
        let service = Service::of(u64::from(number) * 7 + 5);
        service.start(&mut machine, beginning(), 0, 1, number, &mut random)
    };
    let instances: Vec<Instance> = (0..50).map(start).collect();
    let mut detector = Detector::new(&Config::default())?;
    let mut raised = Vec::new();
    machine.events.sort_by_key(|event| event.at);
    for event in machine.events.drain(..) {
        detector.host(&event, &mut raised);
    }
    let (before, begun) = (resident()?, Instant::now());
    let (mut most, mut text) = (0.0_f64, String::new());
    let mut lines: Vec<Line> = Vec::with_capacity(1);
    for number in 0..FLOOD.0 {
        let at = later(beginning(), 60.0 + number as f64 * 0.00864);
        if number % 10_000 == 0 {
            detector.advance(at, &mut raised);
            most = most.max(resident()? - before);
        }
        let client = u32::try_from(random.below(FLOOD.1)).unwrap_or(0) | 0x5100_0000;
        let client = SocketAddr::from((client.to_be_bytes(), 4711));
        let instance = &instances[random.index(instances.len())];
        let mut scene = Scene { machine: &mut machine, lines: &mut lines, random: &mut random, instance, at };
        ordinary::scanned(&mut scene, &corpus.hostile, client);
        for line in lines.drain(..) {
            line.render(&mut text);
            detector.edge("envoy", text.as_bytes(), &mut raised);
        }
    }
    anyhow::ensure!(raised.is_empty(), "a flood without a finding raised {} incidents", raised.len());
    Ok((most, begun.elapsed().as_nanos() as f64 / FLOOD.0 as f64))
}

/// Resident memory of this process, MiB (proc(5), `VmRSS` in KiB).
fn resident() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? / 1024.0)
}
