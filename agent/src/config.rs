//! Checked configuration.

pub mod duration;
