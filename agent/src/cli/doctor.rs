//! `breachline doctor`: can this kernel, and what to do if not.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;

use super::EXIT_UNAVAILABLE;
use crate::kernel;
use crate::status::{SenseStatus, senses_text};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The verdicts as one JSON array.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let senses: Vec<SenseStatus> = kernel::probe().iter().map(SenseStatus::from).collect();
    let unavailable = senses.iter().filter(|sense| sense.state == "unavailable").count();
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &senses)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", senses_text(&senses))?;
        writeln!(out, "\n{}", summary(&senses))?;
    }
    Ok(if unavailable == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNAVAILABLE) })
}

/// What all the verdicts come to, in a sentence or two.
fn summary(senses: &[SenseStatus]) -> String {
    let (lost, kept): (Vec<&SenseStatus>, Vec<&SenseStatus>) =
        senses.iter().partition(|sense| sense.state == "unavailable");
    let names =
        |senses: &[&SenseStatus]| senses.iter().map(|sense| sense.sense.as_str()).collect::<Vec<_>>().join(", ");
    if lost.iter().any(|sense| sense.sense == "exec") {
        return "Nothing is seen here: without the exec sense the agent does not run. What to do is said beside it."
            .to_owned();
    }
    match (lost.is_empty(), senses.iter().any(|sense| sense.state == "degraded")) {
        (true, false) => "This kernel can do all of it.".to_owned(),
        (true, true) => "This kernel can do it, without the details named.".to_owned(),
        (false, _) => {
            format!("Still seen here: {}. Not seen: {}; what to do is said beside each.", names(&kept), names(&lost))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_what_still_works() {
        let check = |states: [&str; 3], expected: &str| {
            let senses: Vec<SenseStatus> = ["exec", "connect", "names"]
                .into_iter()
                .zip(states)
                .map(|(sense, state)| SenseStatus {
                    sense: sense.to_owned(),
                    state: state.to_owned(),
                    ..SenseStatus::default()
                })
                .collect();
            assert!(summary(&senses).starts_with(expected), "{}", summary(&senses));
        };
        check(["active", "active", "active"], "This kernel can do all of it.");
        check(["degraded", "active", "active"], "This kernel can do it, without the details named.");
        check(["degraded", "active", "unavailable"], "Still seen here: exec, connect. Not seen: names;");
        check(["unavailable", "active", "active"], "Nothing is seen here");
    }
}
