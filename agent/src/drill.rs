//! `breachline drill`: a live breach in namespaces of its own, through the running pipeline.
//!
//! In: a row of [`SCENARIOS`]. Out: an [`Outcome`]: caught or not, how fast, and whether that is right. Everything a scenario
//! touches is real: processes, sockets, a shell that is started because a request said so, kernel events, the pipeline that
//! `breachline run` runs. What is not is named in the row ([`Scenario::simulated`]), but for two things true of all of them: time is
//! compressed (requests follow each other at once; the hours in between, the agent's day of learning among them, are passed by moving
//! all clocks of the range on), and the credential is worthless. It never
//! touches the host's own network, and leaves nothing behind.
//!
//! An agent already installed on this machine watches the drill too, and will raise its own incidents about `shop.service`.

mod balancer;
mod control;
mod http;
mod judgement;
mod metadata_server;
mod network;
mod outside;
mod range;
mod report;
mod runner;
mod scenario;
mod service;
mod shifted_clock;
mod turn;
mod world;

use std::io;
use std::path::PathBuf;
use std::process::Command;

pub use judgement::{Milestone, Outcome};
pub use report::{closing, opening, tell};
pub use runner::play;
pub use scenario::{SCENARIOS, Scenario, find};
pub use turn::Turn;

use crate::pipeline::PipelineError;

/// Hidden subcommand that turns this binary into one of the range's actors.
pub const ACTOR_COMMAND: &str = "drill-actor";
/// The load balancer's access log, in the range's scratch directory.
const LOG_FILE: &str = "alb.log";
/// Where the service keeps what is uploaded, in the range's scratch directory.
const UPLOADS: &str = "uploads";

/// Why a scenario could not be played.
#[derive(Debug, thiserror::Error)]
enum DrillError {
    /// A step of laying the network failed.
    #[error("cannot {what} for the drill's network")]
    Network {
        /// The step.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A step of setting the range up failed.
    #[error("cannot {what} for the drill")]
    Prepare {
        /// The step.
        what: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// An actor of the range did not do its part.
    #[error("the drill's range failed: {reason}")]
    Actor {
        /// What happened.
        reason: String,
    },
    /// The intruder of this scenario uses a program that is not here.
    #[error("it needs `{program}`, which is not on this machine; install it")]
    Program {
        /// Its name.
        program: &'static str,
    },
    /// The range has no IPv6.
    #[error("it needs IPv6, which is switched off on this machine (sysctl net.ipv6.conf.default.disable_ipv6)")]
    Ipv6,
    /// The agent did not start or stop.
    #[error("the agent's pipeline failed")]
    Pipeline(#[from] PipelineError),
}

/// One of the range's processes.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Actor {
    /// The victim.
    Service {
        /// Cgroup directory to move to first.
        #[arg(long)]
        cgroup: Option<PathBuf>,
        /// Where it keeps what is uploaded.
        #[arg(long)]
        uploads: PathBuf,
    },
    /// Everything else.
    World(world::WorldArgs),
}

/// Is one of the range's processes, until its stdin ends.
///
/// # Errors
///
/// What kept it from playing its part.
pub fn act(actor: &Actor) -> io::Result<()> {
    match actor {
        Actor::Service { cgroup: Some(cgroup), uploads } => {
            let mut service = Command::new(std::env::current_exe()?);
            let service = service.args([ACTOR_COMMAND, "service", "--uploads"]).arg(uploads);
            Err(service::enter_cgroup_and_exec(cgroup, service))
        }
        Actor::Service { cgroup: None, uploads } => service::run(uploads),
        Actor::World(args) => world::run(args),
    }
}
