//! The clock of a range: the wall clock, moved on by whatever a scenario says has passed.
//!
//! The drill, the load balancer and the agent are moved on together, so that their times stay comparable.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::clock;
use crate::timestamp::Timestamp;

/// One clock, shared by its clones.
#[derive(Clone, Debug, Default)]
pub(super) struct ShiftedClock {
    passed_nanos: Arc<AtomicI64>,
}

impl ShiftedClock {
    /// Its time now.
    pub(super) fn now(&self) -> Timestamp {
        let passed = self.passed_nanos.load(Ordering::Relaxed);
        Timestamp::from_unix_nanos(clock::now().as_unix_nanos().saturating_add(passed))
    }

    /// Lets `span` pass at once.
    pub(super) fn pass(&self, span: Duration) {
        self.passed_nanos.fetch_add(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_for_every_clone() {
        let clock = ShiftedClock::default();
        let (other, before) = (clock.clone(), clock.now());
        clock.pass(Duration::from_secs(3600));
        assert!(other.now().since(before) >= Duration::from_secs(3600));
    }
}
