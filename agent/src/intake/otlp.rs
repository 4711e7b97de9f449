//! OTLP/HTTP logs. In: an `ExportLogsServiceRequest`, protobuf or JSON. Out: its lines and how many records hold none; and
//! what an exporter must hear, in the encoding that it spoke.
//!
//! A record whose body is text is the line; one with a structured body, or with attributes only, is the JSON object of these.
//! Source: OpenTelemetry Protocol specification 1.x, "OTLP/HTTP"; `opentelemetry/proto/logs/v1/logs.proto`.

pub(super) mod json;
pub(super) mod protobuf;

/// What the exporter hears of records that are not sent again.
const REJECTED: &str = "records without a body or attributes hold nothing to judge";

/// `Internal` and `InvalidArgument` tell an exporter nothing that the HTTP status does not; code 2 is "unknown".
const STATUS_UNKNOWN: u8 = 2;

/// An `ExportLogsServiceResponse` in JSON.
pub(super) fn json_response(rejected: usize) -> String {
    if rejected == 0 {
        return "{}".to_owned();
    }
    let partial = serde_json::json!({ "rejectedLogRecords": rejected.to_string(), "errorMessage": REJECTED });
    serde_json::json!({ "partialSuccess": partial }).to_string()
}

/// A `google.rpc.Status` in JSON.
pub(super) fn json_error(message: &str) -> String {
    serde_json::json!({ "code": STATUS_UNKNOWN, "message": message }).to_string()
}

/// An `ExportLogsServiceResponse` in protobuf: empty when all is well.
pub(super) fn protobuf_response(rejected: usize) -> Vec<u8> {
    if rejected == 0 {
        return Vec::new();
    }
    let mut partial = vec![1 << 3];
    varint(rejected as u64, &mut partial);
    field(2, REJECTED.as_bytes(), &mut partial);
    let mut response = Vec::new();
    field(1, &partial, &mut response);
    response
}

/// A `google.rpc.Status` in protobuf.
pub(super) fn protobuf_error(message: &str) -> Vec<u8> {
    let mut status = vec![1 << 3, STATUS_UNKNOWN];
    field(2, message.as_bytes(), &mut status);
    status
}

fn field(number: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use prost::Message;

    use super::*;
    use crate::intake::content::Protocol::{OtlpJson, OtlpProtobuf};
    use crate::intake::content::tests::{check, read, refused};

    fn any(value: Value) -> Option<AnyValue> {
        Some(AnyValue { value: Some(value) })
    }

    fn text(text: &str) -> Option<AnyValue> {
        any(Value::StringValue(text.into()))
    }

    fn pair(key: &str, value: Option<AnyValue>) -> KeyValue {
        KeyValue { key: key.into(), value, ..KeyValue::default() }
    }

    fn request(records: Vec<LogRecord>) -> ExportLogsServiceRequest {
        let scope = ScopeLogs { log_records: records, ..ScopeLogs::default() };
        let logs = ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() };
        ExportLogsServiceRequest { resource_logs: vec![ResourceLogs::default(), logs] }
    }

    fn record(body: Option<AnyValue>, attributes: Vec<KeyValue>) -> LogRecord {
        LogRecord { body, attributes, time_unix_nano: 7, trace_id: vec![1; 16], ..LogRecord::default() }
    }

    fn sample() -> ExportLogsServiceRequest {
        let list = KeyValueList {
            values: vec![
                pair("status", any(Value::IntValue(-200))),
                pair("ok", any(Value::BoolValue(true))),
                pair("paths", any(Value::ArrayValue(ArrayValue { values: vec![text("/a\"b").expect("some")] }))),
                pair("raw", any(Value::BytesValue(b"text".to_vec()))),
                pair("took", any(Value::DoubleValue(0.25))),
                pair("none", None),
            ],
        };
        let attributes = vec![pair("log.file.name", text("access.log"))];
        request(vec![
            record(text("GET /a\\ HTTP/1.1"), attributes),
            record(any(Value::KvlistValue(list)), Vec::new()),
            record(None, vec![pair("url.path", text("/b"))]),
            record(None, Vec::new()),
        ])
    }

    const EXPECTED: [&str; 3] = [
        "GET /a\\ HTTP/1.1",
        r#"{"status":-200,"ok":true,"paths":["/a\"b"],"raw":"text","took":0.25,"none":null}"#,
        r#"{"url.path":"/b"}"#,
    ];

    #[test]
    fn records_of_every_kind_become_lines_in_both_encodings() {
        let protobuf = sample().encode_to_vec();
        check(OtlpProtobuf, &protobuf, &EXPECTED);
        assert_eq!(read(OtlpProtobuf, &protobuf).expect("lines").counts(), (3, 0, 1));
        check(OtlpProtobuf, b"", &[]);
        let json = serde_json::to_string(&sample()).expect("writes");
        let sorted = r#"{"none":null,"ok":true,"paths":["/a\"b"],"raw":"text","status":-200,"took":0.25}"#;
        check(OtlpJson, json.as_bytes(), &[EXPECTED[0], sorted, EXPECTED[2]]);
        assert_eq!(read(OtlpJson, json.as_bytes()).expect("lines").counts(), (3, 0, 1));
        check(OtlpJson, b"{}", &[]);
        check(
            OtlpJson,
            br#"{"resourceLogs":[{"new":1,"scopeLogs":[{"logRecords":[{"body":{"stringValue":"a"}}]}]}]}"#,
            &["a"],
        );
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let whole = sample().encode_to_vec();
        for length in 1..whole.len() {
            drop(read(OtlpProtobuf, &whole[..length]));
        }
        refused(OtlpProtobuf, &whole[..whole.len() - 1], "cut short");
        refused(OtlpProtobuf, b"{\"resourceLogs\":[]}", "OTLP");
        refused(OtlpJson, b"[]", "protocol");
        refused(OtlpJson, br#"{"resourceLogs":{}}"#, "array");
        refused(OtlpJson, &whole, "protocol");
    }

    #[test]
    fn a_deep_value_is_rejected_and_the_rest_is_taken() {
        let mut deep = text("x");
        for _ in 0..60 {
            deep = any(Value::ArrayValue(ArrayValue { values: deep.into_iter().collect() }));
        }
        let request = request(vec![record(deep, Vec::new()), record(text("a"), Vec::new())]);
        assert_eq!(read(OtlpProtobuf, &request.encode_to_vec()).expect("lines").counts(), (1, 0, 1));
        let json = serde_json::to_string(&request).expect("writes");
        // Past the recursion that the JSON reader allows, the request as a whole is none.
        drop(read(OtlpJson, json.as_bytes()));
    }

    #[test]
    fn answers_read_as_what_they_should_be() {
        let check = |rejected: usize, json: &str| {
            assert_eq!(json_response(rejected), json);
            let response = ExportLogsServiceResponse::decode(&*protobuf_response(rejected)).expect("decodes");
            response.partial_success.map(|partial| (partial.rejected_log_records, partial.error_message))
        };
        assert_eq!(check(0, "{}"), None);
        let json = format!(r#"{{"partialSuccess":{{"errorMessage":"{REJECTED}","rejectedLogRecords":"300"}}}}"#);
        assert_eq!(check(300, &json), Some((300, REJECTED.to_owned())));
        assert_eq!(protobuf_error("no"), [8, 2, 18, 2, b'n', b'o']);
        assert_eq!(json_error("no"), r#"{"code":2,"message":"no"}"#);
    }
}
