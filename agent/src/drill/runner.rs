//! Plays one scenario: range up, agent on, the service's ordinary life, the scenario's steps, judgement, everything down.
//!
//! In: a row of the table. Out: an [`Outcome`]. The agent is the real pipeline in this process, in the host's own namespaces, with a
//! state directory and a config of its own; it tails the load balancer's file and is told nothing else.

use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::DrillError;
use super::control::{Answer, Order};
use super::judgement::{self, Attack, Outcome, Sighting};
use super::range::Range;
use super::scenario::{Expect, PROOF, Scenario, Step, Visit};
use super::shifted_clock::ShiftedClock;
use crate::config::Config;
use crate::incident::Incident;
use crate::pipeline::Pipeline;
use crate::status::{self, Status};
use crate::{deliver, intake, kernel, store};

/// What passes between the service's ordinary life and the scenario: the agent learns for 24 hours by default.
pub(super) const LEARNED_AFTER: Duration = Duration::from_secs(25 * 3600);
/// How often the agent's status is looked at; it is renewed every second.
const ASK_INTERVAL: Duration = Duration::from_millis(20);
/// Longest wait for what is expected. It comes within tens of milliseconds; a miss is certain after this.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the agent may leave a record in the rings, ten times its drain interval; without the wait, what a service always
/// did can look like its first day after the clocks were moved.
const RINGS_READ: Duration = Duration::from_millis(200);
/// Incidents on their way from the pipeline; one attack makes a handful of revisions.
const INCIDENTS_QUEUED: usize = 256;
/// Revisions kept; more than any scenario makes.
const SIGHTINGS_MAX: usize = 1024;

/// Plays `scenario` from nothing to nothing. What keeps it from being played is an outcome too: not right, and why.
///
/// # Panics
///
/// Never by itself; a panic in the pipeline passes through after the range was cleared.
pub async fn play(scenario: &'static Scenario) -> Outcome {
    let played = match missing_program(scenario) {
        Some(program) => Err(DrillError::Program { program }),
        None => play_in_range(scenario).await,
    };
    let outcome = played.unwrap_or_else(|error| {
        let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
        Outcome { wrong: vec![format!("it could not be played: {error}{cause}")], ..Outcome::default() }
    });
    Outcome {
        scenario: scenario.name,
        expected: judgement::describe(&scenario.expect),
        simulated: scenario.simulated,
        ..outcome
    }
}

async fn play_in_range(scenario: &Scenario) -> Result<Outcome, DrillError> {
    let program =
        std::env::current_exe().map_err(|source| DrillError::Prepare { what: "find this program", source })?;
    let range = Range::open(&program).await?;
    if scenario.ipv6 && !range.ipv6 {
        return Err(DrillError::Ipv6);
    }
    let mut stage = Stage::open(range).await?;
    stage.play(scenario.life).await?;
    stage.pass_time(LEARNED_AFTER).await?;
    let attack = stage.play(scenario.steps).await?;
    let outcome = match scenario.expect {
        Expect::Incident { .. } => stage.judge_attack(&scenario.expect, attack.unwrap_or_default()).await?,
        Expect::Silence => stage.judge_silence().await?,
    };
    stage.close().await;
    Ok(outcome)
}

/// The first program the scenario needs and this machine lacks.
fn missing_program(scenario: &Scenario) -> Option<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |program: &str| std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    std::iter::once("sh").chain(scenario.needs.iter().copied()).find(|program| !found(program))
}

/// A range with an agent watching the machine it is on.
struct Stage {
    /// Dropped before the range: its files lie in the range's scratch directory.
    pipeline: Pipeline,
    sightings: watch::Receiver<Vec<Sighting>>,
    range: Range,
    clock: ShiftedClock,
    /// Requests sent: lines that the agent will have read in the end.
    requests: u64,
    /// The load balancer keeps its lines back.
    log_held: bool,
}

impl Stage {
    async fn open(range: Range) -> Result<Self, DrillError> {
        let config = agent_config(range.scratch(), &range.log());
        let (sender, incidents) = mpsc::channel(INCIDENTS_QUEUED);
        let (noted, sightings) = watch::channel(Vec::new());
        let clock = ShiftedClock::default();
        tokio::spawn(note_sightings(range.cgroup().to_owned(), clock.clone(), incidents, noted));
        let pipeline = Pipeline::start(&config, Some(sender)).await?;
        Ok(Self { pipeline, sightings, range, clock, requests: 0, log_held: false })
    }

    async fn close(self) {
        self.pipeline.stop().await;
    }

    /// Plays the steps in order; gives the attack among them.
    async fn play(&mut self, steps: &[Step]) -> Result<Option<Attack>, DrillError> {
        let mut attack = None;
        for step in steps {
            match step {
                Step::Visit(visit) => _ = self.send(visit).await?,
                Step::Attack(visit) => attack = Some(self.send(visit).await?),
                Step::Service(order) => _ = self.range.order(order).await?,
                Step::HoldLog => {
                    self.range.order(&Order::HoldLog).await?;
                    self.log_held = true;
                }
                Step::AwaitProvisional => self.wait_for(judgement::host_half_complete).await,
                Step::PassTime(span) => self.pass_time(*span).await?,
                Step::ReleaseLog => {
                    let released = self.clock.now();
                    self.range.order(&Order::ReleaseLog).await?;
                    self.log_held = false;
                    attack.iter_mut().for_each(|attack: &mut Attack| attack.line_available = released);
                }
            }
        }
        Ok(attack)
    }

