//! `cargo xtask bench`: runs the measuring programs and shows their figures.
//!
//! In: programs that print one JSON object per figure (see [`Figure`]) on stdout. Out: the same objects (`--json`), or
//! a table. It measures nothing itself, so that a number has one source.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::process::{cargo, root_prefix, say};
use crate::setup::{self, Purpose};
use crate::workspace;

/// What can be measured.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
enum Area {
    /// Kernel time per event, slow-down of storms, the agent's own cost, auditd and bpftrace beside it (needs root)
    Kernel,
    /// Load balancer lines: speed of parsing and judging beside its peers, quality beside the CRS, the whole intake, `forward`
    Edge,
    /// The correlator's throughput and its detection quality
    Correlate,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure; everything when left out
    #[arg(value_enum)]
    areas: Vec<Area>,
    /// One JSON object per figure: `{name, value, unit, peer, peer_value, ratio, note}`
    #[arg(long)]
    json: bool,
    /// Install Debian's packages of those who are measured beside us, where they are missing
    #[arg(long)]
    install_peers: bool,
}

/// One measured number, beside a peer's where there is one.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Figure {
    name: String,
    /// None where it could not be measured: the note says why.
    #[serde(default)]
    value: Option<f64>,
    unit: String,
    #[serde(default)]
    peer: Option<String>,
    #[serde(default)]
    peer_value: Option<f64>,
    /// `value` over `peer_value`.
    #[serde(default)]
    ratio: Option<f64>,
    /// What there is to say beside it.
    #[serde(default)]
    note: Option<String>,
}

/// A measuring program.
struct Program {
    area: Area,
    /// Crate, relative to the root: `tests/peers` stands outside the workspace, so that what we compare with never enters
    /// the agent's lock file.
    folder: &'static str,
    bin: &'static str,
    root: bool,
}

/// The program that can install what it measures beside us.
const PEER_BENCH: &str = "peer_bench";

const PROGRAMS: [Program; 8] = [
    Program { area: Area::Kernel, folder: "tests", bin: "kernel_bench", root: true },
    Program { area: Area::Kernel, folder: "tests", bin: "agent_bench", root: true },
    Program { area: Area::Kernel, folder: "tests", bin: PEER_BENCH, root: true },
    Program { area: Area::Edge, folder: "tests", bin: "judge_quality", root: false },
    Program { area: Area::Edge, folder: "tests/peers", bin: "edge_speed", root: false },
    Program { area: Area::Edge, folder: "tests", bin: "intake_bench", root: false },
    Program { area: Area::Edge, folder: "tests", bin: "forward_bench", root: false },
    Program { area: Area::Correlate, folder: "tests", bin: "correlate_bench", root: false },
];

/// The verb. What cannot be measured does not keep the rest from being measured.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Build)?;
    let mut figures = Vec::new();
    let mut failed = Vec::new();
    for program in PROGRAMS.iter().filter(|p| args.areas.is_empty() || args.areas.contains(&p.area)) {
        match measure(program, args) {
            Ok(measured) => figures.extend(measured),
            Err(error) => {
                say(format_args!("{}: {error:#}", program.bin));
                failed.push(program.bin);
            }
        }
    }
    if !args.json {
        print_table(&figures);
    }
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs one program; with `json` each figure is passed on as it comes.
#[expect(clippy::print_stdout, reason = "figures are the result")]
fn measure(program: &Program, args: &Args) -> Result<Vec<Figure>> {
    let source = format!("{}/src/bin/{}.rs", program.folder, program.bin);
    if !workspace::root().join(&source).exists() {
        bail!("there is no {source}");
    }
    say(format_args!("measuring with {}", program.bin));
    let manifest = format!("{}/Cargo.toml", program.folder);
    let mut command = cargo(&["run", "--release", "--quiet", "--manifest-path", &manifest]);
    command.args(["--bin", program.bin]).stdout(Stdio::piped());
    if program.root {
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", root_prefix()?.join(" "));
    }
    if args.install_peers && program.bin == PEER_BENCH {
        command.args(["--", "--install-peers"]);
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {}", program.bin))?;
    let mut figures = Vec::new();
    for line in BufReader::new(child.stdout.take().context("no stdout")?).lines() {
        let line = line?;
        if args.json {
            println!("{line}");
        }
        figures.push(figure(&line).with_context(|| format!("{} printed no figure: {line}", program.bin))?);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} failed: {status}", program.bin);
    }
    Ok(figures)
}

fn figure(line: &str) -> Result<Figure> {
    Ok(serde_json::from_str(line)?)
}

#[expect(clippy::print_stdout, reason = "figures are the result")]
fn print_table(figures: &[Figure]) {
    let width = figures.iter().map(|figure| figure.name.len()).max().unwrap_or_default();
    for figure in figures {
        println!("{}", row(figure, width));
    }
}

fn row(figure: &Figure, width: usize) -> String {
    let value = figure.value.map_or_else(|| "-".to_owned(), number);
    let mut row = format!("{:width$}  {value:>14} {}", figure.name, figure.unit);
    if let (Some(peer), Some(value)) = (&figure.peer, figure.peer_value) {
        row.push_str(&format!("  ({peer}: {}", number(value)));
        row.push_str(&figure.ratio.map_or_else(|| ")".to_owned(), |ratio| format!(", ratio {})", number(ratio))));
    }
    if let Some(note) = &figure.note {
        row.push_str(&format!("  [{note}]"));
    }
    row
}

/// Four significant digits for small numbers, whole ones for large.
fn number(value: f64) -> String {
    if value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_needs_no_peer() {
        let line = r#"{"name":"exec","value":1.234567,"unit":"us"}"#;
        assert_eq!(row(&figure(line).unwrap(), 6), "exec             1.235 us");
        let line = r#"{"name":"parse","value":2000,"unit":"MB/s","peer":"regex","peer_value":40.5,"ratio":49.4}"#;
        assert_eq!(row(&figure(line).unwrap(), 5), "parse            2000 MB/s  (regex: 40.500, ratio 49.400)");
    }

    #[test]
    fn what_is_no_figure_is_an_error() {
        assert!(figure("warming up").is_err());
        assert!(figure(r#"{"name":"exec"}"#).is_err());
    }

    #[test]
    fn what_could_not_be_measured_says_why() {
        let line = r#"{"name":"beside x","unit":"ns","peer":"x","note":"not measured: no x"}"#;
        assert_eq!(row(&figure(line).unwrap(), 8), "beside x               - ns  [not measured: no x]");
    }
}
