//! `breachline judge`: says of every line of an access log, or of every request in JSON lines, what the judge
//! thinks of it.
//!
//! Exit code: 0 when lines were judged (lines that could not be read are reported on stderr, with their number), 64
//! for an unknown format or a file that cannot be opened, 65 when not one line could be read, 1 when reading breaks
//! off. A reader that closes the pipe ends the command, and that is success.

mod request;

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use flate2::bufread::MultiGzDecoder;
use serde::Serialize;

use self::request::{RequestRow, RowId, RowVerdict, repaired};
use crate::edge::formats::{Format, MAX_LINE_BYTES};
use crate::edge::judge::{Judge, Scratch, Step};
use crate::request::{AccessRecord, AttackClass, Indicator, Target, Verdict};
use crate::timestamp::Timestamp;

/// Bad use (`sysexits.h` `EX_USAGE`).
const BAD_USE: u8 = 64;
/// No line was of the format (`sysexits.h` `EX_DATAERR`).
const NO_LINE_READ: u8 = 65;
/// Longest row of `--requests`: far more than any URL, of which the judge reads the first 64 KiB; without a bound one row
/// could take all memory.
const MAX_ROW_BYTES: usize = 16 * 1024 * 1024;
/// Most unreadable lines that are reported one by one; the rest is only counted, or a wrong file would flood the
/// terminal.
const MAX_REPORTS: u64 = 20;

const HELP: &str = "\
Judges each line by itself: not by what the host did, nor by what the same client did before. Needs no root and no agent.

  breachline judge access.log.gz | grep EXPLOIT-LIKE                  # what is written to exploit something
  breachline judge --explain one-line.log                             # why: every decoding step and every finding
  echo '{\"id\":1,\"url\":\"/?f=../../etc/passwd\"}' | breachline judge --requests --explain -

A score of 50 or more is exploit-like, 25 or more notable, less ordinary.

Exit codes: 0 lines were judged; 1 reading or writing broke off; 64 unknown format, or a file that cannot be opened; 65 not
one line could be read.";

/// Arguments of `breachline judge`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// Format of the lines (`alb`, …); found by itself from the first line when absent.
    #[arg(long, value_name = "NAME", conflicts_with = "requests")]
    pub format: Option<String>,
    /// Read JSON lines `{id, method, url, user_agent, status}` instead of log lines; write one JSON line for each, in
    /// order. Only `url` is needed.
    #[arg(long)]
    pub requests: bool,
    /// Tell every decoding step and every finding.
    #[arg(long)]
    pub explain: bool,
    /// Write one JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// File to read, gzip or not; `-` for standard input.
    pub file: PathBuf,
}

/// Runs the command.
///
/// # Errors
///
/// When the input breaks off or the output cannot be written.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let format = match args.format.as_deref().map(|name| (name, Format::from_name(name))) {
        Some((name, None)) => {
            let known: Vec<_> = Format::ALL.iter().map(|format| format.name()).collect();
            eprintln!("unknown format `{name}`; this build reads {}", known.join(", "));
            return Ok(ExitCode::from(BAD_USE));
        }
        Some((_, format)) => format,
        None => None,
    };
    let input = match open(&args.file) {
        Ok(input) => input,
        Err(error) => {
            eprintln!("cannot open {}: {error}", args.file.display());
            return Ok(ExitCode::from(BAD_USE));
        }
    };
    let mut session = Session {
        judge: Judge::new(),
        scratch: Scratch::default(),
        format,
        args,
        out: BufWriter::new(io::stdout().lock()),
        judged: 0,
        unreadable: 0,
    };
    match session.read(input).and_then(|()| session.out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error).with_context(|| format!("reading {} broke off", args.file.display())),
        Ok(()) => Ok(session.finish()),
    }
}

/// Opens `path`, or standard input for `-`; gzip is told by its first two bytes (RFC 1952 2.3.1).
fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut plain: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::with_capacity(128 * 1024, File::open(path)?))
    };
    if plain.fill_buf()?.starts_with(&[0x1F, 0x8B]) {
        return Ok(Box::new(BufReader::with_capacity(128 * 1024, MultiGzDecoder::new(plain))));
    }
    Ok(plain)
}

struct Session<'a, W: Write> {
    judge: Judge,
    scratch: Scratch,
    format: Option<Format>,
    args: &'a Args,
    out: W,
    judged: u64,
    unreadable: u64,
}

