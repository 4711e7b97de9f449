//! What a template's variables mean, and how their values become a record.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::super::formats::fields::{address, digits, number, present, status};
use super::super::formats::request_line::{RequestLine, split_url};
use super::super::formats::times::{any_time, millis, seconds};
use super::super::formats::upstreams::{items, place};
use super::super::formats::{Gives, ParseError, Problem};
use crate::request::{AccessRecord, LogEscape, Target};
use crate::timestamp::Timestamp;

/// The meaning of a variable.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Nothing for the join.
    Skipped,
    /// Nothing for the join, in a list with one item per target.
    SkippedList,
    /// Nothing for the join, and the client's own bytes: a user name, a header, a cookie.
    ClientText,
    ClientAddress,
    ClientPort,
    /// When the request came in.
    Began,
    /// When the line was written.
    Ended,
    TookSeconds,
    TookMillis,
    /// Method, URL and protocol.
    RequestLine,
    Method,
    Uri,
    Query,
    Host,
    Status,
    /// Time until the target answered in milliseconds, -1 when it did not.
    AnsweredAfter,
    TargetStatuses,
    Targets,
    TargetAddress,
    TargetPort,
    /// The target's name; in angle brackets when there was none.
    TargetName,
    LocalAddress,
    LocalPort,
    ReceivedBytes,
    SentBytes,
    UserAgent,
    Referer,
    TraceId,
    Balancer,
    /// How the session ended, `--` and more when there was nothing odd.
    Termination,
    /// Captured headers in braces, or nothing at all.
    Captures,
}

impl Field {
    /// The name in error messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Skipped | Self::SkippedList => "skipped variable",
            Self::ClientText => "client text",
            Self::ClientAddress => "client address",
            Self::ClientPort => "client port",
            Self::Began => "request time",
            Self::Ended => "log time",
            Self::TookSeconds | Self::TookMillis => "duration",
            Self::RequestLine => "request line",
            Self::Method => "method",
            Self::Uri => "uri",
            Self::Query => "query",
            Self::Host => "host",
            Self::Status => "status",
            Self::AnsweredAfter => "response time",
            Self::TargetStatuses => "upstream status",
            Self::Targets => "upstream address",
            Self::TargetAddress => "server address",
            Self::TargetPort => "server port",
            Self::TargetName => "server name",
            Self::LocalAddress => "source address",
            Self::LocalPort => "source port",
            Self::ReceivedBytes => "received bytes",
            Self::SentBytes => "sent bytes",
            Self::UserAgent => "user agent",
            Self::Referer => "referer",
            Self::TraceId => "trace id",
            Self::Balancer => "balancer",
            Self::Termination => "termination state",
            Self::Captures => "captured headers",
        }
    }

    pub(super) const fn is_time(self) -> bool {
        matches!(self, Self::Began | Self::Ended)
    }

    pub(super) const fn is_request(self) -> bool {
        matches!(self, Self::RequestLine | Self::Uri)
    }

    /// Whether the client chooses what it holds.
    pub(super) const fn is_client_text(self) -> bool {
        matches!(
            self,
            Self::ClientText
                | Self::RequestLine
                | Self::Method
                | Self::Uri
                | Self::Query
                | Self::Host
                | Self::UserAgent
                | Self::Referer
        )
    }

    /// Of those, whether the balancer refuses a request in which it holds a space.
    pub(super) const fn is_one_word(self) -> bool {
        matches!(self, Self::Method | Self::Uri | Self::Query | Self::Host)
    }

    pub(super) const fn is_address(self) -> bool {
        matches!(self, Self::ClientAddress | Self::TargetAddress | Self::LocalAddress)
    }

    pub(super) const fn is_list(self) -> bool {
        matches!(self, Self::Targets | Self::TargetStatuses | Self::SkippedList)
    }

    pub(super) fn reads_as_time(text: &[u8]) -> bool {
        any_time(text).is_some()
    }

    /// What this variable alone adds to what a format gives.
    pub(super) const fn gives(self) -> Gives {
        match self {
            Self::ClientAddress => Gives::CLIENT,
            Self::Targets => Gives::TARGET,
            Self::Status => Gives::STATUS,
            Self::TargetStatuses | Self::AnsweredAfter => Gives::TARGET_STATUS,
            Self::TraceId => Gives::TRACE_ID,
            Self::RequestLine | Self::Uri => Gives::REQUEST,
            Self::Host => Gives::HOST,
            Self::UserAgent => Gives::USER_AGENT,
            _ => Gives::NOTHING,
        }
    }
}

/// What has been read of a line.
pub(super) struct Draft<'l> {
    record: AccessRecord<'l>,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
    took: Option<Duration>,
    has_request: bool,
    client: Pair,
    target: Pair,
    local: Pair,
    answered: bool,
}

/// An address and a port that two variables hold.
#[derive(Default)]
struct Pair {
    address: Option<IpAddr>,
    port: Option<u16>,
}

impl Pair {
    fn socket(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.address?, self.port?))
    }
}

