//! The observer: the agent's own senses, tables and host judge, and what they said of one way.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use breachline::baseline::{self, Baseline};
use breachline::decode::BootClock;
use breachline::enrich::procfs::{self, Resolver};
use breachline::enrich::{self, Enricher};
use breachline::event::{Actor, Contact, Exec, Flow, FlowState, HostEvent, HostEventKind, MetadataRequest, ProcessKey};
use breachline::evidence::{HostFinding, ProgramClass};
use breachline::host::{self, Judge, Stage as Judged};
use breachline::kernel::{self, ProgramLoad, Sensor};
use breachline::timestamp::Timestamp;
use breachline::workload::WorkloadKey;
use nix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use super::stage::mark;

/// Longest wait for a record that must come; emulated machines are slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// The senses at work.
pub(crate) struct Observer {
    sensor: Sensor,
    runtime: Runtime,
    clock: BootClock,
    resolver: Resolver,
    enricher: Enricher,
    judge: Judge,
    baseline: Baseline,
    service: ProcessKey,
    /// The workload that everything must be placed on, where it is known.
    workload: Option<WorkloadKey>,
    observed: Vec<Observed>,
}

/// One event, and what became of it.
pub(crate) struct Observed {
    event: HostEvent,
    judged: Option<Judged>,
    /// Whether its process descends from the service, as the process table tells it, and is placed on the right workload.
    under_service: bool,
}

impl Observer {
    /// Loads the senses. What counts must be placed on `workload`, if one is named.
    pub(crate) fn load(workload: Option<WorkloadKey>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sensor = runtime.block_on(async { Sensor::load(&kernel::Config::default()) })?;
        Ok(Self {
            sensor,
            runtime,
            clock: boot_clock()?,
            resolver: Resolver::new(&procfs::Config::default()),
            enricher: Enricher::new(enrich::Config::default()),
            judge: Judge::new(host::Config::default()),
            baseline: Baseline::new(baseline::Config::default()),
            service: ProcessKey::default(),
            workload,
            observed: Vec::new(),
        })
    }

    /// What it took to load each program.
    pub(crate) fn loads(&self) -> &[ProgramLoad] {
        self.sensor.loads()
    }

    /// What programs and maps take in the kernel, bytes.
    pub(crate) fn memory(&self) -> u64 {
        let memory = self.sensor.memory();
        memory.programs + memory.maps
    }

    /// Takes note of what is there: the service listens by now.
    pub(crate) fn begin(&mut self, service: u32) -> Result<()> {
        self.service = key_of(service)?;
        self.look_around()
    }

    /// Begins with a service whose process is known by its start alone: `ways serve FOLDER` within a container.
    pub(crate) fn begin_within(&mut self, folder: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read("");
            let started = self.observed.iter().find_map(|observed| match &observed.event.kind {
                HostEventKind::Exec(exec) => (exec.argv.get(1..)? == ["serve", folder]).then_some(exec.actor.process),
                _ => None,
            });
            if let Some(service) = started {
                self.service = service;
                return self.look_around();
            }
            if Instant::now() > deadline {
                bail!("the service's start was not told within {PATIENCE:?}");
            }
            self.runtime.block_on(self.sensor.ready());
        }
    }

    fn look_around(&mut self) -> Result<()> {
        let at = Timestamp::from_unix_nanos(nanos(ClockId::CLOCK_REALTIME)?);
        for fact in self.resolver.snapshot(at) {
            self.feed(fact);
        }
        self.observed.clear();
        Ok(())
    }

    /// Reads until the exec of a program with the argument `end` is there; all that happened before it is read then.
    pub(crate) fn read_until(&mut self, end: &str) -> Result<Vec<Observed>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.read(end);
            if ended {
                // Records of the other ring that were handed over before the end.
                self.read(end);
                return Ok(std::mem::take(&mut self.observed));
            }
            if Instant::now() > deadline {
                bail!("the exec sense did not tell of a program that ran for certain, within {PATIENCE:?}");
            }
            self.runtime.block_on(self.sensor.ready());
        }
    }

    fn read(&mut self, end: &str) -> bool {
        let mut events = Vec::new();
        while self.sensor.drain(self.clock, &mut events) > 0 {}
        let mut ended = false;
        for event in events {
            ended |= matches!(&event.kind, HostEventKind::Exec(exec) if exec.argv.iter().any(|word| word == end));
            for fact in self.resolver.facts_for(&event) {
                self.feed(fact);
            }
            self.feed(event);
        }
        ended
    }

    fn feed(&mut self, event: HostEvent) {
        self.enricher.observe(&event);
        let judged = self.judge.judge(&event, &self.enricher, &mut self.baseline);
        let under_service = actor_of(&event.kind).is_some_and(|actor| {
            let place = self.enricher.place(actor, event.at);
            let right = self.workload.as_ref().is_none_or(|workload| place.workload.key == *workload);
            place.descends_from(self.service) && right
        });
        self.observed.push(Observed { event, judged, under_service });
    }
}

