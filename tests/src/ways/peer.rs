//! Every way to reach a peer. The peer is a port of loopback on which nobody listens: that the reach is refused is no
//! matter, that it is seen is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use libc::{
    AF_INET, AF_INET6, AF_PACKET, AF_VSOCK, IPPROTO_ICMP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDPLITE, MSG_FASTOPEN,
    SOCK_DGRAM, SOCK_NONBLOCK, SOCK_RAW, SOCK_STREAM, TCP_FASTOPEN_CONNECT, TCP_REPAIR, VMADDR_CID_ANY,
};

use super::raw::{self, Address};
use super::stage::{Outcome, Stage};
use super::uring::Ring;
use super::{elf32, lineage, program};

/// `IPPROTO_MPTCP`.
const MPTCP: i32 = 262;
/// `ETH_P_IP`.
const ETHERTYPE_IP: u16 = 0x0800;
/// Bytes of a QUIC Initial packet (RFC 9000 14.1: at least 1200).
const QUIC_INITIAL_BYTES: usize = 1200;

/// `connect`.
pub(crate) fn connect(stage: &Stage) -> Outcome {
    refused(TcpStream::connect((Ipv4Addr::LOCALHOST, stage.port())))
}

/// IPv6.
pub(crate) fn connect_v6(stage: &Stage) -> Outcome {
    refused(TcpStream::connect((Ipv6Addr::LOCALHOST, stage.port())))
}

/// An IPv6 socket and a v4-mapped address.
pub(crate) fn connect_mapped(stage: &Stage) -> Outcome {
    refused(TcpStream::connect(SocketAddr::new(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()), stage.port())))
}

/// A socket that does not block.
pub(crate) fn connect_without_waiting(stage: &Stage) -> Outcome {
    let socket = tcp(SOCK_NONBLOCK, IPPROTO_TCP)?;
    refused(raw::connect(socket.as_fd(), &loopback(stage)))
}

/// TCP fast open by `sendto(MSG_FASTOPEN)`: connects without `connect`.
pub(crate) fn fast_open(stage: &Stage) -> Outcome {
    let socket = tcp(0, IPPROTO_TCP)?;
    refused(raw::send_to(socket.as_fd(), b"x", MSG_FASTOPEN, &loopback(stage)))
}

/// TCP fast open by `TCP_FASTOPEN_CONNECT`: `connect` sends nothing where a cookie is known.
pub(crate) fn fast_open_connect(stage: &Stage) -> Outcome {
    let socket = tcp(0, IPPROTO_TCP)?;
    raw::set_option(socket.as_fd(), IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)?;
    refused(raw::connect(socket.as_fd(), &loopback(stage)))
}

/// Multipath TCP.
pub(crate) fn multipath(stage: &Stage) -> Outcome {
    let socket = tcp(0, MPTCP)?;
    refused(raw::connect(socket.as_fd(), &loopback(stage)))
}

/// A socket in repair mode: established by decree, without a packet.
pub(crate) fn repair(stage: &Stage) -> Outcome {
    let socket = tcp(0, IPPROTO_TCP)?;
    raw::set_option(socket.as_fd(), IPPROTO_TCP, TCP_REPAIR, 1)?;
    raw::connect(socket.as_fd(), &loopback(stage))
}

/// io_uring's own connect.
pub(crate) fn uring(stage: &Stage) -> Outcome {
    let socket = tcp(0, IPPROTO_TCP)?;
    answered(Ring::new(None)?.connect(socket.as_raw_fd(), &loopback(stage))?)
}

/// The same, submitted by a kernel thread: the service makes no system call at all for it.
pub(crate) fn uring_polled(stage: &Stage) -> Outcome {
    let socket = tcp(0, IPPROTO_TCP)?;
    answered(Ring::new(Some(socket.as_fd()))?.connect(socket.as_raw_fd(), &loopback(stage))?)
}

/// The socket too is made by io_uring (Linux 5.19).
pub(crate) fn uring_socket(stage: &Stage) -> Outcome {
    let mut ring = Ring::new(None)?;
    // Before 5.19 the operation is unknown, which io_uring calls an invalid argument.
    let unknown = |error: io::Error| match error.raw_os_error() {
        Some(libc::EINVAL) => io::Error::from_raw_os_error(libc::ENOSYS),
        _ => error,
    };
    let socket = ring.socket(AF_INET, u64::from(SOCK_STREAM.unsigned_abs()), 0).map_err(unknown)?;
    answered(ring.connect(socket.as_raw_fd(), &loopback(stage))?)
}

/// A datagram sent by io_uring.
pub(crate) fn uring_datagram(stage: &Stage) -> Outcome {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    answered(Ring::new(None)?.send_message(socket.as_raw_fd(), b"x", &loopback(stage))?)
}

