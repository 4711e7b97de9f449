//! One request. In: method, path, headers, body. Out: a batch on disk and in the queue, and the answer that says so; or a
//! refusal. All lines of a request are taken, or none.
//!
//! Credentials are looked at before the body is read, and the body's room is reserved as it comes in, so that what is only
//! announced takes none.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Uri};
use tokio::time::timeout;

use super::Config;
use super::answer::{self, Answer, Refusal, Taken};
use crate::intake::access::Keys;
use crate::intake::connections::{Slot, Waits};
use crate::intake::content::{Content, Protocol};
use crate::intake::inflate::{Coding, inflate};
use crate::intake::journal::NotTaken;
use crate::intake::lines::Limits;
use crate::intake::queue::{self, Room};
use crate::intake::repeated::Repeated;
use crate::intake::sources::Sources;
use crate::intake::{Batch, Counters, LINE_BYTES_MAX, Queue, Shared};

/// Bodies above this are unpacked and read off the async threads: 64 KiB unpacked at 1:250 take some 20 ms.
const INLINE_BYTES_MAX: usize = 8 << 10;

/// Room is reserved in steps, so that small pieces of a body do not round up one by one.
const ROOM_STEP_BYTES: usize = 64 << 10;

/// Longest id of a delivery that is remembered and repeated; real ones have 36 characters.
const ID_BYTES_MAX: usize = 256;

const FIREHOSE_ID: &str = "x-amz-firehose-request-id";
const FIREHOSE_KEY: &str = "x-amz-firehose-access-key";

/// What all requests share.
#[derive(Debug)]
pub(super) struct Handler {
    config: Config,
    keys: Option<Keys>,
    queue: Queue,
    shared: Shared,
    sources: Sources,
    repeated: Repeated,
}

impl Handler {
    pub(super) fn new(config: Config, keys: Option<Keys>, queue: Queue, shared: Shared) -> Self {
        Self { config, keys, queue, shared, sources: Sources::new("http"), repeated: Repeated::default() }
    }

    /// Takes one request to its end.
    pub(super) async fn answer(&self, request: Request<Incoming>, peer: IpAddr, slot: &Slot, stopping: bool) -> Answer {
        let protocol = protocol(request.uri().path(), request.headers());
        let id = header(request.headers(), FIREHOSE_ID);
        let id = String::from_utf8_lossy(&id[..id.len().min(ID_BYTES_MAX)]).into_owned();
        let outcome = if matches!(*request.method(), Method::GET | Method::HEAD) {
            match self.page(&request) {
                Ok(text) => return answer::page(text),
                Err(refusal) => Err(refusal),
            }
        } else if stopping {
            Err(Refusal::Stopping)
        } else {
            slot.waits(Waits::Reading);
            self.take(request, protocol, peer, slot).await
        };
        slot.waits(Waits::Idle);
        match outcome {
            Ok(taken) => {
                Counters::add(&self.queue.counters().http_accepted, 1);
                answer::accepted(protocol, &taken, &id, (self.shared.now)())
            }
            Err(refusal) => {
                self.count(&refusal);
                answer::refused(protocol, &refusal, &id, (self.shared.now)())
            }
        }
    }

    fn count(&self, refusal: &Refusal) {
        let counters = self.queue.counters();
        let counter = match refusal {
            Refusal::Slow => &counters.http_timeouts,
            _ if matches!(refusal.status().as_u16(), 429 | 503) => &counters.http_deferred,
            _ => &counters.http_refused,
        };
        Counters::add(counter, 1);
    }

    /// What a GET shows: counters to who may send, to everyone that the receiver is there.
    fn page(&self, request: &Request<Incoming>) -> Result<String, Refusal> {
        if request.uri().path() == "/metrics" {
            self.authorise(request.uri(), request.headers())?;
            return Ok((self.shared.metrics)());
        }
        Ok("{\"status\":\"receiving\"}\n".to_owned())
    }

    fn authorise(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(keys) = &self.keys else { return Ok(()) };
        let in_url = uri.query().filter(|_| uri.path() == "/pubsub").and_then(|query| query.strip_prefix("token="));
        let shown = keys.hold_authorization(header(headers, AUTHORIZATION.as_str()))
            || keys.hold(header(headers, FIREHOSE_KEY))
            || in_url.is_some_and(|token| keys.hold(token.as_bytes()));
        if shown { Ok(()) } else { Err(Refusal::Unauthorized) }
    }

