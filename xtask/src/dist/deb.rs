//! The Debian package, from `packaging/debian` and the static binary, through `dpkg-deb` (on every Debian).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Release;
use super::archive::Tree;
use crate::process::{capture, command, run};
use crate::workspace;

/// Maintainer scripts, by the names dpkg knows.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// Files an operator edits: dpkg keeps the edited ones.
const CONFFILE: &str = "/etc/breachline/breachline.toml";
/// Where everything about a package goes that a person reads.
const DOC: &str = "usr/share/doc/breachline";

/// Builds it.
pub(super) fn build(release: &Release) -> Result<PathBuf> {
    let tree = Tree::new(release.folder.join("deb"))?;
    tree.add("usr/bin/breachline", fs::read(&release.binary)?, 0o755)?;
    tree.add("usr/lib/systemd/system/breachline.service", source("breachline.service")?, 0o644)?;
    tree.add(CONFFILE.trim_start_matches('/'), &release.config, 0o644)?;
    tree.add(&format!("{DOC}/copyright"), source("debian/copyright")?, 0o644)?;
    tree.add(&format!("{DOC}/OPERATIONS.md"), source("OPERATIONS.md")?, 0o644)?;
    tree.add(&format!("{DOC}/changelog.gz"), changelog()?, 0o644)?;
    tree.add("usr/share/lintian/overrides/breachline", source("debian/lintian-overrides")?, 0o644)?;

    tree.add("DEBIAN/conffiles", format!("{CONFFILE}\n"), 0o644)?;
    for script in SCRIPTS {
        tree.add(&format!("DEBIAN/{script}"), source(&format!("debian/{script}"))?, 0o755)?;
    }
    let control = control(&String::from_utf8(source("debian/control")?)?, release.version, installed_kib(&tree)?);
    tree.add("DEBIAN/control", control, 0o644)?;

    let package = path(release);
    let mut dpkg = command("dpkg-deb");
    dpkg.args(["--build", "--root-owner-group", "-Zxz"]).arg(tree.root()).arg(&package);
    run(dpkg.env("SOURCE_DATE_EPOCH", &release.epoch))?;
    Ok(package)
}

/// Where it lies.
pub(super) fn path(release: &Release) -> PathBuf {
    release.folder.join(format!("breachline_{}_amd64.deb", release.version))
}

fn source(name: &str) -> Result<Vec<u8>> {
    let path = workspace::root().join("packaging").join(name);
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The control file from its template; dpkg wants the size in KiB.
fn control(template: &str, version: &str, installed_kib: u64) -> String {
    template.replace("@VERSION@", version).replace("@INSTALLED_KIB@", &installed_kib.to_string())
}

fn installed_kib(tree: &Tree) -> Result<u64> {
    let sizes = capture(command("du").args(["--summarize", "--apparent-size", "--block-size=1024"]).arg(tree.root()))?;
    sizes.split_whitespace().next().and_then(|word| word.parse().ok()).context("du printed no number")
}

/// Without gzip's own time stamp.
fn changelog() -> Result<Vec<u8>> {
    let path = workspace::root().join("CHANGELOG.md");
    let output = command("gzip").args(["-9", "-n", "--stdout"]).arg(&path).output().context("cannot run gzip")?;
    anyhow::ensure!(output.status.success(), "gzip {} failed: {}", path.display(), output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_filled() {
        let template = String::from_utf8(source("debian/control").unwrap()).unwrap();
        let control = control(&template, "1.2.3", 4567);
        assert!(control.contains("\nVersion: 1.2.3\n") && control.contains("\nInstalled-Size: 4567\n"), "{control}");
        assert!(!control.contains("@VERSION") && !control.contains("_KIB@"), "a placeholder is left: {control}");
    }
}
