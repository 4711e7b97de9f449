//! `cargo xtask simulate`: virtual days over the whole pure detector.
//!
//! In: how many days and services, and the seed. Out: one figure each line on stdout, exit 0 only if every bound holds. It
//! measures nothing itself: the program is `tests/src/bin/simulate.rs`.

use anyhow::{Context, Result, bail};

use crate::process::{cargo, say};
use crate::setup::{self, Purpose};

/// Runs virtual days of ordinary life, scanners and scripted breaches past the detector.
///
/// Requests are those of ../shared/data/requests.jsonl.gz (or $BREACHLINE_SHARED) where it is there, else generated; stderr says
/// which. Without options: a month of 50 services, two replicas each, some minutes of one core. Exit 0: every bound holds; 1: one
/// does not, or a fault.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Virtual days
    #[arg(long, default_value_t = 30)]
    days: u32,
    /// Services, each with two replicas
    #[arg(long, default_value_t = 50)]
    workloads: u32,
    /// Where chance starts; any number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often each kind of breach is played
    #[arg(long, default_value_t = 6)]
    breaches: u32,
    /// One JSON object per figure: `{name, value, unit, at_most or at_least, holds}`
    #[arg(long)]
    json: bool,
    /// Tell on stderr what was missed and what was raised for nothing
    #[arg(long)]
    notes: bool,
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Build)?;
    let words = [
        ("--days", args.days.to_string()),
        ("--workloads", args.workloads.to_string()),
        ("--seed", args.seed.to_string()),
        ("--breaches", args.breaches.to_string()),
    ];
    let mut command =
        cargo(&["run", "--release", "--quiet", "--package", "breachline-tests", "--bin", "simulate", "--"]);
    command.args(words.iter().flat_map(|(name, value)| [*name, value.as_str()]));
    command.args(args.json.then_some("--json")).args(args.notes.then_some("--notes"));
    say("building and running the simulation");
    let status = command.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("a bound does not hold, or the simulation failed: see above ({status})");
    }
    Ok(())
}
