//! A DNS answer to the addresses of the name that was asked for.
//!
//! In: a message as it came from the network (RFC 1035 4), perhaps cut, perhaps forged. Out: the name and every address that a
//! chain of aliases in it leads to, in bounded time. Never: trusts a count, a length or a pointer; looks at other records.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use breachline_abi::names::AnswerRecord;

use super::{DecodeError, endpoint, prefix};
use crate::event::{NameAnswer, NamedAddress};

/// Bytes of a message's header.
const HEADER_BYTES: usize = 12;
/// Bytes of a name, and of a label (RFC 1035 2.3.4).
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: u8 = 63;
/// Labels of a name: 127 of one byte fill it. Bounds the walk along compression pointers, which need not fill anything.
const STEPS_MAX: usize = 256;
/// Records looked at, and addresses and aliases kept: round-robin answers have a dozen. Without them one message could cost
/// as much as hundreds.
const RECORDS_MAX: u16 = 64;
const ADDRESSES_MAX: usize = 32;
const ALIASES_MAX: usize = 16;
/// Types (RFC 1035 3.2.2, RFC 3596 2.1) and the internet class.
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// An answer record with its message.
pub(super) fn decode(record: &[u8]) -> Result<NameAnswer, DecodeError> {
    let fixed: AnswerRecord = prefix(record)?;
    let length = usize::try_from(fixed.message_len).unwrap_or(usize::MAX);
    let start = size_of::<AnswerRecord>();
    let end = start.saturating_add(length);
    let message = record.get(start..end).ok_or(DecodeError::Truncated { need: end, got: record.len() })?;
    let (name, addresses) = parse(message).ok_or(DecodeError::NoAnswer)?;
    Ok(NameAnswer { cgroup: fixed.cgroup, server: endpoint(fixed.server, 0).ip(), name, addresses })
}

/// The name asked for and its addresses; `None` when this is no answer to one question. A cut message gives what is whole.
fn parse(message: &[u8]) -> Option<(String, Vec<NamedAddress>)> {
    let [_, _, flags, _, 0, 1, records_high, records_low, ..] = *message.get(..HEADER_BYTES)? else { return None };
    if flags & 0x80 == 0 {
        return None;
    }
    let (asked, at) = name(message, HEADER_BYTES)?;
    // Type and class of the question.
    let mut at = at.checked_add(4)?;
    let mut chain = vec![(asked.clone(), u32::MAX)];
    let mut addresses = Vec::new();
    for _ in 0..u16::from_be_bytes([records_high, records_low]).min(RECORDS_MAX) {
        let Some((record, next)) = Record::read(message, at) else { break };
        at = next;
        let Some(ttl) = chain.iter().find(|(alias, _)| *alias == record.owner).map(|(_, ttl)| *ttl) else { continue };
        let ttl_seconds = record.ttl.min(ttl);
        if let Some(address) = record.address() {
            if addresses.len() < ADDRESSES_MAX {
                addresses.push(NamedAddress { address, ttl_seconds });
            }
        } else if record.kind == CNAME && chain.len() < ALIASES_MAX {
            // Aliases come before what they lead to (RFC 1034 4.3.2).
            chain.extend(name(message, record.data_at).map(|(target, _)| (target, ttl_seconds)));
        }
    }
    Some((asked, addresses))
}

/// One resource record.
struct Record<'m> {
    owner: String,
    kind: u16,
    class: u16,
    ttl: u32,
    data: &'m [u8],
    data_at: usize,
}

impl<'m> Record<'m> {
    /// The record at `at`, and where the next one begins.
    fn read(message: &'m [u8], at: usize) -> Option<(Self, usize)> {
        let (owner, at) = name(message, at)?;
        let [k0, k1, c0, c1, t0, t1, t2, t3, l0, l1] = *message.get(at..at.checked_add(10)?)?.first_chunk()?;
        let data_at = at + 10;
        let end = data_at + usize::from(u16::from_be_bytes([l0, l1]));
        let record = Self {
            owner,
            kind: u16::from_be_bytes([k0, k1]),
            class: u16::from_be_bytes([c0, c1]),
            ttl: u32::from_be_bytes([t0, t1, t2, t3]),
            data: message.get(data_at..end)?,
            data_at,
        };
        Some((record, end))
    }

    fn address(&self) -> Option<IpAddr> {
        match (self.class, self.kind) {
            (INTERNET, A) => Some(Ipv4Addr::from(<[u8; 4]>::try_from(self.data).ok()?).into()),
            (INTERNET, AAAA) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(self.data).ok()?).into()),
            _ => None,
        }
    }
}

/// The name at `start`, printable and in lower case, and where what follows it begins. Pointers lead backwards only, so that
/// none can lead in a circle.
fn name(message: &[u8], start: usize) -> Option<(String, usize)> {
    let mut text = String::new();
    let (mut at, mut floor, mut after) = (start, start, None);
    for _ in 0..STEPS_MAX {
        match *message.get(at)? {
            0 => return Some((text, after.unwrap_or(at + 1))),
            high @ 0xc0.. => {
                let target = usize::from(u16::from_be_bytes([high & 0x3f, *message.get(at + 1)?]));
                if target >= floor {
                    return None;
                }
                after = after.or(Some(at + 2));
                (at, floor) = (target, target);
            }
            length @ 1..=LABEL_BYTES_MAX => {
                let end = at + 1 + usize::from(length);
                push_label(&mut text, message.get(at + 1..end)?);
                if text.len() > 4 * NAME_BYTES_MAX {
                    return None;
                }
                at = end;
            }
            // 01 and 10 are no labels (RFC 6891 5).
            _ => return None,
        }
    }
    None
}

