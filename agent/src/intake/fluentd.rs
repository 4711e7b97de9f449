//! The Fluentd forward protocol v1, as Fluentd, Fluent Bit and their client libraries speak it. In: connections. Out: the
//! lines of their records, and an acknowledgement of each chunk whose sender asked for one, once it is on disk.
//!
//! With a shared key clients prove that they know it before anything else is read. A partly received message takes room in
//! the queue as it grows; nothing else is kept.

mod handshake;
mod message;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use self::message::Message;
use super::access::Keys;
use super::connections::{self, Connections, Io, Listener, Slot, Waits};
use super::content::{ContentError, Unpacking};
use super::lines::{Limits, Lines};
use super::msgpack::Scanner;
use super::queue::{self, Room};
use super::repeated::Repeated;
use super::sources::Sources;
use super::tls::Tls;
use super::{Batch, Counters, IntakeError, LINE_BYTES_MAX, Queue, Shared};

/// Read at once.
const READ_BYTES: usize = 64 << 10;

/// Time within which a message that has begun must end, a handshake too, and for the client to take an acknowledgement.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(30);

/// Silence allowed between messages.
const SILENCE_MAX: Duration = Duration::from_secs(86_400);

/// Lines of a message at most.
const LINES_MAX: usize = 200_000;

/// The forward receiver.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port (24224 by habit); none is none. Beyond loopback only with TLS and a credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Whether it speaks TLS, with the certificate of `intake.tls`.
    pub tls: bool,
    /// File with shared keys, one a line, of which clients must know one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_key_file: Option<PathBuf>,
    /// Bytes of a message at most, as sent.
    pub message_bytes_max: usize,
    /// Bytes of a message at most, unpacked.
    pub unpacked_bytes_max: usize,
    /// Connections at the same time; for a further one the longest idle is closed.
    pub connections_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: None,
            tls: false,
            shared_key_file: None,
            message_bytes_max: 8 << 20,
            unpacked_bytes_max: 16 << 20,
            connections_max: 256,
        }
    }
}

/// How many lines the messages in a whole stream of these bytes hold; what follows half a message is not read. The receiver does
/// the same with bytes as they come.
///
/// # Errors
///
/// Something in it is no message, or past a bound.
pub fn read(stream: &[u8], limits: Limits, unpacked_bytes_max: usize) -> Result<usize, ContentError> {
    let mut rest = Bytes::copy_from_slice(stream);
    let mut lines = Lines::new(limits);
    while let Some(end) = Scanner::default().end(&rest)? {
        let mut unpacking = Unpacking { bytes_left: unpacked_bytes_max, grow: &mut |_| true };
        message::read(&rest.split_to(end), &mut unpacking, &mut lines)?;
    }
    Ok(lines.lines.len())
}

/// A bound port.
#[derive(Debug)]
pub(super) struct Fluentd {
    listener: Listener,
    receiver: Receiver,
}

#[derive(Debug)]
struct Receiver {
    config: Config,
    keys: Option<Keys>,
    queue: Queue,
    shared: Shared,
    sources: Sources,
    repeated: Repeated,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the client closed it, or did not go on")]
    Client,
    #[error("the client does not know the shared key")]
    Stranger,
    #[error("a message has more than {0} bytes")]
    TooLong(usize),
    #[error("there is no room for its message")]
    NoRoom,
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error("its lines were not taken: {0}")]
    NotTaken(#[from] super::journal::NotTaken),
}

impl Fluentd {
    /// Takes the port.
    pub(super) async fn bind(
        config: &Config,
        listen: SocketAddr,
        tls: Option<Tls>,
        queue: Queue,
        shared: &Shared,
    ) -> Result<Self, IntakeError> {
        let keys = config
            .shared_key_file
            .as_deref()
            .map(|path| Keys::open("intake.fluentd.shared_key_file", path))
            .transpose()?;
        let listener = Listener {
            socket: connections::bind("intake.fluentd.listen", listen).await?,
            tls,
            connections: Connections::new(config.connections_max, Arc::clone(queue.counters())),
            turn_away: b"",
            // In a handshake the server speaks first; under TLS the client does all the same.
            first_byte: (keys.is_none() || config.tls).then_some(SILENCE_MAX),
        };
        let receiver = Receiver {
            config: config.clone(),
            keys,
            queue,
            shared: shared.clone(),
            sources: Sources::new("fluentd"),
            repeated: Repeated::default(),
        };
        Ok(Self { listener, receiver })
    }

    /// Where it listens.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.socket.local_addr().ok()
    }

    /// Serves until `stop` turns true.
    pub(super) async fn run(self, stop: watch::Receiver<bool>) {
        let (receiver, stopping) = (Arc::new(self.receiver), stop.clone());
        let serve = move |stream, slot: Arc<Slot>, peer: SocketAddr| {
            let (receiver, mut stopping) = (Arc::clone(&receiver), stopping.clone());
            async move {
                let mut connection = Connection::new(stream, peer.ip(), Arc::clone(&receiver));
                let ended = connection.serve(&slot, &mut stopping).await;
                if let Err(error) = ended
                    && !matches!(error, Ended::Client)
                {
                    tracing::debug!(%peer, %error, "a forward connection is closed");
                    Counters::add(&receiver.queue.counters().fluentd_refused, 1);
                }
            }
        };
        self.listener.run(stop, serve).await;
    }
}

struct Connection {
    stream: Box<dyn Io>,
    peer: IpAddr,
    receiver: Arc<Receiver>,
    buffer: BytesMut,
    scanner: Scanner,
    room: Option<Room>,
    reserved: usize,
}

