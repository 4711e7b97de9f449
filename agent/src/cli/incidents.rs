//! `breachline incidents`: what was raised, read at a glance or by machines, and marked as expected.

mod expect;
mod export;
mod list;
mod show;

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Result;
use clap::Subcommand;

use super::answer::Common;
use crate::clock;
use crate::config::duration;
use crate::control::Request;
use crate::incident::{Incident, Severity};
use crate::store::IncidentSummary;
use crate::timestamp::Timestamp;

const ABOUT: &str = "\
Reads the incidents that the agent keeps: from the agent while it runs, else from its state directory (which is never changed by \
reading). An incident keeps its id for life; each revision says more than the one before.";

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
    /// One line for each incident, the latest first.
    List(Filter),
    /// Everything about one incident: timeline, request, process tree, what to do.
    Show(show::Args),
    /// Incidents as JSON lines, for other tools.
    Export(export::Args),
    /// Mark an incident as expected: it and its like are kept and counted, but not delivered.
    Expect(expect::Args),
    /// What is expected, by whom, why and until when.
    Expected,
    /// Take back that an incident is expected.
    Withdraw {
        /// The incident that was marked.
        id: String,
    },
}

/// Which incidents.
#[derive(Debug, clap::Args)]
pub(super) struct Filter {
    /// Evidence not older than this: a duration (`24h`, `7d`) or a time (`2026-11-22T10:00:00Z`).
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Least severity: low, medium, high or critical.
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    severity: Option<Severity>,
    /// On this workload: its key, or a part of it.
    #[arg(long, value_name = "WORKLOAD")]
    workload: Option<String>,
}

impl Filter {
    fn fits(&self, summary: &IncidentSummary) -> bool {
        self.since.is_none_or(|since| summary.last_seen >= since)
            && self.severity.is_none_or(|least| summary.severity >= least)
            && self.workload.as_ref().is_none_or(|part| summary.workload.contains(part.as_str()))
    }

    fn summaries(&self, common: &Common) -> Result<Vec<IncidentSummary>> {
        let mut summaries: Vec<IncidentSummary> = common.ask(&Request::Incidents)?;
        summaries.retain(|summary| self.fits(summary));
        Ok(summaries)
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    match &args.verb {
        Verb::List(filter) => list::run(&args.common, filter),
        Verb::Show(show) => show::run(&args.common, show),
        Verb::Export(export) => export::run(&args.common, export),
        Verb::Expect(expect) => expect::run(&args.common, expect),
        Verb::Expected => expect::list(&args.common),
        Verb::Withdraw { id } => expect::withdraw(&args.common, id),
    }
}

/// The incident's revisions; an unmistakable beginning of an id will do.
fn revisions(common: &Common, id: &str) -> Result<Vec<Incident>> {
    let summaries: Vec<IncidentSummary> = common.ask(&Request::Incidents)?;
    let mut fitting = summaries.iter().filter(|summary| summary.id == id || summary.id.starts_with(id));
    let exact = summaries.iter().find(|summary| summary.id == id);
    let id = match (exact, fitting.next(), fitting.next()) {
        (Some(exact), ..) => &exact.id,
        (None, Some(only), None) => &only.id,
        (None, Some(_), Some(_)) => {
            anyhow::bail!("{id} is the beginning of more than one incident's id; write more of it")
        }
        (None, None, _) => {
            anyhow::bail!("there is no incident {id}; `breachline incidents list` names those that are kept")
        }
    };
    common.ask(&Request::Incident { id: id.clone() })
}

fn since(text: &str) -> Result<Timestamp, String> {
    let ago = duration::parse(text).map(|ago| clock::now().minus(ago));
    let wrong = |_| format!("`{text}` is neither a duration (24h, 7d) nor a time (2026-11-22T10:00:00Z)");
    ago.map_or_else(|| Timestamp::from_str(text).map_err(wrong), Ok)
}

fn severity(text: &str) -> Result<Severity, String> {
    let name = serde_json::Value::from(text.to_ascii_lowercase());
    serde_json::from_value(name).map_err(|_| "write low, medium, high or critical".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_read_what_people_write() {
        assert_eq!(severity("HIGH"), Ok(Severity::High));
        assert!(severity("bad").is_err() && since("yesterday").is_err());
        assert_eq!(since("2026-11-22T10:00:00Z"), Ok("2026-11-22T10:00:00Z".parse().expect("time")));
        assert!(since("24h").expect("a day ago") > since("7d").expect("a week ago"));
    }

    #[test]
    fn all_filters_must_fit() {
        let summary = IncidentSummary {
            id: "bl-1".into(),
            revision: 1,
            severity: Severity::High,
            title: String::new(),
            workload: "unit:shop.service".into(),
            expected: false,
            last_seen: "2026-11-22T10:00:00Z".parse().expect("time"),
            revisions: std::collections::BTreeMap::new(),
        };
        let check = |since: Option<&str>, severity: Option<Severity>, workload: Option<&str>, expected: bool| {
            let since = since.map(|text| text.parse().expect("time"));
            let filter = Filter { since, severity, workload: workload.map(str::to_owned) };
            assert_eq!(filter.fits(&summary), expected, "{filter:?}");
        };
        check(None, None, None, true);
        check(Some("2026-11-22T10:00:00Z"), Some(Severity::High), Some("shop"), true);
        check(Some("2026-11-22T10:00:01Z"), None, None, false);
        check(None, Some(Severity::Critical), None, false);
        check(None, None, Some("mail"), false);
    }
}
