//! Peers reached for in every way, first and again, metadata endpoints among them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Command;

use breachline::event::{Contact, ContactHook, HostEventKind, MetadataPath, Protocol};
use breachline::kernel::Config;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, sendto, socket};

use crate::watch::{Watch, key_of, own_namespace, root};

/// `MSG_FASTOPEN` (socket.h): connect and send in one call.
pub(crate) const FAST_OPEN: MsgFlags = MsgFlags::from_bits_retain(0x2000_0000);

/// A port on which nobody listens.
fn refused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("address").port()
}

fn own(contact: &Contact) -> bool {
    contact.actor.process.pid == std::process::id()
}

/// Runs `body` on a thread in a network namespace of its own with loopback up and these addresses on it.
pub(crate) fn in_namespace<T: Send + 'static>(
    addresses: &'static [&str],
    body: impl FnOnce() -> T + Send + 'static,
) -> T {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
        let ip = |arguments: &[&str]| {
            let status = Command::new("ip").args(arguments).status().expect("iproute2 is installed");
            assert!(status.success(), "ip {arguments:?}");
        };
        ip(&["link", "set", "lo", "up"]);
        for address in addresses {
            ip(&["address", "add", address, "dev", "lo"]);
        }
        body()
    });
    thread.join().expect("joined")
}

#[test]
fn the_first_contact_is_told_and_the_rest_counted() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, refused_port()));
    for _ in 0..50 {
        TcpStream::connect(peer).expect_err("refused");
    }
    // Another peer after it: when that is there, all before has been read.
    let sentinel = SocketAddr::from((Ipv4Addr::LOCALHOST, refused_port()));
    TcpStream::connect(sentinel).expect_err("refused");
    watch.contact("the sentinel", |contact| own(contact) && contact.peer == sentinel);
    let contacts = watch.contacts(|contact| own(contact) && contact.peer == peer);
    let [contact] = contacts[..] else { panic!("one record, not {}", contacts.len()) };
    assert!(contact.first && !contact.metadata && !contact.mapped);
    assert_eq!((contact.protocol, contact.hook), (Protocol::Tcp, ContactHook::Connect));
    assert_eq!(contact.actor.process, key_of(std::process::id()));
    assert_eq!(contact.actor.net_ns, own_namespace("net"));
    assert_eq!(watch.sensor.counters().cross_check, 0, "the connect hook saw them all");
}

#[test]
fn every_way_of_reaching_a_peer_is_seen() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let mut check =
        |what: &str, peer: &str, mapped: bool, protocol: Protocol, hook: ContactHook, reach: &dyn Fn(u16)| {
            let port = refused_port();
            reach(port);
            let peer = SocketAddr::new(peer.parse().expect("address"), port);
            let contact =
                watch.contact(what, |contact| own(contact) && contact.peer == peer && contact.protocol == protocol);
            assert_eq!((contact.mapped, contact.hook, contact.first), (mapped, hook, true), "{what}");
        };
    let refused = |address: &'static str| {
        move |port: u16| {
            TcpStream::connect((address.parse::<IpAddr>().expect("address"), port)).expect_err("refused");
        }
    };
    check("IPv4", "127.0.0.1", false, Protocol::Tcp, ContactHook::Connect, &refused("127.0.0.1"));
    check("IPv6", "::1", false, Protocol::Tcp, ContactHook::Connect, &refused("::1"));
    check("v4-mapped", "127.0.0.1", true, Protocol::Tcp, ContactHook::Connect, &refused("::ffff:127.0.0.1"));
    check("UDP connect", "127.0.0.1", false, Protocol::Udp, ContactHook::Connect, &|port| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        socket.connect(("127.0.0.1", port)).expect("connected");
    });
    check("UDP send", "127.0.0.1", false, Protocol::Udp, ContactHook::Sendmsg, &|port| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        socket.send_to(b"x", ("127.0.0.1", port)).expect("sent");
    });
    check("UDP send over IPv6", "::1", false, Protocol::Udp, ContactHook::Sendmsg, &|port| {
        let socket = UdpSocket::bind("[::1]:0").expect("bound");
        socket.send_to(b"x", ("::1", port)).expect("sent");
    });
    check("TCP fast open", "127.0.0.1", false, Protocol::Tcp, ContactHook::Connect, &|port| {
        let tcp = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).expect("socket");
        let outcome = sendto(tcp.as_raw_fd(), b"x", &SockaddrIn::new(127, 0, 0, 1, port), FAST_OPEN);
        assert!(outcome.is_err(), "refused");
    });
}

