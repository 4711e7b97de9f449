//! Streams of syslog: both framings, both headers, whatever else.
#![no_main]

use breachline::intake::syslog;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| {
    let texts: usize = syslog::read(stream).iter().map(|(_, text)| text.len()).sum();
    assert!(texts <= stream.len(), "nothing is made up");
});
