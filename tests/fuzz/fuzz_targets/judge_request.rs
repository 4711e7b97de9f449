//! Any target and user agent: judged without a panic, in time linear in their length, with bounded output.
#![no_main]

use std::cell::RefCell;
use std::time::{Duration, Instant};

use breachline_fuzz::edge::judge::{Judge, Scratch};
use breachline_fuzz::request::AccessRecord;
use breachline_fuzz::timestamp::Timestamp;
use libfuzzer_sys::fuzz_target;

/// Far above what a request of that length takes, even on a busy machine: what exceeds it grows faster than its input.
const TIME_MAX: Duration = Duration::from_secs(5);

std::thread_local! {
    // Made once: it takes longer than most inputs.
    static JUDGE: (Judge, RefCell<Scratch>) = (Judge::new(), RefCell::default());
}

fuzz_target!(|bytes: &[u8]| {
    let split = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (target, agent) = bytes.split_at(split);
    let blank = AccessRecord::blank(Timestamp::default(), Timestamp::default());
    let record = AccessRecord { method: b"GET", path_and_query: target, user_agent: agent, ..blank };
    let start = Instant::now();
    let verdict = JUDGE.with(|(judge, scratch)| judge.judge(&record, &mut scratch.borrow_mut()));
    assert!(start.elapsed() < TIME_MAX, "{} bytes took {:?}", bytes.len(), start.elapsed());
    if let Some(verdict) = verdict {
        assert!(verdict.score <= 100 && verdict.matched.len() <= 2048 && verdict.indicators.len() <= 12);
    }
});
