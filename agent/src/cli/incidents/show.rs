//! `breachline incidents show`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use super::{Common, revisions};
use crate::cli::answer::style;
use crate::incident::html::html;
use crate::incident::text::page;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The incident; an unmistakable beginning will do.
    id: String,
    /// This revision instead of the latest.
    #[arg(long, value_name = "NUMBER")]
    revision: Option<u32>,
    /// Write a self-contained page with a picture to FILE (`-`: standard output) instead.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(super) fn run(common: &Common, args: &Args) -> Result<ExitCode> {
    let mut revisions = revisions(common, &args.id)?;
    let numbers: Vec<String> = revisions.iter().map(|incident| incident.revision.to_string()).collect();
    let incident = match args.revision {
        None => revisions.pop(),
        Some(number) => revisions.into_iter().find(|incident| incident.revision == number),
    };
    let incident =
        incident.with_context(|| format!("no such revision; those that are kept are {}", numbers.join(", ")))?;
    let mut out = std::io::stdout().lock();
    match &args.html {
        Some(path) if path == Path::new("-") => write!(out, "{}", html(&incident))?,
        Some(path) => {
            std::fs::write(path, html(&incident)).with_context(|| format!("cannot write {}", path.display()))?;
        }
        None if common.json => Common::print_json(&incident)?,
        None => write!(out, "{}", page(&incident, style()))?,
    }
    Ok(ExitCode::SUCCESS)
}
