//! The agent's cost in storms beside that of others who record the same: auditd with rules for `execve` and `connect`, and
//! bpftrace with a script like execsnoop and tcpconnect.
//!
//! Prints one JSON object per figure: `{name, value, unit, peer, peer_value, ratio}`; value and peer's value are what one
//! event costs more than on a machine that nobody watches, the ratio is the one over the other. A peer that cannot run here
//! is one object with the reason as its `note`. With `--install-peers` Debian's packages of missing ones are installed.
//! Needs root. Nothing of a peer stays: rules, daemon and mounts end with it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use breachline_tests::storm::{connects, execs, percentile};
use breachline_tests::{agent_binary, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// Argument that lets missing peers be installed.
const INSTALL: &str = "--install-peers";
/// Rounds: in each everybody runs both storms once, in another order each time.
const ROUNDS: usize = 7;
/// Programs started and connections made in one storm.
const EXECS: u32 = 600;
const CONNECTS: u32 = 30_000;
/// What a peer may take to see its first program.
const PATIENCE: Duration = Duration::from_secs(30);
/// What our cost over a peer's shall be at most.
const TARGET: f64 = 0.5;

/// What execsnoop and tcpconnect write: time, process, parent, user, cgroup, program, arguments; peer and port. Tracepoints
/// only, so that it runs on kernels without kprobes too.
const SCRIPT: &str = r#"
tracepoint:sched:sched_process_exec {
  $task = (struct task_struct *)curtask;
  printf("%lld exec %d %d %d %lld %s %s\n", nsecs, pid, $task->real_parent->tgid, uid, cgroup, comm, str(args->filename));
}
tracepoint:syscalls:sys_enter_execve { join(args->argv); }
tracepoint:syscalls:sys_enter_execveat { join(args->argv); }
tracepoint:sock:inet_sock_set_state /args->newstate == 2/ {
  printf("%lld connect %d %d %lld %s %s %d\n", nsecs, pid, uid, cgroup, comm, ntop(args->daddr), args->dport);
}
"#;
/// bpftrace looks for tracefs in one place only, which a private mount namespace gives it.
const WITH_TRACEFS: &str = "mount -t tmpfs none /sys/kernel/debug && mkdir /sys/kernel/debug/tracing && \
                            mount -t tracefs none /sys/kernel/debug/tracing && exec bpftrace \"$1\" -o \"$2\"";

/// Who watches during a storm.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Watcher {
    Nobody,
    Breachline,
    Auditd,
    Bpftrace,
}

const WATCHERS: [(Watcher, &str); 4] = [
    (Watcher::Nobody, "nobody"),
    (Watcher::Breachline, "breachline"),
    (Watcher::Auditd, "auditd"),
    (Watcher::Bpftrace, "bpftrace"),
];

/// Nanoseconds of one event in a storm, round by round.
#[derive(Default)]
struct Times {
    exec: Vec<f64>,
    connect: Vec<f64>,
}

/// The times of one storm.
type OfStorm = fn(&Times) -> &Vec<f64>;

fn main() -> anyhow::Result<()> {
    if std::env::args().any(|argument| argument == INSTALL) {
        install()?;
    }
    let mut runs: Vec<(Watcher, &str, anyhow::Result<Times>)> =
        WATCHERS.map(|(watcher, name)| (watcher, name, Ok(Times::default()))).into();
    for round in 0..ROUNDS {
        runs.rotate_left(round % WATCHERS.len());
        for (watcher, _, times) in &mut runs {
            let Ok(so_far) = times else { continue };
            if let Err(error) = watched(*watcher, so_far) {
                *times = Err(error);
            }
        }
    }
    report(runs)
}

