//! The HTTP receiver: a listener, its connections and their bounds. In: connections. Out: what [`request`] makes of their
//! requests.
//!
//! Slow and idle clients cost a slot at most, and lose it when another needs it: see [`super::connections`]. Time for the
//! header, for the body and for the whole connection is bounded. Beyond loopback it listens with TLS and a credential only.

mod answer;
mod request;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;

use self::request::Handler;
use super::access::Keys;
use super::connections::{self, Connections, Io, Listener, Slot};
use super::tls::Tls;
use super::{IntakeError, Queue, Shared};

/// Longest life of a connection; forwarders reconnect. Ends those that send requests and never read an answer.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// Buffer per connection for headers: without a bound hyper lets it grow to 400 KiB, times the number of connections.
const CONNECTION_BUFFER_BYTES: usize = 32 << 10;

/// Header fields per request; forwarders send about ten.
const HEADERS_MAX: usize = 64;

/// What a client hears when all connections are taken.
const TOO_MANY_CONNECTIONS: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The HTTP receiver.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether there is one.
    pub enabled: bool,
    /// Address and port; port 0 takes a free one. Beyond loopback only with TLS and a credential.
    pub listen: SocketAddr,
    /// Whether it speaks TLS, with the certificate of `intake.tls`.
    pub tls: bool,
    /// File with tokens, one a line, of which senders must show one: as bearer token, as password, as Firehose's access key,
    /// or to `/pubsub` as `?token=`. Without it (and without TLS that asks for certificates) every process on this host
    /// may send lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Bytes of a request body at most, as sent.
    pub body_bytes_max: usize,
    /// Bytes of a request body at most, unpacked.
    pub unpacked_bytes_max: usize,
    /// Lines of a request at most.
    pub lines_max: usize,
    /// Connections at the same time; for a further one the longest idle is closed.
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
            tls: false,
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
    /// A bound that no request could keep.
    pub fn check(&self, queue_bytes: usize) -> Result<(), IntakeError> {
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
pub(super) struct Server {
    listener: Listener,
    config: Config,
    handler: Handler,
}

impl Server {
    /// Takes the port; `tls` is what `config.tls` asks for.
    ///
    /// # Errors
    ///
    /// A config that cannot work, or a port that is taken.
    pub(super) async fn bind(
        config: &Config,
        tls: Option<Tls>,
        queue: Queue,
        shared: &Shared,
    ) -> Result<Self, IntakeError> {
        config.check(queue.bytes_max())?;
        let keys = config.token_file.as_deref().map(|path| Keys::open("intake.http.token_file", path)).transpose()?;
        let listener = Listener {
            socket: connections::bind("intake.http.listen", config.listen).await?,
            tls,
            connections: Connections::new(config.connections_max, Arc::clone(queue.counters())),
            turn_away: TOO_MANY_CONNECTIONS,
            first_byte: Some(config.header_timeout),
        };
        let handler = Handler::new(config.clone(), keys, queue, shared.clone());
        Ok(Self { listener, config: config.clone(), handler })
    }

    /// Where it listens.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.socket.local_addr().ok()
    }

    /// Serves until `stop` turns true (or its sender is gone); then answers 503 and lets requests under way finish.
    pub(super) async fn run(self, stop: watch::Receiver<bool>) {
        let Self { listener, config, handler } = self;
        let (config, handler, stopping) = (Arc::new(config), Arc::new(handler), stop.clone());
        let serve = move |stream, slot, peer| {
            connection(stream, slot, peer, Arc::clone(&config), Arc::clone(&handler), stopping.clone())
        };
        listener.run(stop, serve).await;
    }
}

async fn connection(
    stream: Box<dyn Io>,
    slot: Arc<Slot>,
    peer: SocketAddr,
    config: Arc<Config>,
    handler: Arc<Handler>,
    mut stop: watch::Receiver<bool>,
) {
    let stopping = stop.clone();
    let service = service_fn(move |request| {
        let (handler, slot, stopping) = (Arc::clone(&handler), Arc::clone(&slot), *stopping.borrow());
        async move { Ok::<_, std::convert::Infallible>(handler.answer(request, peer.ip(), &slot, stopping).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
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
    drop(timeout(config.body_timeout, serving).await);
}

#[cfg(test)]
mod tests;
