//! The static binary: one file for any x86_64 distribution, and for an image without one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{cargo, run};
use crate::workspace::{self, TARGET};

/// Builds it and copies it into `folder`.
pub(super) fn build(folder: &Path) -> Result<PathBuf> {
    let mut command = cargo(&["build", "--release", "--package", "breachline", "--target", TARGET]);
    // By target, not through RUSTFLAGS: build scripts, and the BPF build inside one, must not be made static.
    run(command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static"))?;
    let built = workspace::target().join(TARGET).join("release/breachline");
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    if asks_for_a_loader(&bytes).with_context(|| format!("{} is no 64-bit ELF file", built.display()))? {
        bail!("{} asks for a dynamic loader: it would not start in an empty image", built.display());
    }
    let binary = folder.join("breachline");
    fs::copy(&built, &binary).with_context(|| format!("cannot write {}", binary.display()))?;
    Ok(binary)
}

/// Whether an ELF file has a `PT_INTERP` segment (System V ABI, program header; offsets are ELF64's, little-endian).
/// `None` when it is no such file.
fn asks_for_a_loader(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, length: usize| {
        let bytes = elf.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    elf.starts_with(b"\x7fELF\x02\x01").then_some(())?;
    let (table, entry_size, entries) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let kind = |entry: usize| number(table.checked_add(entry * entry_size)?, 4);
    let mut found = false;
    for entry in 0..entries {
        found |= kind(entry)? == PT_INTERP as usize;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_dynamic_binary() {
        // The test binary itself is linked dynamically.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(asks_for_a_loader(&own), Some(true));
        assert_eq!(asks_for_a_loader(&own[..60]), None, "cut short");
        assert_eq!(asks_for_a_loader(b"#!/bin/sh\n"), None);
    }
}
