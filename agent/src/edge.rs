//! The edge road: an access-log line in, the request, the judge's word on it (turned down where its source only scans) and
//! its target's error rate out.
//!
//! Lines come with the name of their source; a source's format is found by itself or fixed in the config. A line that cannot be
//! read is counted and sampled, never fatal. Knows no clock, does no I/O, and knows nothing of the host: which workload a
//! request went to is for others to say.

mod checkpoint;
pub mod error_rate;
pub mod formats;
pub mod judge;
pub mod scanner_noise;
pub mod template;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

pub use self::checkpoint::CheckpointError;
use self::error_rate::ErrorRate;
use self::formats::{ParseError, Reader};
use self::judge::{Judge, Scratch};
use self::scanner_noise::ScannerNoise;
use crate::evidence::ErrorSpike;
use crate::request::{AccessRecord, Verdict};

/// Sources that are remembered, configured ones apart. Their names come from senders: without a bound a sender could fill the
/// memory with names. Lines of sources past it are read too, their format found anew each time.
const MAX_SOURCES: usize = 1024;

/// Unreadable lines kept to be shown, the newest, and how much of each.
const MAX_SAMPLES: usize = 16;
const MAX_SAMPLE_BYTES: usize = 512;

/// After the first [`MAX_SAMPLES`], one unreadable line in so many is sampled: a flood of rubbish costs no copying.
const SAMPLE_EVERY: u64 = 1024;

/// How lines are read.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Sources whose format is fixed, by source name (a file's path, a receiver's name). All others are found out.
    pub sources: BTreeMap<String, formats::Config>,
    /// When a target's errors are a spike.
    pub error_rate: error_rate::Config,
}

/// The stage cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// A source's format in the config cannot be used.
    #[error("edge.sources.\"{name}\": {error}")]
    Source {
        /// The source.
        name: String,
        /// Why.
        error: formats::ConfigError,
    },
}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Lines read, comments and headers of a log included.
    pub lines: u64,
    /// Lines that could not be read.
    pub unreadable: u64,
    /// Lines of sources past the bound, whose format was found anew.
    pub unremembered: u64,
    /// Requests that the judge found worth a verdict.
    pub judged: u64,
    /// Requests that looked like an exploit.
    pub exploit_like: u64,
    /// Requests whose target was in an error spike.
    pub in_spike: u64,
    /// Error rates.
    pub error_rate: error_rate::Counters,
    /// Sources that scan.
    pub scanner_noise: scanner_noise::Counters,
}

/// A line that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct LineError(#[from] ParseError);

/// A line read and judged.
#[derive(Debug)]
pub struct Seen<'l> {
    /// The request.
    pub record: AccessRecord<'l>,
    /// The judge's word; `None` for an ordinary request.
    pub verdict: Option<Verdict>,
    /// The spike that its target is in.
    pub spike: Option<ErrorSpike>,
}

/// The stage.
#[derive(Debug)]
pub struct Edge {
    judge: Judge,
    scratch: Scratch,
    readers: BTreeMap<String, Reader>,
    configured: usize,
    error_rate: ErrorRate,
    scanner_noise: ScannerNoise,
    counters: Counters,
    samples: VecDeque<String>,
}

