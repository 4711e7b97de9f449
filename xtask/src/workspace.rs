//! Where things lie in this repository. Paths only; nothing is read or written here.

use std::path::{Path, PathBuf};

/// The only target that is packaged today; the static build names it so that build scripts stay dynamic.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The repository's root: the parent of this crate's folder.
pub(crate) fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder).to_path_buf()
}

/// Cargo's target directory, `CARGO_TARGET_DIR` honoured.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Things installed for the tests alone, inside the target directory: `rm -r target` removes them.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// The agent's binary as `cargo build` leaves it for this profile (`debug` or `release`).
pub(crate) fn agent_binary(profile: &str) -> PathBuf {
    target().join(profile).join("breachline")
}

/// The kernel half as `agent/build.rs` leaves it: one for all profiles.
pub(crate) fn bpf_object() -> PathBuf {
    target().join("bpf/bpfel-unknown-none/bpf/breachline-ebpf")
}
