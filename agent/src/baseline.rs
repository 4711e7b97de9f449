//! What is normal here: the external peers, metadata callers and shells of each workload, learned from event time.
//!
//! The host judge asks and tells in one call; the answer is the [`Novelty`] of what happened. Pure: [`Baseline::to_bytes`]
//! and [`Baseline::from_bytes`] carry it to a store and to other hosts. What an intruder does must not become normal: habits
//! acquired after the learning time settle before they count, only so many are taken in a day, and an incident freezes its
//! workload and takes back what was learned since it began.

mod cadence;
mod profile;
pub mod shared;
mod template;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{MetadataPath, ProcessKey, Protocol};
use crate::evidence::{Novelty, Prevalence};
use crate::metadata::canonical;
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;
use cadence::Pace;
use profile::{Kind, Profile, Registration};
use shared::Fleet;
pub(crate) use template::template;

/// Version of the serialised form.
const FORMAT_VERSION: u32 = 1;

/// Prefixes that stand for a peer without a name: providers move services about within them.
const PREFIX_V4: u8 = 24;
const PREFIX_V6: u8 = 48;

/// Pruning looks at every habit: some hundred thousand on a large host, whose age counts in days.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// At the bound, one in so many workloads goes at once.
const EVICTION_SHARE: usize = 64;

/// A program asks for its credential when it starts; after this long what it asks for is a refresh.
const JUST_STARTED: Duration = Duration::from_secs(60);

/// How long things take to become normal, and how much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// From a workload's first sight, everything it does is taken for normal for this long.
    #[serde(with = "crate::config::duration")]
    pub learn_for: Duration,
    /// What a workload takes up later counts as normal after this long.
    #[serde(with = "crate::config::duration")]
    pub settle_after: Duration,
    /// What was not seen for this long is forgotten.
    #[serde(with = "crate::config::duration")]
    pub forget_after: Duration,
    /// New habits taken in a day after the learning time, per workload: against slow poisoning.
    pub additions_per_day: u32,
    /// Workloads kept; the one unseen for longest goes first.
    pub max_workloads: usize,
    /// External peers kept per workload.
    pub max_peers: usize,
    /// Metadata callers kept per workload.
    pub max_callers: usize,
    /// Shapes of shells and their like kept per workload.
    pub max_shells: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            learn_for: Duration::from_secs(24 * 3600),
            settle_after: Duration::from_secs(24 * 3600),
            forget_after: Duration::from_secs(30 * 24 * 3600),
            additions_per_day: 64,
            max_workloads: 16_384,
            max_peers: 4096,
            max_callers: 256,
            max_shells: 1024,
        }
    }
}

impl Config {
    const fn max_habits(&self, kind: Kind) -> usize {
        match kind {
            Kind::Peer => self.max_peers,
            Kind::Caller => self.max_callers,
            Kind::Shell => self.max_shells,
        }
    }
}

/// Why a stored or imported baseline cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// Not the serialised form.
    #[error("baseline is damaged; export it again or start without it")]
    Damaged(#[source] serde_json::Error),
    /// Written by another version.
    #[error(
        "baseline has format {found}, this agent reads {FORMAT_VERSION}; export it with the same version of the agent"
    )]
    Version {
        /// The format found.
        found: u32,
    },
}

/// What the baseline did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Habits not taken in: the day's or the learning time's bound was reached, or the workload is frozen.
    pub refused: u64,
    /// Habits dropped for newer ones.
    pub evicted: u64,
    /// Workloads dropped because the bound was reached.
    pub workloads_evicted: u64,
}

/// Whether what happened may become normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learn {
    /// As anything else.
    Yes,
    /// Never: a reverse shell does not become normal by happening twice.
    Never,
}

/// A call of a metadata endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Call<'c> {
    /// The program.
    pub exe_path: &'c str,
    /// The endpoint's name, whichever of its addresses was used.
    pub service: &'c str,
    /// What was asked for.
    pub path: MetadataPath,
    /// The role named.
    pub role: Option<&'c str>,
    /// Who asked.
    pub process: Option<ProcessKey>,
    /// When the program was started, where that is known.
    pub started: Option<Timestamp>,
    /// Whether a session token was sent with it; `None` where the request was not seen.
    pub token: Option<bool>,
}

