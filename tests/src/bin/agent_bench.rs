//! What the whole agent costs and how fast it tells: memory at rest and in storms, CPU under a steady load, slow-down of storms,
//! time from the kernel's record to the line in the sink, also out of a flood, time from a late edge line to the raised revision.
//!
//! Prints one JSON object per figure: `{name, value, unit, peer, peer_value, ratio}`; the peer is the target. Needs root. The
//! victims live in a network namespace of their own, where 169.254.169.254 is an address of the loopback device; every load
//! is bounded.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use breachline::clock;
use breachline::timestamp::Timestamp;
use breachline_tests::storm::{FLOOD_PEERS, Flood, connects, execs, percentile};
use breachline_tests::{agent_binary, wait_for};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

/// Argument under which this program is a victim: a process that listens, starts a shell and has it ask for credentials.
const VICTIM: &str = "--victim";
/// Argument under which a victim is broken into amid a flood of its own making.
const FLOODED: &str = "--flooded";
/// Argument under which this program is the steady load: 500 exec/s and 5,000 connects/s.
const STEADY_LOAD: &str = "--steady-load";
/// Breaches whose alert is timed: enough for a 99th percentile to mean something, few enough for a minute.
const BREACHES: usize = 120;
/// Breaches buried in a flood.
const BURIED: usize = 60;
/// How long a flood goes on before the breach in it begins.
const FLOODING: Duration = Duration::from_millis(500);
/// How long a revision may take before the measurement gives up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the steady load runs.
const STEADY: Duration = Duration::from_secs(15);
/// One step of the steady load.
const STEP: (Duration, u32, u32) = (Duration::from_millis(10), 5, 50);
/// Programs started in one storm, and connections of one storm.
const STORM: (u32, u32) = (1500, 60_000);
/// Storms with and without the agent, alternating.
const PAIRS: usize = 9;

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some(VICTIM) => return victim(),
        Some(FLOODED) => return flooded_victim(),
        Some(STEADY_LOAD) => return Ok(steady_load()?),
        _ => {}
    }
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut figures = Figures(io::stdout().lock());
    for (name, measure) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|part| part == name) {
            measure(&mut figures)?;
        }
    }
    Ok(())
}

type Part = fn(&mut Figures) -> anyhow::Result<()>;

/// What is measured; arguments choose among these, none means all.
const PARTS: [(&str, Part); 4] =
    [("latency", breaches), ("flood", buried), ("footprint", footprint), ("storms", storm_ratios)];

/// Memory at rest and after storms, CPU under a steady load.
fn footprint(figures: &mut Figures) -> anyhow::Result<()> {
    let agent = Agent::start()?;
    std::thread::sleep(Duration::from_secs(3)); // at rest means: after the start's own work
    figures.put("rss at rest", agent.rss_mib()?, "MiB", "target", 40.0)?;
    figures.put(
        "cpu under 500 exec/s and 5000 connects/s",
        agent.cpu_percent(steady)?,
        "% of a core",
        "target",
        1.0,
    )?;
    execs(STORM.0)?;
    connects(STORM.1)?;
    figures.put("rss in storms", agent.rss_mib()?, "MiB", "target", 80.0)?;
    agent.stop()
}

