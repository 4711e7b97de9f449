//! Every struct that crosses the kernel line. Numbers and byte arrays only, explicit padding, layout held at compile
//! time.
//!
//! Both halves depend on this crate and it on neither. Rules for changing it: a record may grow at its end under the
//! same [`record::VERSION`]; anything else takes a new version or a new kind, and a retired kind number is never used
//! again. All numbers are in the machine's own byte order (both halves run on one machine), except addresses and the
//! ports inside [`control`] keys, which stay as the network has them.
#![no_std]

pub mod contact;
pub mod control;
pub mod exec;
pub mod filter;
pub mod hello;
pub mod limits;
pub mod names;
pub mod parameters;
pub mod process;
pub mod raw;
pub mod record;
pub mod request;
pub mod serving;
pub mod socket;
