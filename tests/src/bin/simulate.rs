//! `simulate [--days N] [--workloads N] [--seed N] [--breaches N] [--json] [--notes]`: virtual days over the whole pure detector.
//!
//! Prints one object per figure, and exits 0 only if every bound holds. The seed is free: nothing is tuned to one. Requests are
//! those of the development corpus where it is there (`$BREACHLINE_SHARED/data`), else generated; stderr says which.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use breachline::config::Config;
use breachline_tests::simulate::attribution::trials;
use breachline_tests::simulate::corpus::Corpus;
use breachline_tests::simulate::figures::{Bound, Figure, Month, attribution};
use breachline_tests::simulate::fleet::Plan;

/// Breaches under load at each rate.
const TRIALS: [(u32, u32, f64); 2] = [(10, 200, 99.0), (1000, 100, 95.0)];

struct Arguments {
    plan: Plan,
    json: bool,
    notes: bool,
    trials: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = arguments()?;
    let corpus = Corpus::load()?;
    eprintln!("simulate: requests from {}", corpus.source);
    let config = Config::default();
    let begun = Instant::now();
    let mut month = Month::default();
    let plan = &arguments.plan;
    for host in 0..plan.hosts() {
        let outcome = plan.run(host, &corpus, &config, |_| ())?;
        month.add(&outcome);
        eprintln!(
            "simulate: host {} of {} through {} days: {} events, {} lines, {} breaches, {} incidents, {:.0} s",
            host + 1,
            plan.hosts(),
            plan.days,
            outcome.events,
            outcome.lines,
            outcome.played.len(),
            outcome.told.len(),
            begun.elapsed().as_secs_f64()
        );
    }
    let mut figures = month.figures(plan);
    if arguments.trials {
        for (rate, count, least) in TRIALS {
            eprintln!("simulate: {count} breaches amid {rate} requests a second each");
            figures.extend(attribution(&trials(plan.seed, rate, count, &corpus, &config)?, least));
        }
    }
    figures.push(Figure::new("time_taken", begun.elapsed().as_secs_f64(), "s", Bound::Free));
    if arguments.notes {
        month.notes.iter().for_each(|note| eprintln!("{note}"));
    }
    print(&figures, arguments.json)?;
    Ok(if figures.iter().all(Figure::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(figures: &[Figure], json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for figure in figures {
        if json {
            writeln!(out, "{}", figure.json())?;
        } else {
            let (mark, bound) = match figure.bound {
                Bound::Free => ("    ", String::new()),
                Bound::AtMost(most) => (mark(figure), format!("  (at most {most})")),
                Bound::AtLeast(least) => (mark(figure), format!("  (at least {least})")),
            };
            writeln!(out, "{mark} {:<44} {:>12.2} {}{bound}", figure.name, figure.value, figure.unit)?;
        }
    }
    Ok(())
}

fn mark(figure: &Figure) -> &'static str {
    if figure.holds() { "ok  " } else { "FAIL" }
}

fn arguments() -> anyhow::Result<Arguments> {
    let plan = Plan { seed: 1, days: 30, workloads: 50, breaches: 6, visits: 4000.0, scans: 1440.0 };
    let mut arguments = Arguments { plan, json: false, notes: false, trials: true };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> anyhow::Result<u64> {
            let text = words.next().with_context(|| format!("{word} needs a number"))?;
            text.parse().with_context(|| format!("{word} needs a number, not `{text}`"))
        };
        match word.as_str() {
            "--seed" => arguments.plan.seed = number()?,
            "--days" => arguments.plan.days = u32::try_from(number()?)?.clamp(1, 365),
            "--workloads" => arguments.plan.workloads = number()?.clamp(2, 1000),
            "--breaches" => arguments.plan.breaches = u32::try_from(number()?)?,
            "--json" => arguments.json = true,
            "--notes" => arguments.notes = true,
            "--no-trials" => arguments.trials = false,
            _ => bail!(
                "unknown option `{word}`; there are --days N, --workloads N, --seed N, --breaches N (of each kind), --json, --notes, --no-trials"
            ),
        }
    }
    Ok(arguments)
}
