//! The NATS server and the stream that both ends share. In: the config. Out: a connection, the stream (made when it is
//! not there), and the one way in which subjects are named.
//!
//! A subject per target address: an agent asks for its own addresses and never sees the lines of another host, and the
//! server's permissions can hold it to that. No line passes through here.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use serde::{Deserialize, Serialize};

/// Time to reach a server, TLS included. Without it a server that drops packets holds the start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a request to JetStream (make a stream, publish): disk and replication take their time, a lost answer must
/// not hold a batch for minutes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Window in which the server recognises a message sent again because its acknowledgement was lost.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Largest message, in bytes: twice what a forwarder sends, so that one that was told otherwise still passes. The
/// server's own limit (`max_payload`) is 1 MiB by default.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Where the server is, and what is shown to it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Addresses of the cluster's servers: `tls://nats.example:4222`; `nats://` on loopback alone.
    pub urls: Vec<String>,
    /// Credentials file as `nsc` writes it (JWT and key).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// File with a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// User name, with `password_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File with the user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// PEM file with the certificate authorities to trust instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client certificate, with `key_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// PEM file with the client certificate's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            urls: vec!["nats://127.0.0.1:4222".into()],
            credentials_file: None,
            token_file: None,
            user: None,
            password_file: None,
            ca_file: None,
            certificate_file: None,
            key_file: None,
        }
    }
}

/// The stream that keeps lines for agents that are not there yet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConfig {
    /// Its name.
    pub name: String,
    /// What its subjects begin with: `SUBJECT.10-1-2-3` for the target 10.1.2.3.
    pub subject: String,
    /// How long lines are kept, where the stream must be made: what an agent that starts late can still read.
    #[serde(with = "crate::config::duration")]
    pub max_age: Duration,
    /// Bytes kept at most, where the stream must be made; the oldest go first.
    pub max_bytes: u64,
    /// Copies in the cluster, where the stream must be made.
    pub replicas: usize,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            name: "BREACHLINE_EDGE".into(),
            subject: "breachline.edge".into(),
            max_age: Duration::from_secs(12 * 3600),
            max_bytes: 4 << 30,
            replicas: 1,
        }
    }
}

/// Why the bus cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// A key that cannot work.
    #[error("{key}: {reason}")]
    Config {
        /// The key, below the section of the server or the stream.
        key: &'static str,
        /// What is wrong, and what to write.
        reason: String,
    },
    /// A file of the config cannot be used.
    #[error("{key} {path}: {source}")]
    File {
        /// The key.
        key: &'static str,
        /// As configured.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// No server answers, or it refuses the credential.
    #[error("cannot reach the NATS server: {0}")]
    Connect(String),
    /// JetStream does not do what it was asked.
    #[error(
        "JetStream refuses stream {stream}: {reason}; is JetStream enabled (nats-server -js) and may this user make \
         streams? By hand: nats stream add {stream} --subjects='{subject}.>' --storage=file --retention=limits \
         --discard=old --max-age=12h --max-bytes=4GB --defaults"
    )]
    Stream {
        /// The stream's name.
        stream: String,
        /// What its subjects begin with.
        subject: String,
        /// The server's word.
        reason: String,
    },
}

impl ServerConfig {
    /// Checks what can be checked without a server.
    ///
    /// # Errors
    ///
    /// The first key that cannot work; an open server beyond loopback is one, since anyone could forge or read there.
    pub fn check(&self) -> Result<(), BusError> {
        let wrong = |key, reason: String| Err(BusError::Config { key, reason });
        if self.urls.is_empty() {
            return wrong("urls", "names no server; write [\"tls://nats.example:4222\"]".into());
        }
        let credentials = [&self.credentials_file, &self.token_file, &self.password_file, &self.certificate_file];
        for url in &self.urls {
            let server = parse(url)?;
            if server.has_user_pass() {
                return wrong("urls", "put the credential in a file, not in the address".into());
            }
            if is_loopback(&server) {
                continue;
            }
            if server.scheme() != "tls" {
                return wrong("urls", format!("{url} is beyond loopback without TLS; write tls://"));
            }
            if credentials.iter().all(|file| file.is_none()) {
                let reason = format!(
                    "{url} is beyond loopback without a credential; set credentials_file, token_file, user and \
                     password_file, or certificate_file and key_file"
                );
                return wrong("urls", reason);
            }
        }
        if self.user.is_some() != self.password_file.is_some() {
            return wrong("user", "goes with password_file, and that with it".into());
        }
        if self.certificate_file.is_some() != self.key_file.is_some() {
            return wrong("certificate_file", "goes with key_file, and that with it".into());
        }
        Ok(())
    }

