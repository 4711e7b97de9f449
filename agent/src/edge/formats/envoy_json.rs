//! Envoy's access log as JSON, with the keys that Istio (`accessLogEncoding: JSON`) and Envoy's examples use: operator names
//! in lower case. Both `json_format` (all strings) and `typed_json_format` (numbers, null) are read.

use super::envoy::Upstream;
use super::fields::{number, status};
use super::json::Members;
use super::request_line::split_url;
use super::times::{iso_time, millis};
use super::{ParseError, Problem};
use crate::request::{AccessRecord, LogEscape};
use crate::timestamp::Timestamp;

pub(super) fn parse(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut members = Members::of(line);
    let mut record = AccessRecord { escape: LogEscape::Json, ..AccessRecord::blank(Timestamp::MIN, Timestamp::MIN) };
    let mut upstream = Upstream::default();
    let (mut began, mut took, mut has_code) = (None, None, false);
    while let Some((key, value)) = members.member()? {
        let text = value.plain();
        match key {
            b"start_time" => began = iso_time(text),
            b"duration" => took = millis(text),
            b"response_code" => {
                record.status = status(text).map_err(|problem| members.error("response_code", problem))?;
                has_code = true;
            }
            b"bytes_received" => record.received_bytes = number(text).ok().flatten().unwrap_or(0),
            b"bytes_sent" => record.sent_bytes = number(text).ok().flatten().unwrap_or(0),
            b"method" => record.method = text,
            b"path" => record.path_and_query = split_url(text).1,
            b"authority" => record.authority = text,
            b"user_agent" => record.user_agent = text,
            b"request_id" => record.trace_id = text,
            b"upstream_host" => upstream.host = text,
            b"upstream_cluster" => upstream.cluster = text,
            b"upstream_local_address" => upstream.local = text,
            b"downstream_local_address" => upstream.downstream_local = text,
            b"downstream_remote_address" => upstream.downstream_remote = text,
            b"response_flags" => upstream.flags = text,
            b"response_code_details" => upstream.details = text,
            _ => {}
        }
    }
    if !has_code {
        return Err(ParseError::new("response_code", 0, Problem::Missing));
    }
    record.received = began.ok_or(ParseError::new("start_time", 0, Problem::OtherTime))?;
    record.completed = record.received.plus(took.unwrap_or_default());
    record.anomaly = upstream.flags;
    upstream.fill(&mut record);
    Ok(record)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Format;
    use super::*;
    use crate::request::Target;

    fn line(code: &str) -> String {
        format!(
            r#"{{"start_time":"2026-05-04T10:00:01.250Z","method":"GET","path":"/a?b=\"c","protocol":"HTTP/2","response_code":{code},
            "response_flags":"-","response_code_details":"via_upstream","bytes_received":5,"bytes_sent":"70","duration":"226",
            "user_agent":"agent \"x\"","request_id":"11-22","authority":"shop.example","upstream_host":"10.0.0.1:80",
            "upstream_cluster":"outbound|80||web","upstream_local_address":"10.0.0.9:37652","route_name":null,
            "downstream_remote_address":"198.51.100.9:46520","x_forwarded_for":null}}"#
        )
    }

    #[test]
    fn numbers_may_be_strings() {
        for code in ["200", r#""200""#] {
            let line = line(code);
            let record = Format::Envoy.parse(line.as_bytes()).expect("parses");
            assert_eq!(record.received, "2026-05-04T10:00:01.25Z".parse().expect("a time"));
            assert_eq!(record.duration(), Duration::from_millis(226));
            assert_eq!((record.status, record.target_status), (Some(200), Some(200)));
            assert_eq!((record.received_bytes, record.sent_bytes), (5, 70));
            assert_eq!(record.target, Target::Socket("10.0.0.1:80".parse().expect("a socket")));
            assert_eq!(record.upstream_local, Some("10.0.0.9:37652".parse().expect("a socket")));
            assert_eq!(record.client, Some("198.51.100.9:46520".parse().expect("a socket")));
            assert_eq!((record.path_and_query, record.user_agent), (&br#"/a?b=\"c"#[..], &br#"agent \"x\""#[..]));
            assert_eq!((record.escape, record.trace_id), (LogEscape::Json, &b"11-22"[..]));
        }
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, problem: Problem| {
            let error = Format::Envoy.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("{", "member", Problem::Json);
        check("{}", "response_code", Problem::Missing);
        check(r#"{"response_code":"ok"}"#, "response_code", Problem::Number);
        check(r#"{"response_code":200}"#, "start_time", Problem::OtherTime);
    }
}
