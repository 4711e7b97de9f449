//! How likely a match is by chance. On a busy site something exploit-like always precedes anything, so a match weighs by how
//! rarely requests of its kind come to this workload.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::request::{AttackClass, Verdict};
use crate::timestamp::Timestamp;

use super::distinct::Distinct;
use super::kept::Answer;

const HOUR_NS: i64 = 3_600_000_000_000;

/// Requests in a second that an ordinary one is weighed against: they are not counted, for they prove nothing, and what they are
/// ranked by among each other is the length of their flight.
const ORDINARY_RATE: f64 = 1.0;
/// Shortest span that a rate is taken over: a workload's first minutes would otherwise look infinitely quiet or busy.
const LEAST_SPAN: Duration = Duration::from_secs(600);

/// How specifically a request names what it would do on the host, least first.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Specificity {
    /// Nothing in its text. An exploit may still sit in a body that no access log shows.
    Ordinary,
    /// Probes, scanners and classes that lead to no command (XSS, redirects): internet weather.
    Generic,
    /// An attack class that can run commands or reach credentials, not strongly.
    Capable,
    /// The same, strongly.
    Specific,
}

impl Specificity {
    /// Score from which a capable class counts as [`Specificity::Specific`].
    const STRONG: u8 = 75;

    /// Of a request with this verdict.
    pub(super) fn of(verdict: Option<&Verdict>) -> Self {
        use AttackClass as C;
        let Some(verdict) = verdict else { return Self::Ordinary };
        let weather = matches!(
            verdict.class,
            C::Probe | C::ScannerUa | C::Xss | C::OpenRedirect | C::AuthBypass | C::Crlf | C::MailInjection
        );
        match verdict.score {
            _ if weather || !verdict.exploit_like() => Self::Generic,
            Self::STRONG.. => Self::Specific,
            _ => Self::Capable,
        }
    }

    /// Share of real breaches whose request looks like this. Judgement, not measurement: most exploits that the field
    /// reports are visible in the request line, a fifth ride in a body, next to none look like a mere probe.
    const fn share_of_breaches(self) -> f64 {
        match self {
            Self::Ordinary => 0.2,
            Self::Generic => 0.03,
            Self::Capable => 0.25,
            Self::Specific => 0.6,
        }
    }

    /// [`Specificity::share_of_breaches`] as evidence in nats.
    pub(super) fn breach_nats(self) -> f64 {
        self.share_of_breaches().ln()
    }
}

/// What a request is alike with: others are as good an explanation as it when they are of its kind. What was refused is weather; what
/// was not is rare.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Kind {
    specificity: Specificity,
    class: AttackClass,
    answer: Answer,
}

impl Kind {
    /// Of a request with this verdict and this answer of its target.
    pub(super) fn of(verdict: &Verdict, target_status: Option<u16>) -> Self {
        let (specificity, class) = (Specificity::of(Some(verdict)), verdict.class);
        Self { specificity, class, answer: Answer::of(target_status) }
    }
}

/// Rates of judged requests on one workload, by event-time hour. Order and duplicates do not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    first: Option<Timestamp>,
    hours: BTreeMap<i64, Hour>,
}

type Hour = BTreeMap<Kind, Count>;

/// A sketch with what it estimates: asked for far more often than it changes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Count {
    sketch: Distinct,
    estimate: f64,
}

impl Count {
    fn of(sketch: Distinct) -> Self {
        Self { estimate: sketch.estimate(), sketch }
    }
}

/// One row of a checkpoint: hour, kind, sketch.
pub(super) type SavedRate = (i64, Kind, Distinct);

impl Rates {
    /// Counts one request.
    pub(super) fn add(&mut self, received: Timestamp, kind: Kind, fingerprint: u64) {
        self.first = Some(self.first.map_or(received, |first| first.min(received)));
        let count = self.hours.entry(hour_of(received)).or_default().entry(kind).or_default();
        if count.sketch.add(fingerprint) {
            count.estimate = count.sketch.estimate();
        }
    }

