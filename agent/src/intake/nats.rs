//! The NATS receiver. In: the JetStream subjects of this host's own addresses. Out: batches of lines, each message
//! acknowledged once the journal has what it held.
//!
//! One durable consumer per host and address: the server remembers how far each was read, so nothing is lost over a
//! restart, and a host that was started a minute ago reads what was kept for its address before. Only lines sent to an
//! address of this host are asked for. It publishes nothing and never makes a subject up from what a line says.

mod bus;
mod subscription;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub(crate) use self::bus::jetstream;
pub use self::bus::{BusError, ServerConfig, StreamConfig, Trouble};
use self::subscription::Subscription;
pub(crate) use self::subscription::{ENCODING_HEADER, SOURCE_HEADER};
use super::Queue;
use crate::timestamp::Timestamp;

/// Messages unpacked at the same time, over all subjects: bounds memory outside the queue to so many times
/// [`MESSAGE_BYTES_MAX`].
const UNPACKING_MAX: usize = 4;

/// Time for what was taken to be kept when the agent stops; what is not, the server sends again.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// What is received from NATS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether to receive from NATS at all.
    pub enabled: bool,
    /// What the server remembers this host by; the host name when empty. Two hosts with one name and one address share
    /// that address's lines.
    pub name: String,
    /// Take the lines of every address that this host and its containers have.
    pub own_addresses: bool,
    /// Further addresses whose lines are taken.
    pub addresses: Vec<IpAddr>,
    /// Further subjects, in full: the one of lines without a target, for example.
    pub subjects: Vec<String>,
    /// Subjects at most; those beyond are not taken, and `status` says so.
    pub subjects_max: usize,
    /// The server.
    pub server: ServerConfig,
    /// The stream.
    pub stream: StreamConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            name: String::new(),
            own_addresses: true,
            addresses: Vec::new(),
            subjects: Vec::new(),
            subjects_max: 256,
            server: ServerConfig::default(),
            stream: StreamConfig::default(),
        }
    }
}

impl Config {
    /// Checks what can be checked without a server.
    ///
    /// # Errors
    ///
    /// The first key that cannot work.
    pub fn check(&self) -> Result<(), BusError> {
        self.server.check()?;
        self.stream.check()?;
        let inside =
            |subject: &String| subject.strip_prefix(&self.stream.subject).is_some_and(|rest| rest.starts_with('.'));
        match self.subjects.iter().find(|subject| !inside(subject)) {
            Some(subject) => Err(BusError::Config {
                key: "subjects",
                reason: format!("{subject} is not in the stream; it must begin with {}.", self.stream.subject),
            }),
            None => Ok(()),
        }
    }

    fn name(&self) -> String {
        let own = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        if self.name.is_empty() { own().unwrap_or_else(|| "host".into()) } else { self.name.clone() }
    }

    /// The subjects for a host with these addresses, and how many more there would be.
    fn wanted(&self, own: &[IpAddr]) -> (BTreeSet<String>, usize) {
        let own = own.iter().filter(|_| self.own_addresses).filter(|address| is_target(**address));
        let addresses = self.addresses.iter().chain(own).map(|address| self.stream.subject_of(*address));
        let mut wanted = BTreeSet::new();
        let mut refused = BTreeSet::new();
        for subject in self.subjects.iter().cloned().chain(addresses) {
            let room = wanted.len() < self.subjects_max || wanted.contains(&subject);
            if room {
                wanted.insert(subject)
            } else {
                refused.insert(subject)
            };
        }
        (wanted, refused.len())
    }
}

/// Whether a balancer elsewhere can have that address for a target.
fn is_target(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || link_local)
}

/// How the receiver stands, for `breachline status`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Status {
    /// Why nothing can be received at the moment.
    pub trouble: Option<String>,
}

/// The receiver.
pub(super) struct Receiver {
    config: Config,
    queue: Queue,
    now: fn() -> Timestamp,
    addresses: watch::Receiver<Vec<IpAddr>>,
    trouble: Trouble,
}

impl Receiver {
    pub(super) fn new(
        config: &Config,
        queue: Queue,
        now: fn() -> Timestamp,
        addresses: watch::Receiver<Vec<IpAddr>>,
    ) -> Self {
        Self { config: config.clone(), queue, now, addresses, trouble: Trouble::default() }
    }

    /// A handle to what is wrong, good while [`Receiver::run`] is under way.
    pub(super) fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// Receives until `stop` turns true or its sender is gone. A subject is taken up when this host gets an address and
    /// let go when it loses it.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let name = self.config.name();
        let client = match self.config.server.connect(&format!("breachline {name}"), &self.trouble).await {
            Ok(client) => client,
            Err(error) => return self.trouble.note(error.to_string()),
        };
        let shared = Arc::new(subscription::Shared {
            stream: self.config.stream.clone(),
            host: name,
            client,
            queue: self.queue.clone(),
            now: self.now,
            trouble: self.trouble.clone(),
            unpacking: Semaphore::new(UNPACKING_MAX),
        });
        let (mut tasks, mut stops) = (JoinSet::new(), BTreeMap::new());
        loop {
            let (wanted, refused) = self.config.wanted(&self.addresses.borrow_and_update());
            if refused > 0 {
                tracing::warn!(
                    refused,
                    "more addresses than intake.nats.subjects_max; the lines of some are not taken"
                );
            }
            stops.retain(|subject, _: &mut watch::Sender<bool>| wanted.contains(subject));
            for subject in wanted {
                stops.entry(subject.clone()).or_insert_with(|| {
                    let own_stop = watch::Sender::new(false);
                    let subscription = Subscription::new(Arc::clone(&shared), subject);
                    tasks.spawn(subscription.run(own_stop.subscribe()));
                    own_stop
                });
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                changed = self.addresses.changed() => if changed.is_err() { break },
                Some(_) = tasks.join_next() => {}
            }
        }
        drop(stops); // a sender gone is a stop
        let finished = async { while tasks.join_next().await.is_some() {} };
        drop(timeout(STOP_WAIT, finished).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_subjects_are_wanted_and_no_more_than_the_bound() {
        let config = Config {
            addresses: vec![[192, 0, 2, 1].into()],
            subjects: vec!["breachline.edge.any".into()],
            subjects_max: 3,
            ..Config::default()
        };
        assert!(config.check().is_ok());
        let own: Vec<IpAddr> = ["127.0.0.1", "169.254.1.1", "fe80::1", "10.0.0.5", "10.0.0.6", "::1"]
            .map(|text| text.parse().expect("an address"))
            .to_vec();
        let (wanted, refused) = config.wanted(&own);
        let expected = ["breachline.edge.10-0-0-5", "breachline.edge.192-0-2-1", "breachline.edge.any"];
        assert_eq!(wanted.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        assert_eq!(refused, 1);
        let (wanted, _) = Config { own_addresses: false, ..config }.wanted(&own);
        assert_eq!(wanted.len(), 2);
    }

    #[test]
    fn a_subject_outside_the_stream_is_refused() {
        let config = Config { subjects: vec!["breachline.edgewise".into()], ..Config::default() };
        assert!(config.check().expect_err("refused").to_string().contains("must begin with breachline.edge."));
    }
}