    async fn take(
        &self,
        request: Request<Incoming>,
        protocol: Protocol,
        peer: IpAddr,
        slot: &Slot,
    ) -> Result<Taken, Refusal> {
        if !matches!(*request.method(), Method::POST | Method::PUT) {
            return Err(Refusal::Method);
        }
        self.authorise(request.uri(), request.headers())?;
        let coding = Coding::parse(header(request.headers(), CONTENT_ENCODING.as_str())).ok_or(Refusal::Encoding)?;
        if !self.shared.rates.wait(peer).is_zero() {
            return Err(Refusal::Rate);
        }
        let source = self.sources.name(request.uri().path());
        let reading = self.read(request.into_body(), slot);
        let (packed, room) = timeout(self.config.body_timeout, reading).await.map_err(|_| Refusal::Slow)??;
        self.shared.rates.spend(peer, packed.len());
        slot.works();

        let unpack = Unpack { packed, room, coding, protocol, limits: self.config.clone(), queue: self.queue.clone() };
        let (content, room) = if unpack.packed.len() > INLINE_BYTES_MAX {
            tokio::task::spawn_blocking(|| unpack.content()).await.map_err(|_| Refusal::Aborted)??
        } else {
            unpack.content()?
        };
        let id = content.id.filter(|id| id.len() <= ID_BYTES_MAX);
        let taken = Taken { lines: content.lines.lines.len(), rejected: content.rejected, id };
        if taken.id.as_ref().is_some_and(|id| self.repeated.knows(id.as_bytes())) {
            Counters::add(&self.queue.counters().deliveries_repeated, 1);
            return Ok(taken);
        }
        if taken.lines > 0 {
            let batch = Batch::new(source, (self.shared.now)(), content.lines.lines).in_room(room);
            self.queue.take(batch, false).await?;
        }
        Counters::add(&self.queue.counters().lines_cut, content.lines.cut);
        Counters::add(&self.queue.counters().records_rejected, content.rejected);
        if let Some(id) = &taken.id {
            self.repeated.note(id.as_bytes());
        }
        Ok(taken)
    }

    /// Reads the whole body, reserving room as it comes in.
    async fn read(&self, mut body: Incoming, slot: &Slot) -> Result<(Bytes, Room), Refusal> {
        let bytes_max = self.config.body_bytes_max;
        if hyper::body::Body::size_hint(&body).lower() > bytes_max as u64 {
            return Err(Refusal::TooLarge(bytes_max));
        }
        let full = || {
            // Memory is held by requests that do not come to an end: the slowest gives its back.
            slot.connections().let_go_of_slowest();
            Refusal::from(NotTaken::Full)
        };
        let mut room = self.queue.try_reserve(0).ok_or_else(full)?;
        let mut reserved = 0;
        let mut collected = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(Refusal::Broken)?.into_data() else { continue };
            let length = collected.len() + data.len();
            if length > bytes_max {
                return Err(Refusal::TooLarge(bytes_max));
            }
            if length > reserved {
                let step = (length - reserved).max(ROOM_STEP_BYTES.min(bytes_max - reserved));
                if !self.queue.try_grow(&mut room, step) {
                    return Err(full());
                }
                reserved += step;
            }
            collected.extend_from_slice(&data);
        }
        Ok((collected.freeze(), room))
    }
}

/// A body on its way to lines, with what it may use.
struct Unpack {
    packed: Bytes,
    room: Room,
    coding: Coding,
    protocol: Protocol,
    limits: Config,
    queue: Queue,
}

impl Unpack {
    fn content(self) -> Result<(Content, Room), Refusal> {
        let Self { packed, mut room, coding, protocol, limits, queue } = self;
        let unpacked_max = limits.unpacked_bytes_max;
        let mut grow = |bytes| queue.try_grow(&mut room, bytes);
        let mut over = if coding == Coding::Identity { 0 } else { packed.len() };
        let plain = inflate(coding, packed, unpacked_max, &mut grow)?;
        let limits = Limits { lines: limits.lines_max, line_bytes: LINE_BYTES_MAX };
        let content = protocol.read(&plain, limits, unpacked_max, &mut grow)?;
        if !grow(content.lines.copied() + queue::handles(content.lines.lines.len())) {
            return Err(NotTaken::Full.into());
        }
        // A body of which no line is a part goes now.
        over += if plain.is_unique() { plain.len() } else { 0 };
        drop(plain);
        room.give_back(over);
        Ok((content, room))
    }
}

/// What the sender speaks, by its path and headers; everything that is nothing else is lines.
fn protocol(path: &str, headers: &HeaderMap) -> Protocol {
    let kind = String::from_utf8_lossy(header(headers, CONTENT_TYPE.as_str()));
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match path {
        _ if headers.contains_key(FIREHOSE_ID) => Protocol::Firehose,
        "/firehose" => Protocol::Firehose,
        // A message that comes unwrapped has its metadata in headers.
        "/pubsub" if !headers.contains_key("x-goog-pubsub-message-id") => Protocol::PubSub,
        "/v1/logs" if kind.ends_with("protobuf") => Protocol::OtlpProtobuf,
        "/v1/logs" => Protocol::OtlpJson,
        _ if kind.ends_with("msgpack") => Protocol::Msgpack,
        // `application/json`, `application/x-ndjson`, `application/vnd.kafka.json.v2+json` and the like.
        _ => Protocol::Lines { declared_json: kind.ends_with("json") || kind.ends_with("jsonl") },
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> &'h [u8] {
    headers.get(name).map_or(&[], HeaderValue::as_bytes)
}
