//! One row of `breachline judge --requests`: a request as a JSON object, read with forbearance.
//!
//! Rows come out of other people's tools: fields are missing, null or of another type, bytes are no UTF-8, a URL names
//! its host. What can be judged is judged; only a row without a URL cannot be.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::request::{AccessRecord, AttackClass, LogEscape, Verdict};
use crate::timestamp::Timestamp;

/// A request as it was read. Fields that it does not name are ignored; of a field that occurs twice the last counts.
#[derive(Debug, Default)]
pub(super) struct RequestRow<'a> {
    /// As it came, whatever it is.
    id: Option<&'a RawValue>,
    method: Cow<'a, str>,
    url: Option<Cow<'a, str>>,
    user_agent: Cow<'a, str>,
    status: Option<u16>,
}

impl<'a> RequestRow<'a> {
    /// Reads one line. The error says what is wrong with it.
    pub(super) fn read(line: &'a [u8]) -> Result<Self, String> {
        let row: Self = serde_json::from_slice(line).map_err(|error| format!("is not a request in JSON: {error}"))?;
        if row.url.is_none() { Err("is a request without a URL".to_owned()) } else { Ok(row) }
    }

    /// The request, for the judge.
    pub(super) fn record(&self) -> AccessRecord<'_> {
        AccessRecord {
            status: self.status,
            method: if self.method.is_empty() { b"GET" } else { self.method.as_bytes() },
            path_and_query: without_origin(self.url.as_deref().unwrap_or_default()).as_bytes(),
            user_agent: self.user_agent.as_bytes(),
            // As the client sent it: no log has escaped anything.
            escape: LogEscape::Raw,
            ..AccessRecord::blank(Timestamp::default(), Timestamp::default())
        }
    }

    /// What `--explain` calls the row.
    pub(super) fn title(&self) -> String {
        format!("request {}", self.id.map_or("without an id", RawValue::get))
    }
}

/// The path and query of an absolute URL; anything else as it is. A request that asks a proxy for a metadata service
/// keeps its host: that host is the attack.
fn without_origin(url: &str) -> &str {
    let scheme = ["http://", "https://"]
        .iter()
        .find(|scheme| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let Some(rest) = scheme.map(|scheme| &url[scheme.len()..]) else { return url };
    if rest.starts_with("169.254.") || rest.starts_with("metadata.") {
        return url;
    }
    rest.find(['/', '?', '#']).map_or("/", |at| &rest[at..])
}

/// The line again as JSON that can be read: bytes that are no UTF-8 as percent escapes, which is what they are to a
/// server; control characters as JSON's own escapes; halves of surrogate pairs as the byte they stand for in Python's
/// `surrogateescape`, or as U+FFFD. A byte order mark goes.
pub(super) fn repaired(line: &[u8]) -> Vec<u8> {
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    let mut out = Vec::with_capacity(line.len() + 16);
    let mut in_string = false;
    for chunk in line.utf8_chunks() {
        let text = chunk.valid();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let mut length = character.len_utf8();
            match character {
                '"' => in_string = !in_string,
                '\\' if in_string => {
                    let half = surrogate_half(rest);
                    length = half.as_ref().map_or_else(|| escape_length(rest), |_| 6);
                    if let Some(plain) = half {
                        out.extend_from_slice(plain.as_bytes());
                        rest = &rest[length..];
                        continue;
                    }
                }
                '\0'..='\x1f' if in_string => {
                    out.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
                    rest = &rest[length..];
                    continue;
                }
                _ => {}
            }
            out.extend_from_slice(&rest.as_bytes()[..length]);
            rest = &rest[length..];
        }
        chunk.invalid().iter().for_each(|byte| out.extend_from_slice(format!("%{byte:02X}").as_bytes()));
    }
    out
}

/// Length of the escape that `rest` begins with: a pair of surrogates is one.
fn escape_length(rest: &str) -> usize {
    let pair = unit(rest).is_some_and(|unit| (0xD800..0xDC00).contains(&unit));
    let length = if pair { 12 } else { 2 };
    if rest.is_char_boundary(length) && rest.len() >= length { length } else { rest.len().min(1) }
}

/// The UTF-16 unit that `rest` escapes (`\uHHHH`).
fn unit(rest: &str) -> Option<u32> {
    let digits = rest.strip_prefix("\\u")?.get(..4)?;
    u32::from_str_radix(digits, 16).ok()
}

