//! Names of peers, ends of contacts, raw sockets, connections being served: events in, what the judge makes of them out.

use super::*;
use crate::event::{
    CgroupSeen, Connection, ContactHook, Flow, FlowState, Listen, MetadataStatus, NameAnswer, NamedAddress, ProcessKey,
    ProcessSeen, Serving, TlsHello,
};

/// The shop's own process, and one that it forks.
const SHOP: ProcessKey = ProcessKey { pid: 200, start_ticks: 2000 };
const CHILD: ProcessKey = ProcessKey { pid: 300, start_ticks: 3000 };
const CGROUP: u64 = 100;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_millis(1_700_000_000_000).plus(std::time::Duration::from_secs(seconds))
}

/// A time at which the shop's habits are long learned.
const LATER: u64 = 30 * 3600;

fn shop() -> Actor {
    let exe = FileId { device: 1, inode: 14 };
    Actor { process: SHOP, cgroup: CGROUP, net_ns: 7, uid: 33, exe, ..Actor::default() }
}

fn event(seconds: u64, kind: HostEventKind) -> HostEvent {
    HostEvent { at: at(seconds), kind }
}

/// A shop that listens, and is known by its cgroup.
fn setting() -> Vec<HostEvent> {
    let path = "/system.slice/shop.service".to_owned();
    let cgroup = CgroupSeen { id: CGROUP, path, container_name: None, image: None, pod: None };
    let seen = ProcessSeen { actor: shop(), exe_path: "/opt/shop/bin/shop".to_owned(), ..ProcessSeen::default() };
    let listen = Listen { actor: shop(), local: "0.0.0.0:8080".parse().expect("an address"), at_start: true };
    vec![
        event(0, HostEventKind::Cgroup(cgroup)),
        event(0, HostEventKind::Process(seen)),
        event(0, HostEventKind::Listen(listen)),
    ]
}

fn contact(seconds: u64, peer: &str, socket: u64) -> HostEvent {
    let contact = Contact {
        actor: shop(),
        peer: peer.parse().expect("an address"),
        mapped: false,
        protocol: Protocol::Tcp,
        hook: ContactHook::Connect,
        first: true,
        metadata: false,
        socket,
    };
    event(seconds, HostEventKind::Contact(contact))
}

fn answer(seconds: u64, server: &str, name: &str, address: &str) -> HostEvent {
    let addresses = vec![NamedAddress { address: address.parse().expect("an address"), ttl_seconds: 60 }];
    let server = server.parse().expect("an address");
    event(seconds, HostEventKind::Answer(NameAnswer { cgroup: CGROUP, server, name: name.to_owned(), addresses }))
}

/// The egress evidence of a day of habits followed by these events.
fn egresses(events: Vec<HostEvent>) -> Vec<EgressEvidence> {
    let stages = judged(setting().into_iter().chain(events));
    stages.into_iter().filter_map(|stage| if let Stage::Egress(egress) = stage { Some(egress) } else { None }).collect()
}

#[test]
fn a_peer_goes_by_the_name_it_was_looked_up_by() {
    let found = egresses(vec![
        answer(1, "127.0.0.53", "api.pay.example.com", "203.0.113.9"),
        contact(2, "203.0.113.9:443", 0),
        answer(LATER, "127.0.0.53", "api.pay.example.com", "198.51.100.9"),
        contact(LATER, "198.51.100.9:443", 0),
        answer(LATER, "10.0.0.2", "evil.example", "198.51.100.66"),
        contact(LATER, "198.51.100.66:443", 0),
        contact(LATER, "198.51.100.77:443", 0),
    ]);
    let told: Vec<_> = found.iter().skip(1).map(|egress| (egress.name.as_deref(), egress.novelty)).collect();
    let expected =
        [(Some("api.pay.example.com"), Novelty::Known), (Some("evil.example"), Novelty::New), (None, Novelty::New)];
    assert_eq!(told, expected);
    let evil = "contacted evil.example (198.51.100.66:443), which its workload had never needed";
    assert!(found[2].reason.ends_with(evil), "{}", found[2].reason);
    assert!(found[3].reason.contains("198.51.100.77:443 by its bare address"), "{}", found[3].reason);
}

