//! `breachline check-config`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::config::{Config, DEFAULT_PATH};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// File to check. Without one: the file `run` would read.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the config in force, defaults included, as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let config = Config::load(args.config.as_deref())?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &config)?;
        writeln!(out)?;
        return Ok(ExitCode::SUCCESS);
    }
    match &args.config {
        Some(path) => writeln!(out, "{}: fine", path.display())?,
        None if std::path::Path::new(DEFAULT_PATH).exists() => writeln!(out, "{DEFAULT_PATH}: fine")?,
        None => writeln!(out, "{DEFAULT_PATH} is not there: the defaults are in force")?,
    }
    Ok(ExitCode::SUCCESS)
}
