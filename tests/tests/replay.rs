//! `breachline replay` on a hand-written recording: what is printed, and that it is the same however the inputs are split.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use breachline_tests::simulate::random::Random;
use breachline_tests::simulate::story::Story;
use breachline_tests::{agent_binary, wait_for};
use serde_json::Value;

/// The host's part: a day of a shop's life, then a break-in. The judge of the host road is held to the same recording.
const HOST: &str = include_str!("../../agent/src/host/judge/break_in.ndjson");
/// The edge's part: an ordinary request, a probe, a line of nothing, the request that did it.
const EDGE: &str = include_str!("../data/break_in/edge.log");
/// The last revision for people.
const INCIDENT: &str = include_str!("../data/break_in/incident.txt");

fn replay(directory: &Path, edge: &[PathBuf], arguments: &[&str]) -> Output {
    let host = directory.join("host.ndjson");
    fs::write(&host, format!("{{\"schema\":1,\"agent\":\"by hand\"}}\n{HOST}")).expect("written");
    let mut command = Command::new(agent_binary());
    command.arg("replay").arg("--host").arg(host).args(arguments);
    if !edge.is_empty() {
        command.arg("--edge").args(edge);
    }
    command.output().expect("runs")
}

fn revisions(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("one object a line")).collect()
}

fn written(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("written");
    path
}

#[test]
fn the_break_in_is_told_as_it_should_be() {
    let directory = tempfile::tempdir().expect("directory");
    let edge = written(directory.path(), "edge.log", EDGE);
    let output = replay(directory.path(), &[edge], &[]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.ends_with(INCIDENT), "{text}");
    let summary = String::from_utf8_lossy(&output.stderr);
    assert!(summary.contains("48 host events and 4 edge lines (1 unreadable)"), "{summary}");
}

#[test]
fn revisions_count_up_under_one_id_and_severity_never_falls() {
    let directory = tempfile::tempdir().expect("directory");
    let edge = written(directory.path(), "edge.log", EDGE);
    let revisions = revisions(&replay(directory.path(), &[edge], &["--json"]));
    let order = ["low", "medium", "high", "critical"];
    let rank = |revision: &Value| order.iter().position(|severity| revision["severity"] == *severity);
    for (number, revision) in (1..).zip(&revisions) {
        assert_eq!(revision["revision"].as_u64(), Some(number));
        assert_eq!(revision["id"], revisions[0]["id"]);
    }
    assert!(revisions.is_sorted_by_key(rank), "{revisions:?}");
    assert_eq!(revisions.last().expect("revisions")["severity"], "critical");
}

#[test]
fn the_host_alone_is_told_without_the_request() {
    let directory = tempfile::tempdir().expect("directory");
    let revisions = revisions(&replay(directory.path(), &[], &["--json"]));
    let last = revisions.last().expect("revisions");
    assert_eq!((&last["severity"], &last["provisional"]), (&"high".into(), &true.into()), "{last}");
}

#[test]
fn the_same_inputs_give_the_same_bytes_split_and_packed_as_they_may_be() {
    let directory = tempfile::tempdir().expect("directory");
    let whole = written(directory.path(), "edge.log", EDGE);
    let (first, second): (Vec<_>, Vec<_>) = EDGE.lines().enumerate().partition(|(number, _)| number % 2 == 0);
    let join = |lines: Vec<(usize, &str)>| lines.into_iter().map(|(_, line)| format!("{line}\n")).collect::<String>();
    let halves = [written(directory.path(), "a.log", &join(first)), written(directory.path(), "b.log", &join(second))];
    let packed = directory.path().join("edge.log.gz");
    let mut gzip = flate2::write::GzEncoder::new(File::create(&packed).expect("file"), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, EDGE.as_bytes()).expect("written");
    gzip.finish().expect("finished");
    let expected = replay(directory.path(), &[whole], &["--json"]).stdout;
    assert!(!expected.is_empty());
    assert_eq!(replay(directory.path(), &halves, &["--json"]).stdout, expected);
    assert_eq!(replay(directory.path(), &[packed], &["--json"]).stdout, expected);
}

#[test]
fn what_is_no_recording_is_refused_by_name_and_line() {
    let directory = tempfile::tempdir().expect("directory");
    let check = |content: &str, expected: &str| {
        let path = written(directory.path(), "wrong.ndjson", content);
        let output = Command::new(agent_binary()).args(["replay", "--host"]).arg(path).output().expect("runs");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(expected) && !message.contains("panicked"), "{message}");
    };
    check("", "wrong.ndjson:1: not a host recording");
    check("\u{0}\u{1}binary", "wrong.ndjson:1: not a host recording");
    check("{\"schema\":1,\"agent\":\"x\"}\n{\"kind\":\"exec\"}\n", "wrong.ndjson:2: no host event");
}