    /// Probability that at least one *other* request of this kind falls into a window of `width` around `at` by chance:
    /// Poisson, with the rate of the hour and the one before, and half a request as the prior for what was never seen. `None` is an
    /// ordinary request.
    pub(super) fn chance(&self, at: Timestamp, kind: Option<Kind>, width: Duration) -> f64 {
        let Some(kind) = kind else { return -f64::exp_m1(-ORDINARY_RATE * width.as_secs_f64()) };
        self.chance_of(at, width, |other| *other == kind)
    }

    /// The same for a request of any class that is as specific, answered alike: had another one been there, it would have been taken
    /// for evidence as well.
    pub(super) fn chance_of_any(&self, at: Timestamp, kind: Option<Kind>, width: Duration) -> f64 {
        let Some(kind) = kind else { return self.chance(at, None, width) };
        self.chance_of(at, width, |other| other.specificity >= kind.specificity && other.answer == kind.answer)
    }

    fn chance_of(&self, at: Timestamp, width: Duration, meant: impl Fn(&Kind) -> bool) -> f64 {
        let hour = hour_of(at);
        let hours = [hour - 1, hour].into_iter().filter_map(|hour| self.hours.get(&hour)).flatten();
        let seen: f64 = hours.filter(|(kind, _)| meant(kind)).map(|(_, count)| count.estimate).sum();
        let start = Timestamp::from_unix_nanos((hour - 1).saturating_mul(HOUR_NS));
        let end = Timestamp::from_unix_nanos((hour + 1).saturating_mul(HOUR_NS));
        let span = end.since(self.first.unwrap_or(start).max(start)).max(LEAST_SPAN);
        let rate = ((seen - 1.0).max(0.0) + 0.5) / span.as_secs_f64();
        -f64::exp_m1(-rate * width.as_secs_f64())
    }

    /// Forgets hours that ended before `horizon`.
    pub(super) fn evict(&mut self, horizon: Timestamp) {
        self.hours = self.hours.split_off(&(hour_of(horizon) - 1));
    }

    /// What a checkpoint keeps.
    pub(super) fn save(&self) -> (Option<Timestamp>, Vec<SavedRate>) {
        let rows = self
            .hours
            .iter()
            .flat_map(|(hour, kinds)| kinds.iter().map(|(kind, count)| (*hour, *kind, count.sketch.clone())));
        (self.first, rows.collect())
    }

    /// The opposite of [`Rates::save`].
    pub(super) fn restore(first: Option<Timestamp>, rows: Vec<SavedRate>) -> Self {
        let mut rates = Self { first, hours: BTreeMap::new() };
        for (hour, kind, sketch) in rows {
            rates.hours.entry(hour).or_default().insert(kind, Count::of(sketch));
        }
        rates
    }
}

fn hour_of(at: Timestamp) -> i64 {
    at.as_unix_nanos().div_euclid(HOUR_NS)
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint;
    use super::*;

    #[test]
    fn a_rare_request_is_unlikely_by_chance_and_a_sprayed_one_certain() {
        let verdict = Verdict {
            class: AttackClass::Cmdi,
            score: 90,
            matched: String::new(),
            reason: String::new(),
            reference: None,
            indicators: Vec::new(),
        };
        let base = Timestamp::from_unix_nanos(HOUR_NS * 490_000);
        let [refused, served] = [404, 200].map(|status| Kind::of(&verdict, Some(status)));
        let chance_of = |kind: Kind, requests: u64, width: Duration| {
            let mut rates = Rates::default();
            for n in 0..requests {
                let at = base.plus(Duration::from_millis(n * 7_200_000 / requests));
                rates.add(at, refused, fingerprint::of(&n));
            }
            rates.chance(base.plus(Duration::from_secs(5000)), Some(kind), width)
        };
        let chance = |requests, width| chance_of(refused, requests, width);
        assert!(chance(1, Duration::from_millis(50)) < 1e-5);
        assert!(chance(1, Duration::from_secs(120)) < 0.02);
        assert!(chance(7200, Duration::from_secs(120)) > 0.99);
        assert!(chance(7200, Duration::from_millis(50)) < 0.1);
        assert!(
            chance_of(served, 7200, Duration::from_secs(120)) < 0.02,
            "what is refused does not hide what is served"
        );
    }
}
