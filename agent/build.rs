//! Builds the kernel half and hands its path to the crate as `BREACHLINE_BPF_OBJECT`.
//!
//! A packager with a prebuilt object sets that variable; nothing is built then. Otherwise one of two toolchains is
//! used: a rustup nightly with `rust-src` (builds `core` itself), or a distribution's compiler in /usr/bin that brings
//! `core` for BPF.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";
const OBJECT: &str = "BREACHLINE_BPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={OBJECT}");
    println!("cargo::rerun-if-env-changed=PATH");
    if let Err(problem) = provide_object() {
        for line in problem.lines() {
            println!("cargo::error={line}");
        }
    }
}

fn provide_object() -> Result<(), String> {
    let object = match env::var_os(OBJECT) {
        Some(prebuilt) => PathBuf::from(prebuilt),
        None => build_object()?,
    };
    if !object.is_file() {
        return Err(format!("{OBJECT}: {} is not a file", object.display()));
    }
    println!("cargo::rerun-if-changed={}", object.display());
    println!("cargo::rustc-env={OBJECT}={}", object.display());
    Ok(())
}

fn build_object() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the agent lies in no workspace")?;
    for source in
        ["agent-ebpf/src", "agent-ebpf/abi/src", "agent-ebpf/Cargo.toml", "agent-ebpf/abi/Cargo.toml", "Cargo.toml"]
    {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let linker = find_linker().ok_or("bpf-linker is not installed: run `cargo xtask setup`")?;
    let toolchain = Toolchain::find().ok_or(
        "no toolchain here can build for BPF (wanted: a rustup nightly with rust-src, or Debian's rustc-web with \
         libstd-rust-web-dev-bpf): run `cargo xtask setup`",
    )?;
    let target_dir = target_dir()?;
    let output = toolchain.build(root, &target_dir, &linker).output().map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("the kernel half does not build:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(target_dir.join(TARGET).join("bpf").join("breachline-ebpf"))
}

/// One directory for all profiles of this build: the object is the same for each. Cargo marks its target directory with
/// a tag file.
fn target_dir() -> Result<PathBuf, String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let target = out.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file()).unwrap_or(&out);
    Ok(target.join("bpf"))
}

fn find_linker() -> Option<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|dir| dir.join("bpf-linker"))
        .find(|file| file.is_file())
}

enum Toolchain {
    /// A rustup nightly, by name, with its library's source.
    Nightly(String),
    /// A distribution's cargo and rustc; whether `core` for BPF comes prebuilt.
    System { prebuilt_core: bool },
}

impl Toolchain {
    fn find() -> Option<Self> {
        if let Some(name) = nightly_with_source() {
            return Some(Self::Nightly(name));
        }
        let root = sysroot(&mut Command::new("/usr/bin/rustc"))?;
        let prebuilt_core = root.join("lib/rustlib").join(TARGET).join("lib").is_dir();
        let source = root.join("lib/rustlib/src/rust").exists();
        (Path::new("/usr/bin/cargo").is_file() && (prebuilt_core || source)).then_some(Self::System { prebuilt_core })
    }

    fn build(&self, root: &Path, target_dir: &Path, linker: &Path) -> Command {
        let mut command = match self {
            Self::Nightly(name) => {
                let mut command = Command::new("rustup");
                command.args(["run", name, "cargo"]);
                command
            }
            Self::System { .. } => Command::new("/usr/bin/cargo"),
        };
        clear_cargo_environment(&mut command);
        if let Self::System { .. } = self {
            // aya-ebpf asks for unstable features on BPF targets.
            command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
        }
        command.env("CARGO_ENCODED_RUSTFLAGS", rustflags(linker)).current_dir(root);
        command.args(["build", "--package", "breachline-ebpf", "--profile", "bpf", "--target", TARGET, "--target-dir"]);
        command.arg(target_dir);
        if !matches!(self, Self::System { prebuilt_core: true }) {
            command.args(["-Z", "build-std=core"]);
        }
        command
    }
}

/// Flags are separated by 0x1f in the encoded form.
fn rustflags(linker: &Path) -> OsString {
    let mut flags = OsString::from("-Clinker=");
    flags.push(linker);
    // Before Linux 6.4 the verifier prunes little in a program that has static functions: what is marked inline must not
    // become one because LLVM finds it large.
    flags.push("\u{1f}-Clink-arg=--llvm-args=-inline-threshold=100000");
    flags.push("\u{1f}-Cdebuginfo=2\u{1f}-Clink-arg=--btf\u{1f}--cfg\u{1f}bpf_target_arch=\"");
    flags.push(env::var_os("CARGO_CFG_TARGET_ARCH").unwrap_or_else(|| "x86_64".into()));
    flags.push("\"");
    flags
}

/// The outer cargo's choices (compiler, wrapper, flags) are not meant for the kernel half.
fn clear_cargo_environment(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_") && text != "CARGO_HOME"
            || text.starts_with("RUSTC")
            || text.starts_with("RUSTUP_TOOL")
        {
            command.env_remove(&name);
        }
    }
    for name in ["CARGO", "RUSTFLAGS", "RUSTDOC"] {
        command.env_remove(name);
    }
}

/// Any nightly will do, pinned by date or not (`cargo xtask setup` pins one): each line is a name, perhaps a remark, a folder.
fn nightly_with_source() -> Option<String> {
    let output = Command::new("rustup").args(["toolchain", "list", "--verbose"]).output().ok()?;
    let listing = String::from_utf8_lossy(&output.stdout);
    let nightlies = listing.lines().filter(|line| line.starts_with("nightly"));
    let has_source = |folder: &str| Path::new(folder).join("lib/rustlib/src/rust/library").is_dir();
    nightlies
        .filter(|line| line.split_whitespace().last().is_some_and(has_source))
        .find_map(|line| line.split_whitespace().next().map(str::to_owned))
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN").output().ok()?;
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}
