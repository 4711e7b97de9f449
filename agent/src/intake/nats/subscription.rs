//! One subject. In: its durable consumer. Out: each message as a batch, acknowledged to the server when the journal has it.
//!
//! Messages are asked for, never pushed, so a slow pipeline leaves them with the server. What cannot be read is
//! refused once and counted; everything else comes again until it was acknowledged.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::message::Acker;
use async_nats::jetstream::{AckKind, Message};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::bus::{MESSAGE_BYTES_MAX, StreamConfig, Trouble, jetstream};
use crate::intake::inflate::{Coding, inflate};
use crate::intake::{Batch, Counters, LINE_BYTES_MAX, Limits, Lines, Queue, body, queue};
use crate::timestamp::Timestamp;

/// Messages asked for at a time: hides the way to the server, and bounds with [`MESSAGE_BYTES_MAX`] what waits here.
const PULL_MESSAGES: usize = 32;

/// How long a request for messages stands at the server: what a lost connection can delay lines by. No heartbeats: a
/// batch of async-nats 0.51 that has heard one is not woken by the message behind it.
const PULL_EXPIRES: Duration = Duration::from_secs(10);

/// Time after which the server sends a message again that was not acknowledged: much longer than keeping it takes.
const ACK_WAIT: Duration = Duration::from_secs(60);

/// When the server sends a message again that could not be kept.
const DEFER: Duration = Duration::from_secs(1);

/// Messages taken and not acknowledged; with more, none are asked for.
const UNACKNOWLEDGED_MAX: usize = 256;

/// Time without this host after which the server forgets how far it was: instances of an autoscaling group come and go.
/// Not shorter than a stream is usually kept.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 3600);

/// First and longest wait after a failure.
const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Lines of a message at most: a message is at most [`MESSAGE_BYTES_MAX`] unpacked, and no log line is shorter than this
/// makes it.
const LINES_MAX: usize = MESSAGE_BYTES_MAX / 16;

/// Longest name of a source that a sender may give; later stages keep state per source.
const SOURCE_NAME_BYTES_MAX: usize = 64;

/// Header that names the source whose lines a message holds.
pub(crate) const SOURCE_HEADER: &str = "Breachline-Source";

/// Header that names the payload's coding, as in HTTP.
pub(crate) const ENCODING_HEADER: &str = "Content-Encoding";

/// What all subjects share.
pub(super) struct Shared {
    pub(super) stream: StreamConfig,
    pub(super) host: String,
    pub(super) client: async_nats::Client,
    pub(super) queue: Queue,
    pub(super) now: fn() -> Timestamp,
    pub(super) trouble: Trouble,
    pub(super) unpacking: Semaphore,
}

