//! How much one sender may send. In: its address and the bytes it sent. Out: go on, or how long to wait.
//!
//! One bucket per address holds a second's worth and may go into debt, which it then has to pay off: so a large request
//! passes whole, and the mean holds. Addresses are bounded; the one that sent longest ago makes room.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

/// Addresses whose rate is known; more senders than an edge has forwarders.
const SENDERS_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// The buckets of all senders.
#[derive(Debug)]
pub(super) struct Rates {
    bytes_per_second: u64,
    /// When each sender's debt is paid off.
    paid_off: Mutex<LruCache<IpAddr, Instant>>,
}

impl Rates {
    /// With `bytes_per_second` for each; 0 is without a bound.
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, paid_off: Mutex::new(LruCache::new(SENDERS_MAX)) }
    }

    /// How long `sender` has to wait before it may send; zero is now.
    pub(super) fn wait(&self, sender: IpAddr) -> Duration {
        self.wait_at(sender, Instant::now())
    }

    /// Notes that `sender` sent `bytes`.
    pub(super) fn spend(&self, sender: IpAddr, bytes: usize) {
        self.spend_at(sender, bytes, Instant::now());
    }

    fn wait_at(&self, sender: IpAddr, now: Instant) -> Duration {
        let mut paid_off = self.paid_off.lock().unwrap_or_else(PoisonError::into_inner);
        // A second's worth is free.
        paid_off
            .get(&sender)
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now).saturating_sub(Duration::from_secs(1)))
    }

    fn spend_at(&self, sender: IpAddr, bytes: usize, now: Instant) {
        if self.bytes_per_second == 0 {
            return;
        }
        let micros = (bytes as u64).saturating_mul(1_000_000) / self.bytes_per_second;
        let cost = Duration::from_micros(micros);
        let mut paid_off = self.paid_off.lock().unwrap_or_else(PoisonError::into_inner);
        let at = paid_off.get_or_insert_mut(sender, || now);
        *at = (*at).max(now) + cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debt_is_paid_off_and_is_each_senders_own() {
        let rates = Rates::new(1000);
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(rates.wait_at(one, begin), Duration::ZERO);
        rates.spend_at(one, 1000, begin);
        assert_eq!(rates.wait_at(one, begin), Duration::ZERO, "a second's worth is free");
        rates.spend_at(one, 5000, begin);
        assert_eq!(rates.wait_at(one, begin), Duration::from_secs(5));
        assert_eq!(rates.wait_at(other, begin), Duration::ZERO);
        assert_eq!(rates.wait_at(one, after(5)), Duration::ZERO);
        rates.spend_at(one, 1000, after(100));
        assert_eq!(rates.wait_at(one, after(100)), Duration::ZERO, "rest is not saved up, and not held against it");
        let unbounded = Rates::new(0);
        unbounded.spend_at(one, usize::MAX, begin);
        assert_eq!(unbounded.wait_at(one, begin), Duration::ZERO);
    }

    #[test]
    fn senders_are_bounded() {
        let rates = Rates::new(1);
        for number in 0..10_000_u32 {
            rates.spend(IpAddr::from(number.to_be_bytes()), 100);
        }
        assert_eq!(rates.paid_off.lock().expect("no panic").len(), SENDERS_MAX.get());
    }
}
