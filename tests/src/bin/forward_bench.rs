//! How fast `breachline forward` is: a log file to the agent's HTTP intake and to a real nats-server, both on loopback.
//!
//! `forward_bench [LOG [GZIP]...]` prints one JSON object per figure; GZIP are levels to try (0 and 1 when none is named).
//! Without a log one of ALB lines for a few dozen hosts is made. The far end shares the machine's cores, and its work is in the
//! figure. The log must be plain: unpacking is not measured.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use breachline::forward::{Config, Counts, Forwarder, LogConfig, Options, RouteConfig};
use breachline::intake::{self, Cursors, HttpConfig, Intake, JournalConfig, Judged, Surroundings};
use breachline::timestamp::Timestamp;
use breachline_tests::simulate::access_log::{Balancer, Line, Said};
use breachline_tests::simulate::{beginning, later};
use breachline_tests::wait_for;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// Longest wait for nats-server to listen.
const START_MAX: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let made = tempfile::tempdir()?;
    let log = arguments.next().map_or_else(|| make_log(made.path()), |path| Ok(PathBuf::from(path)))?;
    let levels: Vec<u32> = arguments.map(|level| level.parse()).collect::<Result<_, _>>()?;
    let levels = if levels.is_empty() { vec![0, 1] } else { levels };
    for level in levels {
        over_http(&log, level)?;
        over_nats(&log, level)?;
    }
    Ok(())
}

/// Lines of a log that is made, and hosts that they are for.
const LINES: usize = 400_000;
const HOSTS: usize = 40;

fn make_log(directory: &Path) -> Result<PathBuf> {
    let path = directory.join("access.log");
    let mut file = BufWriter::new(File::create(&path)?);
    let mut text = String::new();
    for number in 0..LINES {
        let received = later(beginning(), number as f64 / 1000.0);
        let url = format!("/item/{number}?page={}&sort=price", number % 30);
        let line = Line {
            received,
            completed: later(received, 0.02),
            said: Arc::new(Said { method: "GET".into(), url, agent: "Mozilla/5.0 (X11; Linux x86_64)".into() }),
            client: SocketAddr::from(([198, 51, 100, 7], u16::try_from(1024 + number % 60_000)?)),
            target: SocketAddr::from(([10, 0, 0, u8::try_from(number % HOSTS)?], 8080)),
            status: 200,
            service: "shop".into(),
            balancer: Balancer::Alb,
        };
        line.render(&mut text);
        writeln!(file, "{text}")?;
    }
    file.flush()?;
    Ok(path)
}

fn over_http(log: &Path, level: u32) -> Result<()> {
    let receiving = runtime()?;
    let http = HttpConfig { listen: "127.0.0.1:0".parse()?, ..HttpConfig::default() };
    // The journal is the agent's disk, not the forwarder's speed; nor is a bound on what one sender may send.
    let journal = JournalConfig { enabled: false, ..JournalConfig::default() };
    let config = intake::Config { http, journal, sender_bytes_per_second: 0, ..intake::Config::default() };
    let state = tempfile::tempdir()?;
    let around = Surroundings {
        directory: state.path().to_owned(),
        cursors: Arc::new(NoCursors),
        now: || Timestamp::MIN,
        metrics: Arc::new(String::new),
    };
    let (intake, mut batches) = receiving.block_on(Intake::start(&config, &around))?;
    let address = intake.description().status().http.context("no address")?;
    receiving.spawn(async move {
        while let Some(batch) = batches.recv().await {
            let mut judged = Judged::default();
            judged.add(batch);
            judged.acknowledge(true);
        }
    });
    let mut config = config_for(log, level);
    let targets = vec!["0.0.0.0/0".into(), "::/0".into()];
    let url = format!("http://{address}/v1/lines");
    config.routes = vec![RouteConfig { targets, without_target: true, url, ..RouteConfig::default() }];
    measure("http", level, &config)
}

fn over_nats(log: &Path, level: u32) -> Result<()> {
    let store = tempfile::tempdir()?;
    let (_server, url) = nats_server(store.path())?;
    let mut config = config_for(log, level);
    config.nats.enabled = true;
    config.nats.without_target = "any".into();
    config.nats.server.urls = vec![url];
    measure("nats", level, &config)
}

fn config_for(log: &Path, level: u32) -> Config {
    let log = LogConfig { path: log.display().to_string(), ..LogConfig::default() };
    let mut config = Config { logs: vec![log], ..Config::default() };
    config.batch.gzip = level;
    config
}

#[expect(clippy::print_stdout, reason = "the figures are the result")]
fn measure(way: &str, level: u32, config: &Config) -> Result<()> {
    let runtime = runtime()?;
    let (_stop, stopped) = watch::channel(false);
    let options = Options { once: true, stdin: false };
    let forwarder = runtime.block_on(Forwarder::open(config, options, runtime.handle().clone(), stopped))?;
    let (begun, before) = (Instant::now(), cpu_seconds()?);
    let Counts { lines_read, lines_taken, bytes_read, bytes_sent, retries, .. } = forwarder.run(|_| {})?.counts;
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds()? - before);
    let name = format!("forward over {way}, gzip level {level}");
    println!(
        "{}",
        serde_json::json!({"name": name, "value": (lines_taken as f64 / seconds).round(), "unit": "lines/s"})
    );
    println!(
        "{}",
        serde_json::json!({"name": format!("{name}, per core"), "value": (lines_taken as f64 / cpu).round(),
            "unit": "lines/s of one core", "read_mb_per_second": (bytes_read as f64 / seconds / 1e6).round(), "lines": lines_read,
            "sent_mb": bytes_sent / 1_000_000, "retries": retries})
    );
    Ok(())
}

/// Processor time of this process so far: what a busy machine does not change much. Over NATS it is the forwarder's alone.
fn cpu_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// No files are followed here.
struct NoCursors;

impl Cursors for NoCursors {
    fn load(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn save(&self, _: &str, _: &[u8]) {}
}

/// Ended with the figure.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn nats_server(directory: &Path) -> Result<(Server, String)> {
    let child = Command::new("nats-server")
        .args(["--addr", "127.0.0.1", "--port", "-1", "--jetstream"])
        .args(["--store_dir".as_ref(), directory.as_os_str(), "--ports_file_dir".as_ref(), directory.as_os_str()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("nats-server is not installed: cargo xtask setup")?;
    let ports = directory.join(format!("nats-server_{}.ports", child.id()));
    let server = Server(child);
    let url = wait_for(START_MAX, || {
        let listening: serde_json::Value = serde_json::from_slice(&std::fs::read(&ports).ok()?).ok()?;
        let url = listening["nats"].as_array()?.first()?.as_str()?.to_owned();
        std::net::TcpStream::connect(url.strip_prefix("nats://")?).ok().map(|_| url)
    });
    Ok((server, url.context("nats-server does not listen")?))
}
