//! Every way to use datagrams once a peer is reached: what came of it, and how much went over. The peers are sockets of the
//! performer's own, on loopback.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use breachline::event::{Flow, FlowState, Protocol};

use super::observer::Traces;
use super::raw;
use super::stage::{Outcome, Stage};

/// Bytes asked with and answered with.
const ASKED: u64 = 3000;
const ANSWERED: u64 = 500;
/// Bytes of a QUIC Initial packet (RFC 9000 14.1: at least 1200).
const QUIC_INITIAL_BYTES: u64 = 1200;
/// The web server of the QUIC ways: its port is fixed, so its address is theirs alone.
const WEB_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 4, 4, 3)), 443);
/// Another one for the connected client.
const OTHER_WEB_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 4, 4, 4)), 443);
/// Longest wait for a datagram on loopback.
const PATIENCE: Duration = Duration::from_secs(10);
/// Peers of the way that has more than are told apart, and bytes to each.
const PEERS: u8 = 6;
const MANY: u64 = 70;
/// `NOP` four times over: an IPv4 header with options (RFC 791 3.1).
const NO_OPERATIONS: i32 = 0x0101_0101;

/// A connected socket, asked and answered.
pub(crate) fn connected(stage: &Stage) -> Outcome {
    let server = served(peer(stage))?;
    let client = client()?;
    client.connect(server.local_addr()?)?;
    client.send(&bytes(ASKED))?;
    answer(&server, ANSWERED)?;
    taken(&client)
}

/// An unconnected one.
pub(crate) fn unconnected(stage: &Stage) -> Outcome {
    let server = served(peer(stage))?;
    exchange(&client()?, &server, ASKED, ANSWERED)
}

/// Over IPv6.
pub(crate) fn version_6(stage: &Stage) -> Outcome {
    let server = served((Ipv6Addr::LOCALHOST, stage.port()).into())?;
    let client = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))?;
    client.set_read_timeout(Some(PATIENCE))?;
    exchange(&client, &server, ASKED, ANSWERED)
}

/// Over an IPv6 socket with a v4-mapped address.
pub(crate) fn mapped(stage: &Stage) -> Outcome {
    let server = served(peer(stage))?;
    let client = UdpSocket::from(raw::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?);
    client.set_read_timeout(Some(PATIENCE))?;
    client.send_to(&bytes(ASKED), SocketAddr::new(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()), stage.port()))?;
    answer(&server, ANSWERED)?;
    taken(&client)
}

/// With options in each IPv4 header, which any process may set.
pub(crate) fn with_options(stage: &Stage) -> Outcome {
    let server = served(peer(stage))?;
    let client = client()?;
    raw::set_option(client.as_fd(), libc::IPPROTO_IP, libc::IP_OPTIONS, NO_OPERATIONS)?;
    exchange(&client, &server, ASKED, ANSWERED)
}

/// Many datagrams handed over as one, which the kernel takes apart (`UDP_SEGMENT`).
pub(crate) fn segmented(stage: &Stage) -> Outcome {
    let server = served(peer(stage))?;
    let client = client()?;
    raw::set_option(client.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 1000)?;
    client.send_to(&bytes(ASKED), server.local_addr()?)?;
    answer(&server, ANSWERED)?;
    taken(&client)
}

/// What QUIC looks like from outside: a large first datagram to port 443 on an unconnected socket, answered by one as large.
pub(crate) fn quic(_: &Stage) -> Outcome {
    exchange(&client()?, &served(WEB_SERVER)?, QUIC_INITIAL_BYTES, QUIC_INITIAL_BYTES)
}

/// The same on a connected socket, as most clients have it.
pub(crate) fn quic_connected(_: &Stage) -> Outcome {
    let server = served(OTHER_WEB_SERVER)?;
    let client = client()?;
    client.connect(OTHER_WEB_SERVER)?;
    client.send(&bytes(QUIC_INITIAL_BYTES))?;
    answer(&server, QUIC_INITIAL_BYTES)?;
    taken(&client)
}

/// Sent to somebody who takes it and says nothing.
pub(crate) fn unanswered(stage: &Stage) -> Outcome {
    let server = served(peer(stage))?;
    client()?.send_to(&bytes(ASKED), server.local_addr()?)?;
    taken(&server)
}

/// Sent to a port that nobody listens on, by a socket that is connected to it and asks no further.
pub(crate) fn refused(stage: &Stage) -> Outcome {
    let client = client()?;
    client.connect(peer(stage))?;
    client.send(&bytes(ASKED)).map(drop)
}

/// One socket, two peers: the first is a decoy.
pub(crate) fn second_peer(stage: &Stage) -> Outcome {
    let decoy = served((Ipv4Addr::new(127, 0, 0, 2), stage.port()).into())?;
    let server = served(peer(stage))?;
    let client = client()?;
    exchange(&client, &decoy, 1, 1)?;
    exchange(&client, &server, ASKED, ANSWERED)
}

