//! What is forwarded, and where to: a file of its own, since a relay need not be a host that runs the agent. Unknown keys
//! are refused with their name and line; `sample.toml` beside this file explains every key.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs};

use ipnet::IpNet;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::ForwardError;
use crate::edge::formats;
use crate::intake::nats::{ServerConfig, StreamConfig};

/// Where the file is looked for when none is named.
pub const DEFAULT_PATH: &str = "/etc/breachline/forward.toml";

/// The annotated defaults.
pub const SAMPLE: &str = include_str!("sample.toml");

/// Smallest batch: twice the longest line, so that a batch always takes one.
const BATCH_BYTES_MIN: usize = 128 << 10;
/// Largest batch: what an agent unpacks of one message or request by default.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Everything the forwarder can be told.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where cursors and the status are kept; nothing is remembered when empty.
    pub state_directory: PathBuf,
    /// Logs to follow, their rotated and packed files included.
    pub logs: Vec<LogConfig>,
    /// Directories that complete files are put into.
    pub objects: Vec<ObjectsConfig>,
    /// How lines are put together.
    pub batch: BatchConfig,
    /// What happens when a destination does not take a batch.
    pub retry: RetryConfig,
    /// Over HTTP: the first route that fits best.
    pub routes: Vec<RouteConfig>,
    /// Over NATS.
    pub nats: NatsConfig,
}

/// Logs to follow.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Path; `*` and `?` stand for any characters but `/`.
    pub path: String,
    /// Name under which agents see the lines; needed only for lines whose format agents are told by name.
    pub source: String,
    /// Where to begin with a log seen for the first time: `true` at its end, `false` with all that it and its rotated
    /// files hold.
    pub from_end: bool,
    /// How often it is looked at when idle, from 10ms to 10s.
    #[serde(with = "crate::config::duration")]
    pub poll: Duration,
    /// The lines' format, where it cannot be found out.
    pub format: formats::Config,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            path: String::new(),
            source: String::new(),
            from_end: false,
            poll: Duration::from_millis(50),
            format: formats::Config::default(),
        }
    }
}

/// A directory that complete files are put into, each read once: a bucket that is synced, for example.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectsConfig {
    /// The directory; everything below it is looked at, in the order of names.
    pub directory: PathBuf,
    /// Names of the files to read, with `*` and `?`; what a sync writes under another name first is left alone.
    pub names: Vec<String>,
    /// Files not changed for longer are left alone, and forgotten.
    #[serde(with = "crate::config::duration")]
    pub newer_than: Duration,
    /// Files changed more recently are left alone for now: somebody may still be writing.
    #[serde(with = "crate::config::duration")]
    pub settle: Duration,
    /// How often new files are looked for.
    #[serde(with = "crate::config::duration")]
    pub rescan: Duration,
    /// Name under which agents see the lines.
    pub source: String,
    /// The lines' format, where it cannot be found out.
    pub format: formats::Config,
}

impl Default for ObjectsConfig {
    fn default() -> Self {
        Self {
            directory: PathBuf::new(),
            names: vec!["*.gz".into(), "*.log".into()],
            newer_than: Duration::from_secs(2 * 86_400),
            settle: Duration::from_secs(1),
            rescan: Duration::from_secs(5),
            source: String::new(),
            format: formats::Config::default(),
        }
    }
}

/// How lines are put together.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchConfig {
    /// Bytes of lines in a batch at most.
    pub bytes: usize,
    /// How long a line waits for others at most.
    #[serde(with = "crate::config::duration")]
    pub age: Duration,
    /// gzip level, 0 (none) to 9.
    pub gzip: u32,
    /// Bytes of lines read and not yet taken at most; with more, reading waits.
    pub memory_bytes: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { bytes: 512 << 10, age: Duration::from_secs(1), gzip: 1, memory_bytes: 64 << 20 }
    }
}

