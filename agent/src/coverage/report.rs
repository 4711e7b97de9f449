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

/// Columns of a terminal that any has.
const COLUMNS: usize = 80;
/// Columns of a name in the tables; a longer one has a line of its own, for names are what is looked for.
const NAME: usize = 30;

impl Report {
    /// For people: how long was watched, the tables, then each gap with what to do about it. Fits 80 columns.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "watching for {}, as of {}", span(self.taken.since(self.since)), second(self.taken));
        if let Some(waits) = self.workloads.first().map(|workload| Duration::from_secs(workload.remembered_s)) {
            let _ = writeln!(out, "evidence waits {} for a line that comes late", span(waits));
        }
        let _ = writeln!(
            out,
            "\n{:<NAME$} {:>9} {:>7} {:>10} {:>10}  normal",
            "workload", "lines", "joined", "late p50", "late p99"
        );
        for workload in &self.workloads {
            let share = workload.joined_share().map_or_else(|| "-".into(), |share| format!("{:.0} %", share * 100.0));
            let (edge, normal) = (&workload.edge, if workload.learning { "learning" } else { "known" });
            let (half, most) = (delay(edge.delay_p50_ms), delay(edge.delay_p99_ms));
            let name = column(&workload.workload.to_string());
            let _ = writeln!(out, "{name} {:>9} {share:>7} {half:>10} {most:>10}  {normal}", edge.lines);
        }
        if self.workloads.is_empty() {
            out.push_str("(nothing listens, and no line was joined)\n");
        }
        if !self.balancers.is_empty() {
            let _ = writeln!(
                out,
                "\n{:<NAME$} {:>9} {:>7} {:>10} {:>10}",
                "balancer", "lines", "here", "late p50", "late p99"
            );
        }
        for balancer in &self.balancers {
            let (half, most) = (delay(balancer.delay_p50_ms), delay(balancer.delay_p99_ms));
            let name = column(&balancer.name);
            let _ = writeln!(out, "{name} {:>9} {:>7} {half:>10} {most:>10}", balancer.lines, balancer.matched);
        }
        self.write_gaps(&mut out);
        out
    }

    /// The same gap of many workloads is one thing to do: told once, with all of them.
    fn write_gaps(&self, out: &mut String) {
        let of_workloads = self
            .workloads
            .iter()
            .flat_map(|workload| workload.gaps.iter().map(|gap| (clean(workload.workload.as_str()), gap)));
        let all: Vec<_> = self.gaps.iter().map(|gap| ("this host".to_owned(), gap)).chain(of_workloads).collect();
        let mut grouped: Vec<(&CoverageGap, Vec<&str>)> = Vec::new();
        for (whose, gap) in &all {
            match grouped.iter_mut().find(|(known, _)| known == gap) {
                Some((_, names)) => names.push(whose),
                None => grouped.push((gap, vec![whose])),
            }
        }
        let _ = match grouped.len() {
            0 => writeln!(out, "\nno gaps"),
            1 => writeln!(out, "\n1 gap"),
            many => writeln!(out, "\n{many} gaps"),
        };
        for (gap, names) in grouped {
            wrapped(out, "  ", &format!("{}: {}", names.join(", "), clean(&gap.text)));
            wrapped(out, "      ", &format!("do: {}", clean(&gap.remedy)));
        }
    }
}

/// A name in its column.
fn column(name: &str) -> String {
    let name = clean(name);
    if name.chars().count() <= NAME { format!("{name:<NAME$}") } else { format!("{name}\n{:<NAME$}", "") }
}

/// Words in lines that fit the terminal; those after the first stand two columns further in.
fn wrapped(out: &mut String, indent: &str, text: &str) {
    let mut line = indent.to_owned();
    for word in text.split(' ') {
        if line.trim().is_empty() || line.chars().count() + 1 + word.chars().count() <= COLUMNS {
            line.push_str(if line.trim().is_empty() { "" } else { " " });
        } else {
            let _ = writeln!(out, "{line}");
            line = format!("{indent}  ");
        }
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

fn second(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('.').map_or(text.clone(), |(second, _)| format!("{second}Z"))
}

fn delay(millis: Option<u64>) -> String {
    millis.map_or_else(|| "-".into(), |millis| span(Duration::from_millis(millis)))
}
