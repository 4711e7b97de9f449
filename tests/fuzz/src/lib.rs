//! The edge's modules of the agent, compiled with libFuzzer's counters in seconds: the agent's other hundred crates have
//! no part in reading a line.

#[path = "../../../agent/src"]
mod agent {
    #![allow(unreachable_pub, unused_qualifications, dead_code, reason = "a part of the agent, under its own lints there")]

    pub mod edge;
    pub mod metadata;
    pub mod request;
    pub mod timestamp;

    pub mod config {
        //! How durations are written in the config.
        pub mod duration;
    }

    pub mod evidence {
        //! What the edge hands on, as the agent declares it.

        /// See the agent's `evidence::ErrorSpike`.
        #[derive(Copy, Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct ErrorSpike {
            pub errors: u32,
            pub requests: u32,
            pub expected: f64,
            pub tail_probability: f64,
        }
    }
}

pub use agent::{config, edge, evidence, metadata, request, timestamp};
