//! The child of a self-check: does what the senses watch for and ends.
//!
//! Nothing leaves the machine: first loopback, then a network namespace of its own, where it may take port 53 and a metadata
//! endpoint's address. Where namespaces are refused (a container's seccomp profile, a host without user namespaces) those acts are
//! left out, and the exit code says so.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::netlink::Netlink;

/// Bits of the exit code: what could not be done here. 1 is a failure.
pub(super) const NO_IPV6: u8 = 2;
pub(super) const NO_SHELL: u8 = 4;
pub(super) const NO_NAMESPACE: u8 = 8;
/// All of them.
pub(super) const UNABLE: u8 = NO_IPV6 | NO_SHELL | NO_NAMESPACE;

/// Peers tried for each hook. A peer that the child happened to try in an earlier check is known and not told.
const TRIES: u16 = 3;
/// Longest wait for what the child sends to itself.
const PATIENCE: Duration = Duration::from_secs(1);
/// Its start is told with the connections that its parent serves, as that of every shell.
const SHELL: &str = "/bin/sh";
/// A metadata endpoint on every cloud.
const ENDPOINT: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const DNS_PORT: u16 = 53;

/// The name that the child of this process id asks for and greets.
pub(super) fn name(pid: u32) -> String {
    format!("child-{pid}.self-check.invalid")
}

/// Does what the senses watch for. The child's whole life. Returns its exit code.
///
/// # Errors
///
/// Loopback itself cannot be used.
pub fn act() -> io::Result<u8> {
    let mut unable = 0;
    if reach(IpAddr::V6(Ipv6Addr::LOCALHOST)).is_err() {
        unable |= NO_IPV6;
    }
    reach(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    for _ in 0..TRIES {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (served, client) = greeted(&server)?;
        if !serve_a_shell() {
            unable |= NO_SHELL;
        }
        drop((served, client));
    }
    if in_a_namespace().is_err() {
        unable |= NO_NAMESPACE;
    }
    Ok(unable)
}

/// Reaches for ports on which nobody listens, by connection and by datagram.
fn reach(loopback: IpAddr) -> io::Result<()> {
    for _ in 0..TRIES {
        let closed = TcpListener::bind((loopback, 0))?.local_addr()?;
        if TcpStream::connect_timeout(&closed, PATIENCE).is_ok() {
            continue;
        }
        let socket = UdpSocket::bind((loopback, 0))?;
        // To itself: no other program gets an unexpected datagram.
        let own: SocketAddr = socket.local_addr()?;
        socket.send_to(b"self-check", own)?;
    }
    Ok(())
}

/// A connection on which a TLS hello has been received, and its other end.
fn greeted(server: &TcpListener) -> io::Result<(TcpStream, TcpStream)> {
    let mut client = TcpStream::connect_timeout(&server.local_addr()?, PATIENCE)?;
    let (served, _) = server.accept()?;
    served.set_read_timeout(Some(PATIENCE))?;
    client.write_all(&hello(&name(std::process::id())))?;
    served.peek(&mut [0])?;
    Ok((served, client))
}

fn serve_a_shell() -> bool {
    Path::new(SHELL).exists() && Command::new(SHELL).args(["-c", ":"]).stdin(Stdio::null()).status().is_ok()
}

/// What takes a network of one's own: a name server, raw sockets, a metadata endpoint.
fn in_a_namespace() -> io::Result<()> {
    // Root needs no user namespace; the agent has given up what makes it root.
    unshare(CloneFlags::CLONE_NEWNET)
        .or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET))
        .map_err(io::Error::from)?;
    let netlink = Netlink::open()?;
    netlink.link_up("lo")?;
    netlink.add_address("lo", IpAddr::V4(ENDPOINT), 32)?;
    drop(socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?);
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, DNS_PORT))?;
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    client.set_read_timeout(Some(PATIENCE))?;
    server.send_to(&answer(&name(std::process::id())), client.local_addr()?)?;
    client.recv(&mut [0; 512])?;
    ask_for_metadata()
}

fn ask_for_metadata() -> io::Result<()> {
    let endpoint = TcpListener::bind((ENDPOINT, 80))?;
    let mut client = TcpStream::connect_timeout(&endpoint.local_addr()?, PATIENCE)?;
    let (mut served, _) = endpoint.accept()?;
    client.set_read_timeout(Some(PATIENCE))?;
    served.set_read_timeout(Some(PATIENCE))?;
    client.write_all(b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: self-check\r\n\r\n")?;
    served.read_exact(&mut [0; 3])?;
    served.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
    client.read_exact(&mut [0; 12])
}

/// A TLS client's first record (RFC 8446 4.1.2): one cipher, no extension but the server's name (RFC 6066 3).
fn hello(name: &str) -> Vec<u8> {
    let name = sized(2, name.as_bytes());
    let names = sized(2, &[&[0], &name[..]].concat());
    let extensions = sized(2, &[&[0, 0], &sized(2, &names)[..]].concat());
    let body = [&[3, 3][..], &[0; 32], &[0], &sized(2, &[0x13, 1]), &[1, 0], &extensions].concat();
    [&[22, 3, 1][..], &sized(2, &[&[1], &sized(3, &body)[..]].concat())].concat()
}

/// An answer to one question with one address, of a documentation network (RFC 1035 4).
fn answer(name: &str) -> Vec<u8> {
    let mut message = vec![0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    name.split('.').for_each(|label| message.extend(sized(1, label.as_bytes())));
    message.extend([0, 0, 1, 0, 1]);
    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 1]);
    message
}

/// Bytes behind their length, which takes `width` bytes.
fn sized(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_be_bytes();
    [length.get(length.len() - width..).unwrap_or_default(), bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::hello::server_name;

    #[test]
    fn the_hello_names_the_child() {
        assert_eq!(server_name(&hello(&name(7))), Some(name(7)));
    }

    #[test]
    fn lengths_take_their_width() {
        let check = |width: usize, expected: &[u8]| assert_eq!(sized(width, b"ab"), expected);
        check(1, b"\x02ab");
        check(2, b"\x00\x02ab");
        check(3, b"\x00\x00\x02ab");
    }
}