/// `connect` through the 32-bit table.
pub(crate) fn by_32_bit_call(stage: &Stage) -> Outcome {
    let small = stage.file("small", &elf32::that_connects(Ipv4Addr::LOCALHOST, stage.port()))?;
    program::run(&small, &["small"])
}

/// `connect` through `socketcall`.
pub(crate) fn by_multiplexer(stage: &Stage) -> Outcome {
    let small = stage.file("small", &elf32::that_calls_the_multiplexer(Ipv4Addr::LOCALHOST, stage.port()))?;
    program::run(&small, &["small"])
}

/// A connected UDP socket.
pub(crate) fn udp_connected(stage: &Stage) -> Outcome {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, stage.port()))?;
    socket.send(b"x").map(drop)
}

/// `sendto` on an unconnected one.
pub(crate) fn udp_sendto(stage: &Stage) -> Outcome {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.send_to(b"x", (Ipv4Addr::LOCALHOST, stage.port())).map(drop)
}

/// The same over IPv6.
pub(crate) fn udp_sendto_v6(stage: &Stage) -> Outcome {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))?.send_to(b"x", (Ipv6Addr::LOCALHOST, stage.port())).map(drop)
}

/// The same with a v4-mapped address.
pub(crate) fn udp_sendto_mapped(stage: &Stage) -> Outcome {
    let peer = SocketAddr::new(IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()), stage.port());
    let socket = raw::socket(AF_INET6, SOCK_DGRAM, 0)?;
    UdpSocket::from(socket).send_to(b"x", peer).map(drop)
}

/// `sendmmsg`.
pub(crate) fn udp_sendmmsg(stage: &Stage) -> Outcome {
    raw::send_many(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.as_fd(), b"x", &loopback(stage))
}

/// A socket connected to one peer sends to another.
pub(crate) fn udp_elsewhere(stage: &Stage) -> Outcome {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(stage.listener())?;
    socket.send_to(b"x", (Ipv4Addr::LOCALHOST, stage.port())).map(drop)
}

/// What QUIC begins with: one large datagram with a long header (RFC 9000 17.2.2) on an unconnected socket.
pub(crate) fn quic(stage: &Stage) -> Outcome {
    let mut initial = vec![0; QUIC_INITIAL_BYTES];
    initial[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.send_to(&initial, (Ipv4Addr::LOCALHOST, stage.port())).map(drop)
}

/// The same on a connected socket, as most clients have it.
pub(crate) fn quic_connected(stage: &Stage) -> Outcome {
    let mut initial = vec![0; QUIC_INITIAL_BYTES];
    initial[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, stage.port()))?;
    socket.send(&initial).map(drop)
}

/// Datagrams of ICMP without a raw socket, which the kernel lets some groups have.
pub(crate) fn icmp_datagram(stage: &Stage) -> Outcome {
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0")?;
    let socket = raw::socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)?;
    // An echo request (RFC 792) with a payload; the kernel fills in identifier and sum.
    raw::send_to(socket.as_fd(), b"\x08\0\0\0\0\0\0\x01stolen", 0, &Address::v4(Ipv4Addr::LOCALHOST, stage.port()))
}

/// SCTP.
pub(crate) fn sctp(stage: &Stage) -> Outcome {
    let socket = raw::socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP)?;
    refused(raw::connect(socket.as_fd(), &loopback(stage)))
}

/// A socket to another program of this host, which may then do what it is asked.
pub(crate) fn unix_socket(stage: &Stage) -> Outcome {
    let path = stage.folder().join("daemon.sock");
    let daemon = std::os::unix::net::UnixListener::bind(&path)?;
    let mut client = std::os::unix::net::UnixStream::connect(&path)?;
    drop(daemon);
    io::Write::write_all(&mut client, b"start a container for me").or(Ok(()))
}

/// A socket of the family that reaches the hypervisor. It waits for somebody: to connect it would leave this machine.
pub(crate) fn vsock(stage: &Stage) -> Outcome {
    let socket = raw::socket(AF_VSOCK, SOCK_STREAM, 0)?;
    raw::bind(socket.as_fd(), &Address::vsock(VMADDR_CID_ANY, u32::from(stage.port())))?;
    nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::new(1)?).map_err(io::Error::from)
}

/// A client that is answered by starting a shell.
pub(crate) fn served(stage: &Stage) -> Outcome {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, stage.port()))?;
    let Some(client) = raw::split()? else {
        lineage::leave(&TcpStream::connect(server.local_addr()?).and_then(|mut asking| {
            io::Write::write_all(&mut asking, b"GET /?cmd=id HTTP/1.1\r\n\r\n")?;
            io::Read::read_to_end(&mut asking, &mut Vec::new()).map(drop)
        }))
    };
    let (mut asked, _) = server.accept()?;
    io::Read::read(&mut asked, &mut [0; 64])?;
    let outcome = program::finished(std::process::Command::new("/bin/sh").args(["-c", &stage.marked_command()]));
    drop(asked);
    nix::sys::wait::waitpid(client, None).map_err(io::Error::from)?;
    outcome
}

