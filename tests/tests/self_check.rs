//! The agent proves each of its senses by a child of its own, with the few rights that an agent keeps. Needs root.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use breachline_tests::{agent_binary, wait_for};

/// Longest wait for a proof: a check takes a moment, and may be late on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// Every sense that a child can trigger.
const SENSES: [&str; 8] = ["exec", "lineage", "connect", "socket", "metadata", "names", "inbound", "raw"];

/// Ended with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_sense_is_proven_and_nobody_else_hears_of_it() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let directory = tempfile::tempdir().expect("directory");
    let (config, socket) = (directory.path().join("breachline.toml"), directory.path().join("status.sock"));
    let store = directory.path();
    let text = format!(
        "[kernel]\npin = false\nself_check = \"1s\"\n[store]\ndirectory = {store:?}\n[status]\nsocket = {socket:?}\n\
         [intake.http]\nlisten = \"127.0.0.1:0\"\n[deliver]\nstdout = \"off\"\n"
    );
    fs::write(&config, text).expect("written");
    let recording = directory.path().join("recording");
    let mut command = Command::new(agent_binary());
    command.arg("run").arg("--config").arg(&config).arg("--record").arg(&recording);
    let agent = Agent(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("starts"));
    let senses = || {
        let asked = Command::new(agent_binary()).args(["status", "--json", "--config"]).arg(&config).output().ok()?;
        let status: serde_json::Value = serde_json::from_slice(&asked.stdout).ok()?;
        let senses = status["senses"].as_array()?.clone();
        let by_name = |sense: serde_json::Value| Some((sense["sense"].as_str()?.to_owned(), sense));
        Some(senses.into_iter().filter_map(by_name).collect::<BTreeMap<String, serde_json::Value>>())
    };
    // Twice each: what the first child did is known by then, and the next must be told all the same.
    let proven_at = |senses: &BTreeMap<String, serde_json::Value>| {
        SENSES.map(|name| senses.get(name).and_then(|sense| sense["proven"].as_str().map(ToOwned::to_owned)))
    };
    let all = || senses().filter(|senses| proven_at(senses).iter().all(Option::is_some));
    let first = wait_for(LIMIT, all).unwrap_or_else(|| panic!("not all are proven: {:#?}", senses()));
    let later = wait_for(LIMIT, || {
        let again = senses()?;
        let moved = proven_at(&again).iter().zip(proven_at(&first)).all(|(now, then)| *now > then);
        moved.then_some(again)
    });
    let later = later.unwrap_or_else(|| panic!("proven once and not again: {:#?}", senses()));
    for name in SENSES {
        // Before Linux 6.14 packet sockets are not told, and that is said.
        let as_ever = name == "raw" || later[name]["state"] == "active";
        assert!(as_ever && !later[name].to_string().contains("self-check"), "{:#}", later[name]);
    }
    drop(agent);
    let host = fs::read_dir(&recording).expect("a recording").flatten().map(|entry| entry.path());
    let recorded: String = host.filter_map(|path| fs::read_to_string(path).ok()).collect();
    assert!(
        !recorded.is_empty() && !recorded.contains("self-check.invalid"),
        "the child's doings are nobody's evidence"
    );
}
