//! What was raised beside what happened: figures, each with the bound that it must keep.

use std::time::Duration;

use breachline::incident::{Severity, Stage};
use serde_json::{Value, json};

use super::attribution::Trials;
use super::chain::Trace;
use super::fleet::{Outcome, Plan, Played};
use super::host::Told;

/// A later finding of the same lineage joins the incident within this; it is the engine's default quiet time.
const QUIET: Duration = Duration::from_secs(6 * 3600 + 1800);
/// Evidence before a breach's first request that may still belong to it (a web shell dropped hours before).
const BEFORE: Duration = Duration::from_secs(3 * 3600);

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Stable name.
    pub name: String,
    /// What was measured.
    pub value: f64,
    /// In what.
    pub unit: &'static str,
    /// What it must be.
    pub bound: Bound,
}

/// What a figure must be.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Bound {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
    /// Only told.
    Free,
}

impl Figure {
    /// A figure.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str, bound: Bound) -> Self {
        Self { name: name.into(), value, unit, bound }
    }

    /// Whether it is what it must be.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self.bound {
            Bound::AtMost(most) => self.value <= most,
            Bound::AtLeast(least) => self.value >= least,
            Bound::Free => true,
        }
    }

    /// As one JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut object = json!({ "name": self.name, "value": self.value, "unit": self.unit });
        match self.bound {
            Bound::AtMost(most) => object["at_most"] = json!(most),
            Bound::AtLeast(least) => object["at_least"] = json!(least),
            Bound::Free => return object,
        }
        object["holds"] = json!(self.holds());
        object
    }
}

/// What a month came to.
#[derive(Debug, Default)]
pub struct Month {
    three: (u32, u32),
    two: (u32, u32),
    critical: u32,
    named: (u32, u32),
    high_alone: u32,
    medium_alone: u32,
    superfluous: u32,
    events: u64,
    lines: u64,
    /// What was missed or raised for nothing, for people.
    pub notes: Vec<String>,
}

impl Month {
    /// Adds one host.
    pub fn add(&mut self, outcome: &Outcome) {
        self.events += outcome.events;
        self.lines += outcome.lines;
        for played in &outcome.played {
            let of: Vec<&Told> = outcome.told.iter().filter(|told| belongs(told, played)).collect();
            self.breach(played, &of);
        }
        for told in outcome.told.iter().filter(|told| outcome.played.iter().all(|played| !belongs(told, played))) {
            self.alone(told);
        }
    }

    fn breach(&mut self, played: &Played, of: &[&Told]) {
        let worst = of.iter().max_by_key(|told| told.peak);
        let all = |told: &&&Told| {
            [Stage::Edge, Stage::Host, Stage::Egress].iter().all(|stage| told.last.stages.contains(stage))
        };
        let found = match played.script.stages {
            3 => of.iter().filter(all).any(|told| told.peak >= Severity::High),
            _ => worst.is_some_and(|told| told.peak >= Severity::Medium),
        };
        let count = if played.script.stages == 3 { &mut self.three } else { &mut self.two };
        count.0 += u32::from(found);
        count.1 += 1;
        if played.script.stages == 3 {
            self.critical += u32::from(worst.is_some_and(|told| told.peak == Severity::Critical));
        }
        self.superfluous += u32::try_from(of.len().saturating_sub(1)).unwrap_or(u32::MAX);
        if played.script.request == Trace::Visible {
            let best =
                |told: &&Told| told.last.candidates.best().is_some_and(|best| best.request.url.contains(&played.token));
            let right = of.iter().copied().any(|told| best(&told));
            self.named.0 += u32::from(right);
            self.named.1 += 1;
            if found && !right {
                self.note("not named", played, of);
            }
        }
        if !found {
            self.note("missed", played, of);
        }
    }

    fn note(&mut self, what: &str, played: &Played, of: &[&Told]) {
        let told: Vec<String> = of
            .iter()
            .map(|told| {
                let best = told.last.candidates.best().map(|best| format!("{} {}", best.request.url, best.reason));
                format!("{:?} {:?} {} best {best:?}", told.peak, told.last.stages, told.last.title)
            })
            .collect();
        self.notes.push(format!(
            "{what}: `{}` at {} on {} (host {}): {told:#?}",
            played.script.name, played.from, played.key, played.host
        ));
    }

