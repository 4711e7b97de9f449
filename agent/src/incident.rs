//! The incident: one record that a responder can act on without opening anything else.

use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;
use crate::workload::Workload;

/// Version of the incident record (`schema` field).
pub const INCIDENT_SCHEMA_VERSION: u32 = 1;

/// How bad it is; follows from the stages present and the strength of their joins.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// One stage: recorded, never raised by default.
    Low,
    /// Two stages loosely joined.
    Medium,
    /// Two stages strongly joined.
    High,
    /// All three.
    Critical,
}

/// One revision of one incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// [`INCIDENT_SCHEMA_VERSION`].
    pub schema: u32,
    /// Stable for the incident's life.
    pub id: String,
    /// 1 for the first, growing by one.
    pub revision: u32,
    /// Severity now.
    pub severity: Severity,
    /// One sentence.
    pub title: String,
    /// Time of the earliest evidence.
    pub first_seen: Timestamp,
    /// Time of the latest evidence.
    pub last_seen: Timestamp,
    /// Where.
    pub workload: Workload,
}
