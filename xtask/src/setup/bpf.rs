//! The compiler and the linker of the kernel half.
//!
//! Two compilers bring what BPF needs: a rustup nightly with `rust-src` (core is built from source), and Debian's
//! `rustc-web`, which ships `core` for BPF as a package. Either works; `agent/build.rs` takes what it finds.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::debian;
use crate::process::{capture, cargo, cargo_home, command, find, run, say, succeeds};

/// The nightly that setup installs: the last one known to build the kernel half, with the LLVM named below.
const NIGHTLY: &str = "nightly-2026-05-20";
/// bpf-linker must carry the same LLVM major as the compiler whose bitcode it reads.
const LLVM_MAJOR: u32 = 22;
/// The first bpf-linker that takes LLVM 22 and 23 by feature.
const LINKER_VERSION: &str = "0.13.0";
/// The newest cargo-binstall that this workspace's `rust-version` compiles; later ones want 1.96.
const BINSTALL_VERSION: &str = "1.24.0";
/// Seconds for rustup to fetch about 100 MB before Debian's compiler is tried instead: without a bound a filtered
/// network stalls the first build for as long as rustup retries.
const RUSTUP_SECONDS: &str = "240";

/// A compiler that can build the kernel half.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// A rustup nightly with `rust-src`.
    Rustup,
    /// Debian's `rustc-web` with `libstd-rust-web-dev-bpf`.
    Debian,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rustup => "rustup nightly with rust-src",
            Self::Debian => "Debian's rustc-web with core for BPF",
        })
    }
}

/// The compiler this machine has, if any.
pub(crate) fn found() -> Option<Toolchain> {
    if rustup_nightly().is_some() {
        Some(Toolchain::Rustup)
    } else if debian_core() {
        Some(Toolchain::Debian)
    } else {
        None
    }
}

/// The name of an installed nightly that has the standard library's source.
pub(crate) fn rustup_nightly() -> Option<String> {
    let listing = capture(command("rustup").args(["toolchain", "list", "--verbose"])).ok()?;
    let with_source = |line: &str| {
        let name = line.split_whitespace().next().filter(|name| name.starts_with("nightly"))?;
        let folder = line.split_whitespace().last().map(PathBuf::from)?;
        folder.join("lib/rustlib/src/rust/library/core").is_dir().then(|| name.to_owned())
    };
    listing.lines().find_map(with_source)
}

fn debian_core() -> bool {
    let core = std::fs::read_dir("/usr/lib/rustlib/bpfel-unknown-none/lib");
    Path::new("/usr/bin/rustc").exists() && core.is_ok_and(|mut folder| folder.next().is_some())
}

/// Whether bpf-linker runs: one that was built where LLVM was, and carried to a machine without it, is there and does not.
pub(crate) fn linker_found() -> bool {
    succeeds(command("bpf-linker").arg("--version"))
}

/// Installs a compiler: rustup's where rustup is there and can fetch it, else Debian's.
pub(crate) fn install_toolchain() -> Result<()> {
    if find("rustup").is_some() {
        say(format_args!("installing {NIGHTLY} with rust-src through rustup, to compile the kernel half"));
        let args = ["install", NIGHTLY, "--profile", "minimal", "--component", "rust-src", "--no-self-update"];
        if run(command("timeout").args([RUSTUP_SECONDS, "rustup", "toolchain"]).args(args)).is_ok() {
            return Ok(());
        }
        say("rustup could not supply it; trying Debian's rustc-web");
    }
    debian::install(&debian::BPF_COMPILER.iter().collect::<Vec<_>>()).context(
        "neither rustup nor apt has a Rust toolchain for BPF: install rustup (https://rustup.rs), or use Debian 12 \
         with its security archive",
    )
}

/// Builds bpf-linker from crates.io into cargo's folder for programs (about a minute).
pub(crate) fn install_linker() -> Result<()> {
    let llvm = format!("/usr/lib/llvm-{LLVM_MAJOR}");
    let feature = format!("llvm-{LLVM_MAJOR}");
    if let Err(error) = debian::install(&debian::LLVM.iter().collect::<Vec<_>>()) {
        return prebuilt_linker().with_context(|| format!("{feature} is not to be had from apt ({error:#})"));
    }
    say(format_args!("building bpf-linker {LINKER_VERSION} with LLVM {LLVM_MAJOR} into {}", cargo_home().display()));
    let args = ["install", "bpf-linker", "--version", LINKER_VERSION, "--no-default-features", "--features", &feature];
    // Without LLVM_PREFIX its build looks in the wrong folder and ends in "unable to find library -lLLVM".
    // Forced: one that is there and does not run would otherwise count as installed.
    run(cargo(&args).arg("--force").env("LLVM_PREFIX", llvm))
}

/// Where apt has no LLVM of the right age (Ubuntu): the project's own static build, through cargo-binstall.
fn prebuilt_linker() -> Result<()> {
    if !succeeds(command("cargo").args(["binstall", "-V"])) {
        say("building cargo-binstall, which fetches bpf-linker's own static build");
        run(&mut cargo(&["install", "cargo-binstall", "--version", BINSTALL_VERSION, "--locked"]))?;
    }
    run(command("cargo").args(["binstall", "--no-confirm", &format!("bpf-linker@{LINKER_VERSION}")]))
}
