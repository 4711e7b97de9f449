//! Agents that run, on one bus: two that know a service, one that was just started, and one without a fleet.
//!
//! Needs root for the kernel's senses, `unshare`, `ip` and `python3`; without root the test says so and ends. Agents see the whole machine, so each of them sees the
//! same service; what tells them apart is what they know. Nothing leaves the service's network namespace.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use breachline::baseline::{Baseline, Config};
use breachline::clock;
use breachline::event::Protocol;
use breachline::workload::WorkloadKey;
use breachline_tests::{agent_binary, wait_for};
use serde_json::Value;

use crate::bus::Bus;
use crate::{DAY, LIMIT};

/// A running agent with a state of its own.
struct Agent {
    process: Child,
    directory: tempfile::TempDir,
}

impl Agent {
    /// On this bus, under this name; without a bus it has no fleet.
    fn start(bus: Option<(&Bus, &str)>) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let at = |name: &str| directory.path().join(name);
        let fleet = bus.map_or(String::new(), |(bus, name)| {
            let urls = bus.config().server.urls;
            format!("[fleet]\nenabled = true\nname = {name:?}\n[fleet.server]\nurls = {urls:?}\n")
        });
        let config = format!(
            "[kernel]\npin = false\n[store]\ndirectory = {:?}\n[status]\nsocket = {:?}\n[intake.http]\nenabled = false\n\
             [deliver]\nstdout = \"off\"\n{fleet}",
            at("state"),
            at("status.sock"),
        );
        fs::write(at("breachline.toml"), config).expect("written");
        let process = Command::new(agent_binary())
            .args(["run", "--config"])
            .arg(at("breachline.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(at("log")).expect("made"))
            .spawn()
            .expect("the agent starts");
        let agent = Self { process, directory };
        assert!(wait_for(LIMIT, || agent.ask(&["status"])).is_some(), "the agent came up; its log: {}", agent.log());
        agent
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn ask(&self, arguments: &[&str]) -> Option<Value> {
        let config = self.directory.path().join("breachline.toml");
        let output =
            Command::new(agent_binary()).args(arguments).arg("--json").arg("--config").arg(config).output().ok()?;
        output.status.success().then(|| serde_json::from_slice(&output.stdout).ok()).flatten()
    }

    /// Waits until its status says so.
    #[track_caller]
    fn says(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let said = wait_for(LIMIT, || self.ask(&["status"]).filter(&holds));
        assert!(said.is_some(), "{what}: {:#}\n{}", self.ask(&["status"]).unwrap_or_default(), self.log());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Listens, contacts a peer, and goes on until its input ends.
const SERVICE: &str = "
import socket, sys
s = socket.socket(); s.bind(('203.0.113.1', 8080)); s.listen()
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'hello', ('203.0.113.7', 443)); print('contacted', flush=True)
sys.stdin.read()
";

/// It runs in a unit's cgroup and in a network namespace of its own, which ends at loopback.
struct Service {
    process: Child,
    cgroup: PathBuf,
}

impl Service {
    fn start(unit: &str) -> Self {
        let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
        let cgroup2 = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("a cgroup2 mount");
        let cgroup = Path::new(cgroup2.split(' ').nth(1).expect("its place")).join(unit);
        fs::create_dir(&cgroup).expect("a cgroup can be made");
        let script = format!(
            "echo $$ > {}/cgroup.procs; ip link set lo up; ip addr add 203.0.113.1/24 dev lo; \
             exec python3 -c \"$0\"",
            cgroup.display()
        );
        let mut process = Command::new("unshare")
            .args(["--net", "sh", "-c", &script, SERVICE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("unshare runs");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("reads");
        assert_eq!(line, "contacted\n");
        Self { process, cgroup }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        // The kernel needs a moment to notice that it is empty.
        wait_for(LIMIT, || fs::remove_dir(&self.cgroup).ok());
    }
}

/// What a host knows that has watched the service for three days, as `breachline baseline export` writes it.
fn known_for_three_days(workload: &WorkloadKey) -> Vec<u8> {
    let mut baseline = Baseline::new(Config::default());
    let peer = "203.0.113.7:443".parse().expect("an address");
    for days in [3, 2, 1] {
        baseline.peer(workload, peer, Protocol::Udp, None, clock::now().minus(DAY * days));
    }
    baseline.to_bytes().expect("serialises")
}

fn learns(status: &Value, workload: &WorkloadKey) -> bool {
    let name = Value::from(workload.to_string());
    status["learning"].as_array().is_some_and(|learning| learning.contains(&name))
}

#[test]
fn an_agent_started_a_minute_ago_knows_the_service_of_two_that_run() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let unit = format!("breachline-fleet-{}.service", std::process::id());
    let workload = WorkloadKey::new(&format!("unit:{unit}"));
    let bus = Bus::start(&[]);
    let old = ["first", "second"].map(|name| {
        let agent = Agent::start(Some((&bus, name)));
        let file = agent.directory.path().join("known.json");
        fs::write(&file, known_for_three_days(&workload)).expect("written");
        let imported = agent.ask(&["baseline", "import", &file.display().to_string()]);
        assert!(imported.is_some(), "{}", agent.log());
        agent
    });
    for agent in &old {
        agent.says("the records of both are on the bus", |status| status["counters"]["fleet.told"].as_u64() >= Some(1));
    }
    let (young, alone) = (Agent::start(Some((&bus, "young"))), Agent::start(None));
    let _service = Service::start(&unit);
    young.says("both were heard of", |status| status["counters"]["fleet.hosts"].as_u64() >= Some(2));
    alone.says("who has no fleet learns what it sees", |status| learns(status, &workload));
    let knows = |agent: &Agent| {
        let known = agent.ask(&["baseline", "show", "--workload", &workload.to_string()]);
        known.is_some_and(|known| known.to_string().contains("203.0.113"))
    };
    assert!(
        wait_for(LIMIT, || knows(&young).then_some(())).is_some(),
        "the young one saw the service: {}",
        young.log()
    );
    young.says("the service is not learned anew", |status| !learns(status, &workload));
}
