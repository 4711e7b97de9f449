//! A syslog message without its header. In: one message, RFC 5424, RFC 3164 or what usually passes for it. Out: the program that
//! wrote it and its text. What has no header known here is text as a whole: never an error.

/// Longest name of a program (RFC 5424 6.2.5).
const PROGRAM_BYTES_MAX: usize = 48;

/// A message, taken apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::intake) struct Message<'m> {
    /// APP-NAME, or TAG without its process id; empty where there is none.
    pub(in crate::intake) program: &'m str,
    /// What it wrote.
    pub(in crate::intake) text: &'m [u8],
}

impl<'m> Message<'m> {
    /// Takes `message` apart.
    pub(in crate::intake) fn read(message: &'m [u8]) -> Self {
        let message = message.trim_ascii_end();
        let rest = behind_priority(message).unwrap_or(message);
        rest.strip_prefix(b"1 ").and_then(rfc5424).or_else(|| rfc3164(rest)).unwrap_or(Self { program: "", text: rest })
    }
}

/// `<0>` to `<191>`, also `<000>`.
fn behind_priority(message: &[u8]) -> Option<&[u8]> {
    let inner = message.strip_prefix(b"<")?;
    let digits = inner.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=3).contains(&digits).then_some(&inner[digits..])?.strip_prefix(b">")
}

/// `TIMESTAMP SP HOSTNAME SP APP-NAME SP PROCID SP MSGID SP STRUCTURED-DATA [SP MSG]`, the version passed.
fn rfc5424(rest: &[u8]) -> Option<Message<'_>> {
    let (timestamp, rest) = word(rest)?;
    if timestamp != b"-" && !looks_like_rfc3339(timestamp) {
        return None;
    }
    let (_host, rest) = word(rest)?;
    let (program, rest) = word(rest)?;
    let (_process, rest) = word(rest)?;
    let (_id, rest) = word(rest)?;
    let text = behind_structured_data(rest)?;
    let program = if program == b"-" { "" } else { name(program).unwrap_or_default() };
    let text = text.strip_prefix(b" ").unwrap_or(text);
    Some(Message { program, text: text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) })
}

/// `-` or `[id key="value" …]…`, where `"`, `\` and `]` in a value stand behind a `\`.
fn behind_structured_data(rest: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = rest.strip_prefix(b"-") {
        return Some(rest);
    }
    let mut rest = rest;
    while let Some(element) = rest.strip_prefix(b"[") {
        let (mut quoted, mut escaped) = (false, false);
        let end = element.iter().position(|byte| {
            let ends = *byte == b']' && !quoted;
            quoted ^= *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped && quoted;
            ends
        });
        rest = &element[end? + 1..];
    }
    matches!(rest.first(), None | Some(b' ')).then_some(rest)
}

/// `TIMESTAMP SP [HOSTNAME SP] TAG: MSG`, either kind of timestamp or none.
fn rfc3164(rest: &[u8]) -> Option<Message<'_>> {
    let rest = behind_timestamp(rest);
    if let Some(message) = tagged(rest) {
        return Some(message);
    }
    let (_host, behind_host) = word(rest)?;
    tagged(behind_host)
}

fn behind_timestamp(rest: &[u8]) -> &[u8] {
    if let Some((first, behind)) = word(rest)
        && looks_like_rfc3339(first)
    {
        return behind;
    }
    match rest.split_at_checked(16) {
        Some((time, behind)) if looks_like_bsd_time(time) => behind,
        _ => rest,
    }
}

/// `2026-11-22T21:54:01.123456+00:00`, by its shape.
fn looks_like_rfc3339(text: &[u8]) -> bool {
    text.len() >= 20
        && text[..19].iter().zip(b"0000-00-00T00:00:00").all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            _ => byte == shape,
        })
}

/// `Nov  2 21:54:01 `, by its shape.
fn looks_like_bsd_time(text: &[u8]) -> bool {
    text.iter().zip(b"Aaa _0 00:00:00 ").all(|(byte, shape)| match shape {
        b'A' | b'a' => byte.is_ascii_alphabetic(),
        b'0' => byte.is_ascii_digit(),
        b'_' => byte.is_ascii_digit() || *byte == b' ',
        _ => byte == shape,
    })
}

