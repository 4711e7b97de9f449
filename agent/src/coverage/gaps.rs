//! From what was counted to the gaps that the analytic warns of, each with what was observed and what to do about it. The causes
//! are those of MITRE ATT&CK DET0080: ephemeral workloads, autoscaling, short retention of logs, address translation, process
//! telemetry that is not there.

use std::time::Duration;

use super::{Coverage, Watched};
use crate::incident::coverage::{CoverageGap, GapKind};
use crate::incident::wording::span;

/// Watched this long without a line, a listener counts as unwired: balancers write every few minutes.
const SILENT_FOR: Duration = Duration::from_secs(15 * 60);
/// Lines that stop for this long, or for ten times their usual delay, have stopped.
const STOPPED_FOR: Duration = Duration::from_secs(3600);
/// Lines after which silence says something.
const LINES_MIN: u64 = 20;
/// Instances in a day that make a workload one that comes and goes.
const INSTANCES_MANY: u64 = 4;

fn gap(kind: GapKind, text: String, remedy: &str) -> CoverageGap {
    CoverageGap { kind, text, remedy: remedy.to_owned() }
}

impl Coverage {
    /// The gaps of one workload.
    pub(super) fn gaps_of(&self, watched: &Watched, learning: bool) -> Vec<CoverageGap> {
        let checks = [
            self.unwired(watched),
            self.stopped(watched),
            self.short_retention(watched),
            Self::translation(watched),
            Self::ephemeral(watched),
            self.autoscaled(watched, learning),
            learning.then(|| {
                gap(
                    GapKind::StillLearning,
                    "what is normal here is still being learned: new peers, shells and metadata callers weigh less"
                        .into(),
                    "wait until baseline.learn_for has passed, share what is normal ([fleet]), or bring it along: `breachline baseline import`",
                )
            }),
        ];
        checks.into_iter().flatten().collect()
    }

    fn unwired(&self, watched: &Watched) -> Option<CoverageGap> {
        let local = watched.listens_on?;
        let silent = watched.edge.lines == 0 && watched.elsewhere == 0 && self.now.since(watched.since) >= SILENT_FOR;
        silent.then(|| {
            let watched_for = span(self.now.since(watched.since));
            gap(
                GapKind::NoEdgeLines,
                format!("it listens on {local}, and in {watched_for} no load balancer line was joined with it"),
                "wire the log of the balancer in front of it to a receiver ([intake]); if nothing outside reaches it, nothing is missing",
            )
        })
    }

    fn stopped(&self, watched: &Watched) -> Option<CoverageGap> {
        let silence = self.now.since(watched.edge.latest?);
        let usual = Duration::from_millis(watched.delays.quantile(99).unwrap_or(0));
        (watched.edge.lines >= LINES_MIN && silence > STOPPED_FOR.max(usual * 10)).then(|| {
            gap(
                GapKind::EdgeLinesStopped,
                format!("no load balancer line for {}, after {} before", span(silence), watched.edge.lines),
                "look at what forwards the log: `breachline status` counts what the receivers took",
            )
        })
    }

    fn short_retention(&self, watched: &Watched) -> Option<CoverageGap> {
        let late = watched.edge.too_late;
        let slow = Duration::from_millis(watched.delays.quantile(99)?);
        (late > 0 || slow > self.remembered / 2).then(|| {
            let text = format!(
                "1 line in 100 comes {} after its response or later, {late} came too late; evidence is remembered for {}",
                span(slow),
                span(self.remembered)
            );
            gap(GapKind::ShortRetention, text, "have the log delivered sooner, or raise correlate.lateness")
        })
    }

    fn translation(watched: &Watched) -> Option<CoverageGap> {
        let edge = &watched.edge;
        if let Some(target) = watched.portless.filter(|_| edge.by_address * 10 >= edge.lines) {
            let text = format!(
                "{} of {} lines name a port of this host that nobody listens on (such as {target}): ports are translated on the way",
                edge.by_address, edge.lines
            );
            return Some(gap(
                GapKind::AddressTranslation,
                text,
                "let the balancer target the pod or container itself (target type ip), or name the workload in [enrich] routes",
            ));
        }
        (edge.lines == 0 && watched.elsewhere >= LINES_MIN).then(|| {
            gap(
                GapKind::AddressTranslation,
                format!("{} lines name its port at addresses that are not this host's, and none its own", watched.elsewhere),
                "where these are this host behind address translation, name the workload in [enrich] routes; where they are other hosts, nothing is missing",
            )
        })
    }

    fn ephemeral(watched: &Watched) -> Option<CoverageGap> {
        let late = watched.edge.after_end;
        (late > 0).then(|| {
            gap(
                GapKind::Ephemeral,
                format!("{late} lines named a listener of an instance that was gone when they arrived"),
                "stream the log instead of collecting it in files, or name the workload in [enrich] routes",
            )
        })
    }

    fn autoscaled(&self, watched: &Watched, learning: bool) -> Option<CoverageGap> {
        let instances = watched.instances.sum(self.now);
        (learning && instances >= INSTANCES_MANY).then(|| {
            gap(
                GapKind::Autoscaled,
                format!("{instances} instances started in the last day, and what is normal is not known yet"),
                "let hosts share what is normal ([fleet]), or import what a host that knows the service exported (`breachline baseline export`, `import`)",
            )
        })
    }

    /// The gaps of the whole host.
    pub(super) fn host_gaps(&self) -> Vec<CoverageGap> {
        let mut gaps = Vec::new();
        for (sense, lost) in self.losses.iter().map(|(sense, day)| (sense, day.sum(self.now))).filter(|lost| lost.1 > 0)
        {
            gaps.push(gap(
                GapKind::ProcessTelemetryLost,
                format!("{lost} records of the {sense} sense were lost in the last day"),
                "raise kernel.priority_ring_bytes or kernel.bulk_ring_bytes, or lower kernel.drain_interval",
            ));
        }
        if self.unread > 0 {
            gaps.push(gap(
                GapKind::UnreadLines,
                format!("{} line{} could not be read", self.unread, if self.unread == 1 { "" } else { "s" }),
                "`breachline status` shows some of them; fix the format of their source ([edge] sources)",
            ));
        }
        gaps
    }
}
