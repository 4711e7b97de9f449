//! Proves that each sense still senses: every so often a child of the agent does what the senses watch for, on loopback
//! and in a network namespace of its own, and each record of it must come.
//!
//! In: host events, time. Out: which senses were proven, which failed and since when nothing proves them. What the child
//! does goes no further: it is never evidence, never normal, never recorded.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::unistd::getegid;
use tokio::time::Instant;

use crate::event::{ContactHook, HostEvent, HostEventKind, Loss, Protocol};
use crate::status::SenseStatus;
use crate::timestamp::Timestamp;

mod child;

pub use child::act;

/// The child's command.
pub const VERB: &str = "self-check-actor";
/// Longest wait for the records of one check: a machine under a storm is slow, a sense that works is not this slow.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the child does, by the record that must come of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Fork,
    Exec,
    Exit,
    Connect4,
    Connect6,
    Sendmsg4,
    Sendmsg6,
    Listen,
    Flow,
    Datagrams,
    Hello,
    Serve,
    Answer,
    Raw,
    Request,
    Status,
}

/// Senses, and the acts that prove them.
const SENSES: [(&str, &[Act]); 8] = [
    ("exec", &[Act::Exec]),
    ("lineage", &[Act::Fork, Act::Exit]),
    ("connect", &[Act::Connect4, Act::Connect6, Act::Sendmsg4, Act::Sendmsg6]),
    ("socket", &[Act::Listen, Act::Flow, Act::Datagrams]),
    ("metadata", &[Act::Request, Act::Status]),
    ("names", &[Act::Answer, Act::Hello]),
    ("inbound", &[Act::Serve]),
    ("raw", &[Act::Raw]),
];

/// What a child may be unable to do here, as bits of its exit code: why, and the acts that are not asked for then.
const UNABLE: [(u8, &str, &[Act]); 3] = [
    (child::NO_IPV6, "there is no IPv6", &[Act::Connect6, Act::Sendmsg6]),
    (child::NO_SHELL, "there is no shell to start", &[Act::Serve]),
    (child::NO_NAMESPACE, "namespaces are refused", &[Act::Answer, Act::Raw, Act::Request, Act::Status]),
];

/// A check that is going on.
#[derive(Debug)]
struct Run {
    child: Child,
    until: Instant,
    ended: bool,
    seen: BTreeSet<Act>,
    /// What the child could not do, [`UNABLE`] bits.
    unable: u8,
}

/// What the checks say of one sense.
#[derive(Debug, Default, Clone)]
struct Proof {
    proven: Option<Timestamp>,
    failed: Option<(Timestamp, String)>,
    /// Why it cannot be checked, or not wholly.
    unable: Option<&'static str>,
}

/// The checks of one agent.
#[derive(Debug)]
pub(super) struct SelfCheck {
    every: Duration,
    next: Instant,
    begun: Timestamp,
    run: Option<Run>,
    /// The last child: records of its end may come after its check is over.
    last_pid: u32,
    /// What it started.
    started: BTreeSet<u32>,
    /// Sockets of its contacts: what became of them names no process.
    sockets: BTreeSet<u64>,
    proofs: [Proof; SENSES.len()],
}

impl SelfCheck {
    /// Checks now and `every` so often; never when that is zero.
    pub(super) fn new(every: Duration, now: Timestamp) -> Self {
        Self {
            every,
            next: Instant::now(),
            begun: now,
            run: None,
            last_pid: 0,
            started: BTreeSet::new(),
            sockets: BTreeSet::new(),
            proofs: Default::default(),
        }
    }

