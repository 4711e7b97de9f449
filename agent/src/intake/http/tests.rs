use std::io::Write;
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::intake::rate::Rates;
use crate::intake::{Batch, queue};
use crate::timestamp::Timestamp;

const QUEUE_BYTES: usize = 4 << 20;

struct Receiver {
    address: SocketAddr,
    queue: Queue,
    batches: mpsc::Receiver<Batch>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().expect("address"),
        body_bytes_max: 1 << 20,
        unpacked_bytes_max: 2 << 20,
        lines_max: 1000,
        ..Config::default()
    }
}

fn shared(bytes_per_second: u64) -> Shared {
    Shared {
        now: || Timestamp::from_unix_millis(7),
        metrics: Arc::new(|| "breachline_lines 1\n".to_owned()),
        rates: Arc::new(Rates::new(bytes_per_second)),
    }
}

async fn start(config: Config) -> Receiver {
    start_with(config, 0).await
}

async fn start_with(config: Config, bytes_per_second: u64) -> Receiver {
    let (queue, batches) = queue(QUEUE_BYTES);
    let server = Server::bind(&config, None, queue.clone(), &shared(bytes_per_second)).await;
    let server = server.expect("binds");
    let address = server.local_addr().expect("address");
    let (stop, stopped) = watch::channel(false);
    Receiver { address, queue, batches, stop, task: tokio::spawn(server.run(stopped)) }
}

