//! `cargo xtask fuzz`: libFuzzer over the decoders and parsers, each for a bounded time.
//!
//! In: the targets of `tests/fuzz` (a crate of its own: nightly and libFuzzer stay out of the normal build). Out: exit
//! 0 when none crashed or hung; a crash leaves its input under `tests/fuzz/artifacts`.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, command, find, run as run_command, say, succeeds};
use crate::workspace;

/// Seconds one input may take: the parsers promise linear time, so a slow input is a finding.
const INPUT_SECONDS_MAX: u32 = 5;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this target; all of them when left out
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only name the targets
    #[arg(long)]
    list: bool,
}

/// The verb.
#[expect(clippy::print_stdout, reason = "the list is the result")]
pub(crate) fn run(args: &Args) -> Result<()> {
    let targets = targets()?;
    if args.list {
        targets.iter().for_each(|target| println!("{target}"));
        return Ok(());
    }
    if let Some(wanted) = args.target.as_ref().filter(|wanted| !targets.contains(wanted)) {
        bail!("no fuzz target `{wanted}`: there are {}", targets.join(", "));
    }
    ensure_cargo_fuzz()?;
    for target in targets.iter().filter(|target| args.target.as_ref().is_none_or(|wanted| wanted == *target)) {
        fuzz(target, args.seconds)?;
    }
    Ok(())
}

fn fuzz(target: &str, seconds: u32) -> Result<()> {
    let limits = [format!("-max_total_time={seconds}"), format!("-timeout={INPUT_SECONDS_MAX}")];
    let words = ["fuzz", "run", "--fuzz-dir", "tests/fuzz", target, "--"];
    run_command(command("cargo").arg("+nightly").args(words).args(limits))
        .with_context(|| format!("{target} found something: see tests/fuzz/artifacts/{target}"))
}

/// The files of `fuzz_targets`, each one target.
fn targets() -> Result<Vec<String>> {
    let folder = workspace::root().join("tests/fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort_unstable();
    Ok(names)
}

fn ensure_cargo_fuzz() -> Result<()> {
    if !succeeds(command("rustup").args(["run", "nightly", "rustc", "-V"])) {
        bail!("libFuzzer needs nightly: `rustup toolchain install nightly`");
    }
    if find("cargo-fuzz").is_none() {
        say("installing cargo-fuzz");
        run_command(&mut cargo(&["install", "cargo-fuzz", "--locked"]))?;
    }
    Ok(())
}