    /// Whether an event is the child's own doing, which nobody else is to hear of.
    pub(super) fn claims(&mut self, event: &HostEvent) -> bool {
        if self.last_pid == 0 {
            return false;
        }
        let pid = match &event.kind {
            HostEventKind::Fork(fork) if fork.actor.process.pid == self.last_pid => return self.begat(fork.child.pid),
            HostEventKind::Fork(fork) => fork.child.pid,
            HostEventKind::Exec(exec) if exec.actor.parent.pid == self.last_pid => {
                return self.begat(exec.actor.process.pid);
            }
            HostEventKind::Exec(exec) => exec.actor.process.pid,
            HostEventKind::Exit(exit) if self.started.contains(&exit.actor.process.pid) => return true,
            HostEventKind::Exit(exit) => exit.actor.process.pid,
            HostEventKind::Contact(contact) => contact.actor.process.pid,
            HostEventKind::Listen(listen) => listen.actor.process.pid,
            HostEventKind::MetadataRequest(request) => request.actor.process.pid,
            HostEventKind::MetadataStatus(status) => status.actor.process.pid,
            HostEventKind::RawSocket(made) => made.actor.process.pid,
            HostEventKind::Serving(serving) => serving.server.pid,
            HostEventKind::Answer(answer) if answer.name == child::name(self.last_pid) => self.last_pid,
            HostEventKind::Flow(flow) => {
                let act = if flow.protocol == Protocol::Udp { Act::Datagrams } else { Act::Flow };
                return self.claims_socket(flow.socket, act);
            }
            // By its name: in a flood the contact that it belongs to may be read later.
            HostEventKind::Hello(hello) => {
                let named = hello.server_name.as_deref() == Some(&*child::name(self.last_pid));
                return named && self.proven_by(Act::Hello);
            }
            _ => return false,
        };
        if pid != self.last_pid {
            return false;
        }
        if let HostEventKind::Contact(contact) = &event.kind {
            self.sockets.insert(contact.socket);
        }
        let Some(run) = &mut self.run else { return true };
        run.note(event);
        if matches!(event.kind, HostEventKind::Exit(_)) {
            run.ended = true;
        }
        true
    }

    /// The child started another process.
    fn begat(&mut self, pid: u32) -> bool {
        self.started.insert(pid);
        true
    }

    fn claims_socket(&mut self, socket: u64, act: Act) -> bool {
        self.sockets.contains(&socket) && self.proven_by(act)
    }

    /// Its own doing, and the proof of a sense if its check still goes on.
    fn proven_by(&mut self, act: Act) -> bool {
        if let Some(run) = &mut self.run {
            run.seen.insert(act);
        }
        true
    }

    /// Begins a check that is due, ends one that is over.
    pub(super) fn tick(&mut self, now: Timestamp) {
        let instant = Instant::now();
        if let Some(run) = self.run.take_if(|run| run.is_over(instant)) {
            self.conclude(run, now);
        } else if self.run.is_none() && !self.every.is_zero() && instant >= self.next {
            self.next = instant + self.every;
            self.begin(now);
        }
    }

    fn begin(&mut self, now: Timestamp) {
        let spawned = std::env::current_exe().and_then(|own| {
            // With a group asked for (its own), std forks instead of sharing memory: the fork sense is checked too.
            Command::new(own).arg(VERB).gid(getegid().as_raw()).stdin(Stdio::null()).stdout(Stdio::null()).spawn()
        });
        match spawned {
            Ok(child) => {
                self.last_pid = child.id();
                self.started.clear();
                self.sockets.clear();
                self.run = Some(Run::of(child));
            }
            Err(error) => {
                for proof in &mut self.proofs {
                    proof.failed = Some((now, format!("cannot be checked: {error}")));
                }
            }
        }
    }

    fn conclude(&mut self, run: Run, now: Timestamp) {
        for ((sense, acts), proof) in SENSES.iter().zip(&mut self.proofs) {
            let missing: Vec<String> =
                acts.iter().filter(|act| !run.has(**act)).map(|act| format!("{act:?}").to_lowercase()).collect();
            proof.unable = UNABLE
                .iter()
                .find(|(bit, _, unable)| run.unable & bit != 0 && acts.iter().any(|act| unable.contains(act)))
                .map(|(_, why, _)| *why);
            if missing.is_empty() {
                proof.failed = None;
                if acts.iter().any(|act| run.seen.contains(act)) {
                    proof.proven = Some(now);
                }
            } else {
                let what = format!("no record of its own {} came", missing.join(", "));
                tracing::error!(sense, what, "a sense failed its check");
                proof.failed = Some((now, what));
            }
        }
    }

    /// A sense that failed has lost what nobody can count, since it was last proven.
    pub(super) fn losses(&self) -> Vec<Loss> {
        let failed = SENSES.iter().zip(&self.proofs).filter(|(_, proof)| proof.failed.is_some());
        failed
            .map(|((sense, _), proof)| {
                let since = Some(proof.proven.unwrap_or(self.begun));
                Loss { sense: (*sense).to_owned(), count: 0, since }
            })
            .collect()
    }

