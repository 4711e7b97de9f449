//! `breachline status`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::config::Config;
use crate::status::DEFAULT_SOCKET;
use crate::status::socket;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Config file of the agent that is asked.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The status as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let config = Config::load(args.config.as_deref())?;
    let path = config.status.socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET));
    let status = socket::ask(path).with_context(|| {
        format!("no agent answers on {} (is `breachline run` running, and are you root?)", path.display())
    })?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &status)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", status.text())?;
    }
    Ok(ExitCode::SUCCESS)
}