/// One round of one watcher.
fn watched(watcher: Watcher, times: &mut Times) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let running = Running::start(watcher, directory.path())?;
    let timed = |storm: fn(u32) -> io::Result<()>, events: u32| -> io::Result<f64> {
        let begun = Instant::now();
        storm(events)?;
        Ok(begun.elapsed().as_secs_f64() * 1e9 / f64::from(events))
    };
    times.exec.push(timed(execs, EXECS)?);
    times.connect.push(timed(connects, CONNECTS)?);
    running.stop()
}

/// A watcher that has seen a program start.
struct Running {
    watcher: Watcher,
    process: Option<Child>,
}

impl Running {
    fn start(watcher: Watcher, directory: &Path) -> anyhow::Result<Self> {
        let (process, log, sign) = match watcher {
            Watcher::Nobody => return Ok(Self { watcher, process: None }),
            Watcher::Breachline => (breachline(directory)?, "log", "watching"),
            Watcher::Auditd => (auditd(directory)?, "audit.log", "/bin/true"),
            Watcher::Bpftrace => (bpftrace(directory)?, "out", "/bin/true"),
        };
        let mut running = Self { watcher, process: Some(process) };
        let sees = wait_for(PATIENCE, || {
            if running.ended() {
                return Some(false);
            }
            let _ = execs(1);
            fs::read_to_string(directory.join(log)).unwrap_or_default().contains(sign).then_some(true)
        });
        ensure!(sees == Some(true), "it saw no program start; it said: {}", said(directory));
        Ok(running)
    }

