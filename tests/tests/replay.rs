//! `breachline replay` on a hand-written recording: what is printed, and that it is the same however the inputs are split.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use breachline_tests::agent_binary;
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
    let mut gzip = flate2::write::GzEncoder::new(fs::File::create(&packed).expect("file"), flate2::Compression::fast());
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
