//! Every known way around a host sensor, walked for real on the running kernel, and whether the agent saw it.
//!
//! In: root, a cgroup2 mount, busybox. Out: one line (or with `--json` one object `{way, group, kernel, expected, seen}`) a
//! way, and what it took to load the programs; exit 1 when one is not as expected. Both directions are asserted: what must be seen is, and what cannot be seen is
//! not, while that which is raised instead is. Traffic stays in a network namespace of its own.
#![expect(clippy::print_stdout, reason = "the table is the result")]

#[path = "../ways/datagram.rs"]
mod datagram;
#[path = "../ways/elf32.rs"]
mod elf32;
#[path = "../ways/endpoint.rs"]
mod endpoint;
#[path = "../ways/injection.rs"]
mod injection;
#[path = "../ways/lineage.rs"]
mod lineage;
#[path = "../ways/neighbour.rs"]
mod neighbour;
#[path = "../ways/netfilter.rs"]
mod netfilter;
#[path = "../ways/observer.rs"]
mod observer;
#[path = "../ways/peer.rs"]
mod peer;
#[path = "../ways/program.rs"]
mod program;
#[path = "../ways/raw.rs"]
mod raw;
#[path = "../ways/service.rs"]
mod service;
#[path = "../ways/stage.rs"]
mod stage;
#[path = "../ways/table.rs"]
mod table;
#[path = "../ways/uring.rs"]
mod uring;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use breachline::workload::WorkloadKey;
use neighbour::Neighbour;
use observer::{Observer, Traces};
use serde::Serialize;
use table::{Machine, WAYS, Way};

/// Ports of the ways, one each: below the ephemeral ones, above the privileged.
const FIRST_PORT: u16 = 20_000;

const USAGE: &str = "usage: ways [--json] [--list] [--within KEY ROOT COMMAND] [NAME]...

Walks every known way around a host sensor, or those named, and says which the agent saw. Within a container: COMMAND (a
shell's) starts it and passes `/ways serve /stage` on to it, ROOT holds the container's files, and whatever is seen must be
placed on the workload KEY. A way that its bars keep it from walking is `barred` there.
Exit code 0: all as expected; 1: not, or it could not be tried; 64: bad use.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["nothing", _] => Ok(true),
        ["neighbour", folder] => neighbour::run(Path::new(folder)).map(|()| true).map_err(Into::into),
        ["spin"] => {
            neighbour::spin();
            Ok(true)
        }
        ["serve", folder] => service::serve(PathBuf::from(folder)).map(|()| true).map_err(Into::into),
        ["perform", name, port, folder] => std::process::exit(match port.parse() {
            Ok(port) => service::perform(name, port, PathBuf::from(folder)),
            Err(_) => 64,
        }),
        _ => walk(&words),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ways: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The ways asked for; whether all were as expected.
fn walk(words: &[&str]) -> Result<bool> {
    let (mut json, mut names, mut container) = (false, Vec::new(), None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--json" => json = true,
            "--within" => {
                let [Some(key), Some(root), Some(command)] = [words.next(), words.next(), words.next()] else {
                    eprintln!("{USAGE}");
                    std::process::exit(64);
                };
                container = Some(Container { key: WorkloadKey::new(key), root: Path::new(root), command });
            }
            "--list" => {
                WAYS.iter().for_each(|way| println!("{}", way.name));
                return Ok(true);
            }
            name if WAYS.iter().any(|way| way.name == name) => names.push(name),
            _ => {
                eprintln!("{USAGE}");
                std::process::exit(64);
            }
        }
    }
    let chosen = |way: &&Way| names.is_empty() || names.contains(&way.name);
    let mut walk = Walk::begin(container.as_ref())?;
    if json {
        walk.print_loads()?;
    }
    let mut all = true;
    for (number, way) in WAYS.iter().enumerate().filter(|(_, way)| chosen(way)) {
        let cell = walk.cell(number, way)?;
        all &= cell.as_expected();
        cell.print(json)?;
    }
    Ok(all)
}

/// A container in which the ways are walked.
struct Container<'w> {
    key: WorkloadKey,
    root: &'w Path,
    command: &'w str,
}

/// Longest wait for the service to end once it gets no more orders.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
/// Where the service keeps its files within a container.
const STAGE: &str = "/stage";

/// One cell of the matrix.
#[derive(Serialize)]
struct Cell<'w> {
    way: &'w str,
    group: &'w str,
    kernel: &'w str,
    expected: &'static str,
    seen: &'static str,
    /// Why it is not as expected.
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
}

impl Cell<'_> {
    fn as_expected(&self) -> bool {
        self.expected == self.seen || self.seen == "barred"
    }

    fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
        } else {
            let word = if self.as_expected() { "ok  " } else { "FAIL" };
            println!("{word} {:<24} expected {:<7} {:<7} {}", self.way, self.expected, self.seen, self.note);
        }
        Ok(())
    }
}

/// One program, as the kernel took it.
#[derive(Serialize)]
struct LoadFigure<'w> {
    program: &'w str,
    kernel: &'w str,
    instructions: u32,
    verified: Option<u32>,
    load_us: u64,
}

