//! The JSON-lines file: one incident revision a line, appended. Follows rotation (rename and copytruncate), repairs a
//! line that a kill left half-written, and takes back what a full disk let it write in part, so that every line is
//! whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::DeliverError;
use super::format::RecordFormat;
use super::worker::{Outcome, Pace, Sink};
use crate::store::SpoolRecord;

/// Records written and synced together at most.
const BATCH_RECORDS_MAX: usize = 256;

/// Bytes of them at most; one larger record still goes alone.
const BATCH_BYTES_MAX: u64 = 1 << 20;

/// Where and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file; made with mode 0640 where absent.
    pub path: PathBuf,
    /// The records' schema: `"breachline"`, `"ocsf"` or `"ecs"`.
    pub format: RecordFormat,
    /// Whether each batch is synced to disk before it counts as delivered. Off: a power cut may lose the last second or
    /// so.
    pub fsync: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/log/breachline/incidents.jsonl"),
            format: RecordFormat::default(),
            fsync: true,
        }
    }
}

/// The sink.
pub(super) struct JsonLines {
    config: Config,
    file: Option<File>,
}

impl JsonLines {
    /// Checks what can be checked beforehand; the file itself is opened with the first record.
    pub(super) fn open(config: &Config) -> Result<Self, DeliverError> {
        let wrong =
            |reason: &str| DeliverError::File { path: config.path.display().to_string(), reason: reason.into() };
        if config.path.as_os_str().is_empty() {
            return Err(wrong("is empty; name a file"));
        }
        if config.path.is_dir() {
            return Err(wrong("is a directory; name a file in it"));
        }
        Ok(Self { config: config.clone(), file: None })
    }
}

impl Sink for JsonLines {
    fn name(&self) -> &'static str {
        "file"
    }

    fn pace(&self) -> Pace {
        Pace {
            records_max: BATCH_RECORDS_MAX,
            bytes_max: BATCH_BYTES_MAX,
            wait_min: Duration::from_millis(500),
            wait_max: Duration::from_secs(30),
        }
    }

    async fn deliver(&mut self, records: &[SpoolRecord]) -> Outcome {
        let mut text = Vec::new();
        for record in records {
            text.extend_from_slice(&self.config.format.written(&record.bytes));
            text.push(b'\n');
        }
        let (config, file) = (self.config.clone(), self.file.take());
        let written = tokio::task::spawn_blocking(move || append(&config, file, &text)).await;
        match written.map_err(io::Error::other).flatten() {
            Ok(file) => {
                self.file = Some(file);
                Outcome::Delivered
            }
            Err(error) => {
                Outcome::Retry { reason: format!("cannot write {}: {error}", self.config.path.display()), after: None }
            }
        }
    }
}

/// Appends whole lines or nothing, and returns the file to go on with.
fn append(config: &Config, file: Option<File>, text: &[u8]) -> io::Result<File> {
    let mut file = match file.filter(|file| is_at(file, &config.path)) {
        Some(file) => file,
        None => open(&config.path)?,
    };
    let before = file.metadata()?.len();
    let mut written = file.write_all(text);
    if config.fsync {
        written = written.and_then(|()| file.sync_data());
    }
    if let Err(error) = written {
        // Best effort: where even this fails, the next start mends the last line.
        drop(file.set_len(before));
        return Err(error);
    }
    Ok(file)
}

/// Whether `path` still leads to `file`: false after a rotation by rename.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Opens for appending; ends a last line that a kill cut short.
fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    if file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::deliver::tests::{incident, record};
    use crate::incident::Severity;

    async fn deliver(sink: &mut JsonLines, id: &str) -> Outcome {
        sink.deliver(&[record(1, &incident(id, 1, Severity::High))]).await
    }

    fn ids(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).expect("reads");
        let id = |line| match serde_json::from_str::<serde_json::Value>(line) {
            Ok(value) => value["id"].as_str().expect("id").to_owned(),
            Err(_) => format!("cut: {line}"),
        };
        text.lines().map(id).collect()
    }

    #[tokio::test]
    async fn follows_rotation_and_mends_a_cut_line() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("incidents.jsonl");
        fs::write(&path, "{\"id\":").expect("writes");
        let mut sink =
            JsonLines::open(&Config { path: path.clone(), fsync: true, ..Config::default() }).expect("opens");
        deliver(&mut sink, "a").await;
        assert_eq!(ids(&path), ["cut: {\"id\":", "a"]);

        let rotated = directory.path().join("incidents.jsonl.1");
        fs::rename(&path, &rotated).expect("renames");
        assert_eq!(deliver(&mut sink, "b").await, Outcome::Delivered);
        assert_eq!(ids(&path), ["b"]);

        fs::write(&path, "").expect("truncates");
        deliver(&mut sink, "c").await;
        assert_eq!(ids(&path), ["c"]);
    }

    #[tokio::test]
    async fn a_missing_directory_is_waited_for() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("later/incidents.jsonl");
        let mut sink =
            JsonLines::open(&Config { path: path.clone(), fsync: false, ..Config::default() }).expect("opens");
        assert!(matches!(deliver(&mut sink, "a").await, Outcome::Retry { .. }));
        fs::create_dir(directory.path().join("later")).expect("creates");
        assert_eq!(deliver(&mut sink, "a").await, Outcome::Delivered);
        assert_eq!(ids(&path), ["a"]);
    }

    #[tokio::test]
    async fn a_full_disk_is_retried() {
        // /dev/full takes opens and refuses every write with ENOSPC.
        let mut sink =
            JsonLines::open(&Config { path: "/dev/full".into(), fsync: false, ..Config::default() }).expect("opens");
        let outcome = deliver(&mut sink, "a").await;
        assert!(matches!(&outcome, Outcome::Retry { reason, .. } if reason.contains("No space left")), "{outcome:?}");
    }

    #[test]
    fn a_directory_is_refused_at_start() {
        let directory = tempfile::tempdir().expect("directory");
        let opened = JsonLines::open(&Config { path: directory.path().to_owned(), fsync: true, ..Config::default() });
        assert!(opened.err().expect("refused").to_string().contains("is a directory"));
    }
}
