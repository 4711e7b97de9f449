//! The verdicts themselves.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::Config;
use super::outcome::Outcomes;
use super::peer::Scope;
use super::program::{self, Code, Program};
use serde::Serialize;

use crate::baseline::{Baseline, Call, Learn, Manner};
use crate::enrich::Enricher;
use crate::enrich::passive_dns::Named;
use crate::event::{
    Actor, Contact, Exec, FileId, HostEvent, HostEventKind, MetadataPath, MetadataRequest, Protocol, RawFamily,
    RawSocket, Stdio,
};
use crate::evidence::{
    EgressEvidence, HostEvidence, HostFinding, Novelty, Placement, Prevalence, ProcessNode, ProgramClass,
};
use crate::incident::wording::span;
use crate::metadata::canonical;
use crate::timestamp::Timestamp;

/// Files whose class is known by their content. A host has few shells; containers multiply them by their images.
const KNOWN_FILES_MAX: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

/// Evidence, by the stage of the chain it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The workload did what an intruder does.
    Host(HostEvidence),
    /// The workload reached an external peer.
    Egress(EgressEvidence),
}

/// What the judge said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Shells, interpreters and transfer tools under a service.
    pub spawns: u64,
    /// Other programs without a name on disk under a service.
    pub fileless: u64,
    /// Contacts with metadata endpoints.
    pub metadata: u64,
    /// Contacts with external peers.
    pub egress: u64,
    /// Raw and packet sockets.
    pub raw_sockets: u64,
    /// Contacts and requests whose end is no longer waited for, because others came.
    pub outcomes_evicted: u64,
    /// Shells, contacts and their like outside any service, let be.
    pub unexposed: u64,
}

/// The stage.
#[derive(Debug)]
pub struct Judge {
    config: Config,
    /// Shells and their like by what the file is, for copies and links under other names.
    known_files: LruCache<FileId, Box<str>>,
    outcomes: Outcomes,
    counters: Counters,
}

