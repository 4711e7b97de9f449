//! The drill as a user runs it: every scenario as expected, and nothing left behind however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use breachline_tests::{agent_binary, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Longest wait for a drill to come up or go away; it takes seconds on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Drills take turns anyway; a test that waits for another's turn would only use up its own limit.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: the drill needs root");
    }
    root
}

#[test]
fn every_scenario_is_as_expected() {
    if !is_root() {
        return;
    }
    let _turn = turn();
    let output = Command::new(agent_binary()).args(["drill", "--json"]).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let outcomes: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    let wrong: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome["right"] != true)
        .map(|outcome| (&outcome["scenario"], &outcome["wrong"]))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(outcomes.len() >= 8, "{} scenarios", outcomes.len());
    assert!(output.status.success(), "{}", output.status);
}

#[test]
fn an_interrupted_drill_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    let _turn = turn();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let scratch = tempfile::tempdir().expect("scratch directory");
        let mut drill = start(scratch.path());
        let name = format!("breachline_drill_{}_", drill.id());
        let up = wait_for(LIMIT, || (!actors(&name).is_empty() && !cgroups(&name).is_empty()).then_some(()));
        assert!(up.is_some(), "the drill did not come up");
        kill(Pid::from_raw(i32::try_from(drill.id()).expect("a pid")), signal).expect("signalled");
        let status = wait_for(LIMIT, || drill.try_wait().expect("waits")).expect("the drill ends");
        assert!(!status.success(), "{signal} must not look like success");
        let gone = wait_for(LIMIT, || {
            (actors(&name).is_empty() && cgroups(&name).is_empty() && is_empty(scratch.path())).then_some(())
        });
        assert!(gone.is_some(), "after {signal}: {:?} {:?}", actors(&name), cgroups(&name));
    }
}

#[test]
fn an_unknown_scenario_is_bad_use() {
    let output = Command::new(agent_binary()).args(["drill", "--scenario", "nonsense"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("full-chain"), "the message lists what there is");
}

fn start(scratch: &Path) -> Child {
    let mut drill = Command::new(agent_binary());
    drill
        .args(["drill", "--scenario", "full-chain"])
        .env("TMPDIR", scratch)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    drill.spawn().expect("starts")
}

/// Processes whose command line names the range, by pid.
fn actors(name: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
    let named =
        |path: &PathBuf| fs::read(path.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(name));
    processes.filter(named).map(|path| path.display().to_string()).collect()
}

/// Cgroups of the range, wherever cgroup2 is mounted.
fn cgroups(name: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let cgroup2 = mounts.lines().filter(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let entries = cgroup2.filter_map(|line| fs::read_dir(line.split(' ').nth(1)?).ok()).flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|entry| entry.starts_with(name)).collect()
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}
