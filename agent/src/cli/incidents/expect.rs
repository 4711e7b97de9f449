//! `breachline incidents expect`, `expected`, `withdraw`.

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Result;
use serde_json::Value;

use super::{Common, revisions};
use crate::clock;
use crate::config::duration;
use crate::control::Request;
use crate::expectation::Expectation;
use crate::incident::Expected;
use crate::incident::wording::{clean, severity};
use crate::timestamp::Timestamp;

const ABOUT: &str = "\
Marks an incident as expected. Later incidents on the same workload that have nothing in them that this one had not (the same \
programs and shapes of command lines, the same peers, the same kind of request) and that are no more severe are then kept, \
counted and listed as expected, but not delivered. It ends by itself.";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(long_about = ABOUT)]
pub(super) struct Args {
    /// The incident; an unmistakable beginning will do.
    id: String,
    /// Who answers for it.
    #[arg(long, value_name = "NAME")]
    owner: String,
    /// Why it is expected.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Until when: a duration from now (`30d`) or a time (`2026-12-31T00:00:00Z`).
    #[arg(long, value_name = "TIME", value_parser = until)]
    until: Timestamp,
}

fn until(text: &str) -> Result<Timestamp, String> {
    let from_now = duration::parse(text).map(|span| clock::now().plus(span));
    let wrong = |_| format!("`{text}` is neither a duration (30d) nor a time (2026-12-31T00:00:00Z)");
    from_now.map_or_else(|| Timestamp::from_str(text).map_err(wrong), Ok)
}

pub(super) fn run(common: &Common, args: &Args) -> Result<ExitCode> {
    let id = revisions(common, &args.id)?.pop().map_or_else(|| args.id.clone(), |incident| incident.id);
    let said = Expected { owner: args.owner.clone(), reason: args.reason.clone(), until: args.until };
    let made: Expectation = common.ask(&Request::Expect { id, said })?;
    if common.json {
        Common::print_json(&made)?;
    } else {
        print(&made);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn list(common: &Common) -> Result<ExitCode> {
    let expectations: Vec<Expectation> = common.ask(&Request::Expected)?;
    if common.json {
        Common::print_json(&expectations)?;
    } else if expectations.is_empty() {
        println!("nothing is expected: every incident is delivered");
    } else {
        expectations.iter().for_each(print);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn withdraw(common: &Common, id: &str) -> Result<ExitCode> {
    let _: Value = common.ask(&Request::Withdraw { id: id.to_owned() })?;
    if common.json {
        Common::print_json(&serde_json::json!({ "withdrawn": id }))?;
    } else {
        println!("{} and its like are delivered again", clean(id));
    }
    Ok(ExitCode::SUCCESS)
}

fn print(expectation: &Expectation) {
    let Expectation { incident, workload, severity: highest, said, covered, .. } = expectation;
    println!("{incident}  {} on {}, until {}", severity(*highest), clean(workload.as_str()), said.until);
    println!("    {}: {}", clean(&said.owner), clean(&said.reason));
    println!("    incidents covered: {covered}");
    for shape in &expectation.shapes {
        println!("      {}", clean(shape));
    }
}
