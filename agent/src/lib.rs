//! Breachline: one explained incident per web breach.
//!
//! Two roads meet in one place. Read the modules in this order and you walk the data's way:
//!
//! ```text
//! kernel event   kernel -> decode -> enrich -> host  ---+
//!                                                       +-> correlate -> incident -> deliver
//! edge line      intake -> edge (formats, judge) -------+
//! ```
//!
//! Four nouns stand on the ground floor and every stage speaks in them: [`event`] (what the host did), [`request`]
//! (what the edge saw), [`evidence`] (either of them judged and placed on a workload), [`incident`].
//! [`detector`] joins the pure stages: the same inputs give the same incidents, byte for byte, whoever calls it.
#![forbid(unsafe_code)]

// The nouns.
pub mod event;
pub mod evidence;
pub mod incident;
pub mod metadata;
mod redact;
pub mod request;
pub mod timestamp;
pub mod workload;

// The host road.
pub mod decode;
pub mod enrich;
pub mod host;
pub mod kernel;

// The edge road.
pub mod edge;
pub mod intake;

// Where they meet.
pub mod baseline;
pub mod correlate;
pub mod coverage;
pub mod detector;
pub mod expectation;
pub mod lists;

// What comes of it.
pub mod deliver;
pub mod store;

// Who calls it.
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod drill;
pub mod fleet;
pub mod forward;
pub mod identity;
mod netlink;
pub mod pipeline;
pub mod privileges;
pub mod replay;
pub mod status;
pub mod telemetry;
