//! No secret that the agent saw pass is in anything that it writes: a service asks a metadata endpoint for a token and a
//! credential, and everything the agent leaves behind is searched for both.
//!
//! Needs root; without it the test says so and ends. All traffic stays in a network namespace that the test makes.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use breachline_tests::{agent_binary, wait_for};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest wait for anything: generous, machines under test are busy.
const LIMIT: Duration = Duration::from_secs(90);
/// What the endpoint hands out.
const TOKEN: &str = "AQAECanaryToken5up3rS3cret==";
const KEY: &str = "wJalrCanaryKey0123456789abcdefghijklmnop";
/// What the service asks, as people do by hand: the token in a variable, on the command line, and from a file.
const SCRIPT: &str = "
    M=http://169.254.169.254/latest
    T=$(curl -s -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $M/api/token)
    curl -s -H \"X-aws-ec2-metadata-token: $T\" $M/meta-data/iam/security-credentials/shop >/dev/null
    printf 'X-aws-ec2-metadata-token: %s' \"$T\" >\"$0\"
    curl -s -H @\"$0\" $M/meta-data/iam/security-credentials/shop >/dev/null
    rm \"$0\"";

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Answers requests until it is asked for the third time.
fn endpoint(listener: &TcpListener) {
    for _ in 0..3 {
        let (stream, _) = listener.accept().expect("accepted");
        answer(&stream);
    }
}

fn answer(mut stream: &TcpStream) {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let body = match head.first().map(String::as_str) {
        Some(line) if line.starts_with("PUT ") => TOKEN.to_owned(),
        _ => format!("{{\"Code\":\"Success\",\"SecretAccessKey\":\"{KEY}\",\"Token\":\"{TOKEN}\"}}"),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").expect("answered");
}

/// Runs the script below a process that serves (this one), in a namespace with an endpoint of its own.
fn ask(scratch: String) {
    let asking = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
        for setup in ["link set lo up", "address add 169.254.169.254/32 dev lo"] {
            assert!(Command::new("ip").args(setup.split(' ')).status().expect("iproute2").success(), "{setup}");
        }
        let listener = TcpListener::bind("169.254.169.254:80").expect("bound");
        let _service = TcpListener::bind("127.0.0.1:8080").expect("bound");
        let served = thread::spawn(move || endpoint(&listener));
        let asked = Command::new("/bin/sh").args(["-ec", SCRIPT, &scratch]).status().expect("a shell");
        assert!(asked.success(), "curl is installed, and was answered");
        served.join().expect("all were answered");
    });
    asking.join().expect("asked");
}

fn start(directory: &Path) -> Agent {
    let config = directory.join("breachline.toml");
    let at = directory.display();
    let text = format!(
        "[kernel]\npin = false\n[store]\ndirectory = \"{at}/state\"\n[status]\nsocket = \"{at}/status.sock\"\n[intake.http]\nenabled = false\n\
         [correlate]\nsingle_stage = true\n[deliver.file]\npath = \"{at}/incidents.jsonl\"\n"
    );
    fs::write(&config, text).expect("written");
    let file = |name: &str| Stdio::from(File::create(directory.join(name)).expect("made"));
    let child = Command::new(agent_binary())
        .args(["run", "--config"])
        .arg(&config)
        .arg("--record")
        .arg(directory.join("recording"))
        .env("RUST_LOG", "trace")
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .spawn();
    let agent = Agent(child.expect("the agent starts"));
    wait_for(LIMIT, || read(&directory.join("stderr")).contains("watching").then_some(())).expect("it watches");
    agent
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Every file below `directory` that holds `secret`.
fn holders(directory: &Path, secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holders(&path, secret));
        } else if read(&path).contains(secret) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn no_secret_is_in_anything_that_is_written() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let scratch = tempfile::tempdir().expect("a directory");
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let mut agent = start(directory);
    ask(scratch.path().join("header").display().to_string());
    let recording = directory.join("recording/host.ndjson");
    let answers = || (read(&recording).matches("\"kind\":\"metadata_status\"").count() >= 3).then_some(());
    wait_for(LIMIT, answers).unwrap_or_else(|| panic!("three answers are told: {}", read(&recording)));
    let status = Command::new(agent_binary())
        .args(["status", "--json", "--config"])
        .arg(directory.join("breachline.toml"))
        .output()
        .expect("status runs");
    fs::write(directory.join("status.out"), [status.stdout, status.stderr].concat()).expect("written");
    kill(Pid::from_raw(agent.0.id().try_into().expect("a pid")), Signal::SIGTERM).expect("told to stop");
    wait_for(LIMIT, || agent.0.try_wait().expect("waited")).expect("it stops");

    // It saw all of it: else finding nothing would prove nothing.
    let recorded = read(&recording);
    for seen in
        ["\"path\":\"session\"", "\"role\":\"shop\",\"token\":true", "\"status\":200", "metadata-token: [redacted]"]
    {
        assert!(recorded.contains(seen), "{seen} in {recorded}");
    }
    assert!(read(&directory.join("incidents.jsonl")).contains("security-credentials"), "an incident is written");
    for secret in [TOKEN, KEY, "CanaryToken", "CanaryKey"] {
        assert_eq!(holders(directory, secret), Vec::<String>::new(), "{secret}");
    }
}