struct Figures(io::StdoutLock<'static>);

impl Figures {
    fn put(&mut self, name: &str, value: f64, unit: &str, peer: &str, peer_value: f64) -> anyhow::Result<()> {
        let ratio = if peer_value == 0.0 { 0.0 } else { value / peer_value };
        let figure =
            json!({"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio});
        writeln!(self.0, "{figure}")?;
        Ok(self.0.flush()?)
    }
}

/// The real binary, with a state directory of its own and a file sink that is read as it grows.
struct Agent {
    process: Child,
    directory: tempfile::TempDir,
    http: SocketAddr,
    sink: Option<BufReader<File>>,
}

impl Agent {
    fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let path = |name: &str| directory.path().join(name);
        let config = format!(
            "[kernel]\npin = false\n[intake.http]\nlisten = \"{http}\"\n[store]\ndirectory = {:?}\n[status]\nsocket = {:?}\n\
             [deliver]\nstdout = \"off\"\n[deliver.file]\npath = {:?}\nfsync = true\n",
            path("state"),
            path("status.sock"),
            path("incidents.jsonl"),
        );
        fs::write(path("breachline.toml"), config)?;
        let process = Command::new(agent_binary())
            .args(["run", "--config"])
            .arg(path("breachline.toml"))
            .stdin(Stdio::null())
            .stderr(File::create(path("log"))?)
            .spawn()?;
        let mut agent = Self { process, directory, http, sink: None };
        let ready = wait_for(Duration::from_secs(20), || {
            agent.log().contains("watching").then_some(true).or_else(|| agent.process.try_wait().ok()?.map(|_| false))
        });
        ensure!(ready == Some(true), "the agent did not start:\n{}", agent.log());
        Ok(agent)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn rss_mib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// User and system time of all threads, in seconds (`/proc/PID/stat` fields 14 and 15, in ticks of 10 ms).
    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let after_name = stat.rsplit_once(") ").context("no name")?.1;
        let ticks: f64 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(ticks / 100.0)
    }

    fn cpu_percent(&self, load: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
        let (cpu, wall) = (self.cpu_seconds()?, Instant::now());
        load()?;
        Ok(100.0 * (self.cpu_seconds()? - cpu) / wall.elapsed().as_secs_f64())
    }

    /// The first revision from now on that `wanted` accepts, with the time at which it was seen in the sink.
    fn revision(&mut self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<(Value, Timestamp)> {
        let path = self.directory.path().join("incidents.jsonl");
        if self.sink.is_none() {
            let file = wait_for(PATIENCE, || File::open(&path).ok()).context("no sink file")?;
            self.sink = Some(BufReader::new(file));
        }
        let sink = self.sink.as_mut().context("no sink")?;
        let (mut line, mut last, deadline) = (String::new(), String::new(), Instant::now() + PATIENCE);
        loop {
            ensure!(Instant::now() < deadline, "no such revision within {PATIENCE:?}; the last one: {last}");
            if sink.read_line(&mut line)? == 0 || !line.ends_with('\n') {
                std::thread::sleep(Duration::from_micros(200)); // the resolution of what is measured
                continue;
            }
            let (seen, revision) = (clock::now(), serde_json::from_str(&line)?);
            if wanted(&revision) {
                return Ok((revision, seen));
            }
            last = std::mem::take(&mut line);
        }
    }

    /// Hands over an edge line; the answer, which waits for the disk, is left to [`accepted`].
    fn post(&self, line: &str) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.http)?;
        write!(
            stream,
            "POST /v1/lines HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{line}",
            line.len()
        )?;
        Ok(stream)
    }

    /// Records that it counts as lost, by sense.
    fn lost(&self) -> anyhow::Result<Vec<(String, f64)>> {
        let mut command = Command::new(agent_binary());
        command.args(["status", "--json", "--config"]).arg(self.directory.path().join("breachline.toml"));
        let status: Value = serde_json::from_slice(&command.output()?.stdout).context("`breachline status`")?;
        let counters = status["counters"].as_object().with_context(|| format!("no counters in {status}"))?;
        let lost = |(name, value): (&String, &Value)| {
            let sense = name.strip_prefix("kernel.senses.")?.strip_suffix(".lost")?;
            Some((sense.to_owned(), value.as_f64()?))
        };
        Ok(counters.iter().filter_map(lost).collect())
    }

    fn stop(mut self) -> anyhow::Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.process.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        ensure!(self.process.wait()?.success(), "the agent did not stop cleanly:\n{}", self.log());
        Ok(())
    }
}

/// Time from the kernel's record to the sink, and from a late edge line to the raised revision.
fn breaches(figures: &mut Figures) -> anyhow::Result<()> {
    let mut agent = Agent::start()?;
    let (mut alert, mut raised) = (Vec::new(), Vec::new());
    for number in 0..BREACHES {
        let begun = clock::now();
        let mut victim = Victim::start(VICTIM, number)?;
        let (incident, seen) = agent.revision(|incident| incident["revision"] == 1)?;
        let last: Timestamp = incident["last_seen"].as_str().context("last_seen")?.parse()?;
        alert.push(seen.since(last).as_secs_f64() * 1e3);

        let sent = clock::now();
        let answer = agent.post(&alb_line(begun, sent, victim.address, number))?;
        let trace = format!("Root=1-0-{number}\"");
        let (revised, seen) =
            agent.revision(|revised| revised["id"] == incident["id"] && revised.to_string().contains(&trace))?;
        ensure!(revised["revision"].as_u64() > incident["revision"].as_u64(), "not a higher revision: {revised}");
        raised.push(seen.since(sent).as_secs_f64() * 1e3);
        accepted(answer)?;
        victim.stop()?;
    }
    figures.put("alert latency p50, kernel to sink", percentile(&mut alert, 0.5), "ms", "target", 50.0)?;
    figures.put("alert latency p99, kernel to sink", percentile(&mut alert, 0.99), "ms", "target", 50.0)?;
    figures.put("late edge line to revision p50", percentile(&mut raised, 0.5), "ms", "target", 100.0)?;
    figures.put("late edge line to revision p99", percentile(&mut raised, 0.99), "ms", "target", 100.0)?;
    agent.stop()
}

