//! Where things stand in a packet, from the network header on, as cgroup packet programs get it.

use core::arch::asm;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated;
use aya_ebpf::programs::SkBuffContext;
use breachline_abi::control::EndpointKey;

use crate::contact;

/// IP protocol numbers.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
/// First byte of an IPv4 header without options. With options a packet is not looked at: nothing that is looked for here
/// has any.
const IPV4_PLAIN: u8 = 0x45;
/// Bytes of an IPv4 header without options, and of an IPv6 header.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// Offsets of the protocol (RFC 791 3.1) and of the next header (RFC 8200 3).
const IPV4_PROTOCOL: usize = 9;
const IPV6_NEXT_HEADER: usize = 6;
/// Offset of the TCP header's data offset (RFC 9293 3.1).
const TCP_DATA_OFFSET: usize = 12;
/// Offsets of the addresses (RFC 791 3.1, RFC 8200 3) and of UDP's ports (RFC 768).
const IPV4_SOURCE: usize = 12;
const IPV4_DESTINATION: usize = 16;
const IPV6_SOURCE: usize = 8;
const IPV6_DESTINATION: usize = 24;
const UDP_SOURCE: usize = 0;
const UDP_DESTINATION: usize = 2;
/// Bytes of a UDP header.
const UDP_HEADER: u32 = 8;

/// What the first bytes of a packet tell.
#[derive(Copy, Clone)]
pub struct Transport {
    /// Where the transport header begins.
    pub offset: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port, network byte order.
    pub source_port: u16,
}

/// Reads a packet's transport. By direct access, a handful of instructions: this runs for every packet received. The kernel
/// has pulled the headers together before it asks.
#[inline(always)]
pub fn transport(context: &SkBuffContext) -> Option<Transport> {
    let skb: *mut __sk_buff = context.skb.skb;
    // SAFETY: fields of the context, which the verifier turns into pointers.
    let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    if data + IPV4_HEADER + 2 > end {
        return None;
    }
    // SAFETY: the packet's bounds were checked, and are again by the verifier.
    unsafe {
        if byte(data) == IPV4_PLAIN {
            let source_port = port(data + IPV4_HEADER);
            return Some(Transport { offset: IPV4_HEADER as u32, protocol: byte(data + IPV4_PROTOCOL), source_port });
        }
        if byte(data) >> 4 != 6 || data + IPV6_HEADER + 2 > end {
            return None;
        }
        let source_port = port(data + IPV6_HEADER);
        Some(Transport { offset: IPV6_HEADER as u32, protocol: byte(data + IPV6_NEXT_HEADER), source_port })
    }
}

/// A UDP datagram.
#[derive(Copy, Clone)]
pub struct Datagram {
    /// Where its header begins.
    offset: u32,
    /// It came in an IPv6 packet.
    v6: bool,
}

/// The datagram that a packet is, whatever options its IPv4 header has: those any process may set, and would hide what it
/// sends with them. Headers between IPv6's and UDP's take a privilege (`CAP_NET_RAW`).
#[inline(always)]
pub fn datagram(context: &SkBuffContext) -> Option<Datagram> {
    let skb: *mut __sk_buff = context.skb.skb;
    // SAFETY: fields of the context, which the verifier turns into pointers.
    let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    if data + IPV4_HEADER > end {
        return None;
    }
    // SAFETY: the packet's bounds were checked, and are again by the verifier; the shorter header has both protocols' bytes.
    unsafe {
        match byte(data) >> 4 {
            4 if byte(data + IPV4_PROTOCOL) == UDP => {
                Some(Datagram { offset: u32::from(byte(data) & 0x0f) * 4, v6: false })
            }
            6 if byte(data + IPV6_NEXT_HEADER) == UDP => Some(Datagram { offset: IPV6_HEADER as u32, v6: true }),
            _ => None,
        }
    }
}

impl Datagram {
    /// Bytes of its payload; of several that the kernel sends or hands up as one (segmentation offload), of all of them.
    #[inline(always)]
    pub fn payload(&self, context: &SkBuffContext) -> u64 {
        u64::from(context.len().saturating_sub(udp_payload(self.offset)))
    }

    /// Who sent it.
    #[inline(always)]
    pub fn source(&self, context: &SkBuffContext) -> Option<EndpointKey> {
        self.end(context, IPV4_SOURCE, IPV6_SOURCE, UDP_SOURCE)
    }

    /// Whom it is for.
    #[inline(always)]
    pub fn destination(&self, context: &SkBuffContext) -> Option<EndpointKey> {
        self.end(context, IPV4_DESTINATION, IPV6_DESTINATION, UDP_DESTINATION)
    }

    /// An end in the form that contacts have.
    #[inline(always)]
    fn end(&self, context: &SkBuffContext, v4: usize, v6: usize, port: usize) -> Option<EndpointKey> {
        let port = context.load(self.offset as usize + port).ok()?;
        if self.v6 {
            Some(contact::v6(context.load(v6).ok()?, port).0)
        } else {
            Some(contact::v4(context.load(v4).ok()?, port))
        }
    }
}

#[inline(always)]
unsafe fn byte(at: usize) -> u8 {
    // SAFETY: the caller checked the bounds.
    unsafe { (at as *const u8).read() }
}

#[inline(always)]
unsafe fn port(at: usize) -> u16 {
    // SAFETY: the caller checked the bounds.
    unsafe { (at as *const u16).read_unaligned() }
}

/// Where a TCP payload begins.
#[inline(always)]
pub fn tcp_payload(context: &SkBuffContext, transport: u32) -> Option<u32> {
    let data_offset: u8 = context.load(transport as usize + TCP_DATA_OFFSET).ok()?;
    Some(transport + u32::from(data_offset >> 4) * 4)
}

/// Where a UDP payload begins.
#[inline(always)]
pub const fn udp_payload(transport: u32) -> u32 {
    transport + UDP_HEADER
}

/// Copies `length` bytes from `from` of the packet on to position `at` of the `2 * ROOM` bytes at `to`; whether that
/// succeeded. `ROOM` is a power of two; `at` must be below it, `length` from 1 up to and with it: others wrap.
///
/// The bounds are machine instructions right before the call. As Rust they would be taken apart again by the compiler, and
/// verifiers before Linux 6.4 do not find their way back to them.
///
/// # Safety
///
/// `2 * ROOM` bytes at `to` must be writable.
#[inline(always)]
pub unsafe fn copy<const ROOM: usize>(context: &SkBuffContext, from: u32, to: *mut u8, at: u32, length: u32) -> bool {
    const { assert!(ROOM.is_power_of_two() && ROOM <= 1 << 16) };
    let (mut at, mut length) = (u64::from(at), u64::from(length));
    // SAFETY: arithmetic on the two numbers. The caller vouches for the place.
    unsafe {
        asm!(
            "{at} &= {mask}",
            "{length} += -1",
            "{length} &= {mask}",
            "{length} += 1",
            at = inout(reg) at,
            length = inout(reg) length,
            mask = const ROOM - 1,
        );
        generated::bpf_skb_load_bytes(context.skb.skb.cast(), from, to.add(at as usize).cast(), length as u32) == 0
    }
}
