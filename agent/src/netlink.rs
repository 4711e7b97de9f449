//! The few rtnetlink requests that a network namespace of one's own needs: bring a link up, make a veth pair, add an address, add a default route.
//!
//! In: names and addresses. Out: the kernel's yes or its error. It speaks to the network namespace that the calling
//! thread is in when [`Netlink::open`] is called, and never reads state back. Written out here because `ip` may be absent on
//! a fresh machine and in a container. Numbers are those of the kernel's uapi headers `linux/netlink.h`, `linux/rtnetlink.h`,
//! `linux/if_link.h`, `linux/if_addr.h` and `linux/veth.h`; they are kernel ABI.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;

const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Without it an IPv6 address is tentative, and unusable, for about a second.
const IFA_F_NODAD: u8 = 2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;
const RT_TABLE_LOCAL: u8 = 255;
const RT_SCOPE_HOST: u8 = 254;
const RTN_LOCAL: u8 = 2;

/// `AF_INET` and `AF_INET6` of `linux/socket.h`.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `struct nlmsghdr`: length, type, flags, sequence, port.
const HEADER_BYTES: usize = 16;
/// An answer is an error number and the request's header back; longer ones are cut, which costs nothing.
const ANSWER_BYTES: usize = 4096;

/// A socket that asks the kernel to change one network namespace.
pub(crate) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// The kernel's own.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        Ok(Self { socket })
    }

    /// `ip link set NAME up`.
    pub(crate) fn link_up(&self, name: &str) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, 0);
        message.link(index_of(name)?, IFF_UP);
        self.ask(message)
    }

    /// `ip link add NAME type veth peer name PEER netns NAMESPACE`.
    pub(crate) fn add_veth(&self, name: &str, peer: &str, peer_namespace: BorrowedFd<'_>) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
        message.link(0, 0);
        message.text(IFLA_IFNAME, name);
        message.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |far_end| {
                    far_end.link(0, 0);
                    far_end.text(IFLA_IFNAME, peer);
                    far_end.attribute(IFLA_NET_NS_FD, &peer_namespace.as_raw_fd().to_ne_bytes());
                });
            });
        });
        self.ask(message)
    }

    /// `ip address add ADDRESS/PREFIX dev NAME nodad`.
    pub(crate) fn add_address(&self, name: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
        let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
        message.bytes(&[family(address), prefix, flags, RT_SCOPE_UNIVERSE]);
        message.bytes(&index_of(name)?.to_ne_bytes());
        message.address(IFA_LOCAL, address);
        message.address(IFA_ADDRESS, address);
        self.ask(message)
    }

    /// `ip route add default via GATEWAY dev NAME`.
    pub(crate) fn add_default_route(&self, name: &str, gateway: IpAddr) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
        // struct rtmsg: family, destination and source prefix lengths, tos, table, protocol, scope, type, flags.
        message.bytes(&[family(gateway), 0, 0, 0]);
        message.bytes(&[RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST]);
        message.bytes(&0u32.to_ne_bytes());
        message.address(RTA_GATEWAY, gateway);
        message.attribute(RTA_OIF, &index_of(name)?.to_ne_bytes());
        self.ask(message)
    }

    /// `ip route add local NETWORK/PREFIX dev NAME`: the namespace answers for the whole network without owning one address of it
    /// (AnyIP). IPv4.
    pub(crate) fn add_local_network(&self, name: &str, network: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
        message.bytes(&[AF_INET, prefix, 0, 0]);
        message.bytes(&[RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL]);
        message.bytes(&0u32.to_ne_bytes());
        message.address(RTA_DST, IpAddr::V4(network));
        message.attribute(RTA_OIF, &index_of(name)?.to_ne_bytes());
        self.ask(message)
    }

    fn ask(&self, message: Message) -> io::Result<()> {
        send(self.socket.as_raw_fd(), &message.finish(), MsgFlags::empty())?;
        let mut answer = [0; ANSWER_BYTES];
        let length = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        outcome(answer.get(..length).unwrap_or_default())
    }
}

/// What the kernel's acknowledgement says: `NLMSG_ERROR` with a negated errno, 0 for success.
fn outcome(answer: &[u8]) -> io::Result<()> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "netlink: the kernel's answer is no acknowledgement");
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let error = answer.get(HEADER_BYTES..HEADER_BYTES + 4).and_then(|bytes| bytes.try_into().ok());
    match (kind, error.map(i32::from_ne_bytes)) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        _ => Err(malformed()),
    }
}

fn index_of(name: &str) -> io::Result<u32> {
    Ok(if_nametoindex(name)?)
}

const fn family(address: IpAddr) -> u8 {
    if address.is_ipv6() { AF_INET6 } else { AF_INET }
}

/// One request under construction; everything in it is padded to four bytes.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut message = Self(vec![0; 4]);
        message.bytes(&kind.to_ne_bytes());
        message.bytes(&(flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        message.bytes(&[0; 8]);
        message
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// `struct ifinfomsg`: family, pad, type, index, flags, change mask.
    fn link(&mut self, index: u32, flags: u32) {
        self.bytes(&[0; 4]);
        self.bytes(&index.to_ne_bytes());
        self.bytes(&flags.to_ne_bytes());
        self.bytes(&flags.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |message| message.bytes(value));
    }

    /// A string attribute, with the NUL the kernel wants.
    fn text(&mut self, kind: u16, value: &str) {
        self.nest(kind, |message| {
            message.bytes(value.as_bytes());
            message.bytes(&[0]);
        });
    }

    fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
    }

    /// An attribute with whatever `fill` writes as its value: length (without padding), type, value, padding.
    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.bytes(&[0; 2]);
        self.bytes(&kind.to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0.splice(start..start + 2, length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.splice(..4, length.to_ne_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_carry_their_length_and_are_padded() {
        let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE);
        message.text(IFLA_IFNAME, "eth0");
        let bytes = message.finish();
        assert_eq!(bytes.len(), HEADER_BYTES + 12);
        assert_eq!(bytes[..4], 28u32.to_ne_bytes());
        assert_eq!(bytes[4..6], RTM_NEWLINK.to_ne_bytes());
        assert_eq!(bytes[6..8], 0x405u16.to_ne_bytes());
        assert_eq!(bytes[16..18], 9u16.to_ne_bytes());
        assert_eq!(&bytes[20..28], b"eth0\0\0\0\0");
    }

    #[test]
    fn nested_lengths_include_what_lies_within() {
        let mut message = Message(Vec::new());
        message.nest(IFLA_LINKINFO, |info| info.attribute(IFLA_INFO_KIND, b"abc"));
        assert_eq!(message.0[..2], 12u16.to_ne_bytes());
        assert_eq!(message.0[4..6], 7u16.to_ne_bytes());
        assert_eq!(message.0.len(), 12);
    }

    #[test]
    fn an_answer_is_success_an_errno_or_nonsense() {
        let answer = |kind: u16, error: i32| {
            let mut bytes = vec![0; HEADER_BYTES];
            bytes.splice(4..6, kind.to_ne_bytes());
            bytes.extend(error.to_ne_bytes());
            bytes
        };
        assert!(outcome(&answer(NLMSG_ERROR, 0)).is_ok());
        assert_eq!(outcome(&answer(NLMSG_ERROR, -17)).expect_err("errno").raw_os_error(), Some(17));
        assert!(outcome(&answer(3, 0)).is_err());
        assert!(outcome(&[]).is_err());
    }
}
