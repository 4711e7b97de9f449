//! How well one workload is seen, as a record: what `breachline coverage` lists, and each incident of a live agent carries. In:
//! plain values from the coverage stage. Out: sentences.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wording::span;
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

/// What one kernel sense could do when an incident was raised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenseCoverage {
    /// Its name.
    pub sense: String,
    /// `active`, `degraded` or `unavailable`.
    pub state: String,
    /// When the agent last saw it sense something of its own making.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<Timestamp>,
}

/// All senses, one sentence for each state that any is in.
#[must_use]
pub fn senses_said(senses: &[SenseCoverage]) -> Vec<String> {
    let name = |sense: &SenseCoverage| match sense.proven {
        Some(at) => format!("{} (proven at {at})", sense.sense),
        None => sense.sense.clone(),
    };
    let mut states: Vec<&str> = senses.iter().map(|sense| sense.state.as_str()).collect();
    states.sort_unstable();
    states.dedup();
    let said = |state: &str| {
        let names: Vec<String> = senses.iter().filter(|sense| sense.state == state).map(name).collect();
        format!("{state} senses: {}", names.join(", "))
    };
    states.into_iter().map(said).collect()
}

/// What is not, or not well, seen. The names are stable: scripts count them.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapKind {
    /// It listens, and no line of a load balancer was ever joined with it.
    NoEdgeLines,
    /// Its lines stopped.
    EdgeLinesStopped,
    /// Lines come later than evidence is remembered.
    ShortRetention,
    /// The balancer names a target that no listener has: address or port translation lies between.
    AddressTranslation,
    /// Its instances are gone before their lines arrive.
    Ephemeral,
    /// Instances come and go, and what is normal is not known on a new one.
    Autoscaled,
    /// Kernel records were lost.
    ProcessTelemetryLost,
    /// A sense of the kernel does not work or not wholly.
    SenseMissing,
    /// What is normal is still being learned.
    StillLearning,
    /// Lines that could not be read.
    UnreadLines,
}

/// One thing that is not seen, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverageGap {
    /// Which.
    pub kind: GapKind,
    /// What was observed.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

/// Lines of load balancers that were joined with a workload, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EdgeCoverage {
    /// All of them, since the agent began to watch.
    pub lines: u64,
    /// Those whose target is the exact listener.
    pub by_listener: u64,
    /// Those whose target has the host's address and a port that nobody listens on.
    pub by_address: u64,
    /// Those joined by a configured route.
    pub by_route: u64,
    /// Those that arrived later than evidence is remembered.
    pub too_late: u64,
    /// Those that named this workload's listener after it was gone.
    pub after_end: u64,
    /// When the latest arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Timestamp>,
    /// Half of the lines arrive within this after their response, milliseconds; of the last days, within 10 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_p50_ms: Option<u64>,
    /// 99 of 100 do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_p99_ms: Option<u64>,
}

/// How well one workload is seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadCoverage {
    /// Which.
    pub workload: WorkloadKey,
    /// Since when it is watched.
    pub since: Timestamp,
    /// What is normal on it is still being learned.
    pub learning: bool,
    /// It was seen to listen.
    pub listens: bool,
    /// Lines of load balancers.
    pub edge: EdgeCoverage,
    /// Instances that started in the last day.
    pub instances: u64,
    /// Kernel records lost in the last day, on the whole host: a loss does not tell whose it was.
    pub lost_records: u64,
    /// How long evidence is remembered for a line that comes late, seconds.
    pub remembered_s: u64,
    /// What is not, or not well, seen.
    #[serde(default)]
    pub gaps: Vec<CoverageGap>,
}

impl WorkloadCoverage {
    /// Share of its lines that name the exact listener, 0 to 1; `None` without lines.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share of line counts, for people")]
    pub fn joined_share(&self) -> Option<f64> {
        (self.edge.lines > 0).then(|| self.edge.by_listener as f64 / self.edge.lines as f64)
    }

    /// What it comes to, one sentence each, gaps left out.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        match self.joined_share() {
            None => sentences.push("no load balancer line was joined with this workload".to_owned()),
            Some(share) => sentences.push(format!(
                "{} load balancer lines, {:.0} % of them joined by the exact listener",
                self.edge.lines,
                share * 100.0
            )),
        }
        if let (Some(half), Some(most)) = (self.edge.delay_p50_ms, self.edge.delay_p99_ms) {
            let said = |millis: u64| span(Duration::from_millis(millis));
            sentences.push(format!(
                "they arrive {} (half) to {} (99 of 100) after the response",
                said(half),
                said(most)
            ));
        }
        let lost = match self.lost_records {
            0 => "no kernel record was lost in the last day".to_owned(),
            lost => format!("{lost} kernel records were lost on this host in the last day"),
        };
        let learned = if self.learning { "is still being learned" } else { "is known" };
        sentences.push(format!("{lost}; what is normal here {learned}"));
        let remembered = span(Duration::from_secs(self.remembered_s));
        sentences.push(format!("evidence waits {remembered} for a line that comes late"));
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sense_is_named_by_its_state() {
        let sense = |sense: &str, state: &str, proven: Option<i64>| SenseCoverage {
            sense: sense.to_owned(),
            state: state.to_owned(),
            proven: proven.map(Timestamp::from_unix_millis),
        };
        assert!(senses_said(&[]).is_empty());
        let said = senses_said(&[
            sense("exec", "active", Some(0)),
            sense("raw", "degraded", None),
            sense("names", "active", None),
        ]);
        assert_eq!(
            said,
            [
                format!("active senses: exec (proven at {}), names", Timestamp::from_unix_millis(0)),
                "degraded senses: raw".to_owned()
            ]
        );
    }
}
