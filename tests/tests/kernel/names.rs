//! Answers of name servers, over UDP and TCP, of both families; what is no answer is left alone.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use breachline::event::{HostEventKind, NameAnswer};
use breachline::kernel::Config;

use crate::contact::in_namespace;
use crate::watch::{Watch, root};

/// A message about one name with one IPv4 address, by hand: header, question, record.
fn message(flags: [u8; 2], label: &str, address: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0, 7, flags[0], flags[1], 0, 1, 0, 1, 0, 0, 0, 0];
    bytes.push(u8::try_from(label.len()).expect("short"));
    bytes.extend(label.as_bytes());
    bytes.extend(b"\x07example\0\0\x01\0\x01");
    bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    bytes.extend(address);
    bytes
}

/// An answer without an error.
const ANSWER: [u8; 2] = [0x81, 0x80];

fn answer(watch: &mut Watch, name: &str) -> NameAnswer {
    watch.until(&format!("answer for {name}"), |event| match &event.kind {
        HostEventKind::Answer(answer) if answer.name == name => Some(answer.clone()),
        _ => None,
    })
}

/// Asks `server` from a socket of the same family and gets these datagrams back.
fn over_udp(server: SocketAddr, datagrams: &[Vec<u8>]) {
    let at = UdpSocket::bind(server).expect("bound");
    let client = UdpSocket::bind((server.ip(), 0)).expect("bound");
    client.send_to(b"?", server).expect("asked");
    let (_, peer) = at.recv_from(&mut [0; 16]).expect("heard");
    for datagram in datagrams {
        at.send_to(datagram, peer).expect("answered");
        client.recv_from(&mut [0; 2048]).expect("received");
    }
}

fn over_tcp(server: SocketAddr, message: &[u8]) {
    let listener = TcpListener::bind(server).expect("bound");
    let mut client = TcpStream::connect(server).expect("connected");
    let (mut at, _) = listener.accept().expect("accepted");
    let mut framed = u16::try_from(message.len()).expect("short").to_be_bytes().to_vec();
    framed.extend(message);
    at.write_all(&framed).expect("answered");
    client.read_exact(&mut vec![0; framed.len()]).expect("received");
}

#[test]
fn an_answer_names_its_addresses() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    in_namespace(&["127.0.0.53/32"], || {
        over_udp(
            "127.0.0.53:53".parse().expect("address"),
            &[
                message([0x01, 0x00], "query", [203, 0, 113, 1]),
                message([0x81, 0x83], "failed", [203, 0, 113, 2]),
                b"no message at all, but long enough".to_vec(),
                message(ANSWER, "udp4", [203, 0, 113, 66]),
            ],
        );
        over_udp("[::1]:53".parse().expect("address"), &[message(ANSWER, "udp6", [203, 0, 113, 67])]);
        over_tcp("127.0.0.53:53".parse().expect("address"), &message(ANSWER, "tcp4", [203, 0, 113, 68]));
        over_udp("127.0.0.53:5353".parse().expect("address"), &[message(ANSWER, "elsewhere", [203, 0, 113, 69])]);
        // After all others: when it is there, they were read.
        over_udp("127.0.0.53:53".parse().expect("address"), &[message(ANSWER, "last", [203, 0, 113, 70])]);
    });
    let mut check = |name: &str, server: &str, address: &str| {
        let answer = answer(&mut watch, name);
        assert_eq!(answer.server, server.parse::<IpAddr>().expect("address"), "{name}");
        let found: Vec<_> = answer.addresses.iter().map(|named| (named.address, named.ttl_seconds)).collect();
        assert_eq!(found, [(address.parse().expect("address"), 60)], "{name}");
    };
    check("last.example", "127.0.0.53", "203.0.113.70");
    check("udp4.example", "127.0.0.53", "203.0.113.66");
    check("udp6.example", "::1", "203.0.113.67");
    check("tcp4.example", "127.0.0.53", "203.0.113.68");
    let wrong = watch.seen.iter().any(|event| match &event.kind {
        HostEventKind::Answer(answer) => {
            ["query.", "failed.", "elsewhere."].iter().any(|no| answer.name.starts_with(no))
        }
        _ => false,
    });
    assert!(!wrong, "queries, failures and other ports are no answers");
}

/// A flood of answers is cut off and the rest counted: what was handed over and what was lost is what came.
#[test]
fn a_flood_of_answers_is_counted_to_the_last() {
    const FLOOD: u64 = 20_000;
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    in_namespace(&["127.0.0.53/32"], || {
        let flood = message(ANSWER, "flood", [203, 0, 113, 71]);
        let datagrams: Vec<Vec<u8>> = std::iter::repeat_n(flood, usize::try_from(FLOOD).expect("small")).collect();
        over_udp("127.0.0.53:53".parse().expect("address"), &datagrams);
    });
    watch.read();
    let counters = watch.sensor.counters();
    let names = counters.senses.iter().find(|sense| sense.sense == "names").expect("counted");
    // Other answers of this host may have come in between: never fewer.
    assert!(names.emitted + names.lost >= FLOOD, "{names:?}");
    assert!(names.lost > 0 && names.emitted > 0, "{names:?}");
    let read = watch.seen.iter().filter(|event| matches!(event.kind, HostEventKind::Answer(_))).count() as u64;
    assert_eq!(read + counters.undecodable, names.emitted);
}
