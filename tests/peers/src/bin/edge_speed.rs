//! Speed of the edge road on one core, beside the `regex` crate with the usual ALB expression and beside Vector's
//! `parse_aws_alb_log` on the same lines in the same run.
//!
//! `edge_speed [FILE]` reads ALB lines (gzip or not; default: the day's log under `$BREACHLINE_SHARED/data`),
//! prints one JSON object per figure: `{name, value, unit, peer, peer_value, ratio}`. Each rate is the sum over chunks of
//! lines of the best of several passes: noise only ever slows a pass down.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::hint::black_box;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, anyhow, ensure};
use breachline::edge::formats::Format;
use breachline::edge::judge::{Judge, Scratch};
use bytes::Bytes;
use regex::bytes::Regex;
use serde_json::json;
use vrl::compiler::state::RuntimeState;
use vrl::compiler::{Context as VrlContext, Program, TargetValue, TimeZone};
use vrl::value::{Secrets, Value};

/// Passes over each chunk of lines, of which the fastest counts, and lines in a chunk: short enough that some pass over
/// each runs undisturbed on a machine that does other things too.
const PASSES: usize = 7;
const CHUNK: usize = 2000;

/// Bytes that the peers are tried on: they are so slow that the whole file would take minutes.
const PEER_BYTES: usize = 16 * 1024 * 1024;

/// The expression that AWS publishes for Athena, in bytes and with the fields that came later left to its tail.
const ALB_EXPRESSION: &str = r#"([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*):([0-9]*) ([^ ]*)[:-]([0-9]*) ([-.0-9]*) ([-.0-9]*) ([-.0-9]*) (|[-0-9]*) (-|[-0-9]*) ([-0-9]*) ([-0-9]*) "([^ ]*) (.*) (- |[^ ]*)" "([^"]*)" ([A-Z0-9-_]+) ([A-Za-z0-9.-]*) ([^ ]*) "([^"]*)" "([^"]*)" "([^"]*)" ([-.0-9]*) ([^ ]*) "([^"]*)" "([^"]*)" "([^ ]*)" "([^\s]+?)" "([^\s]+)" "([^ ]*)" "([^ ]*)""#;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> anyhow::Result<()> {
    let Some(file) = std::env::args().nth(1).map(PathBuf::from).or_else(default_file) else {
        eprintln!("no lines: give a file, or set BREACHLINE_SHARED to the folder that holds data/day.alb.log.gz");
        return Ok(());
    };
    let bytes = read(&file)?;
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let judge = Judge::new();
    let mut scratch = Scratch::default();

    let expression = Regex::new(ALB_EXPRESSION)?;
    let peer_lines = lines.iter().scan(0, |sum, line| {
        *sum += line.len();
        (*sum < PEER_BYTES).then_some(*line)
    });
    let peer_lines: Vec<&[u8]> = peer_lines.collect();
    let mut locations = expression.capture_locations();
    let regex = fastest(&peer_lines, |line| expression.captures_read(&mut locations, line).is_some());

    let vector = vector(&peer_lines)?;

    let parse = fastest(&lines, |line| Format::Alb.parse(line).is_ok());
    let both = fastest(&lines, |line| {
        Format::Alb.parse(line).is_ok_and(|record| judge.judge(&record, &mut scratch).is_some())
    });
    report("ALB parse", parse, (REGEX, regex));
    report("ALB parse, beside Vector", parse, ("vrl parse_aws_alb_log", vector));
    report("ALB parse and judge", both, (REGEX, regex));
    report("ALB parse and judge, once through from nothing", once_through(&lines, &judge), (REGEX, regex));
    let unseen = unseen(&lines);
    let unseen: Vec<&[u8]> = unseen.iter().map(Vec::as_slice).collect();
    // Once each, or a memory would have seen them.
    report("ALB parse and judge, targets never seen", once_through(&unseen, &judge), (REGEX, regex));
    measure_ordinary(&lines, &judge, &mut scratch);
    measure_worst(&lines, &unseen, &judge, &mut scratch);
    Ok(())
}