    fn ended(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| !matches!(process.try_wait(), Ok(None)))
    }

    fn stop(mut self) -> anyhow::Result<()> {
        ensure!(!self.ended(), "it ended in the middle");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.watcher == Watcher::Auditd {
            for arguments in [["-D", ""], ["-e", "0"]] {
                let _ = audit(arguments.into_iter().filter(|argument| !argument.is_empty()));
            }
        }
        let Some(process) = &mut self.process else { return };
        if let Ok(pid) = i32::try_from(process.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let ended = wait_for(Duration::from_secs(10), || process.try_wait().ok().flatten());
        if ended.is_none() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn spawn(command: &mut Command, directory: &Path) -> anyhow::Result<Child> {
    let log = File::create(directory.join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))
}

fn said(directory: &Path) -> String {
    fs::read_to_string(directory.join("log")).unwrap_or_default().trim().replace('\n', "; ")
}

/// With everything on, and what it keeps in a folder of its own.
fn breachline(directory: &Path) -> anyhow::Result<Child> {
    let config = format!(
        "[kernel]\npin = false\n[intake.http]\nlisten = \"127.0.0.1:0\"\n[store]\ndirectory = {:?}\n[status]\nsocket = {:?}\n\
         [deliver]\nstdout = \"off\"\n",
        directory.join("state"),
        directory.join("status.sock"),
    );
    fs::write(directory.join("breachline.toml"), config)?;
    spawn(Command::new(agent_binary()).args(["run", "--config"]).arg(directory.join("breachline.toml")), directory)
}

/// The daemon with a log of its own, and the rules that every guide has.
fn auditd(directory: &Path) -> anyhow::Result<Child> {
    let status = audit(["-s"])?;
    ensure!(status.lines().any(|line| line == "pid 0"), "an audit daemon runs here already");
    let config = format!(
        "local_events = yes\nwrite_logs = yes\nlog_file = {}\nlog_format = RAW\nflush = INCREMENTAL_ASYNC\nfreq = 50\n\
         max_log_file = 512\nnum_logs = 2\nmax_log_file_action = IGNORE\nspace_left = 75\nspace_left_action = IGNORE\n\
         admin_space_left = 50\nadmin_space_left_action = IGNORE\ndisk_full_action = IGNORE\ndisk_error_action = IGNORE\n",
        directory.join("audit.log").display()
    );
    fs::write(directory.join("auditd.conf"), config)?;
    let daemon = spawn(Command::new("auditd").args(["-n", "-c"]).arg(directory), directory)?;
    let registered =
        || audit(["-s"]).ok()?.lines().any(|line| line.starts_with("pid ") && line != "pid 0").then_some(());
    wait_for(PATIENCE, registered).context("the daemon does not register")?;
    audit(["-b", "16384"])?;
    for calls in ["execve,execveat", "connect"] {
        audit(["-a", "always,exit", "-F", "arch=b64", "-S", calls, "-k", "bench"])?;
    }
    Ok(daemon)
}

fn audit<'a>(arguments: impl IntoIterator<Item = &'a str>) -> anyhow::Result<String> {
    let output = Command::new("auditctl").args(arguments).output().context("auditctl")?;
    if !output.status.success() {
        bail!("auditctl: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn bpftrace(directory: &Path) -> anyhow::Result<Child> {
    // Otherwise its absence would show as the shell's.
    Command::new("bpftrace").arg("--version").output().context("bpftrace")?;
    let script = directory.join("script.bt");
    fs::write(&script, SCRIPT)?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", WITH_TRACEFS, "sh"]).arg(script).arg(directory.join("out"));
    spawn(&mut command, directory)
}

fn install() -> anyhow::Result<()> {
    let packages = [("auditctl", "auditd"), ("bpftrace", "bpftrace")];
    let missing = packages.iter().filter(|(program, _)| Command::new(program).arg("--version").output().is_err());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for arguments in
        [vec!["update", "--quiet"], [vec!["install", "--yes", "--no-install-recommends"], missing].concat()]
    {
        let done = Command::new("apt-get").args(&arguments).stdout(Stdio::null()).status().context("apt-get")?;
        ensure!(done.success(), "apt-get {arguments:?} failed");
    }
    Ok(())
}

fn report(runs: Vec<(Watcher, &str, anyhow::Result<Times>)>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let (mut nobody, mut ours, mut peers) = (None, None, Vec::new());
    for (watcher, name, times) in runs {
        match (watcher, times) {
            (Watcher::Nobody, times) => nobody = Some(times?),
            (Watcher::Breachline, times) => ours = Some(times.context("breachline")?),
            (_, Ok(times)) => peers.push((name, times)),
            (_, Err(error)) => {
                let note = format!("not measured: {error:#}");
                writeln!(
                    out,
                    "{}",
                    json!({"name": format!("beside {name}"), "unit": "ns/event", "peer": name, "note": note})
                )?;
            }
        }
    }
    let (nobody, ours) = (nobody.context("nobody's storm")?, ours.context("breachline's storm")?);
    let pick: [(&str, OfStorm); 2] = [("exec", |times| &times.exec), ("connect", |times| &times.connect)];
    for (storm, of) in pick {
        let [low, own, high] = added(of(&ours), of(&nobody));
        let note = format!("quartiles over {ROUNDS} rounds: {low:.0} to {high:.0} ns");
        let base = percentile(&mut of(&nobody).clone(), 0.5);
        writeln!(
            out,
            "{}",
            json!({"name": format!("{storm} storm, added cost"), "value": own, "unit": "ns/event",
            "peer": "an event unwatched", "peer_value": base, "ratio": own / base, "note": note})
        )?;
        for (name, times) in &peers {
            let [low, peer, high] = added(of(times), of(&nobody));
            let note = format!("target {TARGET}; the peer's quartiles: {low:.0} to {high:.0} ns");
            writeln!(
                out,
                "{}",
                json!({"name": format!("{storm} storm beside {name}"), "value": own, "unit": "ns/event",
                "peer": name, "peer_value": peer, "ratio": own / peer, "note": note})
            )?;
        }
    }
    Ok(out.flush()?)
}

/// Quartiles of what an event costs more than unwatched, round by round.
fn added(watched: &[f64], unwatched: &[f64]) -> [f64; 3] {
    let mut added: Vec<f64> = watched.iter().zip(unwatched).map(|(with, without)| with - without).collect();
    [0.25, 0.5, 0.75].map(|share| percentile(&mut added, share))
}
