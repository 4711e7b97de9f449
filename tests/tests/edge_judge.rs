//! The judge on requests that were written for it by hand: hostile ones of every class in many spellings, and odd but
//! honest ones. The larger part it was tuned with; the other part was written afterwards, and nobody has looked at what
//! it misses there.
//!
//! `judge_quality FILE` (in this crate) prints the figures of either file class by class.

use std::fs;
use std::path::Path;

use breachline::edge::judge::{Judge, Scratch};
use breachline::request::{AccessRecord, LogEscape, Verdict};
use breachline::timestamp::Timestamp;
use serde_json::Value;

/// Shares of the hostile and of the honest requests of `file` that the judge calls exploit-like.
fn measure(file: &str) -> (f64, f64) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/judge").join(file);
    let text = fs::read_to_string(&path).expect("the data is part of the project");
    let (judge, mut scratch) = (Judge::new(), Scratch::default());
    let mut counts = [[0_u32; 2]; 2];
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).expect("is JSON");
        let record = AccessRecord {
            method: row["method"].as_str().unwrap_or("GET").as_bytes(),
            path_and_query: row["url"].as_str().expect("has a URL").as_bytes(),
            user_agent: row["user_agent"].as_str().unwrap_or_default().as_bytes(),
            escape: LogEscape::Raw,
            ..AccessRecord::blank(Timestamp::default(), Timestamp::default())
        };
        let hit = judge.judge(&record, &mut scratch).as_ref().is_some_and(Verdict::exploit_like);
        counts[usize::from(row["label"] == "attack")][usize::from(hit)] += 1;
    }
    let share = |[not, hit]: [u32; 2]| f64::from(hit) / f64::from(hit + not);
    (share(counts[1]), share(counts[0]))
}

/// The figures when the rows were written, less a point: a change that loses more has lost a class.
fn check(file: &str, recall_min: f64, false_positives_max: f64) {
    let (recall, false_positives) = measure(file);
    assert!(recall >= recall_min, "{file}: recall {recall:.4}");
    assert!(false_positives <= false_positives_max, "{file}: false positives {false_positives:.4}");
}

#[test]
fn requests_that_it_was_tuned_with() {
    check("tuned.jsonl", 0.928, 0.035);
}

#[test]
fn requests_that_it_was_not_tuned_with() {
    check("untouched.jsonl", 0.955, 0.030);
}
