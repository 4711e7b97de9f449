//! The recipes of `packaging/edge`, as they are in the tree, with the real program at the other end where one can be had.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use breachline_tests::{agent_binary, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::LIMIT;
use crate::agent::Agent;
use crate::lines::{write_gzip, write_lines};
use crate::process::{Forward, finish};

fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/edge").join(name)
}

/// The config files are what the forwarder reads, key by key.
#[test]
fn the_forwarders_configs_pass_its_check() {
    let scratch = tempfile::tempdir().expect("directory");
    for name in ["forward-s3.toml", "forward-nginx.toml"] {
        let path = recipe(name);
        let (code, out, err) = finish(Forward::start(&["--check", "--config", path.to_str().expect("utf-8")]));
        assert_eq!((code, out.trim()), (Some(0), "the config is fine"), "{name}: {err}");
    }
    let (_, sample, _) = finish(Forward::start(&["--sample-config"]));
    let path = scratch.path().join("forward.toml");
    fs::write(&path, sample + "\n[[routes]]\nurl = \"https://agent.example/v1/lines\"\n").expect("writes");
    let (code, _, err) = finish(Forward::start(&["--check", "--config", path.to_str().expect("utf-8")]));
    assert_eq!(code, Some(0), "{err}");
}

/// Ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn rsyslog_hands_lines_to_the_forwarder() {
    let scratch = tempfile::tempdir().expect("directory");
    let (agent, log) = (Agent::http(32 << 20), scratch.path().join("access.log"));
    let text = fs::read_to_string(recipe("rsyslog.conf")).expect("the recipe");
    let forward = format!("{} forward --to {} -", agent_binary().display(), agent.url());
    let text = text
        .replace("/var/log/nginx/access.log", log.to_str().expect("utf-8"))
        .replace("/usr/bin/breachline forward --config /etc/breachline/forward.toml -", &forward);
    let config = scratch.path().join("rsyslog.conf");
    fs::write(&config, format!("global(workDirectory={:?})\n{text}", scratch.path())).expect("writes");
    write_lines(&log, 0..500, "10.0.0.1");
    let mut rsyslog = Command::new("rsyslogd");
    rsyslog.args(["-n", "-f"]).arg(&config).arg("-i").arg(scratch.path().join("pid"));
    let started = rsyslog.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut rsyslog = Running(started.expect("rsyslogd is not installed: cargo xtask setup"));
    agent.has(0..500);
    write_lines(&log, 500..1500, "10.0.0.1");
    agent.has(0..1500);
    assert_eq!(agent.repeated(), 0);
    kill(Pid::from_raw(i32::try_from(rsyslog.0.id()).expect("a pid")), Signal::SIGTERM).expect("signals");
    assert!(wait_for(LIMIT, || rsyslog.0.try_wait().expect("asks")).is_some(), "rsyslog and the forwarder end");
}

/// Puts an object into S3 (moto's) and runs the function on a notification of it, as Lambda would.
const LAMBDA: &str = r#"
import json, os, sys, urllib.parse
sys.path.insert(0, os.environ["RECIPE"])
import boto3
s3 = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT_URL"])
key = "AWSLogs/1/elasticloadbalancing/eu-north-1/2026/05/04/a b_20260504T1000Z_10.9.9.9_x.log.gz"
s3.create_bucket(Bucket="logs", CreateBucketConfiguration={"LocationConstraint": "eu-north-1"})
s3.upload_file(os.environ["OBJECT"], "logs", key)
record = {"s3": {"bucket": {"name": "logs"}, "object": {"key": urllib.parse.quote_plus(key)}}}
import s3_notification
direct = {"Records": [record]}
sns = {"Records": [{"Sns": {"Message": json.dumps(direct)}}]}
bridge = {"source": "aws.s3", "detail": {"bucket": {"name": "logs"}, "object": {"key": key}}}
queued = {"Records": [{"body": json.dumps({"Type": "Notification", "Message": json.dumps(direct)})}]}
for event in (direct, sns, bridge, queued, {"Records": [{"body": json.dumps({"Event": "s3:TestEvent"})}]}):
    s3_notification.handler(event, None)
"#;

#[test]
fn the_lambda_function_takes_an_objects_lines_to_their_agent() {
    let moto = std::env::var_os("BREACHLINE_MOTO").map(PathBuf::from).filter(|path| path.exists());
    let Some(moto) = moto else {
        return eprintln!("skipped: needs moto; BREACHLINE_MOTO names its server (cargo xtask test does both)");
    };
    let scratch = tempfile::tempdir().expect("directory");
    let (agent, object) = (Agent::http(32 << 20), scratch.path().join("object.gz"));
    write_gzip(&object, 0..3000, "127.0.0.1");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let mut server = Command::new(&moto);
    server.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Running(server.spawn().expect("moto starts"));
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).ok();
    wait_for(LIMIT, listens).expect("moto listens");
    let python = moto.with_file_name("python3");
    let ran = Command::new(python)
        .args(["-c", LAMBDA])
        .env("RECIPE", recipe("").as_os_str())
        .env("OBJECT", &object)
        .env("S3_ENDPOINT_URL", endpoint)
        .env("AGENT_URL", agent.url().replace("127.0.0.1", "{target}"))
        .envs([("PYTHONDONTWRITEBYTECODE", "1"), ("NO_PROXY", "*"), ("no_proxy", "*")])
        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_DEFAULT_REGION", "eu-north-1")])
        .output()
        .expect("python runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let counts = String::from_utf8_lossy(&ran.stdout);
    let expected = r#"{"objects": 1, "lines": 3000, "left_out": 0, "gone": 0}"#;
    assert_eq!(counts.lines().filter(|line| *line == expected).count(), 4, "{counts}");
    agent.has(0..3000);
    assert_eq!(agent.count(), 3000);
}