/// A connection whose first bytes name its server.
pub(crate) fn tls(stage: &Stage) -> Outcome {
    greeted(stage, &[&hello(TLS_SERVER)])
}

/// The same with the name in a second piece.
pub(crate) fn tls_in_pieces(stage: &Stage) -> Outcome {
    let hello = hello(TLS_SERVER);
    greeted(stage, &[&hello[..60], &hello[60..]])
}

/// Listens on the way's own port and sends these pieces to it, each read before the next is sent.
fn greeted(stage: &Stage, pieces: &[&[u8]]) -> Outcome {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, stage.port()))?;
    let mut client = TcpStream::connect(server.local_addr()?)?;
    client.set_nodelay(true)?;
    let (mut served, _) = server.accept()?;
    for piece in pieces {
        io::Write::write_all(&mut client, piece)?;
        io::Read::read_exact(&mut served, &mut vec![0; piece.len()])?;
    }
    Ok(())
}

/// The server that is asked for.
pub(crate) const TLS_SERVER: &str = "x7.evil.example";

/// A TLS client's first record (RFC 8446 4.1.2) with one extension, the server's name (RFC 6066 3).
fn hello(server: &str) -> Vec<u8> {
    let sized = |width: usize, bytes: &[u8]| [&bytes.len().to_be_bytes()[size_of::<usize>() - width..], bytes].concat();
    let name = [&[0][..], &sized(2, server.as_bytes())].concat();
    let names = [&[0, 0][..], &sized(2, &sized(2, &name))].concat();
    let body = [&[3, 3][..], &[9; 32], &[0, 0, 2, 0x13, 1, 1, 0], &sized(2, &names)].concat();
    [&[22, 3, 1][..], &sized(2, &[&[1][..], &sized(3, &body)].concat())].concat()
}

/// UDP-Lite (RFC 3828), which Linux 7.1 gave up.
pub(crate) fn udp_lite(stage: &Stage) -> Outcome {
    let socket = raw::socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE)?;
    raw::send_to(socket.as_fd(), b"x", 0, &loopback(stage))
}

/// A TCP segment made by hand and sent through a raw socket.
pub(crate) fn raw_socket(stage: &Stage) -> Outcome {
    let socket = raw::socket(AF_INET, SOCK_RAW, IPPROTO_TCP)?;
    raw::send_to(socket.as_fd(), &syn(stage.port()), 0, &Address::v4(Ipv4Addr::LOCALHOST, 0))
}

/// A whole datagram made by hand and handed to the interface.
pub(crate) fn packet_socket(stage: &Stage) -> Outcome {
    let protocol = i32::from(ETHERTYPE_IP.to_be());
    let socket = raw::socket(AF_PACKET, SOCK_DGRAM, protocol)?;
    let loopback = nix::net::if_::if_nametoindex("lo").map_err(io::Error::from)?;
    let packet = [ip_header(20 + 20).as_slice(), &syn(stage.port())].concat();
    raw::send_to(socket.as_fd(), &packet, 0, &Address::link(ETHERTYPE_IP, loopback))
}

/// A TCP header (RFC 9293 3.1) with SYN set; nobody checks its sum on loopback before it is counted as sent.
fn syn(port: u16) -> Vec<u8> {
    let mut segment = [&1024_u16.to_be_bytes()[..], &port.to_be_bytes()].concat();
    segment.extend([0; 8]);
    segment.extend([5 << 4, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

/// An IPv4 header (RFC 791 3.1) from loopback to loopback, with its sum.
fn ip_header(length: u16) -> Vec<u8> {
    let mut header = [&[0x45, 0][..], &length.to_be_bytes(), &[0, 0, 0, 0, 64, 6, 0, 0]].concat();
    header.extend(Ipv4Addr::LOCALHOST.octets());
    header.extend(Ipv4Addr::LOCALHOST.octets());
    let mut sum: u32 = header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or_default();
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

fn tcp(flags: i32, protocol: i32) -> io::Result<OwnedFd> {
    raw::socket(AF_INET, SOCK_STREAM | flags, protocol)
}

fn loopback(stage: &Stage) -> Address {
    Address::v4(Ipv4Addr::LOCALHOST, stage.port())
}

/// What a connection to a closed port must come to.
fn refused<T>(outcome: io::Result<T>) -> Outcome {
    match outcome {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::EINPROGRESS)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The same as io_uring tells it: a negative error number.
fn answered(result: i32) -> Outcome {
    if result >= 0 { Ok(()) } else { refused::<()>(Err(io::Error::from_raw_os_error(-result))) }
}
