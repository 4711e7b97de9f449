//! The forward protocol's handshake: both sides prove that they know the shared key without saying it. In: a nonce and the
//! client's PING. Out: HELO and PONG, as bytes. Digest: hex of SHA-512 over salt, host name, nonce and key, in this order.

use sha2::{Digest, Sha512};

use crate::intake::access::Keys;
use crate::intake::msgpack::{MsgpackError, Reader, Token};

/// What the server calls itself; a client only hashes it.
const SERVER_NAME: &str = "breachline";

/// A nonce's bytes.
pub(super) const NONCE_BYTES: usize = NONCE_LENGTH as usize;

/// The same, as it is written.
const NONCE_LENGTH: u8 = 16;

/// What the client says.
struct Ping<'p> {
    host: &'p [u8],
    salt: &'p [u8],
    digest: &'p [u8],
}

/// The server's first word.
pub(super) fn helo(nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
    let mut out = vec![0x92];
    text("HELO", &mut out);
    out.push(0x83);
    text("nonce", &mut out);
    out.extend_from_slice(&[0xc4, NONCE_LENGTH]);
    out.extend_from_slice(nonce);
    text("auth", &mut out);
    text("", &mut out);
    text("keepalive", &mut out);
    out.push(0xc3);
    out
}

/// The server's answer to a PING, and whether the client knows one of the keys.
pub(super) fn pong(frame: &[u8], nonce: &[u8; NONCE_BYTES], keys: &Keys) -> Result<(Vec<u8>, bool), MsgpackError> {
    let ping = Ping::read(frame)?;
    let proof = keys.find(|key| {
        let expected = digest(&[ping.salt, ping.host, nonce, key.as_bytes()]);
        let difference = expected.bytes().zip(ping.digest).fold(0, |all, (left, right)| all | (left ^ right));
        let right = difference == 0 && expected.len() == ping.digest.len();
        right.then(|| digest(&[ping.salt, SERVER_NAME.as_bytes(), nonce, key.as_bytes()]))
    });
    let mut out = vec![0x95];
    text("PONG", &mut out);
    out.push(if proof.is_some() { 0xc3 } else { 0xc2 });
    text(if proof.is_some() { "" } else { "shared key mismatch" }, &mut out);
    text(SERVER_NAME, &mut out);
    text(proof.as_deref().unwrap_or_default(), &mut out);
    Ok((out, proof.is_some()))
}

/// `{"ack": chunk}`.
pub(super) fn ack(chunk: &[u8]) -> Vec<u8> {
    let mut out = vec![0x81];
    text("ack", &mut out);
    raw_text(chunk, &mut out);
    out
}

impl<'p> Ping<'p> {
    fn read(frame: &'p [u8]) -> Result<Self, MsgpackError> {
        let mut reader = Reader::new(frame);
        let Token::Array(6) = reader.token()? else { return Err(MsgpackError::Unexpected("a PING")) };
        let mut word = || match reader.token()? {
            Token::Text(text) | Token::Binary(text) => Ok(text),
            _ => Err(MsgpackError::Unexpected("a PING")),
        };
        if word()? != b"PING" {
            return Err(MsgpackError::Unexpected("a PING"));
        }
        Ok(Self { host: word()?, salt: word()?, digest: word()? })
    }
}

fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha512::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(text: &str, out: &mut Vec<u8>) {
    raw_text(text.as_bytes(), out);
}

/// Text of up to 65535 bytes, which all of it here is.
fn raw_text(text: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(text.len()) {
        Ok(length @ 0..32) => out.push(0xa0 | length),
        Ok(length) => out.extend_from_slice(&[0xd9, length]),
        Err(_) => {
            out.push(0xda);
            out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use rmpv::Value;

    use super::*;

    fn read(bytes: &[u8]) -> Value {
        rmpv::decode::read_value(&mut &*bytes).expect("reads")
    }

    fn ping(key: &str, nonce: &[u8]) -> Vec<u8> {
        let proof = digest(&[b"salt", b"client", nonce, key.as_bytes()]);
        let words = ["PING", "client", "salt", &proof, "", ""].map(Value::from);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &Value::Array(words.to_vec())).expect("writes");
        bytes
    }

    #[test]
    fn both_sides_prove_the_key() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), "new\nold\n").expect("writes");
        let keys = Keys::open("test", file.path()).expect("reads");
        let nonce = [7; NONCE_BYTES];
        let hello = read(&helo(&nonce));
        assert_eq!((&hello[0], &hello[1]["nonce"]), (&"HELO".into(), &Value::Binary(nonce.to_vec())));
        for (key, expected) in [("old", true), ("new", true), ("other", false)] {
            let (answer, known) = pong(&ping(key, &nonce), &nonce, &keys).expect("a PING");
            let answer = read(&answer);
            assert_eq!((known, &answer[1]), (expected, &expected.into()), "{key}");
            let proof = digest(&[b"salt", SERVER_NAME.as_bytes(), &nonce, key.as_bytes()]);
            assert_eq!(answer[4] == proof.as_str().into(), expected);
        }
        assert!(pong(&[0xc0], &nonce, &keys).is_err());
        assert!(pong(&ack(b"x"), &nonce, &keys).is_err());
    }

    #[test]
    fn an_acknowledgement_repeats_the_chunk() {
        for length in [0, 31, 32, 255, 256] {
            let chunk = "x".repeat(length);
            assert_eq!(read(&ack(chunk.as_bytes()))["ack"], chunk.as_str().into());
        }
    }
}
