//! What a sender hears. In: what became of its request. Out: the answer that its protocol asks for.
//!
//! The status decides whether a sender keeps the lines: 429 and 503 (both with `Retry-After`) are sent again by all of
//! Firehose, Fluent Bit, Vector, rsyslog and OTLP exporters, most other 4xx make them drop the batch. So everything
//! that may pass is 429 or 503, and other 4xx are for what can never succeed.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use crate::intake::body::BodyError;
use crate::intake::content::{ContentError, Protocol};
use crate::intake::inflate::InflateError;
use crate::intake::journal::NotTaken;
use crate::intake::{firehose, otlp};
use crate::timestamp::Timestamp;

/// Seconds that a sender is asked to wait: long enough for the queue to drain, short enough to keep alerts timely.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";
const TEXT: &str = "text/plain; charset=utf-8";

pub(super) type Answer = Response<Full<Bytes>>;

/// Why a request is not taken, as the sender hears it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("POST lines here; GET says whether the receiver is well")]
    Method,
    #[error("show a token of intake.http.token_file: Authorization: Bearer …")]
    Unauthorized,
    #[error("stopping; send it again")]
    Stopping,
    #[error("more than intake.sender_bytes_per_second; send it again")]
    Rate,
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    #[error("the body did not arrive in time; send it again")]
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
    Content(#[from] ContentError),
    #[error("the request could not be worked on; send it again")]
    Aborted,
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Stopping
            | Self::Aborted
            | Self::Slow
            | Self::NotTaken(NotTaken::JournalFull | NotTaken::Disk(_) | NotTaken::Stopping) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Rate | Self::NotTaken(NotTaken::Full) => StatusCode::TOO_MANY_REQUESTS,
            Self::Inflate(error) | Self::Content(ContentError::Inflate(error)) => match error {
                InflateError::NoRoom => StatusCode::TOO_MANY_REQUESTS,
                InflateError::TooLarge(_) | InflateError::Ratio => StatusCode::PAYLOAD_TOO_LARGE,
                InflateError::Corrupt(..) => StatusCode::BAD_REQUEST,
            },
            Self::TooLarge(_) | Self::Content(ContentError::Body(BodyError::TooManyLines(_))) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::Broken(_) | Self::Content(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// What was taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) lines: usize,
    pub(super) rejected: usize,
    /// The delivery's id, where its body has one.
    pub(super) id: Option<String>,
}

/// The answer to what was taken. `id` is the delivery's, for protocols that want it back.
pub(super) fn accepted(protocol: Protocol, taken: &Taken, id: &str, now: Timestamp) -> Answer {
    match protocol {
        Protocol::Lines { .. } | Protocol::Msgpack => {
            plain(StatusCode::OK, JSON, format!("{{\"lines\":{}}}\n", taken.lines))
        }
        Protocol::Firehose => {
            let id = taken.id.as_deref().unwrap_or(id);
            plain(StatusCode::OK, JSON, firehose::answer(id, now, None))
        }
        Protocol::PubSub => plain(StatusCode::NO_CONTENT, TEXT, ""),
        Protocol::OtlpProtobuf => plain(StatusCode::OK, PROTOBUF, otlp::protobuf_response(taken.rejected)),
        Protocol::OtlpJson => plain(StatusCode::OK, JSON, otlp::json_response(taken.rejected)),
    }
}

/// The answer to what was not.
pub(super) fn refused(protocol: Protocol, refusal: &Refusal, id: &str, now: Timestamp) -> Answer {
    let status = refusal.status();
    let sentence = refusal.to_string();
    let mut answer = match protocol {
        Protocol::Firehose => plain(status, JSON, firehose::answer(id, now, Some(&sentence))),
        Protocol::OtlpProtobuf => plain(status, PROTOBUF, otlp::protobuf_error(&sentence)),
        Protocol::OtlpJson => plain(status, JSON, otlp::json_error(&sentence)),
        Protocol::Lines { .. } | Protocol::Msgpack | Protocol::PubSub => plain(status, TEXT, sentence + "\n"),
    };
    let header = match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => (RETRY_AFTER, RETRY_SECONDS),
        StatusCode::METHOD_NOT_ALLOWED => (ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT")),
        StatusCode::UNAUTHORIZED => (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        _ => return answer,
    };
    answer.headers_mut().insert(header.0, header.1);
    answer
}

/// The answer to a GET.
pub(super) fn page(text: String) -> Answer {
    let kind = if text.starts_with('{') { JSON } else { "text/plain; version=0.0.4; charset=utf-8" };
    plain(StatusCode::OK, kind, text)
}

fn plain(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