/// `program: text` or `program[pid]: text`.
fn tagged(rest: &[u8]) -> Option<Message<'_>> {
    let colon = rest.iter().take(PROGRAM_BYTES_MAX + 16).position(|byte| matches!(byte, b':' | b' '))?;
    let (tag, text) = rest.split_at(colon);
    let text = text.strip_prefix(b":")?;
    if !matches!(text.first(), None | Some(b' ')) {
        return None; // a time, an address, a URL
    }
    let bracket = tag.iter().position(|byte| *byte == b'[');
    let program = match bracket {
        Some(bracket) => tag.ends_with(b"]").then_some(&tag[..bracket])?,
        None => tag,
    };
    Some(Message { program: name(program)?, text: text.strip_prefix(b" ").unwrap_or(text) })
}

/// Programs are named with letters, digits and a few signs; `{"msg"` is the beginning of a text.
fn name(program: &[u8]) -> Option<&str> {
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-/@+()".contains(byte);
    let fits = (1..=PROGRAM_BYTES_MAX).contains(&program.len()) && program.iter().all(known);
    std::str::from_utf8(program).ok().filter(|_| fits)
}

fn word(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memchr(b' ', rest)?;
    Some((&rest[..space], &rest[space + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &str, program: &str, text: &str) {
        let expected = Message { program, text: text.as_bytes() };
        assert_eq!(Message::read(message.as_bytes()), expected, "{message}");
    }

    #[test]
    fn rfc5424() {
        check("<190>1 2026-11-22T21:54:01.000123Z web nginx 12 - - GET / 200", "nginx", "GET / 200");
        check("<0>1 - - - - - -", "", "");
        check("<13>1 2026-11-22T21:54:01+01:00 h a - - [x@1 k=\"a\\\"]b\"][y] text", "a", "text");
        check("<13>1 2026-11-22T21:54:01Z h a - - - \u{feff}text\n", "a", "text");
    }

    #[test]
    fn rfc3164_and_what_passes_for_it() {
        check("<190>Nov 22 21:54:01 web nginx: 1.2.3.4 - - [x] \"GET /\"", "nginx", "1.2.3.4 - - [x] \"GET /\"");
        check("<134>Nov  2 21:54:01 haproxy[77]: 1.2.3.4:5 [x] a", "haproxy", "1.2.3.4:5 [x] a");
        check("<13>2026-11-22T21:54:01.1+00:00 web app[1]: text", "app", "text");
        check("<13>app: text", "app", "text");
        check("<13>Nov 22 21:54:01 web root: ", "root", "");
    }

    #[test]
    fn what_has_no_header_is_text() {
        for text in [
            "1.2.3.4 - - [22/Nov/2026:21:54:01 +0000] \"GET / HTTP/1.1\" 200 5",
            "http 2026-11-22T21:54:01.1Z app/a/b 1.2.3.4:5 10.0.0.1:80 \"GET http://a:80/\"",
            "{\"msg\": \"x\"}",
            "",
            "<",
            "<1234>a",
            "<>a: b",
        ] {
            check(text, "", text);
        }
        check("<13>Nov 22 21:54:01 web GET / 200", "", "Nov 22 21:54:01 web GET / 200");
        check("<13>1 yesterday h a - - - text", "", "1 yesterday h a - - - text");
        check("<13>1 - h a - - [open text", "", "1 - h a - - [open text");
    }

    #[test]
    fn any_bytes_are_a_message() {
        proptest::proptest!(|(bytes: Vec<u8>, text in "(<13>|1 |- |Nov 22 21:54:01 |\\[|\\]|\"|\\\\|a: |a\\[1\\]: |b ){0,20}")| {
            for message in [&bytes[..], text.as_bytes()] {
                let read = Message::read(message);
                assert!(read.text.len() <= message.len() && read.program.len() <= PROGRAM_BYTES_MAX);
            }
        });
    }
}