    /// Connects, or goes on trying in the background: a server that is away for now is no reason not to start. What is
    /// wrong at any time stands in `trouble`.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, an address that is none.
    pub async fn connect(&self, name: &str, trouble: &Trouble) -> Result<Client, BusError> {
        self.check()?;
        // Another part of the process may have chosen ring before; there is no other provider in this program.
        drop(rustls::crypto::ring::default_provider().install_default());
        let heard = trouble.clone();
        let mut options = ConnectOptions::new()
            .name(name)
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .retry_on_initial_connect()
            .event_callback(move |event| {
                heard.hear(&event);
                std::future::ready(())
            });
        if let Some(path) = &self.credentials_file {
            let credentials = read("credentials_file", path)?;
            options = options.credentials(&credentials).map_err(|source| BusError::File {
                key: "credentials_file",
                path: path.clone(),
                source,
            })?;
        }
        if let Some(path) = &self.token_file {
            options = options.token(read("token_file", path)?.trim().to_owned());
        }
        if let (Some(user), Some(path)) = (&self.user, &self.password_file) {
            options = options.user_and_password(user.clone(), read("password_file", path)?.trim().to_owned());
        }
        if let Some(path) = &self.ca_file {
            read("ca_file", path)?;
            options = options.add_root_certificates(path.clone());
        }
        if let (Some(certificate), Some(key)) = (&self.certificate_file, &self.key_file) {
            read("certificate_file", certificate)?;
            read("key_file", key)?;
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        let servers = self.urls.iter().map(|url| parse(url)).collect::<Result<Vec<_>, _>>()?;
        options.connect(servers).await.map_err(|error| BusError::Connect(error.to_string()))
    }
}

fn parse(url: &str) -> Result<ServerAddr, BusError> {
    let server: Result<ServerAddr, _> = url.parse();
    match server {
        Ok(server) if matches!(server.scheme(), "nats" | "tls") => Ok(server),
        _ => Err(BusError::Config { key: "urls", reason: "write tls://host:4222, or nats:// on loopback".into() }),
    }
}

fn is_loopback(server: &ServerAddr) -> bool {
    let host = server.host().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn read(key: &'static str, path: &Path) -> Result<String, BusError> {
    fs::read_to_string(path).map_err(|source| BusError::File { key, path: path.to_owned(), source })
}

impl StreamConfig {
    /// Checks the names.
    ///
    /// # Errors
    ///
    /// A name or a beginning of subjects that NATS does not have, or a stream that would keep nothing.
    pub fn check(&self) -> Result<(), BusError> {
        let wrong = |key, reason: &str| Err(BusError::Config { key, reason: reason.into() });
        let plain = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_'))
        };
        if !plain(&self.name) {
            return wrong("stream.name", "takes letters, digits, - and _");
        }
        if !self.subject.split('.').all(plain) {
            return wrong("stream.subject", "takes words of letters, digits, - and _ with dots between");
        }
        if self.max_age.is_zero() || self.max_bytes == 0 || i64::try_from(self.max_bytes).is_err() {
            return wrong("stream.max_age", "and stream.max_bytes must be larger than 0, or nothing is kept");
        }
        Ok(())
    }

    /// The stream; made when it is not there. One that is there stays as its operator made it.
    ///
    /// # Errors
    ///
    /// The server's refusal, with what to run by hand.
    pub async fn open(&self, context: &jetstream::Context) -> Result<stream::Stream, BusError> {
        let config = stream::Config {
            name: self.name.clone(),
            subjects: vec![format!("{}.>", self.subject)],
            max_age: self.max_age,
            max_bytes: i64::try_from(self.max_bytes).unwrap_or(i64::MAX),
            discard: stream::DiscardPolicy::Old,
            storage: stream::StorageType::File,
            num_replicas: self.replicas,
            duplicate_window: DUPLICATE_WINDOW.min(self.max_age),
            description: Some("access-log lines, a subject per target address, for breachline agents".into()),
            ..stream::Config::default()
        };
        context.get_or_create_stream(config).await.map_err(|error| BusError::Stream {
            stream: self.name.clone(),
            subject: self.subject.clone(),
            reason: error.to_string(),
        })
    }

    /// The subject of the lines for `target`.
    #[must_use]
    pub fn subject_of(&self, target: IpAddr) -> String {
        format!("{}.{}", self.subject, token(target))
    }
}

/// An address as a word of a subject: `10-1-2-3`, `fd00--7`. No two addresses share one: of those with colons none has
/// four numbers with single dashes.
pub(crate) fn token(address: IpAddr) -> String {
    address.to_canonical().to_string().replace(['.', ':'], "-")
}

/// A JetStream context on `client`.
pub(crate) fn jetstream(client: Client) -> jetstream::Context {
    let mut context = jetstream::new(client);
    context.set_timeout(REQUEST_TIMEOUT);
    context
}

/// What is wrong with a connection at the moment, shared by those who use it and those who show it.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// What is wrong; `None` when all is well.
    #[must_use]
    pub fn now(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something is wrong; said in the log once.
    pub(crate) fn note(&self, trouble: String) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.as_ref() != Some(&trouble) {
            tracing::warn!(trouble, "the NATS bus is waited for");
            *now = Some(trouble);
        }
    }

