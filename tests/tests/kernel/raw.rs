//! Sockets that pass the contact sense: their making is told.

use std::ffi::c_int;

use breachline::event::{HostEventKind, RawFamily, RawSocket};
use breachline::kernel::Config;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::contact::in_namespace;
use crate::watch::{Watch, key_of, root};

fn made(watch: &mut Watch, family: RawFamily) -> RawSocket {
    watch.until(&format!("{family:?} socket"), |event| match &event.kind {
        HostEventKind::RawSocket(made) if made.family == family && made.actor.process.pid == std::process::id() => {
            Some(made.clone())
        }
        _ => None,
    })
}

#[test]
fn a_socket_for_packets_made_by_hand_is_told() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let ordinary = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).expect("made");
    let _four = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Icmp).expect("made");
    let _six = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::empty(), SockProtocol::IcmpV6).expect("made");
    let _packet = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll).expect("made");
    drop(ordinary);
    let mut check = |family: RawFamily, protocol: c_int| {
        let made = made(&mut watch, family);
        assert_eq!(c_int::from(made.protocol), protocol, "{family:?}");
        assert_eq!(made.actor.process, key_of(std::process::id()));
    };
    check(RawFamily::Inet, 1);
    check(RawFamily::Inet6, 58);
    check(RawFamily::Packet, 0);
    let told = watch.seen.iter().filter(|event| match &event.kind {
        HostEventKind::RawSocket(made) => made.actor.process.pid == std::process::id(),
        _ => false,
    });
    assert_eq!(told.count(), 3, "each once, the ordinary one not");
}

/// A loop around `socket` does not fill the ring.
#[test]
fn a_loop_is_told_once() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    for _ in 0..500 {
        drop(socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Udp).expect("made"));
    }
    made(&mut watch, RawFamily::Inet);
    watch.read();
    let told = watch.seen.iter().filter(|event| match &event.kind {
        HostEventKind::RawSocket(made) => made.actor.process.pid == std::process::id() && made.protocol == 17,
        _ => false,
    });
    assert!(told.count() <= 5, "once a second, however slow this machine");
}

/// Datagrams of ICMP need no right where the kernel lets a group have them, which systemd does for everybody.
#[test]
fn a_socket_whose_protocol_is_not_followed_is_told() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    in_namespace(&[], || {
        std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").expect("set");
        drop(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), SockProtocol::Icmp).expect("made"));
        drop(socket(AddressFamily::Inet6, SockType::Datagram, SockFlag::empty(), SockProtocol::IcmpV6).expect("made"));
    });
    assert_eq!(made(&mut watch, RawFamily::Inet).protocol, 1);
    assert_eq!(made(&mut watch, RawFamily::Inet6).protocol, 58);
}
