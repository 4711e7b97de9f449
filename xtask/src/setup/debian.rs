//! Debian and Ubuntu packages: which ones, why, and how their absence is noticed.
//!
//! A part counts as present when the file that is needed is there, whoever installed it; apt is asked only for what is
//! missing. Services that come with a package are not started: the tests start their own.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

use super::Purpose;
use crate::process::{as_root, find, run, say};

/// A package and the proof that its content is there.
#[derive(Debug)]
pub(crate) struct Part {
    /// Package name, Debian 12 and Ubuntu 24.04.
    pub(crate) package: &'static str,
    proof: Proof,
    why: &'static str,
    purpose: Purpose,
}

#[derive(Debug)]
enum Proof {
    /// A program on the search path.
    Program(&'static str),
    /// A file or folder.
    File(&'static str),
}

impl Part {
    const fn program(package: &'static str, program: &'static str, purpose: Purpose, why: &'static str) -> Self {
        Self { package, proof: Proof::Program(program), why, purpose }
    }

    const fn file(package: &'static str, file: &'static str, purpose: Purpose, why: &'static str) -> Self {
        Self { package, proof: Proof::File(file), why, purpose }
    }

    fn present(&self) -> bool {
        match self.proof {
            Proof::Program(name) => find(name).is_some(),
            Proof::File(path) => Path::new(path).exists(),
        }
    }
}

const PARTS: [Part; 24] = [
    Part::program("gcc", "cc", Purpose::Build, "links the agent and compiles ring's assembly"),
    Part::file("libc6-dev", "/usr/lib/x86_64-linux-gnu/libc.a", Purpose::Build, "the static C library"),
    Part::program("iproute2", "ip", Purpose::Build, "network namespaces of the drill and the tests"),
    Part::program("curl", "curl", Purpose::Build, "the intruder's tool in the drill and the tests"),
    Part::program("nginx-light", "nginx", Purpose::Test, "a real edge for the end-to-end test"),
    Part::program("haproxy", "haproxy", Purpose::Test, "a second real edge"),
    Part::program("php-cgi", "php-cgi", Purpose::Test, "a real application server with a hole in it"),
    Part::file("rsyslog", "/usr/sbin/rsyslogd", Purpose::Test, "a real sender of syslog"),
    Part::file("rsyslog-openssl", "/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_ossl.so", Purpose::Test, "its TLS"),
    Part::program("nats-server", "nats-server", Purpose::Test, "a real bus for the forwarder's tests"),
    Part::program("openssl", "openssl", Purpose::Test, "certificates of the tests"),
    Part::file("python3-venv", "/usr/share/python-wheels", Purpose::Test, "runs the metadata emulator"),
    Part::program("containerd", "containerd", Purpose::Test, "a real container runtime"),
    Part::program("runc", "runc", Purpose::Test, "starts its containers"),
    Part::program("podman", "podman", Purpose::Test, "another one, which needs no root"),
    Part::program("binutils", "strip", Purpose::Test, "makes the containers' image small"),
    Part::program("busybox-static", "busybox", Purpose::Kernels, "a victim of the tests, and the guests' tools"),
    Part::program("qemu-system-x86", "qemu-system-x86_64", Purpose::Kernels, "boots the other kernels"),
    Part::program("qemu-system-arm", "qemu-system-aarch64", Purpose::Kernels, "boots the arm64 kernels"),
    Part::program("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc", Purpose::Kernels, "links the arm64 agent"),
    Part::file("libc6-dev-arm64-cross", "/usr/aarch64-linux-gnu/lib/libc.a", Purpose::Kernels, "its C library"),
    Part::file(
        "debian-archive-keyring",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        Purpose::Kernels,
        "vouches for the kernels",
    ),
    Part::program("debootstrap", "debootstrap", Purpose::Install, "a bare Debian to install the package in"),
    Part::program("systemd-container", "systemd-nspawn", Purpose::Install, "boots it"),
];

/// Debian's Rust, which brings `core` for BPF; wanted only where rustup cannot supply a nightly.
pub(super) const BPF_COMPILER: [Part; 3] = [
    Part::file("rustc-web", "/usr/bin/rustc", Purpose::Build, "compiles the kernel half"),
    Part::file("cargo-web", "/usr/bin/cargo", Purpose::Build, "drives it"),
    Part::file("libstd-rust-web-dev-bpf", "/usr/lib/rustlib/bpfel-unknown-none/lib", Purpose::Build, "core for BPF"),
];

/// What bpf-linker's build links.
pub(super) const LLVM: [Part; 5] = [
    Part::file("llvm-22-dev", "/usr/lib/llvm-22/include/llvm-c", Purpose::Build, "bpf-linker's LLVM"),
    Part::file("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a", Purpose::Build, "linked by LLVM"),
    Part::file("libzstd-dev", "/usr/include/zstd.h", Purpose::Build, "linked by LLVM"),
    Part::file("zlib1g-dev", "/usr/include/zlib.h", Purpose::Build, "linked by LLVM"),
    Part::file("libxml2-dev", "/usr/include/libxml2", Purpose::Build, "linked by LLVM"),
];

/// What is not there, of what `purpose` needs.
pub(crate) fn missing(purpose: Purpose) -> Vec<&'static Part> {
    PARTS.iter().filter(|part| part.purpose <= purpose && !part.present()).collect()
}

/// Installs those of `parts` that are missing, in one go.
pub(crate) fn install(parts: &[&Part]) -> Result<()> {
    let wanted: Vec<&&Part> = parts.iter().filter(|part| !part.present()).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = wanted.iter().map(|part| part.package).collect();
    if find("apt-get").is_none() {
        bail!("this is no Debian or Ubuntu: install by hand what corresponds to {}", names.join(", "));
    }
    for part in wanted {
        say(format_args!("installing {}: {}", part.package, part.why));
    }
    let _quiet = NoServices::hold()?;
    refresh_lists()?;
    let args = ["install", "-y", "-qq", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends"];
    run(apt(&args)?.args(&names)).with_context(|| format!("apt could not install {}", names.join(", ")))
}

/// Once per call of xtask: a fresh machine has no lists, an old one has stale ones.
fn refresh_lists() -> Result<()> {
    static FRESH: AtomicBool = AtomicBool::new(false);
    if !FRESH.swap(true, Ordering::Relaxed) {
        run(&mut apt(&["update", "-qq"])?).context("apt's package lists cannot be refreshed")?;
    }
    Ok(())
}

fn apt(args: &[&str]) -> Result<std::process::Command> {
    // `env` because sudo may drop variables it does not know.
    as_root("env", &[&["DEBIAN_FRONTEND=noninteractive", "apt-get"], args].concat())
}

/// While held, packages start no service (Debian policy 9.3.3.1: exit code 101 of `policy-rc.d` forbids the action):
/// nginx and haproxy would take ports of this machine.
struct NoServices {
    ours: bool,
}

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn hold() -> Result<Self> {
        if Path::new(Self::POLICY).exists() {
            return Ok(Self { ours: false });
        }
        let script = crate::workspace::target().join("policy-rc.d");
        fs::create_dir_all(crate::workspace::target())?;
        fs::write(&script, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {}", script.display()))?;
        run(as_root("install", &["-m", "755"])?.arg(&script).arg(Self::POLICY))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        let removed = |mut command| run(&mut command);
        if self.ours && as_root("rm", &["-f", Self::POLICY]).and_then(removed).is_err() {
            say(format_args!("could not remove {}: remove it by hand", Self::POLICY));
        }
    }
}
