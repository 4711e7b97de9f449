//! A host: what its processes do goes in, the events that the kernel half would report come out.
//!
//! Every process is forked and executed as on a real host, with its cgroup, namespace and file; nothing here knows what is honest.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use breachline::event::{
    Actor, AddressesSeen, CgroupSeen, Contact, ContactHook, Exec, Exit, FileId, Fork, HostEvent, HostEventKind, Listen,
    MetadataPath, MetadataRequest, ProcessKey, ProcessSeen, Protocol, Stdio,
};
use breachline::timestamp::Timestamp;

use super::later;

/// Network namespace of the host itself.
pub const HOST_NS: u32 = 4_026_531_840;
/// Init.
pub const INIT: ProcessKey = ProcessKey { pid: 1, start_ticks: 1 };
/// cron.
pub const CRON: ProcessKey = ProcessKey { pid: 60, start_ticks: 60 };
/// The container runtime's shim.
pub const SHIM: ProcessKey = ProcessKey { pid: 70, start_ticks: 70 };

#[derive(Clone, Debug)]
struct Live {
    parent: ProcessKey,
    exe: String,
    argv: Vec<String>,
    cgroup: u64,
    net_ns: u32,
    started: Timestamp,
    listens: Vec<SocketAddr>,
}

/// How a program is started when it is not as usual.
#[derive(Copy, Clone, Debug, Default)]
pub struct Manner {
    /// Its standard descriptors are an internet socket.
    pub on_socket: bool,
    /// It runs from a memfd.
    pub from_memory: bool,
    /// It is put into this cgroup and namespace (by a container runtime) instead of its parent's.
    pub placed: Option<(u64, u32)>,
}

/// The host.
#[derive(Debug)]
pub struct Machine {
    boot: Timestamp,
    next_pid: u32,
    next_cgroup: u64,
    next_ns: u32,
    inodes: BTreeMap<String, u64>,
    live: BTreeMap<ProcessKey, Live>,
    facts: Vec<HostEventKind>,
    socket: u64,
    /// What happened since it was last taken, in no order.
    pub events: Vec<HostEvent>,
}

impl Machine {
    /// A host with this address, booted at `boot`: init, cron and a container runtime.
    #[must_use]
    pub fn boot(address: [u8; 4], boot: Timestamp) -> Self {
        let mut machine = Self {
            boot,
            next_pid: 1000,
            next_cgroup: 100,
            next_ns: HOST_NS + 100,
            inodes: BTreeMap::new(),
            live: BTreeMap::new(),
            facts: Vec::new(),
            socket: 0,
            events: Vec::new(),
        };
        machine.addresses(boot, HOST_NS, &[[127, 0, 0, 1], address]);
        let daemons = [
            (INIT, ProcessKey::default(), "/usr/lib/systemd/systemd", "/init.scope"),
            (CRON, INIT, "/usr/sbin/cron", "/system.slice/cron.service"),
            (SHIM, INIT, "/usr/bin/containerd-shim-runc-v2", "/system.slice/containerd.service"),
        ];
        for (process, parent, exe, path) in daemons {
            let cgroup = machine.cgroup(boot, path, None);
            machine.already_there(process, parent, exe, cgroup);
        }
        machine
    }

    fn already_there(&mut self, process: ProcessKey, parent: ProcessKey, exe: &str, cgroup: u64) {
        let (argv, started) = (vec![exe.to_owned()], self.boot);
        let live = Live { parent, exe: exe.to_owned(), argv, cgroup, net_ns: HOST_NS, started, listens: Vec::new() };
        self.live.insert(process, live);
        let seen = self.seen(process);
        self.say(self.boot, seen);
    }

    /// A cgroup of this path; `pod` is `namespace/name` of a pod that it belongs to.
    pub fn cgroup(&mut self, at: Timestamp, path: &str, pod: Option<(&str, &str)>) -> u64 {
        self.next_cgroup += 1;
        let (pod, image) = pod.map_or((None, None), |(pod, image)| (Some(pod.to_owned()), Some(image.to_owned())));
        let seen = CgroupSeen { id: self.next_cgroup, path: path.to_owned(), container_name: None, image, pod };
        self.facts.push(HostEventKind::Cgroup(seen.clone()));
        self.say(at, HostEventKind::Cgroup(seen));
        self.next_cgroup
    }

    /// A network namespace with this address.
    pub fn namespace(&mut self, at: Timestamp, address: [u8; 4]) -> u32 {
        self.next_ns += 1;
        self.addresses(at, self.next_ns, &[[127, 0, 0, 1], address]);
        self.next_ns
    }

    fn addresses(&mut self, at: Timestamp, net_ns: u32, addresses: &[[u8; 4]]) {
        let addresses = addresses.iter().map(|address| (*address).into()).collect();
        let seen = HostEventKind::Addresses(AddressesSeen { net_ns, addresses });
        self.facts.push(seen.clone());
        self.say(at, seen);
    }

    /// `parent` forks; the child runs what its parent runs.
    pub fn fork(&mut self, at: Timestamp, parent: ProcessKey) -> ProcessKey {
        self.next_pid += 1;
        let ticks = at.since(self.boot).as_millis() / 10;
        let child = ProcessKey { pid: self.next_pid, start_ticks: u64::try_from(ticks).unwrap_or(u64::MAX) };
        let actor = self.actor(parent);
        self.say(at, HostEventKind::Fork(Fork { actor, child }));
        if let Some(live) = self.live.get(&parent).cloned() {
            self.live.insert(child, Live { parent, started: at, listens: Vec::new(), ..live });
        }
        child
    }