    async fn send(&mut self, visit: &Visit) -> Result<Attack, DrillError> {
        let shot = visit.shot();
        let target = shot.target.clone();
        self.requests += 1;
        let Answer::Answered { sent, answered, body, .. } = self.range.order(&Order::Send(shot)).await? else {
            return Err(DrillError::Actor { reason: "a request got no answer".into() });
        };
        Ok(Attack { plain: visit.plain(), target, sent, line_available: answered, loot: body })
    }

    /// Moves every clock of the range on once the agent knows all that was before, and waits until it has noticed.
    async fn pass_time(&mut self, span: Duration) -> Result<(), DrillError> {
        if !self.log_held {
            self.until_read().await;
        }
        self.range.order(&Order::PassTime { seconds: span.as_secs() }).await?;
        self.pipeline.pass_time(span);
        self.clock.pass(span);
        let passed = self.clock.now();
        self.until_status(|status| status.taken >= passed).await;
        Ok(())
    }

    /// Waits until the agent has read the line of every request, and then what the kernel's rings held of them: a record that
    /// is read after the clocks were moved would be told as of the new time.
    async fn until_read(&self) {
        let lines = |status: &Status| status.counters.get("detector.edge_lines").copied();
        self.until_status(|status| lines(status) >= Some(self.requests)).await;
        let drained = self.clock.now().plus(RINGS_READ);
        self.until_status(|status| status.taken >= drained).await;
    }

    /// Waits until the agent's status is as `wanted`. Without it the scenario is played, and judged, all the same.
    async fn until_status(&self, wanted: impl Fn(&Status) -> bool) {
        let asked = async {
            while !wanted(&self.pipeline.status()) {
                tokio::time::sleep(ASK_INTERVAL).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, asked).await;
    }

    async fn judge_attack(&mut self, expect: &Expect, mut attack: Attack) -> Result<Outcome, DrillError> {
        attack.loot.push_str(&self.loot().await?);
        self.wait_for(|sightings| judgement::complete(expect, &attack, sightings)).await;
        Ok(judgement::judge_attack(expect, &attack, &self.sightings.borrow()))
    }

    /// Plays one more attack: once that is raised, everything before it has been through the pipeline, and what was not raised
    /// until then never will be.
    async fn judge_silence(&mut self) -> Result<Outcome, DrillError> {
        let proof = self.play(PROOF).await?.unwrap_or_default();
        let of_proof = |sighting: &Sighting| sighting.incident.last_seen >= proof.sent;
        self.wait_for(|sightings| sightings.iter().any(of_proof)).await;
        let sightings = self.sightings.borrow();
        let awake_at = sightings.iter().find(|sighting| of_proof(sighting)).map(|sighting| sighting.at);
        let noise: Vec<Sighting> = sightings.iter().filter(|sighting| !of_proof(sighting)).cloned().collect();
        Ok(judgement::judge_silence(&noise, &proof, awake_at))
    }

    async fn loot(&mut self) -> Result<String, DrillError> {
        match self.range.order(&Order::Loot).await? {
            Answer::Loot { text } => Ok(text),
            _ => Ok(String::new()),
        }
    }

    /// Waits until the sightings are as `wanted`, or patience ends; the judgement then says what is missing.
    async fn wait_for(&mut self, wanted: impl Fn(&[Sighting]) -> bool) {
        let _ = tokio::time::timeout(PATIENCE, self.sightings.wait_for(|sightings| wanted(sightings))).await;
    }
}

/// Stamps every revision on the service's cgroup as it comes out of the pipeline. Incidents elsewhere on the machine are not
/// the drill's.
async fn note_sightings(
    cgroup: String,
    clock: ShiftedClock,
    mut incidents: mpsc::Receiver<Incident>,
    noted: watch::Sender<Vec<Sighting>>,
) {
    while let Some(incident) = incidents.recv().await {
        let at = clock.now();
        if *incident.workload.cgroup == *cgroup && noted.borrow().len() < SIGHTINGS_MAX {
            noted.send_modify(|sightings| sightings.push(Sighting { at, incident }));
        }
    }
}

/// Of the agent's config, what a drill must have its own way; the rest are the defaults.
fn agent_config(scratch: &Path, log: &Path) -> Config {
    Config {
        store: store::Config { directory: scratch.join("state"), ..store::Config::default() },
        intake: intake::Config {
            http: intake::HttpConfig { enabled: false, ..intake::HttpConfig::default() },
            files: vec![intake::FileConfig { path: log.to_owned(), from_end: false, ..intake::FileConfig::default() }],
            ..intake::Config::default()
        },
        deliver: deliver::Config { stdout: deliver::Format::Off, ..deliver::Config::default() },
        status: status::Config { socket: None },
        // A drill leaves nothing behind.
        kernel: kernel::Config { pin: false, ..kernel::Config::default() },
        ..Config::default()
    }
}
