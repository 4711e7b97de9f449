//! Amazon Data Firehose, HTTP endpoint delivery 1.0. In: the body of a delivery. Out: its lines and its id; and what Firehose
//! must hear, which is JSON that repeats the id.
//!
//! A record holds what the producer put: a log line or several, or, from a CloudWatch Logs subscription, a gzipped envelope
//! of events. Source: AWS, "Understand HTTP endpoint delivery request and response specifications".

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::body;
use super::content::{ContentError, Unpacking};
use super::inflate::{Coding, is_gzip};
use super::lines::Lines;
use crate::timestamp::Timestamp;

/// Longest text of an error that Firehose takes is 8192 characters; none of ours comes near.
const MESSAGE_CHARS_MAX: usize = 1024;

#[derive(Deserialize)]
struct Delivery<'b> {
    #[serde(rename = "requestId", borrow)]
    id: Cow<'b, str>,
    #[serde(borrow)]
    records: &'b RawValue,
}

#[derive(Deserialize)]
struct Record<'b> {
    #[serde(borrow, default)]
    data: Cow<'b, str>,
}

/// Reads a delivery; gives its id.
pub(super) fn read(body: &Bytes, unpacking: &mut Unpacking<'_>, into: &mut Lines) -> Result<String, ContentError> {
    let delivery: Delivery<'_> = serde_json::from_slice(body)?;
    body::each(delivery.records, &mut |record| {
        let record: Record<'_> = serde_json::from_str(record.get())?;
        let data = unpacking.base64(&record.data)?;
        let data = if is_gzip(&data) { unpacking.inflate(Coding::Gzip, data)? } else { data };
        body::read(&data, false, into).map_err(ContentError::from)
    })?;
    Ok(delivery.id.into_owned())
}

/// What Firehose hears; `error` only where something was wrong.
pub(super) fn answer(id: &str, at: Timestamp, error: Option<&str>) -> String {
    let timestamp = at.as_unix_nanos() / 1_000_000;
    let mut answer = serde_json::json!({ "requestId": id, "timestamp": timestamp });
    if let Some(error) = error {
        answer["errorMessage"] = error.chars().take(MESSAGE_CHARS_MAX).collect::<String>().into();
    }
    answer.to_string()
}

/// Standard base64, with its padding.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, ContentError> {
    STANDARD.decode(text).map_err(|error| ContentError::Base64(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::intake::content::Protocol;
    use crate::intake::content::tests::{check, refused};

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).expect("writes");
        encoder.finish().expect("finishes")
    }

    fn delivery(records: &[&[u8]]) -> String {
        let records: Vec<_> = records.iter().map(|data| serde_json::json!({ "data": STANDARD.encode(data) })).collect();
        serde_json::json!({ "requestId": "an-id", "timestamp": 1, "records": records }).to_string()
    }

    #[test]
    fn lines_come_plain_and_in_envelopes() {
        let events = r#"{"messageType":"DATA_MESSAGE","owner":"1","logEvents":[{"id":"3","message":"three"},{"id":"4","message":"four"}]}"#;
        let control = r#"{"messageType":"CONTROL_MESSAGE","logEvents":[{"id":"","message":"CWL CONTROL MESSAGE"}]}"#;
        let text = delivery(&[b"one\ntwo\n", b"", &gzip(events), &gzip(control), br#"{"message":"five"}"#]);
        check(Protocol::Firehose, text.as_bytes(), &["one", "two", "three", "four", "five"]);
        check(Protocol::Firehose, br#"{"requestId":"an-id","records":[]}"#, &[]);
    }

    #[test]
    fn what_is_no_delivery_is_refused() {
        refused(Protocol::Firehose, b"[]", "protocol");
        refused(Protocol::Firehose, br#"{"records":[]}"#, "requestId");
        refused(Protocol::Firehose, br#"{"requestId":"a"}"#, "records");
        refused(Protocol::Firehose, br#"{"requestId":"a","records":[{"data":"?"}]}"#, "base64");
        refused(Protocol::Firehose, br#"{"requestId":"a","records":{}}"#, "array");
        refused(Protocol::Firehose, delivery(&[&[0x1f, 0x8b, 0, 0]]).as_bytes(), "Gzip");
        let bomb = gzip(&" ".repeat(30 << 20));
        refused(Protocol::Firehose, delivery(&[&bomb]).as_bytes(), "unpacks");
    }

    #[test]
    fn the_answer_repeats_the_id() {
        let at = Timestamp::from_unix_millis(7);
        assert_eq!(answer("a\"b", at, None), r#"{"requestId":"a\"b","timestamp":7}"#);
        assert!(answer("a", at, Some("full")).contains(r#""errorMessage":"full""#));
    }
}
