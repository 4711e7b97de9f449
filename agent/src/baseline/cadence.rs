//! How often something is asked for. In: who asked, when. Out: whether this time it was due, early, or nothing can be said. Every
//! library renews on a timer of its own, so times are taken between the askings of one process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::ProcessKey;
use crate::timestamp::Timestamp;

/// What comes again this soon is the same asking: a library asks for the role, then for its credential, and tries again.
const ONE_ASKING: Duration = Duration::from_secs(30);
/// Times between that make a cadence; an SDK shows as many in a day.
const GAPS_MIN: u16 = 4;
/// A cadence is told apart from no cadence when even the shortest time between is this long.
const SHORTEST_MIN: Duration = Duration::from_secs(300);
/// Calls from which on it can be said that a workload asks all the time, and the mean time between them that this is: any moment
/// that somebody forges a request in has an honest one beside it.
const CALLS_MIN: u32 = 32;
const ALL_THE_TIME: Duration = Duration::from_secs(60);
/// Processes whose last asking is remembered; of more workers than these some are taken for new ones, of which nothing is said.
const ASKERS_MAX: usize = 64;

/// When it is asked for, as a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cadence {
    /// Ordinary times between that were seen.
    gaps: u16,
    /// The shortest of them, seconds.
    shortest_s: u32,
    /// How often it was asked for, by whomever.
    #[serde(default)]
    calls: u32,
    /// When each process last did.
    #[serde(default)]
    askers: Vec<(ProcessKey, Timestamp)>,
}

/// How a call fits what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Nothing is known that it could be held against.
    Unknown,
    /// It was time for it, or the workload asks all the time.
    Due,
    /// It came much sooner than it does.
    Early {
        /// After the time before.
        gap: Duration,
        /// The shortest such time that was ordinary.
        shortest: Duration,
    },
}

impl Cadence {
    /// How a call of `process` at `at` fits; the habit was seen for `span` until now.
    pub(super) fn pace(&self, process: ProcessKey, at: Timestamp, span: Duration) -> Pace {
        if self.calls >= CALLS_MIN && span / self.calls < ALL_THE_TIME {
            return Pace::Due;
        }
        let shortest = Duration::from_secs(u64::from(self.shortest_s));
        let regular = self.gaps >= GAPS_MIN && shortest >= SHORTEST_MIN;
        match self.last(process).map(|last| at.since(last)) {
            Some(gap) if regular && gap >= ONE_ASKING => {
                // Timers have some play; whoever forges a request hits any moment of the hour.
                if gap < shortest - shortest / 10 { Pace::Early { gap, shortest } } else { Pace::Due }
            }
            _ => Pace::Unknown,
        }
    }

    /// Notes a call. `learned` is false when nothing is to be learned of it: then only the time is noted.
    pub(super) fn note(&mut self, process: ProcessKey, at: Timestamp, learned: bool) {
        let gap = self.last(process).map(|last| at.since(last)).filter(|gap| *gap >= ONE_ASKING);
        if learned {
            self.calls = self.calls.saturating_add(1);
            if let Some(gap) = gap {
                let seconds = u32::try_from(gap.as_secs()).unwrap_or(u32::MAX);
                self.shortest_s = if self.gaps == 0 { seconds } else { self.shortest_s.min(seconds) };
                self.gaps = self.gaps.saturating_add(1);
            }
        }
        self.askers.retain(|(asker, _)| *asker != process);
        if self.askers.len() >= ASKERS_MAX {
            self.askers.remove(0);
        }
        self.askers.push((process, at));
    }

    /// What two hosts know of one service; who asks here is this one's own.
    pub(super) fn join(&mut self, other: &Self) {
        let shorter = if self.gaps == 0 { other.shortest_s } else { self.shortest_s.min(other.shortest_s) };
        self.shortest_s = if other.gaps == 0 { self.shortest_s } else { shorter };
        self.gaps = self.gaps.max(other.gaps);
    }

    fn last(&self, process: ProcessKey) -> Option<Timestamp> {
        self.askers.iter().find(|(asker, _)| *asker == process).map(|(_, last)| *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_millis(1_700_000_000_000).plus(Duration::from_secs(seconds))
    }

    fn process(pid: u32) -> ProcessKey {
        ProcessKey { pid, start_ticks: 7 }
    }

    /// `workers` processes that ask every `every` seconds, each at a time of its own, for a day; then `pid` asks after another
    /// `then` seconds since its last time.
    fn check(workers: u32, every: u64, pid: u32, then: u64, expected: Pace) {
        let offset = |pid: u32| u64::from(pid) * every / u64::from(workers);
        let rounds = 24 * HOUR / every;
        let mut all: Vec<(u64, u32)> =
            (0..rounds).flat_map(|round| (0..workers).map(move |pid| (round * every + offset(pid), pid))).collect();
        all.sort_unstable();
        let mut cadence = Cadence::default();
        for (second, pid) in all {
            cadence.note(process(pid), at(second), true);
        }
        let now = (rounds - 1) * every + offset(pid) + then;
        let pace = cadence.pace(process(pid), at(now), Duration::from_secs(now));
        assert_eq!(pace, expected, "{workers} workers every {every} s, {pid} after {then} s");
    }

    #[test]
    fn each_process_has_a_timer_of_its_own() {
        let early = |gap| Pace::Early { gap: Duration::from_secs(gap), shortest: Duration::from_secs(HOUR) };
        check(1, HOUR, 0, HOUR, Pace::Due);
        check(1, HOUR, 0, HOUR - 60, Pace::Due);
        check(1, HOUR, 0, 2 * HOUR, Pace::Due);
        check(1, HOUR, 0, HOUR / 2, early(HOUR / 2));
        check(8, HOUR, 3, HOUR, Pace::Due);
        check(8, HOUR, 3, HOUR * 4 / 5, early(HOUR * 4 / 5));
        // The same asking once more.
        check(1, HOUR, 0, 9, Pace::Unknown);
        // One that has never asked.
        check(8, HOUR, 9, HOUR, Pace::Unknown);
        // More than are remembered.
        check(200, 24 * HOUR / 5, 3, HOUR, Pace::Unknown);
    }

    #[test]
    fn what_asks_all_the_time_is_never_early() {
        check(1, 20, 0, 7, Pace::Due);
        check(1, 20, 1, 7, Pace::Due);
        check(100, HOUR, 101, 7, Pace::Due);
        // Too often for a cadence, too seldom for that.
        check(1, 200, 0, 100, Pace::Unknown);
    }
}
