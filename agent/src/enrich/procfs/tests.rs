use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::enrich::{self, Enricher};
use crate::event::{Contact, ContactHook, Listen, Protocol};
use crate::request::Target;

fn now() -> Timestamp {
    Timestamp::from_unix_millis(1_700_000_000_000)
}

/// A child that ends with the test.
struct Running(Child);

impl Running {
    fn sleep() -> Self {
        Self(Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().expect("sleep starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn find(events: &[HostEvent], pid: u32) -> Option<&ProcessSeen> {
    events.iter().find_map(|event| match &event.kind {
        HostEventKind::Process(seen) if seen.actor.process.pid == pid => Some(seen),
        _ => None,
    })
}

#[test]
fn a_snapshot_shows_this_process_its_socket_and_its_child() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let local = listener.local_addr().expect("bound");
    let child = Running::sleep();
    let events = Resolver::new(&Config::default()).snapshot(now());

    let own = std::process::id();
    let seen = find(&events, child.0.id()).expect("the child is seen");
    assert_eq!(seen.actor.parent.pid, own);
    assert_eq!(seen.argv.last().map(String::as_str), Some("600"));
    let age = now().since(seen.started.expect("known"));
    assert!(age < Duration::from_secs(60), "{age:?}");
    assert!(seen.exe_path.starts_with('/') && seen.actor.exe.inode != 0, "{seen:?}");

    let mut enricher = Enricher::new(enrich::Config::default());
    for event in &events {
        enricher.observe(event);
    }
    let route = enricher.route(Target::Socket(local)).expect("the socket is found");
    assert_eq!(route.owner.map(|owner| owner.pid), Some(own));
    let place = enricher.place(&seen.actor, now());
    assert_eq!(place.service.map(|service| service.process.pid), Some(own));
}

#[test]
fn a_process_nobody_told_of_is_read_with_its_ancestors() {
    let child = Running::sleep();
    let snapshot = Resolver::new(&Config::default()).snapshot(now());
    let actor = find(&snapshot, child.0.id()).expect("the child is seen").actor.clone();
    let contact = |actor: Actor| HostEvent {
        at: now(),
        kind: HostEventKind::Contact(Contact {
            actor,
            peer: "192.0.2.1:80".parse().expect("an address"),
            mapped: false,
            protocol: Protocol::Tcp,
            hook: ContactHook::Connect,
            first: true,
            metadata: false,
            socket: 0,
        }),
    };
    let mut resolver = Resolver::new(&Config::default());
    let facts = resolver.facts_for(&contact(actor.clone()));
    assert!(find(&facts, std::process::id()).is_some(), "{facts:?}");
    assert!(find(&facts, child.0.id()).is_some(), "{facts:?}");
    // Told once.
    assert!(find(&resolver.facts_for(&contact(actor.clone())), child.0.id()).is_none());
    // A pid that was given again is not the process meant.
    let other = ProcessKey { start_ticks: actor.process.start_ticks + 1, ..actor.process };
    assert!(find(&resolver.facts_for(&contact(Actor { process: other, ..actor })), other.pid).is_none());
    assert_eq!(resolver.counters().processes_gone, 1);
}

#[test]
fn a_cgroup_nobody_told_of_is_found() {
    let snapshot = Resolver::new(&Config::default()).snapshot(now());
    let Some(own) = find(&snapshot, std::process::id()).filter(|seen| seen.actor.cgroup != 0) else {
        println!("skipped: no cgroup v2 on this host");
        return;
    };
    let listen =
        Listen { actor: own.actor.clone(), local: "127.0.0.1:1".parse().expect("an address"), at_start: false };
    let mut resolver = Resolver::new(&Config::default());
    let facts = resolver.facts_for(&HostEvent { at: now(), kind: HostEventKind::Listen(listen.clone()) });
    let found = |facts: &[HostEvent], id: u64| {
        facts.iter().any(|fact| matches!(&fact.kind, HostEventKind::Cgroup(seen) if seen.id == id))
    };
    assert!(found(&facts, own.actor.cgroup), "{facts:?}");
    assert!(facts.iter().any(|fact| matches!(fact.kind, HostEventKind::Addresses(_))), "{facts:?}");
    // One that does not exist costs one walk, not one per event.
    let mut nowhere = listen;
    nowhere.actor.cgroup = u64::MAX;
    for _ in 0..5 {
        resolver.facts_for(&HostEvent { at: now(), kind: HostEventKind::Listen(nowhere.clone()) });
    }
    assert_eq!((resolver.counters().scans, resolver.counters().cgroups_missed), (1, 5));
}
