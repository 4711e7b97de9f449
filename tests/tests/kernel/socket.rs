//! Listeners and what became of connections.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};

use breachline::event::{Flow, FlowState, HostEvent, HostEventKind, Listen, Protocol};
use breachline::kernel::Config;

use crate::watch::{Watch, key_of, own_namespace, root};

fn listen_on(watch: &mut Watch, local: SocketAddr) -> Listen {
    watch.until(&format!("listener on {local}"), |event| match &event.kind {
        HostEventKind::Listen(listen) if listen.local == local => Some(listen.clone()),
        _ => None,
    })
}

fn flow(watch: &mut Watch, socket: u64, state: FlowState) -> Flow {
    watch.until(&format!("{state:?}"), |event| match &event.kind {
        HostEventKind::Flow(flow) if flow.socket == socket && flow.state == state => Some(flow.clone()),
        _ => None,
    })
}

#[test]
fn a_listener_is_its_owner_namespace_and_address() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let addresses: [SocketAddr; 4] = [
        (Ipv4Addr::LOCALHOST, 0).into(),
        (Ipv4Addr::UNSPECIFIED, 0).into(),
        (Ipv6Addr::LOCALHOST, 0).into(),
        (Ipv6Addr::UNSPECIFIED, 0).into(),
    ];
    for address in addresses {
        let listener = TcpListener::bind(address).expect("bound");
        let listen = listen_on(&mut watch, listener.local_addr().expect("address"));
        assert_eq!(listen.actor.process, key_of(std::process::id()));
        assert_eq!(listen.actor.net_ns, own_namespace("net"));
        assert!(!listen.at_start);
    }
}

#[test]
fn a_connection_tells_its_outcome_and_bytes() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let peer = listener.local_addr().expect("address");
    let mut client = TcpStream::connect(peer).expect("connected");
    let local = client.local_addr().expect("address");
    let (mut server, _) = listener.accept().expect("accepted");
    client.write_all(&[1; 3000]).expect("sent");
    client.shutdown(Shutdown::Write).expect("shut");
    server.read_to_end(&mut Vec::new()).expect("read");
    server.write_all(&[2; 500]).expect("sent");
    drop(server);
    client.read_to_end(&mut Vec::new()).expect("read");
    drop(client);
    let contact = watch.contact("contact", |contact| contact.peer == peer);
    assert_ne!(contact.socket, 0);
    let established = flow(&mut watch, contact.socket, FlowState::Established);
    assert_eq!((established.peer, established.local), (peer, local));
    let closed = flow(&mut watch, contact.socket, FlowState::Closed);
    assert_eq!((closed.peer, closed.bytes_sent, closed.bytes_received), (peer, 3000, 500));
}

#[test]
fn a_refused_connection_failed() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let refused = TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("address");
    TcpStream::connect(refused).expect_err("nobody listens");
    let contact = watch.contact("contact", |contact| contact.peer == refused);
    let failed = flow(&mut watch, contact.socket, FlowState::Refused);
    assert_eq!((failed.peer, failed.bytes_sent), (refused, 0));
}

/// Datagrams have no end of their own: it is their socket's, which tells each peer's part.
#[test]
fn datagrams_are_told_when_their_socket_is_released() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let server = || UdpSocket::bind("127.0.0.1:0").expect("bound");
    let (first, second) = (server(), server());
    let peer = |server: &UdpSocket| server.local_addr().expect("address");
    let client = server();
    let local = peer(&client);
    client.send_to(&[1; 3000], peer(&first)).expect("sent");
    client.send_to(&[1; 20], peer(&second)).expect("sent");
    // An empty answer is an answer.
    first.send_to(&[], local).expect("answered");
    let contact = watch.contact("contact", |contact| contact.peer == peer(&first));
    assert_ne!(contact.socket, 0);
    drop(client);
    let answered = flow(&mut watch, contact.socket, FlowState::Closed);
    assert_eq!((answered.peer, answered.local, answered.protocol), (peer(&first), local, Protocol::Udp));
    assert_eq!((answered.bytes_sent, answered.bytes_received, answered.bytes_elsewhere), (3000, 0, 0));
    let unanswered = flow(&mut watch, contact.socket, FlowState::Failed);
    assert_eq!((unanswered.peer, unanswered.bytes_sent), (peer(&second), 20));
    // Another socket to a peer that is known is nobody's business.
    let again = server();
    again.send_to(&[1; 3000], peer(&first)).expect("sent");
    let (other, local) = (server(), peer(&again));
    drop(again);
    let sentinel = server();
    sentinel.connect(peer(&other)).expect("connected");
    drop(sentinel);
    let contact = watch.contact("the sentinel", |contact| contact.peer == peer(&other));
    let silent = flow(&mut watch, contact.socket, FlowState::Failed);
    assert_eq!((silent.bytes_sent, silent.bytes_received), (0, 0), "connected and never used");
    let told = |event: &HostEvent| matches!(&event.kind, HostEventKind::Flow(flow) if flow.local == local);
    assert!(!watch.seen.iter().any(told), "only counted");
}
