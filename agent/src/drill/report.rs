//! What a drill says to people: a few true lines for each scenario.
//!
//! In: outcomes. Out: text. Nothing is rounded up: what was simulated is said, and a "no" comes with its reason.

use std::fmt::Write as _;
use std::time::Duration;

use nix::sys::utsname::uname;

use super::judgement::{Milestone, Outcome, severity_word};
use super::runner::LEARNED_AFTER;
use super::scenario::Scenario;

/// Longest line of the text, in characters; longer requests and reasons are cut with an ellipsis.
const LINE_CHARS_MAX: usize = 118;

/// What stands before the first scenario.
#[must_use]
pub fn opening() -> String {
    let kernel = uname().map_or_else(|_| "?".into(), |names| names.release().to_string_lossy().into_owned());
    format!(
        "A web shop, its load balancer, a metadata service and an intruder, in network namespaces of their own.\n\
         Real processes, real kernel events (Linux {kernel}), the pipeline of `breachline run`, fresh for each scenario:\n\
         it has seen the shop's ordinary life, and all clocks were moved on by {} hours, for it to have learned.\n",
        LEARNED_AFTER.as_secs() / 3600
    )
}

/// One scenario.
#[must_use]
pub fn tell(scenario: &Scenario, outcome: &Outcome) -> String {
    let mark = if outcome.right { "ok  " } else { "FAIL" };
    let mut text = format!("{mark} {:<14} {}\n", scenario.name, scenario.about);
    if let Some(request) = &outcome.request_sent {
        line(&mut text, "request", Some(0.0), request);
    }
    for Milestone { what, ms, text: words } in &outcome.story {
        line(&mut text, what, Some(*ms), words);
    }
    line(&mut text, "verdict", None, &verdict(outcome));
    for wrong in &outcome.wrong {
        line(&mut text, "wrong", None, wrong);
    }
    if let Some(simulated) = scenario.simulated {
        line(&mut text, "simulated", None, simulated);
    }
    text
}

/// What stands after the last scenario.
#[must_use]
pub fn closing(outcomes: &[Outcome], took: Duration) -> String {
    let right = outcomes.iter().filter(|outcome| outcome.right).count();
    format!("{right} of {} scenarios as expected, in {:.1} s", outcomes.len(), took.as_secs_f64())
}

fn verdict(outcome: &Outcome) -> String {
    let Some(severity) = outcome.severity else {
        return match outcome.awake_ms {
            Some(ms) => {
                format!("silent, and awake: the attack played right after it was raised {ms:.0} ms after its request")
            }
            None => "silent".into(),
        };
    };
    let mut text = format!("caught, {}", severity_word(severity));
    if let Some(ms) = outcome.latency_ms {
        let _ = write!(text, ", raised {ms:.0} ms after the evidence for it");
    }
    if let Some(ms) = outcome.revision_latency_ms.filter(|_| outcome.simulated.is_some()) {
        let _ = write!(text, ", revised {ms:.0} ms after the late line");
    }
    text
}

fn line(text: &mut String, what: &str, ms: Option<f64>, words: &str) {
    let time = ms.map_or_else(String::new, clock_time);
    let full = format!("     {what:<10}{time:>12}  {words}");
    let cut = full.char_indices().nth(LINE_CHARS_MAX).map(|_| LINE_CHARS_MAX - 1);
    match cut {
        Some(chars) => text.extend(full.chars().take(chars).chain(['…'])),
        None => text.push_str(&full),
    }
    text.push('\n');
}

/// Milliseconds after the request, in the unit that reads best.
fn clock_time(ms: f64) -> String {
    if ms < 60_000.0 { format!("{ms:.0} ms") } else { format!("{:.0} min", ms / 60_000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::Severity;

    fn tell_of(name: &str, outcome: &Outcome) -> String {
        tell(super::super::find(name).expect("a scenario"), outcome)
    }

    #[test]
    fn a_caught_attack_tells_its_story() {
        let outcome = Outcome {
            caught: true,
            right: true,
            severity: Some(Severity::Critical),
            request_sent: Some("GET /ping?host=x; id".into()),
            story: vec![Milestone { what: "shell", ms: 2.31, text: "a shell started".into() }],
            latency_ms: Some(12.4),
            ..Outcome::default()
        };
        let expected = concat!(
            "     request           0 ms  GET /ping?host=x; id\n",
            "     shell             2 ms  a shell started\n",
            "     verdict                 caught, critical, raised 12 ms after the evidence for it\n",
        );
        let text = tell_of("full-chain", &outcome);
        assert!(text.starts_with("ok   full-chain     command injection"), "{text}");
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn a_failure_says_what_was_wrong() {
        let text = tell_of("benign-day", &Outcome { wrong: vec!["w".into()], ..Outcome::default() });
        assert!(text.starts_with("FAIL benign-day"), "{text}");
        assert!(text.contains("wrong                   w\n"), "{text}");
    }

    #[test]
    fn long_lines_are_cut() {
        let mut text = String::new();
        line(&mut text, "request", None, &"é".repeat(500));
        assert_eq!(text.trim_end().chars().count(), LINE_CHARS_MAX);
        assert!(text.ends_with("…\n"));
    }
}
