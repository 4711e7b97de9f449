//! The load balancer: passes every request on to the service and writes one AWS ALB access-log line for each.
//!
//! In: HTTP on [`BALANCER`]. Out: the service's answer, and a line of 30 fields in the file the agent tails: real times, real
//! target, the URL as the client sent it. Lines can be held back, as a real ALB's are for minutes (one object per node every
//! five minutes). Field meanings: the AWS guide's "Access log entries" page.

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::http::{self, Message};
use super::network::{BALANCER, SERVICE};
use super::shifted_clock::ShiftedClock;
use crate::timestamp::Timestamp;

/// The host name clients ask for.
pub(super) const HOST: &str = "shop.example";

const NAME: &str = "app/drill/50dc6c495c0c9188";
const TARGET_GROUP: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/shop/73e2d6bc24d8a067";

/// The access log: written at once, or held back until released.
#[derive(Clone)]
pub(super) struct Log(Arc<Mutex<Lines>>);

struct Lines {
    file: File,
    /// Lines kept back while holding; a scenario sends a few dozen.
    held: Option<Vec<u8>>,
}

impl Log {
    /// Logs to `file`.
    pub(super) fn new(file: File) -> Self {
        Self(Arc::new(Mutex::new(Lines { file, held: None })))
    }

    /// Keeps lines back from now on.
    pub(super) fn hold(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).held.get_or_insert_default();
    }

    /// Writes what was kept back; later lines are written at once.
    pub(super) fn release(&self) -> io::Result<()> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = lines.held.take().unwrap_or_default();
        lines.file.write_all(&held)
    }

    fn write(&self, line: &str) -> io::Result<()> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut lines.held {
            Some(held) => held.extend_from_slice(line.as_bytes()),
            None => lines.file.write_all(line.as_bytes())?,
        }
        Ok(())
    }
}

/// Serves for ever.
pub(super) fn serve(listener: TcpListener, log: Log, clock: ShiftedClock) {
    http::serve(listener, move |stream| log.write(&pass_on(&stream, &clock)?.line()));
}

/// One request's way through the balancer.
struct Passage {
    client: SocketAddr,
    received: Timestamp,
    dispatched: Timestamp,
    answered: Timestamp,
    completed: Timestamp,
    status: u16,
    target_status: Option<u16>,
    received_bytes: usize,
    sent_bytes: usize,
    method: String,
    target: String,
    user_agent: String,
    trace_id: String,
}

fn pass_on(client: &TcpStream, clock: &ShiftedClock) -> io::Result<Passage> {
    let peer = client.peer_addr()?;
    let request = Message::read(client)?;
    let received = clock.now();
    let trace_id = trace_id(received, peer);
    let forwarded = request
        .clone()
        .with("X-Forwarded-For", &peer.ip().to_string())
        .with("X-Forwarded-Proto", "http")
        .with("X-Amzn-Trace-Id", &trace_id);
    let dispatched = clock.now();
    let answer = http::exchange(SERVICE, &forwarded);
    let answered = clock.now();
    let target_status = answer.as_ref().ok().map(Message::status);
    let answer = answer.unwrap_or_else(|_| Message::response(502, "bad gateway"));
    let sent_bytes = answer.write(client)?;
    Ok(Passage {
        client: peer,
        received,
        dispatched,
        answered,
        completed: clock.now(),
        status: answer.status(),
        target_status,
        received_bytes: request.write(io::sink())?,
        sent_bytes,
        method: request.word(0).to_owned(),
        target: request.word(1).to_owned(),
        user_agent: request.header("User-Agent").unwrap_or("-").to_owned(),
        trace_id,
    })
}

/// `Root=1-` with eight digits of seconds and 24 more: the form ALB makes.
fn trace_id(received: Timestamp, client: SocketAddr) -> String {
    let nanos = received.as_unix_nanos();
    format!("Root=1-{:08x}-{:020x}{:04x}", nanos / 1_000_000_000, nanos, client.port())
}

