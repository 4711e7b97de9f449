//! What the senses cost: time per event in the kernel, the verifier's work, kernel memory, slow-down of storms, the reading
//! agent's own CPU and memory.
//!
//! Prints one JSON object per figure: `{name, value, unit, peer, peer_value, ratio}`; the peer is the target or the
//! same run without the sensor. The kernel's own meter is part of every time; what it adds is told as `meter`. Needs root. Loads are bounded: a few seconds of exec and loopback connect storms.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use breachline::decode::BootClock;
use breachline::kernel::{Config, Floor, ProgramCost, Sensor};
use breachline_tests::storm::{execs, percentile};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// Programs started in one storm (about 1.5 ms each).
const EXECS: u32 = 1000;
/// Connections of one storm (about 10 us each).
const CONNECTS: u32 = 40_000;
/// Peers never contacted before.
const FIRST_CONTACTS: u32 = 20_000;
/// Datagrams of one storm, each on a socket of its own (about 10 us each).
const DATAGRAMS: u32 = 40_000;
/// Forks of this program's memory (about 1.5 ms each).
const FORKS: u32 = 600;
/// Slices that a storm is measured in.
const SLICES: u32 = 40;
/// Events measured one by one, for the slowest in a hundred.
const SINGLES: u32 = 500;
/// Kernel memory of all programs and maps at defaults, MB.
const KERNEL_MEMORY: f64 = 24.0;
/// Storms with and without the sensor, alternating.
const PAIRS: usize = 11;

/// Argument under which this program is the load instead of the bench.
const STEADY_LOAD: &str = "--steady-load";
/// Argument that leaves out all but the kernel's own times.
const TIMES_ONLY: &str = "--times";
/// One step of the steady load: 5 execs and 50 connects in 10 ms are 500 exec/s and 5,000 connects/s.
const STEP: (Duration, u32, u32) = (Duration::from_millis(10), 5, 50);

/// One program to be measured in a storm.
struct Measured {
    figure: &'static str,
    program: &'static str,
    target_ns: f64,
}

/// A storm, run slice by slice, and what it drives.
struct Storm {
    /// Makes so many events; the first has this number, and no two the same.
    run: fn(u32, u32) -> io::Result<()>,
    events: u32,
    programs: &'static [Measured],
}

/// The same storms past programs that do nothing: what the meter itself adds.
const FLOOR: [Storm; 2] = [
    Storm {
        run: |_, count| execs(count),
        events: EXECS,
        programs: &[
            Measured { figure: "meter.exec", program: "floor_exec", target_ns: 0.0 },
            Measured { figure: "meter.fork", program: "floor_fork", target_ns: 0.0 },
            Measured { figure: "meter.exit", program: "floor_exit", target_ns: 0.0 },
        ],
    },
    Storm {
        run: |_, count| connects(count),
        events: CONNECTS,
        programs: &[
            Measured { figure: "meter.connect", program: "floor_connect4", target_ns: 0.0 },
            Measured { figure: "meter.sock_state", program: "floor_sock_state", target_ns: 0.0 },
        ],
    },
];

