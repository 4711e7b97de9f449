//! The detector on recordings: the same pipeline with virtual time, no root, no clock.
//!
//! `breachline run --record DIR` writes `host.ndjson` and `edge.log`; [`recording`] is that format's writer and reader.

pub mod recording;
