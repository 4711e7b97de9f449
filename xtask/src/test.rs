//! `cargo xtask test`: the whole suite, in the order a developer wants to hear bad news.
//!
//! First the stages and the command line, as whoever calls; then the kernel senses and the whole chain, as root; last, every
//! way around on every other kernel. Every part runs even when an earlier one failed; the last line on stdout is a test
//! runner's summary.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::kernels;
use crate::process::{cargo, root_prefix, run as run_command, say};
use crate::setup::{self, Purpose};
use crate::workspace;

/// Test binaries of the `tests` crate that load BPF programs or make network namespaces.
const NEEDS_ROOT: [&str; 7] = ["kernel", "containers", "drill", "end_to_end", "fleet", "receivers", "self_check"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out what needs root
    #[arg(long)]
    unprivileged: bool,
    /// Leave out the other kernels, which QEMU boots (`cargo xtask kernels` walks them alone)
    #[arg(long)]
    no_kernels: bool,
    /// Leave out the arm64 kernels, for which the agent is built once more
    #[arg(long, conflicts_with = "no_kernels")]
    amd64: bool,
    /// Run only tests whose name contains this; the other kernels are left out
    #[arg(conflicts_with = "amd64")]
    filter: Option<String>,
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Test)?;
    // The whole-agent tests start the binary; they are told where it is rather than left to guess a profile. Every default
    // member is built, so that features are unified as for the tests and nothing is compiled twice.
    run_command(&mut cargo(&["build"]))?;
    let (plain, privileged) = whole_agent_tests()?;
    let mut failed = Vec::new();

    say("the stages");
    let stages = ["--workspace", "--exclude", "breachline-ebpf", "--exclude", "breachline-tests"];
    note(&mut failed, "stages", cargo_test(args, &stages, &[]));

    say("the whole agent, without root");
    note(&mut failed, "whole agent", cargo_test(args, &selection(&plain), &[]));

    if !args.unprivileged && !privileged.is_empty() {
        say("the kernel senses and the whole chain, as root");
        note(&mut failed, "as root", cargo_test(args, &selection(&privileged), root_prefix()?));
    }
    if !args.unprivileged && !args.no_kernels && args.filter.is_none() {
        say("every way around, on every other kernel");
        note(&mut failed, "kernels", kernels::test(!args.amd64));
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// `cargo test`, its test binaries started by `runner` (for example `sudo -E`): they are compiled as the caller, so the
/// target directory stays the caller's.
fn cargo_test(args: &Args, selection: &[&str], runner: &[&str]) -> Result<()> {
    let mut command = cargo(&["test", "--no-fail-fast"]);
    command.args(selection).env("BREACHLINE_BINARY", workspace::agent_binary("debug"));
    command.env("BREACHLINE_MOTO", setup::moto_server()).env("BREACHLINE_SENDERS", setup::senders_python());
    if !runner.is_empty() {
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", runner.join(" "));
    }
    command.args(args.filter.iter().flat_map(|filter| ["--", filter.as_str()]));
    run_command(&mut command)
}

fn note(failed: &mut Vec<&'static str>, part: &'static str, outcome: Result<()>) {
    if let Err(error) = outcome {
        say(format_args!("{error:#}"));
        failed.push(part);
    }
}

fn selection(tests: &[String]) -> Vec<&str> {
    let named = tests.iter().flat_map(|test| ["--test", test.as_str()]);
    ["--package", "breachline-tests"].into_iter().chain(named).collect()
}

/// The test binaries of the `tests` crate: those anyone can run, and those that need root. Found by looking, so that a
/// new file is never forgotten.
fn whole_agent_tests() -> Result<(Vec<String>, Vec<String>)> {
    let folder = workspace::root().join("tests/tests");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        // `name.rs`, or `name/main.rs`: the two forms that cargo takes for a test binary.
        if path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").exists() {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort_unstable();
    Ok(names.into_iter().partition(|name| !NEEDS_ROOT.contains(&name.as_str())))
}
