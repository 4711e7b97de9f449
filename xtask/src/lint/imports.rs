//! Imports of the agent run downward only: `main -> cli -> drill, replay, pipeline -> detector -> stages -> nouns`.
//!
//! In: a file of `agent/src` and its text. Out: each `crate::MODULE` it names that does not lie below it. Tests are
//! spared: a stage's test may build its input with another stage.

/// Modules by height; a module may name those on lower floors only. The order is the house's, see ARCHITECTURE.md.
const FLOORS: [&[&str]; 14] = [
    &["timestamp"],
    &["event", "request", "workload", "metadata", "redact", "clock", "privileges", "telemetry", "netlink"],
    &["evidence"],
    &["incident"],
    &["decode", "enrich", "intake", "edge", "baseline", "correlate"],
    &["kernel", "host", "store", "coverage", "expectation", "lists", "identity", "fleet"],
    &["deliver"],
    &["status"],
    &["config"],
    &["detector", "control"],
    &["replay", "forward"],
    &["pipeline"],
    &["drill"],
    &["cli"],
];

/// The one path that every floor may use: how durations are written in the config.
const GROUND: &str = "crate::config::duration";

/// What the file names that is not below it.
pub(super) fn upward(path: &str, text: &str) -> Vec<String> {
    let Some(module) = path.strip_prefix("agent/src/").map(module_of) else { return Vec::new() };
    // `lib` and `main` stand above everything.
    let Some(own) = floor(module) else { return Vec::new() };
    let mut breaches = Vec::new();
    for (number, line) in body(text) {
        for name in named(&line.replace(GROUND, "")) {
            if name != module && floor(name).is_some_and(|other| other >= own) {
                breaches.push(format!("line {}: `{module}` must not know `{name}`", number + 1));
            }
        }
    }
    breaches
}

/// The top module a path under `agent/src` belongs to.
fn module_of(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or(path)
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Lines before the tests, comments left out.
fn body(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    code.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The identifier a path starts with.
fn leading_name(path: &str) -> &str {
    path.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// Every `x` in `crate::x` and `crate::{x, y::z}`.
fn named(line: &str) -> Vec<&str> {
    let tails = line.split("crate::").skip(1);
    tails
        .flat_map(|tail| match tail.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or(group).split(',').map(leading_name).collect(),
            None => vec![leading_name(tail)],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let got = upward(path, text);
        assert_eq!(got.len(), expected.len(), "{path}: {got:?}");
        assert!(got.iter().zip(expected).all(|(breach, name)| breach.ends_with(&format!("`{name}`"))), "{got:?}");
    }

    #[test]
    fn downward_is_fine_and_upward_is_named() {
        check("agent/src/edge/judge.rs", "use crate::request::Verdict;\nuse crate::edge::formats;\n", &[]);
        check("agent/src/edge.rs", "use crate::correlate::Correlator;\n", &["correlate"]);
        check(
            "agent/src/event.rs",
            "fn f(x: crate::incident::Incident, y: crate::store::Store) {}\n",
            &["incident", "store"],
        );
        check("agent/src/edge.rs", "use crate::{event, store::Store};\n", &["store"]);
        check("agent/src/detector.rs", "use crate::pipeline::Pipeline;\n", &["pipeline"]);
        check("agent/src/cli/run.rs", "use crate::pipeline::Pipeline;\n", &[]);
        check("agent/src/main.rs", "use crate::cli;\n", &[]);
    }

    #[test]
    fn tests_comments_and_durations_are_spared() {
        check("agent/src/edge.rs", "// as crate::pipeline does\n", &[]);
        check("agent/src/edge.rs", "#[serde(with = \"crate::config::duration\")]\n", &[]);
        check("agent/src/edge.rs", "#[cfg(test)]\nmod tests { use crate::pipeline::Pipeline; }\n", &[]);
        check("xtask/src/main.rs", "use crate::cli;\n", &[]);
    }
}
