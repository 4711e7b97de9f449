//! OTLP logs requests, both encodings.
#![no_main]

use breachline::intake::content::Protocol;
use breachline::intake::Limits;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { lines: 1000, line_bytes: 4096 };

fuzz_target!(|body: &[u8]| {
    let body = Bytes::copy_from_slice(body);
    for protocol in [Protocol::OtlpProtobuf, Protocol::OtlpJson] {
        // Memory that it asks for stays in proportion to what came in, and within the bound.
        let mut asked = 0_usize;
        let mut grow = |bytes| {
            asked += bytes;
            asked <= 8 << 20
        };
        if let Ok(content) = protocol.read(&body, LIMITS, 1 << 20, &mut grow) {
            assert!(content.counts().0 <= LIMITS.lines);
        }
    }
});
