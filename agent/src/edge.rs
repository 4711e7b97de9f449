//! The edge road: formats, judge, error rates. No I/O, no clock.

pub mod formats;
pub mod judge;
pub mod template;
