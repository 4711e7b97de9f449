//! Syslog: UDP, TCP and TLS, RFC 5424 and RFC 3164, both framings. In: messages. Out: their texts as lines, one source per program
//! (`syslog:nginx`).
//!
//! Syslog knows no acknowledgement: what its sender has handed to the network it forgets. So a stream is read on only when
//! what was read is on disk, which slows its sender down rather than losing its lines; datagrams for which there is no
//! room are dropped and counted.

mod frame;
mod message;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::timeout;

use self::frame::Framer;
use self::message::Message;
use super::connections::{self, Connections, Io, Listener, Slot, Waits};
use super::sources::Sources;
use super::tls::Tls;
use super::{Batch, Counters, IntakeError, LINE_BYTES_MAX, Queue, Shared, queue};

/// Read from a stream at once: bounds what a connection holds beside one message.
const READ_BYTES: usize = 64 << 10;

/// Time within which a message that has begun must end.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(30);

/// Time for a connection's first byte; senders keep silent connections open for hours.
const FIRST_BYTE: Duration = Duration::from_secs(86_400);

/// Largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Datagrams brought to disk together.
const DATAGRAMS_MAX: usize = 512;

/// Asked of the kernel for datagrams while others are brought to disk; it grants what `net.core.rmem_max` allows.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// The syslog receiver: each address where it listens, none by default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Datagrams, on loopback only: nothing tells who sent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<SocketAddr>,
    /// Plain TCP, on loopback only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<SocketAddr>,
    /// TLS (RFC 5425) with the certificate of `intake.tls`; beyond loopback senders show a certificate of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<SocketAddr>,
    /// Connections at the same time, for TCP and TLS each; for a further one the longest idle is closed.
    pub connections_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { udp: None, tcp: None, tls: None, connections_max: 256 }
    }
}

/// Bound ports.
#[derive(Debug)]
pub(super) struct Syslog {
    udp: Option<UdpSocket>,
    listeners: Vec<Listener>,
    receiver: Arc<Receiver>,
}

#[derive(Debug)]
struct Receiver {
    queue: Queue,
    shared: Shared,
    sources: Sources,
}

impl Syslog {
    /// Takes the ports; `tls` is there when `config.tls` is.
    pub(super) async fn bind(
        config: &Config,
        tls: Option<Tls>,
        queue: Queue,
        shared: &Shared,
    ) -> Result<Self, IntakeError> {
        let mut listeners = Vec::new();
        let streams = [("intake.syslog.tcp", config.tcp, None), ("intake.syslog.tls", config.tls, tls)];
        for (key, address, tls) in streams {
            let Some(address) = address else { continue };
            listeners.push(Listener {
                socket: connections::bind(key, address).await?,
                tls,
                connections: Connections::new(config.connections_max, Arc::clone(queue.counters())),
                turn_away: b"",
                first_byte: Some(FIRST_BYTE),
            });
        }
        let udp = config.udp.map(bind_udp).transpose()?;
        let receiver = Receiver { queue, shared: shared.clone(), sources: Sources::new("syslog") };
        Ok(Self { udp, listeners, receiver: Arc::new(receiver) })
    }

    /// Where it listens: UDP first, then TCP, then TLS, as far as configured.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let udp = self.udp.iter().filter_map(|socket| socket.local_addr().ok());
        udp.chain(self.listeners.iter().filter_map(|listener| listener.socket.local_addr().ok())).collect()
    }

    /// One task per port, until `stop` turns true.
    pub(super) fn run(self, tasks: &mut tokio::task::JoinSet<()>, stop: &watch::Receiver<bool>) {
        if let Some(socket) = self.udp {
            tasks.spawn(datagrams(socket, Arc::clone(&self.receiver), stop.clone()));
        }
        for listener in self.listeners {
            let (receiver, stopping) = (Arc::clone(&self.receiver), stop.clone());
            let serve = move |stream, slot, peer: SocketAddr| {
                self::stream(stream, slot, peer.ip(), Arc::clone(&receiver), stopping.clone())
            };
            tasks.spawn(listener.run(stop.clone(), serve));
        }
    }
}