impl Judge {
    /// A judge that has seen nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            known_files: LruCache::new(KNOWN_FILES_MAX),
            outcomes: Outcomes::new(),
            counters: Counters::default(),
        }
    }

    /// Judges one event that `enricher` has observed. Asks and teaches `baseline`.
    pub fn judge(&mut self, event: &HostEvent, enricher: &Enricher, baseline: &mut Baseline) -> Option<Stage> {
        let mut case = Case { at: event.at, enricher, baseline };
        match &event.kind {
            HostEventKind::Exec(exec) => self.exec(exec, &mut case).map(Stage::Host),
            HostEventKind::Contact(contact) => self.contact(contact, &mut case),
            HostEventKind::MetadataRequest(request) => self.metadata_request(request, &mut case).map(Stage::Host),
            HostEventKind::RawSocket(made) => self.raw_socket(made, &mut case).map(Stage::Host),
            HostEventKind::Hello(hello) => self.outcomes.greeted(hello).map(Stage::Egress),
            HostEventKind::Flow(flow) => self.outcomes.ended(flow, case.at).map(Stage::Egress),
            HostEventKind::MetadataStatus(status) => self.outcomes.answered(status).map(Stage::Host),
            HostEventKind::Listen(listen) => {
                case.exposed(&listen.actor);
                None
            }
            HostEventKind::Process(seen) => {
                case.exposed(&seen.actor);
                self.learn_file(seen.actor.exe, &seen.exe_path);
                None
            }
            HostEventKind::Program(seen) => {
                self.learn_file(seen.file, &seen.copy_of);
                None
            }
            HostEventKind::Fork(_)
            | HostEventKind::Exit(_)
            | HostEventKind::Answer(_)
            | HostEventKind::Serving(_)
            | HostEventKind::Cgroup(_)
            | HostEventKind::Addresses(_)
            | HostEventKind::Loss(_) => None,
        }
    }

    /// What the judge said so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    fn exec(&mut self, exec: &Exec, case: &mut Case<'_>) -> Option<HostEvidence> {
        let program = self.program(exec);
        let fileless = exec.memfd || exec.link_count == 0;
        if program.is_none() && !fileless {
            return None;
        }
        let Some(place) = case.exposed(&exec.actor) else {
            self.counters.unexposed += 1;
            return None;
        };
        // An application server that init or a runtime starts is the service, not what somebody made of it.
        let own_start = |program: &Program| {
            program.class == ProgramClass::Interpreter
                && program.code == Code::File
                && !program.disguised
                && case.enricher.heads_a_service_of_its_own(&exec.actor)
        };
        let program = program.filter(|program| !own_start(program));
        let Some(program) = program.filter(|program| counts(program, exec, &place)) else {
            return fileless.then(|| self.fileless(&exec.actor, place, case));
        };
        self.counters.spawns += 1;
        let socket_stdio = exec.stdio.contains(&Stdio::InetSocket);
        let child = place.process().map_or("", |node| &node.exe_path);
        let line = place.process().map_or("", |node| &node.command_line);
        let parent = place.lineage.get(1).map_or("", |node| &node.exe_path);
        let learn = if socket_stdio || fileless || program.disguised { Learn::Never } else { Learn::Yes };
        let novelty = case.baseline.shell(&place.workload.key, parent, child, line, learn, case.at);
        let stdio = case.enricher.stdio_of(exec.actor.process).filter(|_| socket_stdio).map(|stdio| stdio.peer);
        let socket = if socket_stdio { Some(stdio) } else { None };
        let reason = spawn_reason(&program, &place, socket, fileless, novelty);
        let finding = HostFinding::Spawn { class: program.class, socket_stdio, fileless };
        Some(case.evidence(&exec.actor, place, finding, novelty, reason))
    }

    fn fileless(&mut self, actor: &Actor, place: Placement, case: &mut Case<'_>) -> HostEvidence {
        self.counters.fileless += 1;
        let novelty = if case.baseline.is_learning(&place.workload.key, case.at) {
            Novelty::NewWhileLearning
        } else {
            Novelty::New
        };
        let reason =
            format!("{} runs a program that has no name on disk ({})", place.workload.key, display(place.process()));
        case.evidence(actor, place, HostFinding::FilelessExec, novelty, reason)
    }

    fn program(&mut self, exec: &Exec) -> Option<Program> {
        self.learn_file(exec.actor.exe, &exec.exe_path);
        program::classify(exec).or_else(|| {
            let original = self.known_files.get(&exec.actor.exe)?;
            program::classify_copy(original, exec)
        })
    }

    /// Remembers what a file is, so that a link to it under another name is known for what it is.
    fn learn_file(&mut self, file: FileId, path: &str) {
        if file.inode != 0 && program::class_of_path(path).is_some() {
            self.known_files.put(file, path.into());
        }
    }

    fn contact(&mut self, contact: &Contact, case: &mut Case<'_>) -> Option<Stage> {
        let enricher = case.enricher;
        let scope = self.config.scope(contact.peer, |address| enricher.owns(address));
        if scope == Scope::Internal && !contact.metadata {
            return None;
        }
        let Some(place) = case.exposed(&contact.actor) else {
            self.counters.unexposed += 1;
            return None;
        };
        if scope == Scope::External && !contact.metadata {
            self.counters.egress += 1;
            let name = self.name_of(contact, &place, case);
            let evidence = egress(contact, place, &name, case);
            self.counters.outcomes_evicted += u64::from(self.outcomes.contacted(contact, &evidence));
            return Some(Stage::Egress(evidence));
        }
        self.counters.metadata += 1;
        let asked = Asked {
            endpoint: contact.peer,
            service: scope.service(),
            path: MetadataPath::Unknown,
            role: None,
            token: None,
        };
        Some(Stage::Host(metadata(&contact.actor, asked, place, case)))
    }

    /// What the peer was looked up by. A server outside that the workload had never asked may be the intruder's own, and call
    /// its address whatever he likes: what it says is told, and not believed.
    fn name_of<'c>(&self, contact: &Contact, place: &Placement, case: &mut Case<'c>) -> PeerName<'c> {
        let enricher = case.enricher;
        match enricher.name_of(&contact.actor, contact.peer.ip(), case.at) {
            Named::Unknown => PeerName::Unknown,
            Named::Literal => PeerName::Literal,
            Named::By(name) => {
                let server = SocketAddr::new(name.server, DNS_PORT);
                let outside = self.config.scope(server, |address| enricher.owns(address)) == Scope::External;
                let workload = &place.workload.key;
                if outside && case.baseline.peer_novelty(workload, server, Protocol::Udp, case.at) == Novelty::New {
                    PeerName::Claimed(&name.name, name.server)
                } else {
                    PeerName::LookedUp(&name.name)
                }
            }
        }
    }

    fn raw_socket(&mut self, made: &RawSocket, case: &mut Case<'_>) -> Option<HostEvidence> {
        let Some(place) = case.exposed(&made.actor) else {
            self.counters.unexposed += 1;
            return None;
        };
        self.counters.raw_sockets += 1;
        let exe_path = place.process().map_or("", |node| &node.exe_path);
        let what = match (made.family, made.protocol) {
            (RawFamily::Packet, _) => "a packet socket".to_owned(),
            (RawFamily::Unknown, _) => "use of the right to write packets by hand".to_owned(),
            (_, 1 | 58) => "a raw socket for ICMP".to_owned(),
            (_, 33) => "a socket for DCCP".to_owned(),
            (_, 115) => "a socket for L2TP".to_owned(),
            (_, 132) => "a socket for SCTP".to_owned(),
            (_, protocol) => format!("a raw socket for protocol {protocol}"),
        };
        let novelty = case.baseline.raw_socket(&place.workload.key, exe_path, &what, case.at);
        let who = who(&place);
        let reason = format!("{who} made {what}: what is sent on it no sense sees; {}", caller_novelty(novelty));
        let finding = HostFinding::RawSocket { family: made.family, protocol: made.protocol };
        Some(case.evidence(&made.actor, place, finding, novelty, reason))
    }

    fn metadata_request(&mut self, request: &MetadataRequest, case: &mut Case<'_>) -> Option<HostEvidence> {
        let Some(place) = case.exposed(&request.actor) else {
            self.counters.unexposed += 1;
            return None;
        };
        let enricher = case.enricher;
        let scope = self.config.scope(request.peer, |address| enricher.owns(address));
        self.counters.metadata += 1;
        let asked = Asked {
            endpoint: request.peer,
            service: scope.service(),
            path: request.path,
            role: request.role.as_deref(),
            token: Some(request.token),
        };
        let evidence = metadata(&request.actor, asked, place, case);
        self.counters.outcomes_evicted += u64::from(self.outcomes.asked(request.socket, &evidence));
        Some(evidence)
    }
}