/// Times that a replay is killed; `BREACHLINE_KILLS=200` for the long run.
fn kills() -> u32 {
    std::env::var("BREACHLINE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// What was printed, by incident and revision. A line that the kill cut is none.
type Printed = BTreeMap<(String, u64), String>;

fn take_printed(path: &Path, into: &mut Printed) {
    let text = fs::read_to_string(path).expect("UTF-8");
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let incident: Value = serde_json::from_str(line).expect("one object a line");
        let key = (incident["id"].as_str().expect("id").to_owned(), incident["revision"].as_u64().expect("revision"));
        let before = into.insert(key, line.to_owned());
        assert!(before.is_none_or(|before| before == line), "told twice, and otherwise: {line}");
    }
}

#[test]
fn killed_at_any_moment_and_started_again_it_raises_the_same() {
    let (mut killed, mut round, mut revisions) = (0, 0, 0);
    while killed < kills() {
        let scratch = tempfile::tempdir().expect("directory");
        let (host, logs) = Story::of(round).record(scratch.path()).expect("written");
        let start = |arguments: &[&str], out: &Path| {
            let mut command = Command::new(agent_binary());
            command.args(["replay", "--json", "--host"]).arg(&host).arg("--edge").args(&logs).args(arguments);
            command.stdout(File::create(out).expect("made")).stderr(Stdio::null()).spawn().expect("starts")
        };
        let out = scratch.path().join("out");
        let begun = Instant::now();
        assert!(start(&[], &out).wait().expect("ends").success());
        let whole = begun.elapsed();
        let mut straight = Printed::new();
        take_printed(&out, &mut straight);
        let state = scratch.path().join("state");
        let mut printed = Printed::new();
        let mut random = Random::of(round, &[u64::from(std::process::id())]);
        loop {
            let mut child = start(&["--state", state.to_str().expect("UTF-8")], &out);
            let limit = whole.mul_f64(random.between(0.0, 1.5));
            let ended = wait_for(limit, || child.try_wait().expect("asks"));
            if ended.is_none() {
                child.kill().expect("SIGKILL");
                child.wait().expect("reaped");
                killed += 1;
            }
            take_printed(&out, &mut printed);
            if let Some(ended) = ended {
                assert!(ended.success(), "round {round} after {killed} kills");
                break;
            }
        }
        assert_eq!(printed, straight, "round {round}");
        let last: BTreeMap<String, u64> = straight.keys().cloned().collect();
        assert_eq!(kept(scratch.path(), &state), last, "round {round}: what the state directory keeps");
        revisions += straight.len();
        round += 1;
    }
    assert!(revisions > 0, "nothing was raised in {round} stories");
    eprintln!("{killed} kills in {round} replays, {revisions} revisions, none lost, none changed");
}

/// The incidents that a state directory keeps, with their latest revision.
fn kept(scratch: &Path, state: &Path) -> BTreeMap<String, u64> {
    let output = on_state(scratch, state, &["list", "--json"]);
    let list: Vec<Value> = serde_json::from_str(&output).expect("a list");
    let entry = |one: &Value| Some((one["id"].as_str()?.to_owned(), one["revision"].as_u64()?));
    list.iter().filter_map(entry).collect()
}

/// `breachline incidents` on a state directory.
fn on_state(scratch: &Path, state: &Path, arguments: &[&str]) -> String {
    let socket = scratch.join("nobody.sock");
    let config =
        written(scratch, "of-state.toml", &format!("[store]\ndirectory = {state:?}\n[status]\nsocket = {socket:?}\n"));
    let output = Command::new(agent_binary()).arg("incidents").args(arguments).arg("--config").arg(config).output();
    let output = output.expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn what_is_expected_is_kept_and_not_printed() {
    let directory = tempfile::tempdir().expect("directory");
    let edge = written(directory.path(), "edge.log", EDGE);
    let state = directory.path().join("state");
    let at_state = ["--json", "--state", state.to_str().expect("UTF-8")];
    let raised = revisions(&replay(directory.path(), std::slice::from_ref(&edge), &at_state));
    let id = raised.last().expect("revisions")["id"].as_str().expect("id").to_owned();
    // Replayed to its end: nothing is left to raise.
    assert!(revisions(&replay(directory.path(), std::slice::from_ref(&edge), &at_state)).is_empty());
    on_state(
        directory.path(),
        &state,
        &["expect", &id, "--owner", "shop team", "--reason", "a drill of ours", "--until", "3000d"],
    );
    let list = written(directory.path(), "expected.json", &on_state(directory.path(), &state, &["expected", "--json"]));
    let expected = ["--json", "--expected", list.to_str().expect("UTF-8")];
    let again = replay(directory.path(), std::slice::from_ref(&edge), &expected);
    assert!(revisions(&again).is_empty());
    let summary = String::from_utf8_lossy(&again.stderr).into_owned();
    let all = format!("{0} incident revisions, {0} of them expected", raised.len());
    assert!(summary.contains(&all), "{summary}");
    // Another recording is no continuation of this one.
    let other = written(directory.path(), "other.log", &EDGE.lines().take(1).collect::<String>());
    let refused = replay(directory.path(), &[other], &at_state);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && message.contains("other recordings"), "{message}");
}
