//! A full ring loses records, and says how many.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;

use breachline::event::{HostEvent, HostEventKind};
use breachline::kernel::Config;

use crate::watch::{Watch, root};

/// Enough for a tiny ring to overflow many times.
const EXECS: u64 = 200;

fn sense(event: &HostEvent) -> &'static str {
    match event.kind {
        HostEventKind::Exec(_) => "exec",
        HostEventKind::Fork(_) => "fork",
        HostEventKind::Exit(_) => "exit",
        HostEventKind::Contact(_) => "connect",
        HostEventKind::Flow(_) => "flow",
        HostEventKind::Listen(_) => "listen",
        HostEventKind::MetadataRequest(_) => "metadata",
        _ => "another",
    }
}

fn tiny() -> Config {
    Config { bulk_ring_bytes: 4096, priority_ring_bytes: 4096, ..Config::default() }
}

#[test]
fn produced_is_delivered_and_lost() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&tiny());
    for _ in 0..EXECS {
        Command::new("/bin/true").status().expect("ran");
    }
    // The machine goes on starting programs: read until a look finds the counters where the look before left them.
    let counters = loop {
        watch.read();
        let before = watch.sensor.counters();
        watch.read();
        if watch.sensor.counters() == before {
            break before;
        }
    };
    assert_eq!(counters.undecodable, 0);
    for counter in &counters.senses {
        let delivered = watch.seen.iter().filter(|event| sense(event) == counter.sense).count() as u64;
        assert_eq!(delivered, counter.emitted, "{}", counter.sense);
    }
    let exec = counters.senses.iter().find(|counter| counter.sense == "exec").expect("exec");
    assert!(exec.lost > 0 && exec.emitted + exec.lost >= EXECS, "{exec:?}");
    let told: u64 = watch.sensor.losses().iter().filter(|loss| loss.sense == "exec").map(|loss| loss.count).sum();
    assert!(told >= exec.lost);
    assert!(watch.sensor.losses().iter().all(|loss| loss.count < told), "a loss is told once");
}

/// A contact that found no room was no first contact: the next one is.
#[test]
fn a_lost_first_contact_is_first_again() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&tiny());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let peer = |port: u16| SocketAddr::from((Ipv4Addr::new(127, 9, 9, 9), port));
    for port in 1..=200 {
        socket.connect(peer(port)).expect("connected");
    }
    watch.read();
    assert!(watch.contacts(|contact| contact.peer == peer(200)).is_empty(), "the ring was full");
    socket.connect(peer(200)).expect("connected");
    let contact = watch.contact("the second try", |contact| contact.peer == peer(200));
    assert!(contact.first);
}
