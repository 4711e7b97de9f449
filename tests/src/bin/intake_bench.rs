//! The whole intake, HTTP to detector, measured: gzipped NDJSON of ALB lines to a process that has receivers, journal and detector
//! and nothing else, first alone, then with 10,000 connections that say nothing, then with as many that send a byte now and then
//! and never a whole request. The lines are the process's own workload's, so that each is judged and becomes evidence; none comes
//! twice. `intake_bench [BATCHES]` prints one JSON object per figure; a debug build says nothing about speed.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use breachline::config::Config;
use breachline::detector::Detector;
use breachline::intake::{Cursors, Intake, Judged, Surroundings};
use breachline::status::Status;
use breachline_tests::simulate::access_log::{Balancer, Line, Said};
use breachline_tests::simulate::machine::Machine;
use breachline_tests::simulate::random::Random;
use breachline_tests::simulate::service::{Service, host_address};
use breachline_tests::simulate::{beginning, later};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

/// Lines of a request, as a forwarder batches them.
const BATCH_LINES: usize = 5000;
/// Requests sent, when no other number is given: 1,500,000 lines.
const BATCHES: usize = 300;
/// Requests a second of the time that the lines tell.
const PER_SECOND: f64 = 1000.0;
/// Connections that say nothing or little; the process may hold that many descriptors, or the figure says how many it got.
const OTHERS: usize = 10_000;
/// Wait for a full server.
const FULL_WAIT: Duration = Duration::from_millis(2);

fn main() -> Result<()> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("--serve") {
        return serve();
    }
    let batches = argument.map_or(Ok(BATCHES), |number| number.parse()).context("batches")?;
    let batches: Vec<Vec<u8>> = (0..batches).map(batch).collect::<Result<_>>()?;
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 20_000, 20_000);
    for (others, what) in [(0, "alone"), (OTHERS, "idle connections"), (OTHERS, "slow connections")] {
        let server = Server::start()?;
        let connections: Vec<TcpStream> = (0..others).map_while(|_| TcpStream::connect(server.address).ok()).collect();
        let name = if others == 0 { what.to_owned() } else { format!("beside {} {what}", connections.len()) };
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            if what == "slow connections" {
                scope.spawn(|| trickle(&connections, &over));
            }
            let measured = measure(&server, &batches, &name);
            over.store(true, Ordering::Relaxed);
            measured
        })?;
    }
    Ok(())
}

