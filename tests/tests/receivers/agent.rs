//! The whole agent, killed while it takes lines; as root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use breachline_tests::{agent_binary, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::taking::LIMIT;
use crate::{curl, found};

/// What stopping may take, on a machine that is busy with other tests.
const STOP_MAX: Duration = Duration::from_secs(2);

struct Agent {
    child: Child,
    config: PathBuf,
}

impl Agent {
    fn start(directory: &Path, port: u16) -> Self {
        let config = directory.join("breachline.toml");
        let text = format!(
            "[kernel]\npin = false\n[intake.http]\nlisten = \"127.0.0.1:{port}\"\n[store]\ndirectory = {directory:?}\n\
             [status]\nsocket = {:?}\n[deliver]\nstdout = \"off\"\n",
            directory.join("status.sock")
        );
        fs::write(&config, text).expect("writes");
        let mut command = Command::new(agent_binary());
        command.arg("run").arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        let agent = Self { child: command.spawn().expect("starts"), config };
        assert!(wait_for(LIMIT, || agent.counter("intake.lines")).is_some(), "the agent came up");
        agent
    }

    fn counter(&self, name: &str) -> Option<u64> {
        let mut command = Command::new(agent_binary());
        let output = command.args(["status", "--json", "--config"]).arg(&self.config).output().ok()?;
        serde_json::from_slice::<serde_json::Value>(&output.stdout).ok()?["counters"][name].as_u64()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn killed_right_after_its_answer_the_agent_has_the_lines_and_stops_at_once() {
    if !nix::unistd::geteuid().is_root() || !found("curl") {
        eprintln!("skipped: needs root and curl");
        return;
    }
    let directory = tempfile::tempdir().expect("directory");
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let url = format!("http://127.0.0.1:{port}/v1/lines");
    let mut agent = Agent::start(directory.path(), port);
    assert!(curl(&["-d", "one line", &url]).ends_with(" 200"));
    agent.child.kill().expect("kills"); // long before the engine saves its memory
    agent.child.wait().expect("ends");

    let mut agent = Agent::start(directory.path(), port);
    let replayed = wait_for(LIMIT, || agent.counter("intake.journal_replayed").filter(|count| *count > 0));
    assert_eq!(replayed, Some(1));
    assert!(curl(&["-d", "a second line", &url]).ends_with(" 200"));
    assert!(curl(&[&format!("http://127.0.0.1:{port}/metrics")]).contains("\nbreachline_intake_http_accepted "));
    let begin = Instant::now();
    kill(Pid::from_raw(i32::try_from(agent.child.id()).expect("a pid")), Signal::SIGTERM).expect("tells it to stop");
    let status = wait_for(LIMIT, || agent.child.try_wait().ok().flatten()).expect("ends");
    assert!(status.success() && begin.elapsed() < STOP_MAX, "{status} after {:?}", begin.elapsed());
    drop(agent);

    let agent = Agent::start(directory.path(), port);
    assert_eq!(agent.counter("intake.journal_replayed"), Some(0), "all was judged and saved");
}
