//! Who was at the other end when a program was started.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use breachline::event::{HostEventKind, Serving};
use breachline::kernel::Config;

use crate::watch::{Watch, key_of, root};

fn serving(watch: &mut Watch, child: u32) -> Serving {
    watch.until(&format!("what was served when {child} started"), |event| match &event.kind {
        HostEventKind::Serving(serving) if serving.child.pid == child => Some(serving.clone()),
        _ => None,
    })
}

#[test]
fn the_connection_that_was_being_served_is_told_first() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("address");
    let mut clients = Vec::new();
    let mut accepted = Vec::new();
    for _ in 0..3 {
        clients.push(TcpStream::connect(address).expect("connected"));
        accepted.push(listener.accept().expect("accepted"));
    }
    clients[1].write_all(b"GET / HTTP/1.1\r\n\r\n").expect("asked");
    let mut peeked = [0; 4];
    accepted[1].0.peek(&mut peeked).expect("came");
    let mut child = Command::new("/bin/sh").args(["-c", ":"]).spawn().expect("a shell");
    child.wait().expect("waited");
    let told = serving(&mut watch, child.id());
    assert_eq!(told.server, key_of(std::process::id()));
    assert!(told.stdio.is_none(), "{told:?}");
    for (_, peer) in &accepted {
        let found = told.connections.iter().filter(|one| one.peer == *peer && one.local == address);
        assert_eq!(found.count(), 1, "{peer} in {told:?}");
    }
    // Before the program itself, so that it is known when that is judged.
    let exec = watch.exec_of(child.id());
    let place = |fits: &dyn Fn(&HostEventKind) -> bool| watch.seen.iter().position(|event| fits(&event.kind));
    let serving_at = place(&|kind| matches!(kind, HostEventKind::Serving(serving) if serving.child.pid == child.id()));
    let exec_at = place(&|kind| matches!(kind, HostEventKind::Exec(exec) if exec.actor.process.pid == child.id()));
    assert!(serving_at < exec_at, "{exec:?}");
}

/// A reverse shell: its input is a connection, and whose is told.
#[test]
fn a_connection_as_input_is_told() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("address");
    let away = TcpStream::connect(address).expect("connected");
    let local = away.local_addr().expect("address");
    let (mut far, _) = listener.accept().expect("accepted");
    let mut child = Command::new("/bin/sh").stdin(Stdio::from(OwnedFd::from(away))).spawn().expect("a shell");
    far.write_all(b"exit\n").expect("told");
    child.wait().expect("waited");
    let stdio = serving(&mut watch, child.id()).stdio.expect("a connection");
    assert_eq!((stdio.peer, stdio.local), (address, local));
}