/// The process that performed `name`, by its start: what a service in a pid namespace of its own calls it is another number.
pub(crate) fn performer(observed: &[Observed], name: &str) -> Option<u32> {
    observed.iter().find_map(|observed| match &observed.event.kind {
        HostEventKind::Exec(exec) => (exec.argv.get(1..3)? == ["perform", name]).then_some(exec.actor.process.pid),
        _ => None,
    })
}

/// What was observed of one way.
pub(crate) struct Traces<'o> {
    pub(crate) name: &'static str,
    pub(crate) performer: u32,
    pub(crate) port: u16,
    pub(crate) observed: &'o [Observed],
}

impl Traces<'_> {
    /// A shell was seen, and judged to be one under the service.
    pub(crate) fn shell(&self, fits: fn(&Exec) -> bool) -> bool {
        self.exec(fits, |finding| matches!(finding, HostFinding::Spawn { class: ProgramClass::Shell, .. }))
    }

    /// An interpreter with code it was given, likewise.
    pub(crate) fn interpreter(&self, fits: fn(&Exec) -> bool) -> bool {
        self.exec(fits, |finding| matches!(finding, HostFinding::Spawn { class: ProgramClass::Interpreter, .. }))
    }

    /// A program without a name on disk, likewise.
    pub(crate) fn fileless(&self, fits: fn(&Exec) -> bool) -> bool {
        self.exec(fits, |finding| {
            matches!(finding, HostFinding::FilelessExec | HostFinding::Spawn { fileless: true, .. })
        })
    }

    fn exec(&self, fits: fn(&Exec) -> bool, found: fn(&HostFinding) -> bool) -> bool {
        self.observed.iter().any(|observed| match (&observed.event.kind, &observed.judged) {
            (HostEventKind::Exec(exec), Some(Judged::Host(evidence))) => {
                observed.under_service && self.owns(exec) && fits(exec) && found(&evidence.finding)
            }
            _ => false,
        })
    }

    /// The way's shell was seen as another program's doing.
    pub(crate) fn shell_elsewhere(&self) -> bool {
        let marked = |exec: &Exec| exec.argv.iter().any(|word| word.contains(&mark(self.name)));
        self.observed.iter().any(|observed| match &observed.event.kind {
            HostEventKind::Exec(exec) => !observed.under_service && marked(exec),
            _ => false,
        })
    }

    /// A contact with the way's own port was seen as another program's doing.
    pub(crate) fn contact_elsewhere(&self, address: &str, fits: fn(&Contact) -> bool) -> bool {
        let Ok(address) = address.parse::<IpAddr>() else { return false };
        let peer = SocketAddr::new(address, self.port);
        self.observed.iter().any(|observed| match &observed.event.kind {
            HostEventKind::Contact(contact) => !observed.under_service && contact.peer == peer && fits(contact),
            _ => false,
        })
    }

    /// Of a contact with the way's own port it is told that another was reached.
    pub(crate) fn reached_another(&self) -> bool {
        let own = self.own_sockets();
        self.observed.iter().any(|observed| match &observed.event.kind {
            HostEventKind::Flow(flow) => own.contains(&flow.socket) && flow.peer.port() != self.port,
            _ => false,
        })
    }

    /// Of a contact with the way's own port it is told how it ended.
    pub(crate) fn ended(&self, address: &str, fits: fn(&Flow) -> bool) -> bool {
        let Ok(address) = address.parse::<IpAddr>() else { return false };
        self.ended_with(SocketAddr::new(address, self.port), fits)
    }

    /// The same of any peer.
    pub(crate) fn ended_with(&self, peer: SocketAddr, fits: fn(&Flow) -> bool) -> bool {
        let own = self.sockets_of(|contact| contact.peer == peer);
        self.observed.iter().any(|observed| match &observed.event.kind {
            HostEventKind::Flow(flow) => {
                own.contains(&flow.socket) && flow.peer == peer && flow.state != FlowState::Established && fits(flow)
            }
            _ => false,
        })
    }

    /// Cookies of the sockets that contacted the way's own port.
    fn own_sockets(&self) -> Vec<u64> {
        self.sockets_of(|contact| contact.peer.port() == self.port)
    }

    fn sockets_of(&self, fits: impl Fn(&Contact) -> bool) -> Vec<u64> {
        let own = self.observed.iter().filter_map(|observed| match &observed.event.kind {
            HostEventKind::Contact(contact) if observed.under_service && fits(contact) => Some(contact.socket),
            _ => None,
        });
        own.collect()
    }

    /// A connection to the way's own port is told as what the performer was answering when it started a program.
    pub(crate) fn served(&self) -> bool {
        self.observed.iter().any(|observed| match &observed.event.kind {
            HostEventKind::Serving(serving) => {
                let latest = serving.connections.first();
                serving.server.pid == self.performer && latest.is_some_and(|one| one.local.port() == self.port)
            }
            _ => false,
        })
    }

    /// Any program at all was started by the performer, its own start left out.
    pub(crate) fn any_exec(&self) -> bool {
        self.observed
            .iter()
            .any(|observed| matches!(&observed.event.kind, HostEventKind::Exec(exec) if self.owns(exec)))
    }

    /// Whether it is the way's: the performer's process, its child, or marked.
    fn owns(&self, exec: &Exec) -> bool {
        let marked = || exec.argv.iter().any(|word| word.contains(&mark(self.name)));
        let performer = exec.actor.process.pid == self.performer || exec.actor.parent.pid == self.performer;
        let itself = exec.argv.get(1).is_some_and(|word| word == "perform");
        (performer && !itself) || marked()
    }

    /// A contact with the way's own port, under the service.
    pub(crate) fn contact(&self, address: &str, fits: fn(&Contact) -> bool) -> bool {
        let Ok(address) = address.parse::<IpAddr>() else { return false };
        self.contacts(SocketAddr::new(address, self.port), fits)
    }

    /// A contact with a metadata endpoint, by this way's processes.
    pub(crate) fn endpoint(&self, peer: &str, fits: fn(&Contact) -> bool) -> bool {
        peer.parse().is_ok_and(|peer| self.contacts(peer, fits))
    }

    fn contacts(&self, peer: SocketAddr, fits: fn(&Contact) -> bool) -> bool {
        self.observed.iter().any(|observed| match &observed.event.kind {
            HostEventKind::Contact(contact) => observed.under_service && contact.peer == peer && fits(contact),
            _ => false,
        })
    }

    /// A connection to the way's own port asked for this server.
    pub(crate) fn greeted(&self, server: &str) -> bool {
        let sockets = self.own_sockets();
        self.observed.iter().any(|observed| match &observed.event.kind {
            HostEventKind::Hello(hello) => {
                sockets.contains(&hello.socket) && hello.server_name.as_deref() == Some(server)
            }
            _ => false,
        })
    }

    /// A metadata request of the performer, understood and judged.
    pub(crate) fn request(&self, fits: fn(&MetadataRequest) -> bool) -> bool {
        self.observed.iter().any(|observed| match &observed.event.kind {
            HostEventKind::MetadataRequest(request) => {
                let judged = matches!(&observed.judged, Some(Judged::Host(evidence))
                    if matches!(evidence.finding, HostFinding::Metadata { .. }));
                observed.under_service && judged && request.actor.process.pid == self.performer && fits(request)
            }
            _ => false,
        })
    }

    /// The performer made a raw or packet socket, and that was judged.
    pub(crate) fn raw_socket(&self) -> bool {
        self.observed.iter().any(|observed| match &observed.event.kind {
            HostEventKind::RawSocket(made) => made.actor.process.pid == self.performer && observed.judged.is_some(),
            _ => false,
        })
    }

    /// What there is instead, one word an event: for whoever must find out why a cell is not as expected.
    pub(crate) fn summary(&self) -> String {
        let own = self.observed.iter().filter(|observed| observed.under_service);
        own.filter_map(|observed| match &observed.event.kind {
            HostEventKind::Exec(exec) => Some(format!(
                "exec {} {:?}{}",
                exec.exe_path,
                exec.argv,
                if observed.judged.is_some() { " judged" } else { "" }
            )),
            HostEventKind::Contact(contact) => Some(format!("contact {} {:?}", contact.peer, contact.hook)),
            HostEventKind::MetadataRequest(request) => Some(format!("request {:?}", request.path)),
            _ => None,
        })
        .chain(self.observed.iter().filter_map(|observed| match &observed.event.kind {
            HostEventKind::Flow(flow) if self.own_sockets().contains(&flow.socket) => Some(format!(
                "flow {} {:?} {} {} {}",
                flow.peer, flow.state, flow.bytes_sent, flow.bytes_received, flow.bytes_elsewhere
            )),
            _ => None,
        }))
        .collect::<Vec<_>>()
        .join("; ")
    }
}

fn actor_of(kind: &HostEventKind) -> Option<&Actor> {
    match kind {
        HostEventKind::Exec(exec) => Some(&exec.actor),
        HostEventKind::Contact(contact) => Some(&contact.actor),
        HostEventKind::MetadataRequest(request) => Some(&request.actor),
        _ => None,
    }
}

fn boot_clock() -> Result<BootClock> {
    Ok(BootClock { offset_ns: nanos(ClockId::CLOCK_REALTIME)? - nanos(ClockId::CLOCK_BOOTTIME)? })
}

fn nanos(clock: ClockId) -> Result<i64> {
    let time = clock_gettime(clock)?;
    Ok(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

/// The key of a living process, from proc(5) stat field 22.
fn key_of(pid: u32) -> Result<ProcessKey> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' ').collect::<Vec<_>>()).unwrap_or_default();
    let start_ticks = fields.get(19).and_then(|field| field.parse().ok()).context("no start time in stat")?;
    Ok(ProcessKey { pid, start_ticks })
}
