//! One log file, plain or gzip, and what it is recognised by when its name is gone. In: a path. Out: content by offset,
//! and an identity that survives renaming, copying and compressing.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How much of a file's beginning identifies it. Long enough that two logs of one format differ in it (each line has a
/// time), short enough to be read again with every chunk.
const HEAD_BYTES_MAX: usize = 1024;

/// The beginning of a file's content, unpacked.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Head {
    /// Bytes hashed; a file that was still short is recognised by what there was.
    length: usize,
    /// First half of their SHA-256's first half: collisions by chance do not happen, and by design only harm the
    /// writer's own log.
    hash: u64,
}

impl Head {
    fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let hash = digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte));
        Self { length: bytes.len(), hash }
    }

    /// Nothing was there yet to recognise.
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// What a file is recognised by.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) head: Head,
}

impl Identity {
    /// Whether both are one file on disk, whatever it holds by now.
    pub(super) fn same_inode(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// An open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    file: Arc<File>,
    device: u64,
    inode: u64,
    /// A decoder and the offset it stands at, for a gzip file.
    unpacking: Option<(MultiGzDecoder<Reader>, u64)>,
}

impl LogFile {
    /// Opens a regular file; gzip by its name.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // A FIFO of that name must not block the open.
        let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_CLOEXEC;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let file = Arc::new(file);
        let unpacking = is_gzip(path).then(|| (unpack(&file), 0));
        Ok(Self { file, device: metadata.dev(), inode: metadata.ino(), unpacking })
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    pub(super) fn modified(&self) -> io::Result<SystemTime> {
        self.file.metadata()?.modified()
    }

    pub(super) fn is_gzip(&self) -> bool {
        self.unpacking.is_some()
    }

    /// Who it is by what it holds now.
    pub(super) fn identity(&self) -> io::Result<Identity> {
        Ok(Identity { device: self.device, inode: self.inode, head: self.head(HEAD_BYTES_MAX)? })
    }

    /// Whether it holds, or begins with, what `known` was recognised by.
    pub(super) fn begins_like(&self, known: &Identity) -> io::Result<bool> {
        Ok(self.head(known.head.length)? == known.head)
    }

    fn head(&self, length: usize) -> io::Result<Head> {
        let mut bytes = Vec::new();
        let limit = length.min(HEAD_BYTES_MAX) as u64;
        let read = if self.is_gzip() {
            unpack(&self.file).take(limit).read_to_end(&mut bytes)
        } else {
            Reader { file: Arc::clone(&self.file), at: 0 }.take(limit).read_to_end(&mut bytes)
        };
        match read {
            // A gzip file that is still being written: what unpacks so far.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            other => drop(other?),
        }
        Ok(Head::of(&bytes))
    }

    /// Reads content from `offset`; 0 at its end.
    pub(super) fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((decoder, at)) = &mut self.unpacking else { return self.file.read_at(buffer, offset) };
        if *at != offset {
            *decoder = unpack(&self.file);
            *at = io::copy(&mut decoder.by_ref().take(offset), &mut io::sink())?;
        }
        match decoder.read(buffer) {
            Ok(read) => {
                *at += read as u64;
                Ok(read)
            }
            Err(error) => {
                *at = u64::MAX; // begin anew next time
                Err(error)
            }
        }
    }
}

/// Whether a file of this name is read as gzip.
pub(super) fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

fn unpack(file: &Arc<File>) -> MultiGzDecoder<Reader> {
    MultiGzDecoder::new(Reader { file: Arc::clone(file), at: 0 })
}

/// Reads a shared file from a position of its own.
#[derive(Debug)]
struct Reader {
    file: Arc<File>,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