/// Sends raw bytes and reads to the end of the connection.
async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    // A receiver that refuses early may close while the rest is still being written.
    drop(stream.write_all(request).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

async fn post(address: SocketAddr, headers: &str, body: &[u8]) -> String {
    post_to(address, "/v1/lines", headers, body).await
}

async fn post_to(address: SocketAddr, path: &str, headers: &str, body: &[u8]) -> String {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
    raw(address, &[head.as_bytes(), body].concat()).await
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("writes");
    encoder.finish().expect("finishes")
}

fn texts(batch: &Batch) -> Vec<String> {
    batch.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

#[tokio::test]
async fn lines_of_every_shape_arrive_and_200_means_taken() {
    let mut receiver = start(config()).await;
    let packed = gzip(b"one\ntwo\n");
    for (headers, body) in [
        ("", b"one\ntwo\n".as_slice()),
        ("Content-Type: application/x-ndjson\r\n", b"{\"message\":\"one\"}\n{\"log\":\"two\"}"),
        ("Content-Type: application/json\r\n", b"[\"one\",\"two\"]"),
        ("Content-Encoding: gzip\r\n", &packed),
    ] {
        let answer = post(receiver.address, headers, body).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with("{\"lines\":2}\n"), "{answer}");
        let batch = receiver.batches.try_recv().expect("a batch, at once");
        assert_eq!(texts(&batch), ["one", "two"]);
        assert_eq!((&*batch.source, batch.received), ("http:/v1/lines", Timestamp::from_unix_millis(7)));
    }
}

#[tokio::test]
async fn what_cannot_be_taken_gets_the_status_its_sender_understands() {
    let receiver = start(config()).await;
    let check = async |headers: &str, body: Vec<u8>, status: &str, sentence: &str| {
        let answer = post(receiver.address, headers, &body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(sentence), "{answer}");
    };
    check("Content-Type: application/json\r\n", b"{\"a\":".to_vec(), "400", "text/plain").await;
    check("Content-Encoding: zstd\r\n", b"x".to_vec(), "415", "gzip or deflate").await;
    check("Content-Encoding: gzip\r\n", b"no gzip".to_vec(), "400", "not valid").await;
    check("Content-Encoding: gzip\r\n", gzip(&vec![b'a'; 64 << 20]), "413", "unpacks").await;
    check("", vec![b'a'; (1 << 20) + 1], "413", "larger than 1048576").await;
    check("", b"a\n".repeat(1001), "413", "1000 lines").await;
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [b"100000\r\n".as_slice(), &vec![b'a'; 1 << 20], b"\r\n"].concat();
    let endless = [chunked.as_slice(), &chunk, &chunk].concat();
    assert!(raw(receiver.address, &endless).await.starts_with("HTTP/1.1 413 "));
    let health = raw(receiver.address, b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
    let metrics = raw(receiver.address, b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(metrics.contains("text/plain; version=0.0.4") && metrics.ends_with("\nbreachline_lines 1\n"), "{metrics}");
    let delete = raw(receiver.address, b"DELETE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(delete.starts_with("HTTP/1.1 405 "), "{delete}");
    let garbage = raw(receiver.address, &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, b'\r', b'\n', b'\r', b'\n']).await;
    assert!(garbage.is_empty() || garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
    let flood = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'a'; 100 << 10], b"\r\n\r\n"].concat();
    let flood = raw(receiver.address, &flood).await;
    assert!(flood.is_empty() || flood.starts_with("HTTP/1.1 431 "), "{flood}");
    assert_eq!(receiver.queue.counters().lines.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_token_is_asked_for_where_one_is_configured() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("token");
    std::fs::write(&path, "hunter2\n").expect("writes");
    let receiver = start(Config { token_file: Some(path), ..config() }).await;
    for (headers, status) in [
        ("", 401),
        ("Authorization: Bearer hunter3\r\n", 401),
        ("Authorization: Basic hunter2\r\n", 401),
        ("Authorization: Bearer\r\n", 401),
        ("Authorization: bearer hunter2\r\n", 200),
        ("Authorization: Basic dXNlcjpodW50ZXIy\r\n", 200),
        ("X-Amz-Firehose-Access-Key: hunter2\r\nX-Amz-Firehose-Request-Id: an-id\r\n", 400),
        ("X-Amz-Firehose-Access-Key: hunter\r\nX-Amz-Firehose-Request-Id: an-id\r\n", 401),
    ] {
        let answer = post(receiver.address, headers, b"one\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {answer}");
        assert_eq!(answer.contains("{\"errorMessage\""), headers.contains("Firehose"), "{answer}");
    }
    for (path, status) in [("/pubsub?token=hunter2", 204), ("/pubsub?token=hunter", 401), ("/lines?token=hunter2", 401)]
    {
        let answer = post_to(receiver.address, path, "", br#"{"message":{}}"#).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    let metrics = raw(receiver.address, b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(metrics.starts_with("HTTP/1.1 401 ") && !metrics.contains("breachline_lines"), "{metrics}");
}

#[tokio::test]
async fn a_long_line_is_cut_and_counted() {
    let mut receiver = start(config()).await;
    let answer = post(receiver.address, "", &[vec![b'a'; 1 << 19], b"\nshort\n".to_vec()].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let batch = receiver.batches.try_recv().expect("a batch");
    assert_eq!(batch.lines.iter().map(bytes::Bytes::len).collect::<Vec<_>>(), [64 << 10, 5]);
    assert_eq!(receiver.queue.counters().lines_cut.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back_and_takes_nothing_in_part() {
    let mut receiver = start(config()).await;
    let body = [vec![b'a'; 1000], vec![b'\n']].concat().repeat(900);
    let mut taken = 0;
    let refusal = loop {
        let answer = post(receiver.address, "", &body).await;
        if !answer.starts_with("HTTP/1.1 200 ") {
            break answer;
        }
        taken += 1;
        assert!(taken <= QUEUE_BYTES / body.len(), "the queue took more than it holds");
    };
    assert!(refusal.starts_with("HTTP/1.1 429 "), "{refusal}");
    assert!(refusal.contains("retry-after: 1"), "{refusal}");
    for _ in 0..taken {
        assert_eq!(receiver.batches.recv().await.expect("a batch").lines.len(), 900);
    }
    assert!(receiver.batches.try_recv().is_err());
    assert!(post(receiver.address, "", &body).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn slow_and_idle_clients_are_let_go() {
    let receiver = start(Config {
        header_timeout: Duration::from_millis(100),
        body_timeout: Duration::from_millis(100),
        connections_max: 4,
        ..config()
    })
    .await;
    let begin = Instant::now();
    let mut slow = Vec::new();
    for start in
        ["", "POST / HT", "POST / HTTP/1.1\r\nHost: a\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab"]
    {
        let mut stream = TcpStream::connect(receiver.address).await.expect("connects");
        stream.write_all(start.as_bytes()).await.expect("writes");
        slow.push(stream);
    }
    // All slots are taken by clients that say nothing more; who has something to say gets in all the same.
    assert!(post(receiver.address, "", b"one\n").await.starts_with("HTTP/1.1 200 "));
    for mut stream in slow {
        let mut answer = Vec::new();
        let closed = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        drop(closed.expect("closed in time"));
    }
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!(receiver.queue.counters().http_timeouts.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert_eq!(receiver.queue.counters().connections_let_go.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_few_hundred_silent_connections_do_not_keep_a_sender_out() {
    let receiver = start(Config { connections_max: 32, ..config() }).await;
    let mut silent = Vec::new();
    for number in 0..400 {
        let mut stream = TcpStream::connect(receiver.address).await.expect("connects");
        if number % 2 == 0 {
            drop(stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab").await);
        }
        silent.push(stream);
        if number % 20 == 0 {
            let begin = Instant::now();
            assert!(post(receiver.address, "", b"one\n").await.starts_with("HTTP/1.1 200 "), "after {number}");
            assert!(begin.elapsed() < Duration::from_secs(2), "{:?} after {number}", begin.elapsed());
        }
    }
}

#[tokio::test]
async fn who_sends_too_much_is_told_to_wait() {
    let receiver = start_with(config(), 1000).await;
    let body = [vec![b'a'; 5000], vec![b'\n']].concat();
    assert!(post(receiver.address, "", &body).await.starts_with("HTTP/1.1 200 "), "a large request passes whole");
    let answer = post(receiver.address, "", b"one\n").await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after"), "{answer}");
}

#[tokio::test]
async fn each_protocol_hears_what_it_understands() {
    let mut receiver = start(config()).await;
    let address = receiver.address;
    let delivery = br#"{"requestId":"an-id","timestamp":1,"records":[{"data":"b25lCnR3bwo="}]}"#;
    for repeated in [false, true] {
        let answer = post_to(address, "/firehose", "X-Amz-Firehose-Request-Id: an-id\r\n", delivery).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with("{\"requestId\":\"an-id\",\"timestamp\":7}"), "{answer}");
        assert_eq!(receiver.batches.try_recv().is_err(), repeated, "taken once");
    }
    let refused = post_to(address, "/firehose", "X-Amz-Firehose-Request-Id: an-id\r\n", b"{}").await;
    assert!(refused.starts_with("HTTP/1.1 400 ") && refused.contains("\"errorMessage\""), "{refused}");

    let push = br#"{"message":{"data":"b25lCnR3bwo=","messageId":"7"},"subscription":"s"}"#;
    assert!(post_to(address, "/pubsub", "", push).await.starts_with("HTTP/1.1 204 "));
    assert_eq!(texts(&receiver.batches.try_recv().expect("a batch")), ["one", "two"]);

    let logs = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"one"}},{}]}]}]}"#;
    let answer = post_to(address, "/v1/logs", "Content-Type: application/json\r\n", logs).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"rejectedLogRecords\":\"1\""), "{answer}");
    assert_eq!(texts(&receiver.batches.try_recv().expect("a batch")), ["one"]);
    let answer = post_to(address, "/v1/logs", "Content-Type: application/x-protobuf\r\n", b"").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("application/x-protobuf"), "{answer}");
    let answer = post_to(address, "/v1/logs", "Content-Type: application/x-protobuf\r\n", b"no").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("application/x-protobuf"), "{answer}");

    let entry = [b"\x92\x01\x81\xa3log\xa3one".as_slice(), b"\x92\x02\x81\xa3log\xa3two"].concat();
    let answer = post_to(address, "/", "Content-Type: application/msgpack\r\n", &entry).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(texts(&receiver.batches.try_recv().expect("a batch")), ["one", "two"]);
}

#[tokio::test]
async fn stopping_answers_503_and_ends() {
    let receiver = start(config()).await;
    let mut under_way = TcpStream::connect(receiver.address).await.expect("connects");
    under_way.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n").await.expect("writes");
    let mut idle = TcpStream::connect(receiver.address).await.expect("connects");
    assert!(post(receiver.address, "", b"one\n").await.starts_with("HTTP/1.1 200 "));
    receiver.stop.send_replace(true);
    let mut answer = Vec::new();
    idle.read_to_end(&mut answer).await.expect("closes");
    under_way.write_all(b"two\n").await.expect("writes");
    let mut answer = Vec::new();
    under_way.read_to_end(&mut answer).await.expect("answers");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.1 503 "), "{answer}");
    timeout(Duration::from_secs(10), receiver.task).await.expect("ends").expect("without a panic");
}

#[tokio::test]
async fn a_config_that_cannot_work_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let check = async |config: Config, expected: &str| {
        let (queue, _batches) = queue(QUEUE_BYTES);
        let error = Server::bind(&config, None, queue, &shared(0)).await.expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(Config { listen: taken.local_addr().expect("address"), ..config() }, "stop what uses the port").await;
    check(Config { token_file: Some("/dev/null".into()), ..config() }, "is empty").await;
    check(Config { token_file: Some("/nonexistent".into()), ..config() }, "token_file /nonexistent").await;
    check(Config { lines_max: 0, ..config() }, "http.lines_max is 0").await;
    check(Config { unpacked_bytes_max: 64 << 20, ..config() }, "queue_bytes").await;
}
