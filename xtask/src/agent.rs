//! `build`, `run`, `drill`: the agent, built here and started as root.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::process::{as_root, cargo, run as run_command, say};
use crate::setup::{self, Purpose};
use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct BuildArgs {
    /// Optimised, as shipped
    #[arg(long)]
    release: bool,
}

#[derive(clap::Args)]
pub(crate) struct RunArgs {
    /// Given to `breachline run`
    #[arg(last = true)]
    args: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct DrillArgs {
    /// Given to `breachline drill`, for example `--list`, `--scenario full-chain` or `--json`
    #[arg(last = true)]
    args: Vec<String>,
}

/// `cargo xtask build`.
pub(crate) fn build(args: &BuildArgs) -> Result<()> {
    setup::ensure(Purpose::Build)?;
    let profile: &[&str] = if args.release { &["--release"] } else { &[] };
    run_command(cargo(&["build", "--package", "breachline"]).args(profile))
}

/// `cargo xtask run`.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    become_agent("run", &args.args)
}

/// `cargo xtask drill`.
pub(crate) fn drill(args: &DrillArgs) -> Result<()> {
    become_agent("drill", &args.args)
}

/// Builds the release agent and turns this process into it: signals and the exit code are the agent's own.
fn become_agent(verb: &str, args: &[String]) -> Result<()> {
    build(&BuildArgs { release: true })?;
    let binary = workspace::agent_binary("release");
    let mut command = as_root(&binary.to_string_lossy(), &[verb])?;
    say(format_args!("starting breachline {verb} as root"));
    Err(command.args(args).exec()).with_context(|| format!("cannot start {}", binary.display()))
}
