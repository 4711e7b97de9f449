//! Virtual days: a fleet of hosts with services, users, scanners and intruders, under the whole pure detector.
//!
//! In: a seed and the size of the fleet. Out: what was raised, beside what really happened. Host events are the kernel half's,
//! lines are load balancers' own text, and both arrive as they do in life: events at once, lines in files of five minutes, some
//! of them hours late, some twice. No clock is read and nothing is sent anywhere: a month takes minutes.

pub mod access_log;
pub mod attribution;
pub mod chain;
pub mod corpus;
pub mod figures;
pub mod fleet;
pub mod host;
pub mod machine;
pub mod ordinary;
pub mod random;
pub mod scene;
pub mod service;
pub mod story;

use std::time::Duration;

use breachline::timestamp::Timestamp;

/// `at`, moved by some seconds, which may be negative.
#[must_use]
pub fn later(at: Timestamp, seconds: f64) -> Timestamp {
    let by = Duration::from_secs_f64(seconds.abs());
    if seconds < 0.0 { at.minus(by) } else { at.plus(by) }
}

/// When every simulation begins: a Monday, midnight.
///
/// # Panics
///
/// Never: the text is a time.
#[must_use]
pub fn beginning() -> Timestamp {
    "2026-05-04T00:00:00Z".parse().expect("a time")
}
