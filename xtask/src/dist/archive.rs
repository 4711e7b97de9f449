//! Trees of files, and tar archives of them that are the same bytes whoever makes them and when.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{command, run};

/// A folder that is filled file by file and then packed.
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    /// An empty one: what an earlier run left at `root` is removed.
    pub(super) fn new(root: PathBuf) -> Result<Self> {
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        Ok(Self { root })
    }

    /// Where it lies.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Adds a file; folders above it are made.
    pub(super) fn add(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let file = self.root.join(path);
        self.folder(file.parent().unwrap_or(&self.root))?;
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// Adds an empty folder.
    pub(super) fn add_folder(&self, path: &str) -> Result<()> {
        self.folder(&self.root.join(path))
    }

    /// The caller's umask must not reach a package: each folder made here is 0755.
    fn folder(&self, folder: &Path) -> Result<()> {
        for made in
            folder.ancestors().take_while(|f| f.starts_with(&self.root) && !f.exists()).collect::<Vec<_>>().iter().rev()
        {
            fs::create_dir(made).with_context(|| format!("cannot make {}", made.display()))?;
            fs::set_permissions(made, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// Packs everything into a tar file: sorted, owned by root, dated `epoch`.
    pub(super) fn pack(&self, archive: &Path, epoch: &str) -> Result<()> {
        let same = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"];
        let date = format!("--mtime=@{epoch}");
        let mut command = command("tar");
        command.args(["--create", "--directory"]).arg(&self.root).args(same).arg(date).arg("--file").arg(archive);
        let mut top: Vec<_> = fs::read_dir(&self.root)?.map(|e| Ok(e?.file_name())).collect::<Result<_>>()?;
        top.sort_unstable();
        run(command.args(top))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tree_packs_to_the_same_bytes() {
        let scratch = tempfile::tempdir().unwrap();
        let packed = |name: &str| {
            let tree = Tree::new(scratch.path().join(name)).unwrap();
            tree.add("usr/bin/one", "1", 0o755).unwrap();
            tree.add_folder("var/lib/two").unwrap();
            let archive = scratch.path().join(format!("{name}.tar"));
            tree.pack(&archive, "1700000000").unwrap();
            fs::read(archive).unwrap()
        };
        let first = packed("first");
        assert_eq!(first, packed("second"));
        assert!(first.starts_with(b"usr/\0"));
    }
}
