//! Any line as an ALB line: a record that borrows from the line, or an error that names a field.
#![no_main]

use breachline::edge::formats::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| match Format::Alb.parse(line) {
    Ok(record) => assert!(record.completed >= record.received),
    Err(error) => assert!(!error.field.is_empty()),
});
