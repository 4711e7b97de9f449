//! `breachline forward`: balancer logs from where they are written to the agents that they concern.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::EXIT_USAGE;
use crate::forward::{Config, ForwardError, Forwarder, LogConfig, Options, RouteConfig, SAMPLE, Status};
use crate::telemetry;

/// Threads that pack and send; one more reads.
const IO_THREADS: usize = 2;

/// Status lines for people, one in so many seconds.
const TELL_EVERY: u32 = 10;

const HELP: &str = "\
Reads logs and takes each line, at least once, to the agent that owns the target address it names: over NATS JetStream
(a subject per address) or over HTTP by a table of networks. Needs no root and no agent on this machine.

  breachline forward --once --to http://127.0.0.1:8514/v1/lines access.log*   # a first try: all lines to one agent
  zcat day.log.gz | breachline forward --to http://127.0.0.1:8514/v1/lines -  # from a pipe
  breachline forward --sample-config > /etc/breachline/forward.toml           # then edit, and
  breachline forward                                                          # follow logs and buckets for good
  breachline forward --status                                                 # how that one stands

Exit codes: 0 done, or told to stop; 1 a fault while running, or lines that were refused, given up or not readable; 64
bad use or config.";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// Config file. Without one: /etc/breachline/forward.toml if it is there.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Send all lines to this URL, instead of what the config says.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Keep cursors in this directory. Without it, files named here are read from their beginning each time.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Read what there is, wait until it was taken, and end.
    #[arg(long)]
    once: bool,
    /// One JSON object a second on standard output (with --status: one).
    #[arg(long)]
    json: bool,
    /// Say how the running forwarder stands.
    #[arg(long, conflicts_with_all = ["once", "to", "files"])]
    status: bool,
    /// Check the config and end.
    #[arg(long)]
    check: bool,
    /// Print a config file with every key explained.
    #[arg(long)]
    sample_config: bool,
    /// Logs to read instead of the config's, plain or gzip; their rotated files are read with them. `-` is standard input.
    #[arg(value_name = "LOG")]
    files: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    if args.sample_config {
        std::io::stdout().lock().write_all(SAMPLE.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = config(args).and_then(|config| act(args, &config));
    match outcome {
        Err(error) if error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ForwardError::Config(_)))) => {
            eprintln!("breachline forward: {error:#}");
            Ok(ExitCode::from(EXIT_USAGE))
        }
        other => other,
    }
}

/// The file's config with what the command line says instead.
fn config(args: &Args) -> Result<Config> {
    let mut config = Config::load(args.config.as_deref())?;
    if !args.files.is_empty() {
        let named = args.files.iter().filter(|file| *file != "-");
        config.logs = named.map(|file| LogConfig { path: file.clone(), ..LogConfig::default() }).collect();
        config.objects.clear();
        config.state_directory = PathBuf::new();
    }
    if let Some(directory) = &args.state {
        config.state_directory.clone_from(directory);
    }
    if let Some(url) = &args.to {
        config.nats.enabled = false;
        let targets = vec!["0.0.0.0/0".into(), "::/0".into()];
        config.routes = vec![RouteConfig { targets, without_target: true, url: url.clone(), ..RouteConfig::default() }];
    }
    Ok(config)
}

fn act(args: &Args, config: &Config) -> Result<ExitCode> {
    if args.status {
        return show(&config.state_directory, args.json);
    }
    config.check()?;
    if args.check {
        writeln!(std::io::stdout().lock(), "the config is fine")?;
        return Ok(ExitCode::SUCCESS);
    }
    let stdin = args.files.iter().any(|file| file == "-");
    if config.logs.is_empty() && config.objects.is_empty() && !stdin {
        return Err(
            ForwardError::Config("nothing to read; name logs, or set logs or objects in the config".into()).into()
        );
    }
    telemetry::start(&telemetry::Config::default());
    let status = forward(args, config, Options { once: args.once, stdin })?;
    let unread = args.once && !status.troubles.is_empty();
    let complete = status.counts.lost() == 0 && status.counts.objects_damaged == 0 && !unread;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn forward(args: &Args, config: &Config, options: Options) -> Result<Status> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(IO_THREADS).enable_all().build();
    let runtime = runtime.context("cannot make a runtime")?;
    let (stop, stopped) = watch::channel(false);
    let mut signals = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    runtime.spawn(async move {
        tokio::select! {
            _ = signals.0.recv() => {}
            _ = signals.1.recv() => {}
        }
        stop.send_replace(true);
    });
    let forwarder = runtime.block_on(Forwarder::open(config, options, runtime.handle().clone(), stopped))?;
    let (mut second, mut reader_gone) = (0, false);
    let status = forwarder.run(|status| {
        if args.json {
            reader_gone |= say(status).is_err();
        } else if second % TELL_EVERY == TELL_EVERY - 1 {
            let counts = &status.counts;
            tracing::info!(
                read = counts.lines_read,
                taken = counts.lines_taken,
                waiting = status.batches_waiting,
                "forwarding"
            );
        }
        second += 1;
    })?;
    if !args.json {
        eprint!("{status}");
    }
    // What a stuck destination still holds is not waited for.
    runtime.shutdown_background();
    Ok(status)
}

fn say(status: &Status) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, status)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

fn show(directory: &Path, json: bool) -> Result<ExitCode> {
    if directory.as_os_str().is_empty() {
        bail!("no state directory; name it with --state or in the config");
    }
    let status = Status::read(directory)
        .with_context(|| format!("no status in {} (is `breachline forward` running with it?)", directory.display()))?;
    if json {
        say(&status)?;
    } else {
        write!(std::io::stdout().lock(), "{status}")?;
    }
    Ok(ExitCode::SUCCESS)
}
