//! Checked configuration: one TOML file, every key optional, unknown keys refused with the key and line named.
//!
//! Each stage owns its section (`<stage>::Config`, with defaults and the meaning of every key); this module only joins them.
//! `sample.toml` beside this file is what `breachline sample-config` prints: the defaults, each key explained; a test holds the
//! two together.

pub mod duration;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::enrich::procfs;
use crate::{
    baseline, correlate, deliver, edge, enrich, fleet, host, identity, intake, kernel, lists, status, store, telemetry,
};

/// Where the file is looked for when none is named. It may be absent: the defaults work.
pub const DEFAULT_PATH: &str = "/etc/breachline/breachline.toml";

/// The annotated defaults.
pub const SAMPLE: &str = include_str!("config/sample.toml");

/// Everything the agent can be told.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The senses in the kernel.
    pub kernel: kernel::Config,
    /// What is read from /proc and cgroupfs.
    pub procfs: procfs::Config,
    /// Process table, workloads, listeners, routes.
    pub enrich: enrich::Config,
    /// What is internal here, further metadata endpoints.
    pub host: host::Config,
    /// The owner's lists of peers.
    pub lists: lists::Config,
    /// Who this machine is to its cloud, and who answers for what runs on it.
    pub identity: identity::Config,
    /// How long things take to become normal.
    pub baseline: baseline::Config,
    /// What is normal, shared with other hosts.
    pub fleet: fleet::Config,
    /// Receivers of edge lines.
    pub intake: intake::Config,
    /// Formats of the edge lines, error rates.
    pub edge: edge::Config,
    /// Windows, lateness, bounds of the memory.
    pub correlate: correlate::Config,
    /// Sinks.
    pub deliver: deliver::Config,
    /// State directory and its bounds.
    pub store: store::Config,
    /// The status socket.
    pub status: status::Config,
    /// The agent's own log.
    pub telemetry: telemetry::Config,
}

/// Why a config was refused: always names the file, and the line and key where there is one.
#[derive(Debug)]
pub struct ConfigError {
    path: PathBuf,
    line: Option<usize>,
    message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads `path`; without one, [`DEFAULT_PATH`] if it is there, else the defaults.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no TOML, has an unknown key, or a value is out of bounds.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (path, required) = path.map_or((Path::new(DEFAULT_PATH), false), |path| (path, true));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => Ok(Self::default()),
            Err(error) => Err(ConfigError { path: path.to_owned(), line: None, message: error.to_string() }),
        }
    }

    /// Reads `text`, which came from `path`.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| ConfigError {
            path: path.to_owned(),
            line: error.span().map(|span| line_of(text, span.start)),
            message: error.message().trim().replace('\n', "; "),
        })?;
        config.check().map_err(|message| ConfigError { path: path.to_owned(), line: None, message })?;
        let endpoints = config.host.metadata_endpoints.iter();
        config.kernel.metadata_endpoints = endpoints.map(|own| SocketAddr::new(own.address, own.port)).collect();
        Ok(config)
    }

    /// What no single value's type can hold: bounds and values that must fit each other.
    fn check(&self) -> Result<(), String> {
        self.intake.check().map_err(|error| error.to_string())?;
        self.fleet.check().map_err(|error| format!("fleet.{error}"))?;
        self.deliver.check().map_err(|error| error.to_string())?;
        self.telemetry.check()
    }
}

/// Line of the byte at `offset`, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_file_line_and_key() {
        let check = |text: &str, expected: &[&str]| {
            let message = Config::parse(Path::new("b.toml"), text).expect_err("refused").to_string();
            for part in expected {
                assert!(message.contains(part), "{message:?} lacks {part:?}");
            }
        };
        check("[telemetry]\nlog = \"info\"\nlogg = 1\n", &["b.toml:3: ", "unknown field `logg`", "`log`"]);
        check("[nonsense]\n", &["b.toml:1: ", "unknown field `nonsense`"]);
        check("[telemetry]\nlog = 3\n", &["b.toml:2: ", "expected a string"]);
        check("[telemetry\n", &["b.toml:1: "]);
        check("[telemetry]\nlog = \"a=b=c\"\n", &["telemetry.log", "write for example"]);
    }

    #[test]
    fn no_file_is_fine_unless_it_was_named() {
        assert!(Config::load(Some(Path::new("/nowhere/breachline.toml"))).is_err());
    }

    #[test]
    fn the_sample_is_the_defaults_with_every_key_in_it() {
        let sample = Config::parse(Path::new("sample.toml"), SAMPLE).expect("the sample parses");
        assert_eq!(sample, Config::default());
        let written: toml::Value = toml::from_str(SAMPLE).expect("toml");
        let defaults = toml::Value::try_from(Config::default()).expect("toml");
        assert_eq!(keys(&written), keys(&defaults));
    }

    fn keys(value: &toml::Value) -> Vec<String> {
        let toml::Value::Table(table) = value else { return Vec::new() };
        let mut all: Vec<String> = table
            .iter()
            .flat_map(|(key, value)| {
                let inner: Vec<_> = keys(value).into_iter().map(|rest| format!("{key}.{rest}")).collect();
                if matches!(value, toml::Value::Table(_)) { inner } else { vec![key.clone()] }
            })
            .collect();
        all.sort();
        all
    }
}
