//! `breachline status`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;

use super::answer::Common;
use crate::control::Request;
use crate::status::Status;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let status: Status = args.common.ask_running(&Request::Status)?;
    if args.common.json {
        Common::print_json(&status)?;
    } else {
        write!(std::io::stdout().lock(), "{}", status.text())?;
    }
    Ok(ExitCode::SUCCESS)
}