/// What stands for the lone half of a surrogate pair that `rest` begins with; `None` when there is none.
fn surrogate_half(rest: &str) -> Option<String> {
    let first = unit(rest)?;
    match first {
        0xD800..0xDC00 if unit(&rest[6..]).is_some_and(|second| (0xDC00..0xE000).contains(&second)) => None,
        0xDC80..0xDD00 => Some(format!("%{:02X}", first - 0xDC00)),
        0xD800..0xE000 => Some("\\ufffd".to_owned()),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for RequestRow<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = RequestRow<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object with a url")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut row = RequestRow::default();
                while let Some(Lenient(name)) = map.next_key::<Lenient<'de>>()? {
                    match name.as_deref() {
                        Some("id") => row.id = Some(map.next_value()?),
                        Some("method") => row.method = map.next_value::<Lenient<'de>>()?.0.unwrap_or_default(),
                        Some("url") => row.url = map.next_value::<Lenient<'de>>()?.0,
                        Some("user_agent") => row.user_agent = map.next_value::<Lenient<'de>>()?.0.unwrap_or_default(),
                        Some("status") => {
                            let status = map.next_value::<Lenient<'de>>()?.0;
                            row.status = status.and_then(|status| status.trim().parse().ok());
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(row)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A text, or what can be read as one: numbers and truth values as they are written. Nothing for null, lists, objects.
struct Lenient<'a>(Option<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Lenient<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Lenient<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("anything")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Lenient(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Lenient(Some(Cow::Owned(text.to_owned()))))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Lenient(Some(Cow::Owned(number.to_string()))))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Lenient(Some(Cow::Owned(number.to_string()))))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Lenient(Some(Cow::Owned(number.to_string()))))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Lenient(Some(Cow::Owned(value.to_string()))))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Lenient(None))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Self::Value, S::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Lenient(None))
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Lenient(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// What is written for a row.
#[derive(Debug, Serialize)]
pub(super) struct RowVerdict<'a> {
    id: Option<&'a RawValue>,
    exploit_like: bool,
    score: u8,
    class: Option<AttackClass>,
    reason: Option<&'a str>,
    matched: Option<&'a str>,
    reference: Option<&'a str>,
    /// Why the row could not be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl<'a> RowVerdict<'a> {
    /// Of a row that was judged.
    pub(super) fn new(row: &'a RequestRow<'_>, verdict: Option<&'a Verdict>) -> Self {
        Self {
            id: row.id,
            exploit_like: verdict.is_some_and(Verdict::exploit_like),
            score: verdict.map_or(0, |verdict| verdict.score),
            class: verdict.map(|verdict| verdict.class),
            reason: verdict.map(|verdict| verdict.reason.as_str()),
            matched: verdict.map(|verdict| verdict.matched.as_str()),
            reference: verdict.and_then(|verdict| verdict.reference.as_deref()),
            error: None,
        }
    }

    /// Of a row that could not be judged: an answer all the same, so that answers and rows stay in step.
    pub(super) fn unreadable(id: Option<&'a RawValue>, error: &'a str) -> Self {
        Self {
            id,
            exploit_like: false,
            score: 0,
            class: None,
            reason: None,
            matched: None,
            reference: None,
            error: Some(error),
        }
    }
}

/// The `id` of a row that has nothing else.
#[derive(Debug, Deserialize)]
pub(super) struct RowId<'a> {
    #[serde(borrow, default)]
    pub(super) id: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_with_forbearance() {
        let check = |line: &[u8], expected: Option<(&str, &str, Option<u16>)>| {
            let repaired = repaired(line);
            let row = RequestRow::read(line).or_else(|_| RequestRow::read(&repaired));
            let found = row.as_ref().ok().map(|row| {
                let record = row.record();
                let text = |bytes| std::str::from_utf8(bytes).expect("text");
                (text(record.path_and_query), text(record.user_agent), record.status)
            });
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(line));
        };
        check(br#"{"id":1,"url":"/a","user_agent":"x","status":200}"#, Some(("/a", "x", Some(200))));
        check(br#"{"url":"/a","user_agent":null,"method":null,"status":null}"#, Some(("/a", "", None)));
        check(br#"{"url":"/a","user_agent":["x"],"status":"404"}"#, Some(("/a", "", Some(404))));
        check(br#"{"url":"/a","status":{"a":[1]},"user_agent":7}"#, Some(("/a", "7", None)));
        check(br#"{"url":"/a","url":"/b","extra":{"a":[{}]},"status":99999}"#, Some(("/b", "", None)));
        check(br#"{"url":"http://shop.example:80/a?b=c"}"#, Some(("/a?b=c", "", None)));
        check(br#"{"url":"HTTPS://shop.example"}"#, Some(("/", "", None)));
        check(br#"{"url":"http://169.254.169.254/x"}"#, Some(("http://169.254.169.254/x", "", None)));
        check(br#"{"url":"/a#b"}"#, Some(("/a#b", "", None)));
        check(b"\xEF\xBB\xBF{\"url\":\"/a\"}", Some(("/a", "", None)));
        check(b"{\"url\":\"/\xC0\xAE\xC3\xA9\"}", Some(("/%C0%AE\u{e9}", "", None)));
        check(b"{\"url\":\"/a\tb\"}", Some(("/a\tb", "", None)));
        check(br#"{"url":"/\udcc0\udcae\ud83d\ude00\ud800"}"#, Some(("/%C0%AE\u{1f600}\u{fffd}", "", None)));
        check(br#"{"url":"/\"\\\udc80"}"#, Some(("/\"\\%80", "", None)));
        check(br#"{"url":null}"#, None);
        check(br#"{"id":3}"#, None);
        check(br#"["/a"]"#, None);
        check(b"null", None);
        check(b"nonsense", None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_repaired(line in proptest::collection::vec(proptest::num::u8::ANY, 0..120)) {
            let _ = RequestRow::read(&repaired(&line));
        }

        #[test]
        fn escapes_are_repaired(line in r#"[\\"ud8c0-9{}:a]{0,60}"#) {
            let _ = RequestRow::read(&repaired(line.as_bytes()));
        }
    }
}