/// What happens when a destination does not take a batch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// First wait; doubles from there.
    #[serde(with = "crate::config::duration")]
    pub wait_min: Duration,
    /// Longest wait, also when the destination asks for a longer one.
    #[serde(with = "crate::config::duration")]
    pub wait_max: Duration,
    /// An HTTP destination that has taken nothing for so long is given up: what waits for it is dropped and counted, or one
    /// terminated host would hold up all others. It is asked again every `wait_max`.
    #[serde(with = "crate::config::duration")]
    pub give_up_after: Duration,
    /// Time to send a batch and hear of it.
    #[serde(with = "crate::config::duration")]
    pub timeout: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            wait_min: Duration::from_millis(250),
            wait_max: Duration::from_secs(30),
            give_up_after: Duration::from_secs(5 * 60),
            timeout: Duration::from_secs(30),
        }
    }
}

/// Lines for these targets go to that address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteConfig {
    /// Addresses and networks; the longest prefix wins.
    pub targets: Vec<String>,
    /// Whether lines without a target go here too.
    pub without_target: bool,
    /// Where to POST. `{target}` stands for the target's address, `{source}` for the source's name.
    pub url: String,
    /// File with a bearer token, read again for every batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// PEM file with the certificate authorities to trust instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM file with a client certificate and its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<PathBuf>,
}

/// Over NATS: a subject per target address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsConfig {
    /// Whether lines go to NATS.
    pub enabled: bool,
    /// Last word of the subject of lines without a target (`any`); they are counted and left out when empty.
    pub without_target: String,
    /// The server.
    pub server: ServerConfig,
    /// The stream.
    pub stream: StreamConfig,
}

impl Config {
    /// Reads `path`; without one [`DEFAULT_PATH`] if it is there, else the defaults.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no TOML or has an unknown key. Values are checked by [`Config::check`].
    pub fn load(path: Option<&Path>) -> Result<Self, ForwardError> {
        let (path, required) = path.map_or((Path::new(DEFAULT_PATH), false), |path| (path, true));
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => return Ok(Self::default()),
            Err(error) => return Err(ForwardError::Config(format!("{}: {error}", path.display()))),
            Ok(text) => text,
        };
        toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.as_bytes().get(..span.start));
            let line = before.map_or(1, |before| memchr::memchr_iter(b'\n', before).count() + 1);
            ForwardError::Config(format!("{}:{line}: {}", path.display(), error.message().trim().replace('\n', "; ")))
        })
    }

    /// Checks what needs neither a file nor a port.
    ///
    /// # Errors
    ///
    /// The first key that cannot work.
    pub fn check(&self) -> Result<(), ForwardError> {
        self.batch.check()?;
        for log in &self.logs {
            if !(Duration::from_millis(10)..=Duration::from_secs(10)).contains(&log.poll) {
                return wrong("logs.poll", "must lie between 10ms and 10s");
            }
            formats::Reader::new(&log.format).map_err(|error| ForwardError::Config(format!("logs.format: {error}")))?;
        }
        for objects in &self.objects {
            if objects.directory.as_os_str().is_empty() || objects.rescan.is_zero() {
                return wrong("objects.directory", "and objects.rescan must be set");
            }
            formats::Reader::new(&objects.format)
                .map_err(|error| ForwardError::Config(format!("objects.format: {error}")))?;
        }
        if self.retry.wait_min.is_zero() || self.retry.wait_max < self.retry.wait_min || self.retry.timeout.is_zero() {
            return wrong("retry", "wait_min and timeout must be above 0, and wait_max not below wait_min");
        }
        match (self.nats.enabled, self.routes.is_empty()) {
            (true, true) => self.nats.check(),
            (false, false) => self.routes.iter().try_for_each(RouteConfig::check),
            (true, false) => wrong("nats.enabled", "excludes routes: lines go to the bus or to URLs"),
            (false, true) => wrong("routes", "is empty; say where lines go: a route, nats.enabled, or --to URL"),
        }
    }
}

