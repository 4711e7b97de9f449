//! Error rates per target: is this target failing more often than it does?
//!
//! Parsed lines go in, one at a time and in any order within the lateness the balancer has; an [`ErrorSpike`] comes
//! out while a target's errors are beyond what its own history explains. Only errors that the *target* made count
//! (a status of 500 or more from the target itself): what the balancer refuses, times out or answers for a dead
//! target says that it is down, not that a request broke it.
//!
//! Method. Requests and errors are counted in windows of event time. A window that is over becomes history, older
//! windows fade. The errors of the open window are compared with what history predicts:
//!
//! - the number of errors is Gamma-Poisson (negative binomial), right for a target with an error a day;
//! - their share of the requests is Beta-Binomial in the same posterior, right when the volume swings; it is the same tail, with the
//!   exposure measured in requests instead of in windows.
//!
//! A spike needs both tails to be unlikely, a least number of errors and a multiple of what was expected, so that
//! neither one bad request nor a busy hour is one. History stands still while a target is in a spike: a breach must
//! not become normal.
//!
//! Knows no clock: time is the records' own. Deterministic: the same lines in the same order give the same spikes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::evidence::ErrorSpike;
use crate::request::{AccessRecord, Target};
use crate::timestamp::Timestamp;

/// Windows that history remembers at full weight times [`FADE`]'s sum: with 1/64 fading a window counts half after
/// 44 windows.
const FADE: f64 = 63.0 / 64.0;

/// What is believed before anything was seen: half an error in one window of a hundred requests. Weak on purpose; a
/// few windows of real traffic outweigh it.
const PRIOR_ERRORS: f64 = 0.5;
const PRIOR_WINDOWS: f64 = 1.0;
const PRIOR_REQUESTS: f64 = 100.0;

/// Windows in a row for which a spike keeps history from learning; six hours of the default window. A target that
/// fails for longer is a broken target, and that is then its normal: without the bound one that failed from its
/// first minute would never be learned.
const FROZEN_WINDOWS_MAX: u16 = 72;

/// Status codes from here on are the target's own failure (RFC 9110, 15.6).
const SERVER_ERROR: u16 = 500;

/// When errors are a spike.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Length of a window of event time in which errors are counted.
    #[serde(with = "crate::config::duration")]
    pub window: Duration,
    /// Fewest errors of the target in a window that can be a spike.
    pub errors_min: u32,
    /// How many times the expected number of errors a spike needs.
    pub times_expected: f64,
    /// Largest probability, by chance alone, of what is called a spike.
    pub tail_probability_max: f64,
    /// Targets whose history is kept; the one heard of longest ago makes room.
    pub targets_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: Duration::from_mins(5),
            errors_min: 5,
            times_expected: 3.0,
            tail_probability_max: 1e-4,
            targets_max: 4096,
        }
    }
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Targets whose history is kept now.
    pub targets: u64,
    /// Targets that were forgotten to make room.
    pub targets_evicted: u64,
    /// Windows that ended in a spike.
    pub spikes: u64,
    /// Requests older than their target's open window, which were not counted.
    pub late: u64,
}

/// The error rates of all targets.
#[derive(Debug)]
pub struct ErrorRate {
    config: Config,
    targets: BTreeMap<Key, History>,
    counters: Counters,
}

/// A target as an ordered key: [`std::net::SocketAddr`] orders, [`Target`] does not.
pub(super) type Key = std::net::SocketAddr;

/// One target.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct History {
    /// Start of the open window.
    window: Timestamp,
    requests: u32,
    errors: u32,
    /// Faded sums over the windows that are over.
    #[serde(with = "bits")]
    past_windows: f64,
    #[serde(with = "bits")]
    past_requests: f64,
    #[serde(with = "bits")]
    past_errors: f64,
    in_spike: bool,
    /// Windows in a row that ended in a spike.
    spike_windows: u16,
}

/// A number saved as its bits: what is read back must be the same to the last one, and decimal digits are not.
mod bits {
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(number.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

impl ErrorRate {
    /// Rates of targets that nothing is known of yet.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            targets: BTreeMap::new(),
            counters: Counters { targets: 0, targets_evicted: 0, spikes: 0, late: 0 },
        }
    }

    /// Counts one request; gives the spike that its target is in.
    pub fn observe(&mut self, record: &AccessRecord<'_>) -> Option<ErrorSpike> {
        let Target::Socket(key) = record.target else { return None };
        if !self.targets.contains_key(&key) {
            self.make_room();
            self.targets.insert(key, History::starting(record.received));
        }
        let history = self.targets.get_mut(&key)?;
        let closed_in_spike = history.advance(record.received, self.config.window);
        self.counters.spikes += u64::from(closed_in_spike);
        if record.received < history.window {
            self.counters.late += 1;
            return None;
        }
        history.count(record.target_status.is_some_and(|status| status >= SERVER_ERROR));
        let spike = history.spike(&self.config);
        history.in_spike |= spike.is_some();
        spike
    }

