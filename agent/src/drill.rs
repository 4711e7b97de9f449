//! A live breach in namespaces of its own, through the running pipeline.

mod balancer;
mod control;
mod http;
mod metadata_server;
mod netlink;
mod network;
mod outside;
mod range;
mod service;
mod world;

use std::io;
use std::path::PathBuf;
use std::process::Command;

use crate::timestamp::Timestamp;

/// Hidden subcommand that turns this binary into one of the range's actors.
pub const ACTOR_COMMAND: &str = "drill-actor";
/// The load balancer's access log, in the range's scratch directory.
const LOG_FILE: &str = "alb.log";

/// Why a drill could not be held.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
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
}

/// One of the range's processes.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Actor {
    /// The victim.
    Service {
        /// Cgroup directory to move to first.
        #[arg(long)]
        cgroup: Option<PathBuf>,
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
        Actor::Service { cgroup: Some(cgroup) } => {
            let mut service = Command::new(std::env::current_exe()?);
            Err(service::enter_cgroup_and_exec(cgroup, service.args([ACTOR_COMMAND, "service"])))
        }
        Actor::Service { cgroup: None } => service::run(),
        Actor::World(args) => world::run(args),
    }
}

fn now() -> Timestamp {
    Timestamp::from_unix_nanos(i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX))
}
