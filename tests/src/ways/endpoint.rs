//! Every way to ask a metadata endpoint. The endpoints are the service's own threads, on addresses of its namespace.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use super::raw::{self, Address};
use super::stage::{Outcome, Stage};

/// Addresses of the namespace, each of which answers on port 80.
pub(crate) const ADDRESSES: [&str; 3] = ["169.254.169.254", "169.254.170.2", "fd00:ec2::254"];
/// What is asked for.
const CREDENTIAL: &str = "GET /latest/meta-data/iam/security-credentials/shop HTTP/1.1\r\nHost: metadata\r\n\r\n";
/// IMDSv2: a session first.
const SESSION: &str =
    "PUT /latest/api/token HTTP/1.1\r\nHost: metadata\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n";
const AWS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const PATIENCE: Duration = Duration::from_secs(5);

/// IMDSv1, over IPv4.
pub(crate) fn version_1(_: &Stage) -> Outcome {
    ask(TcpStream::connect((AWS, 80))?, &[CREDENTIAL])
}

/// IMDSv2: a session, then the credential with its token.
pub(crate) fn version_2(_: &Stage) -> Outcome {
    let with_token = CREDENTIAL.replace("\r\n\r\n", "\r\nX-aws-ec2-metadata-token: hidden\r\n\r\n");
    let mut stream = TcpStream::connect((AWS, 80))?;
    exchange(&mut stream, &[SESSION])?;
    exchange(&mut stream, &[&with_token])
}

/// Over IPv6.
pub(crate) fn version_6(_: &Stage) -> Outcome {
    ask(TcpStream::connect("[fd00:ec2::254]:80")?, &[CREDENTIAL])
}

/// Over an IPv6 socket with a v4-mapped address.
pub(crate) fn mapped(_: &Stage) -> Outcome {
    ask(TcpStream::connect(SocketAddr::new(IpAddr::V6(AWS.to_ipv6_mapped()), 80))?, &[CREDENTIAL])
}

/// The endpoint of containers (ECS).
pub(crate) fn container_endpoint(_: &Stage) -> Outcome {
    let request = "GET /v2/credentials/0b1c HTTP/1.1\r\nHost: metadata\r\n\r\n";
    ask(TcpStream::connect((Ipv4Addr::new(169, 254, 170, 2), 80))?, &[request])
}

/// The request in two segments, the first of which ends within the method.
pub(crate) fn split_request(_: &Stage) -> Outcome {
    let stream = TcpStream::connect((AWS, 80))?;
    stream.set_nodelay(true)?;
    ask(stream, &[&CREDENTIAL[..2], &CREDENTIAL[2..]])
}

/// The request in two segments, the first of which ends within the path.
pub(crate) fn split_path(_: &Stage) -> Outcome {
    let stream = TcpStream::connect((AWS, 80))?;
    stream.set_nodelay(true)?;
    ask(stream, &[&CREDENTIAL[..20], &CREDENTIAL[20..]])
}

/// The request travels with the handshake.
pub(crate) fn fast_open(_: &Stage) -> Outcome {
    let socket = raw::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let stream = TcpStream::from(socket);
    raw::send_to(stream.as_fd(), CREDENTIAL.as_bytes(), libc::MSG_FASTOPEN, &Address::v4(AWS, 80))?;
    answer(&stream)
}

fn ask(mut stream: TcpStream, parts: &[&str]) -> Outcome {
    exchange(&mut stream, parts)
}

fn exchange(stream: &mut TcpStream, parts: &[&str]) -> Outcome {
    for part in parts {
        stream.write_all(part.as_bytes())?;
    }
    answer(stream)
}

/// Reads until the end of the answer's head.
fn answer(mut stream: &TcpStream) -> Outcome {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 || head.len() > 4096 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the endpoint gave no answer"));
        }
        head.extend(byte);
    }
    Ok(())
}
