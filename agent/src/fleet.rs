//! What is normal, shared by the hosts of a fleet through a NATS key-value bucket. In: this host's records, and the others' as the
//! bucket has them. Out: a [`Fleet`] for the baseline, renewed when somebody says something new.
//!
//! Each host writes under keys of its own (`WORKLOAD.HOST`, the first a digest) and never under another's, so the server's
//! permissions can hold it to that; what is believed of a record is [`shared`](crate::baseline::shared)'s business. While the bus
//! is away everything goes on with what was heard before.

mod exchange;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::exchange::Exchange;
use crate::baseline::shared::{Fleet, Record, Records};
use crate::intake::nats::{BusError, ServerConfig, Trouble};
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

/// Longest name of a host in a key.
const NAME_MAX: usize = 64;

/// Whether and where what is normal is shared.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to share at all.
    pub enabled: bool,
    /// What this host is called in the bucket; the host name when empty. Two hosts of one name overwrite each other.
    pub name: String,
    /// Hosts of one group share what they know of workloads of one name: where `nginx.service` is another service on other
    /// hosts, they belong into another group.
    pub group: String,
    /// Also hear which peers the services of other groups and names contact, to tell how usual a peer is. In a large fleet every
    /// host then reads every record once.
    pub others: bool,
    /// The bucket; made when it is not there.
    pub bucket: String,
    /// Where the bucket must be made: bytes kept at most, and copies in the cluster.
    pub max_bytes: u64,
    /// Copies in the cluster.
    pub replicas: usize,
    /// The server.
    pub server: ServerConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            name: String::new(),
            group: "default".into(),
            others: true,
            bucket: "breachline-normal".into(),
            max_bytes: 1 << 30,
            replicas: 1,
            server: ServerConfig::default(),
        }
    }
}

impl Config {
    /// Checks what can be checked without a server.
    ///
    /// # Errors
    ///
    /// The first key that cannot work; as for edge lines, an open server beyond loopback is one.
    pub fn check(&self) -> Result<(), BusError> {
        self.server.check()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if self.bucket.is_empty() || !self.bucket.bytes().all(plain) {
            return Err(BusError::Config { key: "bucket", reason: "takes letters, digits, - and _".into() });
        }
        if self.max_bytes == 0 || i64::try_from(self.max_bytes).is_err() {
            return Err(BusError::Config {
                key: "max_bytes",
                reason: "must be larger than 0, or nothing is kept".into(),
            });
        }
        Ok(())
    }

    /// This host's word in the keys.
    #[must_use]
    pub fn host(&self) -> String {
        let own = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let name = if self.name.is_empty() { own().unwrap_or_else(|| "host".into()) } else { self.name.clone() };
        let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
        name.to_ascii_lowercase().chars().map(plain).take(NAME_MAX).collect()
    }
}

/// What this host tells.
#[derive(Debug, Default, Clone)]
pub struct Told {
    /// The workloads that run here, known or not: what others say of them is wanted.
    pub workloads: Vec<WorkloadKey>,
    /// What is known of them.
    pub records: Vec<Record>,
}

/// What this host was told.
#[derive(Debug, Default, Clone)]
pub struct Heard {
    /// What it amounts to.
    pub fleet: Arc<Fleet>,
    /// The records of this host's workloads, to be saved: for a restart while the bus is away.
    pub saved: Arc<Vec<u8>>,
}

/// What was sent and heard.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Other hosts heard of.
    pub hosts: u32,
    /// Records told.
    pub told: u64,
    /// Records heard.
    pub heard: u64,
    /// Entries of the bucket that are no records, or under a key that is not their host's.
    pub refused: u64,
}

/// How it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// What was sent and heard.
    pub counters: Counters,
    /// Why nothing can be sent or heard at the moment.
    pub trouble: Option<String>,
}

/// The engine's end.
#[derive(Debug)]
pub struct Link {
    /// This host's name in the bucket.
    pub host: String,
    /// What it tells.
    pub tell: watch::Sender<Told>,
    /// What it hears.
    pub heard: watch::Receiver<Heard>,
}

/// Sharing under way.
#[derive(Debug)]
pub struct Sharing {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    counters: watch::Receiver<Counters>,
    trouble: Trouble,
}

impl Sharing {
    /// Starts to share; needs a tokio runtime. `baseline` says how long things count; `saved` is what [`Heard::saved`] was, `now`
    /// reads the time. A server that cannot be reached is no error: it is waited for.
    #[must_use]
    pub fn start(
        config: &Config,
        baseline: crate::baseline::Config,
        saved: Option<&[u8]>,
        now: fn() -> Timestamp,
    ) -> (Self, Link) {
        let host = config.host();
        let records = saved.map(Records::from_bytes).unwrap_or_default();
        let heard = Heard {
            fleet: Arc::new(Fleet::of(&records, &host, &baseline, now())),
            saved: Arc::new(saved.map(<[u8]>::to_vec).unwrap_or_default()),
        };
        let (tell, told) = watch::channel(Told::default());
        let (hear, heard) = watch::channel(heard);
        let (counting, counters) = watch::channel(Counters::default());
        let (stop, stopping) = watch::channel(false);
        let trouble = Trouble::default();
        let exchange = Exchange {
            config: config.clone(),
            baseline,
            now,
            host: host.clone(),
            told,
            hear,
            counting,
            trouble: trouble.clone(),
            records,
            sent: std::collections::HashMap::new(),
            due: None,
        };
        let task = tokio::spawn(exchange.run(stopping));
        (Self { stop, task, counters, trouble }, Link { host, tell, heard })
    }

    /// A handle to how it stands.
    #[must_use]
    pub fn description(&self) -> Description {
        Description { counters: self.counters.clone(), trouble: self.trouble.clone() }
    }

    /// Ends it, within `grace`.
    pub async fn stop(self, grace: Duration) {
        self.stop.send_replace(true);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(grace, self.task).await.is_err() {
            abort.abort();
        }
    }
}

/// How sharing stands, while it runs.
#[derive(Debug, Clone)]
pub struct Description {
    counters: watch::Receiver<Counters>,
    trouble: Trouble,
}

impl Description {
    /// Now.
    #[must_use]
    pub fn status(&self) -> Status {
        Status { counters: *self.counters.borrow(), trouble: self.trouble.now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_name_is_a_word_of_a_key() {
        let check = |name: &str, expected: &str| {
            assert_eq!(Config { name: name.into(), ..Config::default() }.host(), expected);
        };
        check("web-1", "web-1");
        check("Web-1.example.com", "web-1_example_com");
        check("a.*.>", "a____");
        check(&"x".repeat(100), &"x".repeat(64));
        assert!(!Config::default().host().is_empty());
    }

    #[test]
    fn what_cannot_work_is_refused() {
        assert!(Config::default().check().is_ok());
        for config in [
            Config { bucket: "a.b".into(), ..Config::default() },
            Config { bucket: String::new(), ..Config::default() },
            Config { max_bytes: 0, ..Config::default() },
            Config {
                server: ServerConfig { urls: vec!["nats://nats.example:4222".into()], ..ServerConfig::default() },
                ..Config::default()
            },
        ] {
            assert!(config.check().is_err(), "{config:?}");
        }
    }
}
