//! Amazon CloudFront: standard logs (W3C, tab-separated, or JSON since logging v2) and real-time logs.
//!
//! Which columns there are is said by the `#Fields:` line, or chosen by the operator, so columns have names here and a
//! [`Layout`] is a list of them. Without one, the documented order is taken ("Standard logging reference", "Use real-time
//! access logs", AWS).
//!
//! Values are percent-encoded once by the log, the client's percent signs included; real-time logs spell the same names a
//! little differently, keep the query in `cs-uri-stem` and exchange the meanings of the two host columns. There is no target:
//! the join is by route. Times: the log's is when the edge finished; the request came in `time-taken` seconds before.

use std::net::SocketAddr;
use std::time::Duration;

use super::fields::{address, digits, number, present, status};
use super::json::Members;
use super::times::{date_and_time, epoch_millis, epoch_seconds, seconds};
use super::{Gives, Grammar, ParseError, Problem};
use crate::request::{AccessRecord, LogEscape, Target};
use crate::timestamp::Timestamp;

const GIVES: Gives = Gives::CLIENT
    .and(Gives::INTERVAL)
    .and(Gives::STATUS)
    .and(Gives::TRACE_ID)
    .and(Gives::REQUEST)
    .and(Gives::HOST)
    .and(Gives::USER_AGENT);

pub(super) const STANDARD: Grammar = Grammar { name: "cloudfront", gives: GIVES, parse: parse_standard };
pub(super) const REALTIME: Grammar = Grammar { name: "cloudfront-realtime", gives: GIVES, parse: parse_realtime };

/// Most columns of a layout; there are about 60 to choose from. It bounds what a hostile `#Fields:` line can take.
const MAX_COLUMNS: usize = 128;

/// What a column holds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Column {
    Date,
    Time,
    EpochSeconds,
    EpochMillis,
    TimeTaken,
    ClientAddress,
    ClientPort,
    Method,
    Stem,
    Query,
    Status,
    SentBytes,
    ReceivedBytes,
    Referer,
    UserAgent,
    RequestId,
    ResultType,
    /// `cs(Host)`: the distribution's name.
    Distribution,
    /// `cs-host`, the real-time spelling: what the client asked for.
    HostAsked,
    /// What the client asked for in standard logs, the distribution in real-time ones.
    HostHeader,
    Other,
}

impl Column {
    fn named(name: &[u8]) -> Self {
        match name {
            b"date" => Self::Date,
            b"time" => Self::Time,
            b"timestamp" => Self::EpochSeconds,
            b"timestamp(ms)" => Self::EpochMillis,
            b"time-taken" => Self::TimeTaken,
            b"c-ip" => Self::ClientAddress,
            b"c-port" => Self::ClientPort,
            b"cs-method" => Self::Method,
            b"cs-uri-stem" => Self::Stem,
            b"cs-uri-query" => Self::Query,
            b"sc-status" => Self::Status,
            b"sc-bytes" => Self::SentBytes,
            b"cs-bytes" => Self::ReceivedBytes,
            b"cs(Referer)" | b"cs-referer" => Self::Referer,
            b"cs(User-Agent)" | b"cs-user-agent" => Self::UserAgent,
            b"x-edge-request-id" => Self::RequestId,
            b"x-edge-result-type" => Self::ResultType,
            b"cs(Host)" => Self::Distribution,
            b"cs-host" => Self::HostAsked,
            b"x-host-header" => Self::HostHeader,
            _ => Self::Other,
        }
    }
}

/// Standard logs, in the documented order as far as it is read.
const STANDARD_ORDER: [Column; 19] = [
    Column::Date,
    Column::Time,
    Column::Other,
    Column::SentBytes,
    Column::ClientAddress,
    Column::Method,
    Column::Distribution,
    Column::Stem,
    Column::Status,
    Column::Referer,
    Column::UserAgent,
    Column::Query,
    Column::Other,
    Column::ResultType,
    Column::RequestId,
    Column::HostHeader,
    Column::Other,
    Column::ReceivedBytes,
    Column::TimeTaken,
];

