//! The .deb under a real systemd: a bare Debian booted in a container, the package installed in it, its hardened unit
//! started by systemd as on any server. What the sandbox lines of the unit break shows here and nowhere else.
//!
//! Out: whether the unit is active and the agent answers. The breach itself is the other ways' trial: in here the agent
//! sees pids of its own namespace, the kernel reports those of the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::breach::{end, until};
use crate::dist::{Release, deb};
use crate::process::{command, run, say};
use crate::workspace;

/// For a bare Debian to boot and the agent to answer; measured 6 s, most of it the agent's own start.
const BOOT_MAX: Duration = Duration::from_secs(90);
/// What the unit may use, so the container must allow it.
const CAPABILITIES: &str = "CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN,CAP_SYS_PTRACE,CAP_DAC_READ_SEARCH";

/// Installs, boots, asks.
pub(super) fn verify(release: &Release, scratch: &Path) -> Result<()> {
    let root = scratch.join("root");
    run(command("cp").args(["--archive", "--reflink=auto"]).arg(bare_debian()?).arg(&root))?;
    install(release, &root)?;
    let senses = BpfFileSystem::mount(scratch.join("bpf"))?;
    let container = boot(&root, &senses)?;
    let verdict = until(BOOT_MAX, || fs::read_to_string(root.join(VERDICT)).ok().filter(|text| text.ends_with(DONE)));
    end(container)?;
    match verdict {
        Some(text) if text.starts_with("active\n") && senses_all(&text) => Ok(()),
        Some(text) => bail!("the unit is not well under systemd:\n{text}"),
        None => bail!("no verdict within {BOOT_MAX:?}: see {}", root.join("var/log/journal").display()),
    }
}

/// Whether the agent's status, somewhere in `text`, has every sense active.
fn senses_all(text: &str) -> bool {
    let senses = text.matches("\"sense\": ").count();
    senses > 0 && text.matches("\"state\": \"active\"").count() == senses
}

/// Where the container leaves its verdict.
const VERDICT: &str = "root/verdict";
/// Its last line, so that half a verdict is not read.
const DONE: &str = "done\n";
/// Asks until the agent answers, then writes what systemd and the agent say.
const ASK: &str = "#!/bin/sh
for try in $(seq 300); do breachline status --json >/root/status 2>&1 && break; sleep 0.2; done
{ systemctl is-active breachline; journalctl -u breachline --no-pager | tail -n 40; cat /root/status; echo done; } >/root/verdict 2>&1
";
const ASK_UNIT: &str = "[Unit]\nAfter=breachline.service\n[Service]\nExecStart=/root/ask\n";

fn install(release: &Release, root: &Path) -> Result<()> {
    fs::copy(deb::path(release), root.join("root/breachline.deb")).context("cannot copy the package")?;
    run(command("chroot").arg(root).args(["dpkg", "--install", "/root/breachline.deb"]))?;
    fs::write(root.join("root/ask"), ASK)?;
    run(command("chmod").arg("755").arg(root.join("root/ask")))?;
    fs::write(root.join("etc/systemd/system/ask.service"), ASK_UNIT)?;
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    std::os::unix::fs::symlink("../ask.service", wants.join("ask.service")).context("cannot enable the question")
}

fn boot(root: &Path, senses: &BpfFileSystem) -> Result<Child> {
    let mut nspawn = command("systemd-nspawn");
    // No bus on a build machine to register with; what the unit adds to systemd's groups is not in nspawn's own filter.
    nspawn.args(["--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe", "--directory"]).arg(root);
    nspawn.arg(format!("--capability={CAPABILITIES}"));
    nspawn.arg("--system-call-filter=bpf perf_event_open pidfd_getfd");
    nspawn.arg(format!("--bind={}:/sys/fs/bpf", senses.0.display()));
    let console = fs::File::create(root.with_extension("console"))?;
    nspawn.stdout(console.try_clone()?).stderr(console).stdin(std::process::Stdio::null());
    nspawn.spawn().context("cannot start systemd-nspawn")
}

/// A BPF file system of the container's own, which systemd mounts on a server and nspawn does not. What the agent pins there
/// ends with it.
struct BpfFileSystem(PathBuf);

impl BpfFileSystem {
    fn mount(at: PathBuf) -> Result<Self> {
        fs::create_dir_all(&at).with_context(|| format!("cannot make {}", at.display()))?;
        run(command("mount").args(["-t", "bpf", "bpf"]).arg(&at))?;
        Ok(Self(at))
    }
}

impl Drop for BpfFileSystem {
    fn drop(&mut self) {
        if let Err(error) = run(command("umount").arg(&self.0)) {
            say(format_args!("the senses that were tried may still run: {error:#}"));
        }
    }
}

/// A minimal Debian 12 with systemd, made once (40 s) and kept with the other tools.
fn bare_debian() -> Result<PathBuf> {
    let root = workspace::tools().join("bookworm");
    if !root.exists() {
        say(format_args!("making a bare Debian in {}", root.display()));
        let half_made = root.with_extension("new");
        let words = ["--variant=minbase", "--include=systemd,systemd-sysv", "bookworm"];
        run(command("debootstrap").args(words).arg(&half_made))?;
        fs::rename(&half_made, &root)?;
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_blind_sense_is_not_well() {
        let sense = |state: &str| format!("{{\n  \"sense\": \"exec\",\n  \"state\": \"{state}\"\n}}\n");
        assert!(senses_all(&(sense("active") + &sense("active"))));
        assert!(!senses_all(&(sense("active") + &sense("degraded"))));
        assert!(!senses_all("breachline: no agent answers"));
    }
}
