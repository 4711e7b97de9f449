//! moto, the metadata emulator of the end-to-end test, in a Python environment of its own under the target directory.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process::{command, run, say};
use crate::workspace;

/// Pinned: the test asserts answers of its metadata paths.
const MOTO: &str = "moto[server]==5.2.5";

/// The emulator's program; tests find it here.
pub(crate) fn server() -> PathBuf {
    workspace::tools().join("moto/bin/moto_server")
}

/// Whether it is installed.
pub(crate) fn found() -> bool {
    server().exists()
}

/// Makes the environment anew, so that a half-made one never stays.
pub(crate) fn install() -> Result<()> {
    let folder = workspace::tools().join("moto");
    say(format_args!("installing {MOTO} into {}", folder.display()));
    run(command("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .context("python3-venv is needed for the metadata emulator")?;
    run(command(&folder.join("bin/pip").to_string_lossy()).args(["install", "--quiet", MOTO]))
        .context("pip could not install the metadata emulator")
}