    /// Adds what the checks found to the verdicts.
    pub(super) fn annotate(&self, senses: &mut [SenseStatus]) {
        for ((name, _), proof) in SENSES.iter().zip(&self.proofs) {
            let Some(sense) = senses.iter_mut().find(|sense| sense.sense == *name) else { continue };
            sense.proven = proof.proven;
            if let Some(why) = proof.unable {
                let before = if sense.detail.is_empty() { "" } else { "; " };
                sense.detail.push_str(&format!("{before}the self-check cannot trigger all of it: {why}"));
            }
            if let Some((at, what)) = &proof.failed {
                if sense.state == "active" {
                    "degraded".clone_into(&mut sense.state);
                }
                let before = if sense.detail.is_empty() { "" } else { "; " };
                sense.detail.push_str(&format!("{before}self-check at {at}: {what}"));
            }
        }
    }
}

impl Run {
    fn of(child: Child) -> Self {
        Self { child, until: Instant::now() + PATIENCE, ended: false, seen: BTreeSet::new(), unable: 0 }
    }

    fn note(&mut self, event: &HostEvent) {
        let act = match &event.kind {
            HostEventKind::Fork(_) => Act::Fork,
            HostEventKind::Exec(_) => Act::Exec,
            HostEventKind::Exit(_) => Act::Exit,
            HostEventKind::Listen(_) => Act::Listen,
            HostEventKind::Serving(_) => Act::Serve,
            HostEventKind::Answer(_) => Act::Answer,
            HostEventKind::RawSocket(_) => Act::Raw,
            HostEventKind::MetadataRequest(_) => Act::Request,
            HostEventKind::MetadataStatus(_) => Act::Status,
            HostEventKind::Contact(contact) => match (contact.hook, contact.peer.is_ipv4()) {
                (ContactHook::Connect, true) => Act::Connect4,
                (ContactHook::Connect, false) => Act::Connect6,
                (ContactHook::Sendmsg, true) => Act::Sendmsg4,
                (ContactHook::Sendmsg, false) => Act::Sendmsg6,
                // The cross-check stepping in means that the hook did not.
                (ContactHook::SockState, _) => return,
            },
            _ => return,
        };
        self.seen.insert(act);
    }

    fn has(&self, act: Act) -> bool {
        let unable = |(bit, _, acts): &(u8, &str, &[Act])| self.unable & bit != 0 && acts.contains(&act);
        self.seen.contains(&act) || UNABLE.iter().any(unable)
    }