    /// All is well again.
    pub(crate) fn clear(&self) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.take().is_some() {
            tracing::info!("the NATS bus works");
        }
    }

    fn hear(&self, event: &Event) {
        match event {
            Event::Connected => self.clear(),
            Event::Disconnected => self.note("connection to the NATS server lost".into()),
            Event::ServerError(error) => self.note(format!("the NATS server says: {error}")),
            Event::ClientError(error) => self.note(format!("the NATS server cannot be reached: {error}")),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_word_of_its_own() {
        let stream = StreamConfig::default();
        let check = |address: &str, expected: &str| {
            assert_eq!(stream.subject_of(address.parse().expect("an address")), expected, "{address}");
        };
        check("10.1.2.3", "breachline.edge.10-1-2-3");
        check("::ffff:10.1.2.3", "breachline.edge.10-1-2-3");
        check("fd00::7", "breachline.edge.fd00--7");
        check("2001:db8:0:0:1:0:0:1", "breachline.edge.2001-db8--1-0-0-1");
    }

    #[test]
    fn an_open_server_beyond_loopback_is_refused() {
        let check = |server: ServerConfig, expected: &str| {
            let found = server.check().map_or_else(|error| error.to_string(), |()| "fine".into());
            assert!(found.contains(expected), "{found} lacks {expected}");
        };
        let at = |url: &str| ServerConfig { urls: vec![url.into()], ..ServerConfig::default() };
        check(at("nats://127.0.0.1:4222"), "fine");
        check(at("nats://[::1]:4222"), "fine");
        check(at("nats://nats.example:4222"), "write tls://");
        check(at("tls://nats.example:4222"), "without a credential");
        check(ServerConfig { token_file: Some("t".into()), ..at("tls://nats.example:4222") }, "fine");
        check(at("tls://user:hunter2@nats.example:4222"), "not in the address");
        check(at("http://nats.example"), "write tls://");
        check(ServerConfig { urls: Vec::new(), ..ServerConfig::default() }, "names no server");
        check(ServerConfig { user: Some("u".into()), ..at("nats://localhost") }, "password_file");
        check(ServerConfig { key_file: Some("k".into()), ..at("nats://localhost") }, "key_file");
    }

    #[test]
    fn names_that_nats_does_not_have_are_refused() {
        let with = |name: &str, subject: &str| StreamConfig {
            name: name.into(),
            subject: subject.into(),
            ..StreamConfig::default()
        };
        assert!(StreamConfig::default().check().is_ok());
        for bad in [with("a.b", "edge"), with("", "edge"), with("A", "edge.>"), with("A", "edge..x"), with("A", "")] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        assert!(StreamConfig { max_bytes: 0, ..StreamConfig::default() }.check().is_err());
    }
}
