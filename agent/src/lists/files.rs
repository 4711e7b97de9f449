//! The files behind the lists: read at start, and again when one of them has changed. A file that cannot be read leaves what was
//! known of all of them in force, and says so.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Config, Lists, Opinion};

/// Bytes of one file; a feed larger than this is not for one host.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why the lists were not read.
#[derive(Debug, thiserror::Error)]
#[error("list {path} ([lists]): {source}; what was known before stays in force")]
pub struct ListError {
    path: PathBuf,
    source: io::Error,
}

/// What tells one content of a file from another: file, size, time of change.
type Mark = (u64, u64, i64, i64);

/// The files.
#[derive(Debug)]
pub struct Files {
    config: Config,
    marks: Option<Vec<Mark>>,
    /// Why the latest try failed; absent when all is well.
    pub trouble: Option<String>,
}

impl Files {
    /// Files that were not read yet.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self { config, marks: None, trouble: None }
    }

    /// The lists, when they changed since they were last read. Blocks for the disk.
    pub fn changed(&mut self) -> Option<Lists> {
        if self.config.good.is_empty() && self.config.bad.is_empty() {
            return None;
        }
        match self.read() {
            Ok(lists) => {
                self.trouble = None;
                lists
            }
            Err(error) => {
                // Said once, not every time.
                if self.trouble.is_none() {
                    tracing::warn!(%error, "the owner's lists cannot be read");
                }
                self.trouble = Some(error.to_string());
                None
            }
        }
    }

    fn read(&mut self) -> Result<Option<Lists>, ListError> {
        let paths = self.paths();
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |source| ListError { path, source }
        };
        let metadata = |path: &Path| path.metadata().map(|metadata| mark(&metadata)).map_err(wrong(path));
        let marks = paths.iter().map(|(path, _)| metadata(path)).collect::<Result<Vec<_>, _>>()?;
        if self.marks.as_ref() == Some(&marks) {
            return Ok(None);
        }
        let mut lists = Lists::default();
        for (path, opinion) in &paths {
            let text = read(path).map_err(wrong(path))?;
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
            lists.add(&name, *opinion, &String::from_utf8_lossy(&text));
        }
        self.marks = Some(marks);
        Ok(Some(lists))
    }

    fn paths(&self) -> Vec<(PathBuf, Opinion)> {
        let good = self.config.good.iter().map(|path| (path.clone(), Opinion::Good));
        good.chain(self.config.bad.iter().map(|path| (path.clone(), Opinion::Bad))).collect()
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it has more than 64 MiB"));
    }
    Ok(text)
}

fn mark(metadata: &Metadata) -> Mark {
    (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_changed_file_is_read_again_and_a_lost_one_changes_nothing() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("feed.txt");
        fs::write(&path, "203.0.113.1\n").expect("writes");
        let mut files = Files::new(Config { bad: vec![path.clone()], ..Config::default() });
        assert_eq!(files.changed().expect("read").counters().entries, 1);
        assert!(files.changed().is_none(), "unchanged");
        fs::write(&path, "203.0.113.1\n203.0.113.2\n").expect("writes");
        assert_eq!(files.changed().expect("read again").counters().entries, 2);
        fs::remove_file(&path).expect("removes");
        assert!(files.changed().is_none());
        assert!(files.trouble.as_ref().expect("said").contains("feed.txt"), "{:?}", files.trouble);
        fs::write(&path, "203.0.113.9\n").expect("writes");
        assert!(files.changed().is_some() && files.trouble.is_none());
    }
}