/// Microseconds, as ALB writes them.
fn alb_time(time: Timestamp) -> String {
    let nanos = time.as_unix_nanos();
    let text = Timestamp::from_unix_nanos(nanos - nanos.rem_euclid(1_000_000_000)).to_string();
    format!("{}.{:06}Z", text.trim_end_matches('Z'), nanos.rem_euclid(1_000_000_000) / 1000)
}

/// Seconds with three decimals, as ALB writes them.
fn alb_seconds(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64())
}

/// A quote inside a field is written as ALB writes it.
fn alb_quoted(text: &str) -> String {
    text.replace('"', "\\x22")
}

impl Passage {
    fn line(&self) -> String {
        let target_status = self.target_status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        let head = format!(
            "http {completed} {NAME} {client} {SERVICE} {before} {within} {after} {status} {target_status} {received_bytes} {sent_bytes}",
            completed = alb_time(self.completed),
            client = self.client,
            before = alb_seconds(self.dispatched.since(self.received)),
            within = alb_seconds(self.answered.since(self.dispatched)),
            after = alb_seconds(self.completed.since(self.answered)),
            status = self.status,
            received_bytes = self.received_bytes,
            sent_bytes = self.sent_bytes,
        );
        let request = format!(
            "\"{method} http://{HOST}:{port}{target} HTTP/1.1\" \"{user_agent}\"",
            method = alb_quoted(&self.method),
            port = BALANCER.port(),
            target = alb_quoted(&self.target),
            user_agent = alb_quoted(&self.user_agent),
        );
        format!(
            "{head} {request} - - {TARGET_GROUP} \"{trace}\" \"-\" \"-\" 0 {received} \"forward\" \"-\" \"-\" \"{SERVICE}\" \"{target_status}\" \"-\" \"-\" TID_{tid:032x}\n",
            trace = self.trace_id,
            received = alb_time(self.received),
            tid = self.received.as_unix_nanos(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage() -> Passage {
        let at = |micros: i64| Timestamp::from_unix_nanos(1_763_805_600_000_000_000 + micros * 1000);
        Passage {
            client: "198.51.100.23:40001".parse().expect("address"),
            received: at(0),
            dispatched: at(400),
            answered: at(12_600),
            completed: at(13_000),
            status: 200,
            target_status: Some(200),
            received_bytes: 90,
            sent_bytes: 120,
            method: "GET".into(),
            target: "/ping?host=%3Bid\"".into(),
            user_agent: "curl/8.5.0".into(),
            trace_id: "Root=1-69218d60-000000000000000000000001".into(),
        }
    }

    #[test]
    fn a_line_has_the_fields_of_an_alb_line() {
        let line = passage().line();
        let expected = concat!(
            "http 2025-11-22T10:00:00.013000Z app/drill/50dc6c495c0c9188 198.51.100.23:40001 10.20.0.10:8080 ",
            "0.000 0.012 0.000 200 200 90 120 \"GET http://shop.example:80/ping?host=%3Bid\\x22 HTTP/1.1\" \"curl/8.5.0\" - - ",
            "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/shop/73e2d6bc24d8a067 ",
            "\"Root=1-69218d60-000000000000000000000001\" \"-\" \"-\" 0 2025-11-22T10:00:00.000000Z \"forward\" \"-\" \"-\" ",
            "\"10.20.0.10:8080\" \"200\" \"-\" \"-\" TID_0000000000000000187a4bd920d84000\n",
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn held_lines_appear_on_release_and_in_order() {
        let path = std::env::temp_dir().join(format!("breachline-balancer-{}", std::process::id()));
        let log = Log::new(File::create(&path).expect("creates"));
        log.write("1\n").expect("writes");
        log.hold();
        log.write("2\n").expect("holds");
        let before = std::fs::read_to_string(&path).expect("reads");
        log.release().expect("releases");
        log.write("3\n").expect("writes");
        let after = std::fs::read_to_string(&path).expect("reads");
        std::fs::remove_file(&path).expect("removes");
        assert_eq!((before.as_str(), after.as_str()), ("1\n", "1\n2\n3\n"));
    }
}