fn bind_udp(address: SocketAddr) -> Result<UdpSocket, IntakeError> {
    let bind = || {
        let socket = std::net::UdpSocket::bind(address)?;
        // What the kernel does not grant is no reason not to listen.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    };
    bind().map_err(|source| IntakeError::Bind { key: "intake.syslog.udp", address, source })
}

/// Messages of one read, by source.
#[derive(Default)]
struct Found(BTreeMap<Arc<str>, Vec<Bytes>>);

impl Found {
    fn add(&mut self, message: &Bytes, receiver: &Receiver) {
        let read = Message::read(message);
        if read.text.is_empty() {
            return;
        }
        let text = message.slice_ref(read.text);
        let cut = text.len() > LINE_BYTES_MAX;
        Counters::add(&receiver.queue.counters().lines_cut, usize::from(cut));
        let lines = self.0.entry(receiver.sources.name(read.program)).or_default();
        lines.push(if cut { text.slice(..LINE_BYTES_MAX) } else { text });
    }
}

impl Receiver {
    /// Hands messages over as soon as there is room, and waits until they are on disk; false when there is no hope.
    async fn take(&self, found: Found) -> bool {
        for (source, lines) in found.0 {
            let bytes = lines.iter().map(Bytes::len).sum::<usize>() + queue::handles(lines.len());
            let Some(room) = self.queue.reserve(bytes).await else { return false };
            let batch = Batch::new(source, (self.shared.now)(), lines).in_room(room);
            if self.queue.take(batch, true).await.is_err() {
                return false;
            }
        }
        true
    }
}

async fn stream(
    mut stream: Box<dyn Io>,
    slot: Arc<Slot>,
    peer: IpAddr,
    receiver: Arc<Receiver>,
    mut stop: watch::Receiver<bool>,
) {
    let mut framer = Framer::default();
    loop {
        tokio::time::sleep(receiver.shared.rates.wait(peer)).await;
        let within = framer.is_within_message();
        slot.waits(if within { Waits::Reading } else { Waits::Idle });
        let limit = if within { MESSAGE_TIME_MAX } else { FIRST_BYTE };
        framer.buffer().reserve(READ_BYTES);
        let read = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            read = timeout(limit, stream.read_buf(framer.buffer())) => read,
        };
        let Ok(Ok(count)) = read else { break };
        slot.works();
        receiver.shared.rates.spend(peer, count);
        let mut found = Found::default();
        let framed = loop {
            match framer.next() {
                Ok(Some(message)) => found.add(&message, &receiver),
                Ok(None) => break true,
                Err(error) => {
                    tracing::debug!(%peer, %error, "a syslog stream is closed");
                    Counters::add(&receiver.queue.counters().syslog_refused, 1);
                    break false;
                }
            }
        };
        if !receiver.take(found).await || !framed || count == 0 {
            break;
        }
        if !framer.is_within_message() {
            *framer.buffer() = BytesMut::new(); // an idle connection has no buffer
        }
    }
    let mut found = Found::default();
    if let Some(last) = framer.last() {
        found.add(&last, &receiver);
    }
    receiver.take(found).await;
}

async fn datagrams(socket: UdpSocket, receiver: Arc<Receiver>, mut stop: watch::Receiver<bool>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let counters = receiver.queue.counters();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            // An error here is an ICMP answer to somebody else.
            _ = socket.readable() => {}
        }
        let (mut found, mut bytes) = (Found::default(), 0);
        for _ in 0..DATAGRAMS_MAX {
            let Ok((length, peer)) = socket.try_recv_from(&mut buffer) else { break };
            let room = receiver.queue.try_reserve(bytes + length);
            if room.is_none() || !receiver.shared.rates.wait(peer.ip()).is_zero() {
                Counters::add(&counters.datagrams_dropped, 1);
                continue;
            }
            receiver.shared.rates.spend(peer.ip(), length);
            bytes += length;
            found.add(&Bytes::copy_from_slice(&buffer[..length]), &receiver);
        }
        if !receiver.take(found).await {
            return;
        }
    }
}
