//! What the agent says of itself: what it senses, what it counted, what is wrong. A sensor that does not say it is blind is
//! worse than none.
//!
//! In: each stage's own counters. Out: [`Status`], as JSON and as text for people. Nothing here decides
//! anything.

pub mod metrics;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::incident::coverage::SenseCoverage;
use crate::kernel::{SenseState, SenseVerdict};
use crate::timestamp::Timestamp;

/// Version of the status record.
pub const STATUS_SCHEMA_VERSION: u32 = 1;

/// `[status]` of the config.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Socket on which the commands ask; root's alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

/// Where the socket is by default.
pub const DEFAULT_SOCKET: &str = "/run/breachline/status.sock";

impl Default for Config {
    fn default() -> Self {
        Self { socket: Some(PathBuf::from(DEFAULT_SOCKET)) }
    }
}

/// One sense, as `doctor` and `status` show it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenseStatus {
    /// Its name.
    pub sense: String,
    /// `active`, `degraded` or `unavailable`.
    pub state: String,
    /// What is missing and what to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// When the agent last saw it sense something of its own making.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<Timestamp>,
}

impl From<&SenseVerdict> for SenseStatus {
    fn from(verdict: &SenseVerdict) -> Self {
        let (state, detail) = match &verdict.state {
            SenseState::Active => ("active", verdict.note.to_owned()),
            SenseState::Degraded { missing } => ("degraded", format!("without {}", missing.join(", "))),
            // Some reasons say already what to do.
            SenseState::Unavailable { reason, .. } if reason.contains(';') => ("unavailable", reason.clone()),
            SenseState::Unavailable { reason, remedy } => ("unavailable", format!("{reason}; {remedy}")),
        };
        Self { sense: verdict.sense.to_owned(), state: state.to_owned(), detail, proven: None }
    }
}

impl From<SenseStatus> for SenseCoverage {
    fn from(status: SenseStatus) -> Self {
        Self { sense: status.sense, state: status.state, proven: status.proven }
    }
}

/// The agent at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`STATUS_SCHEMA_VERSION`].
    pub schema: u32,
    /// Agent version.
    pub version: String,
    /// When it started.
    pub started: Timestamp,
    /// When this was taken.
    pub taken: Timestamp,
    /// What it senses.
    pub senses: Vec<SenseStatus>,
    /// What is wrong, one sentence each; empty when nothing is.
    pub troubles: Vec<String>,
    /// Workloads whose normal is still being learned.
    pub learning: Vec<String>,
    /// Edge lines that could not be read, a few of them, escaped.
    pub unread_lines: Vec<String>,
    /// `stage.counter` to its value.
    pub counters: BTreeMap<String, u64>,
}

impl Status {
    /// An agent of which nothing is known yet.
    #[must_use]
    pub fn starting(now: Timestamp) -> Self {
        Self {
            schema: STATUS_SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: now,
            taken: now,
            senses: Vec::new(),
            troubles: Vec::new(),
            learning: Vec::new(),
            unread_lines: Vec::new(),
            counters: BTreeMap::new(),
        }
    }

    /// Adds a stage's counters: every number in `value`, named by its path (`deliver.http.sent`).
    pub fn count(&mut self, stage: &str, value: &impl Serialize) {
        if let Ok(value) = serde_json::to_value(value) {
            flatten(stage, &value, &mut self.counters);
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let up = self.taken.since(self.started);
        let _ = writeln!(out, "breachline {}, up {}", self.version, humanly(up.as_secs()));
        for trouble in &self.troubles {
            let _ = writeln!(out, "  ! {trouble}");
        }
        out.push_str("\nsenses\n");
        out.push_str(&senses_text(&self.senses));
        if !self.learning.is_empty() {
            let _ = writeln!(out, "\nstill learning what is normal for\n  {}", self.learning.join(", "));
        }
        if !self.unread_lines.is_empty() {
            out.push_str("\nedge lines that could not be read, for example\n");
            for line in &self.unread_lines {
                let _ = writeln!(out, "  {line}");
            }
        }
        out.push_str("\ncounters (those not shown are 0)\n");
        for (name, value) in self.counters.iter().filter(|(_, value)| **value != 0) {
            let _ = writeln!(out, "  {name:<44} {value:>12}");
        }
        out
    }
}

/// A table of senses, for `status` and `doctor`.
#[must_use]
pub fn senses_text(senses: &[SenseStatus]) -> String {
    let mut out = String::new();
    for sense in senses {
        let _ = write!(out, "  {:<10} {:<12}", sense.sense, sense.state);
        let proven = sense.proven.map(|at| format!("proven at {at}")).unwrap_or_default();
        let between = if proven.is_empty() || sense.detail.is_empty() { "" } else { "; " };
        let _ = writeln!(out, "{proven}{between}{}", sense.detail);
    }
    out
}

fn flatten(path: &str, value: &serde_json::Value, into: &mut BTreeMap<String, u64>) {
    match value {
        serde_json::Value::Number(number) => {
            if let Some(number) = number.as_u64() {
                into.insert(path.to_owned(), number);
            }
        }
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                flatten(&format!("{path}.{name}"), field, into);
            }
        }
        _ => {}
    }
}

fn humanly(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_stage_is_a_counter() {
        let mut status = Status::starting(Timestamp::default());
        status.count("edge", &serde_json::json!({"lines": 3, "formats": {"alb": 2}, "note": "x", "share": 0.5}));
        let counters: Vec<_> = status.counters.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!(counters, [("edge.formats.alb", 2), ("edge.lines", 3)]);
    }

    #[test]
    fn trouble_comes_first() {
        let mut status = Status::starting(Timestamp::default());
        status.troubles.push("state is kept in memory only".to_owned());
        status.senses.push(SenseStatus {
            sense: "exec".to_owned(),
            state: "active".to_owned(),
            ..SenseStatus::default()
        });
        let text = status.text();
        assert!(text.find("memory only").expect("shown") < text.find("senses").expect("shown"), "{text}");
    }
}