/// Sends a byte of a request that never ends over one connection after the other; those that the server closed stay closed.
fn trickle(connections: &[TcpStream], over: &AtomicBool) {
    let request = b"POST /v1/lines HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    for byte in request.iter().cycle() {
        for mut connection in connections {
            if over.load(Ordering::Relaxed) {
                return;
            }
            let _ = connection.write(&[*byte]);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Sends one request after the other over one connection, as one forwarder does.
fn measure(server: &Server, batches: &[Vec<u8>], name: &str) -> Result<()> {
    let begin = Instant::now();
    let cpu = server.cpu_seconds()?;
    let (mut taken, mut refused) = (0, 0);
    let mut stream = TcpStream::connect(server.address)?;
    for body in batches {
        loop {
            match post(&mut stream, body)? {
                200 => break,
                429 | 503 => refused += 1,
                status => anyhow::bail!("status {status}"),
            }
            std::thread::sleep(FULL_WAIT);
        }
        taken += BATCH_LINES;
    }
    let (seconds, cpu) = (begin.elapsed().as_secs_f64(), server.cpu_seconds()? - cpu);
    for (figure, value, unit) in [
        ("intake lines", taken as f64 / seconds, "lines/s"),
        ("intake lines per core", taken as f64 / cpu, "lines/s of one core"),
        ("intake rss, most", server.rss_mib()?, "MiB"),
        ("intake requests sent away", f64::from(refused), "requests"),
    ] {
        let figure = json!({"name": format!("{figure}, {name}"), "value": value, "unit": unit});
        writeln!(io::stdout(), "{figure}")?;
    }
    Ok(())
}

fn post(stream: &mut TcpStream, body: &[u8]) -> Result<u16> {
    let head = format!(
        "POST /v1/lines HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\nContent-Encoding: gzip\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    while !answer.ends_with(b"\n") || !answer.windows(4).any(|part| part == b"\r\n\r\n") {
        let read = stream.read(&mut buffer)?;
        ensure!(read > 0, "the connection was closed");
        answer.extend_from_slice(&buffer[..read]);
        if answer.ends_with(b"\r\n\r\n")
            && answer.windows(17).any(|part| part.eq_ignore_ascii_case(b"content-length: 0"))
        {
            break;
        }
    }
    let status = answer.get(9..12).context("no status")?;
    Ok(std::str::from_utf8(status)?.parse()?)
}

/// One gzipped NDJSON body in Vector's shape.
fn batch(number: usize) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let (service, target) = (Service::of(SERVICE).name, instance(&mut machine()).1);
    let (mut text, mut url) = (String::new(), String::new());
    for request in (number * BATCH_LINES..).take(BATCH_LINES) {
        url.clear();
        write!(url, "/item/{request}?page={}&sort=price", request % 30)?;
        let received = later(beginning(), 60.0 + request as f64 / PER_SECOND);
        let client = [198, 51, 100, u8::try_from(request % 250)?];
        let line = Line {
            received,
            completed: later(received, 0.02),
            said: Arc::new(Said { method: "GET".into(), url: url.clone(), agent: AGENT.into() }),
            client: SocketAddr::from((client, u16::try_from(1024 + request % 60_000)?)),
            target,
            status: 200,
            service: Arc::clone(&service),
            balancer: Balancer::Alb,
        };
        line.render(&mut text);
        let event = json!({"message": text, "source_type": "file", "timestamp": "2026-05-04T00:10:00Z"});
        writeln!(encoder, "{event}")?;
    }
    Ok(encoder.finish()?)
}

/// A browser's, of ordinary length.
const AGENT: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36";

/// Number of the service that the lines are of.
const SERVICE: u64 = 1;

fn machine() -> Machine {
    Machine::boot(host_address(1), later(beginning(), -3600.0))
}

/// Starts the service on `machine`; gives its workload's key and the address that it listens on.
fn instance(machine: &mut Machine) -> (String, SocketAddr) {
    let service = Service::of(SERVICE);
    let instance = service.start(machine, beginning(), 1, 1, 0, &mut Random::of(1, &[]));
    (service.key(), instance.socket)
}

struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = command.arg("--serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("stdout")?).read_line(&mut line)?;
        Ok(Self { process, address: line.trim().parse()? })
    }

    fn rss_mib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
        Ok(line.split_whitespace().nth(1).context("no number")?.parse::<f64>()? / 1024.0)
    }

    /// `/proc/PID/stat` fields 14 and 15, in ticks of 10 ms.
    fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let after_name = stat.rsplit_once(") ").context("no name")?.1;
        let ticks: f64 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(ticks / 100.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Lines that are of a workload of the detector's host.
fn routed(detector: &Detector) -> Option<u64> {
    let mut status = Status::starting(beginning());
    detector.describe(beginning(), &mut status);
    status.counters.get("detector.edge_lines_routed").copied()
}

struct NoCursors;

impl Cursors for NoCursors {
    fn load(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn save(&self, _: &str, _: &[u8]) {}
}

/// Receivers, journal and detector, until the sender is gone.
fn serve() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut config = Config::default();
    config.intake.http.listen = "127.0.0.1:0".parse()?;
    config.intake.sender_bytes_per_second = 0;
    let around = Surroundings {
        directory: directory.path().to_owned(),
        cursors: Arc::new(NoCursors),
        now: breachline::clock::now,
        metrics: Arc::new(String::new),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (intake, mut batches) = runtime.block_on(Intake::start(&config.intake, &around))?;
    let address = intake.description().status().http.context("an address")?;
    writeln!(io::stdout(), "{address}")?;
    std::thread::spawn(|| {
        // The end of stdin is the end of the sender, however it ended.
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let mut detector = Detector::new(&config)?;
    let (mut raised, mut judged, mut lines) = (Vec::new(), Judged::default(), 0);
    let mut machine = machine();
    let _ = instance(&mut machine);
    machine.events.sort_by_key(|event| event.at);
    for event in &machine.events {
        detector.host(event, &mut raised);
    }
    while let Some(batch) = batches.blocking_recv() {
        for line in &batch.lines {
            detector.edge(&batch.source, line, &mut raised);
        }
        lines += batch.lines.len();
        detector.advance(later(beginning(), 60.0 + lines as f64 / PER_SECOND), &mut raised);
        judged.add(batch);
        if judged.bytes() > 64 << 20 {
            std::mem::take(&mut judged).acknowledge(true);
        }
        raised.clear();
        let routed = routed(&detector);
        ensure!(routed == Some(lines as u64), "{routed:?} of {lines} lines are the workload's own");
    }
    Ok(())
}
