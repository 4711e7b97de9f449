//! The whole intake, HTTP to detector, measured: gzipped NDJSON of ALB lines to a process that has receivers, journal and detector
//! and nothing else, first alone and then with 10,000 connections that say nothing. `intake_bench [SECONDS]` prints one JSON
//! object per figure; a debug build says nothing about speed. The lines are made here.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use breachline::config::Config;
use breachline::detector::Detector;
use breachline::intake::{Cursors, Intake, Judged, Surroundings};
use breachline::timestamp::Timestamp;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

/// Lines of a request, as a forwarder batches them.
const BATCH_LINES: usize = 5000;
/// Different requests sent in turn, so that no memory of targets flatters the judge.
const BATCHES: usize = 40;
/// Connections that say nothing; the process may hold that many descriptors, or the figure says how many it got.
const SILENT: usize = 10_000;

fn main() -> Result<()> {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "10".to_owned());
    if argument == "--serve" {
        return serve();
    }
    let duration = Duration::from_secs(argument.parse().context("seconds")?);
    let batches: Vec<Vec<u8>> = (0..BATCHES).map(batch).collect::<Result<_>>()?;
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 20_000, 20_000);
    for silent in [0, SILENT] {
        let server = Server::start()?;
        let connections: Vec<TcpStream> = (0..silent).map_while(|_| TcpStream::connect(server.address).ok()).collect();
        let name = format!("with {} silent connections", connections.len());
        measure(&server, &batches, duration, &name)?;
    }
    Ok(())
}

/// Sends one request after the other over one connection, as one forwarder does.
fn measure(server: &Server, batches: &[Vec<u8>], duration: Duration, name: &str) -> Result<()> {
    let begin = Instant::now();
    let cpu = server.cpu_seconds()?;
    let (mut taken, mut refused) = (0, 0);
    let mut stream = TcpStream::connect(server.address)?;
    for body in batches.iter().cycle() {
        match post(&mut stream, body)? {
            200 => taken += BATCH_LINES,
            429 | 503 => refused += 1,
            status => anyhow::bail!("status {status}"),
        }
        if begin.elapsed() >= duration {
            break;
        }
    }
    let cpu = server.cpu_seconds()? - cpu;
    for (figure, value, unit) in [
        ("intake lines", taken as f64 / begin.elapsed().as_secs_f64(), "lines/s"),
        ("intake lines per core", taken as f64 / cpu, "lines/s of one core"),
        ("intake rss", server.rss_mib()?, "MiB"),
        ("intake requests sent away", f64::from(refused), "requests"),
    ] {
        let figure = json!({"name": format!("{figure} {name}"), "value": value, "unit": unit});
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
    for index in 0..BATCH_LINES {
        let request = number * BATCH_LINES + index;
        let line = format!(
            "https 2026-11-22T10:{:02}:{:02}.{:06}Z app/shop/50dc6c495c0c9188 198.51.100.{}:{} 10.20.0.10:8080 0.000 0.0{} \
             0.000 200 200 {} {} \"GET https://shop.example:443/item/{request}?page={}&sort=price HTTP/1.1\" \
             \"Mozilla/5.0 (X11; Linux x86_64)\" TLS_AES_128_GCM_SHA256 TLSv1.3 arn:aws:elasticloadbalancing:eu-central-1:\
             123456789012:targetgroup/shop/73e2d6bc24d8a067 \"Root=1-69218d60-{request:024x}\" \"shop.example\" \"-\" 0 \
             2026-11-22T10:00:00.000000Z \"forward\" \"-\" \"-\" \"10.20.0.10:8080\" \"200\" \"-\" \"-\" TID_{request:032x}",
            request / 60 % 60,
            request % 60,
            request % 1_000_000,
            request % 250,
            1024 + request % 60_000,
            10 + request % 89,
            100 + request % 700,
            1000 + request % 9000,
            request % 30,
        );
        let event = json!({"message": line, "source_type": "file", "timestamp": "2026-11-22T10:00:00Z"});
        writeln!(encoder, "{event}")?;
    }
    Ok(encoder.finish()?)
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
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
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
    let (mut raised, mut judged) = (Vec::new(), Judged::default());
    while let Some(batch) = batches.blocking_recv() {
        for line in &batch.lines {
            detector.edge(&batch.source, line, &mut raised);
        }
        judged.add(batch);
        if judged.bytes() > 64 << 20 {
            detector.advance(Timestamp::MIN, &mut raised);
            std::mem::take(&mut judged).acknowledge(true);
        }
        raised.clear();
    }
    Ok(())
}