/// Port of name servers, and of HTTP over TLS and QUIC.
const DNS_PORT: u16 = 53;
const HTTPS_PORT: u16 = 443;

/// What a peer was looked up by.
enum PeerName<'n> {
    /// This name.
    LookedUp(&'n Arc<str>),
    /// This name, if a server is believed that nobody has reason to believe.
    Claimed(&'n Arc<str>, IpAddr),
    /// None: the address itself was written down somewhere.
    Literal,
    /// Look-ups of this workload are not seen.
    Unknown,
}

/// What a verdict is found with.
struct Case<'c> {
    at: Timestamp,
    enricher: &'c Enricher,
    baseline: &'c mut Baseline,
}

impl Case<'_> {
    /// Evidence of what `actor` did, with the connections that were being served when its line began.
    fn evidence(
        &self,
        actor: &Actor,
        place: Placement,
        finding: HostFinding,
        novelty: Novelty,
        reason: String,
    ) -> HostEvidence {
        let inbound = self.enricher.serving(actor);
        HostEvidence { at: self.at, place, finding, novelty, reason, inbound, status: None, own_accord: false }
    }

    /// Where the actor stands, if it is exposed. Its workload's learning time begins with the first such look.
    fn exposed(&mut self, actor: &Actor) -> Option<Placement> {
        if !self.enricher.is_exposed(actor) {
            return None;
        }
        let place = self.enricher.place(actor, self.at);
        self.baseline.touch(&place.workload.key, self.at);
        Some(place)
    }
}

/// What a metadata endpoint was asked, as far as it was seen.
struct Asked<'c> {
    endpoint: SocketAddr,
    service: &'c str,
    path: MetadataPath,
    role: Option<&'c str>,
    token: Option<bool>,
}