#[test]
fn a_metadata_endpoint_is_known_in_every_spelling() {
    if !root() {
        return;
    }
    let mut watch =
        Watch::new(&Config { metadata_endpoints: vec!["127.0.0.1:9".parse().expect("address")], ..Config::default() });
    let asked = [
        "169.254.169.254:80",
        "[::ffff:169.254.170.2]:80",
        "[fd00:ec2::254]:80",
        "127.0.0.1:9",
        "169.254.169.254:8080",
    ];
    let addresses = &["169.254.169.254/32", "169.254.170.2/32", "fd00:ec2::254/128"];
    let namespace = in_namespace(addresses, move || {
        for peer in asked {
            TcpStream::connect(peer.parse::<SocketAddr>().expect("address")).expect_err("refused");
        }
        own_namespace("net")
    });
    let mut check = |peer: &str, metadata: bool| {
        let peer = peer.parse().expect("address");
        let contact = watch.contact(&format!("contact with {peer}"), |contact| {
            contact.peer == peer && contact.actor.net_ns == namespace
        });
        assert_eq!((contact.metadata, contact.first), (metadata, true), "{peer}");
    };
    check("169.254.169.254:80", true);
    check("169.254.170.2:80", true);
    check("[fd00:ec2::254]:80", true);
    check("127.0.0.1:9", true);
    check("169.254.169.254:8080", false);
    assert!(watch.sensor.counters().wakeups > 0, "a chain hangs on it: no waiting for the timer");
}

/// What is asked of an endpoint is told by kind, with the role it names and never with a token's value.
#[test]
fn a_metadata_request_is_told_by_kind() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let requests = [
        "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
        "GET /latest/meta-data/iam/security-credentials/shop HTTP/1.1\r\nX-aws-ec2-metadata-token: hidden\r\n\r\n",
    ];
    let ask = move |peer: &'static str| {
        let listener = TcpListener::bind(peer).expect("bound");
        let mut client = TcpStream::connect(peer).expect("connected");
        let (mut server, _) = listener.accept().expect("accepted");
        for request in requests {
            client.write_all(request.as_bytes()).expect("asked");
            // A reply between them, as a real endpoint gives: the requests travel apart.
            server.read_exact(&mut vec![0; request.len()]).expect("read");
            server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("answered");
        }
    };
    in_namespace(&["169.254.169.254/32", "fd00:ec2::254/128"], move || {
        ask("169.254.169.254:80");
        ask("[fd00:ec2::254]:80");
    });
    let mut check = |peer: &str, path: MetadataPath, role: Option<&str>, token: bool| {
        let peer: SocketAddr = peer.parse().expect("address");
        let request = watch.until(&format!("{path:?} request to {peer}"), |event| match &event.kind {
            HostEventKind::MetadataRequest(request) if request.peer == peer && request.path == path => {
                Some(request.clone())
            }
            _ => None,
        });
        assert_eq!((request.role.as_deref(), request.token), (role, token));
        assert_eq!(request.actor.process, key_of(std::process::id()));
        let contact = watch.contact("its contact", |contact| contact.peer == peer);
        assert_eq!(request.socket, contact.socket);
    };
    for peer in ["169.254.169.254:80", "[fd00:ec2::254]:80"] {
        check(peer, MetadataPath::Session, None, false);
        check(peer, MetadataPath::Credential, Some("shop"), true);
    }
    let requests = watch.seen.iter().filter(|event| matches!(event.kind, HostEventKind::MetadataRequest(_)));
    assert!(!format!("{:?}", requests.collect::<Vec<_>>()).contains("hidden"), "a token's value goes nowhere");
}

/// Once a line has reached for credentials, what it and its children contact is told even where it is known.
#[test]
fn a_tainted_line_is_watched_closely() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let script =
        "exec 2>/dev/null; : </dev/tcp/127.0.0.1/9; : </dev/tcp/169.254.169.254/80; (: </dev/tcp/127.0.0.1/9; :)";
    let known = move || {
        let mut innocent = Command::new("/bin/bash")
            .args(["-c", ": </dev/tcp/127.0.0.1/9; (: </dev/tcp/127.0.0.1/9; :)"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("bash");
        innocent.wait().expect("waited");
        let mut tainted = Command::new("/bin/bash").args(["-c", script]).spawn().expect("bash");
        tainted.wait().expect("waited");
        (innocent.id(), tainted.id())
    };
    let (innocent, tainted) = in_namespace(&["169.254.169.254/32"], known);
    let peer: SocketAddr = "127.0.0.1:9".parse().expect("address");
    let child = watch
        .contact("the tainted line's child", |contact| contact.peer == peer && contact.actor.parent.pid == tainted);
    assert!(!child.first, "the program knew that peer");
    let quiet = watch.contacts(|contact| {
        contact.actor.parent.pid == innocent || (contact.actor.process.pid == tainted && contact.peer == peer)
    });
    assert!(quiet.is_empty(), "what is not tainted is only counted: {quiet:?}");
}