impl<'l> Draft<'l> {
    pub(super) fn new(escape: LogEscape) -> Self {
        Self {
            record: AccessRecord { escape, ..AccessRecord::blank(Timestamp::MIN, Timestamp::MIN) },
            began: None,
            ended: None,
            took: None,
            has_request: false,
            client: Pair::default(),
            target: Pair::default(),
            local: Pair::default(),
            answered: false,
        }
    }

    /// Takes one value. Times, statuses and the client have to be what they are called: a line of another format shows there.
    pub(super) fn put(&mut self, field: Field, value: &'l [u8]) -> Result<(), Problem> {
        let text = present(value);
        let record = &mut self.record;
        match field {
            Field::Skipped | Field::SkippedList | Field::ClientText | Field::Captures => {}
            Field::ClientAddress => self.client.address = client(text)?,
            Field::ClientPort => self.client.port = port(text),
            Field::Began => self.began = Some(any_time(text).ok_or(Problem::OtherTime)?),
            Field::Ended => self.ended = Some(any_time(text).ok_or(Problem::OtherTime)?),
            Field::TookSeconds => self.took = seconds(text),
            Field::TookMillis => self.took = millis(text.strip_prefix(b"+").unwrap_or(text)),
            Field::RequestLine | Field::Method | Field::Uri | Field::Query | Field::Host => {
                self.put_request(field, text)
            }
            Field::Status => record.status = code(text)?,
            Field::AnsweredAfter => self.answered = millis(text).is_some(),
            Field::TargetStatuses => {
                record.target_status = items(text).last().and_then(|item| code(item).ok().flatten())
            }
            Field::Targets => place(record, text),
            Field::TargetAddress => self.target.address = address(text),
            Field::TargetPort => self.target.port = port(text),
            Field::TargetName if text.starts_with(b"<") => record.target = Target::None,
            Field::TargetName => {}
            Field::LocalAddress => self.local.address = address(text),
            Field::LocalPort => self.local.port = port(text),
            Field::ReceivedBytes => record.received_bytes = count(text),
            Field::SentBytes => record.sent_bytes = count(text),
            Field::UserAgent => record.user_agent = text,
            Field::Referer => record.referer = text,
            Field::TraceId => record.trace_id = text,
            Field::Balancer => record.balancer = text,
            Field::Termination if text.starts_with(b"--") => {}
            Field::Termination => record.anomaly = text,
        }
        Ok(())
    }

    fn put_request(&mut self, field: Field, text: &'l [u8]) {
        let record = &mut self.record;
        match field {
            Field::RequestLine => {
                let request = RequestLine::split(text);
                (record.method, record.path_and_query) = (request.method, request.path_and_query);
                if !request.authority.is_empty() {
                    record.authority = request.authority;
                }
            }
            Field::Method => record.method = text,
            Field::Uri => record.path_and_query = split_url(text).1,
            Field::Query => record.query = text.strip_prefix(b"?").unwrap_or(text),
            _ => record.authority = text,
        }
        self.has_request |= field.is_request();
    }

    /// Whether time and request are known.
    pub(super) const fn is_complete(&self) -> bool {
        self.has_request && (self.began.is_some() || self.ended.is_some())
    }

    pub(super) fn finish(mut self) -> Result<AccessRecord<'l>, ParseError> {
        let took = self.took.unwrap_or_default();
        (self.record.received, self.record.completed) = match (self.began, self.ended) {
            (Some(began), Some(ended)) => (began, ended.max(began)),
            (Some(began), None) => (began, began.plus(took)),
            (None, Some(ended)) => (ended.minus(took), ended),
            (None, None) => return Err(ParseError::new("time", 0, Problem::Missing)),
        };
        let record = &mut self.record;
        record.client = self.client.address.map(|address| SocketAddr::new(address, self.client.port.unwrap_or(0)));
        record.upstream_local = self.local.socket();
        if let Some(target) = self.target.socket().filter(|_| record.target != Target::None) {
            record.target = Target::Socket(target);
        }
        if self.answered && !matches!(record.anomaly.first(), Some(b'P' | b'R' | b'I')) {
            record.target_status = record.status;
        }
        // Where the query is logged apart and within the URI, the URI is enough.
        if record.path_and_query.contains(&b'?') {
            record.query = b"";
        }
        Ok(self.record)
    }
}

/// A client on a Unix socket has no address.
fn client(text: &[u8]) -> Result<Option<IpAddr>, Problem> {
    if text.is_empty() || text.starts_with(b"unix:") {
        return Ok(None);
    }
    address(text).map(Some).ok_or(Problem::Address)
}

fn port(text: &[u8]) -> Option<u16> {
    digits(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

/// A status; 0 and -1 (no answer) are absent.
fn code(text: &[u8]) -> Result<Option<u16>, Problem> {
    if text.is_empty() { Ok(None) } else { status(text) }
}

fn count(text: &[u8]) -> u64 {
    number(text.strip_prefix(b"+").unwrap_or(text)).ok().flatten().unwrap_or(0)
}
