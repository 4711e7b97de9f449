//! How one request and one observation are tied: in space (join), in time (timing), by what reappears (echo), and how much all
//! of that weighs against chance.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::evidence::RouteBasis;
use crate::incident::{Echo, Join, Timing};
use crate::metadata::canonical;
use crate::request::{Indicator, Target};
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

use super::Config;
use super::chance::{Rates, Specificity};
use super::kept::{Answer, Kept};
use super::observation::Observation;
use super::score::only_names;

/// Weight of a distinctive echo, nats: three thousand to one. Decisive beside any single host finding.
const ECHO: f64 = 8.0;
/// Weight of a common word that reappears while its request is in flight.
const COMMON_ECHO: f64 = 1.5;
/// Most that a request to another workload of the host weighs without an echo: never enough beside one odd shell.
const ELSEWHERE: f64 = 1.5;
/// Shortest window that chance is taken over: balancers log whole milliseconds at worst.
const LEAST_WINDOW: Duration = Duration::from_millis(1);

/// A request tied to an observation.
#[derive(Clone, Debug)]
pub(super) struct Tie {
    pub(super) join: Join,
    pub(super) timing: Timing,
    pub(super) echoes: Vec<Echo>,
    /// Log-likelihood ratio without floor or cap: orders candidates.
    pub(super) rank: f64,
    /// The part of it that counts as evidence, never negative.
    pub(super) weight: f64,
}

impl Tie {
    /// Whether something distinctive reappeared.
    pub(super) fn decisive(&self) -> bool {
        self.echoes.iter().any(|echo| echo.distinctive)
    }
}

/// What ties are weighed against.
#[derive(Copy, Clone)]
pub(super) struct Scales<'s> {
    pub(super) config: &'s Config,
    /// The workload whose chain is looked at.
    pub(super) workload: &'s WorkloadKey,
    /// Rates of requests to that workload.
    pub(super) rates: &'s Rates,
    /// Rates of requests to anything on this host.
    pub(super) host_rates: &'s Rates,
}

impl Scales<'_> {
    /// Ties `kept` to `observation`, if anything does: a request that is neither in flight nor exploit-like, nor near, nor echoed
    /// is no candidate.
    pub(super) fn tie(&self, kept: &Kept, observation: &Observation) -> Option<Tie> {
        let timing = self.timing(kept, observation.at())?;
        let before = observation.at().since(kept.request.received);
        if timing == Timing::Distant && (kept.keys().is_empty() || before > self.config.lateness) {
            return None;
        }
        let join = self.join(kept, observation, timing);
        // What reached another workload matters to this one only at once, as what a front server passes on does.
        if join == Join::SameHost && matches!(timing, Timing::Loose | Timing::Distant) {
            return None;
        }
        let mut echoes = observation.echoes_of(kept);
        echoes.retain(|echo| (timing.pinned() || echo.distinctive) && !names_itself(kept, echo));
        if !timing.pinned() && only_names(kept) && by_another_program(observation) {
            // Users name things at one place all day: a program started on another of them is not this request's doing.
            echoes.retain(|echo| !matches!(echo.indicator, Indicator::Address(_) | Indicator::Host(_)));
        }
        let decisive = echoes.iter().any(|echo| echo.distinctive);
        let near = match (join, timing) {
            (_, Timing::Distant) => false,
            (Join::SameHost, _) => timing.pinned(),
            _ => timing.pinned() || kept.specificity() > Specificity::Ordinary,
        };
        (near || decisive).then(|| self.weigh(kept, join, timing, echoes))
    }

    /// When the request was, seen from `at`; `None` when it came after.
    pub(super) fn timing(&self, kept: &Kept, at: Timestamp) -> Option<Timing> {
        let (received, completed) = (kept.request.received, kept.request.completed.max(kept.request.received));
        let Config { skew, tight, loose, .. } = *self.config;
        if at < received.minus(skew) {
            return None;
        }
        Some(match at.since(completed) {
            _ if received <= at && at <= completed => Timing::InFlight,
            after if after <= skew => Timing::Skewed,
            after if after <= tight => Timing::Tight,
            after if after <= loose => Timing::Loose,
            _ => Timing::Distant,
        })
    }

    fn join(&self, kept: &Kept, observation: &Observation, timing: Timing) -> Join {
        let place = observation.place();
        let routed = &kept.routed;
        let owner = routed.owner.filter(|_| routed.basis == RouteBasis::Listener);
        let behind = |owner| place.descends_from(owner) || place.service.as_ref().is_some_and(|s| s.process == owner);
        let same_instance = routed.basis == RouteBasis::Route || routed.cgroup == place.workload.cgroup;
        // A connection is used again: only what is in flight on it is meant.
        if timing.pinned() && came_over_served(kept, observation) {
            Join::Connection
        } else if owner.is_some_and(behind) {
            Join::Descendant
        } else if routed.workload == *self.workload && same_instance && routed.basis != RouteBasis::Address {
            Join::SameWorkload
        } else {
            Join::SameHost
        }
    }

    fn weigh(&self, kept: &Kept, join: Join, timing: Timing, echoes: Vec<Echo>) -> Tie {
        let rates = if join == Join::SameHost { self.host_rates } else { self.rates };
        let (at, width) = (kept.request.received, self.window(kept, timing));
        let chance = rates.chance(at, kept.kind(), width);
        // Another class would have had to say what reappears: a flood of one kind does not hide what another kind names.
        let of_any = if echoes.is_empty() { rates.chance_of_any(at, kept.kind(), width) } else { chance };
        let answer = Answer::of(kept.request.target_status);
        let answer = if kept.verdict.is_some() { answer.breach_nats() } else { answer.ordinary_nats() };
        let spike = kept.spike.map_or(0.0, |spike| (-spike.tail_probability.max(1e-9).ln() * 0.15).clamp(0.0, 2.0));
        let fits = kept.specificity().breach_nats() + timing_nats(timing) + join_nats(join) + answer + spike;
        let against = |chance: f64| fits - chance.max(f64::MIN_POSITIVE).ln();
        let echo = match echoes.iter().map(|echo| echo.distinctive).max() {
            Some(true) => ECHO,
            Some(false) => COMMON_ECHO,
            None => 0.0,
        };
        let most = if join == Join::SameHost { ELSEWHERE } else { f64::MAX };
        let text =
            if timing == Timing::Distant { 0.0 } else { against(of_any).clamp(0.0, cap(kept.specificity()).min(most)) };
        Tie { join, timing, echoes, rank: against(chance) + echo, weight: text + echo }
    }

    /// The window in which chance could have put a request of this kind.
    fn window(&self, kept: &Kept, timing: Timing) -> Duration {
        let flight = kept.request.completed.since(kept.request.received).max(LEAST_WINDOW);
        match timing {
            Timing::InFlight => flight,
            Timing::Skewed => flight + 2 * self.config.skew,
            Timing::Tight => self.config.tight,
            Timing::Loose => self.config.loose,
            Timing::Distant => self.config.lateness,
        }
    }
}