    fn alone(&mut self, told: &Told) {
        match told.peak {
            Severity::High | Severity::Critical => self.high_alone += 1,
            Severity::Medium => self.medium_alone += 1,
            Severity::Low => return,
        }
        let reasons: Vec<String> = told
            .last
            .contributions
            .iter()
            .map(|part| format!("{} {:.2}: {}", part.name, part.weight, part.reason))
            .collect();
        let best = told.last.candidates.best().map(|best| best.request.url.clone());
        self.notes.push(format!(
            "for nothing: {:?} at {}: {}; best {best:?}; {reasons:#?}",
            told.peak, told.last.first_seen, told.last.title
        ));
    }

    /// The figures.
    #[must_use]
    pub fn figures(&self, plan: &Plan) -> Vec<Figure> {
        let weeks = f64::from(plan.days) / 7.0;
        let whole = |(part, of): (u32, u32)| if of == 0 { 100.0 } else { 100.0 * f64::from(part) / f64::from(of) };
        vec![
            Figure::new(
                "high_or_critical_without_a_chain",
                f64::from(self.high_alone),
                "incidents",
                Bound::AtMost(0.0),
            ),
            Figure::new(
                "medium_without_a_chain",
                f64::from(self.medium_alone) / weeks,
                "incidents/week",
                Bound::AtMost(1.0),
            ),
            Figure::new("three_stage_chains_found", whole(self.three), "%", Bound::AtLeast(100.0)),
            Figure::new("two_stage_chains_found", whole(self.two), "%", Bound::AtLeast(95.0)),
            Figure::new("three_stage_chains_played", f64::from(self.three.1), "chains", Bound::Free),
            Figure::new("two_stage_chains_played", f64::from(self.two.1), "chains", Bound::Free),
            Figure::new("three_stage_chains_critical", whole((self.critical, self.three.1)), "%", Bound::Free),
            Figure::new("right_request_first_in_the_month", whole(self.named), "%", Bound::Free),
            Figure::new("further_incidents_of_a_chain", f64::from(self.superfluous), "incidents", Bound::Free),
            Figure::new("host_events", self.events as f64, "events", Bound::Free),
            Figure::new("edge_lines", self.lines as f64, "lines", Bound::Free),
        ]
    }
}

/// The figures of trials at one rate.
#[must_use]
pub fn attribution(trials: &Trials, least: f64) -> Vec<Figure> {
    let rate = trials.rate;
    let share = |part: u32| 100.0 * f64::from(part) / f64::from(trials.played.max(1));
    vec![
        Figure::new(
            format!("right_request_first_at_{rate}_per_second"),
            share(trials.first),
            "%",
            Bound::AtLeast(least),
        ),
        Figure::new(format!("right_request_listed_at_{rate}_per_second"), share(trials.listed), "%", Bound::Free),
        Figure::new(format!("trials_at_{rate}_per_second"), f64::from(trials.played), "chains", Bound::Free),
    ]
}

fn belongs(told: &Told, played: &Played) -> bool {
    told.last.workload.key.as_str() == played.key
        && told.last.first_seen <= played.to.plus(QUIET)
        && played.from.minus(BEFORE) <= told.last.last_seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_whether_it_holds() {
        let check = |value: f64, bound: Bound, holds: bool| {
            let figure = Figure::new("x", value, "%", bound);
            assert_eq!(figure.holds(), holds, "{figure:?}");
            assert_eq!(figure.json().get("holds").and_then(Value::as_bool), (bound != Bound::Free).then_some(holds));
        };
        check(0.0, Bound::AtMost(0.0), true);
        check(1.0, Bound::AtMost(0.0), false);
        check(99.0, Bound::AtLeast(99.0), true);
        check(98.9, Bound::AtLeast(99.0), false);
        check(5.0, Bound::Free, true);
    }
}