impl<W: Write> Session<'_, W> {
    fn read(&mut self, mut input: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        let mut number = 0;
        let longest = if self.args.requests { MAX_ROW_BYTES } else { MAX_LINE_BYTES };
        while let Some(whole) = read_line(&mut input, &mut line, longest)? {
            number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let outcome = match (whole, self.args.requests) {
                (false, true) => self.refuse(&[], format!("is longer than {MAX_ROW_BYTES} bytes"))?,
                (false, false) => Err(format!("is longer than {MAX_LINE_BYTES} bytes")),
                (true, true) => self.judge_request(&line)?,
                (true, false) => self.judge_line(number, &line)?,
            };
            match outcome {
                Ok(()) => self.judged += 1,
                Err(problem) => self.report(number, &problem),
            }
        }
        Ok(())
    }

    fn report(&mut self, number: u64, problem: &str) {
        self.unreadable += 1;
        if self.unreadable <= MAX_REPORTS {
            eprintln!("line {number}: {problem}");
        }
    }

    fn finish(&self) -> ExitCode {
        if self.unreadable > MAX_REPORTS {
            eprintln!("{} lines could not be read in all", self.unreadable);
        }
        if self.judged == 0 && self.unreadable > 0 { ExitCode::from(NO_LINE_READ) } else { ExitCode::SUCCESS }
    }

    /// One log line. The outer error is the output's, the inner one the line's.
    fn judge_line(&mut self, number: u64, line: &[u8]) -> io::Result<Result<(), String>> {
        let Some(format) = self.format.or_else(|| Format::detect(line)) else {
            return Ok(Err(
                "is of no format that this build knows; name one with --format, or --requests for requests in JSON"
                    .to_owned(),
            ));
        };
        let record = match format.parse(line) {
            Ok(record) => record,
            Err(error) => return Ok(Err(error.to_string())),
        };
        self.format = Some(format);
        if self.args.explain {
            return self.explain(&format!("line {number}"), &record).map(Ok);
        }
        let verdict = self.judge.judge(&record, &mut self.scratch);
        if self.args.json {
            self.write_json(&LineVerdict::new(number, &record, verdict.as_ref())).map(Ok)
        } else {
            self.write_text(number, &record, verdict.as_ref()).map(Ok)
        }
    }

    /// One row of JSON lines. A row that cannot be judged is answered too, with what is wrong with it.
    fn judge_request(&mut self, line: &[u8]) -> io::Result<Result<(), String>> {
        let again;
        let row = match RequestRow::read(line) {
            Ok(row) => row,
            Err(_) => {
                again = repaired(line);
                match RequestRow::read(&again) {
                    Ok(row) => row,
                    Err(problem) => return self.refuse(&again, problem),
                }
            }
        };
        let record = row.record();
        if self.args.explain {
            return self.explain(&row.title(), &record).map(Ok);
        }
        let verdict = self.judge.judge(&record, &mut self.scratch);
        self.write_json(&RowVerdict::new(&row, verdict.as_ref())).map(Ok)
    }

    fn refuse(&mut self, line: &[u8], problem: String) -> io::Result<Result<(), String>> {
        if !self.args.explain {
            let id = serde_json::from_slice::<RowId<'_>>(line).ok().and_then(|row| row.id);
            self.write_json(&RowVerdict::unreadable(id, &problem))?;
        }
        Ok(Err(problem))
    }

    fn explain(&mut self, title: &str, record: &AccessRecord<'_>) -> io::Result<()> {
        let steps = self.judge.explain(record, &mut self.scratch);
        if self.args.json {
            let steps: Vec<_> = steps.iter().map(StepRow::from).collect();
            return self.write_json(&steps);
        }
        writeln!(self.out, "{title}")?;
        steps.iter().try_for_each(|step| writeln!(self.out, "  {:<8} {:<28} {}", step.stage, step.place, step.text))
    }

    fn write_json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    fn write_text(&mut self, number: u64, record: &AccessRecord<'_>, verdict: Option<&Verdict>) -> io::Result<()> {
        match verdict {
            None => writeln!(self.out, "{number}  ordinary"),
            Some(verdict) => {
                let mark = if verdict.exploit_like() { "EXPLOIT-LIKE" } else { "notable" };
                let method = String::from_utf8_lossy(record.method);
                let (class, score) = (class_name(verdict.class), verdict.score);
                writeln!(
                    self.out,
                    "{number}  {mark} {score} {class} {method}: {} `{}`",
                    verdict.reason, verdict.matched
                )
            }
        }
    }
}

/// Reads one line into `line`, without its end, keeping at most `longest` bytes. `None` at the end of the input,
/// `Some(false)` for a line that was too long (and has been skipped).
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, longest: usize) -> io::Result<Option<bool>> {
    line.clear();
    let limit = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
    if input.by_ref().take(limit).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") || line.len() <= longest {
        return Ok(Some(true));
    }
    loop {
        let available = input.fill_buf()?;
        match memchr::memchr(b'\n', available) {
            Some(end) => {
                input.consume(end + 1);
                return Ok(Some(false));
            }
            None if available.is_empty() => return Ok(Some(false)),
            None => {
                let length = available.len();
                input.consume(length);
            }
        }
    }
}

