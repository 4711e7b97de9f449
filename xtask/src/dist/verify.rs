//! `cargo xtask dist --verify`: installs what was just made, the way an operator would, and has it catch a breach.
//!
//! The package and the image must catch a breach with exactly the privileges they are shipped with; the unit must run under
//! a real systemd. Needs root. It refuses to touch a host that already has the package. Everything it makes (package, containers, a
//! containerd of its own) is gone when it ends, also when a step failed.

mod boot;
mod breach;
mod image;
mod package;

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Release;
use super::archive::Tree;
use crate::process::{as_root, is_root, run as run_command, say};
use crate::setup::{self, Purpose};
use crate::workspace;

type Way = fn(&Release, &Path) -> Result<()>;

/// What is tried, cheapest first.
const WAYS: [(&str, Way); 3] =
    [("the package", package::verify), ("the image", image::verify), ("the unit under systemd", boot::verify)];

/// Verifies all ways to install; every way is tried even when the first failed.
pub(super) fn run(release: &Release) -> Result<()> {
    setup::ensure(Purpose::Install)?;
    let scratch = Tree::new(release.folder.join("verify"))?;
    let mut failed = Vec::new();
    for (way, verify) in WAYS {
        say(format_args!("verifying {way}"));
        if let Err(error) = verify(release, scratch.root()) {
            say(format_args!("{way}: {error:#}"));
            failed.push(way);
        }
    }
    if !failed.is_empty() {
        bail!("not as it should be: {}", failed.join(", "));
    }
    say("the package, the image and the unit do what they promise");
    Ok(())
}

/// Starts this same verb again as root, on what was built as the caller.
pub(super) fn as_root_again() -> Result<()> {
    let own = std::env::current_exe().context("own path")?;
    run_command(&mut as_root(&own.to_string_lossy(), &["dist", "--verify", "--prebuilt"])?)
}

/// Whether the steps here can be done by this process.
pub(super) fn possible() -> bool {
    is_root()
}

/// The capabilities of the unit: the one list that the DaemonSet and this verification are held to.
fn unit_capabilities() -> Result<Vec<String>> {
    let path = workspace::root().join("packaging/breachline.service");
    let unit = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = line.context("the unit has no CapabilityBoundingSet=")?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemonset_asks_for_the_units_capabilities() {
        let path = workspace::root().join("packaging/kubernetes/daemonset.yaml");
        let manifest = std::fs::read_to_string(path).unwrap();
        let added = manifest.split_once("add:\n").expect("a list of capabilities").1.lines();
        let names = added.map_while(|line| line.trim_start().strip_prefix("- "));
        let asked: Vec<String> =
            names.map(|name| format!("CAP_{}", name.split_whitespace().next().unwrap_or_default())).collect();
        assert_eq!(asked, unit_capabilities().unwrap());
    }
}
