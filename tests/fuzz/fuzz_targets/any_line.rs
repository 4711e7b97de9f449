//! Any lines from one source: the format found, the lines read, judged and counted into error rates and scans.
#![no_main]

use std::cell::RefCell;

use breachline_fuzz::edge::error_rate::ErrorRate;
use breachline_fuzz::edge::formats::Reader;
use breachline_fuzz::edge::judge::{Judge, Scratch};
use breachline_fuzz::edge::scanner_noise::ScannerNoise;
use libfuzzer_sys::fuzz_target;

std::thread_local! {
    // Filing the judge's words takes longer than all lines of an input.
    static JUDGE: (Judge, RefCell<Scratch>) = (Judge::new(), RefCell::default());
}

fuzz_target!(|lines: &[u8]| {
    let mut reader = Reader::default();
    let mut rates = ErrorRate::new(Default::default());
    let mut noise = ScannerNoise::default();
    for line in lines.split(|byte| *byte == b'\n') {
        let Ok(Some(record)) = reader.read(line) else { continue };
        rates.observe(&record);
        if let Some(mut verdict) = JUDGE.with(|(judge, scratch)| judge.judge(&record, &mut scratch.borrow_mut())) {
            noise.weigh(&record, &mut verdict);
            assert!(verdict.score <= 100);
        }
    }
});