    /// The histories, to be saved.
    pub(super) fn save(&self) -> Vec<(Key, History)> {
        self.targets.iter().map(|(key, history)| (*key, *history)).collect()
    }

    /// Goes on with saved histories; those beyond the bound are left out.
    pub(super) fn restore(&mut self, saved: Vec<(Key, History)>) {
        self.targets = saved.into_iter().take(self.config.targets_max.max(1)).collect();
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { targets: u64::try_from(self.targets.len()).unwrap_or(u64::MAX), ..self.counters }
    }

    /// Forgets the target that was heard of longest ago, when the table is full. Linear in the table, and only for
    /// a target that is new to a full one.
    fn make_room(&mut self) {
        if self.targets.len() < self.config.targets_max.max(1) {
            return;
        }
        let oldest = self.targets.iter().min_by_key(|(key, history)| (history.window, **key)).map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            self.targets.remove(&oldest);
            self.counters.targets_evicted += 1;
        }
    }
}

impl History {
    const fn starting(at: Timestamp) -> Self {
        Self {
            window: at,
            requests: 0,
            errors: 0,
            past_windows: 0.0,
            past_requests: 0.0,
            past_errors: 0.0,
            in_spike: false,
            spike_windows: 0,
        }
    }

    /// Closes the open window when `now` lies behind it. Says whether it ended in a spike.
    fn advance(&mut self, now: Timestamp, length: Duration) -> bool {
        let length = length.max(Duration::from_secs(1));
        let passed = now.since(self.window).as_nanos() / length.as_nanos();
        if passed == 0 {
            return false;
        }
        let was_spike = std::mem::take(&mut self.in_spike);
        self.spike_windows = if was_spike { self.spike_windows.saturating_add(1) } else { 0 };
        let frozen = was_spike && self.spike_windows <= FROZEN_WINDOWS_MAX;
        if !frozen {
            self.past_windows = self.past_windows * FADE + 1.0;
            self.past_requests = self.past_requests * FADE + f64::from(self.requests);
            self.past_errors = self.past_errors * FADE + f64::from(self.errors);
        }
        // Windows without a request: the target was quiet, not without errors. They fade history, and only so far.
        let quiet = i32::try_from(passed - 1).unwrap_or(i32::MAX).min(64);
        let fade = FADE.powi(quiet);
        (self.past_windows, self.past_requests, self.past_errors) =
            (self.past_windows * fade, self.past_requests * fade, self.past_errors * fade);
        let whole = u64::try_from(passed * length.as_nanos()).unwrap_or(u64::MAX);
        self.window = self.window.plus(Duration::from_nanos(whole));
        (self.requests, self.errors) = (0, 0);
        was_spike
    }

    const fn count(&mut self, error: bool) {
        self.requests = self.requests.saturating_add(1);
        if error {
            self.errors = self.errors.saturating_add(1);
        }
    }

    /// The spike that the open window is, if it is one.
    fn spike(&self, config: &Config) -> Option<ErrorSpike> {
        if self.errors < config.errors_min {
            return None;
        }
        let shape = self.past_errors + PRIOR_ERRORS;
        // Expected by time and expected by volume: a spike is beyond both.
        let by_window = (self.past_windows + PRIOR_WINDOWS, 1.0);
        let by_request = (self.past_requests + PRIOR_REQUESTS, f64::from(self.requests));
        let expected =
            [by_window, by_request].map(|(exposure, now)| shape * now / exposure).into_iter().fold(0.0, f64::max);
        if f64::from(self.errors) < config.times_expected * expected {
            return None;
        }
        let tail_probability = [by_window, by_request]
            .map(|(exposure, now)| negative_binomial_tail(self.errors, shape, exposure / (exposure + now)))
            .into_iter()
            .fold(0.0, f64::max);
        (tail_probability <= config.tail_probability_max).then_some(ErrorSpike {
            errors: self.errors,
            requests: self.requests,
            expected,
            tail_probability,
        })
    }
}

