//! Where things stand in a packet, from the network header on, as cgroup packet programs get it.

use core::arch::asm;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated;
use aya_ebpf::programs::SkBuffContext;

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
