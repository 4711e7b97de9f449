//! The senses outlive their agent: killed, restarted, replaced, uninstalled.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use breachline::event::{HostEvent, HostEventKind};
use breachline::kernel::{Config, SenseState, Sensor, uninstall};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::watch::{Watch, root};

/// Where a child of this test keeps its senses; without it the child's test does nothing.
const PLACE: &str = "BREACHLINE_TEST_PINS";
/// Programs started in the course of one test, each with its number.
const EXECS: u32 = 240;
/// First argument of the programs of the test whose agent is killed; the holder, a process of its own, looks for it too.
const KILLED: &str = "breachline-restart-killed";
/// First argument of those of the test whose senses are replaced. The tests run side by side and see each other's programs.
const REPLACED: &str = "breachline-restart-replaced";

/// A BPF file system of the test's own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty(), None::<&str>).expect("a BPF file system");
        Self(directory)
    }

    fn pins(&self) -> PathBuf {
        self.0.path().join("senses")
    }

    fn sets(&self) -> usize {
        std::fs::read_dir(self.pins()).map_or(0, Iterator::count)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Senses that a failed test left end with it.
        let _ = uninstall(&self.pins());
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

fn config(pins: &Path) -> Config {
    Config { pin_directory: pins.to_owned(), ..Config::default() }
}

fn start(config: &Config) -> Sensor {
    Sensor::start(config, Path::new("owner")).expect("the senses load here")
}

/// Starts programs numbered `from` on, until `until` are started; tells how far it is.
fn load(mark: &'static str, done: Arc<AtomicU32>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for number in 0..EXECS {
            Command::new("/bin/true").args([mark, &number.to_string()]).status().expect("ran");
            done.store(number + 1, Ordering::Release);
        }
    })
}

fn reached(done: &AtomicU32, number: u32) {
    while done.load(Ordering::Acquire) < number {
        std::thread::yield_now();
    }
}

/// The numbers of this test's programs among the events, with how often each came.
fn numbers(mark: &str, events: &[HostEvent]) -> impl Iterator<Item = u32> {
    events.iter().filter_map(|event| match &event.kind {
        HostEventKind::Exec(exec) if exec.argv.get(1).is_some_and(|first| *first == *mark) => {
            exec.argv.get(2)?.parse().ok()
        }
        _ => None,
    })
}

fn read_all(mark: &str, watch: &mut Watch) {
    while numbers(mark, &watch.seen).max() != Some(EXECS - 1) {
        watch.read();
    }
}

fn each_once(told: impl Iterator<Item = u32>) {
    let mut times: BTreeMap<u32, u32> = (0..EXECS).map(|number| (number, 0)).collect();
    for number in told {
        *times.entry(number).or_default() += 1;
    }
    let wrong: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    assert!(wrong.is_empty(), "each program is told once: {wrong:?}");
}

/// Not a test of its own: holds the senses as an agent does, prints what it reads, stops reading when told to.
#[test]
fn holder() {
    let Some(pins) = std::env::var_os(PLACE) else { return };
    let mut watch = Watch::of(|| start(&config(Path::new(&pins))));
    let stop = Arc::new(AtomicU32::new(0));
    let told = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        told.store(1, Ordering::Release);
    });
    println!("ready");
    while stop.load(Ordering::Acquire) == 0 {
        watch.seen.clear();
        watch.read();
        for number in numbers(KILLED, &watch.seen) {
            println!("told {number}");
        }
    }
    println!("stopped");
    loop {
        std::thread::park();
    }
}

/// An agent in a process of its own.
struct Holder {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    told: Vec<u32>,
}

impl Holder {
    fn start(pins: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "restart::holder", "--nocapture", "--test-threads=1"])
            .env(PLACE, pins)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawned");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut holder = Self { child, output, told: Vec::new() };
        holder.until("ready");
        holder
    }

    fn until(&mut self, word: &str) {
        let mut line = String::new();
        while !line.trim_end().ends_with(word) {
            line.clear();
            assert!(self.output.read_line(&mut line).expect("read") > 0, "it ended before it said {word}");
            if let Some((_, number)) = line.trim_end().rsplit_once("told ") {
                self.told.push(number.parse().expect("number"));
            }
        }
    }

    fn stop_reading(&mut self) {
        self.child.stdin.take().expect("piped").write_all(b"x").expect("told");
        self.until("stopped");
    }

    fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited");
    }
}

/// A shell on a socket, which taints its line.
struct TaintedShell {
    shell: Child,
    commands: TcpStream,
}

