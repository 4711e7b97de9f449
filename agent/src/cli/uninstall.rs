//! `breachline uninstall`: nothing of the senses is left in the kernel.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::config::Config;
use crate::kernel;
use crate::store;

const AFTER: &str = "The senses outlive the agent, so that a restart misses nothing. This ends them: pins, links and programs. The agent \
must be stopped first (`systemctl stop breachline`).\n\nExit codes: 0 nothing is left; 1 an agent runs, or something is left; \
64 bad use or config.";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(super) struct Args {
    /// Config file of the agent whose senses end.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Forget what was learned and stored too: the state directory's files.
    #[arg(long)]
    purge: bool,
    /// One JSON object: `programs` that were detached, those `left`, state `files` that were removed.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let config = Config::load(args.config.as_deref())?;
    let ended = kernel::uninstall(&config.kernel.pin_directory).context("the senses cannot be ended")?;
    let files = if args.purge {
        store::remove(&config.store).with_context(|| format!("cannot empty {}", config.store.directory.display()))?
    } else {
        Vec::new()
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        let answer = serde_json::json!({ "programs": ended.programs, "left": ended.left, "files": files });
        writeln!(out, "{answer}")?;
    } else {
        writeln!(out, "{} programs detached, {} files removed", ended.programs.len(), files.len())?;
        for name in &ended.left {
            writeln!(out, "still loaded, because something else holds it: {name}")?;
        }
    }
    Ok(if ended.left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