/// One subject being received.
pub(super) struct Subscription {
    shared: Arc<Shared>,
    subject: String,
    acknowledging: JoinSet<()>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Subscription {
    pub(super) fn new(shared: Arc<Shared>, subject: String) -> Self {
        Self { shared, subject, acknowledging: JoinSet::new() }
    }

    /// Receives until told to stop, through every failure of the server; then waits for what was taken to be
    /// acknowledged.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut wait = WAIT_MIN;
        loop {
            let ended = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                ended = self.receive() => ended,
            };
            match ended {
                Ok(true) => wait = WAIT_MIN,
                Ok(false) => break, // the pipeline is gone
                Err(error) => {
                    self.shared.trouble.note(format!("{}: {error}", self.subject));
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => break,
                        () = tokio::time::sleep(wait) => wait = (wait * 2).min(WAIT_MAX),
                    }
                }
            }
        }
        while self.acknowledging.join_next().await.is_some() {}
    }

    /// Asks for messages until something fails; whether the pipeline is still there.
    async fn receive(&mut self) -> Result<bool, Failure> {
        let context = jetstream(self.shared.client.clone());
        let stream = self.shared.stream.open(&context).await?;
        let name = self.durable_name();
        let config = pull::Config {
            durable_name: Some(name.clone()),
            description: Some(format!("breachline on {}", self.shared.host)),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            filter_subject: self.subject.clone(),
            max_ack_pending: i64::try_from(UNACKNOWLEDGED_MAX).unwrap_or(i64::MAX),
            inactive_threshold: FORGET_AFTER,
            ..pull::Config::default()
        };
        let consumer = stream.get_or_create_consumer(&name, config).await?;
        self.shared.trouble.clear();
        loop {
            let pull = consumer.batch().max_messages(PULL_MESSAGES).max_bytes(MESSAGE_BYTES_MAX);
            let mut messages = pull.expires(PULL_EXPIRES).messages().await?;
            while let Some(message) = messages.next().await {
                if !self.take(message?).await {
                    return Ok(false);
                }
            }
        }
    }

    /// Names this host and subject to the server; a name has no dots.
    fn durable_name(&self) -> String {
        let last = self.subject.rsplit('.').next().unwrap_or_default();
        let name = format!("{}-{last}", self.shared.host);
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
    }

    /// Begins to take one message; false when the pipeline is gone.
    async fn take(&mut self, message: Message) -> bool {
        let (message, acker) = message.split();
        let counters = Arc::clone(self.shared.queue.counters());
        let source = source(message.headers.as_ref());
        let lines = match self.unpack(message.payload, message.headers.as_ref()).await {
            Ok(lines) => lines,
            Err(reason) => {
                tracing::warn!(subject = self.subject, reason, "a message is refused");
                Counters::add(&counters.nats_refused, 1);
                drop(acker.ack_with(AckKind::Term).await); // unheard, it comes again and is refused again
                return true;
            }
        };
        Counters::add(&counters.nats_messages, 1);
        Counters::add(&counters.lines_cut, lines.cut);
        if lines.lines.is_empty() {
            drop(acker.ack().await);
            return true;
        }
        let bytes = lines.lines.iter().map(Bytes::len).sum::<usize>() + queue::handles(lines.lines.len());
        let Some(room) = self.shared.queue.reserve(bytes).await else { return false };
        let batch = Batch::new(source, (self.shared.now)(), lines.lines).in_room(room);
        while self.acknowledging.len() >= UNACKNOWLEDGED_MAX {
            self.acknowledging.join_next().await;
        }
        self.acknowledging.spawn(keep(self.shared.queue.clone(), batch, acker));
        while self.acknowledging.try_join_next().is_some() {}
        true
    }

    /// The lines of a message, in whatever shape an HTTP body may have.
    async fn unpack(&self, payload: Bytes, headers: Option<&HeaderMap>) -> Result<Lines, String> {
        let named = headers.and_then(|headers| headers.get(ENCODING_HEADER)).map_or("", |value| value.as_str());
        let Some(coding) = Coding::parse(named.as_bytes()) else {
            return Err(format!("its coding {named:?} is not supported; send gzip, deflate or none"));
        };
        let _turn = self.shared.unpacking.acquire().await.map_err(|error| error.to_string())?;
        let unpacking = tokio::task::spawn_blocking(move || {
            let plain =
                inflate(coding, payload, MESSAGE_BYTES_MAX, &mut |_| true).map_err(|error| error.to_string())?;
            let mut lines = Lines::new(Limits { lines: LINES_MAX, line_bytes: LINE_BYTES_MAX });
            body::read(&plain, false, &mut lines).map_err(|error| error.to_string())?;
            if lines.overflow { Err(format!("it has more than {LINES_MAX} lines")) } else { Ok(lines) }
        });
        unpacking.await.map_err(|error| error.to_string())?
    }
}

/// Where a message's lines come from: `nats`, or `nats:NAME` with a name that is fit to be one.
fn source(headers: Option<&HeaderMap>) -> Arc<str> {
    let name = headers.and_then(|headers| headers.get(SOURCE_HEADER)).map_or("", |value| value.as_str());
    let fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    if name.is_empty() || name.len() > SOURCE_NAME_BYTES_MAX || !name.bytes().all(fit) {
        return "nats".into();
    }
    format!("nats:{name}").into()
}

/// Acknowledges a message once its lines are kept; one that is not kept comes again in a while.
async fn keep(queue: Queue, batch: Batch, acker: Acker) {
    let kept = match queue.take(batch, false).await {
        Ok(()) => acker.ack().await,
        Err(reason) => {
            tracing::debug!(%reason, "a message is left with the bus for now");
            Counters::add(&queue.counters().nats_deferred, 1);
            acker.ack_with(AckKind::Nak(Some(DEFER))).await
        }
    };
    drop(kept); // unheard, the message comes again
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_names_its_source_within_bounds() {
        let check = |name: &str, expected: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(SOURCE_HEADER, name);
            assert_eq!(&*source(Some(&headers)), expected);
        };
        check("edge-nginx", "nats:edge-nginx");
        check("two words", "nats");
        check(&"x".repeat(SOURCE_NAME_BYTES_MAX + 1), "nats");
        assert_eq!(&*source(None), "nats");
    }
}