/// How a call compares with the calls that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Like them, and so would be one that somebody had forged.
    Alike,
    /// As only the caller's own library does it: when it was due, or with what a forged request cannot hold.
    OwnAccord,
    /// It asked for another role.
    Role,
    /// It sent no session token, as its library does: a request that somebody had forged cannot hold one.
    Bare,
    /// It asked much sooner than it does.
    Early {
        /// After the time before.
        gap: Duration,
        /// The shortest such time that was ordinary.
        shortest: Duration,
    },
}

/// The habits of all workloads.
#[derive(Debug)]
pub struct Baseline {
    config: Config,
    profiles: HashMap<WorkloadKey, Profile>,
    /// What other hosts know. Not part of what is saved and told: their word can be taken back.
    fleet: Arc<Fleet>,
    pruned: Timestamp,
    counters: Counters,
}

/// The serialised form: sorted, so that the same habits give the same bytes.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    profiles: std::collections::BTreeMap<WorkloadKey, Profile>,
}

impl Baseline {
    /// A baseline that knows nothing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            profiles: HashMap::new(),
            fleet: Arc::default(),
            pruned: Timestamp::MIN,
            counters: Counters::default(),
        }
    }

    /// A workload was seen: its learning time begins with the first such call.
    pub fn touch(&mut self, workload: &WorkloadKey, at: Timestamp) {
        self.profile(workload, at);
    }

    /// The workload contacted an external peer. `name` is what it looked up for the address, where that was seen.
    pub fn peer(
        &mut self,
        workload: &WorkloadKey,
        peer: SocketAddr,
        protocol: Protocol,
        name: Option<&str>,
        at: Timestamp,
    ) -> Novelty {
        let novelty = self.habit(workload, Kind::Peer, &peer_name(peer, protocol, name), Learn::Yes, at);
        if name.is_some() {
            // A name is not always seen (a restart of the agent, an address kept by the program): then its network counts.
            self.habit(workload, Kind::Peer, &peer_name(peer, protocol, None), Learn::Yes, at);
        }
        novelty
    }

    /// How many other hosts contact this peer, where hosts share what is normal.
    #[must_use]
    pub fn prevalence(
        &self,
        workload: &WorkloadKey,
        peer: SocketAddr,
        protocol: Protocol,
        name: Option<&str>,
    ) -> Option<Prevalence> {
        self.fleet.prevalence(workload, &peer_name(peer, protocol, name))
    }

    /// What other hosts know, from now on. A workload that they know is not learned anew here.
    pub fn set_fleet(&mut self, fleet: Arc<Fleet>) {
        for (workload, profile) in &mut self.profiles {
            profile.known_since(fleet.known_since(workload));
        }
        self.fleet = fleet;
    }

    /// Whether the workload has contacted a peer like this before; nothing is learned from the question.
    pub fn peer_novelty(
        &mut self,
        workload: &WorkloadKey,
        peer: SocketAddr,
        protocol: Protocol,
        at: Timestamp,
    ) -> Novelty {
        self.habit(workload, Kind::Peer, &peer_name(peer, protocol, None), Learn::Never, at)
    }

    /// A program of the workload made a socket of this kind, on which packets are written by hand.
    pub fn raw_socket(&mut self, workload: &WorkloadKey, exe_path: &str, what: &str, at: Timestamp) -> Novelty {
        self.habit(workload, Kind::Caller, &format!("{exe_path} {what}"), Learn::Yes, at)
    }

    /// A program of the workload called a metadata endpoint. Known is what it asks as a rule: which kind of path, which role, and
    /// as often; the manner says which of these it was not.
    pub fn caller(
        &mut self,
        workload: &WorkloadKey,
        call: &Call<'_>,
        learn: Learn,
        at: Timestamp,
    ) -> (Novelty, Manner) {
        let name = format!("{} {} {:?}", call.exe_path, call.service, call.path);
        let credential = call.path == MetadataPath::Credential;
        let pace = self.pace(workload, call, &name, learn, at);
        let usual = self.habit(workload, Kind::Caller, &name, learn, at);
        // A forged call must not make the library's own next one look early.
        if learn == Learn::Yes && !matches!(pace, Pace::Early { .. }) {
            self.profile(workload, at).note_call(Kind::Caller, &name, call.process.unwrap_or_default(), at);
        }
        if usual != Novelty::Known {
            return (usual, Manner::Alike);
        }
        if let Some(role) = call.role.filter(|_| credential) {
            let prefix = format!("{name} as ");
            let name = format!("{prefix}{role}");
            let novelty = self.habit(workload, Kind::Caller, &name, learn, at);
            // The only role that was ever seen is the one that was asked for all along.
            if novelty != Novelty::Known && self.profile(workload, at).has_another(Kind::Caller, &prefix, &name) {
                return (novelty, Manner::Role);
            }
        }
        let bare = self.bare(workload, call, &name, learn, at);
        if bare != Novelty::Known {
            return (bare, Manner::Bare);
        }
        // Opening a session takes another method and a header, as holding one does.
        let held = call.token == Some(true) || call.path == MetadataPath::Session;
        if let Pace::Early { gap, shortest } = pace {
            let novelty = self.habit(workload, Kind::Caller, &off_cadence(&name), learn, at);
            // Instance facts are asked for whenever somebody wants them.
            return if credential {
                (novelty, Manner::Early { gap, shortest })
            } else {
                (Novelty::Known, Manner::Alike)
            };
        }
        let own = learn == Learn::Yes && (held || pace == Pace::Due);
        (Novelty::Known, if own { Manner::OwnAccord } else { Manner::Alike })
    }

    /// How a call fits the times at which it comes. Who is still being learned, or was off the cadence for days, has another one.
    fn pace(&mut self, workload: &WorkloadKey, call: &Call<'_>, name: &str, learn: Learn, at: Timestamp) -> Pace {
        // A program that was just started asks at once, whenever the one before it did.
        let fresh = call.started.is_some_and(|started| at.since(started) < JUST_STARTED);
        if fresh || learn == Learn::Never {
            return Pace::Unknown;
        }
        let pace = self.profile(workload, at).pace(Kind::Caller, name, call.process.unwrap_or_default(), at);
        let early = matches!(pace, Pace::Early { .. });
        let moved = early
            && (self.is_learning(workload, at)
                || self.habit(workload, Kind::Caller, &off_cadence(name), Learn::Never, at) == Novelty::Known);
        if moved { Pace::Unknown } else { pace }
    }

    /// How new it is that this call, otherwise known by `name`, came without a session token: nothing new where it always did.
    fn bare(&mut self, workload: &WorkloadKey, call: &Call<'_>, name: &str, learn: Learn, at: Timestamp) -> Novelty {
        let with = format!("{name} with a session token");
        match call.token.filter(|_| call.path != MetadataPath::Session) {
            None => Novelty::Known,
            Some(true) => {
                self.habit(workload, Kind::Caller, &with, learn, at);
                Novelty::Known
            }
            Some(false) => {
                let without = format!("{name} without a session token");
                let novelty = self.habit(workload, Kind::Caller, &without, learn, at);
                let sends_one = self.habit(workload, Kind::Caller, &with, Learn::Never, at) == Novelty::Known;
                if sends_one { novelty } else { Novelty::Known }
            }
        }
    }

    /// The workload's program `parent` started `child` with this command line.
    pub fn shell(
        &mut self,
        workload: &WorkloadKey,
        parent: &str,
        child: &str,
        command_line: &str,
        learn: Learn,
        at: Timestamp,
    ) -> Novelty {
        let shape = template(command_line);
        let name = format!("{parent} > {child}: {shape}");
        let Some(loose) = template::without_places(&shape) else {
            return self.habit(workload, Kind::Shell, &name, learn, at);
        };
        // A service that runs it on whatever address its users name: seen with a few, the next is nothing new.
        let loose = format!("{parent} > {child}: {loose}");
        let as_usual = self.habit(workload, Kind::Shell, &loose, learn, at);
        let profile = self.profile(workload, at);
        let varies = profile.varies(Kind::Shell, &loose);
        if learn == Learn::Yes {
            profile.note_variant(Kind::Shell, &loose, template::digest(&name));
        }
        if as_usual == Novelty::Known && varies {
            as_usual
        } else {
            self.habit(workload, Kind::Shell, &name, learn, at)
        }
    }

    /// Whether contacting peers that it never contacted before is this workload's business, so that one more says nothing:
    /// crawlers, senders of webhooks.
    #[must_use]
    pub fn reaches_anyone(&self, workload: &WorkloadKey, at: Timestamp) -> bool {
        self.profiles.get(workload).is_some_and(|profile| profile.reaches_anyone(at))
    }

    /// Whether the workload is still being learned; `true` for one never seen.
    #[must_use]
    pub fn is_learning(&self, workload: &WorkloadKey, at: Timestamp) -> bool {
        self.profiles.get(workload).is_none_or(|profile| profile.is_learning(&self.config, at))
    }

    /// An incident is open on the workload and began at `since`: what was learned from then on is taken back, and nothing is
    /// learned until [`Baseline::thaw`].
    pub fn freeze(&mut self, workload: &WorkloadKey, since: Timestamp) {
        if let Some(profile) = self.profiles.get_mut(workload) {
            profile.frozen = true;
            profile.unlearn(since);
        }
    }

    /// The incident is over.
    pub fn thaw(&mut self, workload: &WorkloadKey) {
        if let Some(profile) = self.profiles.get_mut(workload) {
            profile.frozen = false;
        }
    }

    /// Drops what has been forgotten, at most once an hour of event time; may be called as often as one likes.
    pub fn prune(&mut self, at: Timestamp) {
        if at.since(self.pruned) < PRUNE_EVERY {
            return;
        }
        self.pruned = at;
        for profile in self.profiles.values_mut() {
            profile.prune(&self.config, at);
        }
        let forget_after = self.config.forget_after;
        self.profiles.retain(|_, profile| at.since(profile.last_seen) < forget_after);
    }

    /// Takes over what another host learned. Its learning time counts here too.
    pub fn import(&mut self, other: &Self) {
        let mut theirs: Vec<_> = other.profiles.iter().collect();
        theirs.sort_unstable_by_key(|(workload, _)| (*workload).clone());
        for (workload, profile) in theirs {
            let at = profile.last_seen;
            let config = self.config;
            self.profile(workload, at).merge(&config, profile);
        }
    }

    /// How long things take here, and how much is kept.
    #[must_use]
    pub const fn config(&self) -> Config {
        self.config
    }

    /// A baseline of one workload alone.
    #[must_use]
    pub fn of(&self, workload: &WorkloadKey) -> Option<Self> {
        let profile = self.profiles.get(workload)?.clone();
        Some(Self { profiles: HashMap::from([(workload.clone(), profile)]), ..Self::new(self.config) })
    }

    /// Forgets a workload: it is learned anew from its next event on. Whether it was known.
    pub fn forget(&mut self, workload: &WorkloadKey) -> bool {
        self.profiles.remove(workload).is_some()
    }

    /// Lets `to` start with the habits and the learning time of `from`: the same service under another name. Whether `from` was
    /// known.
    pub fn inherit(&mut self, from: &WorkloadKey, to: &WorkloadKey) -> bool {
        let Some(profile) = self.profiles.get(from).cloned() else { return false };
        let (config, at) = (self.config, profile.last_seen);
        self.profile(to, at).merge(&config, &profile);
        true
    }

    /// The serialised form. The same habits give the same bytes.
    ///
    /// # Errors
    ///
    /// None that can happen with the types at hand; the serializer's own is passed on.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BaselineError> {
        let profiles = self.profiles.iter().map(|(workload, profile)| (workload.clone(), profile.clone())).collect();
        serde_json::to_vec(&Stored { version: FORMAT_VERSION, profiles }).map_err(BaselineError::Damaged)
    }

    /// Reads the serialised form; of more than the bounds allow, what was seen last is kept.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged or another version's.
    pub fn from_bytes(config: Config, bytes: &[u8]) -> Result<Self, BaselineError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(BaselineError::Damaged)?;
        if head.version != FORMAT_VERSION {
            return Err(BaselineError::Version { found: head.version });
        }
        let stored: Stored = serde_json::from_slice(bytes).map_err(BaselineError::Damaged)?;
        let mut profiles: Vec<_> = stored.profiles.into_iter().collect();
        profiles.sort_by_key(|(_, profile)| std::cmp::Reverse(profile.last_seen));
        profiles.truncate(config.max_workloads);
        for (_, profile) in &mut profiles {
            profile.shrink(&config);
        }
        Ok(Self { profiles: profiles.into_iter().collect(), ..Self::new(config) })
    }

    /// Workloads known, sorted.
    #[must_use]
    pub fn workloads(&self) -> Vec<&WorkloadKey> {
        let mut workloads: Vec<_> = self.profiles.keys().collect();
        workloads.sort_unstable();
        workloads
    }

    /// What a workload is known to do, for people: its peers, metadata callers and shells, each sorted.
    #[must_use]
    pub fn habits(&self, workload: &WorkloadKey) -> [Vec<&str>; 3] {
        [Kind::Peer, Kind::Caller, Kind::Shell]
            .map(|kind| self.profiles.get(workload).map(|profile| profile.names(kind).collect()).unwrap_or_default())
    }

    /// Since when and until when a workload was seen, and whether an incident keeps it from being learned.
    #[must_use]
    pub fn span(&self, workload: &WorkloadKey) -> Option<(Timestamp, Timestamp, bool)> {
        self.profiles.get(workload).map(|profile| (profile.first_seen, profile.last_seen, profile.frozen))
    }

    /// What the baseline did.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    fn habit(&mut self, workload: &WorkloadKey, kind: Kind, name: &str, learn: Learn, at: Timestamp) -> Novelty {
        let config = self.config;
        let vouched = self.fleet.vouches(workload, kind, name);
        let profile = self.profile(workload, at);
        let novelty = if vouched { Novelty::Known } else { profile.novelty(&config, kind, name, at) };
        if learn == Learn::Yes {
            match profile.register(&config, kind, name, at) {
                Registration::Kept => {}
                Registration::KeptForAnother => self.counters.evicted += 1,
                Registration::Refused => self.counters.refused += 1,
            }
        }
        novelty
    }

    fn profile(&mut self, workload: &WorkloadKey, at: Timestamp) -> &mut Profile {
        if self.profiles.len() >= self.config.max_workloads.max(1) && !self.profiles.contains_key(workload) {
            self.evict_workloads();
        }
        let fleet = &self.fleet;
        let profile = self.profiles.entry(workload.clone()).or_insert_with(|| {
            let mut profile = Profile::new(at);
            profile.known_since(fleet.known_since(workload));
            profile
        });
        profile.touch(at);
        profile
    }

    /// Drops those unseen for longest, one in so many at once: finding them is a look at all of them.
    fn evict_workloads(&mut self) {
        let mut seen: Vec<_> = self.profiles.iter().map(|(key, profile)| (profile.last_seen, key.clone())).collect();
        let count = (self.config.max_workloads / EVICTION_SHARE).clamp(1, seen.len().max(1));
        if count < seen.len() {
            seen.select_nth_unstable(count);
        }
        for (_, oldest) in seen.into_iter().take(count) {
            self.profiles.remove(&oldest);
            self.counters.workloads_evicted += 1;
        }
    }
}

/// The habit of a call that comes sooner than it did.
fn off_cadence(name: &str) -> String {
    format!("{name} off its cadence")
}

/// A peer by the registrable part of its name, else by its prefix; with port and protocol.
pub(crate) fn peer_name(peer: SocketAddr, protocol: Protocol, name: Option<&str>) -> String {
    let host = match name.map(|name| name.trim_end_matches('.').to_ascii_lowercase()) {
        Some(name) => psl::domain_str(&name).map_or(name.clone(), str::to_owned),
        None => prefix(peer.ip()),
    };
    let protocol = match protocol {
        Protocol::Tcp => "tcp".to_owned(),
        Protocol::Udp => "udp".to_owned(),
        Protocol::Other(number) => number.to_string(),
    };
    format!("{host} {}/{protocol}", peer.port())
}

fn prefix(address: IpAddr) -> String {
    let address = canonical(address);
    let length = if address.is_ipv4() { PREFIX_V4 } else { PREFIX_V6 };
    ipnet::IpNet::new(address, length).map_or_else(|_| address.to_string(), |net| net.trunc().to_string())
}

#[cfg(test)]
mod tests;
