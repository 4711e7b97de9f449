//! An image made of this machine's own files: a shell, busybox, the program that walks the ways, and the libraries they load.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

/// The image's name.
pub(crate) const NAME: &str = "localhost/shop:1";
/// What every program of the image loads.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// Puts the files below `root` and packs them at `archive`, in the form of `docker save` (which containerd and podman read).
pub(crate) fn make(root: &Path, archive: &Path) -> Result<()> {
    for directory in ["bin", "lib64", "lib/x86_64-linux-gnu", "etc", "proc", "sys", "dev", "tmp", "stage"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let ways = PathBuf::from(env!("CARGO_BIN_EXE_ways"));
    fs::copy(fs::canonicalize("/bin/sh")?, root.join("bin/dash"))?;
    symlink("dash", root.join("bin/sh"))?;
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    strip(&ways, &root.join("ways"))?;
    fs::copy(LOADER, root.join(LOADER.trim_start_matches('/')))?;
    for library in libraries(&[&ways, Path::new("/bin/sh")])? {
        let name = library.file_name().context("a library has a name")?;
        fs::copy(&library, root.join("lib/x86_64-linux-gnu").join(name))?;
    }
    pack(root, archive)
}

/// Debug information is most of a test program.
fn strip(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)?;
    run(Command::new("strip").arg("--strip-debug").arg(to)).map(drop)
}

/// What `ldd` says these programs load.
fn libraries(programs: &[&Path]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for program in programs {
        let said = run(Command::new("ldd").arg(program))?;
        let paths = said.lines().filter_map(|line| line.split("=> ").nth(1)?.split(' ').next());
        found.extend(paths.filter(|path| path.starts_with('/')).map(PathBuf::from));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn pack(root: &Path, archive: &Path) -> Result<()> {
    let folder = archive.with_extension("parts");
    fs::create_dir_all(&folder)?;
    let layer = folder.join("layer.tar");
    run(Command::new("tar").arg("-C").arg(root).arg("--owner=0").arg("--group=0").arg("-cf").arg(&layer).arg("."))?;
    let digest = run(Command::new("sha256sum").arg(&layer))?;
    let digest = digest.split(' ').next().unwrap_or_default();
    let layers = json!({"type": "layers", "diff_ids": [format!("sha256:{digest}")]});
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]}, "rootfs": layers});
    fs::write(folder.join("config.json"), config.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]);
    fs::write(folder.join("manifest.json"), manifest.to_string())?;
    let parts = ["manifest.json", "config.json", "layer.tar"];
    run(Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(archive).args(parts)).map(drop)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}
