//! The edge's modules of the agent (linked from there), compiled with libFuzzer's counters in a minute: the agent's other
//! hundred crates have no part in reading a line.

#![allow(unreachable_pub, dead_code, reason = "a part of the agent, which is linted there")]

pub mod edge;
pub mod metadata;
pub mod request;
pub mod timestamp;

pub mod config {
    //! How durations are written in the config.
    pub mod duration;
}

pub mod evidence {
    //! What the edge hands on.

    /// As the agent's `evidence` declares it.
    #[derive(Copy, Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub struct ErrorSpike {
        pub errors: u32,
        pub requests: u32,
        pub expected: f64,
        pub tail_probability: f64,
    }
}
