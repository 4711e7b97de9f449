//! `cargo xtask lint`: formatting, clippy for both halves, and the rules that no compiler knows (`tidy`).
//!
//! Every part runs even when an earlier one failed, so that one call shows all there is to mend.

mod imports;
mod tidy;

use anyhow::{Result, bail};

use crate::process::{cargo, command, run as run_command, say, succeeds};
use crate::setup::{self, Purpose};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the rules that need no compiler (well under a second)
    #[arg(long)]
    tidy: bool,
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut failed = Vec::new();
    let mut note = |part: &'static str, outcome: Result<()>| {
        if let Err(error) = outcome {
            say(format_args!("{error:#}"));
            failed.push(part);
        }
    };
    note("tidy", tidy::check());
    if !args.tidy {
        setup::ensure(Purpose::Build)?;
        note("fmt", run_command(&mut cargo(&["fmt", "--all", "--check"])));
        note("clippy", run_command(&mut cargo(&["clippy", "--all-targets", "--", "-D", "warnings"])));
        note("clippy for BPF", clippy_kernel_half());
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    say("nothing to mend");
    Ok(())
}

/// Clippy over the BPF programs. Only rustup's nightly has a clippy for them: Debian's compiler comes without.
fn clippy_kernel_half() -> Result<()> {
    let Some(nightly) = setup::rustup_nightly() else {
        say("clippy for BPF left out: it needs a rustup nightly with rust-src");
        return Ok(());
    };
    if !succeeds(command("rustup").args(["run", &nightly, "cargo-clippy", "-V"])) {
        say(format_args!("clippy for BPF left out: {nightly} has no clippy component"));
        return Ok(());
    }
    let target = ["--package", "breachline-ebpf", "--target", "bpfel-unknown-none", "-Zbuild-std=core"];
    let clippy = ["run", &nightly, "cargo", "clippy", "--profile", "bpf", "--target-dir", "target/bpf-clippy"];
    run_command(command("rustup").args(clippy).args(target).args(["--", "-D", "warnings"]))
}
