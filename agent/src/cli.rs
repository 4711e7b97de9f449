//! The command line: one file per verb. Text for people goes to stdout, the log to stderr, `--json` gives machines the same.
//!
//! Exit codes: 0 done, 1 a fault while running (or an expectation of `drill` not held), 64 bad use or config, 69 this kernel cannot.

mod answer;
mod baseline;
mod check_config;
mod coverage;
mod doctor;
mod drill;
mod forward;
mod incidents;
mod judge;
mod replay;
mod run;
mod sample_config;
mod status;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::ConfigError;
use crate::pipeline::PipelineError;

/// `EX_USAGE` of sysexits.h: bad use or config.
pub const EXIT_USAGE: u8 = 64;
/// `EX_UNAVAILABLE` of sysexits.h: this kernel (or this user) cannot.
pub const EXIT_UNAVAILABLE: u8 = 69;

const EXIT_CODES: &str = "Exit codes: 0 done; 1 a fault while running; 64 bad use or config; 69 this kernel cannot (see `breachline doctor`).";

/// Catches live web breaches: joins what the load balancer logged with what the kernel saw, and raises one explained incident.
#[derive(Debug, Parser)]
#[command(name = "breachline", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Watch this host until told to stop (SIGTERM, Ctrl-C).
    Run(run::Args),
    /// Run recordings through the same detector; no root needed.
    Replay(replay::Args),
    /// Judge the lines of an access log, or requests in JSON lines.
    Judge(judge::Args),
    /// Take balancer logs to the agents that they concern, from a machine at the edge.
    Forward(forward::Args),
    /// Play live breaches in namespaces of their own, and say whether they were caught.
    Drill(drill::Args),
    /// Be one of the drill's processes.
    #[command(hide = true)]
    DrillActor(drill::ActorArgs),
    /// Say what this kernel can sense, what it cannot, and what to do about it.
    Doctor(doctor::Args),
    /// List, show and export incidents; mark those that are expected.
    Incidents(incidents::Args),
    /// Say how well each workload is seen, and what is not seen.
    Coverage(coverage::Args),
    /// Show what is normal; carry it to other hosts; forget it.
    Baseline(baseline::Args),
    /// Ask the running agent how it is.
    Status(status::Args),
    /// Say whether a config is right, and if not where.
    CheckConfig(check_config::Args),
    /// Print the defaults as a config file, every key explained.
    SampleConfig(sample_config::Args),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            let _ = message.print();
            return if message.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match cli.verb {
        Verb::Run(args) => run::run(&args),
        Verb::Replay(args) => replay::run(&args),
        Verb::Judge(args) => judge::run(&args),
        Verb::Forward(args) => forward::run(&args),
        Verb::Drill(args) => drill::run(&args),
        Verb::DrillActor(args) => drill::act(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Incidents(args) => incidents::run(&args),
        Verb::Coverage(args) => coverage::run(&args),
        Verb::Baseline(args) => baseline::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::CheckConfig(args) => check_config::run(&args),
        Verb::SampleConfig(args) => sample_config::run(&args),
    };
    outcome.unwrap_or_else(|error| report(&error))
}

/// Prints an error with its causes and picks the exit code. A reader that went away (`| head`) is no error.
fn report(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(reader_went_away) {
        return ExitCode::SUCCESS;
    }
    eprintln!("breachline: {error:#}");
    error.chain().find_map(exit_code).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn exit_code(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if cause.is::<ConfigError>() {
        return Some(EXIT_USAGE);
    }
    match cause.downcast_ref::<PipelineError>()? {
        PipelineError::Kernel(_) => Some(EXIT_UNAVAILABLE),
        // What these name is a key of the config: a port, a path, an address.
        PipelineError::Intake(_) | PipelineError::Deliver(_) => Some(EXIT_USAGE),
        _ => None,
    }
}

fn reader_went_away(cause: &(dyn std::error::Error + 'static)) -> bool {
    let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
    // serde_json keeps the kind of a write error but not the error itself.
    let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
    kind.or(json) == Some(io::ErrorKind::BrokenPipe)
}