/// Whether a program of a class that can do harm is evidence here: a service's own runtime on a file of its own is how
/// pre-fork servers and job runners work.
fn counts(program: &Program, exec: &Exec, place: &Placement) -> bool {
    if program.class != ProgramClass::Interpreter || program.code != Code::File || program.disguised {
        return true;
    }
    let service = place.service.as_ref().map(|service| service.process);
    let own_runtime = place
        .lineage
        .iter()
        .skip(1)
        .find(|node| Some(node.process) == service)
        .is_some_and(|root| root.exe == exec.actor.exe || *root.exe_path == *exec.exe_path);
    !own_runtime
}

fn egress(contact: &Contact, place: Placement, name: &PeerName<'_>, case: &mut Case<'_>) -> EgressEvidence {
    let peer = SocketAddr::new(canonical(contact.peer.ip()), contact.peer.port());
    let believed = if let PeerName::LookedUp(name) = name { Some(Arc::clone(name)) } else { None };
    let key = &place.workload.key;
    let novelty = match case.baseline.peer(key, peer, contact.protocol, believed.as_deref(), case.at) {
        Novelty::New if by_service(&place) && case.baseline.reaches_anyone(key, case.at) => Novelty::Known,
        novelty => novelty,
    };
    let acquaintance = match novelty {
        Novelty::New | Novelty::Notorious => "which its workload had never needed",
        Novelty::NewWhileLearning => "new to its workload, whose habits are still being learned",
        Novelty::Known => "as its workload has before",
    };
    let whom = match name {
        PeerName::LookedUp(name) => format!("{name} ({peer})"),
        PeerName::Claimed(name, server) => format!("{peer} (called {name} by {server}, a server never asked before)"),
        PeerName::Literal => format!("{peer} by its bare address"),
        PeerName::Unknown => peer.to_string(),
    };
    // The name of its server is encrypted, if only with a key that everybody knows: it is not read.
    let quic = contact.protocol == Protocol::Udp && peer.port() == HTTPS_PORT;
    let manner = if quic { " by what looks like QUIC" } else { "" };
    let protocol = contact.protocol;
    let prevalence = case.baseline.prevalence(key, peer, protocol, believed.as_deref());
    let others = prevalence.map(elsewhere).unwrap_or_default();
    let reason = format!("{} contacted {whom}{manner}, {acquaintance}{others}", who(&place));
    EgressEvidence {
        at: case.at,
        place,
        peer,
        protocol,
        name: believed,
        server_name: None,
        novelty,
        reason,
        prevalence,
        outcome: None,
    }
}

/// How usual a peer is on other hosts.
fn elsewhere(prevalence: Prevalence) -> String {
    let Prevalence { same, same_of, any, any_of } = prevalence;
    match (same, any) {
        (0, 0) => format!("; none of {any_of} other hosts has"),
        (0, _) => format!("; of other services, {any} of {any_of} hosts have"),
        _ => format!("; {same} of {same_of} other hosts of this service do"),
    }
}

fn metadata(actor: &Actor, asked: Asked<'_>, place: Placement, case: &mut Case<'_>) -> HostEvidence {
    // Credentials fetched by what a shell started do not become normal by being fetched again.
    let by_tool = below_shell(&place).or(place.process().filter(|node| runs_what_it_is_told(node))).is_some();
    let learn = if by_tool { Learn::Never } else { Learn::Yes };
    let exe_path = place.process().map_or("", |node| &node.exe_path);
    let call = Call {
        exe_path,
        service: asked.service,
        path: asked.path,
        role: asked.role,
        process: place.process().map(|node| node.process),
        started: place.process().map(|node| node.started),
        token: asked.token,
    };
    let (novelty, manner) = case.baseline.caller(&place.workload.key, &call, learn, case.at);
    let usual = match manner {
        Manner::Alike | Manner::OwnAccord => caller_novelty(novelty).to_owned(),
        Manner::Role => "for a role that it had never asked for".to_owned(),
        Manner::Bare => "and not with the session token that it sends as a rule".to_owned(),
        Manner::Early { gap, shortest } => {
            format!("{} after it had last, when it waits for {} as a rule", span(gap), span(shortest))
        }
    };
    let reason = format!("{} {}, {usual}", who(&place), asked.sentence());
    let finding = HostFinding::Metadata {
        endpoint: SocketAddr::new(canonical(asked.endpoint.ip()), asked.endpoint.port()),
        service: Arc::from(asked.service),
        path: asked.path,
        role: asked.role.map(Arc::from),
        token: asked.token,
    };
    let own_accord = manner == Manner::OwnAccord;
    HostEvidence { own_accord, ..case.evidence(actor, place, finding, novelty, reason) }
}

