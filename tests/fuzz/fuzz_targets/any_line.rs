//! Any lines from one source through the whole edge road: found format, parser, judge, error rates.
#![no_main]

use breachline_fuzz::edge::{Config, Edge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: &[u8]| {
    let mut edge = Edge::new(Config::default()).expect("builds");
    for line in lines.split(|byte| *byte == b'\n') {
        let _ = edge.read("fuzz", line);
    }
    assert!(edge.unread_lines().len() <= 16);
});
