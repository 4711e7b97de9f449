//! Which destination a line goes to. In: a target address. Out: the subject or URL of the agent that owns it.
//!
//! Nothing is asked of the network: the address is in the subject's name, or a table of networks leads to a URL.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::Semaphore;

use super::ForwardError;
use super::config::Config;
use crate::intake::nats::StreamConfig;

/// Addresses whose destination is remembered; with more the memory begins anew. A fleet has thousands, a hostile log may
/// name millions.
const KNOWN_MAX: usize = 65_536;

/// Batches under way to one destination at the same time.
const SLOTS: usize = 4;

/// One agent's door.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) id: u32,
    /// Subject or URL.
    pub(super) name: String,
    /// Number of the route, for its credentials.
    pub(super) route: usize,
    pub(super) slots: Semaphore,
    failing: Mutex<Option<Failing>>,
}

/// Since when, and why, a destination takes nothing.
#[derive(Debug, Clone)]
struct Failing {
    since: Instant,
    tried: Instant,
    reason: String,
}

impl Destination {
    fn new(id: u32, name: String, route: usize) -> Arc<Self> {
        Arc::new(Self { id, name, route, slots: Semaphore::new(SLOTS), failing: Mutex::default() })
    }

    /// It took a batch.
    pub(super) fn took(&self) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// It did not; says for how long it has taken nothing.
    pub(super) fn failed(&self, reason: &str) -> Duration {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = failing.get_or_insert_with(|| {
            tracing::warn!(destination = self.name, reason, "a destination does not take lines");
            Failing { since: Instant::now(), tried: Instant::now(), reason: String::new() }
        });
        failing.tried = Instant::now();
        failing.reason.clear();
        failing.reason.push_str(reason);
        failing.since.elapsed()
    }

    /// Whether a batch may be tried: one that was given up is asked again only every `probe`, and what else comes for it
    /// is dropped at once, or it would fill the memory that the others need.
    pub(super) fn may_try(&self, give_up_after: Duration, probe: Duration) -> bool {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failing) = failing.as_mut().filter(|failing| failing.since.elapsed() >= give_up_after) else {
            return true;
        };
        let due = failing.tried.elapsed() >= probe;
        if due {
            failing.tried = Instant::now();
        }
        due
    }

    /// A sentence, while it takes nothing.
    pub(super) fn trouble(&self) -> Option<String> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(format!("{}: nothing taken for {} s: {}", self.name, failing.since.elapsed().as_secs(), failing.reason))
    }
}

/// Finds destinations.
#[derive(Debug)]
pub(super) struct Router {
    plan: Plan,
    by_target: HashMap<(u32, Option<IpAddr>), Option<Arc<Destination>>>,
    by_name: HashMap<String, Arc<Destination>>,
    next_id: u32,
}

#[derive(Debug)]
enum Plan {
    Nats { stream: StreamConfig, without_target: String },
    Http { networks: Vec<(IpNet, usize)>, without_target: Option<usize>, urls: Vec<String> },
}

impl Router {
    /// # Errors
    ///
    /// A target that is no address or network.
    pub(super) fn new(config: &Config) -> Result<Self, ForwardError> {
        let plan = if config.nats.enabled {
            Plan::Nats { stream: config.nats.stream.clone(), without_target: config.nats.without_target.clone() }
        } else {
            let mut networks = Vec::new();
            for (index, route) in config.routes.iter().enumerate() {
                networks.extend(route.networks()?.into_iter().map(|network| (network, index)));
            }
            let without_target = config.routes.iter().position(|route| route.without_target);
            Plan::Http { networks, without_target, urls: config.routes.iter().map(|route| route.url.clone()).collect() }
        };
        Ok(Self { plan, by_target: HashMap::new(), by_name: HashMap::new(), next_id: 0 })
    }

    /// Where a line of the source `name` for `target` goes; `None` when no route fits.
    pub(super) fn find(&mut self, name_id: u32, name: &str, target: Option<IpAddr>) -> Option<&Arc<Destination>> {
        let key = (name_id, target);
        if !self.by_target.contains_key(&key) {
            if self.by_target.len() >= KNOWN_MAX {
                self.by_target.clear();
                self.by_name.clear();
            }
            let found = self.plan.resolve(name, target).map(|(name, route)| self.destination(name, route));
            self.by_target.insert(key, found);
        }
        self.by_target.get(&key)?.as_ref()
    }

    fn destination(&mut self, name: String, route: usize) -> Arc<Destination> {
        let Self { by_name, next_id, .. } = self;
        let new = |name: &String| {
            *next_id = next_id.wrapping_add(1);
            Destination::new(*next_id, name.clone(), route)
        };
        Arc::clone(by_name.entry(name).or_insert_with_key(new))
    }

