//! Takes batches to their destinations. In: sealed batches. Out: batches that were taken, and the truth about those that
//! were not.
//!
//! A batch is released only when its destination has it, refused it for good, or was given up; each of the last two is
//! counted line by line. Waits are bounded and double; a destination that asks for one is given it.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::Semaphore;

use super::batch::Sealed;
use super::config::{BatchConfig, RetryConfig};
use super::ledger::Ledger;
use super::progress::{Counters, count};
use super::route::Destination;
use super::{http, nats};

/// Requests under way at the same time over all destinations: bounds connections, not memory, which batches hold already.
const SENDING_MAX: usize = 64;

/// Shorter batches travel as they are: packing saves less than it costs.
const PACK_BYTES_MIN: usize = 512;

/// What travels.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) gzip: bool,
    /// The same for every try, so that the bus can tell a repetition from something new.
    pub(super) id: u64,
}

/// What a destination said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has the batch.
    Taken,
    /// It may take it later.
    Retry { reason: String, after: Option<Duration> },
    /// It would take less.
    TooLarge,
    /// It never will.
    Refused { reason: String },
}

/// How batches travel.
#[derive(Debug)]
pub(super) enum Transport {
    Nats(Box<nats::Publisher>),
    Http(http::Poster),
}

impl Transport {
    async fn send(&self, to: &Destination, source: &str, body: Body) -> Outcome {
        match self {
            Self::Nats(publisher) => publisher.send(&to.name, source, body).await,
            Self::Http(poster) => poster.send(&to.name, to.route, body).await,
        }
    }
}

/// Delivers.
#[derive(Debug)]
pub(super) struct Courier {
    transport: Transport,
    retry: RetryConfig,
    gzip: u32,
    packing: Semaphore,
    sending: Semaphore,
    next_id: AtomicU64,
    ledger: Ledger,
    counters: Arc<Counters>,
}

impl Courier {
    pub(super) fn new(transport: Transport, retry: &RetryConfig, batch: &BatchConfig) -> Self {
        Self {
            transport,
            retry: retry.clone(),
            gzip: batch.gzip,
            packing: Semaphore::new(available_parallelism().map_or(1, usize::from)),
            sending: Semaphore::new(SENDING_MAX),
            next_id: AtomicU64::new(0),
            ledger: Ledger::default(),
            counters: Arc::default(),
        }
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// What is wrong with the way to all destinations.
    pub(super) fn trouble(&self) -> Option<String> {
        match &self.transport {
            Transport::Nats(publisher) => publisher.trouble(),
            Transport::Http(_) => None,
        }
    }

    /// Takes a batch to its end.
    pub(super) async fn deliver(self: Arc<Self>, batch: Sealed) {
        // Closed never: the destination lives as long as the batch.
        let _slot = batch.destination.slots.acquire().await;
        let mut parts = vec![batch.text.clone()];
        while let Some(part) = parts.pop() {
            if let Err(halves) = self.deliver_part(&batch, &part).await {
                parts.extend(halves);
            }
        }
        self.ledger.release(batch.number);
    }

    /// Sends until there is an answer for good. What is too large comes back in halves.
    async fn deliver_part(&self, batch: &Sealed, text: &Bytes) -> Result<(), [Bytes; 2]> {
        if !self.may_try(batch) {
            count(&self.counters.lines_given_up, lines(text));
            return Ok(());
        }
        let body = self.pack(text).await;
        let mut wait = self.retry.wait_min;
        loop {
            match self.send(batch, &body).await {
                Outcome::Taken => {
                    batch.destination.took();
                    count(&self.counters.batches_taken, 1);
                    count(&self.counters.lines_taken, lines(text));
                    count(&self.counters.bytes_taken, text.len());
                    count(&self.counters.bytes_sent, body.bytes.len());
                    return Ok(());
                }
                Outcome::TooLarge => match halves(text) {
                    Some(halves) => return Err(halves),
                    None => return self.refuse(batch, text, "one line is too large"),
                },
                Outcome::Refused { reason } => return self.refuse(batch, text, &reason),
                Outcome::Retry { reason, after } => {
                    let failing = batch.destination.failed(&reason);
                    if self.gives_up(failing) {
                        count(&self.counters.lines_given_up, lines(text));
                        return Ok(());
                    }
                    count(&self.counters.retries, 1);
                    tokio::time::sleep(after.unwrap_or(wait).clamp(self.retry.wait_min, self.retry.wait_max)).await;
                    wait = (wait * 2).min(self.retry.wait_max);
                }
            }
        }
    }

    async fn send(&self, batch: &Sealed, body: &Body) -> Outcome {
        let _turn = self.sending.acquire().await;
        let sending = self.transport.send(&batch.destination, &batch.source, body.clone());
        let late = || Outcome::Retry { reason: "no answer in time".into(), after: None };
        tokio::time::timeout(self.retry.timeout, sending).await.unwrap_or_else(|_| late())
    }

    fn may_try(&self, batch: &Sealed) -> bool {
        let Transport::Http(_) = self.transport else { return true };
        batch.destination.may_try(self.retry.give_up_after, self.retry.wait_max)
    }

    /// One agent may be gone for ever; the bus is what all lines go over, and is waited for.
    fn gives_up(&self, failing: Duration) -> bool {
        matches!(self.transport, Transport::Http(_)) && failing >= self.retry.give_up_after
    }

    fn refuse(&self, batch: &Sealed, text: &Bytes, reason: &str) -> Result<(), [Bytes; 2]> {
        tracing::warn!(destination = batch.destination.name, reason, lines = lines(text), "lines are refused and lost");
        count(&self.counters.lines_refused, lines(text));
        Ok(())
    }

    async fn pack(&self, text: &Bytes) -> Body {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let plain = Body { bytes: text.clone(), gzip: false, id };
        if self.gzip == 0 || text.len() < PACK_BYTES_MIN {
            return plain;
        }
        let _turn = self.packing.acquire().await;
        let (text, level) = (text.clone(), Compression::new(self.gzip));
        match tokio::task::spawn_blocking(move || gzip(&text, level)).await {
            Ok(Ok(packed)) if packed.len() < plain.bytes.len() => Body { bytes: packed.into(), gzip: true, id },
            _ => plain,
        }
    }
}

fn gzip(text: &[u8], level: Compression) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), level);
    encoder.write_all(text)?;
    encoder.finish()
}

fn lines(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', text).count()
}

/// Two halves at a line end; the second comes out of the stack first, which nobody minds.
fn halves(text: &Bytes) -> Option<[Bytes; 2]> {
    let middle = text.len() / 2;
    let end = memchr::memrchr(b'\n', &text[..middle])
        .or_else(|| memchr::memchr(b'\n', &text[middle..]).map(|end| end + middle))?;
    (end + 1 < text.len()).then(|| [text.slice(end + 1..), text.slice(..=end)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_whole_lines() {
        let check = |text: &'static str, expected: Option<[&str; 2]>| {
            let found = halves(&Bytes::from_static(text.as_bytes()));
            assert_eq!(
                found,
                expected.map(|halves| halves.map(|half| Bytes::copy_from_slice(half.as_bytes()))),
                "{text:?}"
            );
        };
        check("a\nb\n", Some(["b\n", "a\n"]));
        check("a\nb\nc\n", Some(["b\nc\n", "a\n"]));
        check("aaaaaaaa\nb\n", Some(["b\n", "aaaaaaaa\n"]));
        check("a\nbbbbbbbb\n", Some(["bbbbbbbb\n", "a\n"]));
        check("aaaa\n", None);
    }
}
