//! Access-log formats: one file each, a line in, a borrowed [`AccessRecord`] out.
//!
//! A parser allocates nothing, never panics and never rejects a line for fields that it does not know: balancers add
//! fields at the end of their lines without notice. What a line lacks stays empty in the record; what it needs and
//! lacks is a [`ParseError`] that names the field. Nothing here decides what a request means.

pub mod alb;
mod fields;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::request::AccessRecord;

/// Longest line that is parsed, in bytes. ALB allows a 16 KiB URL and an 8 KiB user agent, each byte of which can grow
/// fourfold by escaping; without a bound one hostile line would hold the whole road.
pub const MAX_LINE_BYTES: usize = 128 * 1024;

/// A format this build can read.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// AWS Application Load Balancer, text form.
    Alb,
}

impl Format {
    /// Every format, in the order in which [`Format::detect`] tries them: the strictest grammar first.
    pub const ALL: &'static [Self] = &[Self::Alb];

    /// The name used in the config and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alb => "alb",
        }
    }

    /// The format called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.name() == name)
    }

    /// The first format whose grammar `line` fits.
    #[must_use]
    pub fn detect(line: &[u8]) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.parse(line).is_ok())
    }

    /// Reads one line, with or without its line end.
    ///
    /// # Errors
    ///
    /// A [`ParseError`] that names the first field that is missing or does not hold what the format puts there.
    pub fn parse(self, line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
        if line.len() > MAX_LINE_BYTES {
            return Err(ParseError::new("line", 0, Problem::TooLong));
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self {
            Self::Alb => alb::parse(line),
        }
    }
}

/// Why a line is not a line of its format.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("field {position} `{field}` {problem}")]
pub struct ParseError {
    /// Field name as the vendor's documentation spells it.
    pub field: &'static str,
    /// Position of the field in the line, from 1; 0 where the line as a whole is meant.
    pub position: u8,
    /// What is wrong with it.
    pub problem: Problem,
}

impl ParseError {
    const fn new(field: &'static str, position: u8, problem: Problem) -> Self {
        Self { field, position, problem }
    }
}

/// What is wrong with a field.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// The line ends before it.
    #[error("is missing")]
    Missing,
    /// It opens with a quote that never closes, or has none where one belongs.
    #[error("is not quoted as it should be")]
    Quoting,
    /// Not a time.
    #[error("is not an ISO 8601 time in UTC")]
    Time,
    /// Not `address:port`, nor `-`.
    #[error("is not an address with a port")]
    Socket,
    /// Not a number, nor `-`.
    #[error("is not a number")]
    Number,
    /// A word that the format does not have in this place.
    #[error("holds a value that this format does not have")]
    Unknown,
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("is longer than 128 KiB")]
    TooLong,
}
