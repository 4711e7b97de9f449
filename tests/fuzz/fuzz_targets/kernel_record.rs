//! Bytes of a ring, as they become an event: every kind of record, whatever a name server or a TLS client put into it.
#![no_main]

use breachline::decode::{BootClock, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|record: &[u8]| {
    // An event or an error, and never more text than there are bytes (a byte is three of a replacement character, or four of an
    // escape).
    if let Ok(event) = decode(record, BootClock { offset_ns: 0 }) {
        let _ = format!("{event:?}");
    }
});
