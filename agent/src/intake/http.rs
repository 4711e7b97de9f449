//! The HTTP receiver: a listener, its connections and their bounds. In: connections on loopback. Out: what [`request`]
//! makes of their requests.
//!
//! Slow and idle clients cost a slot, never a thread: time for the header, for the body and for the whole connection is
//! bounded, and so is their number. Beyond loopback it does not listen.

mod request;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::request::{Handler, Token};
use super::{Counters, IntakeError, Queue};
use crate::timestamp::Timestamp;

/// Longest life of a connection; forwarders reconnect. Ends those that send requests and never read an answer.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// Buffer per connection for headers: without a bound hyper lets it grow to 400 KiB, times the number of connections.
const CONNECTION_BUFFER_BYTES: usize = 32 << 10;

/// Header fields per request; forwarders send about ten.
const HEADERS_MAX: usize = 64;

/// Wait after an accept that failed for lack of descriptors, so that the loop does not spin until one is closed.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What a client hears when all connections are taken.
const TOO_MANY_CONNECTIONS: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The HTTP receiver.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether there is one.
    pub enabled: bool,
    /// Address and port, on loopback; port 0 takes a free one.
    pub listen: SocketAddr,
    /// File with a token that senders must show (`Authorization: Bearer …`); without one, every process on this host
    /// may send lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Bytes of a request body at most, as sent.
    pub body_bytes_max: usize,
    /// Bytes of a request body at most, unpacked.
    pub unpacked_bytes_max: usize,
    /// Lines of a request at most.
    pub lines_max: usize,
    /// Connections at the same time; further ones are answered 503.
    pub connections_max: usize,
    /// Time for a request's header, idle time between requests included.
    #[serde(with = "crate::config::duration")]
    pub header_timeout: Duration,
    /// Time for a request's body.
    #[serde(with = "crate::config::duration")]
    pub body_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8514)),
            token_file: None,
            body_bytes_max: 8 << 20,
            unpacked_bytes_max: 16 << 20,
            lines_max: 200_000,
            connections_max: 512,
            header_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Checks the bounds against each other and against the queue's.
    ///
    /// # Errors
    ///
    /// An address beyond loopback, or a bound that no request could keep.
    pub fn check(&self, queue_bytes: usize) -> Result<(), IntakeError> {
        if !self.listen.ip().is_loopback() {
            return Err(IntakeError::Exposed { address: self.listen });
        }
        let limit = |key, value, reason| Err(IntakeError::Limit { key, value, reason });
        for (key, value) in [
            ("http.body_bytes_max", self.body_bytes_max),
            ("http.unpacked_bytes_max", self.unpacked_bytes_max),
            ("http.lines_max", self.lines_max),
            ("http.connections_max", self.connections_max),
        ] {
            if value == 0 {
                return limit(key, value, "must be at least 1");
            }
        }
        // Packed and unpacked body are in memory together.
        if self.body_bytes_max.saturating_add(self.unpacked_bytes_max) > queue_bytes {
            return limit(
                "queue_bytes",
                queue_bytes,
                "must hold http.body_bytes_max and http.unpacked_bytes_max together",
            );
        }
        Ok(())
    }
}

/// A bound listener.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    config: Config,
    token: Option<Token>,
    queue: Queue,
    now: fn() -> Timestamp,
}

impl Server {
    /// Checks the config and takes the port.
    ///
    /// # Errors
    ///
    /// A config that cannot work, or a port that is taken.
    pub async fn bind(config: &Config, queue: Queue, now: fn() -> Timestamp) -> Result<Self, IntakeError> {
        config.check(queue.bytes_max())?;
        let token = config.token_file.as_deref().map(Token::read).transpose()?;
        let bound = TcpListener::bind(config.listen).await;
        let listener = bound.map_err(|source| IntakeError::Bind { address: config.listen, source })?;
        Ok(Self { listener, config: config.clone(), token, queue, now })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The system's, if the socket is gone.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` turns true (or its sender is gone); then answers 503 and lets requests under way finish.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let slots = Arc::new(Semaphore::new(self.config.connections_max.min(Semaphore::MAX_PERMITS)));
        let (config, queue) = (self.config.clone(), self.queue.clone());
        let handler = Arc::new(Handler::new(config, self.token.clone(), queue, self.now, stop.clone()));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => drop(connections.spawn(connection(stream, slot, Arc::clone(&handler)))),
                Err(_) => self.turn_away(&stream),
            }
        }
        drop(self.listener);
        let finished = async { while connections.join_next().await.is_some() {} };
        drop(timeout(self.config.body_timeout, finished).await);
    }

    /// Never waits: the answer fits any socket buffer, and a client whose buffer is full does not get it.
    fn turn_away(&self, stream: &TcpStream) {
        Counters::add(&self.queue.counters().http_deferred, 1);
        drop(stream.try_write(TOO_MANY_CONNECTIONS));
    }
}

async fn connection(stream: TcpStream, _slot: OwnedSemaphorePermit, handler: Arc<Handler>) {
    let (header_timeout, body_timeout, mut stop) = handler.times();
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, std::convert::Infallible>(handler.answer(request).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .max_headers(HEADERS_MAX);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = serving.as_mut() => return,
        () = tokio::time::sleep(CONNECTION_AGE_MAX) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    // An idle connection closes now, a request under way is still answered.
    serving.as_mut().graceful_shutdown();
    drop(timeout(body_timeout, serving).await);
}

#[cfg(test)]
mod tests;