/// Probability of `least` or more events of a negative binomial with this `shape` and success probability: the
/// predictive distribution of a Poisson count whose rate is Gamma-distributed.
fn negative_binomial_tail(least: u32, shape: f64, probability: f64) -> f64 {
    // P(0) = p^shape; P(k+1) = P(k) * (k + shape) / (k + 1) * (1 - p). 4096 terms: past that a tail this long is
    // certain or nil.
    let mut term = probability.powf(shape);
    let mut below = 0.0;
    for count in 0..least.min(4096) {
        below += term;
        term *= (f64::from(count) + shape) / (f64::from(count) + 1.0) * (1.0 - probability);
    }
    (1.0 - below).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_unix_millis(1_780_000_000_000);

    fn request(at: Timestamp, port: u16, target_status: Option<u16>) -> AccessRecord<'static> {
        let target = Target::Socket(std::net::SocketAddr::from(([10, 0, 0, 1], port)));
        AccessRecord {
            target,
            target_status,
            status: Some(target_status.unwrap_or(502)),
            ..AccessRecord::blank(at, at)
        }
    }

    /// Feeds `hours` of traffic: a request every `gap`, every `nth` of them an error.
    fn history(rate: &mut ErrorRate, hours: u64, gap: Duration, nth: u64) -> (Timestamp, u32) {
        let mut at = START;
        let mut spikes = 0;
        for number in 1..=hours * 3600 * 1000 / u64::try_from(gap.as_millis()).expect("a gap") {
            at = at.plus(gap);
            let status = if nth > 0 && number % nth == 0 { 500 } else { 200 };
            spikes += u32::from(rate.observe(&request(at, 80, Some(status))).is_some());
        }
        (at, spikes)
    }

    fn burst(rate: &mut ErrorRate, from: Timestamp, errors: u32) -> Option<ErrorSpike> {
        (1..=errors)
            .filter_map(|number| {
                rate.observe(&request(from.plus(Duration::from_millis(u64::from(number) * 200)), 80, Some(500)))
            })
            .last()
    }

    #[test]
    fn a_burst_on_a_quiet_target_is_a_spike_and_a_few_errors_are_not() {
        let mut rate = ErrorRate::new(Config::default());
        let (end, spikes) = history(&mut rate, 24, Duration::from_secs(10), 0);
        assert_eq!(spikes, 0);
        assert_eq!(burst(&mut rate, end, 4), None);
        let spike = burst(&mut rate, end.plus(Duration::from_secs(1)), 8).expect("a spike");
        assert!(spike.errors >= 8 && spike.expected < 1.0 && spike.tail_probability < 1e-6, "{spike:?}");
    }

    #[test]
    fn a_target_that_always_fails_a_little_is_in_no_spike() {
        let mut rate = ErrorRate::new(Config::default());
        let (end, spikes) = history(&mut rate, 24, Duration::from_secs(1), 20);
        // The first window knows nothing yet: what it saw may count once, what follows must not.
        let calm = spikes;
        let (_, again) = history(&mut rate, 0, Duration::from_secs(1), 20);
        assert_eq!(again, 0);
        assert!(calm <= 300, "only while the first window was open: {calm}");
        assert_eq!(burst(&mut rate, end, 8), None, "8 errors beside 15 expected");
    }

    #[test]
    fn a_busy_hour_with_the_same_share_of_errors_is_no_spike() {
        let mut rate = ErrorRate::new(Config::default());
        let (end, _) = history(&mut rate, 24, Duration::from_secs(2), 50);
        let mut spikes = 0;
        for number in 1..=3000_u64 {
            let status = if number % 50 == 0 { 500 } else { 200 };
            let at = end.plus(Duration::from_millis(number * 90));
            spikes += u32::from(rate.observe(&request(at, 80, Some(status))).is_some());
        }
        assert_eq!(spikes, 0);
    }

    #[test]
    fn what_the_balancer_made_does_not_count() {
        let mut rate = ErrorRate::new(Config::default());
        let (end, _) = history(&mut rate, 1, Duration::from_secs(10), 0);
        for number in 0..50 {
            assert_eq!(rate.observe(&request(end.plus(Duration::from_millis(number)), 80, None)), None);
        }
    }

    #[test]
    fn a_spike_does_not_become_normal() {
        let mut rate = ErrorRate::new(Config::default());
        let (mut at, _) = history(&mut rate, 12, Duration::from_secs(10), 0);
        for _ in 0..20 {
            at = at.plus(Duration::from_mins(5));
            assert!(burst(&mut rate, at, 30).is_some());
        }
        assert_eq!(rate.counters().spikes, 19, "the last window is still open");
    }

    #[test]
    fn a_target_that_fails_for_ever_is_learned_in_the_end() {
        let mut rate = ErrorRate::new(Config::default());
        let (mut at, _) = history(&mut rate, 1, Duration::from_secs(10), 0);
        let mut last = None;
        for _ in 0..200 {
            at = at.plus(Duration::from_mins(5));
            last = burst(&mut rate, at, 30);
        }
        assert_eq!(last, None);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut rate = ErrorRate::new(Config { targets_max: 8, ..Config::default() });
        for port in 1..=100 {
            rate.observe(&request(START.plus(Duration::from_secs(u64::from(port))), port, Some(200)));
        }
        let counters = rate.counters();
        assert_eq!((counters.targets, counters.targets_evicted), (8, 92));
    }

    #[test]
    fn tails_are_probabilities() {
        let check = |least: u32, shape: f64, probability: f64, expected: f64| {
            let tail = negative_binomial_tail(least, shape, probability);
            assert!((tail - expected).abs() < 1e-9, "{tail}");
        };
        // Shape 1 is geometric: P(X >= k) = (1-p)^k.
        check(3, 1.0, 0.5, 0.125);
        check(0, 2.5, 0.9, 1.0);
        check(10, 1.0, 0.9, 1e-10);
    }
}
