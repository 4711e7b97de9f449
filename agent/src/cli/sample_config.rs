//! `breachline sample-config`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;

use crate::config::{Config, SAMPLE};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The bare defaults as JSON, without the explanations.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &Config::default())?;
        writeln!(out)?;
    } else {
        out.write_all(SAMPLE.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
