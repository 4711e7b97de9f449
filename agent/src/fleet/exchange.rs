//! The conversation with the bucket. In: what this host tells, and the bucket's entries as they change. Out: the same put into
//! the bucket, and what the entries amount to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::kv::{Entry, Operation, Store};
use async_nats::jetstream::stream;
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Config, Counters, Heard, Told};
use crate::baseline;
use crate::baseline::shared::{Fleet, RECORD_BYTES_MAX, Record, Records, token};
use crate::intake::nats::{Trouble, jetstream};
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

/// Wait before the bucket is opened again after a failure; doubled up to the longest.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A record that says nothing new is told again after this: older ones count for less and less, and are forgotten in the end.
const TELL_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// What many hosts say at once is taken together: working out what it amounts to looks at every record.
const GATHER: Duration = Duration::from_millis(500);

pub(super) struct Exchange {
    pub(super) config: Config,
    pub(super) baseline: baseline::Config,
    pub(super) now: fn() -> Timestamp,
    pub(super) host: String,
    pub(super) told: watch::Receiver<Told>,
    pub(super) hear: watch::Sender<Heard>,
    pub(super) counting: watch::Sender<Counters>,
    pub(super) trouble: Trouble,
    pub(super) records: Records,
    /// What was told of each workload last.
    pub(super) sent: HashMap<WorkloadKey, Record>,
    /// When what the records amount to is worked out: something new was heard. It outlasts the conversation in which that was; the
    /// next one hears the same again, which is no news then.
    pub(super) due: Option<Instant>,
}

/// Why a conversation ended.
enum End {
    Stop,
    /// This host has other workloads now: what others say of them is asked for anew.
    Anew,
    Trouble(String),
}

/// Returns when it is time to end.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender gone is a stop.
    drop(stop.wait_for(|stop| *stop).await);
}