/// An intruder's own server may call his address what it likes.
#[test]
fn a_server_never_asked_before_is_not_believed() {
    let ask = |seconds: u64| {
        let HostEventKind::Contact(contact) = contact(seconds, "198.51.100.53:53", 0).kind else { unreachable!() };
        event(seconds, HostEventKind::Contact(Contact { protocol: Protocol::Udp, ..contact }))
    };
    let habit = || vec![answer(1, "127.0.0.53", "pay.example.com", "203.0.113.9"), contact(2, "203.0.113.9:443", 0)];
    let forged =
        || vec![answer(LATER, "198.51.100.53", "pay.example.com", "192.0.2.66"), contact(LATER, "192.0.2.66:443", 0)];
    let last = egresses([habit(), forged()].concat()).pop().expect("egress");
    assert_eq!((last.name.as_deref(), last.novelty), (None, Novelty::New));
    assert!(last.reason.contains("called pay.example.com by 198.51.100.53"), "{}", last.reason);
    // UDP to a web server's port is said to be what it looks like.
    let quic = |seconds: u64| {
        let HostEventKind::Contact(contact) = contact(seconds, "192.0.2.67:443", 0).kind else { unreachable!() };
        event(seconds, HostEventKind::Contact(Contact { protocol: Protocol::Udp, ..contact }))
    };
    let last = egresses([habit(), vec![quic(LATER)]].concat()).pop().expect("egress");
    assert!(last.reason.contains("by what looks like QUIC, which"), "{}", last.reason);
    // The same server, asked all along, is the shop's resolver.
    let last = egresses([habit(), vec![ask(3)], forged()].concat()).pop().expect("egress");
    assert_eq!((last.name.as_deref(), last.novelty), (Some("pay.example.com"), Novelty::Known));
}

#[test]
fn a_contact_is_told_again_when_it_has_ended() {
    let flow = |state: FlowState, bytes_sent: u64| {
        HostEventKind::Flow(Flow {
            socket: 5,
            peer: "203.0.113.9:443".parse().expect("an address"),
            local: "10.0.0.5:40000".parse().expect("an address"),
            state,
            protocol: Protocol::Tcp,
            bytes_sent,
            bytes_received: 117,
            bytes_elsewhere: 0,
        })
    };
    let found = egresses(vec![
        contact(10, "203.0.113.9:443", 5),
        event(10, flow(FlowState::Established, 0)),
        event(14, flow(FlowState::Closed, 3_200_000)),
        event(15, flow(FlowState::Closed, 1)),
    ]);
    let [began, ended] = &found[..] else { panic!("two, not {}", found.len()) };
    assert_eq!(began.outcome, None);
    let outcome = ended.outcome.expect("an end");
    assert_eq!((outcome.bytes_sent, outcome.bytes_received, outcome.lasted_ms), (3_200_000, 117, 4_000));
    assert_eq!(EgressEvidence { outcome: None, ..ended.clone() }, *began, "the same evidence otherwise");
}

/// Datagrams: one socket has several peers, each with an end of its own, and a contact that is told again is the same one.
#[test]
fn each_peer_of_a_socket_has_its_own_end() {
    let reach = |seconds: u64, peer: &str| {
        let HostEventKind::Contact(contact) = contact(seconds, peer, 8).kind else { unreachable!() };
        event(seconds, HostEventKind::Contact(Contact { protocol: Protocol::Udp, ..contact }))
    };
    let released = |peer: &str, state: FlowState, bytes_sent: u64| {
        HostEventKind::Flow(Flow {
            socket: 8,
            peer: peer.parse().expect("an address"),
            local: "10.0.0.5:40000".parse().expect("an address"),
            state,
            protocol: Protocol::Udp,
            bytes_sent,
            bytes_received: 0,
            bytes_elsewhere: 12,
        })
    };
    let found = egresses(vec![
        reach(10, "203.0.113.9:443"),
        reach(11, "198.51.100.66:53"),
        reach(12, "203.0.113.9:443"),
        event(14, released("203.0.113.9:443", FlowState::Closed, 3_200_000)),
        event(14, released("198.51.100.66:53", FlowState::Failed, 40)),
        event(14, released("192.0.2.1:1", FlowState::Failed, 1)),
    ]);
    let ends: Vec<_> = found.iter().filter_map(|evidence| Some((evidence.peer.port(), evidence.outcome?))).collect();
    let [(443, answered), (53, unanswered)] = ends[..] else { panic!("two ends, not {ends:?}") };
    assert_eq!((answered.bytes_sent, answered.lasted_ms, answered.bytes_elsewhere), (3_200_000, 4_000, 12));
    assert_eq!((unanswered.state, unanswered.bytes_sent, unanswered.effective), (FlowState::Failed, 40, None));
    assert_eq!(found.len(), 5, "three contacts and two ends");
}