/// What `--json` writes for a log line.
#[derive(Debug, Serialize)]
struct LineVerdict<'a> {
    line: u64,
    received: Timestamp,
    target: Target,
    status: Option<u16>,
    target_status: Option<u16>,
    exploit_like: bool,
    score: u8,
    class: Option<AttackClass>,
    reason: Option<&'a str>,
    matched: Option<&'a str>,
    reference: Option<&'a str>,
    indicators: &'a [Indicator],
}

impl<'a> LineVerdict<'a> {
    fn new(line: u64, record: &AccessRecord<'_>, verdict: Option<&'a Verdict>) -> Self {
        Self {
            line,
            received: record.received,
            target: record.target,
            status: record.status,
            target_status: record.target_status,
            exploit_like: verdict.is_some_and(Verdict::exploit_like),
            score: verdict.map_or(0, |verdict| verdict.score),
            class: verdict.map(|verdict| verdict.class),
            reason: verdict.map(|verdict| verdict.reason.as_str()),
            matched: verdict.map(|verdict| verdict.matched.as_str()),
            reference: verdict.and_then(|verdict| verdict.reference.as_deref()),
            indicators: verdict.map_or(&[], |verdict| &verdict.indicators),
        }
    }
}

/// What `--explain --json` writes for a step.
#[derive(Debug, Serialize)]
struct StepRow<'a> {
    stage: &'a str,
    place: &'a str,
    text: &'a str,
}

impl<'a> From<&'a Step> for StepRow<'a> {
    fn from(step: &'a Step) -> Self {
        Self { stage: step.stage, place: &step.place, text: &step.text }
    }
}

/// The class as JSON writes it.
fn class_name(class: AttackClass) -> String {
    serde_json::to_value(class).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `args` over `input`; gives the output, how many lines were judged, and how many could not be read.
    fn judged(args: &Args, input: &str) -> (String, u64, u64) {
        let mut out = Vec::new();
        let mut session = Session {
            judge: Judge::new(),
            scratch: Scratch::default(),
            format: None,
            args,
            out: &mut out,
            judged: 0,
            unreadable: 0,
        };
        session.read(input.as_bytes()).expect("reads");
        let counts = (session.judged, session.unreadable);
        (String::from_utf8(out).expect("text"), counts.0, counts.1)
    }

    fn args(requests: bool, explain: bool, json: bool) -> Args {
        Args { format: None, requests, explain, json, file: PathBuf::from("-") }
    }

    #[test]
    fn requests_give_one_object_a_row() {
        let input = r#"{"id":"a","method":"GET","url":"/item?id=7%27%20or%20%271%27=%271","user_agent":"x","status":500}
{"id":2,"method":"GET","url":"/item?id=7","user_agent":"x","extra":[1]}
not json
{"id":3}
"#;
        let (out, judged, unreadable) = judged(&args(true, false, false), input);
        assert_eq!((judged, unreadable), (2, 2));
        let rows: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(rows.len(), 4, "a row is answered whatever is in it: {out}");
        assert!(rows[2]["id"].is_null() && rows[2]["error"].is_string(), "{out}");
        assert_eq!((&rows[3]["id"], &rows[3]["exploit_like"]), (&3.into(), &false.into()));
        assert_eq!(rows[0]["id"], "a");
        assert_eq!((&rows[0]["exploit_like"], &rows[0]["class"]), (&true.into(), &"sqli".into()));
        assert_eq!(
            (&rows[1]["id"], &rows[1]["exploit_like"], &rows[1]["score"]),
            (&2.into(), &false.into(), &0.into())
        );
    }

    #[test]
    fn log_lines_are_read_and_bad_ones_counted() {
        let line = r#"http 2026-05-04T10:00:01Z app/e/1 198.51.100.9:40100 10.1.2.3:80 0 0 0 200 200 1 2 "GET http://h:80/x?f=../../../etc/passwd HTTP/1.1" "a" - - - "-" "-" "-" - 2026-05-04T10:00:01Z"#;
        let (out, judged_lines, unreadable) = judged(&args(false, false, true), &format!("{line}\nrubbish\n\n"));
        assert_eq!((judged_lines, unreadable), (1, 1));
        let row: serde_json::Value = serde_json::from_str(out.trim()).expect("JSON");
        assert_eq!((&row["line"], &row["class"]), (&1.into(), &"traversal".into()));
        let (out, ..) = judged(&args(false, true, false), line);
        assert!(out.contains("decoded") && out.contains("verdict"), "{out}");
        let (out, ..) = judged(&args(false, false, false), line);
        assert!(out.starts_with("1  EXPLOIT-LIKE"), "{out}");
    }

    #[test]
    fn an_endless_line_is_skipped() {
        let input = format!("{}\n{{\"id\":1,\"url\":\"/\"}}\n", "x".repeat(MAX_ROW_BYTES + 5));
        let (out, judged, unreadable) = judged(&args(true, false, false), &input);
        assert_eq!((judged, unreadable), (1, 1), "{out}");
    }
}
