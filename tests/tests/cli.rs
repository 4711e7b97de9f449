//! The real binary: verbs, exit codes, messages.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use breachline_tests::agent_binary;

const USAGE: i32 = 64;

fn breachline(arguments: &[&str]) -> Output {
    Command::new(agent_binary()).args(arguments).stdin(Stdio::null()).output().expect("runs")
}

#[track_caller]
fn check(arguments: &[&str], code: i32, stdout: &str, stderr: &str) {
    let output = breachline(arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\nstdout: {out}\nstderr: {err}");
    assert!(out.contains(stdout), "{arguments:?}: stdout lacks {stdout:?}:\n{out}");
    assert!(err.contains(stderr), "{arguments:?}: stderr lacks {stderr:?}:\n{err}");
    assert!(!err.contains("panicked"), "{arguments:?}: {err}");
}

fn written(directory: &Path, text: &str) -> String {
    let path = directory.join("breachline.toml");
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("utf-8").to_owned()
}

#[test]
fn help_teaches_and_a_wrong_verb_is_bad_use() {
    check(&["--help"], 0, "Exit codes", "");
    check(&[], USAGE, "", "Usage: breachline");
    check(&["nonsense"], USAGE, "", "unrecognized subcommand 'nonsense'");
    check(&["--version"], 0, env!("CARGO_PKG_VERSION"), "");
}

#[test]
fn the_sample_config_passes_the_check() {
    let directory = tempfile::tempdir().expect("directory");
    let sample = breachline(&["sample-config"]);
    let path = written(directory.path(), &String::from_utf8(sample.stdout).expect("text"));
    check(&["check-config", "--config", &path], 0, "fine", "");
    check(&["check-config", "--config", &path, "--json"], 0, "\"telemetry\"", "");
}

#[test]
fn a_wrong_config_is_refused_with_file_line_and_key() {
    let directory = tempfile::tempdir().expect("directory");
    let path = written(directory.path(), "[telemetry]\nlog = \"info\"\nverbose = true\n");
    let expected = format!("{path}:3: unknown field `verbose`");
    check(&["check-config", "--config", &path], USAGE, "", &expected);
    check(&["check-config", "--config", "/nowhere/at/all.toml"], USAGE, "", "/nowhere/at/all.toml: No such file");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut agent = Command::new(agent_binary())
        .args(["check-config", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    drop(agent.stdout.take());
    let output = agent.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Without capabilities, root is nobody to the kernel: `setpriv` (util-linux) takes them away for one command.
fn without_privileges(arguments: &[&str]) -> Output {
    let mut command = if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(agent_binary());
        command
    } else {
        Command::new(agent_binary())
    };
    command.args(arguments).stdin(Stdio::null()).output().expect("runs")
}

#[test]
fn without_privileges_the_agent_says_what_it_needs() {
    let directory = tempfile::tempdir().expect("directory");
    let (state, socket) = (directory.path().join("state"), directory.path().join("status.sock"));
    let config = written(
        directory.path(),
        &format!("[kernel]\npin = false\n[store]\ndirectory = {state:?}\n[status]\nsocket = {socket:?}\n"),
    );
    for arguments in [&["run", "--config", &config][..], &["doctor"]] {
        let output = without_privileges(arguments);
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        assert_eq!(output.status.code(), Some(69), "{arguments:?}: {told}");
        assert!(told.contains("CAP_BPF") && !told.contains("panicked"), "{arguments:?}: {told}");
    }
    let path = directory.path().to_str().expect("utf-8");
    check(&["status", "--config", &config], 1, "", path);
}

#[test]
fn a_receiver_beyond_loopback_is_refused_with_the_way_to_do_it() {
    let directory = tempfile::tempdir().expect("directory");
    let path = written(directory.path(), "[intake.http]\nlisten = \"0.0.0.0:8514\"\n");
    check(&["check-config", "--config", &path], USAGE, "", "listen on 127.0.0.1");
}
