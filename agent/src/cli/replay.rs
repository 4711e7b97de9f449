//! `breachline replay`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::config::Config;
use crate::incident::{Incident, text};
use crate::replay::replay;

const ABOUT: &str = "\
Runs recordings through the same detector as `run`, with the time in the recordings and without root. The same inputs give
the same incidents, byte for byte. Every revision is printed as it is raised; the last line on stderr says what was read.

A host recording is made by `breachline run --record DIR` (host.ndjson). Edge logs are what the balancer wrote; gzip is recognised.";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(long_about = ABOUT)]
pub(super) struct Args {
    /// Host events: one JSON object a line, gzip or not.
    #[arg(long, value_name = "FILE", required_unless_present = "edge")]
    host: Option<PathBuf>,
    /// Edge logs; may be named more than once.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    edge: Vec<PathBuf>,
    /// Config file; only the stages' sections matter.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON object per revision instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let config = Config::load(args.config.as_deref())?;
    let mut out = std::io::stdout().lock();
    let raise = |incident: &Incident| -> Result<()> {
        if args.json {
            serde_json::to_writer(&mut out, incident)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", text::text(incident))?;
        }
        Ok(())
    };
    let summary = replay(&config, args.host.as_deref(), &args.edge, raise)?;
    let count = |name: &str| summary.status.counters.get(name).copied().unwrap_or_default();
    eprintln!(
        "breachline: replayed {} host events and {} edge lines ({} unreadable) until {}: {} incident revisions",
        count("detector.host_events"),
        count("detector.edge_lines"),
        count("edge.unreadable"),
        summary.until,
        count("detector.revisions"),
    );
    Ok(ExitCode::SUCCESS)
}
