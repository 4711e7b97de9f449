//! `breachline doctor`: can this kernel, and what to do if not.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;

use super::EXIT_UNAVAILABLE;
use crate::kernel;
use crate::status::{SenseStatus, senses_text};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The verdicts as one JSON array.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let senses: Vec<SenseStatus> = kernel::probe().iter().map(SenseStatus::from).collect();
    let unavailable = senses.iter().filter(|sense| sense.state == "unavailable").count();
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &senses)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", senses_text(&senses))?;
        let word = match (unavailable, senses.iter().any(|sense| sense.state == "degraded")) {
            (0, false) => "This kernel can do all of it.",
            (0, true) => "This kernel can do it, without the details named.",
            (1, _) => "One sense cannot work here; what to do is said beside it.",
            _ => "Some senses cannot work here; what to do is said beside them.",
        };
        writeln!(out, "\n{word}")?;
    }
    Ok(if unavailable == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNAVAILABLE) })
}
