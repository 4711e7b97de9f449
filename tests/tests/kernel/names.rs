//! Answers of name servers, over UDP and TCP, of both families; what is no answer is left alone.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;

use breachline::event::{HostEventKind, NameAnswer, TlsHello};
use breachline::kernel::Config;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, sendto, socket};

use crate::contact::{FAST_OPEN, in_namespace};
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

/// A client's first record with extensions of so many bytes before the server's name (RFC 8446 4.1.2, RFC 6066 3).
fn client_hello(server: &str, before: usize) -> Vec<u8> {
    let sized = |width: usize, bytes: &[u8]| [&bytes.len().to_be_bytes()[size_of::<usize>() - width..], bytes].concat();
    let name = [&[0][..], &sized(2, server.as_bytes())].concat();
    let names = [&[0, 0][..], &sized(2, &sized(2, &name))].concat();
    let shares = [&[0, 51][..], &sized(2, &vec![7; before])].concat();
    let extensions = sized(2, &[shares, names].concat());
    let body = [&[3, 3][..], &[9; 32], &[0, 0, 2, 0x13, 1, 1, 0], &extensions].concat();
    [&[22, 3, 1][..], &sized(2, &[&[1][..], &sized(3, &body)].concat())].concat()
}

/// Connects to a fresh port and sends these pieces, each received before the next is sent.
fn over_a_new_connection(pieces: &[&[u8]]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    send_to(&listener, pieces);
    listener.local_addr().expect("address")
}

fn send_to(listener: &TcpListener, pieces: &[&[u8]]) {
    let mut client = TcpStream::connect(listener.local_addr().expect("address")).expect("connected");
    client.set_nodelay(true).expect("set");
    let (mut at, _) = listener.accept().expect("accepted");
    for piece in pieces {
        client.write_all(piece).expect("sent");
        at.read_exact(&mut vec![0; piece.len()]).expect("received");
    }
}

fn hellos(watch: &Watch, socket: u64) -> Vec<&TlsHello> {
    let hellos = watch.seen.iter().filter_map(|event| match &event.kind {
        HostEventKind::Hello(hello) if hello.socket == socket => Some(hello),
        _ => None,
    });
    hellos.collect()
}

#[test]
fn a_tls_hello_names_its_server() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let short = client_hello("short.example", 2);
    let long = client_hello("post-quantum.example", 1220);
    let too_long = client_hello("beyond.example", 4000);
    let peers = [
        over_a_new_connection(&[&short]),
        over_a_new_connection(&[&long]),
        over_a_new_connection(&[&too_long]),
        // Once a connection: what follows on it is another matter.
        over_a_new_connection(&[&short, &client_hello("again.example", 2)]),
        // The first piece tells as much as stands in it.
        over_a_new_connection(&[&short[..60], &short[60..]]),
        over_a_new_connection(&[b"GET /a-request-that-is-long-enough-to-be-a-hello HTTP/1.1\r\nHost: x\r\n\r\n"]),
    ];
    // A peer that is known already is not told, nor is what it is greeted with.
    let known = TcpListener::bind("127.0.0.1:0").expect("bound");
    send_to(&known, &[b"x"]);
    send_to(&known, &[&client_hello("known.example", 2)]);
    // After all others: when it is there, they were read.
    let last = over_a_new_connection(&[&client_hello("last.example", 2)]);
    watch.until("the last hello", |event| match &event.kind {
        HostEventKind::Hello(hello) if hello.server_name.as_deref() == Some("last.example") => Some(()),
        _ => None,
    });
    let expected: [&[Option<&str>]; 6] =
        [&[Some("short.example")], &[Some("post-quantum.example")], &[None], &[Some("short.example")], &[None], &[]];
    for (peer, expected) in peers.iter().zip(expected) {
        let contact = watch.contact("its contact", |contact| contact.peer == *peer);
        let told: Vec<_> = hellos(&watch, contact.socket).iter().map(|hello| hello.server_name.as_deref()).collect();
        assert_eq!(told, expected, "{peer}, the last is {last}");
    }
    let named = |name: &str| {
        let told = |event: &breachline::event::HostEvent| matches!(&event.kind, HostEventKind::Hello(hello) if hello.server_name.as_deref() == Some(name));
        watch.seen.iter().any(told)
    };
    assert!(!named("known.example") && !named("again.example"));
}

/// The hello travels with the handshake.
#[test]
fn a_hello_in_a_fast_open_names_its_server() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let hello = client_hello("fast.example", 2);
    in_namespace(&[], move || {
        // Client and server, for every listener, without cookies (ip-sysctl).
        std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "1543").expect("set");
        let listener = TcpListener::bind("127.0.0.1:4433").expect("bound");
        let client = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).expect("socket");
        sendto(client.as_raw_fd(), &hello, &SockaddrIn::new(127, 0, 0, 1, 4433), FAST_OPEN).expect("sent");
        let (mut at, _) = listener.accept().expect("accepted");
        at.read_exact(&mut vec![0; hello.len()]).expect("received");
    });
    watch.until("the hello", |event| match &event.kind {
        HostEventKind::Hello(hello) if hello.server_name.as_deref() == Some("fast.example") => Some(()),
        _ => None,
    });
}