fn default_file() -> Option<PathBuf> {
    let shared = std::env::var_os("BREACHLINE_SHARED").map_or_else(|| PathBuf::from("../../../shared"), PathBuf::from);
    Some(shared.join("data/day.alb.log.gz")).filter(|path| path.exists())
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", file.display()))?;
    if bytes.starts_with(&[0x1F, 0x8B]) {
        let packed = std::mem::take(&mut bytes);
        flate2::read::MultiGzDecoder::new(BufReader::new(&packed[..])).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Bytes per second of the fastest pass of `work` over each chunk of `lines`.
fn fastest(lines: &[&[u8]], mut work: impl FnMut(&[u8]) -> bool) -> f64 {
    let total: usize = lines.iter().map(|line| line.len() + 1).sum();
    let seconds: f64 = lines
        .chunks(CHUNK)
        .map(|chunk| {
            let pass = |_| {
                let start = Instant::now();
                let hits = chunk.iter().filter(|line| work(line)).count();
                black_box(hits);
                start.elapsed().as_secs_f64()
            };
            (0..PASSES).map(pass).fold(f64::INFINITY, f64::min)
        })
        .sum();
    total as f64 / seconds
}

/// Passes over the whole file, each with nothing remembered.
const COLD_PASSES: usize = 3;

/// Bytes per second over all lines in their order, once, with nothing remembered of them before: what a memory of
/// requests is worth on a site's own traffic. The fastest of a few passes.
fn once_through(lines: &[&[u8]], judge: &Judge) -> f64 {
    let total: usize = lines.iter().map(|line| line.len() + 1).sum();
    let pass = |_| {
        let mut scratch = Scratch::default();
        let start = Instant::now();
        let hit =
            |line: &&&[u8]| Format::Alb.parse(line).is_ok_and(|record| judge.judge(&record, &mut scratch).is_some());
        black_box(lines.iter().filter(hit).count());
        start.elapsed().as_secs_f64()
    };
    total as f64 / (0..COLD_PASSES).map(pass).fold(f64::INFINITY, f64::min)
}

/// The peer of most figures.
const REGEX: &str = "regex with the usual ALB expression";

fn report(name: &str, ours: f64, (peer, theirs): (&str, f64)) {
    let megabytes = |rate: f64| (rate / 1e4).round() / 100.0;
    println!(
        "{}",
        json!({"name": name, "value": megabytes(ours), "unit": "MB/s", "peer": peer,
               "peer_value": megabytes(theirs), "ratio": (ours / theirs * 10.0).round() / 10.0})
    );
}

/// Bytes per second of Vector's own parser for these lines, as its `remap` transform runs it.
fn vector(lines: &[&[u8]]) -> anyhow::Result<f64> {
    let source = "parse_aws_alb_log!(string!(.), strict_mode: false)";
    let compiled = vrl::compiler::compile(source, &vrl::stdlib::all()).map_err(|error| anyhow!("vrl: {error:?}"))?;
    let (program, zone): (Program, _) = (compiled.program, TimeZone::default());
    let mut state = RuntimeState::default();
    let mut parses = |line: &[u8]| {
        let value = Value::Bytes(Bytes::copy_from_slice(line));
        let metadata = Value::Object(Default::default());
        let mut target = TargetValue { value, metadata, secrets: Secrets::default() };
        program.resolve(&mut VrlContext::new(&mut target, &mut state, &zone)).is_ok()
    };
    let read = lines.iter().take(CHUNK).filter(|line| parses(line)).count();
    ensure!(read * 10 > lines.len().min(CHUNK) * 9, "Vector's parser read {read} lines: nothing is compared");
    Ok(fastest(lines, parses))
}

/// Time and allocations of requests that get no verdict.
fn measure_ordinary(lines: &[&[u8]], judge: &Judge, scratch: &mut Scratch) {
    let records: Vec<_> = lines.iter().filter_map(|line| Format::Alb.parse(line).ok()).collect();
    let ordinary: Vec<_> = records.iter().filter(|record| judge.judge(record, scratch).is_none()).collect();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let start = Instant::now();
    for record in &ordinary {
        black_box(judge.judge(record, scratch));
    }
    let (elapsed, allocations) = (start.elapsed(), ALLOCATIONS.load(Ordering::Relaxed) - before);
    let count = ordinary.len().max(1) as f64;
    println!(
        "{}",
        json!({"name": "judge, ordinary request", "value": (elapsed.as_nanos() as f64 / count).round(), "unit": "ns"})
    );
    println!(
        "{}",
        json!({"name": "allocations per ordinary request", "value": allocations as f64 / count, "unit": ""})
    );
}

/// What hostile requests are written of: repeated, each makes some judge look again and again.
const ATOMS: [&str; 28] = [
    "(",
    "a(",
    ")(",
    "<",
    "<a ",
    "<svg/",
    "${",
    "{{",
    "'",
    "' or ",
    "%27",
    "../",
    "..%2f",
    "%252e",
    "http://a/",
    ";id",
    "|",
    "$(",
    "`",
    "/*",
    "%0d%0a",
    "&#x",
    "a=b&",
    "O:8:\"",
    "}",
    ")",
    "select ",
    "%c0%ae",
];

/// Bytes of a hostile value.
const HOSTILE_BYTES: usize = 4096;

/// Sequences of atoms that are tried beside the pairs, and rounds in which the slowest are varied.
const SEQUENCES: usize = 600;
const ROUNDS: usize = 3;

/// Times that the slowest tenth of the hostile lines is timed again.
const AGAIN: usize = 8;

/// A hostile line: some atoms, over and over, in a parameter or, every fourth time, in the path.
fn hostile_line(atoms: &[usize]) -> String {
    let text: String = atoms.iter().map(|atom| ATOMS[*atom]).collect();
    let before = if atoms.iter().sum::<usize>().is_multiple_of(4) { "/x/" } else { "/x?y=" };
    // As AWS writes a quote in a request.
    let target = format!("{before}{}", text.repeat((HOSTILE_BYTES / text.len()).max(1))).replace('"', "\\x22");
    format!(
        "https 2026-05-04T10:00:01.250000Z app/edge/0123456789abcdef 198.51.100.9:40100 10.1.2.3:8080 0.001 0.248 0.000 \
         200 200 512 2048 \"GET https://shop.example:443{target} HTTP/2.0\" \"Mozilla/5.0 (X11; Linux x86_64)\" \
         TLS_AES_128_GCM_SHA256 TLSv1.3 \
         arn:aws:elasticloadbalancing:eu-north-1:111122223333:targetgroup/web/0011223344556677 \"Root=1-aa-bb\" \
         \"shop.example\" \"-\" 7 2026-05-04T10:00:01.000000Z \"forward\" \"-\" \"-\" \"10.1.2.3:8080\" \"200\" \"-\" \"-\""
    )
}

/// What hostile lines cost, found by fuzzing for time: every pair of atoms, then sequences by chance, then the slowest of
/// all with an atom changed, added or removed. The same in every run but for what is measured.
fn hostile(mut cost: impl FnMut(&str) -> f64) -> Vec<(f64, Vec<usize>)> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    let mut tried: Vec<(f64, Vec<usize>)> = Vec::new();
    let mut run = |atoms: Vec<usize>, tried: &mut Vec<(f64, Vec<usize>)>| {
        let cost = cost(&hostile_line(&atoms));
        tried.push((cost, atoms));
    };
    for pair in 0..ATOMS.len() * ATOMS.len() {
        run(vec![pair / ATOMS.len(), pair % ATOMS.len()], &mut tried);
    }
    for _ in 0..SEQUENCES {
        let length = 3 + below(6);
        run((0..length).map(|_| below(ATOMS.len())).collect(), &mut tried);
    }
    for _ in 0..ROUNDS {
        tried.sort_by(|one, other| other.0.total_cmp(&one.0));
        for rank in 0..SEQUENCES / ROUNDS {
            let mut atoms = tried[rank % 50].1.clone();
            let (at, atom) = (below(atoms.len()), below(ATOMS.len()));
            match below(3) {
                0 => atoms[at] = atom,
                1 if atoms.len() < 12 => atoms.insert(at, atom),
                _ if atoms.len() > 1 => drop(atoms.remove(at)),
                _ => atoms.push(atom),
            }
            run(atoms, &mut tried);
        }
    }
    tried
}

/// The slowest 1 % of hostile lines beside the median of the day's, per byte of the line, parsed and judged: the median as it
/// is on a site whose pages come again, and of lines that were never seen.
fn measure_worst(lines: &[&[u8]], unseen: &[&[u8]], judge: &Judge, scratch: &mut Scratch) {
    let mut once = |line: &[u8]| {
        let start = Instant::now();
        black_box(Format::Alb.parse(line).is_ok_and(|record| judge.judge(&record, scratch).is_some()));
        start.elapsed().as_nanos() as f64
    };
    let fastest = |line: &[u8], once: &mut dyn FnMut(&[u8]) -> f64| {
        (0..PASSES).map(|_| once(line)).fold(f64::INFINITY, f64::min) / line.len() as f64
    };
    let mut found = hostile(|line| fastest(line.as_bytes(), &mut once));
    // A machine that did something else for a moment made some lines look slow: the slowest are timed again, some time later.
    for _ in 0..AGAIN {
        found.sort_by(|one, other| one.0.total_cmp(&other.0));
        let quick = found.len() - found.len() / 10;
        for (cost, atoms) in &mut found[quick..] {
            *cost = cost.min(fastest(hostile_line(atoms).as_bytes(), &mut once));
        }
    }
    found.sort_by(|one, other| one.0.total_cmp(&other.0));
    if let Some((most, atoms)) = found.last() {
        let atoms: Vec<&str> = atoms.iter().map(|atom| ATOMS[*atom]).collect();
        eprintln!("edge_speed: the slowest hostile line takes {most:.1} ns/B: {atoms:?}");
    }
    let hostile: Vec<f64> = found.iter().map(|(cost, _)| *cost).collect();
    let at = |costs: &[f64], share: f64| costs[((costs.len() - 1) as f64 * share) as usize];
    let slowest = at(&hostile, 0.99);
    let say = |name: &str, value: f64, unit: &str| {
        println!("{}", json!({"name": name, "value": (value * 100.0).round() / 100.0, "unit": unit}));
    };
    say("slowest 1 % of hostile lines", slowest, "ns/B");
    let mut remembered: Vec<f64> = lines.iter().step_by(20).map(|line| fastest(line, &mut once)).collect();
    remembered.sort_by(f64::total_cmp);
    say("median line, its target remembered", at(&remembered, 0.5), "ns/B");
    say("slowest 1 % of hostile lines beside it", slowest / at(&remembered, 0.5), "x");
    // Each is new once, so it is timed once; the median stands that.
    let mut new: Vec<f64> = unseen.iter().step_by(20).map(|line| once(line) / line.len() as f64).collect();
    new.sort_by(f64::total_cmp);
    say("median line, its target never seen", at(&new, 0.5), "ns/B");
    say("slowest 1 % of hostile lines beside that", slowest / at(&new, 0.5), "x");
}

/// Each line with its target made unlike any other: what a memory of targets cannot have seen.
fn unseen(lines: &[&[u8]]) -> Vec<Vec<u8>> {
    let unlike = |(number, line): (usize, &&[u8])| {
        let end = line.windows(6).position(|six| six == b" HTTP/").unwrap_or(line.len());
        let mark = if line[..end].contains(&b'?') { '&' } else { '?' };
        [&line[..end], format!("{mark}u={:x}", number * 7919).as_bytes(), &line[end..]].concat()
    };
    lines.iter().enumerate().map(unlike).collect()
}
