//! `breachline replay`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::clock;
use crate::config::Config;
use crate::expectation::Expectations;
use crate::incident::{Incident, text};
use crate::replay::resume::Resume;
use crate::replay::{Recordings, replay};
use crate::store::{self, Store};

const ABOUT: &str = "\
Runs recordings through the same detector as `run`, with the time in the recordings and without root. The same inputs give
the same incidents, byte for byte. Every revision is printed as it is raised; the last line on stderr says what was read.

With --state the replay keeps its place and its memory in a directory, and can be killed and started again: the same
incidents come out, the last ones before the kill perhaps twice. `breachline incidents list` reads that directory too, with a
config that names it (store.directory). Incidents that are expected (--expected, or by that directory) are kept and counted, not
printed.

A host recording is made by `breachline run --record DIR` (host.ndjson). Edge logs are what the balancer wrote; gzip is recognised.";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(long_about = ABOUT)]
pub(super) struct Args {
    /// Host events: one JSON object a line, gzip or not.
    #[arg(long, value_name = "FILE", required_unless_present = "edge")]
    host: Option<PathBuf>,
    /// Edge logs; may be named more than once.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    edge: Vec<PathBuf>,
    /// Config file; only the stages' sections matter.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory that keeps how far the replay is, its memory and its incidents.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// What is expected, as `breachline incidents expected --json` prints it.
    #[arg(long, value_name = "FILE")]
    expected: Option<PathBuf>,
    /// One JSON object per revision instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let config = Config::load(args.config.as_deref())?;
    let expectations = args.expected.as_deref().map(expected).transpose()?;
    let store = args.state.as_ref().map(|directory| {
        let config = store::Config { directory: directory.clone(), ..config.store.clone() };
        Store::open(&config, clock::now())
    });
    let store = store.transpose()?;
    if let Some(aside) = store.as_ref().and_then(|store| store.status().set_aside) {
        eprintln!(
            "breachline: a damaged or newer database was set aside as {}; replaying from the start",
            aside.display()
        );
    }
    let mut out = std::io::stdout().lock();
    let mut as_expected = 0_u64;
    let raise = |incident: &Incident| -> Result<()> {
        if incident.expected.is_some() {
            as_expected += 1;
        } else if args.json {
            serde_json::to_writer(&mut out, incident)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", text::text(incident))?;
        }
        // What is saved as raised next has to be out.
        out.flush()?;
        Ok(())
    };
    let recordings = Recordings { host: args.host.as_deref(), edge: &args.edge };
    let summary = replay(&config, recordings, expectations, store.as_ref().map(Resume::new), raise)?;
    let count = |name: &str| summary.status.counters.get(name).copied().unwrap_or_default();
    if summary.resumed_after > 0 {
        eprintln!("breachline: went on after {} inputs replayed before", summary.resumed_after);
    }
    let left_out = if as_expected > 0 { format!(", {as_expected} of them expected") } else { String::new() };
    eprintln!(
        "breachline: replayed {} host events and {} edge lines ({} unreadable) until {}: {} incident revisions{left_out}",
        count("detector.host_events"),
        count("detector.edge_lines"),
        count("edge.unreadable"),
        summary.until,
        count("detector.revisions"),
    );
    Ok(ExitCode::SUCCESS)
}

fn expected(path: &Path) -> Result<Expectations> {
    let json = std::fs::read(path).with_context(|| path.display().to_string())?;
    Expectations::from_listed(&json)
        .with_context(|| format!("{} is not what `breachline incidents expected --json` prints", path.display()))
}
