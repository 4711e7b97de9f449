//! Senders of log lines for the receivers' test that come from Python's index, in an environment of their own under the
//! target directory.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process::{command, run, say};
use crate::workspace;

/// The official OpenTelemetry exporter and Fluentd's client library.
const PACKAGES: [&str; 3] =
    ["opentelemetry-sdk==1.45.2", "opentelemetry-exporter-otlp-proto-http==1.45.2", "fluent-logger==0.11.1"];

/// The Python that has them; tests find it here.
pub(crate) fn python() -> PathBuf {
    workspace::tools().join("senders/bin/python")
}

/// Whether they are installed.
pub(crate) fn found() -> bool {
    workspace::tools().join("senders/complete").exists()
}

/// Makes the environment anew, so that a half-made one never stays.
pub(crate) fn install() -> Result<()> {
    let folder = workspace::tools().join("senders");
    say(format_args!("installing {} into {}", PACKAGES.join(", "), folder.display()));
    run(command("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .context("python3-venv is needed for the senders of the receivers' test")?;
    run(command(&folder.join("bin/pip").to_string_lossy()).args(["install", "--quiet"]).args(PACKAGES))
        .context("pip could not install the senders")?;
    std::fs::write(folder.join("complete"), "").context("cannot mark the senders as installed")
}