    /// What the destinations wait for, at most `max` sentences, sorted.
    pub(super) fn troubles(&self, max: usize) -> Vec<String> {
        let mut troubles: Vec<String> = self.by_name.values().filter_map(|destination| destination.trouble()).collect();
        troubles.sort();
        troubles.truncate(max);
        troubles
    }
}

impl Plan {
    fn resolve(&self, source: &str, target: Option<IpAddr>) -> Option<(String, usize)> {
        match (self, target.map(|address| address.to_canonical())) {
            (Self::Nats { stream, .. }, Some(address)) => Some((stream.subject_of(address), 0)),
            (Self::Nats { stream, without_target }, None) => {
                (!without_target.is_empty()).then(|| (format!("{}.{without_target}", stream.subject), 0))
            }
            (Self::Http { networks, urls, .. }, Some(address)) => {
                let fitting = networks.iter().filter(|(network, _)| network.contains(&address));
                // Of equals the first: the order of the config.
                let (_, route) = fitting.rev().max_by_key(|(network, _)| network.prefix_len())?;
                let host = match address {
                    IpAddr::V4(address) => address.to_string(),
                    IpAddr::V6(address) => format!("[{address}]"),
                };
                Some((urls.get(*route)?.replace("{target}", &host).replace("{source}", source), *route))
            }
            (Self::Http { without_target, urls, .. }, None) => {
                let route = (*without_target)?;
                let url = urls.get(route).filter(|url| !url.contains("{target}"))?;
                Some((url.replace("{source}", source), route))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &str, target: &str, expected: &str) {
        let config: Config = toml::from_str(config).expect("reads");
        let mut router = Router::new(&config).expect("a router");
        let target = (!target.is_empty()).then(|| target.parse().expect("an address"));
        let found = router.find(0, "web", target).map_or("", |destination| destination.name.as_str()).to_owned();
        assert_eq!(found, expected, "{target:?}");
    }

    #[test]
    fn a_subject_per_target() {
        let with = "[nats]\nenabled = true\nwithout_target = \"any\"";
        check(with, "10.1.2.3", "breachline.edge.10-1-2-3");
        check(with, "fd00::1", "breachline.edge.fd00--1");
        check(with, "", "breachline.edge.any");
        check("[nats]\nenabled = true", "", "");
    }

    #[test]
    fn the_longest_prefix_wins_and_a_url_may_name_the_target() {
        let routes = r#"
            [[routes]]
            targets = ["10.0.0.0/8", "fd00::/8"]
            url = "https://{target}:8514/{source}"
            [[routes]]
            targets = ["10.1.0.0/16"]
            url = "https://one/"
            [[routes]]
            targets = ["10.1.2.3"]
            url = "https://two/"
            without_target = true
            [[routes]]
            targets = ["10.1.0.0/16"]
            url = "https://never/"
        "#;
        check(routes, "10.9.9.9", "https://10.9.9.9:8514/web");
        check(routes, "::ffff:10.9.9.9", "https://10.9.9.9:8514/web");
        check(routes, "fd00::1", "https://[fd00::1]:8514/web");
        check(routes, "10.1.9.9", "https://one/");
        check(routes, "10.1.2.3", "https://two/");
        check(routes, "192.0.2.1", "");
        check(routes, "", "https://two/");
    }

    #[test]
    fn one_that_was_given_up_is_asked_now_and_then() {
        let (hour, zero) = (Duration::from_secs(3600), Duration::ZERO);
        let destination = Destination::new(1, "https://h/".into(), 0);
        assert!(destination.may_try(zero, hour), "nothing is known against it");
        destination.failed("no route");
        assert!(destination.may_try(hour, hour), "not given up yet");
        assert!(!destination.may_try(zero, hour), "given up, and asked just now");
        assert!(destination.may_try(zero, zero), "given up, and asked long ago");
        assert!(destination.trouble().is_some_and(|trouble| trouble.contains("no route")));
        destination.took();
        assert!(destination.may_try(zero, hour) && destination.trouble().is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_one_name_is_one_destination() {
        let config: Config =
            toml::from_str("[[routes]]\ntargets = [\"0.0.0.0/0\"]\nurl = \"https://h/\"").expect("reads");
        let mut router = Router::new(&config).expect("a router");
        for number in 0..u32::try_from(KNOWN_MAX).expect("small") + 10 {
            let target = Some(IpAddr::V4(number.into()));
            assert_eq!(router.find(0, "", target).map(|found| found.name.as_str()), Some("https://h/"));
            assert!(router.by_target.len() <= KNOWN_MAX && router.by_name.len() == 1);
        }
    }
}
