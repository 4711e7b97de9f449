use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::store::{self, SpoolRecord};

/// How long a test waits for what must happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// The fields that delivery reads; whatever else the record has gets its default.
pub(super) fn incident(id: &str, revision: u32, severity: Severity) -> Incident {
    serde_json::from_value(json!({
        "schema": 1, "id": id, "revision": revision, "severity": severity, "title": "a title",
        "first_seen": "2026-11-22T10:00:00Z", "last_seen": "2026-11-22T10:00:05Z",
        "workload": {"key": "unit:shop.service", "runtime": "systemd", "cgroup": "/system.slice/shop.service"},
    }))
    .expect("an incident")
}

pub(super) fn record(sequence: u64, incident: &Incident) -> SpoolRecord {
    let bytes = serde_json::to_vec(incident).expect("serializes");
    SpoolRecord { sequence, severity: incident.severity, bytes }
}

type Answer = Box<dyn Fn(usize, &str) -> Response<Full<bytes::Bytes>> + Send + Sync>;

fn status(code: u16) -> Response<Full<bytes::Bytes>> {
    Response::builder().status(code).body(Full::default()).expect("response")
}

/// A collector that answers as told and remembers what it accepted.
struct TestCollector {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<(u16, String)>>>,
    task: JoinHandle<()>,
}

impl TestCollector {
    async fn start(answer: Answer) -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("address"), answer).await
    }

    /// `answer` gets the number of the request (from 0) and its body.
    async fn start_at(address: SocketAddr, answer: Answer) -> Self {
        let listener = TcpListener::bind(address).await.expect("binds");
        let address = listener.local_addr().expect("address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new((answer, Arc::clone(&requests)));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let shared = Arc::clone(&shared);
                    async move {
                        let body = request.into_body().collect().await?.to_bytes();
                        let body = String::from_utf8_lossy(&body).into_owned();
                        let mut requests = shared.1.lock().expect("lock");
                        let response = (shared.0)(requests.len(), &body);
                        requests.push((response.status().as_u16(), body));
                        Ok::<_, hyper::Error>(response)
                    }
                });
                connections.spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    drop(http.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { address, requests, task }
    }

    fn url(&self) -> String {
        format!("http://{}/alerts", self.address)
    }

    fn requests(&self) -> Vec<(u16, String)> {
        self.requests.lock().expect("lock").clone()
    }

    /// `id/revision` of every alert answered with 200, in order.
    fn accepted(&self) -> Vec<String> {
        let bodies = self.requests().into_iter().filter(|(status, _)| *status == 200);
        bodies.flat_map(|(_, body)| names(&serde_json::from_str(&body).expect("json"))).collect()
    }
}

fn names(batch: &Value) -> Vec<String> {
    let name = |alert: &Value| format!("{}/{}", alert["id"].as_str().expect("id"), alert["revision"]);
    batch.as_array().expect("an array").iter().map(name).collect()
}

fn open_store(directory: &Path) -> Arc<Store> {
    let config = store::Config { directory: directory.to_owned(), ..store::Config::default() };
    Arc::new(Store::open(&config, now()).expect("opens"))
}

fn now() -> Timestamp {
    Timestamp::from_unix_millis(1_795_341_600_000)
}

fn http(url: &str) -> Config {
    let http = HttpConfig {
        url: url.to_owned(),
        wait_min: Duration::from_millis(5),
        wait_max: Duration::from_millis(40),
        timeout: Duration::from_secs(2),
        ..HttpConfig::default()
    };
    Config { stdout: Format::Off, http: Some(http), ..Config::default() }
}

