//! The local socket `breachline status` reads: whoever connects gets the latest status as one JSON object, then the end.
//!
//! The socket is root's alone (mode 0600): the status names workloads and peers.

use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::Status;

/// How long a reader may take: one that stalls is dropped, so that readers cannot pile up.
const READER_TIME_MAX: Duration = Duration::from_secs(2);
/// Largest answer accepted by [`ask`]: a status is a few kilobytes; more is not our agent at the other end.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// The agent's end.
#[derive(Debug)]
pub struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl StatusSocket {
    /// Binds `path`. A socket that a dead agent left is replaced; one that a live agent answers on is not.
    ///
    /// # Errors
    ///
    /// `AddrInUse` when another agent runs; the file system's own otherwise.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        if BlockingStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent is running and answers on it"));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers until the task is dropped.
    pub async fn serve(self, status: watch::Receiver<Arc<Status>>) {
        loop {
            match self.listener.accept().await {
                Ok((reader, _)) => {
                    let latest = Arc::clone(&status.borrow());
                    answer(reader, &latest).await;
                }
                Err(error) => {
                    tracing::warn!(error = %error, "status socket cannot accept");
                    tokio::time::sleep(READER_TIME_MAX).await;
                }
            }
        }
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        // Nothing to do about a failure: the next start replaces a dead socket.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(mut reader: UnixStream, status: &Status) {
    let Ok(text) = serde_json::to_vec(status) else { return };
    let written = tokio::time::timeout(READER_TIME_MAX, reader.write_all(&text)).await;
    if !matches!(written, Ok(Ok(()))) {
        tracing::debug!("a status reader went away");
    }
}

/// Asks the agent behind `path`.
///
/// # Errors
///
/// `NotFound` or `ConnectionRefused` when no agent runs; `PermissionDenied` without root; `InvalidData` for an answer that is no status.
pub fn ask(path: &Path) -> io::Result<Status> {
    let stream = BlockingStream::connect(path)?;
    stream.set_read_timeout(Some(READER_TIME_MAX))?;
    let mut text = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