impl Connection {
    fn new(stream: Box<dyn Io>, peer: IpAddr, receiver: Arc<Receiver>) -> Self {
        Self { stream, peer, receiver, buffer: BytesMut::new(), scanner: Scanner::default(), room: None, reserved: 0 }
    }

    async fn serve(&mut self, slot: &Slot, stop: &mut watch::Receiver<bool>) -> Result<(), Ended> {
        timeout(MESSAGE_TIME_MAX, self.shake_hands(slot)).await.map_err(|_| Ended::Client)??;
        loop {
            // A message under way when the agent stops is not taken; its sender does not hear an acknowledgement.
            let frame = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                frame = self.frame(slot) => frame?,
            };
            slot.works();
            let Some((message, lines, room)) = self.read(frame).await? else { continue };
            self.take(message, lines, room).await?;
        }
    }

    async fn shake_hands(&mut self, slot: &Slot) -> Result<(), Ended> {
        let receiver = Arc::clone(&self.receiver);
        let Some(keys) = &receiver.keys else { return Ok(()) };
        let mut nonce = [0; handshake::NONCE_BYTES];
        rustls::crypto::ring::default_provider().secure_random.fill(&mut nonce).map_err(|_| Ended::Client)?;
        self.say(&handshake::helo(&nonce)).await?;
        let ping = self.frame(slot).await?;
        let (pong, known) = handshake::pong(&ping, &nonce, keys).map_err(ContentError::from)?;
        self.say(&pong).await?;
        if known { Ok(()) } else { Err(Ended::Stranger) }
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let saying = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(MESSAGE_TIME_MAX, saying).await.map_err(|_| Ended::Client)?.map_err(|_| Ended::Client)
    }

    /// The next whole message.
    async fn frame(&mut self, slot: &Slot) -> Result<Bytes, Ended> {
        loop {
            if let Some(end) = self.scanner.end(&self.buffer).map_err(ContentError::from)? {
                return Ok(self.buffer.split_to(end).freeze());
            }
            let bytes_max = self.receiver.config.message_bytes_max;
            if self.buffer.len() >= bytes_max {
                return Err(Ended::TooLong(bytes_max));
            }
            self.make_room(slot)?;
            tokio::time::sleep(self.receiver.shared.rates.wait(self.peer)).await;
            let within = !self.buffer.is_empty();
            slot.waits(if within { Waits::Reading } else { Waits::Idle });
            if !within {
                self.buffer = BytesMut::new(); // an idle connection has no buffer
            }
            let limit = if within { MESSAGE_TIME_MAX } else { SILENCE_MAX };
            self.buffer.reserve(READ_BYTES);
            let read = timeout(limit, self.stream.read_buf(&mut self.buffer)).await;
            match read {
                Ok(Ok(count @ 1..)) => self.receiver.shared.rates.spend(self.peer, count),
                _ => return Err(Ended::Client),
            }
        }
    }

    /// Reserves what the buffer holds.
    fn make_room(&mut self, slot: &Slot) -> Result<(), Ended> {
        if self.buffer.is_empty() {
            (self.room, self.reserved) = (None, 0);
            return Ok(());
        }
        let wanted = self.buffer.len().saturating_sub(self.reserved);
        let made = match &mut self.room {
            Some(room) => self.receiver.queue.try_grow(room, wanted),
            room => {
                *room = self.receiver.queue.try_reserve(wanted);
                room.is_some()
            }
        };
        if !made {
            slot.connections().let_go_of_slowest();
            return Err(Ended::NoRoom);
        }
        self.reserved += wanted;
        Ok(())
    }

    /// Takes a message apart, off the async threads; `None` for a heartbeat.
    async fn read(&mut self, frame: Bytes) -> Result<Option<(Message, Lines, Room)>, Ended> {
        let receiver = Arc::clone(&self.receiver);
        (self.room, self.reserved) = (None, 0);
        let Some(mut room) = receiver.queue.reserve(frame.len()).await else { return Err(Ended::NoRoom) };
        let reading = tokio::task::spawn_blocking(move || {
            let mut lines = Lines::new(Limits { lines: LINES_MAX, line_bytes: LINE_BYTES_MAX });
            let mut grow = |bytes| receiver.queue.try_grow(&mut room, bytes);
            let mut unpacking = Unpacking { bytes_left: receiver.config.unpacked_bytes_max, grow: &mut grow };
            let message = message::read(&frame, &mut unpacking, &mut lines)?;
            if lines.overflow {
                return Err(Ended::TooLong(receiver.config.message_bytes_max));
            }
            if !grow(lines.copied() + queue::handles(lines.lines.len())) {
                return Err(Ended::NoRoom);
            }
            Ok(message.map(|message| (message, lines, room)))
        });
        reading.await.map_err(|_| Ended::NoRoom)?
    }

    async fn take(&mut self, message: Message, lines: Lines, room: Room) -> Result<(), Ended> {
        let receiver = Arc::clone(&self.receiver);
        let counters = receiver.queue.counters();
        let repeated = message.chunk.as_ref().is_some_and(|chunk| receiver.repeated.knows(chunk));
        if repeated {
            Counters::add(&counters.deliveries_repeated, 1);
        } else if !lines.lines.is_empty() {
            Counters::add(&counters.lines_cut, lines.cut);
            let source = receiver.sources.name(&message.tag);
            let batch = Batch::new(source, (receiver.shared.now)(), lines.lines).in_room(room);
            // Who asks for an acknowledgement keeps what was not acknowledged.
            receiver.queue.take(batch, message.chunk.is_none()).await?;
        }
        let Some(chunk) = message.chunk else { return Ok(()) };
        receiver.repeated.note(&chunk);
        self.say(&handshake::ack(&chunk)).await
    }
}
