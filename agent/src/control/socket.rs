//! The local socket on which the commands ask: one request a connection, as one line of JSON (none at all asks for the status);
//! the answer is one JSON object, `{"ok": …}` or `{"error": "…"}`, then the end.
//!
//! The socket is root's alone (mode 0600): answers name workloads and peers, and requests change what is delivered.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{Answer, Ask, Request, revisions};
use crate::status::Status;
use crate::store::Store;

/// How long a caller may take to ask, and to read each part of the answer: one that stalls is dropped, so that callers cannot
/// pile up.
const CALLER_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the agent may take for an answer, as [`ask`] sees it: writing out a large baseline takes a second or two.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Largest request: a baseline of a large host is a few megabytes.
const REQUEST_BYTES_MAX: u64 = 64 << 20;
/// Largest answer accepted by [`ask`]: more is not our agent at the other end.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// Callers at a time; further ones wait in the kernel's queue.
const CALLERS_MAX: usize = 4;

/// What answers.
#[derive(Clone)]
pub struct Served {
    /// The latest status.
    pub status: watch::Receiver<Arc<Status>>,
    /// Incidents.
    pub store: Arc<Store>,
    /// Everything that only the engine knows or may change.
    pub engine: mpsc::Sender<Ask>,
}

/// The agent's end.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
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
    pub async fn serve(self, served: Served) {
        let places = Arc::new(Semaphore::new(CALLERS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((caller, _)) => {
                    let served = served.clone();
                    tokio::spawn(async move {
                        served.converse(caller).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "status socket cannot accept");
                    tokio::time::sleep(CALLER_TIME_MAX).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Nothing to do about a failure: the next start replaces a dead socket.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Served {
    async fn converse(self, mut caller: UnixStream) {
        let mut text = Vec::new();
        let mut asked = (&mut caller).take(REQUEST_BYTES_MAX);
        let read = tokio::time::timeout(CALLER_TIME_MAX, asked.read_to_end(&mut text)).await;
        if !matches!(read, Ok(Ok(_))) {
            return tracing::debug!("a caller on the status socket did not finish its request");
        }
        let answer = match parse(&text) {
            Ok(request) => self.answer(request).await,
            Err(error) => Err(format!("not a request: {error}")),
        };
        let answer = match answer {
            Ok(value) => json!({ "ok": value }),
            Err(reason) => json!({ "error": reason }),
        };
        let Ok(text) = serde_json::to_vec(&answer) else { return };
        for part in text.chunks(1 << 20) {
            let written = tokio::time::timeout(CALLER_TIME_MAX, caller.write_all(part)).await;
            if !matches!(written, Ok(Ok(()))) {
                return tracing::debug!("a caller on the status socket went away");
            }
        }
    }

    async fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Status => {
                let status = Arc::clone(&self.status.borrow());
                serde_json::to_value(&*status).map_err(|error| error.to_string())
            }
            Request::Incidents => self.stored(|store| Ok(serde_json::to_value(store.incidents())?)).await,
            Request::Incident { id } => self.stored(move |store| revisions(store, &id)).await,
            request => {
                let (answer, answered) = oneshot::channel();
                let gone = |_| "the agent is stopping".to_owned();
                self.engine.send(Ask { request, answer }).await.map_err(|_| gone(()))?;
                answered.await.map_err(|_| gone(()))?
            }
        }
    }

    /// What the store alone answers, off the threads that serve.
    async fn stored(&self, read: impl FnOnce(&Store) -> Result<Value, super::ControlError> + Send + 'static) -> Answer {
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || read(&store).map_err(|error| error.to_string()));
        read.await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

fn parse(text: &[u8]) -> Result<Request, serde_json::Error> {
    if text.iter().all(u8::is_ascii_whitespace) { Ok(Request::Status) } else { serde_json::from_slice(text) }
}

/// Asks the agent behind `path`.
///
/// # Errors
///
/// `NotFound` or `ConnectionRefused` when no agent runs; `PermissionDenied` without root; `InvalidData` for an answer that is
/// none. What the agent refuses is the inner error.
pub fn ask(path: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = BlockingStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.set_write_timeout(Some(CALLER_TIME_MAX))?;
    stream.write_all(&serde_json::to_vec(request)?)?;
    stream.shutdown(Shutdown::Write)?;
    let mut text = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut text)?;
    let wrong = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
    let mut answer: Value = serde_json::from_slice(&text).map_err(|error| wrong(&error.to_string()))?;
    if let Some(reason) = answer.get("error").and_then(Value::as_str) {
        return Ok(Err(reason.to_owned()));
    }
    answer.get_mut("ok").map(|value| Ok(value.take())).ok_or_else(|| wrong("neither an answer nor an error"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_is_no_request_and_nothing_asks_for_the_status() {
        assert_eq!(parse(b"\n").expect("reads"), Request::Status);
        assert_eq!(parse(br#"{"ask":"withdraw","id":"a"}"#).expect("reads"), Request::Withdraw { id: "a".into() });
        for rubbish in ["{", "[]", "\"status\"", "{\"ask\":\"reboot\"}", "\u{0}"] {
            assert!(parse(rubbish.as_bytes()).is_err(), "{rubbish}");
        }
    }

    /// An agent's end with a store and an engine that answers everything with its own words.
    async fn agent(directory: &Path) -> (PathBuf, tokio::task::JoinHandle<()>) {
        let path = directory.join("status.sock");
        let socket = ControlSocket::bind(&path).expect("binds");
        let config = crate::store::Config { directory: directory.to_owned(), ..Default::default() };
        let store = Arc::new(Store::open(&config, crate::timestamp::Timestamp::default()).expect("opens"));
        let (_, status) = watch::channel(Arc::new(Status::starting(crate::timestamp::Timestamp::default())));
        let (engine, mut asked) = mpsc::channel::<Ask>(1);
        tokio::spawn(async move {
            while let Some(ask) = asked.recv().await {
                let _ = ask.answer.send(Err(format!("{:?}", ask.request)));
            }
        });
        (path, tokio::spawn(socket.serve(Served { status, store, engine })))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_request_finds_who_can_answer_it() {
        let directory = tempfile::tempdir().expect("directory");
        let (path, server) = agent(directory.path()).await;
        let check = |request: Request, expected: &str| {
            let path = path.clone();
            let expected = expected.to_owned();
            async move {
                let answer =
                    tokio::task::spawn_blocking(move || ask(&path, &request)).await.expect("runs").expect("answers");
                let text = format!("{answer:?}");
                assert!(text.contains(&expected), "{text}");
            }
        };
        check(Request::Status, "schema").await;
        check(Request::Incidents, "Ok(Array []").await;
        check(Request::Incident { id: "x".into() }, "there is no incident x").await;
        check(Request::Expected, "Err(\"Expected\")").await;
        let second = ControlSocket::bind(&path).expect_err("taken");
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        server.abort();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn callers_that_stall_or_talk_rubbish_do_not_keep_others_out() {
        let directory = tempfile::tempdir().expect("directory");
        let (path, server) = agent(directory.path()).await;
        let stalled: Vec<_> = (0..CALLERS_MAX - 1).map(|_| BlockingStream::connect(&path).expect("connects")).collect();
        let mut rude = BlockingStream::connect(&path).expect("connects");
        rude.write_all(&[0xff; 4096]).expect("writes");
        rude.shutdown(Shutdown::Write).expect("shuts");
        let text = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            rude.read_to_string(&mut text).map(|_| text)
        });
        assert!(text.await.expect("runs").expect("reads").contains("not a request"));
        let asked = tokio::task::spawn_blocking(move || ask(&path, &Request::Status)).await.expect("runs");
        assert!(asked.expect("answers").is_ok());
        drop(stalled);
        server.abort();
    }
}