/// The socket is left to a child that lives longer than whoever made it.
pub(crate) fn left_to_a_child(stage: &Stage) -> Outcome {
    let server = served(peer(stage))?;
    let client = client()?;
    client.send_to(&bytes(1), server.local_addr()?)?;
    let Some(child) = raw::split()? else {
        let rest = client.send_to(&bytes(ASKED - 1), peer(stage)).map(drop);
        super::lineage::leave(&rest)
    };
    drop(client);
    nix::sys::wait::waitpid(child, None).map(drop).map_err(io::Error::from)
}

/// One socket with more peers than are told apart; the way's own port is the last one's.
pub(crate) fn one_too_many(stage: &Stage) -> Outcome {
    let client = client()?;
    for last in (1..=PEERS).rev() {
        let server = served((Ipv4Addr::new(127, 0, 0, last), stage.port()).into())?;
        client.send_to(&bytes(MANY), server.local_addr()?)?;
    }
    Ok(())
}

/// A second socket to a peer that the program has had before.
pub(crate) fn known_peer(stage: &Stage) -> Outcome {
    let server = served(peer(stage))?;
    exchange(&client()?, &server, 1, 1)?;
    exchange(&client()?, &server, ASKED, ANSWERED)
}

/// What was asked and answered is told to the byte.
pub(crate) fn all_told(traces: &Traces<'_>) -> bool {
    traces.ended("127.0.0.1", whole)
}

/// The same over IPv6.
pub(crate) fn all_told_v6(traces: &Traces<'_>) -> bool {
    traces.ended("::1", whole)
}

/// What went to the web server and came from it.
pub(crate) fn quic_told(traces: &Traces<'_>) -> bool {
    traces.ended_with(WEB_SERVER, as_much_back)
}

/// The same of the connected client.
pub(crate) fn quic_connected_told(traces: &Traces<'_>) -> bool {
    traces.ended_with(OTHER_WEB_SERVER, as_much_back)
}

/// What was sent in vain, and that it was.
pub(crate) fn told_unanswered(traces: &Traces<'_>) -> bool {
    traces.ended("127.0.0.1", |flow| udp(flow, FlowState::Failed, ASKED, 0))
}

/// The same, and that nobody listens there.
pub(crate) fn told_refused(traces: &Traces<'_>) -> bool {
    traces.ended("127.0.0.1", |flow| udp(flow, FlowState::Refused, ASKED, 0))
}

/// Each of two peers with its own.
pub(crate) fn told_apart(traces: &Traces<'_>) -> bool {
    traces.ended("127.0.0.2", |flow| udp(flow, FlowState::Closed, 1, 1)) && all_told(traces)
}

/// The peer that is one too many, with an end of its own.
pub(crate) fn last_one_told(traces: &Traces<'_>) -> bool {
    traces.ended("127.0.0.1", |flow| flow.bytes_sent == MANY)
}

/// That the socket of the others exchanged more than is told of them.
pub(crate) fn more_is_told(traces: &Traces<'_>) -> bool {
    traces.ended("127.0.0.6", |flow| udp(flow, FlowState::Failed, MANY, 0) && flow.bytes_elsewhere == 2 * MANY)
}

/// What the first socket had, which was told.
pub(crate) fn first_one_told(traces: &Traces<'_>) -> bool {
    traces.ended("127.0.0.1", |flow| udp(flow, FlowState::Closed, 1, 1))
}

fn whole(flow: &Flow) -> bool {
    udp(flow, FlowState::Closed, ASKED, ANSWERED)
}

fn as_much_back(flow: &Flow) -> bool {
    udp(flow, FlowState::Closed, QUIC_INITIAL_BYTES, QUIC_INITIAL_BYTES)
}

fn udp(flow: &Flow, state: FlowState, sent: u64, received: u64) -> bool {
    flow.protocol == Protocol::Udp && flow.state == state && (flow.bytes_sent, flow.bytes_received) == (sent, received)
}

fn peer(stage: &Stage) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, stage.port()).into()
}

/// Somebody at this address.
fn served(address: SocketAddr) -> io::Result<UdpSocket> {
    let server = UdpSocket::bind(address)?;
    server.set_read_timeout(Some(PATIENCE))?;
    Ok(server)
}

fn client() -> io::Result<UdpSocket> {
    served((Ipv4Addr::UNSPECIFIED, 0).into())
}

fn bytes(count: u64) -> Vec<u8> {
    vec![7; usize::try_from(count).unwrap_or_default()]
}

fn exchange(client: &UdpSocket, server: &UdpSocket, asked: u64, answered: u64) -> Outcome {
    client.send_to(&bytes(asked), server.local_addr()?)?;
    answer(server, answered)?;
    taken(client)
}

/// Whoever asked is answered.
fn answer(server: &UdpSocket, count: u64) -> Outcome {
    let (_, whom) = server.recv_from(&mut [0; 4096])?;
    server.send_to(&bytes(count), whom).map(drop)
}

fn taken(socket: &UdpSocket) -> Outcome {
    socket.recv(&mut [0; 4096]).map(drop)
}
