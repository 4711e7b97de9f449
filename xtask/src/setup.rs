//! `cargo xtask setup`: what a fresh Debian or Ubuntu machine lacks, installed and said aloud.
//!
//! In: which purpose the machine must serve. Out: a machine that serves it, or one error that lists what to install by
//! hand. Where all is there it only looks (well under a second) and prints one line.

mod arm64;
mod bpf;
mod debian;
mod moto;
mod senders;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::process::say;

pub(crate) use arm64::cargo as arm64_cargo;
pub(crate) use bpf::rustup_nightly;
pub(crate) use moto::server as moto_server;
pub(crate) use senders::python as senders_python;

/// What a machine is wanted for; each purpose includes the ones before it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Purpose {
    /// Compile the agent and its BPF object, run it, drill it
    Build,
    /// Other kernels in QEMU, arm64 ones among them
    Kernels,
    /// Everything the tests talk to: real balancers, a real application server, a metadata emulator
    Test,
    /// A container runtime and a bare Debian, to try what `dist` makes
    Install,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What this machine is wanted for
    #[arg(long = "for", value_enum, default_value_t = Purpose::Test)]
    purpose: Purpose,
    /// Only report what is there and what is missing; exit 1 when something is
    #[arg(long)]
    check: bool,
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.check { check(args.purpose) } else { ensure(args.purpose) }
}

/// Makes the machine fit, for the other verbs.
pub(crate) fn ensure(purpose: Purpose) -> Result<()> {
    if missing(purpose).is_empty() {
        return Ok(());
    }
    // Packages first: bpf-linker needs LLVM's, the metadata emulator needs Python's.
    debian::install(&debian::missing(purpose))?;
    if bpf::found().is_none() {
        bpf::install_toolchain()?;
    }
    if !bpf::linker_found() {
        bpf::install_linker()?;
    }
    if purpose >= Purpose::Test && !moto::found() {
        moto::install()?;
    }
    if purpose >= Purpose::Test && !senders::found() {
        senders::install()?;
    }
    if purpose >= Purpose::Kernels && !arm64::found() {
        arm64::install()?;
    }
    match missing(purpose) {
        left if left.is_empty() => say("this machine is ready"),
        left => bail!("still missing after setup: {}", left.join(", ")),
    }
    Ok(())
}

fn missing(purpose: Purpose) -> Vec<String> {
    let toolchain = bpf::found();
    let packages = debian::missing(purpose).into_iter().map(|part| part.package.to_owned());
    let others = [
        (toolchain.is_none(), "a Rust toolchain that compiles for BPF"),
        (!bpf::linker_found(), "bpf-linker"),
        (purpose >= Purpose::Test && !moto::found(), "moto (metadata emulator)"),
        (purpose >= Purpose::Test && !senders::found(), "OpenTelemetry's and Fluentd's senders"),
        (purpose >= Purpose::Kernels && !arm64::found(), "Rust's standard library for arm64"),
    ];
    packages.chain(others.into_iter().filter(|(lacks, _)| *lacks).map(|(_, name)| name.to_owned())).collect()
}

#[expect(clippy::print_stdout, reason = "the report is the result")]
fn check(purpose: Purpose) -> Result<()> {
    match bpf::found() {
        Some(toolchain) => println!("BPF toolchain: {toolchain}"),
        None => println!("BPF toolchain: missing"),
    }
    match missing(purpose) {
        left if left.is_empty() => println!("nothing is missing"),
        left => bail!("missing: {}", left.join(", ")),
    }
    Ok(())
}
