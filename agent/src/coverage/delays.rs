//! A bounded sketch of delays: durations in, quantiles out.
//!
//! A histogram whose buckets grow with the value (the layout of HdrHistogram with three significant bits): eight to each
//! doubling, so that a quantile is off by one eighth at most, from 8 ms to 49 days, in 1 KiB.

use std::time::Duration;

/// Buckets to a doubling, as a power of two.
const BITS: u32 = 3;
const SUB: u64 = 1 << BITS;
/// Largest delay told apart, milliseconds: more is a clock that is wrong.
const MILLIS_MAX: u64 = u32::MAX as u64;
const BUCKETS: usize = ((32 - BITS + 1) << BITS) as usize;

/// The sketch.
#[derive(Clone, Debug)]
pub(super) struct Delays {
    counts: Box<[u32; BUCKETS]>,
    total: u64,
}

impl Default for Delays {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), total: 0 }
    }
}

impl Delays {
    /// The buckets that are not empty, to be saved.
    pub(super) fn save(&self) -> Vec<(usize, u32)> {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect()
    }

    /// A sketch of saved buckets; one that does not exist is passed over.
    pub(super) fn of(saved: &[(usize, u32)]) -> Self {
        let mut delays = Self::default();
        for (bucket, count) in saved {
            if let Some(slot) = delays.counts.get_mut(*bucket) {
                *slot = *count;
            }
        }
        delays.total = delays.counts.iter().map(|count| u64::from(*count)).sum();
        delays
    }

    /// One more.
    pub(super) fn add(&mut self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(MILLIS_MAX).min(MILLIS_MAX);
        if let Some(count) = self.counts.get_mut(bucket(millis)) {
            *count = count.saturating_add(1);
            self.total += 1;
        }
    }

    /// Everything counts half from now on.
    pub(super) fn halve(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2);
        self.total = self.counts.iter().map(|count| u64::from(*count)).sum();
    }

    /// The delay in milliseconds that `percent` of 100 do not exceed; `None` when there was nothing.
    pub(super) fn quantile(&self, percent: u64) -> Option<u64> {
        let rank = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        });
        found.map(upper_end)
    }
}

/// Below `SUB` each value has its own bucket; above, the leading bit and the next three name it.
#[expect(clippy::cast_possible_truncation, reason = "the value is below 2^32, the bucket below 240")]
const fn bucket(millis: u64) -> usize {
    if millis < SUB {
        return millis as usize;
    }
    let octave = 63 - millis.leading_zeros() - BITS;
    (((octave as u64 + 1) << BITS) + ((millis >> octave) - SUB)) as usize
}

/// The largest value of a bucket.
const fn upper_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB {
        return bucket;
    }
    let octave = (bucket >> BITS) - 1;
    ((SUB + (bucket & (SUB - 1)) + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_has_no_quantile_and_the_largest_fits() {
        assert_eq!(Delays::default().quantile(50), None);
        let mut delays = Delays::default();
        delays.add(Duration::MAX);
        assert_eq!(delays.quantile(99), Some(MILLIS_MAX));
        assert_eq!(bucket(MILLIS_MAX), BUCKETS - 1);
        delays.halve();
        assert_eq!(delays.quantile(50), None);
    }

    proptest! {
        #[test]
        fn a_quantile_is_off_by_an_eighth_at_most(mut millis in prop::collection::vec(0..100_000_000_u64, 1..300)) {
            let mut delays = Delays::default();
            millis.iter().for_each(|delay| delays.add(Duration::from_millis(*delay)));
            millis.sort_unstable();
            for percent in [1, 50, 99, 100] {
                let rank = (millis.len() as u64 * percent).div_ceil(100).max(1);
                let exact = millis[usize::try_from(rank).expect("small") - 1];
                let found = delays.quantile(percent).expect("there are some");
                prop_assert!(exact <= found && found <= exact + exact / 8 + 1, "{percent}: {exact} {found}");
            }
        }
    }
}
