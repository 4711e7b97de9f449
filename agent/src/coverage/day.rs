//! Counts of the last day, by the hour.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// Hours kept.
pub(super) const HOURS: usize = 24;
const HOUR: Duration = Duration::from_secs(3600);

/// What happened in the last 24 hours; an hour's end is sharp to the hour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Day(VecDeque<(Timestamp, u64)>);

impl Day {
    /// `count` more at `at`; times that run backwards count in the latest hour.
    pub(super) fn add(&mut self, at: Timestamp, count: u64) {
        match self.0.back_mut() {
            Some((hour, sum)) if at.since(*hour) < HOUR => *sum = sum.saturating_add(count),
            _ => self.0.push_back((at, count)),
        }
        if self.0.len() > HOURS {
            self.0.pop_front();
        }
    }

    /// The sum of the 24 hours before `now`.
    pub(super) fn sum(&self, now: Timestamp) -> u64 {
        let day = HOUR * 24;
        let recent = self.0.iter().filter(|(hour, _)| now.since(*hour) <= day);
        recent.fold(0, |sum: u64, (_, count)| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_forgets_what_is_older_and_stays_bounded() {
        let mut day = Day::default();
        let at = |hours: u64| Timestamp::default().plus(HOUR * u32::try_from(hours).expect("small"));
        (0..1000).for_each(|hours| day.add(at(hours), 2));
        assert!(day.0.len() <= HOURS);
        assert_eq!(day.sum(at(999)), 48);
        assert_eq!(day.sum(at(1010)), 28);
        day.add(at(5), u64::MAX);
        assert_eq!(day.sum(at(999)), u64::MAX);
    }
}
