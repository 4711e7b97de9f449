//! Address translation of a network namespace, asked for by hand over netlink: what a container platform's rules do to
//! connections on their way.
//!
//! In: two ports. Out: connections of this namespace to the one reach the other. Messages: `linux/netfilter/nf_tables.h`.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::Command;

use libc::{AF_NETLINK, NETLINK_NETFILTER, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, SOCK_RAW};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{MsgFlags, recv};

use super::program;
use super::raw::{self, Address};
use super::stage::{Outcome, Stage};

/// `NFPROTO_IPV4`.
const IPV4: u8 = 2;
/// `NFNL_SUBSYS_NFTABLES`; its messages in use here.
const TABLES: u16 = 10;
const NEW_TABLE: u16 = TABLES << 8;
const NEW_CHAIN: u16 = TABLES << 8 | 3;
const NEW_RULE: u16 = TABLES << 8 | 6;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const BEGIN: u16 = 16;
const END: u16 = 17;
/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// `NF_INET_LOCAL_OUT`, `NF_IP_PRI_NAT_DST`.
const LOCAL_OUT: i32 = 3;
const TRANSLATION: i32 = -100;

/// A connection to a port that nobody listens on, which the namespace's rules take to another.
pub(crate) fn redirected(stage: &Stage) -> Outcome {
    unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
    program::finished(Command::new("/bin/busybox").args(["ip", "link", "set", "lo", "up"]))?;
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let reached = server.local_addr()?.port();
    order(&rules(stage.port(), reached))?;
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, stage.port()))?;
    drop(server.accept()?);
    drop(client);
    Ok(())
}

/// Hands messages to the kernel, the last of which asks for an answer.
fn order(messages: &[u8]) -> Outcome {
    let kernel = raw::socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER)?;
    raw::send_to(kernel.as_fd(), messages, 0, &Address::kernel())?;
    let mut answer = [0; 512];
    recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(io::Error::from)?;
    // `struct nlmsgerr` behind the header: a negative error number, or zero.
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// A table whose one chain sends what goes to port `asked` to port `reached` of this machine.
fn rules(asked: u16, reached: u16) -> Vec<u8> {
    let port_of_packet = [number(1, 1), number(2, 2), number(3, 2), number(4, 2)].concat();
    let is_asked = [number(1, 1), number(2, 0), nested(3, &attribute(1, &asked.to_be_bytes()))].concat();
    let to_reached = [number(1, 1), nested(2, &attribute(1, &reached.to_be_bytes()))].concat();
    let expressions = [
        expression("payload", &port_of_packet),
        expression("cmp", &is_asked),
        expression("immediate", &to_reached),
        expression("redir", &number(1, 1)),
    ]
    .concat();
    let hook = [number(1, LOCAL_OUT), number(2, TRANSLATION)].concat();
    let chain = [text(1, "ways"), text(3, "out"), nested(4, &hook), text(7, "nat")].concat();
    let rule = [text(1, "ways"), text(2, "out"), nested(4, &expressions)].concat();
    [
        message(BEGIN, 0, 0, TABLES, &[]),
        message(NEW_TABLE, NLM_F_CREATE, IPV4, 0, &text(1, "ways")),
        message(NEW_CHAIN, NLM_F_CREATE, IPV4, 0, &chain),
        message(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK, IPV4, 0, &rule),
        message(END, 0, 0, TABLES, &[]),
    ]
    .concat()
}

/// `struct nlmsghdr`, `struct nfgenmsg` and attributes.
fn message(kind: u16, flags: i32, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let flags = u16::try_from(NLM_F_REQUEST | flags).unwrap_or_default();
    let head = [&kind.to_ne_bytes()[..], &flags.to_ne_bytes(), &[0; 8], &[family, 0], &resource.to_be_bytes()].concat();
    let length = u32::try_from(4 + head.len() + attributes.len()).unwrap_or_default();
    [&length.to_ne_bytes()[..], &head, attributes].concat()
}

fn expression(name: &str, data: &[u8]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, data)].concat())
}

fn nested(kind: u16, inner: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, inner)
}

fn text(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), b"\0"].concat())
}

fn number(kind: u16, number: i32) -> Vec<u8> {
    attribute(kind, &number.to_be_bytes())
}

/// `struct nlattr`, filled up to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or_default();
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
