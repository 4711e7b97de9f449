//! `breachline incidents export`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

use super::{Common, Filter};
use crate::control::Request;
use crate::deliver::RecordFormat;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    filter: Filter,
    /// Schema of the records: breachline, ocsf or ecs.
    #[arg(long, value_name = "SCHEMA", default_value = "breachline", value_parser = format)]
    format: RecordFormat,
    /// Every revision kept, not only the latest of each incident.
    #[arg(long)]
    all_revisions: bool,
}

fn format(name: &str) -> Result<RecordFormat, String> {
    serde_json::from_value(Value::from(name)).map_err(|_| "write breachline, ocsf or ecs".to_owned())
}

/// One object a line, with `--json` or without, the oldest incident first: an export appended to an earlier one stays in order.
pub(super) fn run(common: &Common, args: &Args) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for summary in args.filter.summaries(common)?.iter().rev() {
        let revisions: Vec<Value> = common.ask(&Request::Incident { id: summary.id.clone() })?;
        let skipped = if args.all_revisions { 0 } else { revisions.len().saturating_sub(1) };
        for revision in revisions.iter().skip(skipped) {
            out.write_all(&args.format.written(&serde_json::to_vec(revision)?))?;
            out.write_all(b"\n")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
