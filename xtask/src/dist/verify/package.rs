//! The .deb: installed with dpkg, its agent started with exactly the unit's capabilities, removed without a trace.

use std::fs::File;
use std::path::Path;

use anyhow::{Result, bail};

use super::breach::{Trial, end};
use super::unit_capabilities;
use crate::dist::Release;
use crate::process::{command, run, say, succeeds};

/// systemd's exposure score (0 best, 100 worst) that the unit must stay under. What is left is what the agent is for:
/// BPF, reading other processes, the host's network.
const EXPOSURE_MAX: &str = "35";
/// What purging must leave nothing of.
const TRACES: [&str; 5] = [
    "/usr/bin/breachline",
    "/etc/breachline",
    "/var/lib/breachline",
    "/sys/fs/bpf/breachline",
    "/etc/systemd/system/multi-user.target.wants/breachline.service",
];

/// The whole way: in, run, out.
pub(super) fn verify(release: &Release, scratch: &Path) -> Result<()> {
    if Path::new(TRACES[0]).exists() {
        bail!("{} is there already: this host has an agent of its own", TRACES[0]);
    }
    let installed = Installed::from(release)?;
    let unit = "/usr/lib/systemd/system/breachline.service";
    run(command("systemd-analyze").args(["verify", unit]))?;
    let security = ["security", "--no-pager", "--offline=true", "--threshold", EXPOSURE_MAX, unit];
    run(command("systemd-analyze").args(security).stdout(std::process::Stdio::null()))?;
    run(command(TRACES[0]).args(["check-config", "--config", "/etc/breachline/breachline.toml"]))?;
    catch(scratch)?;
    drop(installed);
    match TRACES.iter().find(|trace| Path::new(trace).symlink_metadata().is_ok()) {
        Some(trace) => bail!("{trace} is still there after the purge"),
        None => Ok(()),
    }
}

/// Runs the installed agent as the unit does, as far as that goes without systemd as pid 1: root with its bounding set.
fn catch(scratch: &Path) -> Result<()> {
    let trial = Trial::new(scratch, "package")?;
    let bounding: Vec<String> =
        unit_capabilities()?.iter().map(|name| name.to_lowercase().replace("cap_", "+")).collect();
    let mut agent = command("setpriv");
    agent.args(["--no-new-privs", "--inh-caps=-all", &format!("--bounding-set=-all,{}", bounding.join(","))]);
    agent.args([TRACES[0], "run", "--config"]).arg(trial.config()).stdout(File::create(trial.output())?);
    let agent = agent.spawn()?;
    let caught = trial.hold(|| ready(&trial));
    end(agent).and(caught)
}

fn ready(trial: &Trial) -> bool {
    succeeds(command(TRACES[0]).args(["status", "--json", "--config"]).arg(trial.config()))
}

/// The package while it is installed; purged when dropped.
struct Installed;

impl Installed {
    fn from(release: &Release) -> Result<Self> {
        let installed = Self;
        run(command("dpkg").arg("--install").arg(super::super::deb::path(release)))?;
        Ok(installed)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        if run(command("dpkg").args(["--purge", "breachline"])).is_err() {
            say("the package could not be purged: dpkg --purge breachline");
        }
    }
}
