//! The rules that no compiler knows: every file says what it is, no file outgrows its reason, the house keeps its
//! rooms, imports run downward.
//!
//! In: the tracked files. Out: one line per breach, all of them. It reads, it never mends.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::imports;
use crate::process::{capture, command, say};
use crate::workspace;

/// The promised top level; beside these only files.
const FOLDERS: [&str; 9] =
    ["agent", "agent-ebpf", "xtask", "packaging", "tests", ".cargo", ".ci", ".config", ".github"];
/// A file beyond this has more than one reason to change.
const LINES_MAX: usize = 600;
/// Names that say nothing about what a file holds.
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "common", "helper", "helpers", "manager", "misc"];

/// Checks every tracked file.
pub(super) fn check() -> Result<()> {
    let listing = capture(command("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    let mut breaches = Vec::new();
    for path in listing.lines() {
        breaches.extend(place(path));
        if path.ends_with(".rs") {
            let file = workspace::root().join(path);
            // A file deleted but not yet staged is still listed.
            if file.exists() {
                let text = fs::read_to_string(&file).with_context(|| format!("cannot read {path}"))?;
                breaches.extend(source(path, &text));
            }
        } else if path.ends_with(".md") {
            breaches.extend(dead_links(path)?);
        }
    }
    breaches.iter().for_each(say);
    match breaches.len() {
        0 => Ok(()),
        count => bail!("tidy: {count} breaches"),
    }
}

/// Rules about where a file lies and what it is called.
fn place(path: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    if let Some((folder, _)) = path.split_once('/')
        && !FOLDERS.contains(&folder)
    {
        breaches.push(format!("{path}: top-level folder {folder} is not one of {}", FOLDERS.join(", ")));
    }
    for part in Path::new(path).with_extension("").components() {
        let name = part.as_os_str().to_string_lossy();
        if EMPTY_NAMES.contains(&name.as_ref()) {
            breaches.push(format!("{path}: `{name}` says nothing about what is inside; name it by content"));
        }
    }
    if path.ends_with("/mod.rs") && !path.starts_with("tests/") {
        breaches.push(format!("{path}: modules are `name.rs` beside `name/`, not `mod.rs`"));
    }
    breaches
}

/// Rules about what a Rust file says. A `tests.rs` belongs to the file that it tests: it needs no head of its own, and may
/// build its input with any stage.
fn source(path: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        breaches.push(format!("{path}: {lines} lines; over {LINES_MAX} it has more than one reason to change"));
    }
    if path.ends_with("/tests.rs") {
        return breaches;
    }
    let head = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
    if !head.is_some_and(|line| line.starts_with("//!")) {
        breaches.push(format!("{path}: starts without a `//!` head that says what comes in and what goes out"));
    }
    breaches.extend(imports::upward(path, text).into_iter().map(|breach| format!("{path}: {breach}")));
    breaches
}

/// Links of a page that lead to no file of this repository; addresses elsewhere are not tried.
fn dead_links(path: &str) -> Result<Vec<String>> {
    let page = workspace::root().join(path);
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {path}"))?;
    let folder = page.parent().unwrap_or(&page);
    let dead = |link: &&str| !folder.join(link.split('#').next().unwrap_or(link)).exists();
    Ok(links(&text).into_iter().filter(dead).map(|link| format!("{path}: `{link}` leads nowhere")).collect())
}

/// The targets of `[text](target)` that are paths.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    targets.filter(|target| !target.contains("://") && !target.starts_with('#')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_are_followed() {
        assert_eq!(links("[a](b.md) [c](https://d.example/) [e](#f) [g](h.md#i) (j)"), ["b.md", "h.md#i"]);
    }

    fn check(path: &str, text: &str, expected: usize) {
        let breaches = [place(path), source(path, text)].concat();
        assert_eq!(breaches.len(), expected, "{path}: {breaches:?}");
    }

    #[test]
    fn each_rule_bites_and_spares() {
        let good = "//! What it is.\nuse std::fs;\n";
        check("agent/src/edge.rs", good, 0);
        check("agent/src/edge.rs", "#![no_std]\n\n//! What it is.\n", 0);
        check("agent/src/edge.rs", "use std::fs;\n", 1);
        check("agent/src/edge.rs", "", 1);
        check("agent/src/edge/tests.rs", "use crate::pipeline::Pipeline;\n", 0);
        check("agent/src/util.rs", good, 1);
        check("agent/src/common/edge.rs", good, 1);
        check("library/edge.rs", good, 1);
        check("agent/src/edge/mod.rs", good, 1);
        check("agent/src/edge.rs", &format!("//! Long.\n{}", "//\n".repeat(LINES_MAX)), 1);
    }
}
