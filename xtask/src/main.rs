//! `cargo xtask VERB`: everything a developer or a CI runner does with this repository, one file per verb.
//!
//! In: the command line. Out: an exit code; what is being done goes to stderr, results (`bench`, `setup --check`) to
//! stdout. It never edits a tracked file.
#![forbid(unsafe_code)]

mod agent;
mod bench;
mod dist;
mod fuzz;
mod kernels;
mod lint;
mod process;
mod setup;
mod simulate;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, run, test and package Breachline.
///
/// Every verb first installs what it needs (Debian and Ubuntu, through apt, rustup, cargo and pip), says what it does
/// while doing it, and does nothing where all is there. Steps that need root use sudo when you are not root.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what this machine lacks to build, drill and test
    Setup(setup::Args),
    /// Build the agent, its BPF object inside
    Build(agent::BuildArgs),
    /// Build the agent and run it here, as root: `cargo xtask run -- --config FILE`
    Run(agent::RunArgs),
    /// Build the agent and watch it catch a live breach: `cargo xtask drill -- --scenario full-chain`
    Drill(agent::DrillArgs),
    /// Run every test: the stages, the command line, the kernel senses, the whole chain
    Test(test::Args),
    /// Formatting, clippy for both halves, and the rules that no compiler knows
    Lint(lint::Args),
    /// Measure; prints a table, or one JSON object per figure
    Bench(bench::Args),
    /// Virtual days past the whole detector: silence without a breach, every breach found, the right request named
    Simulate(simulate::Args),
    /// Walk every way around the sensor on every supported kernel, most of them in QEMU
    Kernels(kernels::Args),
    /// Fuzz the decoders and parsers
    Fuzz(fuzz::Args),
    /// Make the static binary, the .deb, the container image and their checksums
    Dist(dist::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::Build(args) => agent::build(&args),
        Verb::Run(args) => agent::run(&args),
        Verb::Drill(args) => agent::drill(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Lint(args) => lint::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Simulate(args) => simulate::run(&args),
        Verb::Kernels(args) => kernels::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Dist(args) => dist::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
