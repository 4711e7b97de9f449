//! Sense: internet sockets being released, of which UDP sockets whose contact was told are looked at: what became of it. Every
//! other one costs a comparison. It always allows.

use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;

use crate::contact::UDP;
use crate::datagrams;
use crate::memory::Address;

/// What a cgroup socket program returns to proceed. There is nothing to refuse here.
const PROCEED: i32 = 1;

#[cgroup_sock(sock_release)]
pub fn released(context: SockContext) -> i32 {
    // SAFETY: the context is valid for the program's run; the verifier checks the field.
    let protocol = unsafe { (&raw const (*context.sock).protocol).read_volatile() };
    // Beneath what the program sees of a socket lies the kernel's own: the same address.
    if protocol == UDP
        && let Some(sock) = Address::new(context.sock.addr() as u64)
    {
        datagrams::released(sock);
    }
    PROCEED
}