const MEASURED: [Storm; 6] = [
    Storm {
        run: |_, count| execs(count),
        events: EXECS,
        programs: &[
            Measured { figure: "kernel.exec", program: "sched_process_exec", target_ns: 2000.0 },
            Measured { figure: "kernel.vfork", program: "sched_process_fork", target_ns: 200.0 },
            Measured { figure: "kernel.exit", program: "sched_process_exit", target_ns: 200.0 },
        ],
    },
    Storm {
        run: |_, count| forks(count),
        events: FORKS,
        programs: &[Measured { figure: "kernel.fork", program: "sched_process_fork", target_ns: 200.0 }],
    },
    Storm {
        run: first_contacts,
        events: FIRST_CONTACTS,
        programs: &[Measured { figure: "kernel.first_contact", program: "connect4", target_ns: 500.0 }],
    },
    Storm {
        run: first_datagrams,
        events: FIRST_CONTACTS,
        programs: &[
            Measured { figure: "kernel.first_datagram", program: "sendmsg4", target_ns: 500.0 },
            Measured { figure: "kernel.counted_datagram", program: "sent", target_ns: 200.0 },
            Measured { figure: "kernel.told_release", program: "released", target_ns: 500.0 },
        ],
    },
    Storm {
        run: |_, count| datagrams(count),
        events: DATAGRAMS,
        programs: &[
            Measured { figure: "kernel.known_datagram", program: "sendmsg4", target_ns: 200.0 },
            Measured { figure: "kernel.idle_datagram", program: "sent", target_ns: 100.0 },
            Measured { figure: "kernel.idle_datagram_in", program: "received", target_ns: 100.0 },
            Measured { figure: "kernel.idle_release", program: "released", target_ns: 100.0 },
        ],
    },
    Storm {
        run: |_, count| connects(count),
        events: CONNECTS,
        programs: &[
            Measured { figure: "kernel.known_peer", program: "connect4", target_ns: 200.0 },
            Measured { figure: "kernel.idle_packet", program: "sent", target_ns: 100.0 },
            Measured { figure: "kernel.sock_state", program: "inet_sock_set_state", target_ns: 200.0 },
        ],
    },
];