    /// Reaps the child; over once all is seen, or time is up.
    fn is_over(&mut self, now: Instant) -> bool {
        let late = now >= self.until;
        if late {
            // A child that hangs would be there for ever; one that has gone cannot be killed, which is as well.
            let _ = self.child.kill();
        }
        let exited = self.child.try_wait();
        if let Ok(Some(status)) = &exited {
            self.unable = status.code().and_then(|code| u8::try_from(code).ok()).map_or(0, |code| code & child::UNABLE);
        }
        let complete = || SENSES.iter().flat_map(|(_, acts)| acts.iter()).all(|act| self.has(*act));
        !matches!(exited, Ok(None)) && (late || (self.ended && complete()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    use crate::event::{Actor, Contact, Exec, Exit, Flow, FlowState, Fork, Listen, NameAnswer, ProcessKey, TlsHello};

    const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);

    fn check() -> SelfCheck {
        let mut check = SelfCheck::new(Duration::from_secs(600), NOW);
        let child = Command::new("/bin/true").stdin(Stdio::null()).spawn().expect("spawned");
        check.last_pid = child.id();
        check.run = Some(Run::of(child));
        check
    }

    fn actor(pid: u32) -> Actor {
        Actor { process: ProcessKey { pid, start_ticks: 1 }, ..Actor::default() }
    }

    fn claimed(check: &mut SelfCheck, kind: HostEventKind) -> bool {
        check.claims(&HostEvent { at: NOW, kind })
    }

    #[test]
    fn what_the_child_does_is_claimed_and_nothing_else() {
        let mut check = check();
        let own = check.last_pid;
        let exec = |pid| HostEventKind::Exec(Box::new(Exec { actor: actor(pid), ..Exec::default() }));
        assert!(claimed(&mut check, exec(own)));
        assert!(!claimed(&mut check, exec(own + 1)));
        let fork = Fork { actor: actor(1), child: ProcessKey { pid: own, start_ticks: 1 } };
        assert!(claimed(&mut check, HostEventKind::Fork(fork)));
        let listen = Listen { actor: actor(own), local: SocketAddr::from(([127, 0, 0, 1], 1)), at_start: false };
        assert!(claimed(&mut check, HostEventKind::Listen(listen)));
        // What it starts is its own doing too, and proves nothing.
        let begun = Exec { actor: Actor { parent: actor(own).process, ..actor(own + 7) }, ..Exec::default() };
        assert!(claimed(&mut check, HostEventKind::Exec(Box::new(begun))));
        assert!(claimed(&mut check, HostEventKind::Exit(Exit { actor: actor(own + 7), ..Exit::default() })));
        let answer = |name: String| {
            let server = std::net::IpAddr::from([127, 0, 0, 1]);
            HostEventKind::Answer(NameAnswer { cgroup: 1, server, name, addresses: Vec::new() })
        };
        assert!(claimed(&mut check, answer(child::name(own))) && !claimed(&mut check, answer(child::name(own + 1))));
        let hello = |name: String| HostEventKind::Hello(TlsHello { socket: 9, server_name: Some(name) });
        assert!(claimed(&mut check, hello(child::name(own))) && !claimed(&mut check, hello(child::name(own + 1))));
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let contact = Contact {
            actor: actor(own),
            peer,
            mapped: false,
            protocol: Protocol::Udp,
            hook: ContactHook::Connect,
            first: true,
            metadata: false,
            socket: 5,
        };
        assert!(claimed(&mut check, HostEventKind::Contact(contact)));
        let run = check.run.take().expect("runs");
        assert_eq!(
            run.seen,
            BTreeSet::from([Act::Fork, Act::Exec, Act::Listen, Act::Answer, Act::Hello, Act::Connect4])
        );
        // Its end may be told after the check is over, and what became of its sockets.
        let ended = |socket| {
            let state = FlowState::Closed;
            HostEventKind::Flow(Flow {
                socket,
                peer,
                local: peer,
                state,
                protocol: Protocol::Udp,
                bytes_sent: 1,
                bytes_received: 0,
                bytes_elsewhere: 0,
            })
        };
        assert!(claimed(&mut check, ended(5)) && !claimed(&mut check, ended(6)));
        assert!(claimed(&mut check, HostEventKind::Exit(Exit { actor: actor(own), ..Exit::default() })));
        check.conclude(run, NOW);
    }

    #[test]
    fn a_sense_whose_record_does_not_come_has_failed_and_lost() {
        let mut check = check();
        let mut run = check.run.take().expect("runs");
        run.child.wait().expect("waited");
        run.seen = BTreeSet::from([Act::Exec, Act::Fork, Act::Exit, Act::Connect4, Act::Sendmsg4, Act::Listen]);
        run.unable = child::NO_IPV6 | child::NO_NAMESPACE;
        check.conclude(run, NOW);
        let sense =
            |sense: &str| SenseStatus { sense: sense.to_owned(), state: "active".to_owned(), ..Default::default() };
        let mut senses = [sense("exec"), sense("connect"), sense("socket"), sense("metadata")];
        check.annotate(&mut senses);
        let states: Vec<&str> = senses.iter().map(|sense| sense.state.as_str()).collect();
        assert_eq!(states, ["active", "active", "degraded", "active"], "without IPv6 its hooks are not asked for");
        assert!(senses[2].detail.contains("flow") && senses[0].proven == Some(NOW));
        assert!(senses[3].proven.is_none() && senses[3].detail.contains("namespaces are refused"), "{senses:?}");
        let losses: Vec<_> = check.losses().into_iter().map(|loss| (loss.sense, loss.count, loss.since)).collect();
        let lost = |sense: &str| (sense.to_owned(), 0, Some(NOW));
        assert_eq!(losses, [lost("socket"), lost("names"), lost("inbound")], "a hello and a shell were possible");
    }
}
