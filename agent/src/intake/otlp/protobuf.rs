//! OTLP logs as protobuf, walked where they lie. Decoding the whole into structures would turn two bytes of an empty record
//! into some two hundred, which a hostile sender would make use of. Wire format: protobuf.dev, "Encoding".

use std::fmt::Write as _;

use bytes::Bytes;

use crate::intake::content::ContentError;
use crate::intake::lines::Lines;

/// Values within values; structured access records have two or three levels.
const DEPTH_MAX: usize = 16;

/// A field's content.
enum Value<'b> {
    Varint(u64),
    Fixed64(u64),
    Nested(&'b [u8]),
    Fixed32,
}

/// The fields of a message.
struct Fields<'b>(&'b [u8]);

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u64, Value<'b>), ContentError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'b> Fields<'b> {
    fn field(&mut self) -> Result<(u64, Value<'b>), ContentError> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().unwrap_or_default())),
            2 => {
                let length = self.varint()?;
                Value::Nested(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed32
            }
            _ => return Err(ContentError::Protobuf("a field has an unknown type")),
        };
        Ok((tag >> 3, value))
    }

    fn take(&mut self, count: u64) -> Result<&'b [u8], ContentError> {
        let split = usize::try_from(count).ok().and_then(|count| self.0.split_at_checked(count));
        let (taken, rest) = split.ok_or(ContentError::Protobuf("it is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, ContentError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ContentError::Protobuf("a number has more than ten bytes"))
    }
}

/// Calls `visit` with every nested message of field `number`.
fn nested<'b>(
    message: &'b [u8],
    number: u64,
    visit: &mut dyn FnMut(&'b [u8]) -> Result<(), ContentError>,
) -> Result<(), ContentError> {
    for field in Fields(message) {
        if let (found, Value::Nested(content)) = field?
            && found == number
        {
            visit(content)?;
        }
    }
    Ok(())
}

/// Reads a request; gives how many records hold no line.
pub(in crate::intake) fn read(body: &Bytes, into: &mut Lines) -> Result<usize, ContentError> {
    let mut rejected = 0;
    nested(body, 1, &mut |resource| {
        nested(resource, 2, &mut |scope| {
            nested(scope, 2, &mut |record| {
                rejected += usize::from(!self::record(body, record, into)?);
                Ok(())
            })
        })
    })?;
    Ok(rejected)
}

/// One record; false when it holds no line.
fn record(whole: &Bytes, record: &[u8], into: &mut Lines) -> Result<bool, ContentError> {
    let (mut value, mut has_attributes) = (None, false);
    for field in Fields(record) {
        match field? {
            (5, Value::Nested(content)) => value = Some(content),
            (6, Value::Nested(_)) => has_attributes = true,
            _ => {}
        }
    }
    // Of a union the last one counts.
    let body = value.map(|value| Fields(value).last().transpose()).transpose()?.flatten();
    let mut out = String::new();
    let written = match body {
        Some((1 | 7, Value::Nested(text))) if !text.is_empty() => {
            into.push_all(&whole.slice_ref(text));
            return Ok(true);
        }
        Some((6, Value::Nested(list))) => object(list, 1, 0, into.limits().line_bytes, &mut out)?,
        _ if has_attributes => object(record, 6, 0, into.limits().line_bytes, &mut out)?,
        _ => false,
    };
    if written {
        into.push_copied(out);
    }
    Ok(written)
}

/// Writes the pairs in field `number` as a JSON object; false when it is too deep or too long to be a line.
fn object(message: &[u8], number: u64, depth: usize, bytes_max: usize, out: &mut String) -> Result<bool, ContentError> {
    let mut fits = true;
    out.push('{');
    nested(message, number, &mut |pair| {
        if !fits {
            return Ok(());
        }
        separate('{', out);
        let (mut key, mut value) = (&[][..], &[][..]);
        for field in Fields(pair) {
            match field? {
                (1, Value::Nested(text)) => key = text,
                (2, Value::Nested(any)) => value = any,
                _ => {}
            }
        }
        quoted(key, out);
        out.push(':');
        fits = self::value(value, depth + 1, bytes_max, out)?;
        Ok(())
    })?;
    out.push('}');
    Ok(fits)
}

/// Writes an `AnyValue` as JSON; false when it is too deep or too long to be a line.
fn value(any: &[u8], depth: usize, bytes_max: usize, out: &mut String) -> Result<bool, ContentError> {
    if depth > DEPTH_MAX || out.len() > bytes_max {
        return Ok(false);
    }
    match Fields(any).last().transpose()? {
        Some((1 | 7, Value::Nested(text))) => quoted(text, out),
        Some((2, Value::Varint(flag))) => drop(write!(out, "{}", flag != 0)),
        Some((3, Value::Varint(number))) => drop(write!(out, "{}", number.cast_signed())),
        Some((4, Value::Fixed64(bits))) => out.push_str(&serde_json::json!(f64::from_bits(bits)).to_string()),
        Some((5, Value::Nested(list))) => {
            let mut fits = true;
            out.push('[');
            nested(list, 1, &mut |element| {
                if fits {
                    separate('[', out);
                    fits = value(element, depth + 1, bytes_max, out)?;
                }
                Ok(())
            })?;
            out.push(']');
            return Ok(fits);
        }
        Some((6, Value::Nested(list))) => return object(list, 1, depth, bytes_max, out),
        _ => out.push_str("null"),
    }
    Ok(out.len() <= bytes_max)
}

fn separate(opening: char, out: &mut String) {
    if !out.ends_with(opening) {
        out.push(',');
    }
}

fn quoted(text: &[u8], out: &mut String) {
    // Text has a JSON form.
    out.push_str(&serde_json::to_string(&String::from_utf8_lossy(text)).unwrap_or_default());
}