fn wrong<T>(key: &str, reason: impl fmt::Display) -> Result<T, ForwardError> {
    Err(ForwardError::Config(format!("{key}: {reason}")))
}

impl BatchConfig {
    fn check(&self) -> Result<(), ForwardError> {
        if !(BATCH_BYTES_MIN..=BATCH_BYTES_MAX).contains(&self.bytes) {
            return wrong("batch.bytes", format_args!("must lie between {BATCH_BYTES_MIN} and {BATCH_BYTES_MAX}"));
        }
        if self.memory_bytes < 8 * self.bytes {
            return wrong("batch.memory_bytes", "must take at least eight batches");
        }
        if self.gzip > 9 {
            return wrong("batch.gzip", "is a level from 0 (none) to 9");
        }
        Ok(())
    }
}

impl NatsConfig {
    fn check(&self) -> Result<(), ForwardError> {
        self.server.check().map_err(|error| ForwardError::Config(format!("nats.server.{error}")))?;
        self.stream.check().map_err(|error| ForwardError::Config(format!("nats.{error}")))?;
        if self.without_target.bytes().any(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))) {
            return wrong("nats.without_target", "is one word of letters, digits, - and _");
        }
        Ok(())
    }
}

impl RouteConfig {
    fn check(&self) -> Result<(), ForwardError> {
        self.networks()?;
        let url = self.url.replace("{target}", "192.0.2.1").replace("{source}", "source");
        let url = match Url::parse(&url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => url,
            _ => return wrong("routes.url", format_args!("{} is no address; write https://host/v1/lines", self.url)),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("routes.url", "put the credential in token_file, not in the address");
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if url.scheme() == "http" && !loopback {
            return wrong("routes.url", format_args!("{} would carry lines unencrypted; use https", self.url));
        }
        Ok(())
    }

    /// The networks it is for; an address is the network of that one.
    pub(super) fn networks(&self) -> Result<Vec<IpNet>, ForwardError> {
        let parse = |text: &String| {
            let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            net.map_or_else(|| wrong("routes.targets", format_args!("{text} is no address or network")), Ok)
        };
        self.targets.iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_the_defaults() {
        assert_eq!(toml::from_str::<Config>(SAMPLE).expect("reads"), {
            Config { state_directory: "/var/lib/breachline-forward".into(), ..Config::default() }
        });
    }

    #[test]
    fn a_config_that_cannot_work_is_refused() {
        let check = |text: &str, expected: &str| {
            let config: Config = toml::from_str(text).expect("reads");
            let found = config.check().map_or_else(|error| error.to_string(), |()| "fine".into());
            assert!(found.contains(expected), "{text}: {found:?} lacks {expected:?}");
        };
        check("", "say where lines go");
        check("[nats]\nenabled = true", "fine");
        check("[[routes]]\nurl = \"http://127.0.0.1:8514/v1/lines\"", "fine");
        check("[[routes]]\nurl = \"https://{target}:8514/{source}\"\ntargets = [\"10.0.0.0/8\", \"fd00::1\"]", "fine");
        check("[[routes]]\nurl = \"http://{target}:8514/\"", "use https");
        check("[[routes]]\nurl = \"https://a:b@h/\"", "token_file");
        check("[[routes]]\nurl = \"ftp://h/\"", "is no address");
        check("[[routes]]\nurl = \"https://h/\"\ntargets = [\"web\"]", "web is no address or network");
        check("[nats]\nenabled = true\n[[routes]]\nurl = \"https://h/\"", "excludes");
        check("[nats]\nenabled = true\nwithout_target = \"a.b\"", "one word");
        check("[nats]\nenabled = true\n[nats.server]\nurls = [\"nats://h\"]", "write tls://");
        check("[batch]\nbytes = 1", "batch.bytes");
        check("[batch]\nmemory_bytes = 1", "eight batches");
        check("[batch]\ngzip = 10", "0 (none) to 9");
        check("[[logs]]\nformat = { nginx_log_format = \"$status\" }\n[nats]\nenabled = true", "logs.format");
    }
}