#[test]
fn a_contact_is_told_again_with_the_server_it_greets() {
    let hello = |seconds: u64, socket: u64, server_name: Option<&str>| {
        event(seconds, HostEventKind::Hello(TlsHello { socket, server_name: server_name.map(ToOwned::to_owned) }))
    };
    let found = egresses(vec![
        answer(9, "127.0.0.53", "cdn.example", "203.0.113.9"),
        contact(10, "203.0.113.9:443", 5),
        hello(10, 5, Some("evil.example")),
        contact(11, "198.51.100.66:443", 6),
        hello(11, 6, Some("evil.example")),
        contact(12, "198.51.100.67:443", 7),
        hello(12, 7, None),
        hello(13, 8, Some("nobody.example")),
    ]);
    let told: Vec<_> = found.iter().map(|egress| (egress.name.as_deref(), egress.server_name.as_deref())).collect();
    let evil = Some("evil.example");
    let cdn = Some("cdn.example");
    assert_eq!(told, [(cdn, None), (cdn, evil), (None, None), (None, evil), (None, None), (None, None)]);
    assert!(found[1].reason.ends_with("; its TLS hello names another server, evil.example"), "{}", found[1].reason);
    assert!(found[3].reason.ends_with("; its TLS hello names evil.example"), "{}", found[3].reason);
    assert!(found[5].reason.ends_with("; its TLS hello names no server"), "{}", found[5].reason);
    assert_eq!(found[3].novelty, found[2].novelty, "a name that the client chose makes nothing ordinary");
}

fn hosts(events: Vec<HostEvent>) -> Vec<HostEvidence> {
    let stages = judged(setting().into_iter().chain(events));
    stages.into_iter().filter_map(|stage| if let Stage::Host(host) = stage { Some(host) } else { None }).collect()
}

#[test]
fn an_answer_is_told_with_its_request() {
    let endpoint = "169.254.169.254:80".parse().expect("an address");
    let request = MetadataRequest {
        actor: shop(),
        socket: 9,
        peer: endpoint,
        method: "GET".to_owned(),
        path: MetadataPath::Credential,
        role: None,
        token: false,
    };
    let status = MetadataStatus { actor: shop(), socket: 9, peer: endpoint, status: 401 };
    let found = hosts(vec![
        event(10, HostEventKind::MetadataRequest(request)),
        event(10, HostEventKind::MetadataStatus(status.clone())),
        event(11, HostEventKind::MetadataStatus(status)),
    ]);
    let statuses: Vec<_> = found.iter().map(|host| host.status).collect();
    assert_eq!(statuses, [None, Some(401)]);
}

#[test]
fn a_raw_socket_is_evidence_and_may_be_a_habit() {
    let made = |seconds: u64, family: RawFamily, protocol: u8| {
        event(seconds, HostEventKind::RawSocket(RawSocket { actor: shop(), family, protocol }))
    };
    let found = hosts(vec![
        made(10, RawFamily::Inet, 1),
        made(LATER, RawFamily::Inet, 1),
        made(LATER, RawFamily::Packet, 0),
        made(LATER, RawFamily::Unknown, 0),
    ]);
    let novelties: Vec<_> = found.iter().map(|host| host.novelty).collect();
    assert_eq!(novelties, [Novelty::NewWhileLearning, Novelty::Known, Novelty::New, Novelty::New]);
    assert!(found[2].reason.contains("/opt/shop/bin/shop made a packet socket"), "{}", found[2].reason);
}

/// Of the service's connections only accepted ones are what it was serving, and what descends from the shell was brought
/// about by the same.
#[test]
fn a_shell_carries_the_connection_that_was_being_served() {
    let connection = |peer: &str, local: &str| Connection {
        peer: peer.parse().expect("an address"),
        local: local.parse().expect("an address"),
    };
    let asked = connection("10.0.0.9:2222", "10.0.0.5:8080");
    let database = connection("10.0.0.7:5432", "10.0.0.5:40000");
    let stdio = connection("198.51.100.23:4444", "10.0.0.5:40001");
    let serving =
        Serving { child: CHILD, server: SHOP, connections: vec![database, asked], omitted: 0, stdio: Some(stdio) };
    let fork = crate::event::Fork { actor: shop(), child: CHILD };
    let exec = Exec {
        actor: Actor { process: CHILD, parent: SHOP, exe: FileId { device: 1, inode: 11 }, ..shop() },
        exe_path: "/usr/bin/dash".to_owned(),
        argv: vec!["sh".to_owned()],
        stdio: [Stdio::InetSocket; 3],
        link_count: 1,
        ..Exec::default()
    };
    let found = hosts(vec![
        event(10, HostEventKind::Fork(fork)),
        event(10, HostEventKind::Serving(serving)),
        event(10, HostEventKind::Exec(Box::new(exec))),
    ]);
    let [shell] = &found[..] else { panic!("one, not {}", found.len()) };
    assert_eq!(shell.inbound, [asked]);
    assert!(shell.reason.contains("a connection with 198.51.100.23:4444"), "{}", shell.reason);
}
