//! Who answers a command: the running agent over its socket, or the state directory when none runs. In: a request. Out: the
//! answer as JSON, and what the terminal is like that it is shown on.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::baseline::Baseline;
use crate::clock;
use crate::config::Config;
use crate::control::socket;
use crate::control::{EXPECTATIONS, Memory, OWN, Request};
use crate::coverage::{Coverage, Report};
use crate::detector::Part;
use crate::expectation::Expectations;
use crate::incident::text::Style;
use crate::status::DEFAULT_SOCKET;
use crate::store::{Blob, Kept, Store, View};

/// Which agent, and how it answers.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Config file of the agent that is asked; names its socket and its state directory.
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// JSON instead of text.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl Common {
    /// The answer of the agent, or of its state directory when none runs.
    pub(super) fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T> {
        let config = Config::load(self.config.as_deref())?;
        let value = match self.ask_agent(&config, request)? {
            Some(value) => value,
            None => offline(&config, request)?,
        };
        serde_json::from_value(value).context("the agent answers in another form; is it of another version?")
    }

    /// The answer of a running agent; there is nobody else to ask.
    pub(super) fn ask_running<T: DeserializeOwned>(&self, request: &Request) -> Result<T> {
        let config = Config::load(self.config.as_deref())?;
        let Some(value) = self.ask_agent(&config, request)? else {
            bail!("no agent answers on {} (is `breachline run` running?)", path(&config).display())
        };
        serde_json::from_value(value).context("the agent answers in another form; is it of another version?")
    }

    fn ask_agent(&self, config: &Config, request: &Request) -> Result<Option<Value>> {
        let path = path(config);
        match socket::ask(path, request) {
            Ok(answer) => answer.map(Some).map_err(anyhow::Error::msg),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) => Err(error)
                .with_context(|| format!("the agent behind {} does not answer (are you root?)", path.display())),
        }
    }

    /// Writes JSON, indented for people to read too.
    pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
        let mut out = io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, value)?;
        writeln!(out)?;
        Ok(())
    }
}

fn path(config: &Config) -> &Path {
    config.status.socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET))
}

/// What the state directory says, when no agent runs; what changes it is saved there.
fn offline(config: &Config, request: &Request) -> Result<Value> {
    if request.changes() {
        return change(config, request);
    }
    let view = View::open(&config.store)?;
    Ok(match request {
        Request::Incidents => serde_json::to_value(view.incidents()?)?,
        Request::Incident { id } => {
            let revisions = view.revisions(id)?;
            if revisions.is_empty() {
                bail!("there is no incident {id}; `breachline incidents list` names those that are kept");
            }
            Value::Array(revisions.iter().map(|json| serde_json::from_slice(json)).collect::<Result<_, _>>()?)
        }
        Request::Expected => {
            let bytes = view.load(Blob::Baseline, EXPECTATIONS)?;
            let expectations = bytes.map(|bytes| Expectations::from_bytes(&bytes)).transpose()?.unwrap_or_default();
            serde_json::to_value(expectations.list())?
        }
        Request::Baseline { workload } => {
            let bytes = view.load(Blob::Baseline, OWN)?;
            let baseline = bytes.map(|bytes| Baseline::from_bytes(config.baseline, &bytes)).transpose()?;
            let all = baseline.unwrap_or_else(|| Baseline::new(config.baseline));
            let wanted = match workload {
                None => all,
                Some(workload) => {
                    all.of(workload).with_context(|| format!("nothing is known of workload {workload}"))?
                }
            };
            serde_json::from_slice(&wanted.to_bytes()?)?
        }
        Request::Coverage => serde_json::to_value(coverage(config, &view)?)?,
        _ => bail!("no agent answers on {} (is `breachline run` running?)", path(config).display()),
    })
}

/// How well things were seen when the agent saved it last.
fn coverage(config: &Config, view: &View) -> Result<Report> {
    let Some(bytes) = view.load(Blob::Checkpoint, Part::Coverage.name())? else {
        bail!("no agent answers on {}, and none has saved how well it sees", path(config).display())
    };
    let mut coverage = Coverage::new(config.correlate.lateness + config.correlate.loose + config.correlate.skew);
    coverage.restore(&bytes)?;
    let bytes = view.load(Blob::Baseline, OWN)?;
    let baseline = bytes.map(|bytes| Baseline::from_bytes(config.baseline, &bytes)).transpose()?;
    let baseline = baseline.unwrap_or_else(|| Baseline::new(config.baseline));
    let taken = coverage.report(|_| false).taken;
    Ok(coverage.report(|workload| baseline.is_learning(workload, taken)))
}

fn change(config: &Config, request: &Request) -> Result<Value> {
    let now = clock::now();
    let store = Store::open(&config.store, now)?;
    let baseline = store.load(Blob::Baseline, OWN).map(|bytes| Baseline::from_bytes(config.baseline, &bytes));
    let expectations = store.load(Blob::Baseline, EXPECTATIONS).map(|bytes| Expectations::from_bytes(&bytes));
    let mut baseline = baseline.transpose()?.unwrap_or_else(|| Baseline::new(config.baseline));
    let mut expectations = expectations.transpose()?.unwrap_or_default();
    let mut memory = Memory { baseline: &mut baseline, expectations: &mut expectations };
    let value = memory.apply(request, &store, now)?;
    memory.save(&store);
    if store.sync() != Kept::Durably {
        let reason = store.status().trouble.unwrap_or_default();
        bail!("{} does not take it: {reason}", config.store.directory.display());
    }
    Ok(value)
}

/// How to lay out for standard output: as wide as the terminal, in colour only on one, and not where `NO_COLOR` (no-color.org)
/// or a dumb terminal forbids it.
pub(super) fn style() -> Style {
    let out = io::stdout();
    let Some((width, _)) = terminal_size::terminal_size_of(&out) else { return Style::PLAIN };
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    Style::terminal(usize::from(width.0), out.is_terminal() && !set("NO_COLOR") && !dumb)
}