/// A service that was just broken into, in a cgroup of its own.
struct Victim {
    process: Child,
    said: BufReader<ChildStdout>,
    address: SocketAddr,
    /// When the credentials were asked for.
    asked: Timestamp,
    unit: Unit,
}

impl Victim {
    fn start(kind: &str, number: usize) -> anyhow::Result<Self> {
        let unit = Unit::create(number)?;
        let mut command = Command::new(own_path()?);
        command.args([kind, &number.to_string()]).arg(&unit.0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let mut said = BufReader::new(process.stdout.take().context("stdout")?);
        let mut line = String::new();
        said.read_line(&mut line)?;
        let words = line.trim().split_once(' ').with_context(|| format!("the victim said {line:?}"))?;
        let (address, asked) = (words.0.parse()?, words.1.parse()?);
        Ok(Self { process, said, address, asked, unit })
    }

    /// As the agent names it.
    fn unit_name(&self) -> String {
        self.unit.0.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Its last words.
    fn stop(&mut self) -> anyhow::Result<String> {
        drop(self.process.stdin.take());
        let mut last = String::new();
        self.said.read_to_string(&mut last)?;
        ensure!(self.process.wait()?.success(), "the victim failed");
        Ok(last)
    }
}

/// Breaches amid a flood of the same workload's: how long each takes to be told, and what is lost of what chains hang on.
fn buried(figures: &mut Figures) -> anyhow::Result<()> {
    let mut agent = Agent::start()?;
    let (mut told, mut programs, mut connections) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..BURIED {
        let mut victim = Victim::start(FLOODED, number)?;
        let unit = victim.unit_name();
        let (_, seen) = agent.revision(|incident| {
            incident["exposures"].as_array().is_some_and(|exposed| !exposed.is_empty())
                && incident["workload"].to_string().contains(&unit)
        })?;
        told.push(seen.since(victim.asked).as_secs_f64() * 1e3);
        let last = victim.stop()?;
        let made = last.trim().split_once(' ').with_context(|| format!("the victim's last words {last:?}"))?;
        programs.push(made.0.parse()?);
        connections.push(made.1.parse()?);
    }
    figures.put("programs started in the flood", percentile(&mut programs, 0.5), "1/s", "target", 10_000.0)?;
    figures.put("connections in the flood", percentile(&mut connections, 0.5), "1/s", "target", 50_000.0)?;
    figures.put("buried chain to sink p50", percentile(&mut told, 0.5), "ms", "target", 0.0)?;
    figures.put("buried chain to sink p99", percentile(&mut told, 0.99), "ms", "target", 0.0)?;
    for (sense, lost) in agent.lost()? {
        figures.put(&format!("records lost in the flood: {sense}"), lost, "records", "target", 0.0)?;
    }
    agent.stop()
}

/// A service's cgroup, gone when dropped: what happens to one workload is one incident, and each breach shall be its own.
struct Unit(PathBuf);

impl Unit {
    fn create(number: usize) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let cgroup2 = mounts.lines().map(|mount| mount.split(' ').collect::<Vec<_>>());
        let root = cgroup2.into_iter().find(|mount| mount.get(2) == Some(&"cgroup2")).context("no cgroup2 mount")?[1];
        let path = Path::new(root).join(format!("breachline-bench-{}-{number}.service", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("{}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

fn accepted(mut answer: TcpStream) -> anyhow::Result<()> {
    let mut text = String::new();
    answer.read_to_string(&mut text)?;
    ensure!(text.starts_with("HTTP/1.1 200"), "{text}");
    Ok(())
}

fn alb_line(received: Timestamp, completed: Timestamp, target: SocketAddr, number: usize) -> String {
    format!(
        "http {completed} app/bench/0123456789abcdef 198.51.100.7:{} {target} 0.000 0.010 0.000 200 200 100 200 \
         \"GET http://shop.example:80/ping?host=;sh+-c+id+{number} HTTP/1.1\" \"bench\" - - arn:aws:elasticloadbalancing:x:1:targetgroup/b/1 \
         \"Root=1-0-{number}\" \"-\" \"-\" 0 {received} \"forward\" \"-\" \"-\" \"{target}\" \"200\" \"-\" \"-\"\n",
        1024 + number
    )
}

/// Listens, starts a shell, and has it reach for the metadata address: a chain of its own in a network of its own.
fn victim() -> anyhow::Result<()> {
    let listener = enter()?;
    say_breach(&listener)?;
    // A service goes on listening after it was broken into: until the other end closes.
    Ok(io::stdin().read_to_end(&mut Vec::new()).map(drop)?)
}

/// The same amid a flood; its last words are what it made a second.
fn flooded_victim() -> anyhow::Result<()> {
    let listener = enter()?;
    let (network, prefix) = FLOOD_PEERS;
    ip(&["route", "add", "local", &format!("{network}/{prefix}"), "dev", "lo"])?;
    let flood = Flood::start()?;
    std::thread::sleep(FLOODING);
    say_breach(&listener)?;
    io::stdin().read_to_end(&mut Vec::new())?;
    let made = flood.stop()?;
    Ok(writeln!(io::stdout(), "{} {}", made.programs, made.connections)?)
}

/// Enters a network and the cgroup of its own, and listens.
fn enter() -> anyhow::Result<TcpListener> {
    let number: u8 = std::env::args().nth(2).context("number")?.parse()?;
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
    let unit = std::env::args_os().nth(3).context("cgroup")?;
    fs::write(Path::new(&unit).join("cgroup.procs"), "0").context("entering the cgroup")?;
    let address = format!("10.77.{number}.2");
    ip(&["link", "set", "lo", "up"])?;
    ip(&["address", "add", "169.254.169.254/32", "dev", "lo"])?;
    ip(&["address", "add", &address, "dev", "lo"])?;
    Ok(TcpListener::bind((address.parse::<Ipv4Addr>()?, 8080))?)
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    ensure!(Command::new("ip").args(arguments).status()?.success(), "ip {arguments:?}");
    Ok(())
}

/// Is broken into, and says where it listens and when the credentials were asked for.
fn say_breach(listener: &TcpListener) -> anyhow::Result<()> {
    let metadata = TcpListener::bind(("169.254.169.254", 80))?;
    let answering = std::thread::spawn(move || -> io::Result<Timestamp> {
        let (mut stream, _) = metadata.accept()?;
        let _request = stream.read(&mut [0; 1024])?;
        let asked = clock::now();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
        Ok(asked)
    });
    // The last command keeps bash from becoming curl: the chain is a shell and what it starts.
    let ask = "curl -s -m 5 http://169.254.169.254/latest/meta-data/iam/security-credentials/bench; true";
    let shell = Command::new("bash").args(["-c", ask]).status()?;
    ensure!(shell.success(), "the shell failed");
    let Ok(asked) = answering.join() else { anyhow::bail!("the metadata stand-in failed") };
    Ok(writeln!(io::stdout(), "{} {}", listener.local_addr()?, asked?)?)
}

fn steady() -> anyhow::Result<()> {
    let done = Command::new(own_path()?).arg(STEADY_LOAD).status()?;
    ensure!(done.success(), "the load failed");
    Ok(())
}

fn steady_load() -> io::Result<()> {
    let (step, programs, connections) = STEP;
    let begun = Instant::now();
    let mut next = begun;
    while begun.elapsed() < STEADY {
        execs(programs)?;
        connects(connections)?;
        next += step;
        std::thread::sleep(next.saturating_duration_since(Instant::now())); // paces the load
    }
    Ok(())
}

/// Storms with and without the agent, in turn; the median of the paired ratios.
fn storm_ratios(figures: &mut Figures) -> anyhow::Result<()> {
    let (mut exec, mut connect) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let bare = |first: bool| -> anyhow::Result<(f64, f64)> { if first { storm() } else { Ok((0.0, 0.0)) } };
        let before = bare(pair % 2 == 0)?;
        let agent = Agent::start()?;
        let watched = storm()?;
        agent.stop()?;
        let after = bare(pair % 2 == 1)?;
        exec.push(watched.0 / (before.0 + after.0));
        connect.push(watched.1 / (before.1 + after.1));
    }
    figures.put("exec storm with the agent", percentile(&mut exec, 0.5), "ratio", "target", 1.02)?;
    figures.put("connect storm with the agent", percentile(&mut connect, 0.5), "ratio", "target", 1.05)
}

fn storm() -> anyhow::Result<(f64, f64)> {
    let begun = Instant::now();
    execs(STORM.0)?;
    let exec = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    connects(STORM.1)?;
    Ok((exec, begun.elapsed().as_secs_f64()))
}

fn own_path() -> io::Result<PathBuf> {
    fs::read_link(Path::new("/proc/self/exe"))
}