/// Whether it is the doing of a program that was started, rather than of the service or a worker of its kind.
fn by_another_program(observation: &Observation) -> bool {
    let place = observation.place();
    let service =
        place.service.as_ref().and_then(|root| place.lineage.iter().find(|node| node.process == root.process));
    let own = |exe: &str| service.is_none_or(|node| &*node.exe_path == exe);
    observation.is_execution() || place.process().is_some_and(|node| !own(&node.exe_path))
}

/// Whether the request came over a connection that was being answered when the observation's line began, as far as log and
/// host tell.
fn came_over_served(kept: &Kept, observation: &Observation) -> bool {
    let (Some(from), Target::Socket(target), Some(host)) =
        (kept.upstream_local, kept.request.target, observation.as_host())
    else {
        return false;
    };
    let same = |one: SocketAddr, other: SocketAddr| one.port() == other.port() && same(one.ip(), other.ip());
    host.inbound.iter().any(|one| same(one.local, target) && same(one.peer, from))
}

/// Whether two addresses are one, as far as both are told: some formats log the port alone.
fn same(one: IpAddr, other: IpAddr) -> bool {
    let (one, other) = (canonical(one), canonical(other));
    one == other || one.is_unspecified() || other.is_unspecified()
}

/// Share of breaches whose first finding falls there, as nats: most exploits run synchronously inside their request.
fn timing_nats(timing: Timing) -> f64 {
    match timing {
        Timing::InFlight => 0.6_f64,
        Timing::Skewed => 0.2,
        Timing::Tight => 0.12,
        Timing::Loose => 0.05,
        Timing::Distant => 0.03,
    }
    .ln()
}

/// What a weaker join takes away, nats.
const fn join_nats(join: Join) -> f64 {
    match join {
        // One connection carries one request at a time: hardly any other could be meant.
        Join::Connection => 3.0,
        Join::Descendant => 0.0,
        Join::SameWorkload => -0.7,
        Join::SameHost => -2.5,
    }
}

/// Most that a request's text and time can weigh without an echo, nats. An ordinary request in flight names who asked, but honest
/// programs are started by requests too: it is no evidence of a breach.
const fn cap(specificity: Specificity) -> f64 {
    match specificity {
        Specificity::Ordinary => 0.0,
        Specificity::Generic => 2.0,
        Specificity::Capable => 6.0,
        Specificity::Specific => 8.0,
    }
}

/// Whether the echo is only the name that the request was addressed to: every service knows its own.
fn names_itself(kept: &Kept, echo: &Echo) -> bool {
    let Indicator::Host(host) = &echo.indicator else { return false };
    let authority = kept.request.url.split_once("://").map_or(kept.request.url.as_str(), |(_, rest)| rest);
    let own = authority.split(['/', ':', '?']).next().unwrap_or_default();
    !own.is_empty() && own.eq_ignore_ascii_case(host)
}
