//! `breachline coverage`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;

use super::answer::Common;
use crate::control::Request;
use crate::coverage::Report;

const ABOUT: &str = "\
Says how well each workload is seen: do its load balancer lines arrive, how late, what share of them names the exact listener, were \
kernel records lost, is what is normal still being learned. Each gap is named with what to do about it. Asks the running agent, else \
its state directory, where it is as old as the head says.";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(long_about = ABOUT, after_help = super::EXIT_CODES)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let report: Report = args.common.ask(&Request::Coverage)?;
    if args.common.json {
        Common::print_json(&report)?;
    } else {
        write!(std::io::stdout().lock(), "{}", report.text())?;
    }
    Ok(ExitCode::SUCCESS)
}
