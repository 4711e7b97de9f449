//! What `breachline coverage` answers: per workload, per balancer, for the host. In: the stage's memory. Out: a record, and text.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Balancer, Coverage, Watched};
use crate::incident::coverage::{CoverageGap, EdgeCoverage, WorkloadCoverage};
use crate::incident::wording::{clean, span};
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

/// Version of the record; fields may be added under the same one.
const COVERAGE_SCHEMA_VERSION: u32 = 1;

/// One balancer, whatever its lines were joined with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BalancerCoverage {
    /// As its lines name it; `-` where they do not.
    pub name: String,
    /// Lines.
    pub lines: u64,
    /// Those whose target is this host's.
    pub matched: u64,
    /// Half of them arrive within this, milliseconds.
    pub delay_p50_ms: Option<u64>,
    /// 99 of 100 do.
    pub delay_p99_ms: Option<u64>,
    /// When the latest response was complete.
    pub latest: Timestamp,
    /// A target that is not this host's, as an example.
    pub unmatched_target: Option<String>,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`COVERAGE_SCHEMA_VERSION`].
    pub schema: u32,
    /// When it was taken.
    pub taken: Timestamp,
    /// Since when the agent watches.
    pub since: Timestamp,
    /// Each workload that listens or had lines, by name.
    pub workloads: Vec<WorkloadCoverage>,
    /// Each balancer heard of, by name.
    pub balancers: Vec<BalancerCoverage>,
    /// What is not, or not well, seen on the whole host.
    pub gaps: Vec<CoverageGap>,
}

impl Coverage {
    /// Everything; `learning` says of a workload whether what is normal on it is still being learned.
    #[must_use]
    pub fn report(&self, learning: impl Fn(&WorkloadKey) -> bool) -> Report {
        let mut workloads: Vec<_> =
            self.workloads.iter().map(|(key, watched)| self.describe(key, watched, learning(key))).collect();
        workloads.sort_by(|one, other| one.workload.cmp(&other.workload));
        let mut balancers: Vec<_> = self.balancers.iter().map(|(name, balancer)| balancer.describe(name)).collect();
        balancers.sort_by(|one, other| one.name.cmp(&other.name));
        Report {
            schema: COVERAGE_SCHEMA_VERSION,
            taken: self.now,
            since: self.since.unwrap_or(self.now),
            workloads,
            balancers,
            gaps: self.host_gaps(),
        }
    }

    /// One workload; `None` for one that never listened and had no line.
    #[must_use]
    pub fn of(&self, workload: &WorkloadKey, learning: bool) -> Option<WorkloadCoverage> {
        self.workloads.peek(workload).map(|watched| self.describe(workload, watched, learning))
    }

    fn describe(&self, workload: &WorkloadKey, watched: &Watched, learning: bool) -> WorkloadCoverage {
        WorkloadCoverage {
            workload: workload.clone(),
            since: watched.since,
            learning,
            listens: watched.listens_on.is_some(),
            edge: EdgeCoverage {
                delay_p50_ms: watched.delays.quantile(50),
                delay_p99_ms: watched.delays.quantile(99),
                ..watched.edge.clone()
            },
            instances: watched.instances.sum(self.now),
            lost_records: self.losses.values().map(|day| day.sum(self.now)).fold(0, u64::saturating_add),
            remembered_s: self.remembered.as_secs(),
            gaps: self.gaps_of(watched, learning),
        }
    }
}

impl Balancer {
    fn describe(&self, name: &[u8]) -> BalancerCoverage {
        let target = |target| match target {
            crate::request::Target::Socket(socket) => Some(socket.to_string()),
            crate::request::Target::Address(address) => Some(address.to_string()),
            _ => None,
        };
        BalancerCoverage {
            name: if name.is_empty() { "-".to_owned() } else { name.escape_ascii().to_string() },
            lines: self.lines,
            matched: self.matched,
            delay_p50_ms: self.delays.quantile(50),
            delay_p99_ms: self.delays.quantile(99),
            latest: self.latest,
            unmatched_target: self.unmatched.and_then(target),
        }
    }
}

impl Report {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("watching for {}\n", span(self.taken.since(self.since)));
        let mut gaps = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "\n{:<36} {:>9} {:>7} {:>11} {:>11}  normal",
            "workload", "lines", "joined", "late p50", "late p99"
        );
        for workload in &self.workloads {
            let key = clean(workload.workload.as_str());
            let share = workload.joined_share().map_or_else(|| "-".into(), |share| format!("{:.0} %", share * 100.0));
            let (edge, normal) = (&workload.edge, if workload.learning { "learning" } else { "known" });
            let (half, most) = (delay(edge.delay_p50_ms), delay(edge.delay_p99_ms));
            let _ = writeln!(out, "{key:<36} {:>9} {share:>7} {half:>11} {most:>11}  {normal}", edge.lines);
            let _ = workload.gaps.iter().try_for_each(|gap| write_gap(&mut gaps, &key, gap));
        }
        if self.workloads.is_empty() {
            out.push_str("(nothing listens, and no line was joined)\n");
        }
        if !self.balancers.is_empty() {
            let _ = writeln!(
                out,
                "\n{:<36} {:>9} {:>7} {:>11} {:>11}",
                "balancer", "lines", "here", "late p50", "late p99"
            );
        }
        for balancer in &self.balancers {
            let (half, most) = (delay(balancer.delay_p50_ms), delay(balancer.delay_p99_ms));
            let (name, lines, matched) = (clean(&balancer.name), balancer.lines, balancer.matched);
            let _ = writeln!(out, "{name:<36} {lines:>9} {matched:>7} {half:>11} {most:>11}");
        }
        let _ = self.gaps.iter().try_for_each(|gap| write_gap(&mut gaps, "this host", gap));
        out.push_str(if gaps.is_empty() { "\nno gaps\n" } else { "\ngaps\n" });
        out + &gaps
    }
}

fn write_gap(out: &mut String, whose: &str, gap: &CoverageGap) -> std::fmt::Result {
    writeln!(out, "  {whose}: {}\n      {}", clean(&gap.text), clean(&gap.remedy))
}

fn delay(millis: Option<u64>) -> String {
    millis.map_or_else(|| "-".into(), |millis| span(Duration::from_millis(millis)))
}
