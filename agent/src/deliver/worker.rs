//! The loop that every sink runs in: take what is pending, deliver, move the cursor. In: the spool, and a wake-up when
//! it has grown. Out: calls of one sink, with waits between tries.
//!
//! A record that the far end refuses does not hold up those behind it: a refused batch is sent again record by record,
//! and a record refused [`REFUSALS_MAX`] times is set aside in the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::backoff::Backoff;
use super::blocking;
use crate::store::{SpoolRecord, Store};

/// Refusals of one record before it is set aside: more than one, since a collector in the middle of a deploy may refuse
/// what its next version takes.
const REFUSALS_MAX: u32 = 3;

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The far end has it.
    Delivered,
    /// Not now; `after` when the far end named a time.
    Retry { reason: String, after: Option<Duration> },
    /// The far end has seen it and does not want it.
    Refused { reason: String },
}

/// How much a sink takes at a time, and how it waits.
#[derive(Copy, Clone, Debug)]
pub(super) struct Pace {
    pub(super) records_max: usize,
    pub(super) bytes_max: u64,
    pub(super) wait_min: Duration,
    pub(super) wait_max: Duration,
}

/// Somewhere that alerts go.
pub(super) trait Sink: Send + Sync + 'static {
    /// Stable: the cursor is kept under it.
    fn name(&self) -> &'static str;

    /// Its pace.
    fn pace(&self) -> Pace;

    /// Delivers all of `records`, in order, or none as far as it can tell.
    fn deliver(&mut self, records: &[SpoolRecord]) -> impl Future<Output = Outcome> + Send;
}

/// What a sink did.
#[derive(Debug, Default)]
pub struct SinkCounters {
    /// Records delivered.
    delivered: AtomicU64,
    /// Tries that failed and will be repeated.
    retries: AtomicU64,
    /// Records set aside.
    refused: AtomicU64,
    /// Why the latest try failed; empty once one works.
    trouble: Mutex<Option<String>>,
}

/// How a sink stands, for `breachline status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SinkStatus {
    /// Records delivered since start.
    pub delivered: u64,
    /// Tries that failed and were, or will be, repeated.
    pub retries: u64,
    /// Records that the far end refused and that were set aside.
    pub refused: u64,
    /// Why the latest try failed; absent while all is well.
    pub trouble: Option<String>,
}

impl SinkCounters {
    /// A copy for `status`.
    #[must_use]
    pub fn status(&self) -> SinkStatus {
        SinkStatus {
            delivered: self.delivered.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            trouble: self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Notes the state of the far end; true when it changed between well and unwell.
    fn note(&self, trouble: Option<&str>) -> bool {
        let mut noted = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = noted.is_some() != trouble.is_some();
        *noted = trouble.map(str::to_owned);
        changed
    }
}

/// A sink at work.
pub(super) struct Worker<S> {
    sink: S,
    store: Arc<Store>,
    stopping: watch::Receiver<bool>,
    counters: Arc<SinkCounters>,
    backoff: Backoff,
    /// Records still to be sent one by one, since their batch was refused.
    alone: usize,
    /// Refusals of the record in front.
    refusals: u32,
}

impl<S: Sink> Worker<S> {
    pub(super) fn new(
        sink: S,
        store: Arc<Store>,
        stopping: watch::Receiver<bool>,
        counters: Arc<SinkCounters>,
    ) -> Self {
        let pace = sink.pace();
        // The process id sets agents apart that start at the same moment.
        let backoff = Backoff::new(pace.wait_min, pace.wait_max, u64::from(std::process::id()));
        Self { sink, store, stopping, counters, backoff, alone: 0, refusals: 0 }
    }

    /// Until the sender is gone, or all is delivered (or the far end fails) once the agent is stopping.
    pub(super) async fn run(mut self) {
        loop {
            let stopping = *self.stopping.borrow_and_update();
            let records = self.pending().await;
            if records.is_empty() {
                if stopping || self.stopping.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let wait = match self.sink.deliver(&records).await {
                Outcome::Delivered => self.delivered(&records).await,
                Outcome::Retry { reason, after } => Some(self.failed(&reason, after)),
                Outcome::Refused { reason } => self.refused(&records, &reason).await,
            };
            if let Some(wait) = wait
                && (stopping || self.stopped_within(wait).await)
            {
                return;
            }
        }
    }

    async fn pending(&self) -> Vec<SpoolRecord> {
        let (name, pace) = (self.sink.name(), self.sink.pace());
        let records_max = if self.alone > 0 { 1 } else { pace.records_max };
        let pending = blocking(&self.store, move |store| store.pending(name, records_max, pace.bytes_max));
        pending.await.unwrap_or_default()
    }

    async fn stopped_within(&mut self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.stopping.wait_for(|stop| *stop)).await.is_ok()
    }

    async fn delivered(&mut self, records: &[SpoolRecord]) -> Option<Duration> {
        self.counters.delivered.fetch_add(records.len() as u64, Ordering::Relaxed);
        if self.counters.note(None) {
            tracing::info!(sink = self.sink.name(), "sink takes alerts again");
        }
        self.backoff.reset();
        self.pass(records).await;
        None
    }

    /// Moves the cursor past `records`.
    async fn pass(&mut self, records: &[SpoolRecord]) {
        self.alone = self.alone.saturating_sub(records.len());
        self.refusals = 0;
        let (name, last) = (self.sink.name(), records.last().map_or(0, |record| record.sequence));
        blocking(&self.store, move |store| store.advance(name, last)).await;
    }

    fn failed(&mut self, reason: &str, after: Option<Duration>) -> Duration {
        self.counters.retries.fetch_add(1, Ordering::Relaxed);
        if self.counters.note(Some(reason)) {
            tracing::warn!(
                sink = self.sink.name(),
                error = reason,
                "sink does not take alerts; they wait in the spool"
            );
        }
        let wait = self.backoff.wait();
        after.map_or(wait, |after| after.clamp(Duration::ZERO, self.sink.pace().wait_max))
    }

    async fn refused(&mut self, records: &[SpoolRecord], reason: &str) -> Option<Duration> {
        if records.len() > 1 {
            self.alone = records.len();
            return None;
        }
        self.refusals += 1;
        if self.refusals < REFUSALS_MAX {
            return Some(self.failed(reason, None));
        }
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        tracing::error!(sink = self.sink.name(), error = reason, "alert refused by its sink and set aside");
        if let [record] = records {
            let (name, record) = (self.sink.name(), record.clone());
            blocking(&self.store, move |store| store.reject(name, &record)).await;
        }
        self.pass(records).await;
        None
    }
}