impl Asked<'_> {
    fn sentence(&self) -> String {
        let what = match self.path {
            MetadataPath::Credential => "asked for credentials at",
            MetadataPath::Recon => "asked which credentials there are at",
            MetadataPath::Session => "opened a session with",
            MetadataPath::UserData => "asked for the start-up data at",
            MetadataPath::Benign => "asked for instance facts at",
            MetadataPath::Unknown => "contacted",
        };
        let bare = self.token == Some(false) && matches!(self.path, MetadataPath::Credential | MetadataPath::Recon);
        let manner = if bare { " without a session token" } else { "" };
        format!("{what} {} ({}){manner}", self.service, self.endpoint)
    }
}

const fn caller_novelty(novelty: Novelty) -> &'static str {
    match novelty {
        Novelty::New | Novelty::Notorious => "which its workload does not do",
        Novelty::NewWhileLearning => "new to its workload, whose habits are still being learned",
        Novelty::Known => "as its workload has before",
    }
}

/// The nearest shell or transfer tool between the process and the head of its service, neither included.
fn below_shell(place: &Placement) -> Option<&ProcessNode> {
    let root = place.service.as_ref().map(|service| service.process);
    // The service's own ancestors say nothing: many a service is started by a script.
    place.lineage.iter().take_while(|node| Some(node.process) != root).skip(1).find(|node| runs_what_it_is_told(node))
}

fn runs_what_it_is_told(node: &ProcessNode) -> bool {
    matches!(program::class_of_path(&node.exe_path), Some(ProgramClass::Shell | ProgramClass::TransferTool))
}

/// Whether the service's own program does it, rather than something that it started.
fn by_service(place: &Placement) -> bool {
    let root =
        place.service.as_ref().and_then(|service| place.lineage.iter().find(|node| node.process == service.process));
    place.process().zip(root).is_some_and(|(own, root)| own.exe == root.exe && own.exe_path == root.exe_path)
}

/// `x`, or `x, below sh`.
fn who(place: &Placement) -> String {
    let process = display(place.process());
    below_shell(place).map_or_else(|| process.to_owned(), |shell| format!("{process}, below {},", display(Some(shell))))
}

fn spawn_reason(
    program: &Program,
    place: &Placement,
    socket: Option<Option<SocketAddr>>,
    fileless: bool,
    novelty: Novelty,
) -> String {
    let class = match program.class {
        ProgramClass::Shell => "a shell",
        ProgramClass::Interpreter => "an interpreter",
        ProgramClass::TransferTool => "a transfer tool",
    };
    let mut odds = Vec::new();
    let connected = socket.flatten().map(|peer| format!("its input or output is a connection with {peer}"));
    if let Some(connected) = &connected {
        odds.push(connected.as_str());
    } else if socket.is_some() {
        odds.push("its input or output is an internet socket");
    }
    if fileless {
        odds.push("its file has no name on disk");
    }
    if program.disguised {
        odds.push("it does not go by its own name");
    }
    match program.code {
        Code::CommandLine if program.class != ProgramClass::TransferTool => {
            odds.push("its code stands on the command line")
        }
        Code::Stdin if program.class != ProgramClass::TransferTool => odds.push("it reads its code from its input"),
        Code::TemporaryFile => odds.push("its code lies where anyone can put a file"),
        Code::CommandLine | Code::Stdin | Code::File => {}
    }
    odds.push(match novelty {
        Novelty::New | Novelty::Notorious => "its workload had never started one like it",
        Novelty::NewWhileLearning => "new to its workload, whose habits are still being learned",
        Novelty::Known => "its workload has started its like before",
    });
    let parent = place.lineage.get(1);
    format!("{} started {class}, {}: {}", display(parent), display(place.process()), odds.join("; "))
}

fn display(node: Option<&ProcessNode>) -> &str {
    node.map(|node| &*node.exe_path).filter(|path| !path.is_empty()).unwrap_or("a process of unknown program")
}

#[cfg(test)]
mod tests;
