//! The image: imported into a containerd of our own and run as the DaemonSet runs it (host's pids and network, its
//! mounts, its capabilities, a read-only root).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result};

use super::breach::{Trial, end, until};
use super::unit_capabilities;
use crate::dist::{Release, image};
use crate::process::{command, run, say, succeeds};

/// What containerd gives a container by default (containerd 1.6, `oci.defaultUnixCaps`): the DaemonSet drops all.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];
const CONTAINER: &str = "breachline-verify";

/// Imports, runs, catches.
pub(super) fn verify(release: &Release, scratch: &Path) -> Result<()> {
    let runtime = Runtime::start(&scratch.join("containerd"))?;
    run(runtime.ctr(&["images", "import"]).arg(image::path(release)))?;
    let trial = Trial::new(scratch, "image")?;
    let agent = as_the_daemonset_does(&runtime, release, &trial)?.stdout(File::create(trial.output())?).spawn()?;
    let caught = trial.hold(|| ready(&runtime, &trial));
    // ctr hands SIGTERM on to the container's process.
    let ended = end(agent);
    caught.and(ended)
}

fn as_the_daemonset_does(runtime: &Runtime, release: &Release, trial: &Trial) -> Result<Command> {
    // The host's pid namespace is named by a process in it, ours: pid 1's may not be open to us.
    let pids = format!("pid:/proc/{}/ns/pid", std::process::id());
    let mut ctr = runtime.ctr(&["run", "--rm", "--net-host", "--read-only", "--with-ns", &pids]);
    for dropped in DEFAULT_CAPABILITIES {
        ctr.args(["--cap-drop", dropped]);
    }
    for added in unit_capabilities()? {
        ctr.args(["--cap-add", &added]);
    }
    let folder = trial.folder().display();
    for mount in [
        "type=bind,src=/sys/fs/cgroup,dst=/sys/fs/cgroup,options=rbind:ro".to_owned(),
        "type=tmpfs,src=tmpfs,dst=/run/breachline".to_owned(),
        format!("type=bind,src={folder},dst={folder},options=rbind:rw"),
    ] {
        ctr.args(["--mount", &mount]);
    }
    ctr.args([&image::name(release), CONTAINER, "/usr/bin/breachline", "run", "--config"]).arg(trial.config());
    Ok(ctr)
}

fn ready(runtime: &Runtime, trial: &Trial) -> bool {
    let exec =
        ["tasks", "exec", "--exec-id", "status", CONTAINER, "/usr/bin/breachline", "status", "--json", "--config"];
    succeeds(runtime.ctr(&exec).arg(trial.config()))
}

/// A containerd that lives as long as this value, with its state below one folder.
struct Runtime {
    socket: PathBuf,
    daemon: Option<Child>,
}

impl Runtime {
    fn start(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let socket = folder.join("socket");
        let config = folder.join("config.toml");
        let text = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\n\
             [grpc]\naddress = \"{0}/socket\"\n",
            folder.display()
        );
        fs::write(&config, text)?;
        let log = File::create(folder.join("log"))?;
        let mut containerd = command("containerd");
        containerd.arg("--config").arg(&config).stdout(log.try_clone()?).stderr(log);
        let runtime = Self { socket, daemon: Some(containerd.spawn().context("cannot start containerd")?) };
        until(Duration::from_secs(20), || succeeds(&mut runtime.ctr(&["version"])).then_some(()))
            .with_context(|| format!("containerd does not answer: see {}", folder.join("log").display()))?;
        Ok(runtime)
    }

    fn ctr(&self, args: &[&str]) -> Command {
        let mut ctr = command("ctr");
        ctr.arg("--address").arg(&self.socket).args(args);
        ctr
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // A container that is still there would outlive its runtime.
        let _ = succeeds(&mut self.ctr(&["tasks", "kill", "--signal", "SIGKILL", CONTAINER]));
        let _ = succeeds(&mut self.ctr(&["containers", "delete", CONTAINER]));
        if let Some(daemon) = self.daemon.take()
            && let Err(error) = end(daemon)
        {
            say(format_args!("containerd: {error:#}"));
        }
    }
}
