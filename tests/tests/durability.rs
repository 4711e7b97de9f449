//! The agent killed, starved of disk and cut off from its collector: what it raised is neither lost nor forgotten.
//!
//! Needs root (kernel senses, namespaces), `unshare`, `ip`, `python3` and `curl`; without them each test says so and ends. The
//! victim lives in a network namespace of its own, whose only interface is loopback: nothing can leave it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use breachline_tests::{agent_binary, wait_for};
use serde_json::Value;

/// Longest wait for what must happen; machines under test are busy.
const LIMIT: Duration = Duration::from_secs(90);
/// Times the agent is killed; `BREACHLINE_KILLS=200` for the long run.
fn kills() -> u32 {
    std::env::var("BREACHLINE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

/// Agents see the whole machine: two at once would raise each other's incidents.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> Option<MutexGuard<'static, ()>> {
    let found = |name: &&str| {
        let looked = Command::new("sh").args(["-c", "command -v \"$0\"", name]).stdout(Stdio::null()).status();
        looked.is_ok_and(|status| status.success())
    };
    let lacks = ["unshare", "ip", "python3", "curl"].into_iter().find(|name| !found(name));
    if !nix::unistd::geteuid().is_root() || lacks.is_some() {
        eprintln!("skipped: needs root, unshare, ip, python3 and curl (lacks {lacks:?})");
        return None;
    }
    Some(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A port of loopback that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.local_addr().expect("address").port()
}

/// A service with a hole: whatever stands on a line of its input, it hands to a shell.
const VICTIM: &str = "
import socket, subprocess, sys
s = socket.socket(); s.bind((sys.argv[1], 8080)); s.listen(); print('listening', flush=True)
for line in sys.stdin: subprocess.run(['/bin/sh', '-c', line]); print('done', flush=True)
";

/// One victim, in a cgroup and a network namespace of its own.
struct Victim {
    child: Child,
    cgroup: PathBuf,
}

impl Victim {
    fn start(name: &str, address: &str) -> Self {
        let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
        let cgroup2 = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("a cgroup2 mount");
        let cgroup = Path::new(cgroup2.split(' ').nth(1).expect("its place")).join(name);
        fs::create_dir_all(&cgroup).expect("a cgroup can be made");
        let join = format!("echo $$ > {}/cgroup.procs", cgroup.display());
        let net = format!("ip link set lo up; ip addr add {address}/32 dev lo; ip addr add 169.254.169.254/32 dev lo");
        let script = format!("{join}; {net}; exec python3 -c \"$0\" {address}");
        let child = Command::new("unshare")
            .args(["--net", "sh", "-c", &script, VICTIM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("unshare runs");
        let mut victim = Self { child, cgroup };
        victim.wait_for_line("listening");
        victim
    }

    fn break_in(&mut self, command: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{command}").expect("the victim listens");
        self.wait_for_line("done");
    }

    fn wait_for_line(&mut self, expected: &str) {
        let stdout = self.child.stdout.as_mut().expect("piped");
        let mut line = String::new();
        let mut byte = [0];
        while !line.ends_with('\n') && stdout.read(&mut byte).expect("reads") == 1 {
            line.push(char::from(byte[0]));
        }
        assert_eq!(line.trim(), expected);
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The kernel needs a moment to notice that it is empty.
        wait_for(LIMIT, || fs::remove_dir(&self.cgroup).ok());
    }
}

/// An agent's place: config, state, socket, receiver; it may be started and killed there again and again.
struct Place {
    scratch: tempfile::TempDir,
    receiver: u16,
    agent: Option<Child>,
}

impl Place {
    fn new(deliver: &str) -> Self {
        let place = Self { scratch: tempfile::tempdir().expect("scratch"), receiver: free_port(), agent: None };
        let at = |name: &str| place.scratch.path().join(name).display().to_string();
        fs::create_dir(place.state()).expect("made");
        let config = format!(
            "[store]\ndirectory = {:?}\n[status]\nsocket = {:?}\n[intake.http]\nlisten = \"127.0.0.1:{}\"\n\
             [deliver]\nstdout = \"off\"\n{deliver}",
            at("state"),
            at("status.sock"),
            place.receiver
        );
        fs::write(place.config(), config).expect("written");
        place
    }

    fn config(&self) -> PathBuf {
        self.scratch.path().join("breachline.toml")
    }

    fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    /// Starts the agent, below `wrapper` if there is one, and waits until it answers.
    fn start(&mut self, wrapper: &[&str]) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.scratch.path().join("log")).expect("log");
        let mut words: Vec<String> = wrapper.iter().map(ToString::to_string).collect();
        words.extend([agent_binary().display().to_string(), "run".into(), "--config".into()]);
        words.push(self.config().display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.agent = Some(command.spawn().expect("the agent starts"));
        // Each question is a program that the agent sees: thousands of them would be most of what it has to save.
        let up = wait_for(LIMIT, || self.status().map(drop).or_else(|| wait_for(Duration::from_millis(100), || None)));
        assert!(up.is_some(), "the agent came up; its log: {}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    fn kill(&mut self) {
        let mut agent = self.agent.take().expect("running");
        agent.kill().expect("SIGKILL");
        agent.wait().expect("reaped");
    }

    fn ask(&self, arguments: &[&str]) -> Option<Value> {
        let mut command = Command::new(agent_binary());
        let output = command.args(arguments).arg("--json").arg("--config").arg(self.config()).output().ok()?;
        output.status.success().then(|| serde_json::from_slice(&output.stdout).ok()).flatten()
    }

    fn status(&self) -> Option<Value> {
        self.ask(&["status"])
    }

    /// Waits for a trouble in the agent's status that has `words` in it, or for none such.
    fn wait_for_trouble(&self, words: &str, expected: bool) {
        let found = wait_for(LIMIT, || {
            let status = self.status()?;
            let troubles = status["troubles"]
                .as_array()?
                .iter()
                .any(|trouble| trouble.as_str().is_some_and(|t| t.contains(words)));
            (troubles == expected).then_some(())
        });
        assert!(found.is_some(), "{words}: {expected}; log: {}", self.log());
    }

    /// The latest summary of the workload's incident.
    fn summary(&self, workload: &str) -> Option<Value> {
        let all = self.ask(&["incidents", "list", "--workload", workload])?;
        all.as_array()?.first().cloned()
    }

    /// What there is to say when something did not come: the incident then and now, the agent's status and log.
    fn account(&self, workload: &str, first: &Value) -> String {
        let now = first["id"].as_str().and_then(|id| self.ask(&["incidents", "show", id]));
        let list = self.ask(&["incidents", "list", "--workload", workload]);
        format!("first {first}\nnow {now:?}\nlist {list:?}\nstatus {:?}\nlog {}", self.status(), self.log())
    }

    fn post(&self, line: &str) {
        let length = line.len();
        let request = format!(
            "POST /v1/lines HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{line}"
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.receiver)).expect("the receiver listens");
        stream.write_all(request.as_bytes()).expect("sends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.agent.is_some() {
            self.kill();
        }
        // Its senses outlive it by design; here they would slow down whatever runs on this machine next.
        let _ = Command::new(agent_binary()).args(["uninstall", "--config"]).arg(self.config()).output();
    }
}

/// An ALB line of a request that asks for `command`, in flight for three seconds from `received`.
fn edge_line(received: SystemTime, target: &str, command: &str) -> String {
    let rfc3339 = |at: SystemTime| {
        let millis = i64::try_from(at.duration_since(UNIX_EPOCH).expect("after 1970").as_millis()).expect("fits");
        breachline::timestamp::Timestamp::from_unix_millis(millis)
    };
    let (from, to) = (rfc3339(received), rfc3339(received + Duration::from_secs(3)));
    let encoded = command.replace(' ', "%20");
    format!(
        "http {to} app/shop/50dc6c495c0c9188 198.51.100.9:40100 {target}:8080 0.001 2.998 0.001 200 200 34 366 \
         \"GET http://shop.example:80/ping?host=;{encoded} HTTP/1.1\" \"curl/8\" - - \
         arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/shop/73e2d6bc24d8a067 \
         \"Root=1-58337262-36d228ad5d99923122bbe354\" \"-\" \"-\" 0 {from} \"forward\" \"-\" \"-\" \
         \"{target}:8080\" \"200\" \"-\" \"-\"\n"
    )
}

/// A collector that takes everything: the revisions of each incident.
fn collect(port: u16, until: impl Fn(&BTreeMap<String, u64>) -> bool) -> BTreeMap<String, u64> {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("binds");
    listener.set_nonblocking(true).expect("nonblocking");
    let mut latest: BTreeMap<String, u64> = BTreeMap::new();
    let done = wait_for(LIMIT, || {
        if let Ok((stream, _)) = listener.accept() {
            for incident in serde_json::from_str::<Vec<Value>>(&take_body(stream)).expect("a batch") {
                let revision = latest.entry(incident["id"].as_str().expect("id").to_owned()).or_default();
                *revision = (*revision).max(incident["revision"].as_u64().expect("revision"));
            }
        }
        until(&latest).then_some(())
    });
    assert!(done.is_some(), "the collector has only {latest:?}");
    latest
}

fn take_body(mut stream: TcpStream) -> String {
    stream.set_nonblocking(false).expect("blocking");
    stream.set_read_timeout(Some(LIMIT)).expect("timeout");
    let mut text = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        let head = text.windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(head) = head {
            let header = String::from_utf8_lossy(&text[..head]).to_ascii_lowercase();
            let length =
                header.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            if text.len() >= head + 4 + length.unwrap_or(0) {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .expect("answers");
                return String::from_utf8_lossy(&text[head + 4..]).into_owned();
            }
        }
        let read = stream.read(&mut buffer).expect("reads");
        assert!(read > 0, "the agent hung up");
        text.extend_from_slice(&buffer[..read]);
    }
}

#[test]
fn killed_after_each_alert_it_still_names_the_request_and_delivers_everything() {
    let Some(_turn) = turn() else { return };
    let collector = free_port();
    let sink = format!("[deliver.http]\nurl = \"http://127.0.0.1:{collector}/\"\nwait_max = \"1s\"\n");
    let mut place = Place::new(&sink);
    place.start(&[]);
    let mut raised = BTreeMap::new();
    let mut victims = Vec::new();
    for kill in 0..kills() {
        let name = format!("breachline-durability-{}-{kill}", std::process::id());
        let address = format!("10.77.{}.{}", kill / 250, kill % 250 + 1);
        let mut victim = Victim::start(&name, &address);
        let command = format!(
            "curl -s --max-time 1 http://169.254.169.254/latest/meta-data/iam/security-credentials/role-{kill}"
        );
        let received = SystemTime::now();
        victim.break_in(&command);
        let first = wait_for(LIMIT, || place.summary(&name));
        let first = first.unwrap_or_else(|| panic!("no alert on {name}; log: {}", place.log()));
        // At another moment each time: right away, while its memory is saved, after that.
        wait_for(Duration::from_millis(u64::from(kill * 37 % 90)), || None::<()>);
        place.kill();
        place.start(&[]);
        place.post(&edge_line(received, &address, &command));
        let named = wait_for(LIMIT, || {
            let shown = place.ask(&["incidents", "show", first["id"].as_str()?])?;
            shown["candidates"]["ranked"][0]["request"]["url"]
                .as_str()?
                .contains(&format!("role-{kill}"))
                .then_some(shown)
        });
        let named = named.unwrap_or_else(|| panic!("the request is not named: {}", place.account(&name, &first)));
        assert!(named["revision"].as_u64() > first["revision"].as_u64(), "{named}");
        raised.insert(named["id"].as_str().expect("id").to_owned(), named["revision"].as_u64().expect("revision"));
        victims.push(victim);
        // What was raised is remembered; that the break-in is over changes nothing.
        victims.drain(..victims.len().saturating_sub(4)).for_each(drop);
    }
    place.kill();
    place.start(&[]);
    let all = |latest: &BTreeMap<String, u64>| raised.iter().all(|(id, revision)| latest.get(id) >= Some(revision));
    collect(collector, all);
}

#[test]
fn a_full_disk_is_said_and_survived() {
    let Some(_turn) = turn() else { return };
    let mut place = Place::new("");
    let state = place.state().display().to_string();
    let mount = format!(
        "mount -t tmpfs -o size=8m none {state} && dd if=/dev/zero of={state}/filler bs=64k 2>/dev/null; exec \"$0\" \"$@\""
    );
    place.start(&["unshare", "--mount", "sh", "-c", &mount]);
    place.wait_for_trouble("state is kept in memory only", true);
    let name = format!("breachline-durability-{}-full", std::process::id());
    let mut victim = Victim::start(&name, "10.77.0.99");
    victim.break_in("curl -s --max-time 1 http://169.254.169.254/latest/meta-data/iam/security-credentials/x");
    let summary = wait_for(LIMIT, || place.summary(&name));
    let state_seen = format!("/proc/{}/root{state}", place.agent.as_ref().expect("running").id());
    let files = fs::read_dir(&state_seen).expect("the agent's own view").filter_map(Result::ok);
    let aside = files.filter(|file| file.file_name().to_string_lossy().contains("corrupt")).count();
    assert_eq!(aside, 0, "a file that was only begun is no damaged one");
    assert!(summary.is_some(), "it is raised and shown from memory; log: {}", place.log());
    fs::remove_file(format!("{state_seen}/filler")).expect("room");
    place.wait_for_trouble("state is kept in memory only", false);
    assert!(place.summary(&name).is_some());
}

#[test]
fn a_damaged_or_foreign_database_is_set_aside_and_said() {
    let Some(_turn) = turn() else { return };
    let mut place = Place::new("");
    fs::write(place.state().join("breachline.redb"), vec![0x5a; 8192]).expect("written");
    place.start(&[]);
    place.wait_for_trouble("was set aside as", true);
    assert!(place.state().join("breachline.redb.corrupt-1").exists());
    assert_eq!(place.ask(&["incidents", "list"]), Some(Value::Array(Vec::new())));
}
