//! The one reader of time. Everything else is given a [`Timestamp`].

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::timestamp::Timestamp;

/// Wall-clock time now (`CLOCK_REALTIME`).
#[must_use]
pub fn now() -> Timestamp {
    read(ClockId::CLOCK_REALTIME)
}

/// What to add to a kernel record's boot time to get wall-clock time, in nanoseconds.
///
/// Read anew every so often: NTP slews and steps the wall clock, and a suspended machine's boot clock goes on. The boot
/// clock is read on both sides of the wall clock and the middle taken, so that a preemption in between shows as half an error.
#[must_use]
pub fn boot_offset_nanos() -> i64 {
    let before = read(ClockId::CLOCK_BOOTTIME).as_unix_nanos();
    let wall = read(ClockId::CLOCK_REALTIME).as_unix_nanos();
    let after = read(ClockId::CLOCK_BOOTTIME).as_unix_nanos();
    wall - (before + (after - before) / 2)
}

/// Time since boot, suspension included (`CLOCK_BOOTTIME`): for durations that no step of the wall clock may change.
#[must_use]
pub fn since_boot() -> Duration {
    read(ClockId::CLOCK_BOOTTIME).since(Timestamp::from_unix_nanos(0))
}

fn read(clock: ClockId) -> Timestamp {
    // Linux has had both clocks since 2.6.39; the call cannot fail for them.
    clock_gettime(clock).map_or(Timestamp::MIN, |spec| {
        Timestamp::from_unix_nanos(spec.tv_sec().saturating_mul(1_000_000_000).saturating_add(spec.tv_nsec()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_plus_offset_is_wall_time() {
        let boot = i64::try_from(since_boot().as_nanos()).expect("fits");
        let wall = Timestamp::from_unix_nanos(boot + boot_offset_nanos());
        assert!(wall.distance(now()) < Duration::from_secs(1), "{wall} against {}", now());
    }
}
