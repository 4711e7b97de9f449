//! `simulate [--days N] [--workloads N] [--seed N] [--breaches N] [--threads N] [--json] [--notes]`: virtual days over the whole pure detector.
//!
//! Prints one object per figure, and exits 0 only if every bound holds. The seed is free: nothing is tuned to one. Requests are
//! those of the development corpus where it is there (`$BREACHLINE_SHARED/data`), else generated; stderr says which.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
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
    threads: usize,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = arguments()?;
    let corpus = Corpus::load()?;
    eprintln!("simulate: requests from {}", corpus.source);
    let config = Config::default();
    let begun = Instant::now();
    let mut month = Month::default();
    let plan = &arguments.plan;
    for outcome in each(arguments.threads, plan.hosts().into(), |host| {
        let host = u8::try_from(host).unwrap_or(u8::MAX);
        let outcome = plan.run(host, &corpus, &config, |_| ())?;
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
        Ok(outcome)
    })? {
        month.add(&outcome);
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

/// Does `work` for each number below `count`, on so many threads; what comes of it in order.
fn each<T: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, count.max(1)) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let outcome = work(number);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((number, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, outcome)| outcome).collect()
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
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = Arguments { plan, json: false, notes: false, trials: true, threads };
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
            "--threads" => arguments.threads = usize::try_from(number()?)?,
            "--json" => arguments.json = true,
            "--notes" => arguments.notes = true,
            "--no-trials" => arguments.trials = false,
            _ => bail!(
                "unknown option `{word}`; there are --days N, --workloads N, --seed N, --breaches N (of each kind), --threads N, --json, --notes, --no-trials"
            ),
        }
    }
    Ok(arguments)
}
