//! `breachline drill`: a live breach in namespaces of its own, caught or not.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};

use super::EXIT_UNAVAILABLE;
use crate::drill::{self, Outcome, Scenario, Turn};
use crate::incident::text;

/// Options of `breachline drill`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// List the scenarios and what happens in each.
    #[arg(long)]
    list: bool,
    /// Play this scenario only; may be given more than once.
    #[arg(long, value_name = "NAME", value_parser = scenario)]
    scenario: Vec<&'static Scenario>,
    /// One JSON object a line for each scenario.
    #[arg(long)]
    json: bool,
    /// Print each incident too, as a responder gets it.
    #[arg(long)]
    incident: bool,
}

/// Options of the hidden actor command.
#[derive(Debug, clap::Args)]
pub(super) struct ActorArgs {
    #[command(subcommand)]
    actor: drill::Actor,
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    drill::find(name).ok_or_else(|| {
        let names: Vec<&str> = drill::SCENARIOS.iter().map(|scenario| scenario.name).collect();
        format!("there is {}", names.join(", "))
    })
}

/// Plays the scenarios asked for, all of them by default. Exit code 0 only if every expectation held.
///
/// # Errors
///
/// Output that cannot be written, a runtime that cannot be made. What keeps a scenario from being played is reported as its outcome.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.list {
        return list(args.json);
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!(
            "breachline: the drill needs root, to make network namespaces and to load the kernel senses; run it with sudo"
        );
        return Ok(ExitCode::from(EXIT_UNAVAILABLE));
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // Dropping the drill half-way clears its range.
        tokio::select! {
            outcome = play(args) => outcome,
            _ = interrupt.recv() => interrupted(),
            _ = terminate.recv() => interrupted(),
        }
    })
}

/// Is one of the drill's actors.
///
/// # Errors
///
/// What kept it from playing its part.
pub(super) fn act(args: &ActorArgs) -> anyhow::Result<ExitCode> {
    drill::act(&args.actor)?;
    Ok(ExitCode::SUCCESS)
}

fn interrupted() -> anyhow::Result<ExitCode> {
    anyhow::bail!("interrupted; the range is cleared")
}

fn list(json: bool) -> anyhow::Result<ExitCode> {
    let mut stdout = std::io::stdout().lock();
    for Scenario { name, about, .. } in drill::SCENARIOS {
        if json {
            writeln!(stdout, "{}", serde_json::json!({ "scenario": name, "about": about }))?;
        } else {
            writeln!(stdout, "{name:<15} {about}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn play(args: &Args) -> anyhow::Result<ExitCode> {
    let _turn = match Turn::take()? {
        Some(turn) => turn,
        None => {
            eprintln!("breachline: another drill is running on this machine; waiting for it to end");
            Turn::wait().await?
        }
    };
    let chosen: Vec<&'static Scenario> =
        if args.scenario.is_empty() { drill::SCENARIOS.iter().collect() } else { args.scenario.clone() };
    let (began, mut outcomes) = (Instant::now(), Vec::new());
    say(args, &drill::opening())?;
    for scenario in chosen {
        let outcome = drill::play(scenario).await;
        if args.json {
            writeln!(std::io::stdout(), "{}", serde_json::to_string(&outcome)?)?;
        }
        say(args, &drill::tell(scenario, &outcome))?;
        if let Some(incident) = outcome.incident.as_ref().filter(|_| args.incident) {
            say(args, &text::text(incident))?;
        }
        outcomes.push(outcome);
    }
    say(args, &drill::closing(&outcomes, began.elapsed()))?;
    let right = outcomes.iter().all(|outcome: &Outcome| outcome.right);
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say(args: &Args, text: &str) -> std::io::Result<()> {
    if args.json { Ok(()) } else { writeln!(std::io::stdout(), "{text}") }
}
