//! `breachline baseline`: what is normal, looked at, carried to other hosts, and forgotten.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use serde_json::{Value, json};

use super::answer::Common;
use crate::baseline::{self, Baseline};
use crate::clock;
use crate::control::Request;
use crate::incident::wording::clean;
use crate::workload::WorkloadKey;

/// Bytes of an imported file; the largest baseline that the default bounds allow is smaller.
const FILE_BYTES_MAX: u64 = 64 << 20;

const ABOUT: &str = "\
What is normal for each workload: the peers it contacts, the programs that ask for credentials, the shells it starts. An exported \
file has a version and names no host, so that a host which was started a minute ago can be given what others learned: bake it into \
the image, or import it at first boot.";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(long_about = ABOUT, after_help = super::EXIT_CODES)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What is known, for people; of one workload, everything.
    Show {
        /// This workload alone.
        #[arg(long, value_name = "WORKLOAD")]
        workload: Option<String>,
    },
    /// Write what is known as a file that `import` reads.
    Export {
        /// This workload alone.
        #[arg(long, value_name = "WORKLOAD")]
        workload: Option<String>,
        /// Where to; standard output without it.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Add what another host learned to what is known here; nothing known here is lost, and its learning time counts too.
    Import {
        /// An exported file (`-`: standard input).
        file: PathBuf,
    },
    /// Forget a workload: what it does from now on is learned anew.
    Forget {
        /// Which.
        #[arg(long, value_name = "WORKLOAD")]
        workload: String,
    },
    /// Give a workload the habits of another: the same service under a new name.
    Inherit {
        /// Whose habits.
        #[arg(long, value_name = "WORKLOAD")]
        from: String,
        /// Who gets them.
        #[arg(long, value_name = "WORKLOAD")]
        to: String,
    },
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let common = &args.common;
    let key = |text: &String| WorkloadKey::new(text);
    match &args.verb {
        Verb::Show { workload } => show(common, workload.as_ref().map(key))?,
        Verb::Export { workload, output } => {
            let exported: Value = common.ask(&Request::Baseline { workload: workload.as_ref().map(key) })?;
            write(output.as_deref(), &serde_json::to_vec(&exported)?)?;
        }
        Verb::Import { file } => {
            let baseline = read(file)?;
            let workloads: Vec<WorkloadKey> = common.ask(&Request::ImportBaseline { baseline })?;
            done(
                common,
                &json!({ "imported": workloads }),
                &format!("{} imported", number_of(workloads.len(), "workload")),
            )?;
        }
        Verb::Forget { workload } => {
            let _: Value = common.ask(&Request::Forget { workload: key(workload) })?;
            done(common, &json!({ "forgotten": workload }), &format!("{} is learned anew", clean(workload)))?;
        }
        Verb::Inherit { from, to } => {
            let _: Value = common.ask(&Request::Inherit { from: key(from), to: key(to) })?;
            let said = format!("{} starts with what {} does", clean(to), clean(from));
            done(common, &json!({ "from": from, "to": to }), &said)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn done(common: &Common, json: &Value, said: &str) -> Result<()> {
    if common.json {
        return Common::print_json(json);
    }
    Ok(writeln!(io::stdout(), "{said}")?)
}

fn show(common: &Common, workload: Option<WorkloadKey>) -> Result<()> {
    let single = workload.is_some();
    let exported: Value = common.ask(&Request::Baseline { workload })?;
    let baseline = Baseline::from_bytes(baseline::Config::default(), &serde_json::to_vec(&exported)?)?;
    if common.json {
        let shown: Vec<Value> = baseline.workloads().into_iter().map(|key| described(&baseline, key)).collect();
        return Common::print_json(&shown);
    }
    let mut out = io::stdout().lock();
    if baseline.workloads().is_empty() {
        writeln!(out, "nothing was learned yet")?;
    }
    for key in baseline.workloads() {
        let [peers, callers, shells] = baseline.habits(key);
        let state = state(&baseline, key);
        let [peers_known, callers_known, shells_known] =
            [(&peers, "peer"), (&callers, "metadata caller"), (&shells, "shell")]
                .map(|(habits, one)| number_of(habits.len(), one));
        let counts = format!("{peers_known}, {callers_known}, {shells_known}");
        writeln!(out, "{}  {state}, {counts}", clean(key.as_str()))?;
        let all = [("peer", peers), ("metadata", callers), ("shell", shells)];
        for (kind, names) in all.into_iter().filter(|_| single) {
            names.iter().try_for_each(|name| writeln!(out, "  {kind:<8}  {}", clean(name)))?;
        }
    }
    Ok(())
}

/// `1 peer`, `2 peers`.
fn number_of(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

fn state(baseline: &Baseline, workload: &WorkloadKey) -> &'static str {
    let frozen = baseline.span(workload).is_some_and(|(_, _, frozen)| frozen);
    match (frozen, baseline.is_learning(workload, clock::now())) {
        (true, _) => "frozen by an open incident",
        (false, true) => "learning",
        (false, false) => "known",
    }
}

fn described(baseline: &Baseline, workload: &WorkloadKey) -> Value {
    let [peers, callers, shells] = baseline.habits(workload);
    let span = baseline.span(workload).map(|(first, last, _)| (first, last));
    let (first_seen, last_seen) = span.unwrap_or_default();
    json!({
        "workload": workload, "state": state(baseline, workload), "first_seen": first_seen, "last_seen": last_seen,
        "peers": peers, "metadata_callers": callers, "shells": shells,
    })
}

fn read(path: &Path) -> Result<Value> {
    let mut text = Vec::new();
    let named = || format!("cannot read {}", path.display());
    if path == Path::new("-") {
        io::stdin().take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    } else {
        fs::File::open(path)
            .with_context(named)?
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut text)
            .with_context(named)?;
    }
    anyhow::ensure!(text.len() as u64 <= FILE_BYTES_MAX, "{} has more than 64 MiB; no baseline has", path.display());
    serde_json::from_slice(&text).with_context(|| format!("{} is no exported baseline", path.display()))
}

fn write(path: Option<&Path>, bytes: &[u8]) -> Result<()> {
    match path {
        Some(path) => fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display())),
        None => {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            Ok(writeln!(out)?)
        }
    }
}