impl TaintedShell {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let commands = TcpStream::connect(listener.local_addr().expect("address")).expect("connected");
        let (socket, _) = listener.accept().expect("accepted");
        let (input, output) = (OwnedFd::from(socket.try_clone().expect("cloned")), OwnedFd::from(socket));
        let mut bash = Command::new("/bin/bash");
        let shell = bash.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::null()).spawn();
        Self { shell: shell.expect("bash"), commands }
    }

    /// Has it reach for a peer, and waits until it did.
    fn reach(&mut self, peer: SocketAddr) {
        let command = format!(": </dev/tcp/{}/{}; echo done\n", peer.ip(), peer.port());
        self.commands.write_all(command.as_bytes()).expect("told");
        let mut answer = [0; 5];
        self.commands.read_exact(&mut answer).expect("answered");
        assert_eq!(&answer, b"done\n");
    }
}

impl Drop for TaintedShell {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("address")
}

#[test]
fn a_killed_agent_loses_nothing_that_fits_and_its_successor_tells_it_once() {
    if !root() {
        return;
    }
    let place = Place::new();
    let mut holder = Holder::start(&place.pins());
    let (mut shell, peer) = (TaintedShell::start(), closed_port());
    shell.reach(peer);
    let done = Arc::new(AtomicU32::new(0));
    let load = load(KILLED, Arc::clone(&done));
    reached(&done, EXECS / 4);
    holder.stop_reading();
    reached(&done, EXECS / 2);
    holder.kill();
    reached(&done, EXECS * 3 / 4);
    let mut watch = Watch::of(|| start(&config(&place.pins())));
    load.join().expect("joined");
    shell.reach(peer);
    read_all(KILLED, &mut watch);
    assert!(watch.sensor.resumed().is_none(), "the first one never asked for losses");
    let adopted: Vec<u32> = numbers(KILLED, &watch.seen).collect();
    assert!(adopted.len() > EXECS as usize / 2 && !holder.told.is_empty(), "both told some");
    each_once(holder.told.iter().copied().chain(adopted));
    let again = watch.contact("the tainted line again", |contact| contact.peer == peer && !contact.first);
    assert_eq!(again.actor.process.pid, shell.shell.id(), "what it was tainted by is remembered");
    assert!(watch.sensor.verdicts().iter().all(|verdict| verdict.state == SenseState::Active));
}

/// Another build or config: the new senses run before the old ones end, and both together tell everything once.
#[test]
fn senses_of_another_config_are_replaced() {
    if !root() {
        return;
    }
    let place = Place::new();
    let (mut shell, peer) = {
        let _first = Watch::of(|| start(&config(&place.pins())));
        (TaintedShell::start(), closed_port())
    };
    let done = Arc::new(AtomicU32::new(0));
    let load = load(REPLACED, Arc::clone(&done));
    reached(&done, EXECS / 2);
    let larger = Config { bulk_ring_bytes: 8 << 20, ..config(&place.pins()) };
    let mut watch = Watch::of(|| start(&larger));
    load.join().expect("joined");
    read_all(REPLACED, &mut watch);
    each_once(numbers(REPLACED, &watch.seen));
    assert_eq!(place.sets(), 1, "the other set is gone");
    shell.reach(peer);
    let first = watch.contact("its contact", |contact| contact.peer == peer);
    shell.reach(peer);
    watch.contact("the same, told again", |contact| {
        contact.peer == peer && !contact.first && contact.actor.process == first.actor.process
    });
}

#[test]
fn uninstalling_leaves_nothing_and_waits_for_a_living_agent() {
    if !root() {
        return;
    }
    let place = Place::new();
    {
        let watch = Watch::of(|| start(&config(&place.pins())));
        assert_eq!(place.sets(), 1);
        assert!(uninstall(&place.pins()).expect_err("it lives").to_string().contains("another agent"));
        // A second agent works, without keeping anything.
        let second = watch.within(|| start(&config(&place.pins())));
        let restart = second.verdicts().iter().find(|verdict| verdict.sense == "restart").expect("a verdict");
        assert!(matches!(&restart.state, SenseState::Degraded { missing } if missing[0].contains("another agent")));
    }
    let ended = uninstall(&place.pins()).expect("uninstalled");
    assert!(ended.left.is_empty(), "{ended:?}");
    assert!(ended.programs.len() >= 9 && !place.pins().exists(), "{ended:?}");
    assert_eq!(uninstall(&place.pins()).expect("nothing there"), Default::default());
}

#[test]
fn without_a_bpf_file_system_the_senses_work_and_say_so() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    File::create(directory.path().join("file")).expect("made");
    for pins in [directory.path().join("senses"), directory.path().join("file/senses")] {
        let mut watch = Watch::of(|| start(&config(&pins)));
        let restart = watch.sensor.verdicts().iter().find(|verdict| verdict.sense == "restart").expect("a verdict");
        assert!(matches!(restart.state, SenseState::Degraded { .. }));
        let mut child = Command::new("/bin/true").spawn().expect("spawned");
        child.wait().expect("waited");
        watch.exec_of(child.id());
    }
}
