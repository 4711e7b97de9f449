//! Streams of the Fluentd forward protocol, packed and gzipped within.
#![no_main]

use breachline::intake::{Limits, fluentd};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { lines: 1000, line_bytes: 4096 };

fuzz_target!(|stream: &[u8]| {
    if let Ok(lines) = fluentd::read(stream, LIMITS, 1 << 20) {
        assert!(lines <= LIMITS.lines);
    }
});
