//! Any line in the format that the target is named after: a record that borrows from the line, or an error that names
//! a field; in time linear in the line.
#![no_main]

use std::sync::LazyLock;

use breachline_fuzz::edge::formats::Format;
use libfuzzer_sys::fuzz_target;

/// `line_alb` is the target of `alb`.
static FORMAT: LazyLock<Format> = LazyLock::new(|| {
    let name = env!("CARGO_BIN_NAME").strip_prefix("line_").expect("is named after a format");
    Format::from_name(&name.replace('_', "-")).expect("is a format")
});

fuzz_target!(|line: &[u8]| match FORMAT.parse(line) {
    Ok(record) => assert!(record.completed >= record.received),
    Err(error) => assert!(!error.field.is_empty()),
});
