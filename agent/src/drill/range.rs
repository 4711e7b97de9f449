//! The range a scenario runs in: network, pid namespace, cgroup, scratch directory, and the two actors in them.
//!
//! In: orders. Out: answers. A [`Range`] is made on a thread of its own, because namespaces belong to threads: the drill and the
//! agent in it stay where they are. Nothing is left behind however the drill ends: both actors live on the drill's end of
//! their stdin pipes, which the kernel closes; the world then clears up, and with it ends the pid namespace and every
//! process in it. (PR_SET_PDEATHSIG would not do: it fires when the *thread* that made the child ends.)

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use procfs::process::Process;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::control::{Answer, Order};
use super::http::SILENCE_MAX;
use super::network::Network;
use super::{ACTOR_COMMAND, DrillError, LOG_FILE, UPLOADS};

/// The unit the service claims to be: the workload's name in every incident.
pub(super) const UNIT: &str = "shop.service";

/// Longest wait for an answer: a request may take [`SILENCE_MAX`] on each of two wires.
const ANSWER_MAX: Duration = Duration::from_secs(2 * SILENCE_MAX.as_secs() + 5);
/// Longest wait for an actor to end by itself before it is killed.
const END_MAX: Duration = Duration::from_secs(5);

/// Two actors and what they stand on.
pub(super) struct Range {
    /// Dropped in this order: the service first, so that the world finds nothing to kill as a rule.
    service: Actor,
    world: Actor,
    scratch: PathBuf,
    /// Where the service runs, from the cgroup hierarchy's root: how its incidents are told from others'.
    cgroup: String,
    /// The wire has IPv6.
    pub(super) ipv6: bool,
}

impl Range {
    /// Builds everything and waits until both actors listen. `program` is this binary.
    ///
    /// # Errors
    ///
    /// The step that failed. What was made until then is removed again.
    pub(super) async fn open(program: &Path) -> Result<Self, DrillError> {
        let (program, runtime) = (program.to_owned(), Handle::current());
        let (sender, built) = oneshot::channel();
        thread::spawn(move || {
            // Nobody waits for it any more when the drill was interrupted: the range is dropped, and so cleared, here.
            drop(sender.send(runtime.block_on(build(&program))));
        });
        built.await.unwrap_or_else(|_| Err(DrillError::Actor { reason: "the range's thread ended early".into() }))
    }

    /// The access log that the load balancer writes.
    pub(super) fn log(&self) -> PathBuf {
        self.scratch.join(LOG_FILE)
    }

    /// Directory that is removed with the range.
    pub(super) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// The service's cgroup path, as incidents give it.
    pub(super) fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Gives an order to whom it concerns, and waits for the answer.
    ///
    /// # Errors
    ///
    /// When the actor failed at it, died or fell silent.
    pub(super) async fn order(&mut self, order: &Order) -> Result<Answer, DrillError> {
        match order {
            Order::RefreshCredential | Order::NightlyReport => self.service.order(order).await,
            _ => self.world.order(order).await,
        }
    }
}

/// Runs on a thread of its own, which ends up in other namespaces than the drill's.
async fn build(program: &Path) -> Result<Range, DrillError> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let name = format!("breachline_drill_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    let scratch = std::env::temp_dir().join(&name);
    let cgroup = format!("/{name}.slice/{UNIT}");
    let hierarchy = cgroup2_mount().map_err(|error| prepare("find the cgroup2 hierarchy", error))?;
    let directory = hierarchy.join(cgroup.trim_start_matches('/'));

    let network = Network::build()?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(|errno| prepare("make a pid namespace", errno.into()))?;
    network.enter_world()?;
    let mut world = Actor::start(program, |command| {
        command.arg("world").arg("--scratch").arg(&scratch).arg("--cgroup").arg(&directory);
    })?;
    world.ready().await?;
    network.enter_service_host()?;
    let mut service = Actor::start(program, |command| {
        command.arg("service").arg("--uploads").arg(scratch.join(UPLOADS)).arg("--cgroup").arg(&directory);
    })?;
    service.ready().await?;
    Ok(Range { service, world, scratch, cgroup, ipv6: network.ipv6 })
}

fn prepare(what: &'static str, source: io::Error) -> DrillError {
    DrillError::Prepare { what, source }
}

fn cgroup2_mount() -> io::Result<PathBuf> {
    let mounts = Process::myself().and_then(|process| process.mountinfo()).map_err(io::Error::other)?;
    let cgroup2 = mounts.into_iter().find(|mount| mount.fs_type == "cgroup2");
    cgroup2
        .map(|mount| mount.mount_point)
        .ok_or_else(|| io::Error::other("none is mounted; mount one, or boot with it"))
}

/// A child process that follows orders.
struct Actor {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Actor {
    /// Starts it in the calling thread's namespaces. Makes no thread: one that has a pid namespace waiting for its children may
    /// not (`clone(2)`, EINVAL).
    fn start(program: &Path, arguments: impl FnOnce(&mut Command)) -> Result<Self, DrillError> {
        let mut command = Command::new(program);
        command.arg(ACTOR_COMMAND);
        arguments(&mut command);
        // A process group of its own: Ctrl-C at the terminal is the drill's to handle.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|error| prepare("start an actor", error))?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe.into()).and_then(ChildStdout::from_std);
        let answers = BufReader::new(stdout.map_err(|error| prepare("hear an actor", error))?).lines();
        Ok(Self { stdin: child.stdin.take(), child, answers })
    }

    async fn ready(&mut self) -> Result<(), DrillError> {
        self.answer().await.map(|_| ())
    }

    async fn order(&mut self, order: &Order) -> Result<Answer, DrillError> {
        let mut line = serde_json::to_vec(order).map_err(|error| DrillError::Actor { reason: error.to_string() })?;
        line.push(b'\n');
        let written = self.stdin.as_mut().map(|stdin| stdin.write_all(&line));
        match written {
            Some(Ok(())) => self.answer().await,
            _ => Err(DrillError::Actor { reason: "an actor ended before its time".into() }),
        }
    }

    async fn answer(&mut self) -> Result<Answer, DrillError> {
        let line = tokio::time::timeout(ANSWER_MAX, self.answers.next_line()).await;
        let reason = match line.map(Result::ok) {
            Ok(Some(Some(line))) => match serde_json::from_str(&line) {
                Ok(Answer::Failed { reason }) => reason,
                Ok(answer) => return Ok(answer),
                Err(error) => error.to_string(),
            },
            Ok(_) => "an actor ended before its time".into(),
            Err(_) => format!("no answer within {} s", ANSWER_MAX.as_secs()),
        };
        Err(DrillError::Actor { reason })
    }
}

impl Drop for Actor {
    /// Ends it by closing its stdin; kills it when that is not enough. Blocks until it is gone.
    fn drop(&mut self) {
        self.stdin = None;
        let deadline = Instant::now() + END_MAX;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                // Too late for manners; both calls fail only if it has gone meanwhile.
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}