/// A name as text, its labels parted by dots.
pub(super) fn printable(name: &[u8]) -> String {
    let mut text = String::new();
    name.split(|byte| *byte == b'.').for_each(|label| push_label(&mut text, label));
    text
}

/// Adds a label. What is no host name's letter is written as master files do (RFC 1035 5.1), so that no name can hold a
/// control character or a dot that is none.
fn push_label(text: &mut String, label: &[u8]) {
    if !text.is_empty() {
        text.push('.');
    }
    for byte in label {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'*' => text.push(char::from(*byte)),
            b'A'..=b'Z' => text.push(char::from(byte.to_ascii_lowercase())),
            other => text.push_str(&format!("\\{other:03}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, RData, Record as Answer, RecordType, rdata};
    use proptest::prelude::*;

    use super::*;

    /// A message as a name server writes it: `alias -> target` and `owner = address` lines behind a question.
    fn message(asked: &str, answers: &[&str]) -> Vec<u8> {
        let name = |text: &str| Name::from_str(text).expect("a name");
        let mut message = Message::new(7, MessageType::Response, OpCode::Query);
        message.add_query(Query::query(name(asked), RecordType::A));
        for (ttl, answer) in (60..).zip(answers) {
            let (owner, data) = answer.split_once(' ').expect("two words");
            let data = match data.parse::<IpAddr>() {
                Ok(IpAddr::V4(v4)) => RData::A(rdata::A(v4)),
                Ok(IpAddr::V6(v6)) => RData::AAAA(rdata::AAAA(v6)),
                Err(_) => RData::CNAME(rdata::CNAME(name(data))),
            };
            message.add_answer(Answer::from_rdata(name(owner), ttl, data));
        }
        message.to_vec().expect("written")
    }

    #[test]
    fn the_name_asked_for_has_every_address_its_aliases_lead_to() {
        let check = |asked: &str, answers: &[&str], expected: &[&str]| {
            let (name, addresses) = parse(&message(asked, answers)).expect("an answer");
            assert_eq!(name, asked.to_lowercase().trim_end_matches('.'));
            let found: Vec<String> =
                addresses.iter().map(|named| format!("{} {}", named.address, named.ttl_seconds)).collect();
            assert_eq!(found, expected, "{asked} {answers:?}");
        };
        check("evil.example.", &["evil.example. 203.0.113.66"], &["203.0.113.66 60"]);
        check("Evil.Example.", &["evil.example. 2001:db8::1"], &["2001:db8::1 60"]);
        check(
            "api.shop.example.",
            &["api.shop.example. lb.cdn.example.", "lb.cdn.example. e7.cdn.example.", "e7.cdn.example. 203.0.113.9"],
            &["203.0.113.9 60"],
        );
        check(
            "a.example.",
            &["a.example. 203.0.113.1", "a.example. 203.0.113.2"],
            &["203.0.113.1 60", "203.0.113.2 61"],
        );
        // What nobody asked for says nothing.
        check("a.example.", &["bank.example. 203.0.113.1"], &[]);
        check("a.example.", &[], &[]);
    }

    #[test]
    fn a_cut_answer_gives_what_is_whole() {
        let whole = message("a.example.", &["a.example. 203.0.113.1", "a.example. 203.0.113.2"]);
        let (_, addresses) = parse(&whole[..whole.len() - 1]).expect("an answer");
        assert_eq!(addresses.len(), 1);
        assert_eq!(parse(&whole[..11]), None);
    }

    #[test]
    fn crooked_names_are_no_names_or_harmless() {
        let check = |bytes: &[u8], expected: Option<&str>| {
            assert_eq!(name(bytes, 0).map(|(name, _)| name).as_deref(), expected, "{bytes:?}");
        };
        check(&[0], Some(""));
        check(b"\x03a\x1b.\x00", Some("a\\027\\046"));
        check(&[0xc0, 0], None);
        check(&[1, b'a', 0xc0, 0], None);
        check(&[0x40, 0], None);
        check(&[5, b'a'], None);
        check(&[], None);
        // A pointer that leads back to a pointer that leads back: ends, and gives the name once.
        let bytes = [1, b'a', 0, 0xc0, 0, 0xc0, 3];
        assert_eq!(name(&bytes, 5), Some(("a".to_owned(), 7)));
    }

    proptest! {
        #[test]
        fn any_bytes_end_well(bytes in prop::collection::vec(any::<u8>(), 0..1300)) {
            if let Some((name, addresses)) = parse(&bytes) {
                prop_assert!(name.len() <= 4 * NAME_BYTES_MAX && addresses.len() <= ADDRESSES_MAX);
            }
        }

        #[test]
        fn a_damaged_answer_ends_well(at in 12_usize..120, byte in any::<u8>()) {
            let mut bytes = message("api.shop.example.", &["api.shop.example. lb.example.", "lb.example. 203.0.113.9"]);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Some((_, addresses)) = parse(&bytes) {
                prop_assert!(addresses.len() <= 1);
            }
        }
    }
}
