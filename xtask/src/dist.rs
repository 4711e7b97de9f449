//! `cargo xtask dist`: what an operator installs.
//!
//! Out, under `target/dist`: the static binary (BPF object inside), the `.deb`, the container image archive and
//! `SHA256SUMS`. The same commit gives the same bytes: every time stamp is the commit's own.

mod archive;
mod binary;
mod deb;
mod image;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::process::{capture, command, say};
use crate::setup::{self, Purpose};
use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these; everything when left out
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Then install each part here as an operator would and have it catch a breach (needs root; takes it all out again)
    #[arg(long, conflicts_with = "parts")]
    verify: bool,
    /// Verify what an earlier run made
    #[arg(long, hide = true, requires = "verify")]
    prebuilt: bool,
}

/// What can be made.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The static binary
    Binary,
    /// The Debian package
    Deb,
    /// The container image archive (`ctr images import`, `docker load`, `podman load`)
    Image,
}

/// What every part is made from.
struct Release {
    /// Where the parts go.
    folder: PathBuf,
    /// The static binary.
    binary: PathBuf,
    /// The default config, as the binary prints it.
    config: String,
    version: &'static str,
    /// Seconds since 1970 of the commit: the only time that enters a part.
    epoch: String,
}

/// The verb.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Build)?;
    let release = if args.prebuilt { Release::made()? } else { make(&args.parts)? };
    match (args.verify, verify::possible()) {
        (true, true) => verify::run(&release),
        (true, false) => verify::as_root_again(),
        (false, _) => Ok(()),
    }
}

/// Builds the binary, and from it the wanted parts.
fn make(parts: &[Part]) -> Result<Release> {
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    binary::build(&folder)?;
    let release = Release::made()?;
    let wanted = |part| parts.is_empty() || parts.contains(&part);

    let mut made = vec![release.binary.clone()];
    if wanted(Part::Deb) {
        made.push(deb::build(&release)?);
    }
    if wanted(Part::Image) {
        made.push(image::build(&release)?);
    }
    write_checksums(&release.folder, &made)?;
    for file in &made {
        say(format_args!("made {} ({} bytes)", file.display(), file.metadata()?.len()));
    }
    Ok(release)
}

fn folder() -> PathBuf {
    workspace::target().join("dist")
}

impl Release {
    /// Around the binary that lies in the folder.
    fn made() -> Result<Self> {
        let folder = folder();
        let binary = folder.join("breachline");
        let program = binary.to_string_lossy();
        let config = capture(command(&program).arg("sample-config"))?;
        let shipped = folder.join("breachline.toml");
        fs::write(&shipped, &config).with_context(|| format!("cannot write {}", shipped.display()))?;
        capture(command(&program).args(["check-config", "--config"]).arg(&shipped))
            .context("the binary refuses the config it would be shipped with")?;
        Ok(Self { folder, binary, config, version: env!("CARGO_PKG_VERSION"), epoch: epoch()? })
    }
}

/// `SOURCE_DATE_EPOCH` where a packager sets it, else the commit's time.
fn epoch() -> Result<String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let time = capture(command("git").args(["log", "-1", "--format=%ct"]))?;
    Ok(time.trim().to_owned())
}

/// In `sha256sum --check`'s format.
fn write_checksums(folder: &Path, files: &[PathBuf]) -> Result<()> {
    let mut lines = String::new();
    for file in files {
        let name = file.file_name().context("a part without a name")?.to_string_lossy();
        lines.push_str(&format!("{}  {name}\n", sha256(&fs::read(file)?)));
    }
    fs::write(folder.join("SHA256SUMS"), lines).context("cannot write SHA256SUMS")
}

/// Lower-case hex.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_what_sha256sum_checks() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("part");
        fs::write(&file, b"abc").unwrap();
        write_checksums(folder.path(), &[file]).unwrap();
        let sums = folder.path().join("SHA256SUMS");
        let check = ["--check", "--status", &sums.to_string_lossy()].map(str::to_owned);
        assert!(crate::process::succeeds(command("sha256sum").current_dir(folder.path()).args(&check)));
        // FIPS 180-2, appendix B.1.
        assert!(fs::read_to_string(sums).unwrap().starts_with("ba7816bf8f01cfea414140de5dae2223"));
    }
}
