//! `cargo xtask fuzz`: libFuzzer over the edge's parsers, judge and template compiler, the receivers and the records of the kernel half, each for a bounded time.
//!
//! In: the targets of `tests/fuzz` (a crate of its own: libFuzzer's counters stay out of the normal build) and their
//! small committed corpora. Out: exit 0 when none crashed or hung; a crash leaves its input under
//! `tests/fuzz/artifacts`. The compiler is the project's own: the pass that counts edges is part of every stable one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::process::{command, run as run_command, say};
use crate::setup::{self, Purpose};
use crate::workspace;

/// Seconds one input may take, by the wall: the parsers promise linear time, so a slow input is a finding; a busy machine
/// is none.
const INPUT_SECONDS_MAX: u32 = 20;

/// Longest input: two of the longest lines that any balancer writes.
const INPUT_BYTES_MAX: u32 = 128 * 1024;

/// Megabytes a target may take before that is a finding.
const MEMORY_MB_MAX: u32 = 1024;

/// Counters for every edge of the control flow, as libFuzzer reads them. A sanitizer would need nightly; the crate
/// under test has no unsafe code that it could find something in.
const COUNTERS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// Naming the target keeps the counters out of build scripts and macros, which have no libFuzzer to report to.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this target; all of them when left out
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Targets at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
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
    let wanted: Vec<&String> =
        targets.iter().filter(|target| args.target.as_ref().is_none_or(|wanted| wanted == *target)).collect();
    build(&wanted, &read(&folder().join("Cargo.toml"))?)?;
    fuzz_all(&wanted, args)
}

/// Every target, some at a time. One that found something does not keep the others from looking.
fn fuzz_all(targets: &[&String], args: &Args) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failed = Vec::new();
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            failed.extend(fuzz(target, args.seconds).err().map(|error| format!("{error:#}")));
        }
        failed
    };
    let failed: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..args.jobs).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|_| vec!["a worker ended".to_owned()]))
            .collect()
    });
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
}

fn folder() -> PathBuf {
    workspace::root().join("tests/fuzz")
}

fn build(targets: &[&String], manifest: &str) -> Result<()> {
    say("building the fuzz targets");
    let mut cargo = command("cargo");
    cargo.args(["build", "--release", "--target", TRIPLE]).current_dir(folder()).env("RUSTFLAGS", COUNTERS);
    cargo.args(targets.iter().flat_map(|target| ["--bin", target.as_str()]));
    if targets.iter().any(|target| needs_agent(manifest, target)) {
        // The whole agent holds the kernel half, which needs a toolchain of its own.
        setup::ensure(Purpose::Build)?;
        cargo.args(["--features", "agent"]);
    }
    run_command(&mut cargo).context("libFuzzer's own part needs a C++ compiler: `apt-get install g++`")
}

/// Whether the manifest says that `target` needs the whole agent, which takes some minutes to compile.
fn needs_agent(manifest: &str, target: &str) -> bool {
    let mut bins = manifest.split("[[bin]]").skip(1);
    let bin = bins.find(|bin| bin.lines().any(|line| line == format!("name = \"{target}\"")));
    bin.is_some_and(|bin| bin.lines().any(|line| line == "required-features = [\"agent\"]"))
}

fn fuzz(target: &str, seconds: u32) -> Result<()> {
    let artifacts = folder().join("artifacts").join(target);
    fs::create_dir_all(&artifacts).with_context(|| format!("cannot create {}", artifacts.display()))?;
    // What is found new goes into the first folder; what is committed is only read.
    let grown = folder().join("target/corpus").join(target);
    fs::create_dir_all(&grown).with_context(|| format!("cannot create {}", grown.display()))?;
    let program = folder().join("target").join(TRIPLE).join("release").join(target);
    let mut run = Command::new(program);
    run.arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MB_MAX}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-print_final_stats=1", "-verbosity=0"])
        .arg(grown)
        // Not every target has inputs that are kept.
        .args(Some(corpus(target)).filter(|corpus| corpus.exists()));
    say(format!("{target}: {seconds} s"));
    run_command(&mut run).with_context(|| format!("{target} found something: see {}", artifacts.display()))
}

/// The committed corpus of a target; all formats share one, since each must survive the others' lines.
fn corpus(target: &str) -> PathBuf {
    let name = if target.starts_with("line_") || target == "any_line" { "line" } else { target };
    folder().join("corpus").join(name)
}

/// The programs that the crate declares.
fn targets() -> Result<Vec<String>> {
    let manifest = folder().join("Cargo.toml");
    let text = read(&manifest)?;
    let bins = text.split("[[bin]]").skip(1);
    let names = bins.filter_map(|bin| bin.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')));
    Ok(names.map(str::to_owned).collect())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_says_what_a_target_needs() {
        let manifest = "[features]\n[[bin]]\nname = \"a\"\n[[bin]]\nname = \"b\"\nrequired-features = [\"agent\"]\n";
        let check = |target: &str, expected: bool| assert_eq!(needs_agent(manifest, target), expected, "{target}");
        check("a", false);
        check("b", true);
        check("c", false);
    }
}