/// Real-time logs with every field chosen, in the documented order as far as it is read.
const REALTIME_ORDER: [Column; 25] = [
    Column::EpochSeconds,
    Column::ClientAddress,
    Column::Other,
    Column::Status,
    Column::SentBytes,
    Column::Method,
    Column::Other,
    Column::HostAsked,
    Column::Stem,
    Column::ReceivedBytes,
    Column::Other,
    Column::RequestId,
    Column::HostHeader,
    Column::TimeTaken,
    Column::Other,
    Column::Other,
    Column::UserAgent,
    Column::Referer,
    Column::Other,
    Column::Query,
    Column::Other,
    Column::Other,
    Column::Other,
    Column::Other,
    Column::ResultType,
];

/// The columns of a source, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout(Vec<Column>);

impl Layout {
    /// From field names as AWS spells them. Unknown names are columns that are skipped; more than 128 are cut off.
    pub fn of<'n>(names: impl IntoIterator<Item = &'n [u8]>) -> Self {
        Self(names.into_iter().take(MAX_COLUMNS).map(Column::named).collect())
    }

    /// From a `#Fields:` line; `None` for any other.
    #[must_use]
    pub fn from_header(line: &[u8]) -> Option<Self> {
        let names = line.strip_prefix(b"#Fields:")?;
        Some(Self::of(names.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty())))
    }

    /// Reads one line of this layout.
    ///
    /// # Errors
    ///
    /// A [`ParseError`] that names the first column that is missing or does not hold what it should.
    pub fn parse<'l>(&self, line: &'l [u8]) -> Result<AccessRecord<'l>, ParseError> {
        parse_columns(line, &self.0)
    }
}

fn parse_standard(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    if line.starts_with(b"{") { parse_json(line) } else { parse_columns(line, &STANDARD_ORDER) }
}

fn parse_realtime(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    parse_columns(line, &REALTIME_ORDER)
}

fn parse_columns<'l>(line: &'l [u8], columns: &[Column]) -> Result<AccessRecord<'l>, ParseError> {
    // Logging v2 lets the operator choose the delimiter; percent-encoding keeps both out of every value.
    let delimiter = if line.contains(&b'\t') { b'\t' } else { b' ' };
    let mut draft = Draft::default();
    for (column, value) in columns.iter().zip(line.split(|byte| *byte == delimiter)) {
        draft.position = draft.position.saturating_add(1);
        draft.put(*column, present(value))?;
    }
    draft.finish(LogEscape::Percent)
}

/// Logging v2: an object with the columns as keys, whose values are encoded as in the text form.
fn parse_json(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut members = Members::of(line);
    let mut draft = Draft::default();
    while let Some((key, value)) = members.member()? {
        draft.position = draft.position.saturating_add(1);
        draft.put(Column::named(key), value.plain())?;
    }
    draft.finish(LogEscape::Percent)
}

/// What has been read of a line.
#[derive(Default)]
struct Draft<'l> {
    position: u8,
    date: &'l [u8],
    clock: &'l [u8],
    finished: Option<Timestamp>,
    took: Option<Duration>,
    client: &'l [u8],
    client_port: u16,
    method: &'l [u8],
    stem: &'l [u8],
    query: &'l [u8],
    status: Option<u16>,
    sent_bytes: u64,
    received_bytes: u64,
    referer: &'l [u8],
    user_agent: &'l [u8],
    request_id: &'l [u8],
    result_type: &'l [u8],
    distribution: &'l [u8],
    host_asked: &'l [u8],
    host_header: &'l [u8],
}