/// What programs and maps take in the kernel.
#[derive(Serialize)]
struct MemoryFigure<'w> {
    bpf_memory_bytes: u64,
    kernel: &'w str,
}

/// The observer, the service, and what is between them.
struct Walk {
    kernel: String,
    machine: Machine,
    observer: Observer,
    service: Child,
    /// Closed at the end, which ends the service.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// In a container, whose bars may keep a way from being walked.
    contained: bool,
    _neighbour: Option<Neighbour>,
    // Removed at the end: what a way ran is looked at after it has ended.
    _folder: tempfile::TempDir,
}

impl Walk {
    fn begin(container: Option<&Container<'_>>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let neighbour = match container {
            Some(_) => None,
            None => Some(Neighbour::start(folder.path())?),
        };
        // Before the service: its listener is seen being opened.
        let mut observer = Observer::load(container.map(|container| container.key.clone()))?;
        let (mut service, orders, mut answers) = start(folder.path(), container)?;
        let mut line = String::new();
        answers.read_line(&mut line)?;
        if line.trim() != "ready" {
            service.kill()?;
            service.wait()?;
            bail!("the service did not start");
        }
        match container {
            Some(_) => observer.begin_within(STAGE)?,
            None => observer.begin(service.id())?,
        }
        let kernel = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
        let machine = Machine::read(container.map_or(Path::new("/"), |container| container.root), neighbour.is_some());
        let contained = container.is_some();
        let orders = Some(orders);
        Ok(Self {
            kernel,
            machine,
            observer,
            service,
            orders,
            answers,
            contained,
            _neighbour: neighbour,
            _folder: folder,
        })
    }

    /// What each program is on this kernel and what it took to load it; and what all of it takes in the kernel.
    fn print_loads(&self) -> Result<()> {
        for load in self.observer.loads() {
            let figure = LoadFigure {
                program: &load.program,
                kernel: &self.kernel,
                instructions: load.instructions,
                verified: load.verified,
                load_us: u64::try_from(load.took.as_micros())?,
            };
            println!("{}", serde_json::to_string(&figure)?);
        }
        let memory = MemoryFigure { bpf_memory_bytes: self.observer.memory(), kernel: &self.kernel };
        println!("{}", serde_json::to_string(&memory)?);
        Ok(())
    }

    fn cell<'w>(&'w mut self, number: usize, way: &'w Way) -> Result<Cell<'w>> {
        let port = FIRST_PORT + u16::try_from(number)?;
        let Some(orders) = &mut self.orders else { bail!("the service takes no more orders") };
        writeln!(orders, "{} {port} {number}", way.name)?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let (performer, code, said) = answer(&line).with_context(|| format!("{}: no answer: {line}", way.name))?;
        let observed = self.observer.read_until(&service::end_mark(number))?;
        let there = self.machine.has(way.needs);
        let expected = match (there, way.must_be_seen()) {
            (false, _) => "absent",
            (true, true) => "seen",
            (true, false) => "missed",
        };
        let performer = observer::performer(&observed, way.name).unwrap_or(performer);
        let traces = Traces { name: way.name, performer, port, observed: &observed };
        let (seen, note) = match verdict(way, code, &said, &traces) {
            ("failed", note) if self.contained && code == service::BARRED => ("barred", note),
            other => other,
        };
        let note = if seen == expected { String::new() } else { note };
        Ok(Cell { way: way.name, group: way.group, kernel: &self.kernel, expected, seen, note })
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        // A container outlives the command that started it: it must end by itself.
        self.orders = None;
        let deadline = Instant::now() + LAST_PATIENCE;
        while matches!(self.service.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}

fn start(folder: &Path, container: Option<&Container<'_>>) -> Result<(Child, ChildStdin, BufReader<ChildStdout>)> {
    let mut command = match container {
        Some(_) => Command::new("/bin/sh"),
        None => Command::new(std::env::current_exe()?),
    };
    match container {
        Some(container) => command.arg("-c").arg(format!("{} /ways serve {STAGE}", container.command)),
        None => command.arg("serve").arg(folder),
    };
    let mut service =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start the service")?;
    let (Some(orders), Some(answers)) = (service.stdin.take(), service.stdout.take()) else { bail!("no pipes") };
    Ok((service, orders, BufReader::new(answers)))
}

/// `done PID CODE NUMBER TEXT`.
fn answer(line: &str) -> Option<(u32, i32, String)> {
    let mut words = line.trim_end().splitn(5, ' ');
    let done = words.next()? == "done";
    let (performer, code) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next()?;
    done.then(|| (performer, code, words.next().unwrap_or_default().to_owned()))
}

/// What came of a way, and why where that is not plain.
fn verdict(way: &Way, code: i32, said: &str, traces: &Traces<'_>) -> (&'static str, String) {
    let why = |what: &str| format!("{what}; exit {code} {said}; observed: {}", traces.summary());
    match (code, (way.seen)(traces), way.instead) {
        (service::ABSENT, _, _) => ("absent", why("the kernel has no such thing")),
        (0, true, _) => ("seen", why("")),
        (0, false, Some(instead)) if !instead(traces) => ("nothing", why("nothing is raised instead")),
        (0, false, _) => ("missed", why("no trace")),
        (_, _, _) => ("failed", why("could not be walked")),
    }
}
