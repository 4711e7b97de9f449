//! OTLP logs as JSON. Keys are lowerCamelCase and unknown ones are passed over; 64-bit numbers come as text or as numbers,
//! bytes as base64. Lists are walked, never built.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::intake::body::{each, string};
use crate::intake::content::ContentError;
use crate::intake::firehose;
use crate::intake::lines::Lines;

/// A structured record is built to be written anew; one this many times longer than a line would not fit one in plain JSON.
const OVERHEAD_MAX: usize = 4;

#[derive(Deserialize)]
struct Request<'b> {
    #[serde(rename = "resourceLogs", borrow)]
    list: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Resource<'b> {
    #[serde(rename = "scopeLogs", borrow)]
    list: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Scope<'b> {
    #[serde(rename = "logRecords", borrow)]
    list: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Record<'b> {
    #[serde(borrow)]
    body: Option<&'b RawValue>,
    #[serde(borrow)]
    attributes: Option<&'b RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Text<'b> {
    #[serde(rename = "stringValue", borrow)]
    text: Option<&'b RawValue>,
}

/// Reads a request; gives how many records hold no line.
pub(in crate::intake) fn read(body: &Bytes, into: &mut Lines) -> Result<usize, ContentError> {
    let mut rejected = 0;
    let request: Request<'_> =
        object(std::str::from_utf8(body).map_err(|error| ContentError::Json(error.to_string()))?)?;
    each_of(request.list, &mut |resource| {
        each_of(object::<Resource<'_>>(resource.get())?.list, &mut |scope| {
            each_of(object::<Scope<'_>>(scope.get())?.list, &mut |record| {
                rejected += usize::from(!self::record(body, record, into)?);
                Ok(())
            })
        })
    })?;
    Ok(rejected)
}

/// Structures read from arrays, too; protocol messages are objects only.
fn object<'b, T: Deserialize<'b>>(text: &'b str) -> Result<T, ContentError> {
    if !text.trim_start().starts_with('{') {
        return Err(ContentError::Json("an object was expected".into()));
    }
    Ok(serde_json::from_str(text)?)
}

fn each_of<'b>(
    list: Option<&'b RawValue>,
    visit: &mut dyn FnMut(&'b RawValue) -> Result<(), ContentError>,
) -> Result<(), ContentError> {
    list.map_or(Ok(()), |list| each(list, visit))
}

/// One record; false when it holds no line.
fn record(whole: &Bytes, record: &RawValue, into: &mut Lines) -> Result<bool, ContentError> {
    let found: Record<'_> = object(record.get())?;
    let text = found.body.and_then(|body| serde_json::from_str::<Text<'_>>(body.get()).ok()?.text);
    if let Some(text) = text.filter(|text| text.get().starts_with('"') && text.get().len() > 2) {
        string(whole, text.get(), into);
        return Ok(true);
    }
    if record.get().len() > into.limits().line_bytes.saturating_mul(OVERHEAD_MAX) {
        return Ok(false);
    }
    let list = found.body.and_then(|body| serde_json::from_str(body.get()).ok()).map(plain);
    let attributes = || {
        let pairs = serde_json::from_str(found.attributes?.get()).ok()?;
        Some(pairs_of(pairs))
    };
    let structured = list.filter(Value::is_object).or_else(attributes);
    let line = structured.filter(|value| value.as_object().is_some_and(|fields| !fields.is_empty()));
    let line = line.map(|line| line.to_string()).filter(|line| line.len() <= into.limits().line_bytes);
    let written = line.is_some();
    line.into_iter().for_each(|line| into.push_copied(line));
    Ok(written)
}

/// An `AnyValue` as the JSON that it stands for. Recursion ends with serde_json's own bound of 128 levels.
fn plain(any: Value) -> Value {
    let Value::Object(fields) = any else { return Value::Null };
    let Some((kind, value)) = fields.into_iter().next() else { return Value::Null };
    match (kind.as_str(), value) {
        ("intValue", Value::String(text)) => text.parse::<i64>().map_or(Value::String(text), Value::from),
        ("bytesValue", Value::String(text)) => match firehose::decode(&text) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
            Err(_) => text.into(),
        },
        ("arrayValue", Value::Object(list)) => values(list).map(plain).collect(),
        ("kvlistValue", Value::Object(list)) => pairs_of(values(list).collect()),
        ("stringValue" | "boolValue" | "intValue" | "doubleValue", value) => value,
        _ => Value::Null,
    }
}

fn values(mut list: Map<String, Value>) -> impl Iterator<Item = Value> {
    let values = list.remove("values").and_then(|values| match values {
        Value::Array(values) => Some(values),
        _ => None,
    });
    values.unwrap_or_default().into_iter()
}

fn pairs_of(pairs: Vec<Value>) -> Value {
    let pair = |pair: Value| match pair {
        Value::Object(mut fields) => {
            let key = fields.get("key").and_then(Value::as_str)?.to_owned();
            Some((key, fields.remove("value").map_or(Value::Null, plain)))
        }
        _ => None,
    };
    Value::Object(pairs.into_iter().filter_map(pair).collect())
}