    /// `process` runs another program.
    pub fn exec(&mut self, at: Timestamp, process: ProcessKey, exe: &str, argv: &[&str], manner: Manner) {
        if let Some(live) = self.live.get_mut(&process) {
            exe.clone_into(&mut live.exe);
            live.argv = argv.iter().map(|word| (*word).to_owned()).collect();
            live.started = at;
            (live.cgroup, live.net_ns) = manner.placed.unwrap_or((live.cgroup, live.net_ns));
        }
        let stdio = if manner.on_socket { [Stdio::InetSocket; 3] } else { [Stdio::Pipe, Stdio::Pipe, Stdio::File] };
        let exec = Exec {
            actor: self.actor(process),
            exe_path: if manner.from_memory { "/memfd:x (deleted)".to_owned() } else { exe.to_owned() },
            filename: exe.to_owned(),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            stdio,
            link_count: u32::from(!manner.from_memory),
            memfd: manner.from_memory,
            ..Exec::default()
        };
        self.say(at, HostEventKind::Exec(Box::new(exec)));
    }

    /// `parent` starts a program: the fork, and half a millisecond later the exec.
    pub fn spawn(&mut self, at: Timestamp, parent: ProcessKey, exe: &str, argv: &[&str], manner: Manner) -> ProcessKey {
        let child = self.fork(at, parent);
        self.exec(later(at, 0.000_5), child, exe, argv, manner);
        child
    }

    /// Cgroup and network namespace of a process that runs.
    #[must_use]
    pub fn place_of(&self, process: ProcessKey) -> Option<(u64, u32)> {
        self.live.get(&process).map(|live| (live.cgroup, live.net_ns))
    }

    /// `process` ends.
    pub fn exit(&mut self, at: Timestamp, process: ProcessKey) {
        let actor = Actor { process, ..Actor::default() };
        self.say(at, HostEventKind::Exit(Exit { actor, status: 0, signal: 0 }));
        self.live.remove(&process);
    }

    /// `process` listens.
    pub fn listen(&mut self, at: Timestamp, process: ProcessKey, local: SocketAddr) {
        let actor = self.actor(process);
        self.say(at, HostEventKind::Listen(Listen { actor, local, at_start: false }));
        if let Some(live) = self.live.get_mut(&process) {
            live.listens.push(local);
        }
    }

    /// `process` reaches for a peer.
    pub fn contact(&mut self, at: Timestamp, process: ProcessKey, peer: SocketAddr) {
        self.socket += 1;
        let contact = Contact {
            actor: self.actor(process),
            peer,
            mapped: false,
            protocol: Protocol::Tcp,
            hook: ContactHook::Connect,
            first: true,
            metadata: peer.ip() == std::net::IpAddr::from([169, 254, 169, 254]),
            socket: self.socket,
        };
        self.say(at, HostEventKind::Contact(contact));
    }

    /// `process` asks the metadata service: the contact, and a millisecond later the request's first line.
    pub fn metadata(
        &mut self,
        at: Timestamp,
        process: ProcessKey,
        path: MetadataPath,
        role: Option<&str>,
        token: bool,
    ) {
        let peer = SocketAddr::from(([169, 254, 169, 254], 80));
        self.contact(at, process, peer);
        let request = MetadataRequest {
            actor: self.actor(process),
            socket: self.socket,
            peer,
            method: if path == MetadataPath::Session { "PUT" } else { "GET" }.to_owned(),
            path,
            role: role.map(str::to_owned),
            token,
        };
        self.say(later(at, 0.001), HostEventKind::MetadataRequest(request));
    }

    /// What an agent that starts now would read from /proc and cgroupfs.
    #[must_use]
    pub fn snapshot(&mut self, at: Timestamp) -> Vec<HostEvent> {
        let mut kinds = self.facts.clone();
        let processes: Vec<ProcessKey> = self.live.keys().copied().collect();
        kinds.extend(processes.iter().map(|process| self.seen(*process)));
        for process in processes {
            let actor = self.actor(process);
            let locals = self.live.get(&process).map(|live| live.listens.clone()).unwrap_or_default();
            let listen = |local| HostEventKind::Listen(Listen { actor: actor.clone(), local, at_start: true });
            kinds.extend(locals.into_iter().map(listen));
        }
        kinds.into_iter().map(|kind| HostEvent { at, kind }).collect()
    }

    fn seen(&mut self, process: ProcessKey) -> HostEventKind {
        let actor = self.actor(process);
        let live = self.live.get(&process);
        HostEventKind::Process(ProcessSeen {
            actor,
            exe_path: live.map(|live| live.exe.clone()).unwrap_or_default(),
            argv: live.map(|live| live.argv.clone()).unwrap_or_default(),
            legacy_cgroup: None,
            started: live.map(|live| live.started),
        })
    }

    fn actor(&mut self, process: ProcessKey) -> Actor {
        let Some(live) = self.live.get(&process) else { return Actor { process, ..Actor::default() } };
        let next = self.inodes.len() as u64 + 10;
        let inode = self.inodes.get(&live.exe).copied().unwrap_or(next);
        let actor = Actor {
            process,
            parent: live.parent,
            uid: 33,
            euid: 33,
            cgroup: live.cgroup,
            net_ns: live.net_ns,
            mnt_ns: live.net_ns + 1,
            pid_ns: live.net_ns + 2,
            exe: FileId { device: 0x0080_0001, inode },
            comm: "x".to_owned(),
        };
        self.inodes.entry(live.exe.clone()).or_insert(inode);
        actor
    }

    fn say(&mut self, at: Timestamp, kind: HostEventKind) {
        self.events.push(HostEvent { at, kind });
    }
}
