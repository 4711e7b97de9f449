//! A format string and lines: the template compiler gives a template or an error, and a template reads any line.
//! The first byte chooses the language, the first line is the format.
#![no_main]

use breachline_fuzz::edge::template::Template;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((language, rest)) = bytes.split_first() else { return };
    let mut lines = rest.split(|byte| *byte == b'\n');
    let Ok(format) = std::str::from_utf8(lines.next().unwrap_or_default()) else { return };
    let compiled = if *language == b'h' { Template::haproxy(format) } else { Template::nginx(format) };
    let Ok(template) = compiled else { return };
    for line in lines.take(16) {
        let _ = template.parse(line);
    }
});
