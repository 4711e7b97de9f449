//! A breach that an installed agent must catch, and the wait for its incident.
//!
//! In: the file that the agent's stdout goes to, the access log it follows. Out: the incident, or what was seen instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{command, say};

/// The attacker, the victim and the balancer.
const CHAIN: &str = include_str!("chain.sh");
/// For the agent to load its programs and attach. They take a second on the slowest machine seen.
const START_MAX: Duration = Duration::from_secs(60);
/// From the breach to its incident; the promise is 50 ms, a loaded CI machine gets the benefit of the doubt.
const INCIDENT_MAX: Duration = Duration::from_secs(30);
/// How often a file is looked at again.
const POLL: Duration = Duration::from_millis(50);

/// One agent under trial.
pub(super) struct Trial {
    folder: PathBuf,
}

impl Trial {
    /// In a folder of its own below `scratch`.
    pub(super) fn new(scratch: &Path, name: &str) -> Result<Self> {
        let folder = scratch.join(name);
        fs::create_dir_all(folder.join("state"))?;
        fs::write(folder.join("access.log"), "")?;
        let trial = Self { folder };
        fs::write(trial.config(), trial.config_text())?;
        Ok(trial)
    }

    /// Everything the agent needs to read or write, apart from its own files.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The config: nothing is normal yet, incidents go to stdout as JSON.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("breachline.toml")
    }

    /// Where the agent's stdout belongs.
    pub(super) fn output(&self) -> PathBuf {
        self.folder.join("incidents.jsonl")
    }

    fn config_text(&self) -> String {
        let folder = self.folder.display();
        format!(
            "[kernel]\npin = false\n\n[store]\ndirectory = \"{folder}/state\"\n\n[deliver]\nstdout = \"json\"\n\n[baseline]\nlearn_for = \"0s\"\n\n\
             [status]\nsocket = \"{folder}/status.sock\"\n\n[intake.http]\nenabled = false\n\n[[intake.files]]\npath = \"{folder}/access.log\"\n"
        )
    }

    /// Breaks in once `ready` says that the agent senses, and waits for the incident that names the request.
    pub(super) fn hold(&self, ready: impl Fn() -> bool) -> Result<()> {
        if until(START_MAX, || ready().then_some(())).is_none() {
            bail!("the agent was not ready within {START_MAX:?}");
        }
        let script = self.folder.join("chain.sh");
        fs::write(&script, CHAIN)?;
        let mut chain = command("unshare");
        chain.args(["--net", "bash"]).arg(&script).arg(self.folder.join("access.log"));
        let started = Instant::now();
        let mut chain = chain.stdin(Stdio::piped()).spawn().context("cannot start the breach")?;
        let caught = until(INCIDENT_MAX, || match chain.try_wait() {
            // It stays until its stdin ends: one that is gone has failed.
            Ok(None) => self.incident().map(Some),
            _ => Some(None),
        });
        let taken = started.elapsed();
        drop(chain.stdin.take());
        let status = chain.wait()?;
        let Some(Some(incident)) = caught else {
            let seen = fs::read_to_string(self.output()).unwrap_or_default();
            bail!(
                "no critical incident within {INCIDENT_MAX:?} (the breach ended with {status}); the agent printed: {seen}"
            );
        };
        say(format_args!("caught {taken:.1?} after the break-in began: {}", incident["title"]));
        Ok(())
    }

    /// The first critical incident whose text holds the request.
    fn incident(&self) -> Option<Value> {
        let text = fs::read_to_string(self.output()).ok()?;
        let named = |line: &&str| line.contains("/cgi-bin/ping");
        let incidents = text.lines().filter(named).filter_map(|line| serde_json::from_str::<Value>(line).ok());
        incidents.into_iter().find(|incident| incident["severity"] == "critical")
    }
}

/// Asks until there is an answer, at most `limit` long.
pub(super) fn until<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(POLL);
    }
}

/// Ends a process that we started: SIGTERM, then SIGKILL when it does not listen.
pub(super) fn end(mut child: std::process::Child) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).context("pid")?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
    if until(Duration::from_secs(10), || child.try_wait().ok().flatten()).is_none() {
        child.kill()?;
        child.wait()?;
        bail!("process {pid} did not end on SIGTERM");
    }
    Ok(())
}
