//! One request. In: method, headers, body. Out: a batch in the queue and 200, or a status and a sentence.
//!
//! The status decides whether a sender keeps the lines: 429 and 503 (both with `Retry-After`) are sent again by all of
//! Firehose, Fluent Bit, Vector, rsyslog and OTLP exporters, most other 4xx make them drop the batch. So everything
//! that may pass is 429 or 503, and 4xx is for what can never succeed. All lines of a request are taken, or none.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Config;
use crate::intake::body::{self, BodyError, Limits};
use crate::intake::inflate::{Coding, InflateError, inflate};
use crate::intake::journal::NotTaken;
use crate::intake::queue::{self, Room};
use crate::intake::{Batch, Counters, IntakeError, LINE_BYTES_MAX, Queue};
use crate::timestamp::Timestamp;

/// Bodies above this are unpacked and read off the async threads: 64 KiB unpacked at 1:250 take some 20 ms.
const INLINE_BYTES_MAX: usize = 8 << 10;

/// Paths told apart as sources. Later stages keep state per source, so that a client must not be able to make them up.
const SOURCES_MAX: usize = 64;

/// Longest path that makes a source of its own.
const SOURCE_PATH_BYTES_MAX: usize = 128;

/// Seconds that a sender is asked to wait: long enough for the queue to drain, short enough to keep alerts timely.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

type Answer = Response<Full<Bytes>>;

