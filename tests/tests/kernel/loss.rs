//! A full ring loses records, and says how many.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use breachline::event::{HostEvent, HostEventKind};
use breachline::kernel::{Config, Counters};

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
        HostEventKind::MetadataStatus(_) => "metadata status",
        HostEventKind::Answer(_) => "names",
        HostEventKind::RawSocket(_) => "raw",
        HostEventKind::Serving(_) => "inbound",
        HostEventKind::Hello(_) => "server names",
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
    let counters = settled(&mut watch);
    assert_eq!(counters.undecodable, 0);
    all_accounted(&watch, &counters);
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

/// Threads that make each kind of noise.
const MAKERS: u8 = 2;
/// How long they make it.
const NOISE: Duration = Duration::from_secs(3);
/// Chains buried in it.
const CHAINS: u16 = 20;

/// Programs and new peers as fast as this machine makes them, until told to stop; returns how many of each.
fn noise(stop: &Arc<AtomicBool>) -> Vec<JoinHandle<(u64, u64)>> {
    let makers = (0..MAKERS).map(|maker| {
        let stop = Arc::clone(stop);
        std::thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
            let (mut execs, mut peers) = (0, 0_u32);
            while !stop.load(Ordering::Acquire) {
                Command::new("/bin/true").status().expect("ran");
                execs += 1;
                for _ in 0..200 {
                    let [_, high, low, port] = peers.to_be_bytes();
                    let host = Ipv4Addr::new(127, 100 + maker, high, low);
                    socket.connect(SocketAddr::from((host, 1 + u16::from(port)))).expect("connected");
                    peers += 1;
                }
            }
            (execs, u64::from(peers))
        })
    });
    makers.collect()
}

/// The evidence of a chain comes through whole, however much noise is made; and every record is delivered or counted.
#[test]
fn a_flood_hides_nothing() {
    if !root() {
        return;
    }
    // A bulk ring that the noise overflows while nobody reads; the priority ring as it is.
    let mut watch = Watch::new(&Config { bulk_ring_bytes: 65_536, ..Config::default() });
    let stop = Arc::new(AtomicBool::new(false));
    let makers = noise(&stop);
    let (start, mut shells) = (Instant::now(), Vec::new());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("address").port();
    for chain in 0..CHAINS {
        // A shell on a socket: its line is tainted, so that each of its contacts is told, known or not.
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        let script = format!(": </dev/tcp/127.0.0.1/{port}; : </dev/tcp/127.0.0.1/{port}");
        let mut bash = Command::new("/bin/bash");
        let bash = bash.args(["-c", &script]).stdin(Stdio::from(OwnedFd::from(socket))).stderr(Stdio::null());
        let mut child = bash.spawn().expect("bash");
        shells.push(child.id());
        child.wait().expect("waited");
        let due = start + NOISE * u32::from(chain + 1) / u32::from(CHAINS);
        while Instant::now() < due {
            watch.read();
            std::thread::yield_now();
        }
    }
    stop.store(true, Ordering::Release);
    let made: Vec<(u64, u64)> = makers.into_iter().map(|maker| maker.join().expect("joined")).collect();
    let counters = settled(&mut watch);
    all_accounted(&watch, &counters);
    eprintln!("noise: {:?} programs and peers in {:?}", made, start.elapsed());
    for pid in shells {
        watch.exec_of(pid);
        let told = watch.contacts(|contact| contact.actor.process.pid == pid && contact.peer.port() == port).len();
        assert!(told >= 1, "the tainted shell {pid} was not heard of");
    }
    let peers: u64 = made.iter().map(|(_, peers)| peers).sum();
    let connect = counters.senses.iter().find(|counter| counter.sense == "connect").expect("connect");
    assert!(connect.emitted + connect.lost >= peers, "every new peer was told or counted: {connect:?} of {peers}");
}

/// The counters once all that they count is read. The machine goes on starting programs: until a look finds them where
/// the look before left them.
fn settled(watch: &mut Watch) -> Counters {
    loop {
        watch.read();
        let before = watch.sensor.counters();
        watch.read();
        if watch.sensor.counters() == before {
            return before;
        }
    }
}

fn all_accounted(watch: &Watch, counters: &Counters) {
    for counter in &counters.senses {
        let delivered = watch.seen.iter().filter(|event| sense(event) == counter.sense).count() as u64;
        assert_eq!(delivered, counter.emitted, "{}", counter.sense);
    }
}