impl Exchange {
    /// Talks until `stop` turns true or its sender is gone.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let name = format!("breachline {} sharing", self.host);
        let client = match self.config.server.connect(&name, &self.trouble).await {
            Ok(client) => client,
            Err(error) => return self.trouble.note(error.to_string()),
        };
        let mut wait = RETRY;
        loop {
            match self.talk(&client, &mut stop).await {
                End::Stop => return,
                End::Anew => wait = RETRY,
                End::Trouble(trouble) => {
                    self.trouble.note(format!("what is normal is not shared: {trouble}"));
                    tokio::select! {
                        () = stopped(&mut stop) => return,
                        () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_MAX),
                    }
                }
            }
        }
    }

    async fn talk(&mut self, client: &Client, stop: &mut watch::Receiver<bool>) -> End {
        let bucket = tokio::select! {
            () = stopped(stop) => return End::Stop,
            opened = self.open(client) => match opened {
                Ok(bucket) => bucket,
                Err(trouble) => return End::Trouble(trouble),
            },
        };
        let workloads = self.told.borrow().workloads.clone();
        let wanted: Vec<String> = workloads.iter().map(|key| format!("{}.*", token(&self.config.group, key))).collect();
        // What is there already comes first, then what changes.
        let watched = match (self.config.others, wanted.is_empty()) {
            (true, _) => bucket.watch_with_history(">").await,
            // Nothing is wanted yet; a key that nobody has keeps the conversation open.
            (false, true) => bucket.watch_with_history("-").await,
            (false, false) => bucket.watch_many_with_history(wanted).await,
        };
        let mut entries = match watched {
            Ok(entries) => entries,
            Err(error) => return End::Trouble(error.to_string()),
        };
        self.trouble.clear();
        self.told.mark_changed();
        loop {
            let due = self.due;
            let gathered = async move {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stopped(stop) => return End::Stop,
                entry = entries.next() => match entry {
                    Some(Ok(entry)) => if self.take(&entry, &workloads) {
                        self.due = due.or(Some(Instant::now() + GATHER));
                    },
                    Some(Err(error)) => return End::Trouble(error.to_string()),
                    None => return End::Trouble("the server ended the subscription".into()),
                },
                changed = self.told.changed() => {
                    if changed.is_err() {
                        return End::Stop;
                    }
                    let told = self.told.borrow_and_update().clone();
                    if let Err(trouble) = self.tell(&bucket, &told.records).await {
                        return End::Trouble(trouble);
                    }
                    if told.workloads != workloads {
                        return End::Anew;
                    }
                }
                () = gathered => {
                    self.due = None;
                    self.amount_to(&workloads).await;
                }
            }
        }
    }

    /// The bucket; made when it is not there: a stream as NATS's key-value convention (ADR-8) has it. The client's own call for
    /// that asks for the account first, whose answer it cannot read from servers before 2.10.
    async fn open(&self, client: &Client) -> Result<Store, String> {
        let context = jetstream(client.clone());
        let bucket = &self.config.bucket;
        let config = stream::Config {
            name: format!("KV_{bucket}"),
            subjects: vec![format!("$KV.{bucket}.>")],
            description: Some("what is normal on each workload, by host, for breachline agents".into()),
            max_messages_per_subject: 1,
            max_message_size: i32::try_from(RECORD_BYTES_MAX).unwrap_or(i32::MAX),
            max_age: self.baseline.forget_after,
            max_bytes: i64::try_from(self.config.max_bytes).unwrap_or(i64::MAX),
            storage: stream::StorageType::File,
            discard: stream::DiscardPolicy::New,
            num_replicas: self.config.replicas,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            ..stream::Config::default()
        };
        context.get_or_create_stream(config).await.map_err(|error| {
            format!(
                "bucket {bucket}: {error}; is JetStream enabled (nats-server -js) and may this user make buckets? By hand: \
                 nats kv add {bucket} --history=1 --ttl=30d --max-value-size=524288 --storage=file"
            )
        })?;
        context.get_key_value(bucket).await.map_err(|error| format!("bucket {bucket}: {error}"))
    }

    /// Puts what is new, or was not told for long.
    async fn tell(&mut self, bucket: &Store, records: &[Record]) -> Result<(), String> {
        for record in records {
            let known = self.sent.get(&record.workload);
            let stale = |sent: &Record| record.taken.since(sent.taken) >= TELL_AGAIN;
            if known.is_some_and(|sent| sent.says_the_same(record) && !stale(sent)) {
                continue;
            }
            let key = format!("{}.{}", token(&self.config.group, &record.workload), self.host);
            bucket.put(key, record.to_bytes().into()).await.map_err(|error| error.to_string())?;
            self.sent.insert(record.workload.clone(), record.clone());
            self.counting.send_modify(|counters| counters.told += 1);
        }
        Ok(())
    }

    /// Takes in one entry. Whether that changed something.
    fn take(&mut self, entry: &Entry, workloads: &[WorkloadKey]) -> bool {
        let Some((word, host)) = entry.key.split_once('.') else { return self.refuse() };
        if host == self.host {
            return false;
        }
        if entry.operation != Operation::Put {
            return self.records.remove(word, host, &self.config.group);
        }
        // Who may write under its own keys only can speak for itself only, whatever the record says.
        let Some(record) = Record::from_bytes(&entry.value).filter(|record| record.host == host) else {
            return self.refuse();
        };
        let here = token(&self.config.group, &record.workload) == word;
        self.counting.send_modify(|counters| counters.heard += 1);
        let own = here && workloads.contains(&record.workload);
        // A service of that name in another group is another service.
        let record = if here { record } else { record.elsewhere(word) };
        self.records.put(record, own)
    }

    fn refuse(&self) -> bool {
        self.counting.send_modify(|counters| counters.refused += 1);
        false
    }

    /// Works out what all records amount to, off the async threads: it looks at each.
    async fn amount_to(&mut self, workloads: &[WorkloadKey]) {
        let (config, host, now) = (self.baseline, self.host.clone(), (self.now)());
        let mut records = std::mem::take(&mut self.records);
        let workloads = workloads.to_vec();
        let work = move || {
            records.forget(config.forget_after, now);
            let fleet = Fleet::of(&records, &host, &config, now);
            let saved = records.to_bytes(&workloads);
            (records, fleet, saved)
        };
        let Ok((records, fleet, saved)) = tokio::task::spawn_blocking(work).await else { return };
        self.records = records;
        self.counting.send_modify(|counters| counters.hosts = fleet.hosts());
        self.hear.send_replace(Heard { fleet: Arc::new(fleet), saved: Arc::new(saved) });
    }
}
