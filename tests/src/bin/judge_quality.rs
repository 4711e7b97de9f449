//! Measures the edge judge on labelled requests: one JSON object per figure on stdout.
//!
//! `judge_quality [--rows] [FILE]` reads JSON lines `{id, label, class, method, url, user_agent, ambiguous?}` (gzip
//! or not; default: the development corpus under `$BREACHLINE_SHARED/data`) and prints recall per attack class and
//! false positives per benign class; with the default corpus also, of the day's log beside it, the share of each label's
//! lines that is exploit-like. With `--rows` it prints one line per wrong row instead.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use breachline::edge::formats::Format;
use breachline::edge::judge::{Judge, Scratch};
use breachline::request::{AccessRecord, LogEscape};
use breachline::timestamp::Timestamp;
use serde_json::{Value, json};

/// Classes of ordinary traffic, as the corpus' own baseline page groups them.
const ORDINARY: [&str; 4] = ["page", "page_query", "static", "api"];

#[derive(Default)]
struct Count {
    rows: u64,
    hits: u64,
}

fn main() -> anyhow::Result<()> {
    let mut rows = false;
    let mut file = None;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--rows" => rows = true,
            other if other.starts_with('-') => bail!("unknown option `{other}`; usage: judge_quality [--rows] [FILE]"),
            other => file = Some(PathBuf::from(other)),
        }
    }
    let of_day = file.is_none() && !rows;
    let Some(file) = file.or_else(|| corpus("requests.jsonl.gz")) else {
        eprintln!("no corpus: give a file, or set BREACHLINE_SHARED to the folder that holds data/requests.jsonl.gz");
        return Ok(());
    };
    let counts = measure(&file, rows)?;
    if !rows {
        report(&counts)?;
    }
    match (corpus("day.alb.log.gz"), corpus("day.labels.tsv.gz")) {
        (Some(log), Some(labels)) if of_day => measure_day(&log, &labels),
        _ => Ok(()),
    }
}

fn corpus(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("BREACHLINE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    Some(shared.join("data").join(name)).filter(|path| path.exists())
}

/// The share of each label's lines in a log of a day that is exploit-like. `labels` has a line for each: its number, the
/// label and more, between tabs.
fn measure_day(log: &PathBuf, labels: &PathBuf) -> anyhow::Result<()> {
    let judge = Judge::new();
    let mut scratch = Scratch::default();
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    for (line, label) in open(log)?.split(b'\n').zip(open(labels)?.lines()) {
        let (line, label) = (line?, label?);
        let label = label.split('\t').nth(1).context("a line of the labels has no label")?;
        let hit = Format::Alb
            .parse(&line)
            .is_ok_and(|record| judge.judge(&record, &mut scratch).is_some_and(|verdict| verdict.exploit_like()));
        let count = counts.entry(label.to_owned()).or_default();
        count.rows += 1;
        count.hits += u64::from(hit);
    }
    for (label, count) in &counts {
        print(&format!("exploit-like of the day's {label} lines"), count)?;
    }
    Ok(())
}

fn measure(file: &PathBuf, print_rows: bool) -> anyhow::Result<BTreeMap<(bool, bool, String), Count>> {
    let judge = Judge::new();
    let mut scratch = Scratch::default();
    let mut counts: BTreeMap<(bool, bool, String), Count> = BTreeMap::new();
    let mut out = std::io::stdout().lock();
    for (number, line) in open(file)?.lines().enumerate() {
        let row: Value = serde_json::from_str(&line?).with_context(|| format!("line {} is not JSON", number + 1))?;
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let record = record(text("method"), text("url"), text("user_agent"));
        let verdict = judge.judge(&record, &mut scratch);
        let hit = verdict.as_ref().is_some_and(|verdict| verdict.exploit_like());
        let attack = text("label") == "attack";
        let ambiguous = row["ambiguous"].as_bool().unwrap_or(false);
        let count = counts.entry((attack, ambiguous, text("class").to_owned())).or_default();
        count.rows += 1;
        count.hits += u64::from(hit);
        if print_rows && hit != attack {
            let said =
                verdict.map_or_else(String::new, |said| format!("{} {:?}: {}", said.score, said.class, said.reason));
            writeln!(out, "{}\t{}\t{}\t{}\t{said}", text("id"), text("class"), text("source"), text("url"))?;
        }
    }
    Ok(counts)
}

fn open(file: &PathBuf) -> anyhow::Result<Box<dyn BufRead>> {
    let open = || File::open(file).with_context(|| format!("cannot open {}", file.display()));
    let mut magic = [0; 2];
    let gzip = open()?.read_exact(&mut magic).is_ok() && magic == [0x1F, 0x8B];
    let plain = BufReader::new(open()?);
    Ok(if gzip { Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(plain))) } else { Box::new(plain) })
}

fn record<'l>(method: &'l str, url: &'l str, user_agent: &'l str) -> AccessRecord<'l> {
    AccessRecord {
        method: method.as_bytes(),
        path_and_query: url.as_bytes(),
        user_agent: user_agent.as_bytes(),
        escape: LogEscape::Raw,
        ..AccessRecord::blank(Timestamp::default(), Timestamp::default())
    }
}

fn print(name: &str, count: &Count) -> anyhow::Result<()> {
    let percent = (10_000.0 * count.hits as f64 / count.rows.max(1) as f64).round() / 100.0;
    let figure = json!({"name": name, "value": percent, "unit": "%", "rows": count.rows, "hits": count.hits});
    writeln!(std::io::stdout(), "{figure}")?;
    Ok(())
}

fn report(counts: &BTreeMap<(bool, bool, String), Count>) -> anyhow::Result<()> {
    let sum = |accept: &dyn Fn(bool, bool, &str) -> bool| {
        counts.iter().filter(|((attack, ambiguous, class), _)| accept(*attack, *ambiguous, class)).fold(
            Count::default(),
            |sum, (_, count)| Count { rows: sum.rows + count.rows, hits: sum.hits + count.hits },
        )
    };
    print("recall", &sum(&|attack, ambiguous, _| attack && !ambiguous))?;
    print("recall of ambiguous classes", &sum(&|attack, ambiguous, _| attack && ambiguous))?;
    print("false positives", &sum(&|attack, _, _| !attack))?;
    print("false positives on ordinary traffic", &sum(&|attack, _, class| !attack && ORDINARY.contains(&class)))?;
    for ((attack, _, class), count) in counts {
        print(&format!("{} of {class}", if *attack { "recall" } else { "false positives" }), count)?;
    }
    Ok(())
}
