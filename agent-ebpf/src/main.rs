//! The kernel half: BPF programs that see programs start and peers being reached for, and hand records over.
//!
//! Comes in: tracepoints and cgroup socket-address hooks. Goes out: the records of `breachline-abi`, through two rings.
//! Never: decides what is an attack, changes or refuses anything (every cgroup program returns "proceed" on every
//! path).
#![no_std]
#![no_main]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a map's value by itself would be copied to the stack, which has 512 bytes"
)]
// For single instructions in `memory`, `packet` and `emit`; their operands are sizes of types.
#![feature(asm_experimental_arch)]

mod contact;
mod datagrams;
mod emit;
mod exchange;
mod filter;
mod flow;
mod hello;
mod known;
mod lineage;
mod log;
mod maps;
mod memory;
mod names;
mod noted;
mod packet;
mod path;
mod probes {
    mod connect;
    mod egress;
    mod exec;
    mod floor;
    mod ingress;
    mod lineage;
    mod raw_socket;
    mod released;
    mod socket;
}
mod serving;
mod stdio;
mod taint;
mod task;
mod watch;

/// The kernel offers some helpers (`bpf_probe_read_kernel` among them) to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
