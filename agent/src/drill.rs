//! A live breach in namespaces of its own, through the running pipeline.

mod http;
mod netlink;
mod network;

use std::io;

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
}
