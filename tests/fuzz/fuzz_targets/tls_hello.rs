//! What a client sends first, as the name of the server is read from it.
#![no_main]

use breachline::decode::hello::server_name;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|sent: &[u8]| {
    if let Some(name) = server_name(sent) {
        assert!(!name.is_empty() && name.len() <= 4 * 255 && name.is_ascii());
        assert!(!name.contains(|letter: char| letter.is_control()), "it ends up on terminals");
    }
});