impl<'l> Draft<'l> {
    fn put(&mut self, column: Column, value: &'l [u8]) -> Result<(), ParseError> {
        match column {
            Column::Date => self.date = value,
            Column::Time => self.clock = value,
            Column::EpochSeconds => self.finished = epoch_seconds(value),
            Column::EpochMillis => self.finished = epoch_millis(value),
            Column::TimeTaken => self.took = seconds(value),
            Column::ClientAddress => self.client = value,
            Column::ClientPort => self.client_port = digits(value).and_then(|port| port.try_into().ok()).unwrap_or(0),
            Column::Method => self.method = value,
            Column::Stem => self.stem = value,
            Column::Query => self.query = value,
            Column::Status => self.status = self.code(value)?,
            Column::SentBytes => self.sent_bytes = number(value).ok().flatten().unwrap_or(0),
            Column::ReceivedBytes => self.received_bytes = number(value).ok().flatten().unwrap_or(0),
            Column::Referer => self.referer = value,
            Column::UserAgent => self.user_agent = value,
            Column::RequestId => self.request_id = value,
            Column::ResultType => self.result_type = value,
            Column::Distribution => self.distribution = value,
            Column::HostAsked => self.host_asked = value,
            Column::HostHeader => self.host_header = value,
            Column::Other => {}
        }
        Ok(())
    }

    /// `000`, like 0 elsewhere, means that the client was gone before there was an answer.
    fn code(&self, value: &[u8]) -> Result<Option<u16>, ParseError> {
        if value.is_empty() {
            return Ok(None);
        }
        status(value).map_err(|problem| ParseError::new("sc-status", self.position, problem))
    }

    fn finish(self, escape: LogEscape) -> Result<AccessRecord<'l>, ParseError> {
        let finished = self.finished.or_else(|| date_and_time(self.date, self.clock)).ok_or(ParseError::new(
            "date time",
            0,
            Problem::OtherTime,
        ))?;
        let client = address(self.client).ok_or(ParseError::new("c-ip", 0, Problem::Address))?;
        if self.stem.is_empty() {
            return Err(ParseError::new("cs-uri-stem", 0, Problem::Missing));
        }
        let realtime = !self.host_asked.is_empty();
        let (balancer, authority) =
            if realtime { (self.host_header, self.host_asked) } else { (self.distribution, self.host_header) };
        Ok(AccessRecord {
            balancer,
            client: Some(SocketAddr::new(client, self.client_port)),
            target: if answered_at_the_edge(self.result_type) { Target::None } else { Target::Unlogged },
            status: self.status,
            received_bytes: self.received_bytes,
            sent_bytes: self.sent_bytes,
            method: self.method,
            authority,
            path_and_query: self.stem,
            query: if self.stem.contains(&b'?') { b"" } else { self.query },
            user_agent: self.user_agent,
            referer: self.referer,
            trace_id: self.request_id,
            anomaly: if self.result_type == b"Error" { self.result_type } else { b"" },
            escape,
            ..AccessRecord::blank(finished.minus(self.took.unwrap_or_default()), finished)
        })
    }
}

