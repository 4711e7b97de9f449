//! How long to wait between tries: doubling, bounded, spread by a jitter that a seed decides (so that a test can tell).

use std::time::Duration;

/// A sequence of waits.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    state: u64,
}

impl Backoff {
    /// Waits from `min` to `max`.
    pub(super) fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, next: min, state: seed }
    }

    /// The next wait: up to a quarter less than the nominal one, so that a thousand agents do not come back at once.
    pub(super) fn wait(&mut self) -> Duration {
        let nominal = self.next;
        self.next = nominal.saturating_mul(2).min(self.max);
        let less = u32::try_from(self.random() % 256).unwrap_or(0); // of 1024
        nominal.min(self.max).saturating_sub(nominal.min(self.max) / 1024 * less)
    }

    /// It worked: begin anew.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): spreads well from any seed, 0 included.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_within_bounds_and_a_quarter_of_jitter() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(min, max, 7);
        for nominal in [100, 200, 400, 800, 1000, 1000] {
            let nominal = Duration::from_millis(nominal);
            let wait = backoff.wait();
            assert!(wait <= nominal && wait >= nominal * 3 / 4, "{wait:?} of {nominal:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= min);
    }

    #[test]
    fn a_seed_decides_the_jitter() {
        let waits = |seed| {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), seed);
            [backoff.wait(), backoff.wait(), backoff.wait()]
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