fn start(store: &Arc<Store>, config: &Config) -> Delivery {
    let context = Context { store: Arc::clone(store), render: |incident| incident.title.clone(), now };
    Delivery::start(config, &context).expect("starts")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn the_config_reads_what_it_writes_and_refuses_what_it_does_not_know() {
    let full = Config { file: Some(FileConfig::default()), http: Some(HttpConfig::default()), ..Config::default() };
    for config in [Config::default(), full] {
        let text = toml::to_string(&config).expect("writes");
        assert_eq!(toml::from_str::<Config>(&text).expect("reads"), config, "{text}");
    }
    let check = |text: &str, expected: &str| {
        let error = toml::from_str::<Config>(text).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("stdot = \"json\"", "unknown field `stdot`");
    check("[http]\nurl = \"https://a/\"\nwait_min = \"soon\"", "not a duration");
    assert!(
        Config {
            file: Some(FileConfig { path: "/".into(), fsync: true, ..FileConfig::default() }),
            ..Config::default()
        }
        .check()
        .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_arrive_once_and_in_order_and_leave_the_spool() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open_store(directory.path());
    let collector = TestCollector::start(Box::new(|_, _| status(200))).await;
    let delivery = start(&store, &http(&collector.url()));
    delivery.accept(&[incident("a", 1, Severity::High), incident("quiet", 1, Severity::Low)], &[], now());
    delivery.accept(&[incident("a", 2, Severity::Critical)], &[], now());
    until("both revisions", || collector.accepted().len() == 2).await;
    assert_eq!(collector.accepted(), ["a/1", "a/2"]);
    until("an empty spool", || store.status().spool_records == 0).await;
    assert_eq!(store.incidents().len(), 2, "the quiet one is kept");
    assert_eq!(delivery.description().sinks()["http"].delivered, 2);
    delivery.stop(DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_delays_and_loses_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open_store(directory.path());
    // A port that was free a moment ago: refused connections first, then a collector that stumbles.
    let vacant = TcpListener::bind("127.0.0.1:0").await.expect("binds").local_addr().expect("address");
    let delivery = start(&store, &http(&format!("http://{vacant}/")));
    for number in 1..=20 {
        delivery.accept(&[incident("a", number, Severity::High)], &[], now());
    }
    until("failed tries", || delivery.description().sinks()["http"].retries > 1).await;
    assert!(delivery.description().sinks()["http"].trouble.is_some());
    let stumble = |request, _: &str| status([500, 503, 429, 408, 404].get(request).copied().unwrap_or(200));
    let collector = TestCollector::start_at(vacant, Box::new(stumble)).await;
    until("all alerts", || collector.accepted().len() == 20).await;
    let expected: Vec<String> = (1..=20).map(|number| format!("a/{number}")).collect();
    assert_eq!(collector.accepted(), expected);
    until("a well sink", || delivery.description().sinks()["http"].trouble.is_none()).await;
    delivery.stop(DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_in_the_middle_is_tried_again() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open_store(directory.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("address");
    let delivery = start(&store, &http(&format!("http://{address}/")));
    delivery.accept(&[incident("a", 1, Severity::High)], &[], now());
    for _ in 0..3 {
        drop(listener.accept().await.expect("accepts"));
    }
    drop(listener);
    let collector = TestCollector::start_at(address, Box::new(|_, _| status(200))).await;
    until("the alert", || collector.accepted() == ["a/1"]).await;
    delivery.stop(DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_alert_is_set_aside_alone() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open_store(directory.path());
    let refuse = |_, body: &str| status(if body.contains("poison") { 400 } else { 200 });
    let collector = TestCollector::start(Box::new(refuse)).await;
    // All three are in the spool before the sink starts, so that they make one batch.
    let early = start(&store, &http("http://127.0.0.1:9/"));
    early.accept(
        &[incident("a", 1, Severity::High), incident("poison", 1, Severity::High), incident("b", 1, Severity::High)],
        &[],
        now(),
    );
    early.stop(DEADLINE).await;
    let delivery = start(&store, &http(&collector.url()));
    until("the sound ones", || collector.accepted() == ["a/1", "b/1"]).await;
    assert_eq!(delivery.description().sinks()["http"].refused, 1);
    assert_eq!(store.status().counters.rejected, 1);
    delivery.stop(DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bearer_token_is_sent_and_read_again_for_each_batch() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open_store(directory.path());
    let token = directory.path().join("token");
    std::fs::write(&token, "first\n").expect("writes");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let mut config = http(&format!("http://{}/", listener.local_addr().expect("address")));
    config.http.as_mut().expect("http").token_file = Some(token.clone());
    let delivery = start(&store, &config);
    delivery.accept(&[incident("a", 1, Severity::High)], &[], now());
    let mut seen = Vec::new();
    for next in ["second", "third"] {
        let (stream, _) = listener.accept().await.expect("accepts");
        let header = |request: &Request<hyper::body::Incoming>| {
            request.headers().get("authorization").map(|value| value.to_str().expect("text").to_owned())
        };
        let (sent, mut received) = tokio::sync::mpsc::channel(1);
        let service = service_fn(move |request| {
            let (sent, header) = (sent.clone(), header(&request));
            async move {
                sent.send(header).await.expect("receives");
                let mut response = status(503);
                response.headers_mut().insert("connection", "close".parse().expect("header"));
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        std::fs::write(&token, next).expect("writes");
        drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        seen.push(received.recv().await.expect("a request").expect("a header"));
    }
    assert_eq!(seen[0], "Bearer first");
    assert_eq!(seen[1], "Bearer second");
    drop(delivery);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_sent_is_sent_after_a_restart() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open_store(directory.path());
    let delivery = start(&store, &http("http://127.0.0.1:9/"));
    delivery.accept(&[incident("a", 1, Severity::High)], &[], now());
    delivery.stop(Duration::from_millis(100)).await;
    drop(store);

    let collector = TestCollector::start(Box::new(|_, _| status(200))).await;
    let store = open_store(directory.path());
    let delivery = start(&store, &http(&collector.url()));
    until("the alert", || collector.accepted() == ["a/1"]).await;
    delivery.stop(DEADLINE).await;
    drop(store);

    let store = open_store(directory.path());
    let delivery = start(&store, &http(&collector.url()));
    delivery.accept(&[incident("b", 1, Severity::High)], &[], now());
    until("the next alert", || collector.accepted().len() > 1).await;
    assert_eq!(collector.accepted(), ["a/1", "b/1"], "a clean stop leaves nothing to repeat");
    delivery.stop(DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_collector_does_not_hold_up_the_file() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open_store(directory.path());
    let path = directory.path().join("incidents.jsonl");
    let file = Some(FileConfig { path: path.clone(), fsync: true, ..FileConfig::default() });
    let delivery = start(&store, &Config { file, ..http("http://127.0.0.1:9/") });
    delivery.accept(&[incident("a", 1, Severity::High)], &[], now());
    until("a line", || std::fs::read_to_string(&path).is_ok_and(|text| text.lines().count() == 1)).await;
    assert_eq!(store.status().spool_records, 1, "the collector's still waits");
    delivery.stop(Duration::from_millis(100)).await;
}

/// Alert by alert from `accept` to the line in the file: what delivery adds to the alert latency.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_is_woken_at_once() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open_store(directory.path());
    let path = directory.path().join("incidents.jsonl");
    let file = Some(FileConfig { path: path.clone(), fsync: true, ..FileConfig::default() });
    let delivery = start(&store, &Config { stdout: Format::Off, file, ..Config::default() });
    let mut taken = Vec::new();
    for number in 1..=200 {
        let begin = Instant::now();
        delivery.accept(&[incident("a", number, Severity::High)], &[], now());
        until("a line", || delivery.description().sinks()["file"].delivered == u64::from(number)).await;
        taken.push(begin.elapsed());
    }
    taken.sort();
    eprintln!("accept to file: p50 {:?}, p99 {:?}", taken[100], taken[198]);
    assert!(taken[100] < SYNC_INTERVAL / 2, "woken by the timer only: {:?}", taken[100]);
    delivery.stop(DEADLINE).await;
}

/// Not a test of its own: the process that [`killed_at_any_moment_nothing_accepted_is_lost`] kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by killed_at_any_moment_nothing_accepted_is_lost in a process of its own"]
async fn accept_until_killed() {
    let Some(directory) = std::env::var_os("BREACHLINE_TEST_DIRECTORY") else { return };
    let round = std::env::var("BREACHLINE_TEST_ROUND").expect("round");
    let store = open_store(Path::new(&directory));
    let delivery = start(&store, &http("http://127.0.0.1:9/"));
    for number in 1..10_000 {
        assert_eq!(delivery.accept(&[incident(&round, number, Severity::High)], &[], now()), Kept::Durably);
        println!("accepted {round}/{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_nothing_accepted_is_lost() {
    let directory = tempfile::tempdir().expect("directory");
    let mut accepted = Vec::new();
    for round in 0..6_usize {
        let mut child = Command::new(std::env::current_exe().expect("the test's own program"))
            .args(["deliver::tests::accept_until_killed", "--exact", "--ignored", "--nocapture"])
            .env("BREACHLINE_TEST_DIRECTORY", directory.path())
            .env("BREACHLINE_TEST_ROUND", format!("round-{round}"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines().map_while(Result::ok);
        // The kill falls between this line and whatever the child is doing by then; the pipe's rest counts as well.
        let heard = lines.by_ref().filter_map(|line| accepted_name(&line)).take(1 + 7 * round);
        accepted.extend(heard);
        child.kill().expect("kills");
        child.wait().expect("ends");
        accepted.extend(lines.filter_map(|line| accepted_name(&line)));
    }
    assert!(accepted.len() > 100, "{}", accepted.len());

    let collector = TestCollector::start(Box::new(|_, _| status(200))).await;
    let store = open_store(directory.path());
    let delivery = start(&store, &http(&collector.url()));
    until("an empty spool", || store.status().spool_records == 0).await;
    let arrived = collector.accepted();
    let lost: Vec<_> = accepted.iter().filter(|name| !arrived.contains(name)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    delivery.stop(DEADLINE).await;
    collector.task.abort();
}

fn accepted_name(line: &str) -> Option<String> {
    Some(line.split_once("accepted ")?.1.to_owned())
}