/// Why a request is not taken, as the sender hears it.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("POST lines here; GET says whether the receiver is well")]
    Method,
    #[error("show the token of intake.http.token_file: Authorization: Bearer …")]
    Unauthorized,
    #[error("stopping; send it again")]
    Stopping,
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    #[error("the body did not arrive in time")]
    Slow,
    #[error("the connection broke within the body: {0}")]
    Broken(hyper::Error),
    #[error("this encoding is not supported; send identity, gzip or deflate")]
    Encoding,
    #[error("the body is larger than {0} bytes; send smaller batches")]
    TooLarge(usize),
    #[error(transparent)]
    Inflate(#[from] InflateError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the request could not be worked on; send it again")]
    Aborted,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Stopping | Self::Aborted | Self::NotTaken(NotTaken::Disk(_) | NotTaken::Stopping) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::NotTaken(NotTaken::Full | NotTaken::JournalFull) | Self::Inflate(InflateError::NoRoom) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_)
            | Self::Inflate(InflateError::TooLarge(_) | InflateError::Ratio)
            | Self::Body(BodyError::TooManyLines(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken(_) | Self::Inflate(InflateError::Corrupt(..)) | Self::Body(BodyError::Json(_)) => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

/// What a sender must show, as its hash: so it is neither printed nor compared byte by byte, where time would tell how
/// much of it was right.
#[derive(Clone, Debug)]
pub(super) struct Token([u8; 32]);

impl Token {
    /// Reads the first line of a file.
    pub(super) fn read(path: &Path) -> Result<Self, IntakeError> {
        let wrong = |reason: String| IntakeError::Token { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        match text.trim() {
            "" => Err(wrong("is empty; write a random token in it".into())),
            token => Ok(Self(Sha256::digest(token).into())),
        }
    }

    fn is_shown_by(&self, authorization: &[u8]) -> bool {
        let shown = authorization.split_at_checked(b"Bearer ".len());
        shown.is_some_and(|(scheme, token)| {
            let digest: [u8; 32] = Sha256::digest(token.trim_ascii()).into();
            scheme.eq_ignore_ascii_case(b"Bearer ") && digest == self.0
        })
    }
}

/// What all requests share.
pub(super) struct Handler {
    config: Config,
    token: Option<Token>,
    queue: Queue,
    now: fn() -> Timestamp,
    stop: watch::Receiver<bool>,
    sources: Mutex<HashSet<Arc<str>>>,
}

impl Handler {
    pub(super) fn new(
        config: Config,
        token: Option<Token>,
        queue: Queue,
        now: fn() -> Timestamp,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { config, token, queue, now, stop, sources: Mutex::default() }
    }

    /// Time for a header, time for a body, and when to stop.
    pub(super) fn times(&self) -> (Duration, Duration, watch::Receiver<bool>) {
        (self.config.header_timeout, self.config.body_timeout, self.stop.clone())
    }

    /// Takes one request to its end.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return answer(StatusCode::OK, "{\"status\":\"receiving\"}\n".into());
        }
        match self.take(request).await {
            Ok(lines) => {
                Counters::add(&self.queue.counters().http_accepted, 1);
                answer(StatusCode::OK, format!("{{\"lines\":{lines}}}\n"))
            }
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn refuse(&self, refusal: &Refusal) -> Answer {
        let (status, counters) = (refusal.status(), self.queue.counters());
        let counter = match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => &counters.http_deferred,
            StatusCode::REQUEST_TIMEOUT => &counters.http_timeouts,
            _ => &counters.http_refused,
        };
        Counters::add(counter, 1);
        let mut answer = answer(status, format!("{refusal}\n"));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            answer.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS);
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT"));
        }
        answer
    }

    async fn take(&self, request: Request<Incoming>) -> Result<usize, Refusal> {
        if !matches!(*request.method(), Method::POST | Method::PUT) {
            return Err(Refusal::Method);
        }
        if *self.stop.borrow() {
            return Err(Refusal::Stopping);
        }
        let header = |name| request.headers().get(name).map_or(&[][..], HeaderValue::as_bytes);
        if self.token.as_ref().is_some_and(|token| !token.is_shown_by(header(AUTHORIZATION))) {
            return Err(Refusal::Unauthorized);
        }
        let coding = Coding::parse(header(CONTENT_ENCODING)).ok_or(Refusal::Encoding)?;
        let json = declares_json(header(CONTENT_TYPE));
        let source = self.source(request.uri().path());

        let reading = self.read(request.into_body());
        let (packed, room) = timeout(self.config.body_timeout, reading).await.map_err(|_| Refusal::Slow)??;
        let unpack = Unpack { packed, room, coding, json, limits: self.config.clone(), queue: self.queue.clone() };
        let (lines, room) = if unpack.packed.len() > INLINE_BYTES_MAX {
            tokio::task::spawn_blocking(|| unpack.lines()).await.map_err(|_| Refusal::Aborted)??
        } else {
            unpack.lines()?
        };

        let count = lines.lines.len();
        if count > 0 {
            let batch = Batch::new(source, (self.now)(), lines.lines).in_room(room);
            self.queue.take(batch, false).await?;
        }
        Counters::add(&self.queue.counters().lines_cut, lines.cut);
        Ok(count)
    }

    /// Reads the whole body, reserving room as it comes in.
    async fn read(&self, mut body: Incoming) -> Result<(Bytes, Room), Refusal> {
        let bytes_max = self.config.body_bytes_max;
        let announced = hyper::body::Body::size_hint(&body).lower();
        if announced > bytes_max as u64 {
            return Err(Refusal::TooLarge(bytes_max));
        }
        let mut room = self
            .queue
            .try_reserve(usize::try_from(announced).unwrap_or(bytes_max))
            .ok_or(Refusal::NotTaken(NotTaken::Full))?;
        let mut reserved = announced;
        let mut collected = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(Refusal::Broken)?.into_data() else { continue };
            let length = collected.len() + data.len();
            if length > bytes_max {
                return Err(Refusal::TooLarge(bytes_max));
            }
            if length as u64 > reserved {
                // No length was announced: in steps, so that small chunks do not round up one by one.
                let step = data.len().max(64 << 10);
                if !self.queue.try_grow(&mut room, step) {
                    return Err(Refusal::NotTaken(NotTaken::Full));
                }
                reserved += step as u64;
            }
            collected.extend_from_slice(&data);
        }
        Ok((collected.freeze(), room))
    }

    /// The source's name: one per path, for a bounded number of paths.
    fn source(&self, path: &str) -> Arc<str> {
        if path.len() > SOURCE_PATH_BYTES_MAX {
            return "http".into();
        }
        let name = format!("http:{path}");
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sources.get(name.as_str()) {
            return Arc::clone(known);
        }
        if sources.len() >= SOURCES_MAX {
            return "http".into();
        }
        let name: Arc<str> = name.into();
        sources.insert(Arc::clone(&name));
        name
    }
}

/// A body on its way to lines, with what it may use.
struct Unpack {
    packed: Bytes,
    room: Room,
    coding: Coding,
    json: bool,
    limits: Config,
    queue: Queue,
}

impl Unpack {
    fn lines(mut self) -> Result<(body::Lines, Room), Refusal> {
        let plain = inflate(self.coding, self.packed, self.limits.unpacked_bytes_max, &mut |bytes| {
            self.queue.try_grow(&mut self.room, bytes)
        })?;
        let limits = Limits { lines: self.limits.lines_max, line_bytes: LINE_BYTES_MAX };
        let lines = body::lines(&plain, self.json, limits)?;
        if !self.queue.try_grow(&mut self.room, lines.copied + queue::handles(lines.lines.len())) {
            return Err(Refusal::NotTaken(NotTaken::Full));
        }
        Ok((lines, self.room))
    }
}

/// `application/json`, `application/x-ndjson`, `application/problem+json` and the like.
fn declares_json(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    kind.ends_with(b"json") || kind.ends_with(b"jsonl")
}

fn answer(status: StatusCode, text: String) -> Answer {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = if status == StatusCode::OK { "application/json" } else { "text/plain; charset=utf-8" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
