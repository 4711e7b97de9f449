//! The runtimes, each with all of its state in one folder of the test: containerd by `ctr`, podman as root and as nobody.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use breachline_tests::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{image, shell};

/// The user without any right.
const NOBODY: u32 = 65_534;
/// Longest wait for a runtime: it starts within a second.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// A folder with the image; everybody may look into it.
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn make() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let scratch = Self { folder };
        image::make(&scratch.root(), &scratch.archive())?;
        Ok(scratch)
    }

    /// The image's files, unpacked.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("root")
    }

    fn archive(&self) -> PathBuf {
        self.path("image.tar")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A containerd of the test's own.
pub(crate) struct Containerd {
    socket: PathBuf,
    daemon: Child,
}

impl Containerd {
    pub(crate) fn start(scratch: &Scratch) -> Result<Self> {
        let folder = scratch.path("containerd");
        fs::create_dir_all(&folder)?;
        let (socket, config) = (folder.join("socket"), folder.join("config.toml"));
        let text = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\n[grpc]\naddress = \"{0}/socket\"\n",
            folder.display()
        );
        fs::write(&config, text)?;
        let log = File::create(folder.join("log"))?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let daemon = command.spawn().context("containerd is not installed")?;
        let containerd = Self { socket, daemon };
        let version = format!("{} version", containerd.ctr());
        wait_for(LIMIT, || shell(&version).ok()).context("containerd does not answer")?;
        shell(&format!("{} images import {}", containerd.ctr(), scratch.archive().display()))?;
        Ok(containerd)
    }

    fn ctr(&self) -> String {
        format!("ctr --address {}", self.socket.display())
    }

    /// The beginning of a command that runs what follows in a container called `name`.
    pub(crate) fn run(&self, name: &str, options: &str) -> String {
        format!("{} run --rm {options} {} {name}", self.ctr(), image::NAME)
    }

    /// A container called `name` that does nothing for a while.
    pub(crate) fn start_asleep(&self, name: &str) -> String {
        format!("{} run --detach {} {name} /bin/busybox sleep 600", self.ctr(), image::NAME)
    }

    /// The beginning of a command that runs what follows in that container.
    pub(crate) fn exec(&self, name: &str) -> String {
        format!("{} tasks exec --exec-id guest {name}", self.ctr())
    }

    pub(crate) fn end(&self, name: &str) -> String {
        format!("{} tasks delete --force {name} && {} containers delete {name}", self.ctr(), self.ctr())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // A container that a failed test left would outlive its runtime.
        let left =
            "for one in $(CTR tasks list -q); do CTR tasks delete --force $one; done".replace("CTR", &self.ctr());
        let _ = shell(&left);
        terminate(self.daemon.id());
        let _ = self.daemon.wait();
    }
}

/// podman, with storage of the test's own.
pub(crate) struct Podman {
    command: String,
    home: PathBuf,
}

impl Podman {
    pub(crate) fn of_root(scratch: &Scratch) -> Result<Self> {
        let home = scratch.path("podman");
        fs::create_dir_all(&home)?;
        let podman =
            Self { command: format!("{} --tmpdir {}/tmp", podman("", &home, "overlay"), home.display()), home };
        podman.load(scratch)
    }

    /// As a user with one id and nothing else: no range of ids in `/etc/subuid`, no session, no cgroup of its own.
    pub(crate) fn of_nobody(scratch: &Scratch) -> Result<Self> {
        let home = scratch.path("nobody");
        for folder in [home.clone(), home.join("run")] {
            fs::create_dir_all(&folder)?;
            fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
            chown(&folder, Some(NOBODY), Some(NOBODY))?;
        }
        let become_nobody = format!(
            "cd {0} && exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups \
             env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME={0} XDG_RUNTIME_DIR={0}/run ",
            home.display()
        );
        let podman = Self { command: podman(&become_nobody, &home, "vfs"), home };
        podman.load(scratch)
    }

    fn load(self, scratch: &Scratch) -> Result<Self> {
        shell(&format!("{} load < {}", self.command, scratch.archive().display()))?;
        Ok(self)
    }

    /// The beginning of a command that runs what follows in a container called `name`.
    pub(crate) fn run(&self, name: &str, options: &str) -> String {
        format!("{} run --rm --interactive {LIMITS} {options} --name {name} {}", self.command, image::NAME)
    }

    pub(crate) fn start_asleep(&self, name: &str) -> String {
        format!("{} run --detach {LIMITS} --name {name} {} /bin/busybox sleep 600", self.command, image::NAME)
    }

    pub(crate) fn exec(&self, name: &str) -> String {
        format!("{} exec {name}", self.command)
    }

    pub(crate) fn end(&self, name: &str) -> String {
        format!("{} rm --force --time 0 {name}", self.command)
    }
}

/// What a container may use: without limits said, podman asks for more than root may have here. Its cgroup namespace is the host's:
/// hybrid hosts have no other.
const LIMITS: &str = "--network none --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --cgroupns=host";

fn podman(before: &str, home: &Path, driver: &str) -> String {
    let storage = format!("--root {0}/storage --runroot {0}/runroot --storage-driver {driver}", home.display());
    format!("{before}podman {storage} --runtime runc --cgroup-manager=cgroupfs --events-backend=none")
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = shell(&format!("{} rm --all --force --time 0", self.command));
        // A user's podman keeps a process that holds its namespaces.
        let pause = fs::read_to_string(self.home.join("run/libpod/tmp/pause.pid"));
        if let Some(pid) = pause.ok().and_then(|pid| pid.trim().parse().ok()) {
            terminate(pid);
        }
        // Layers are mounted below the folder that is about to be removed.
        let _ = shell(&format!("{} unmount --all --force", self.command));
        let _ = shell(&format!("umount --recursive {}/storage/overlay", self.home.display()));
    }
}

fn terminate(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}
