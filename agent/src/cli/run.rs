//! `breachline run`: the agent.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::pipeline::{Pipeline, Senses};
use crate::telemetry;

/// Threads for receivers and sinks; the senses have one of their own.
const IO_THREADS: usize = 2;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Config file. Without one: /etc/breachline/breachline.toml if it is there, else the defaults.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write everything the detector is fed to DIR/host.ndjson and DIR/edge.log, for `breachline replay`. Edge lines and command
    /// lines may hold secrets: keep the directory private.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let config = Config::load(args.config.as_deref())?;
    telemetry::start(&config.telemetry);
    // Before any other thread is made: those made later inherit what little privilege is left.
    let senses = Senses::attach(&config, args.record.clone(), true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    runtime.block_on(watch(&config, senses))
}

async fn watch(config: &Config, senses: Senses) -> Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut pipeline = Pipeline::start_on(config, senses, None).await?;
    let code = tokio::select! {
        _ = terminate.recv() => ExitCode::SUCCESS,
        _ = interrupt.recv() => ExitCode::SUCCESS,
        () = pipeline.failed() => {
            tracing::error!("the engine ended by itself");
            ExitCode::FAILURE
        }
    };
    tracing::info!("stopping");
    pipeline.stop().await;
    Ok(code)
}
