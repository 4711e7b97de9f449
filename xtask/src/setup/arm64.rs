//! Rust's standard library for arm64: rustup's where it can be had, else Debian's, unpacked beside the kernels.
//!
//! Debian's must be of exactly its compiler's version, so that compiler builds then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::kernels;
use crate::process::{self, capture, command, find, run, say};
use crate::workspace;

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// Seconds for rustup to fetch 30 MB before Debian's is tried.
const RUSTUP_SECONDS: &str = "120";

/// Whether the library is there, one way or the other.
pub(super) fn found() -> bool {
    rustup_has_it() || library().is_dir()
}

fn rustup_has_it() -> bool {
    let listing = capture(command("rustup").args(["target", "list", "--installed"]));
    listing.is_ok_and(|listing| listing.lines().any(|line| line == TARGET))
}

/// The unpacked package's `/usr`: a system root for the target alone.
fn root() -> PathBuf {
    workspace::target().join("kernels/arm64-std/usr")
}

fn library() -> PathBuf {
    root().join("lib/rustlib").join(TARGET).join("lib")
}

/// Fetches it.
pub(super) fn install() -> Result<()> {
    if find("rustup").is_some() {
        say("fetching Rust's standard library for arm64 through rustup");
        if run(command("timeout").args([RUSTUP_SECONDS, "rustup", "target", "add", TARGET])).is_ok() {
            return Ok(());
        }
        say("rustup could not supply it; trying Debian's");
    }
    let version = capture(command("dpkg-query").args(["--showformat=${Version}", "--show", "rustc-web"]))
        .context("neither rustup nor Debian's rustc-web can build for arm64")?;
    let unpacked = kernels::unpacked_for_arm64(&format!("libstd-rust-web-dev={version}"))?;
    let place = root().parent().map(PathBuf::from).unwrap_or_default();
    fs::rename(unpacked, &place).with_context(|| format!("cannot write {}", place.display()))
}

/// A cargo that builds for arm64, statically, and the folder where it leaves programs of the profile `dev`.
///
/// The kernel half is not built again: its byte code is the same for all machines, and it is this one that must load there.
pub(crate) fn cargo(object: &Path) -> (Command, PathBuf) {
    let mut flags = String::from("-C target-feature=+crt-static");
    let (mut cargo, folder) = if rustup_has_it() {
        // What runs here while building (macros, build scripts) is there already.
        (process::cargo(&[]), workspace::target())
    } else {
        flags.push_str(&format!(" --sysroot {}", root().display()));
        let mut debian = command("/usr/bin/cargo");
        debian.env("RUSTC", "/usr/bin/rustc");
        // A folder of its own: with another compiler everything would be built anew, and again for the tests.
        (debian, workspace::target().join("arm64"))
    };
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", flags);
    // Nobody debugs in the guest, and nothing is built there twice.
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "none").env("CARGO_INCREMENTAL", "0");
    cargo.env("CARGO_BUILD_TARGET", TARGET).env("CARGO_TARGET_DIR", &folder).env("BREACHLINE_BPF_OBJECT", object);
    (cargo, folder.join(TARGET).join("debug"))
}
