//! The edge road: formats, judge, error rates. No I/O, no clock.

pub mod error_rate;
pub mod formats;
pub mod judge;
pub mod template;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::formats::{Format, ParseError};
pub use self::judge::JudgeError;
use self::judge::{Judge, Scratch};
use crate::evidence::ErrorSpike;
use crate::request::{AccessRecord, Verdict};

/// Sources whose format is remembered; their names come from senders.
const SOURCES_MAX: usize = 1024;

/// How lines are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {}

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Lines read.
    pub lines: u64,
    /// Lines that could not be read.
    pub unreadable: u64,
    /// Requests that looked like an exploit.
    pub exploit_like: u64,
}

/// A line that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// No known format fits.
    #[error("no known log format fits")]
    UnknownFormat,
    /// The source's format does not fit.
    #[error(transparent)]
    Parse(#[from] ParseError),
}

/// A line read and judged.
#[derive(Debug)]
pub struct Seen<'l> {
    /// The request.
    pub record: AccessRecord<'l>,
    /// The judge's word.
    pub verdict: Option<Verdict>,
    /// The target is in an error spike.
    pub spike: Option<ErrorSpike>,
}

/// The stage.
#[derive(Debug)]
pub struct Edge {
    judge: Judge,
    scratch: Scratch,
    formats: BTreeMap<String, Format>,
    counters: Counters,
}

impl Edge {
    /// A stage that has read nothing yet.
    ///
    /// # Errors
    ///
    /// The judge's tables do not build.
    pub fn new(_config: Config) -> Result<Self, JudgeError> {
        Ok(Self {
            judge: Judge::new()?,
            scratch: Scratch::default(),
            formats: BTreeMap::new(),
            counters: Counters::default(),
        })
    }

    /// Reads and judges one line.
    ///
    /// # Errors
    ///
    /// Why it could not be read.
    pub fn read<'l>(&mut self, source: &str, line: &'l [u8]) -> Result<Seen<'l>, LineError> {
        self.counters.lines += 1;
        let known = self.formats.get(source).copied();
        let Some(format) = known.or_else(|| Format::detect(line)) else {
            self.counters.unreadable += 1;
            return Err(LineError::UnknownFormat);
        };
        if known.is_none() && self.formats.len() < SOURCES_MAX {
            self.formats.insert(source.to_owned(), format);
        }
        let record = format.parse(line).inspect_err(|_| self.counters.unreadable += 1)?;
        let verdict = self.judge.judge(&record, &mut self.scratch);
        self.counters.exploit_like += u64::from(verdict.as_ref().is_some_and(Verdict::exploit_like));
        Ok(Seen { record, verdict, spike: None })
    }

    /// What was read.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// A few lines that could not be read, escaped.
    #[must_use]
    pub fn unread_lines(&self) -> Vec<String> {
        Vec::new()
    }
}
