//! What a guest runs: the agent and the test program built for its architecture, and a handful of Debian's programs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::archive;
use super::catalogue::Architecture;
use crate::process::{capture, cargo, command, run, say};
use crate::setup;
use crate::workspace;

/// The packages, and of their files those that are wanted: by name, libraries by how their name begins.
const PACKAGES: [&str; 7] = ["busybox-static", "dash", "mawk", "perl-base", "libc6", "libcrypt1", "libgcc-s1"];
const WANTED: [&str; 4] = ["busybox", "dash", "mawk", "perl"];
const LIBRARIES: [&str; 5] = ["ld-linux-", "libc.so.", "libm.so.", "libcrypt.so.", "libgcc_s.so."];

/// What goes into an initramfs.
pub(super) struct Programs {
    pub(super) architecture: Architecture,
    /// A root directory with the shell, busybox, the interpreters and their libraries.
    pub(super) root: PathBuf,
    /// The test program, without symbols.
    pub(super) ways: PathBuf,
    /// The agent, likewise.
    pub(super) agent: PathBuf,
}

/// Fetches and builds what guests of this architecture run; another machine's programs by so many jobs.
pub(super) fn prepare(architecture: Architecture, jobs: usize) -> Result<Programs> {
    let root = debian(architecture)?;
    let built = match architecture {
        Architecture::Amd64 => build()?,
        Architecture::Arm64 => build_for_arm64(jobs)?,
    };
    let stripped = |name: &str| strip(architecture, &built.join(name));
    Ok(Programs { architecture, root, ways: stripped("ways")?, agent: stripped("breachline")? })
}

/// Builds agent and test program for this machine, which is what `cargo test` uses anyway; the folder they lie in.
pub(super) fn build() -> Result<PathBuf> {
    run(&mut cargo(&["build"]))?;
    Ok(workspace::target().join("debug"))
}

/// Builds them for arm64.
fn build_for_arm64(jobs: usize) -> Result<PathBuf> {
    // Brings the kernel half, which is the same on all machines.
    build()?;
    say("building the agent and the test program for arm64");
    let (mut command, folder) = setup::arm64_cargo(&workspace::bpf_object());
    // Of all default members, as above: features are the same then, and macros and build scripts are there already.
    run(command.args(["build", "--bin", "breachline", "--bin", "ways", "--jobs", &jobs.to_string()]))?;
    Ok(folder)
}

/// A copy without symbols: a debug build is ten times as large, and an initramfs lies in the guest's memory.
fn strip(architecture: Architecture, binary: &Path) -> Result<PathBuf> {
    let name = binary.file_name().context("no name")?.to_string_lossy().into_owned();
    let stripped = archive::folder().join(format!("{name}-{}", architecture.debian()));
    let tool = match architecture {
        Architecture::Amd64 => "strip",
        Architecture::Arm64 => "aarch64-linux-gnu-strip",
    };
    capture(command(tool).arg("-o").arg(&stripped).arg(binary))?;
    Ok(stripped)
}

/// Debian's programs, fetched unless they are there.
fn debian(architecture: Architecture) -> Result<PathBuf> {
    let root = archive::folder().join(format!("userland-{}", architecture.debian()));
    if root.exists() {
        return Ok(root);
    }
    let half_made = root.with_extension("new");
    if half_made.exists() {
        fs::remove_dir_all(&half_made)?;
    }
    let unpacked = archive::unpacked(&PACKAGES, architecture)?;
    take(&unpacked, &unpacked, &half_made)?;
    fs::rename(&half_made, &root)?;
    Ok(root)
}

/// Moves the wanted files below `folder`, which lies in `top`, to the same places below `root`.
fn take(folder: &Path, top: &Path, root: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            take(&path, top, root)?;
        } else if WANTED.contains(&name.as_str()) && path.parent().is_some_and(|folder| folder.ends_with("bin"))
            || LIBRARIES.iter().any(|library| name.starts_with(library))
        {
            let place = root.join(path.strip_prefix(top)?);
            fs::create_dir_all(place.parent().unwrap_or(root))?;
            fs::rename(&path, &place)?;
        }
    }
    Ok(())
}