/// A whole storm with its name and the slow-down that is allowed.
type Whole = (&'static str, fn() -> io::Result<()>, f64);

fn main() -> anyhow::Result<()> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some(STEADY_LOAD) {
        return Ok(steady_load()?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut figures = Vec::new();
    let restore = fs::read_to_string(STATS).context("needs root")?;
    fs::write(STATS, "1")?;
    let counted = runtime.block_on(kernel_times(&mut figures));
    fs::write(STATS, restore.trim())?;
    counted?;
    if argument.as_deref() != Some(TIMES_ONLY) {
        runtime.block_on(storm_ratios(&mut figures))?;
        runtime.block_on(own_cost(&mut figures))?;
    }
    let mut out = io::stdout().lock();
    for figure in figures {
        writeln!(out, "{figure}")?;
    }
    Ok(())
}

fn figure(name: &str, value: f64, unit: &str, peer: &str, peer_value: f64) -> serde_json::Value {
    let ratio = if peer_value == 0.0 { 0.0 } else { value / peer_value };
    serde_json::json!({"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio})
}

/// Runs `storm` on a thread of its own and reads the rings meanwhile. Returns the storm's time.
async fn under_watch(
    sensor: &mut Sensor,
    storm: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> anyhow::Result<Duration> {
    let done = std::sync::Arc::new(AtomicBool::new(false));
    let told = done.clone();
    let thread = std::thread::spawn(move || {
        let start = Instant::now();
        let outcome = storm();
        told.store(true, Ordering::Release);
        outcome.map(|()| start.elapsed())
    });
    let mut events = Vec::new();
    while !done.load(Ordering::Acquire) {
        sensor.ready().await;
        events.clear();
        sensor.drain(BootClock::default(), &mut events);
    }
    Ok(thread.join().map_err(|_| anyhow::anyhow!("the storm panicked"))??)
}

/// Time of each program in a storm that runs it in one way only: the median over slices of the slice's mean, because
/// the kernel counts the time that a virtual machine's host takes away as the program's.
async fn kernel_times(figures: &mut Vec<serde_json::Value>) -> anyhow::Result<()> {
    let floor = Floor::load()?;
    for storm in &FLOOR {
        let count = storm.events / SLICES;
        let mut slices = Vec::new();
        for slice in 0..SLICES {
            let before = floor.costs();
            (storm.run)(slice * count, count)?;
            slices.push((before, floor.costs()));
        }
        tell(storm, &slices, figures);
    }
    drop(floor);
    let mut sensor = Sensor::load(&Config::default())?;
    for storm in &MEASURED {
        let (run, count) = (storm.run, storm.events / SLICES);
        let mut slices = Vec::new();
        for slice in 0..SLICES {
            let before = sensor.costs();
            under_watch(&mut sensor, move || run(slice * count, count)).await?;
            slices.push((before, sensor.costs()));
        }
        tell(storm, &slices, figures);
        singles(&mut sensor, storm, figures)?;
    }
    footprint(&sensor, figures);
    let lost: u64 = sensor.counters().senses.iter().map(|sense| sense.lost).sum();
    figures.push(figure("kernel.lost_in_storms", lost as f64, "records", "target", 0.0));
    Ok(())
}

/// The slowest in a hundred of a storm's programs: each event measured alone, which finds the caches colder than a storm.
fn singles(sensor: &mut Sensor, storm: &Storm, figures: &mut Vec<serde_json::Value>) -> anyhow::Result<()> {
    let (mut singles, mut events) = (Vec::new(), Vec::new());
    for number in 0..SINGLES {
        let before = sensor.costs();
        (storm.run)(storm.events + number, 1)?;
        singles.push((before, sensor.costs()));
        events.clear();
        sensor.drain(BootClock::default(), &mut events);
    }
    for measured in storm.programs {
        let mut times: Vec<f64> =
            singles.iter().map(|(before, after)| mean_between(before, after, measured.program)).collect();
        let name = format!("{}.single.p99", measured.figure);
        figures.push(figure(&name, percentile(&mut times, 0.99), "ns/event", "target", measured.target_ns));
        let name = format!("{}.single.median", measured.figure);
        figures.push(figure(&name, percentile(&mut times, 0.5), "ns/event", "target", measured.target_ns));
    }
    Ok(())
}

/// The verifier's work and time for each program, and kernel memory in total.
fn footprint(sensor: &Sensor, figures: &mut Vec<serde_json::Value>) {
    const MB: f64 = 1e6;
    for load in sensor.loads() {
        let verified = f64::from(load.verified.unwrap_or_default());
        // The kernel's bound for privileged programs since 5.2.
        figures.push(figure(&format!("verifier.{}", load.program), verified, "instructions", "limit", 1e6));
        let millis = load.took.as_secs_f64() * 1e3;
        figures.push(figure(&format!("verifier.{}.time", load.program), millis, "ms", "", 0.0));
    }
    let memory = sensor.memory();
    figures.push(figure("kernel.memory.maps", memory.maps as f64 / MB, "MB", "", 0.0));
    figures.push(figure("kernel.memory", (memory.maps + memory.programs) as f64 / MB, "MB", "target", KERNEL_MEMORY));
}

/// Median, tenth percentile and least of a storm's slices, for each of its programs.
fn tell(storm: &Storm, slices: &[(Vec<ProgramCost>, Vec<ProgramCost>)], figures: &mut Vec<serde_json::Value>) {
    for measured in storm.programs {
        let mean =
            |(before, after): &(Vec<ProgramCost>, Vec<ProgramCost>)| mean_between(before, after, measured.program);
        let mut means: Vec<f64> = slices.iter().map(mean).collect();
        let mut push = |name: &str, value: f64| {
            figures.push(figure(name, value, "ns/event", "target", measured.target_ns));
        };
        push(measured.figure, percentile(&mut means, 0.5));
        push(&format!("{}.p10", measured.figure), means[means.len() / 10]);
        push(&format!("{}.min", measured.figure), means[0]);
    }
}

/// Mean time of a program's runs between two readings, nanoseconds.
fn mean_between(before: &[ProgramCost], after: &[ProgramCost], program: &str) -> f64 {
    let find = |costs: &[ProgramCost]| {
        costs.iter().find(|cost| cost.program == program).map_or((0, 0), |cost| (cost.runs, cost.nanos))
    };
    let ((runs, nanos), (runs_before, nanos_before)) = (find(after), find(before));
    (nanos - nanos_before) as f64 / (runs - runs_before).max(1) as f64
}

/// The same storm with and without the sensor, alternating; the median of the pairs' ratios.
async fn storm_ratios(figures: &mut Vec<serde_json::Value>) -> anyhow::Result<()> {
    let storms: [Whole; 2] = [("storm.exec_ratio", exec_storm, 1.02), ("storm.connect_ratio", connect_storm, 1.05)];
    for (name, storm, target) in storms {
        let mut ratios = Vec::new();
        for pair in 0..PAIRS {
            let (mut with, mut without) = (Duration::ZERO, Duration::ZERO);
            for turn in 0..2 {
                // Which goes first alternates: warm-up and drift fall on both alike.
                if (pair + turn) % 2 == 0 {
                    let mut sensor = Sensor::load(&Config::default())?;
                    with = under_watch(&mut sensor, storm).await?;
                } else {
                    let start = Instant::now();
                    tokio::task::spawn_blocking(storm).await??;
                    without = start.elapsed();
                }
            }
            ratios.push(with.as_secs_f64() / without.as_secs_f64());
        }
        figures.push(figure(name, percentile(&mut ratios, 0.5), "ratio", "target", target));
    }
    Ok(())
}

/// CPU and memory of a process that does nothing but read the rings, at 500 exec/s and 5,000 connects/s.
async fn own_cost(figures: &mut Vec<serde_json::Value>) -> anyhow::Result<()> {
    let mut sensor = Sensor::load(&Config::default())?;
    let mut load = Command::new(std::env::current_exe()?).arg(STEADY_LOAD).stdin(Stdio::null()).spawn()?;
    let span = Duration::from_secs(5);
    let cpu = || {
        getrusage(UsageWho::RUSAGE_THREAD)
            .map(|usage| usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
    };
    let (start, cpu_start) = (Instant::now(), cpu()?);
    let mut events = Vec::new();
    while start.elapsed() < span {
        sensor.ready().await;
        events.clear();
        sensor.drain(BootClock::default(), &mut events);
    }
    let share = (cpu()? - cpu_start) as f64 / start.elapsed().as_micros() as f64 * 100.0;
    load.kill()?;
    load.wait()?;
    figures.push(figure("agent.ring_reader_cpu", share, "% of a core", "target", 1.0));
    figures.push(figure("agent.ring_reader_rss", resident_mib()?, "MiB", "target", 40.0));
    Ok(())
}

fn resident_mib() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn exec_storm() -> io::Result<()> {
    execs(EXECS)
}

/// A user id to be set keeps the library from `posix_spawn`, whose child shares its parent's memory.
fn forks(count: u32) -> io::Result<()> {
    for _ in 0..count {
        Command::new("/bin/true").uid(0).stdin(Stdio::null()).status()?;
    }
    Ok(())
}

/// One peer that refuses: after the first it is known.
fn connect_storm() -> io::Result<()> {
    connects(CONNECTS)
}

fn connects(count: u32) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let refused = listener.local_addr()?;
    drop(listener);
    for _ in 0..count {
        if TcpStream::connect(refused).is_ok() {
            return Err(io::Error::other("somebody took the port"));
        }
    }
    Ok(())
}

/// Until it is killed, at an even pace.
fn steady_load() -> io::Result<()> {
    let (step, execs_a_step, connects_a_step) = STEP;
    let mut next = Instant::now();
    loop {
        execs(execs_a_step)?;
        connects(connects_a_step)?;
        next += step;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// Connected UDP sockets send nothing: only the hook is measured. Every number has a peer of its own.
fn first_contacts(first: u32, count: u32) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    for number in first..first + count {
        let [_, high, low, port] = number.to_be_bytes();
        socket.connect(SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 1024 + u16::from(port))))?;
    }
    Ok(())
}

/// Datagrams to peers of which nobody has heard, each on a socket of its own; nobody is there.
fn first_datagrams(first: u32, count: u32) -> io::Result<()> {
    for number in first..first + count {
        let [_, high, low, port] = number.to_be_bytes();
        let peer = SocketAddr::from((Ipv4Addr::new(127, 2, high, low), 1024 + u16::from(port)));
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.send_to(b"x", peer)?;
    }
    Ok(())
}

/// The same to one peer: after the first it is known, and nothing of the rest is counted.
fn datagrams(count: u32) -> io::Result<()> {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let peer = server.local_addr()?;
    for _ in 0..count {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.send_to(b"x", peer)?;
    }
    Ok(())
}