impl Edge {
    /// A stage that has read nothing yet.
    ///
    /// # Errors
    ///
    /// A source's format in the config cannot be used.
    pub fn new(config: Config) -> Result<Self, EdgeError> {
        let compile = |(name, config): (String, formats::Config)| match Reader::new(&config) {
            Ok(reader) => Ok((name, reader)),
            Err(error) => Err(EdgeError::Source { name, error }),
        };
        let readers: BTreeMap<_, _> = config.sources.into_iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Self {
            judge: Judge::new(),
            scratch: Scratch::default(),
            configured: readers.len(),
            readers,
            error_rate: ErrorRate::new(config.error_rate),
            scanner_noise: ScannerNoise::default(),
            counters: Counters::default(),
            samples: VecDeque::new(),
        })
    }

    /// Reads and judges one line of `source`, with or without its line end. `None` for a line that is no request: a comment, a header.
    ///
    /// # Errors
    ///
    /// Which field could not be read, and why.
    pub fn read<'l>(&mut self, source: &str, line: &'l [u8]) -> Result<Option<Seen<'l>>, LineError> {
        self.counters.lines += 1;
        let record = match self.parse(source, line) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.sample(source, line, error);
                return Err(LineError(error));
            }
        };
        let mut verdict = self.judge.judge(&record, &mut self.scratch);
        if let Some(verdict) = &mut verdict {
            self.scanner_noise.weigh(&record, verdict);
        }
        self.counters.judged += u64::from(verdict.is_some());
        self.counters.exploit_like += u64::from(verdict.as_ref().is_some_and(Verdict::exploit_like));
        let spike = self.error_rate.observe(&record);
        self.counters.in_spike += u64::from(spike.is_some());
        Ok(Some(Seen { record, verdict, spike }))
    }

    /// What was read.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            error_rate: self.error_rate.counters(),
            scanner_noise: self.scanner_noise.counters(),
            ..self.counters
        }
    }

    /// Some of the lines that could not be read, each with its source and the reason: the first few, then one in many, the
    /// newest kept. Bounded and printable.
    #[must_use]
    pub fn unread_lines(&self) -> Vec<String> {
        self.samples.iter().cloned().collect()
    }

    fn parse<'l>(&mut self, source: &str, line: &'l [u8]) -> Result<Option<AccessRecord<'l>>, ParseError> {
        if let Some(reader) = self.readers.get_mut(source) {
            return reader.read(line);
        }
        let mut reader = Reader::default();
        let read = reader.read(line);
        if self.readers.len() < self.configured + MAX_SOURCES {
            self.readers.insert(source.to_owned(), reader);
        } else {
            self.counters.unremembered += 1;
        }
        read
    }

    fn sample(&mut self, source: &str, line: &[u8], error: ParseError) {
        self.counters.unreadable += 1;
        let many = self.counters.unreadable > MAX_SAMPLES as u64;
        if many && !self.counters.unreadable.is_multiple_of(SAMPLE_EVERY) {
            return;
        }
        if self.samples.len() >= MAX_SAMPLES {
            self.samples.pop_front();
        }
        let cut = &line[..line.len().min(MAX_SAMPLE_BYTES)];
        let source: String = source.chars().take(128).collect();
        self.samples.push_back(format!("{source}: {error}: {}", cut.escape_ascii()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"http 2026-05-04T10:00:01Z app/e/1 198.51.100.9:40100 10.1.2.3:80 0 0 0 200 200 1 2 "GET http://h:80/PATH HTTP/1.1" "a" - - - "-" "-" "-" - 2026-05-04T10:00:01Z"#;

    fn edge() -> Edge {
        Edge::new(Config::default()).expect("builds")
    }

    #[test]
    fn a_line_is_read_judged_and_counted() {
        let mut edge = edge();
        let hostile = LINE.replace("PATH", "x?id=1%27%20or%20%271%27=%271");
        let seen = edge.read("a.log", hostile.as_bytes()).expect("read").expect("a request");
        assert!(seen.verdict.is_some_and(|verdict| verdict.exploit_like()));
        let ordinary = LINE.replace("PATH", "index.html");
        let seen = edge.read("a.log", ordinary.as_bytes()).expect("read").expect("a request");
        assert!(seen.verdict.is_none() && seen.spike.is_none());
        let counters = edge.counters();
        assert_eq!((counters.lines, counters.exploit_like, counters.unreadable), (2, 1, 0));
    }

    #[test]
    fn lines_that_cannot_be_read_are_sampled_and_bounded() {
        let mut edge = edge();
        for number in 0..10_000 {
            assert!(edge.read("b.log", format!("rubbish {number} \u{7}").as_bytes()).is_err());
        }
        assert_eq!(edge.counters().unreadable, 10_000);
        let samples = edge.unread_lines();
        assert_eq!(samples.len(), MAX_SAMPLES);
        assert!(samples.iter().all(|sample| sample.starts_with("b.log: ") && !sample.contains('\u{7}')));
    }

    #[test]
    fn names_of_sources_are_bounded() {
        let mut edge = edge();
        for number in 0..MAX_SOURCES + 10 {
            edge.read(&format!("source {number}"), LINE.as_bytes()).expect("read");
        }
        assert_eq!(edge.readers.len(), MAX_SOURCES);
        assert_eq!(edge.counters().unremembered, 10);
    }

    #[test]
    fn a_config_that_cannot_be_used_names_its_source() {
        let broken = formats::Config {
            format: Some(formats::Format::Alb),
            nginx_log_format: Some("$remote_addr".to_owned()),
            ..formats::Config::default()
        };
        let config = Config { sources: [("x.log".to_owned(), broken)].into(), ..Config::default() };
        let error = Edge::new(config).expect_err("refused");
        assert!(error.to_string().starts_with("edge.sources.\"x.log\": "), "{error}");
    }
}
