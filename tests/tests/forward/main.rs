//! `breachline forward` as its user runs it: real files, the real HTTP intake and a real nats-server on loopback.

mod agent;
mod bus;
mod lines;
mod process;
mod recipes;

use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use breachline_tests::wait_for;

use crate::agent::{Agent, scripted};
use crate::bus::Bus;
use crate::lines::{line, write_gzip, write_lines};
use crate::process::{Forward, finish};

/// Longest wait for anything; a loaded machine with two cores is slow, not wrong.
const LIMIT: Duration = Duration::from_secs(60);

/// Times that a forwarder is killed; `BREACHLINE_KILLS=100` for the long run.
fn kills() -> u64 {
    std::env::var("BREACHLINE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

#[test]
fn a_batch_run_takes_every_line_once_rotated_and_packed_files_included() {
    let directory = tempfile::tempdir().expect("directory");
    let agent = Agent::http(32 << 20);
    write_gzip(&directory.path().join("access.log.2.gz"), 0..1000, "10.0.0.1");
    write_lines(&directory.path().join("access.log.1"), 1000..2000, "10.0.0.1");
    write_lines(&directory.path().join("access.log"), 2000..3000, "10.0.0.2");
    let log = directory.path().join("access.log*");
    let state = directory.path().join("state");
    let arguments = ["--once", "--json", "--state", state.to_str().expect("utf-8"), "--to", &agent.url()];
    let (code, out, err) = finish(Forward::start(&[&arguments[..], &[log.to_str().expect("utf-8")]].concat()));
    assert_eq!(code, Some(0), "{err}");
    agent.has(0..3000);
    assert_eq!(agent.repeated(), 0);
    let status: serde_json::Value = serde_json::from_str(out.lines().last().expect("a status")).expect("JSON");
    assert_eq!((&status["counts"]["lines_read"], &status["counts"]["lines_taken"]), (&3000.into(), &3000.into()));
    // A second run finds nothing new, a third what was added.
    let (code, ..) = finish(Forward::start(&[&arguments[..], &[log.to_str().expect("utf-8")]].concat()));
    assert_eq!((code, agent.repeated()), (Some(0), 0));
    write_lines(&directory.path().join("access.log"), 3000..3010, "10.0.0.2");
    finish(Forward::start(&[&arguments[..], &[log.to_str().expect("utf-8")]].concat()));
    agent.has(0..3010);
    assert_eq!(agent.repeated(), 0);
    let (code, out, _) = finish(Forward::start(&["--status", "--state", state.to_str().expect("utf-8")]));
    assert_eq!(code, Some(0));
    assert!(out.contains("taken     10 lines"), "{out}");
}

#[test]
fn each_line_goes_where_its_target_is_and_each_object_once() {
    let directory = tempfile::tempdir().expect("directory");
    let (one, two, rest) = (Agent::http(32 << 20), Agent::http(32 << 20), Agent::http(32 << 20));
    let day = directory.path().join("bucket/AWSLogs/111122223333/elasticloadbalancing/eu-north-1/2026/05/04");
    std::fs::create_dir_all(&day).expect("creates");
    write_gzip(&day.join("a_20260504T1000Z_10.9.9.9_x.log.gz"), 0..500, "10.0.1.1");
    write_gzip(&day.join("b_20260504T1005Z_10.9.9.9_y.log.gz"), 500..900, "10.0.2.1");
    write_gzip(&day.join("c_20260504T1010Z_10.9.9.9_z.log.gz"), 900..1000, "-");
    let config = directory.path().join("forward.toml");
    let text = format!(
        "state_directory = {state:?}\n[[objects]]\ndirectory = {bucket:?}\nsettle = \"0s\"\n\
         [[routes]]\ntargets = [\"10.0.1.0/24\"]\nurl = \"{}\"\n\
         [[routes]]\ntargets = [\"10.0.0.0/8\"]\nurl = \"{}\"\n\
         [[routes]]\nwithout_target = true\nurl = \"{}\"\n",
        one.url(),
        two.url(),
        rest.url(),
        state = directory.path().join("state"),
        bucket = directory.path().join("bucket"),
    );
    std::fs::write(&config, text).expect("writes");
    for _ in 0..2 {
        let (code, _, err) = finish(Forward::start(&["--once", "--config", config.to_str().expect("utf-8")]));
        assert_eq!(code, Some(0), "{err}");
        one.has(0..500);
        two.has(500..900);
        rest.has(900..1000);
        assert_eq!((one.count(), two.count(), rest.count()), (500, 400, 100));
    }
    assert_eq!(one.repeated() + two.repeated() + rest.repeated(), 0);
}

#[test]
fn a_pipe_is_forwarded_to_its_end() {
    let agent = Agent::http(32 << 20);
    let mut forward = Forward::start_piped(&["--to", &agent.url(), "-"]);
    let mut pipe = forward.stdin();
    for number in 0..2000 {
        writeln!(pipe, "{}", line(number, "10.0.0.1")).expect("writes");
        if number == 999 {
            agent.has(0..1000); // what was written so far comes through while the pipe is open
        }
    }
    drop(pipe);
    let (code, _, err) = finish(forward);
    assert_eq!(code, Some(0), "{err}");
    agent.has(0..2000);
}

#[test]
fn what_a_destination_says_decides() {
    let directory = tempfile::tempdir().expect("directory");
    let log = directory.path().join("a.log");
    write_lines(&log, 0..8, "10.0.0.1");
    let run = |answers: &'static [&'static str]| {
        let (url, heard) = scripted(answers);
        let (code, out, _) = finish(Forward::start(&["--once", "--json", "--to", &url, log.to_str().expect("utf-8")]));
        let status: serde_json::Value = serde_json::from_str(out.lines().last().expect("a status")).expect("JSON");
        let counts = status["counts"].clone();
        (code, counts, heard.join().expect("answers"))
    };
    // Back-pressure is respected, then the same lines come again.
    let (code, counts, bodies) = run(&["429 Too Many Requests\r\nRetry-After: 1", "503 Service Unavailable", "200 OK"]);
    assert_eq!((code, &counts["retries"], &counts["lines_taken"]), (Some(0), &2.into(), &8.into()));
    assert!(bodies.len() == 3 && bodies[0].body == bodies[2].body);
    assert!(bodies[1].at - bodies[0].at >= Duration::from_secs(1), "Retry-After is waited for");
    // Too large is cut in halves.
    let (code, counts, bodies) = run(&["413 Content Too Large", "200 OK", "413 Content Too Large", "200 OK", "200 OK"]);
    assert_eq!((code, &counts["lines_taken"], bodies.len()), (Some(0), &8.into(), 5));
    // Refused is lost, and said so.
    let (code, counts, _) = run(&["400 Bad Request"]);
    assert_eq!((code, &counts["lines_refused"], &counts["lines_taken"]), (Some(1), &8.into(), &0.into()));
}

#[test]
fn killed_at_any_moment_no_line_is_lost_over_http() {
    let directory = tempfile::tempdir().expect("directory");
    let agent = Agent::http(1 << 20); // small: it says 429 now and then
    let url = agent.url();
    let state = directory.path().join("state");
    kill_again_and_again(directory.path(), &agent, &["--to", &url, "--state", state.to_str().expect("utf-8")], |_| {});
}

#[test]
fn a_host_receives_its_own_lines_alone_and_a_late_one_what_was_kept() {
    let directory = tempfile::tempdir().expect("directory");
    let bus = Bus::start(&[]);
    let early = Agent::nats(&bus.config(), &[[10, 0, 0, 1].into()]);
    let log = directory.path().join("a.log");
    write_lines(&log, 0..3000, "10.0.0.1");
    write_lines(&log, 3000..3500, "10.0.0.2");
    write_lines(&log, 3500..3600, "-");
    let config = bus.forward_config(directory.path(), &log, "without_target = \"any\"");
    let (code, out, err) = finish(Forward::start(&["--once", "--json", "--config", &config]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("\"lines_taken\":3600"), "{out}");
    early.has(0..3000);
    // Started only now: the stream kept its lines, and those without a target.
    let mut late_config = bus.config();
    late_config.name = "late".into();
    late_config.subjects = vec!["breachline.edge.any".into()];
    let late = Agent::nats(&late_config, &["fe80::1".parse::<IpAddr>().expect("an address"), [10, 0, 0, 2].into()]);
    late.has(3000..3600);
    assert_eq!((early.count(), late.count()), (3000, 600));
    // What was acknowledged does not come again.
    late.stop();
    let again = Agent::nats(&late_config, &[[10, 0, 0, 2].into()]);
    write_lines(&log, 3600..3601, "10.0.0.2");
    let (code, _, err) = finish(Forward::start(&["--once", "--config", &config]));
    assert_eq!(code, Some(0), "{err}");
    again.has(3600..3601);
    assert_eq!(again.count(), 1, "{:?}", again.seen());
}

#[test]
fn killed_at_any_moment_no_line_is_lost_over_nats_and_its_restarts() {
    let directory = tempfile::tempdir().expect("directory");
    let mut bus = Bus::start(&[]);
    let agent = Agent::nats(&bus.config(), &[[10, 0, 0, 1].into()]);
    let config = bus.forward_config(directory.path(), &directory.path().join("access.log"), "");
    kill_again_and_again(directory.path(), &agent, &["--config", &config], |round| {
        if round % 4 == 3 {
            bus.restart();
        }
    });
}

#[test]
fn the_bus_is_used_with_tls_and_a_token() {
    let directory = tempfile::tempdir().expect("directory");
    let bus = Bus::start_with_tls(directory.path(), "hunter2");
    let agent = Agent::nats(&bus.config(), &[[10, 0, 0, 1].into()]);
    let log = directory.path().join("a.log");
    write_lines(&log, 0..100, "10.0.0.1");
    let config = bus.forward_config(directory.path(), &log, "");
    let (code, _, err) = finish(Forward::start(&["--once", "--config", &config]));
    assert_eq!(code, Some(0), "{err}");
    agent.has(0..100);
    assert!(!err.contains("hunter2"));
}

/// Writes a log, rotates it, and kills the forwarder at random while it works; then lets one finish and counts.
fn kill_again_and_again(directory: &std::path::Path, agent: &Agent, arguments: &[&str], mut between: impl FnMut(u64)) {
    let log = directory.join("access.log");
    std::fs::write(&log, "").expect("writes");
    let with_log = |extra: &[&'static str]| -> Vec<String> {
        let named = !arguments.contains(&"--config");
        let path = named.then(|| log.to_str().expect("utf-8"));
        extra.iter().copied().chain(arguments.iter().copied()).chain(path).map(str::to_owned).collect()
    };
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut written = 0;
    for round in 0..kills() {
        let forward = Forward::start(&with_log(&[]));
        for part in 0..3 {
            write_lines(&log, written..written + 700, "10.0.0.1");
            written += 700;
            if part == 1 && round % 3 == 0 {
                std::fs::rename(&log, directory.join(format!("access.log.{round}"))).expect("renames");
            }
        }
        // xorshift: another moment each time, the same in each run.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let (wanted, patience) = (agent.count() + random % 2100, Duration::from_millis(random % 900));
        wait_for(patience, || (agent.count() >= wanted).then_some(()));
        forward.kill();
        between(round);
    }
    let (code, _, err) = finish(Forward::start(&with_log(&["--once"])));
    assert_eq!(code, Some(0), "{err}");
    agent.has(0..written);
    eprintln!("{} kills, {written} lines, {} of them more than once", kills(), agent.repeated());
}