/// Whether `x-edge-result-type` says that the origin was not asked. `RefreshHit` is not among them: the origin was asked
/// whether its answer still holds.
fn answered_at_the_edge(result_type: &[u8]) -> bool {
    matches!(result_type, b"Hit" | b"LimitExceeded" | b"CapacityExceeded" | b"Redirect" | b"FunctionGeneratedResponse")
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    const STANDARD: &str = "2026-05-04\t10:00:01\tARN1-C1\t900\t198.51.100.9\tGET\td1.cloudfront.net\t/a%2520b\t502\thttp://ref.example/\tagent%201.0\tq=%2527\t-\tError\tid-1\tshop.example\thttps\t675\t0.250\t-\tnew";

    fn check_common(record: &AccessRecord<'_>) {
        assert_eq!(record.completed, "2026-05-04T10:00:01Z".parse().expect("a time"));
        assert_eq!(record.duration(), Duration::from_millis(250));
        assert_eq!((record.status, record.target), (Some(502), Target::Unlogged));
        assert_eq!((record.sent_bytes, record.received_bytes), (900, 675));
        assert_eq!((record.balancer, record.authority), (&b"d1.cloudfront.net"[..], &b"shop.example"[..]));
        assert_eq!((record.user_agent, record.trace_id), (&b"agent%201.0"[..], &b"id-1"[..]));
        assert_eq!((record.method, record.escape), (&b"GET"[..], LogEscape::Percent));
    }

    #[test]
    fn a_standard_line_without_header() {
        let record = Format::Cloudfront.parse(STANDARD.as_bytes()).expect("parses");
        check_common(&record);
        assert_eq!((record.path_and_query, record.query), (&b"/a%2520b"[..], &b"q=%2527"[..]));
        assert_eq!(record.client, Some("198.51.100.9:0".parse().expect("a socket")));
    }

    #[test]
    fn a_header_says_which_columns_there_are() {
        let header = "#Fields: c-port time date sc-status c-ip x-new cs-uri-stem";
        let layout = Layout::from_header(header.as_bytes()).expect("a header");
        let record = layout.parse(b"40100\t10:00:01\t2026-05-04\t000\t2001:db8::9\tx\t/").expect("parses");
        assert_eq!((record.client, record.status), (Some("[2001:db8::9]:40100".parse().expect("a socket")), None));
        assert_eq!(Layout::from_header(b"#Version: 1.0"), None);
    }

    #[test]
    fn a_json_object_has_the_same_columns() {
        let line = r#"{"date":"2026-05-04","time":"10:00:01","sc-bytes":"900","c-ip":"198.51.100.9","cs-method":"GET","cs(Host)":"d1.cloudfront.net","cs-uri-stem":"/a","sc-status":"502","cs(User-Agent)":"agent%201.0","cs-uri-query":"-","x-edge-request-id":"id-1","x-host-header":"shop.example","cs-bytes":675,"time-taken":"0.250","x-new":[]}"#;
        let record = Format::Cloudfront.parse(line.as_bytes()).expect("parses");
        check_common(&record);
        assert_eq!((record.path_and_query, record.query), (&b"/a"[..], &b""[..]));
    }

    #[test]
    fn real_time_lines_keep_the_query_in_the_stem() {
        let line = "1777888801.000\t198.51.100.9\t0.1\t502\t900\tGET\thttps\tshop.example\t/a?q=1\t675\tARN1\tid-1\td1.cloudfront.net\t0.250\tHTTP/2.0\tIPv4\tagent%201.0\t-\t-\tq=1\tMiss\t-\tTLSv1.3\tX\tMiss\t-";
        let record = Format::CloudfrontRealtime.parse(line.as_bytes()).expect("parses");
        check_common(&record);
        assert_eq!((record.path_and_query, record.query), (&b"/a?q=1"[..], &b""[..]));
    }

    #[test]
    fn what_the_edge_answered_went_nowhere() {
        let check = |result: &str, target: Target| {
            let line = STANDARD.replace("\tError\t", &format!("\t{result}\t"));
            assert_eq!(Format::Cloudfront.parse(line.as_bytes()).expect("parses").target, target, "{result}");
        };
        check("Hit", Target::None);
        check("RefreshHit", Target::Unlogged);
        check("Miss", Target::Unlogged);
        check("LimitExceeded", Target::None);
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, problem: Problem| {
            let error = Format::Cloudfront.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("", "date time", Problem::OtherTime);
        check("2026-05-04\t10:00:01\tE\t0\tnobody", "c-ip", Problem::Address);
        check("2026-05-04\t10:00:01\tE\t0\t198.51.100.9\tGET\th", "cs-uri-stem", Problem::Missing);
        check(&STANDARD.replace("\t502\t", "\tOK\t"), "sc-status", Problem::Number);
    }
}
