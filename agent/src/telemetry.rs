//! The agent's own log: to stderr, so that stdout stays the incidents'.
//!
//! Levels by reader: error, a human must act; warn, degraded; info, start, stop and verdicts; debug, the rest. Nothing that an
//! attacker can trigger is logged per event: that is a counter in [`crate::status`].

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// `[telemetry]` of the config.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Least level shown (`error`, `warn`, `info`, `debug`, `trace`), or a filter in `tracing`'s syntax.
    pub log: String,
    /// One JSON object per line instead of text.
    pub log_json: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { log: "info".to_owned(), log_json: false }
    }
}

impl Config {
    /// Whether [`Self::log`] can be understood.
    ///
    /// # Errors
    ///
    /// A sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        EnvFilter::try_new(&self.log).map(|_| ()).map_err(|error| {
            format!("telemetry.log: `{}` is no level or filter ({error}); write for example \"info\"", self.log)
        })
    }
}

/// Starts logging for this process. A second call changes nothing (tests, the drill inside `run`).
pub fn start(config: &Config) {
    // The loader tells every relocation at debug level; whoever wants that names it.
    let quiet = if config.log.contains("aya") { String::new() } else { ",aya=info,aya_obj=info".to_owned() };
    let filter = EnvFilter::try_new(config.log.clone() + &quiet).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = if config.log_json { builder.json().try_init() } else { builder.try_init() };
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
}
