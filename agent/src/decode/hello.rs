//! A TLS hello to the server that it names.
//!
//! In: the first bytes that a client sent (RFC 8446 4.1.2, RFC 5246 7.4.1.2), perhaps cut, perhaps of anything else. Out: the
//! name of the server (RFC 6066 3), which the client chose and nobody vouches for. Total and linear.

use breachline_abi::hello::HelloRecord;

use super::{DecodeError, dns, prefix};
use crate::event::TlsHello;

/// Record type and handshake type (RFC 8446 B.1, B.3).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Bytes of a record's header, of a handshake message's, and of version and random together.
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
const VERSION_AND_RANDOM: usize = 2 + 32;
/// Records that one hello may be spread over: clients use one. Bounds the copying.
const RECORDS_MAX: usize = 64;
/// The extension that names the server, and the one kind of name there is.
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// Bytes of a host name (RFC 1035 2.3.4).
const NAME_BYTES_MAX: usize = 255;

/// A hello record with its bytes.
pub(super) fn decode(record: &[u8]) -> Result<TlsHello, DecodeError> {
    let fixed: HelloRecord = prefix(record)?;
    let length = usize::try_from(fixed.text_len).unwrap_or(usize::MAX);
    let start = size_of::<HelloRecord>();
    let end = start.saturating_add(length);
    let text = record.get(start..end).ok_or(DecodeError::Truncated { need: end, got: record.len() })?;
    Ok(TlsHello { socket: fixed.socket, server_name: server_name(text) })
}

/// The name of the server that a client's first bytes ask for, printable and in lower case; `None` when they ask for none, are
/// no hello, or are cut before it.
#[must_use]
pub fn server_name(bytes: &[u8]) -> Option<String> {
    let message = message(bytes)?;
    let mut rest = Cut(&message);
    if rest.number(1)? != usize::from(CLIENT_HELLO) {
        return None;
    }
    rest.take(MESSAGE_HEADER - 1 + VERSION_AND_RANDOM)?;
    for width in [1, 2, 1] {
        // Session id, cipher suites, compression methods.
        let length = rest.number(width)?;
        rest.take(length)?;
    }
    // The length of them all: what follows is cut where it is cut.
    rest.number(2)?;
    loop {
        let kind = rest.number(2)?;
        let length = rest.number(2)?;
        let extension = rest.take(length)?;
        if kind == usize::from(SERVER_NAME) {
            return host_name(extension);
        }
    }
}

/// The handshake bytes of the records that `bytes` begins with.
fn message(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    let mut rest = bytes;
    for _ in 0..RECORDS_MAX {
        let [HANDSHAKE, 3, _, high, low, ..] = *rest else { break };
        let end = RECORD_HEADER + usize::from(u16::from_be_bytes([high, low]));
        message.extend_from_slice(rest.get(RECORD_HEADER..end.min(rest.len()))?);
        let Some(next) = rest.get(end..) else { break };
        rest = next;
    }
    (!message.is_empty()).then_some(message)
}

/// The first host name of a list of names.
fn host_name(extension: &[u8]) -> Option<String> {
    let mut list = Cut(extension);
    list.number(2)?;
    if list.number(1)? != usize::from(HOST_NAME) {
        return None;
    }
    let length = list.number(2)?;
    let name = list.take(length)?;
    // Dots alone name nothing either.
    let names = name.iter().any(|byte| *byte != b'.') && name.len() <= NAME_BYTES_MAX;
    names.then(|| dns::printable(name))
}

/// Bytes that are read from the front.
struct Cut<'b>(&'b [u8]);

impl<'b> Cut<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A big-endian number of 1 or 2 bytes.
    fn number(&mut self, width: usize) -> Option<usize> {
        Some(self.take(width)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Extensions in order: kind and content.
    fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat();
        let extensions: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, content)| [kind.to_be_bytes().to_vec(), sized(content)].concat())
            .collect();
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([4, 1, 2, 3, 4]);
        body.extend(sized(&[0x13, 1, 0x13, 2]));
        body.extend([1, 0]);
        body.extend(sized(&extensions));
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        let message = [&[CLIENT_HELLO, length[1], length[2], length[3]][..], &body].concat();
        [&[HANDSHAKE, 3, 1][..], &sized(&message)].concat()
    }

    fn names(name: &[u8]) -> (u16, Vec<u8>) {
        let length = u16::try_from(name.len()).expect("short");
        let entry = [&[HOST_NAME][..], &length.to_be_bytes(), name].concat();
        (SERVER_NAME, [&(length + 3).to_be_bytes()[..], &entry].concat())
    }

    #[test]
    fn the_server_is_named_wherever_the_name_stands() {
        let check = |extensions: &[(u16, Vec<u8>)], expected: Option<&str>| {
            assert_eq!(server_name(&hello(extensions)).as_deref(), expected, "{extensions:?}");
        };
        check(&[names(b"evil.example")], Some("evil.example"));
        check(&[(51, vec![9; 1216]), (43, vec![2, 3, 4]), names(b"Evil.Example")], Some("evil.example"));
        check(&[names(b"x\x1b[2J\n.example")], Some("x\\027\\0912j\\010.example"));
        check(&[(43, vec![2, 3, 4])], None);
        check(&[], None);
        check(&[names(b"")], None);
        check(&[names(b"....")], None);
        check(&[names(&[b'a'; 256])], None);
        check(&[(SERVER_NAME, vec![0, 4, 1, 0, 1, b'a'])], None);
    }

    #[test]
    fn a_hello_in_many_records_is_one_hello() {
        let whole = hello(&[names(b"evil.example")]);
        let message = &whole[RECORD_HEADER..];
        let spread: Vec<u8> = message
            .chunks(7)
            .flat_map(|piece| [&[HANDSHAKE, 3, 3, 0, u8::try_from(piece.len()).expect("short")][..], piece].concat())
            .collect();
        assert_eq!(server_name(&spread).as_deref(), Some("evil.example"));
    }

    #[test]
    fn a_cut_hello_names_what_stands_before_the_cut() {
        let bytes = hello(&[names(b"evil.example"), (51, vec![9; 64])]);
        let at = bytes.len() - 64;
        assert_eq!(server_name(&bytes[..at]).as_deref(), Some("evil.example"));
        for end in 0..bytes.len() - 68 {
            assert_eq!(server_name(&bytes[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn what_is_no_hello_names_nothing() {
        let check = |bytes: &[u8]| assert_eq!(server_name(bytes), None, "{bytes:?}");
        check(b"");
        check(b"GET / HTTP/1.1\r\n");
        check(&[HANDSHAKE, 3, 1, 0, 0]);
        let mut server = hello(&[names(b"evil.example")]);
        server[RECORD_HEADER] = 2;
        check(&server);
    }

    proptest! {
        #[test]
        fn any_bytes_end_well(bytes in prop::collection::vec(any::<u8>(), 0..2100)) {
            if let Some(name) = server_name(&bytes) {
                prop_assert!(name.len() <= 4 * NAME_BYTES_MAX);
            }
        }

        #[test]
        fn a_damaged_hello_ends_well(at in 0_usize..200, byte in any::<u8>()) {
            let mut bytes = hello(&[(43, vec![2, 3, 4]), names(b"evil.example")]);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Some(name) = server_name(&bytes) {
                prop_assert!(name.len() <= 4 * NAME_BYTES_MAX && !name.contains(char::is_control));
            }
        }
    }
}
