//! The far end: the agent's own intake in this process, and a server that answers what it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, TcpListener};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use breachline::intake::{Config, Cursors, HttpConfig, Intake, Judged, Surroundings, nats};
use breachline::timestamp::Timestamp;
use breachline_tests::wait_for;
use tokio::runtime::Runtime;

use crate::LIMIT;
use crate::lines::number;

/// An intake whose lines are counted.
pub(crate) struct Agent {
    runtime: Runtime,
    intake: Option<Intake>,
    seen: Arc<Mutex<BTreeMap<u64, u64>>>,
    url: String,
    /// Where its journal lies.
    _state: tempfile::TempDir,
}

/// No files are followed here.
struct NoCursors;

impl Cursors for NoCursors {
    fn load(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn save(&self, _: &str, _: &[u8]) {}
}

impl Agent {
    /// Receives over HTTP, through a queue of that size.
    pub(crate) fn http(queue_bytes: usize) -> Self {
        let http = HttpConfig {
            listen: "127.0.0.1:0".parse().expect("an address"),
            body_bytes_max: queue_bytes / 2,
            unpacked_bytes_max: queue_bytes / 2,
            ..HttpConfig::default()
        };
        Self::start(&Config { queue_bytes, http, ..Config::default() }, &[])
    }

    /// Receives from NATS what is for these addresses.
    pub(crate) fn nats(nats: &nats::Config, addresses: &[IpAddr]) -> Self {
        let http = HttpConfig { enabled: false, ..HttpConfig::default() };
        Self::start(&Config { http, nats: nats.clone(), ..Config::default() }, addresses)
    }

    fn start(config: &Config, addresses: &[IpAddr]) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let state = tempfile::tempdir().expect("directory");
        let around = Surroundings {
            directory: state.path().to_owned(),
            cursors: Arc::new(NoCursors),
            now: || Timestamp::MIN,
            metrics: Arc::new(String::new),
        };
        let (intake, mut batches) = runtime.block_on(Intake::start(config, &around)).expect("starts");
        intake.addresses().send_replace(addresses.to_vec());
        let seen: Arc<Mutex<BTreeMap<u64, u64>>> = Arc::default();
        let counted = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Some(batch) = batches.recv().await {
                {
                    let mut counted = counted.lock().expect("sound");
                    for line in &batch.lines {
                        *counted.entry(number(line).expect("a line of the test")).or_default() += 1;
                    }
                }
                let mut judged = Judged::default();
                judged.add(batch);
                judged.acknowledge(true);
            }
        });
        let url = intake.description().status().http.map(|address| format!("http://{address}/v1/lines"));
        Self { runtime, intake: Some(intake), seen, url: url.unwrap_or_default(), _state: state }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Numbers seen, each once.
    pub(crate) fn count(&self) -> u64 {
        self.seen.lock().expect("sound").len() as u64
    }

    /// How many lines came more than once.
    pub(crate) fn repeated(&self) -> usize {
        self.seen.lock().expect("sound").values().filter(|times| **times > 1).count()
    }

    pub(crate) fn seen(&self) -> Vec<u64> {
        self.seen.lock().expect("sound").keys().copied().collect()
    }

    /// Waits until all of these were seen.
    #[track_caller]
    pub(crate) fn has(&self, numbers: Range<u64>) {
        let missing = || -> Vec<u64> {
            let seen = self.seen.lock().expect("sound");
            numbers.clone().filter(|number| !seen.contains_key(number)).collect()
        };
        wait_for(LIMIT, || missing().is_empty().then_some(()));
        let lost = missing();
        assert!(lost.is_empty(), "{} of {numbers:?} are missing, the first {:?}", lost.len(), lost.first());
    }

    /// Stops as an agent does: what it has is acknowledged first.
    pub(crate) fn stop(mut self) {
        if let Some(mut intake) = self.intake.take() {
            self.runtime.block_on(async {
                intake.stop(Duration::from_secs(10)).await;
                intake.finish(Duration::from_secs(10)).await;
            });
        }
    }
}

/// A request as it came in.
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) body: Vec<u8>,
}

/// A server that gives these answers, one a request, and then ends: its URL, and when and what it was sent.
pub(crate) fn scripted(answers: &'static [&'static str]) -> (String, JoinHandle<Vec<Heard>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let url = format!("http://{}/v1/lines", listener.local_addr().expect("an address"));
    let answering = std::thread::spawn(move || {
        let mut bodies = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("accepts");
            let mut reader = BufReader::new(stream.try_clone().expect("clones"));
            let mut length = 0;
            let mut header = String::new();
            while reader.read_line(&mut header).expect("reads") > 2 {
                if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                header.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("reads");
            bodies.push(Heard { at: Instant::now(), body });
            write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").expect("answers");
        }
        bodies
    });
    (url, answering)
}
