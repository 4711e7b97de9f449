//! A writer of the "newc" archive that Linux takes for an initramfs (`Documentation/driver-api/early-userspace/
//! buffer-format.rst`). Uncompressed: an emulated processor unpacks slower than it reads.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// File types, as in `stat(2)`.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive being written.
pub(super) struct Archive<W: Write> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// An empty one.
    pub(super) const fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    /// A folder; its parents come before it.
    pub(super) fn folder(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, FOLDER | 0o755, b"", [0; 2])
    }

    /// A file with these permissions.
    pub(super) fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(name, FILE | mode, content, [0; 2])
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, name: &str, target: &str) -> io::Result<()> {
        self.entry(name, LINK | 0o777, target.as_bytes(), [0; 2])
    }

    /// A character device.
    pub(super) fn device(&mut self, name: &str, number: [u32; 2]) -> io::Result<()> {
        self.entry(name, CHARACTER_DEVICE | 0o600, b"", number)
    }

    /// A file or link of this machine under another name.
    pub(super) fn copy(&mut self, name: &str, from: &Path) -> io::Result<()> {
        let metadata = from.symlink_metadata()?;
        if metadata.is_symlink() {
            return self.link(name, &fs::read_link(from)?.to_string_lossy());
        }
        self.file(name, metadata.permissions().mode() & 0o777, &fs::read(from)?)
    }

    /// Writes the end mark and gives back what was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, b"", [0; 2])?;
        Ok(self.out)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8], device: [u32; 2]) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        // Inode, mode, owner, group, links, time, size, device, device node, name size, checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device[0], device[1], name_size, 0];
        let mut header = String::from("070701");
        fields.iter().for_each(|field| header.push_str(&format!("{field:08X}")));
        let head = [header.as_bytes(), name.as_bytes(), b"\0"].concat();
        self.padded(&head)?;
        self.padded(content)
    }

    /// Header with name, and content, each end at a multiple of four.
    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; 3][..bytes.len().next_multiple_of(4) - bytes.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpio_itself_reads_it() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("bin").unwrap();
        archive.file("bin/one", 0o755, b"abc").unwrap();
        archive.link("sh", "bin/one").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"070701"));
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("bin/one\0") && text.contains("abc\0") && text.ends_with("TRAILER!!!\0\0\0\0"), "{text}");
    }
}
