//! The collector: alerts as HTTP POST. In: a batch. Out: whether the collector has it, should get it again, or refuses
//! it.
//!
//! The far end's answer decides: 2xx is delivered; 408, 429, 5xx, a timeout or no answer is tried again (after
//! `Retry-After`, where one is given); so are 3xx, 401, 403, 404 and 407, which speak of the address or the credential
//! and not of the record; any other 4xx refuses the record. Redirects are not followed: they would carry the credential
//! somewhere else.

use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::format::RecordFormat;
use super::worker::{Outcome, Pace, Sink};
use super::{DeliverError, Secret};
use crate::store::SpoolRecord;
use crate::timestamp::Timestamp;

/// Bytes of an answer read so that the connection can be used again; a longer answer closes it.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Time to reach the collector, name look-up and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How a batch is written.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// A JSON array of incidents.
    #[default]
    JsonArray,
    /// One incident a line (`application/x-ndjson`).
    Ndjson,
}

/// Where and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of the collector, `https://…`; plain `http://` only without a credential or on loopback. A proxy is taken
    /// from the environment (`HTTPS_PROXY`, `NO_PROXY`).
    pub url: String,
    /// The records' schema: `"breachline"`, `"ocsf"` or `"ecs"`.
    pub format: RecordFormat,
    /// How a batch is written: `"json_array"` or `"ndjson"`.
    pub body: Body,
    /// Bearer token; rather use `token_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// File with the bearer token, read again for every batch so that it can be rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// PEM file with the certificate authorities to trust instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Alerts in one request at most.
    pub batch_records_max: usize,
    /// Bytes in one request at most; one larger alert still goes alone.
    pub batch_bytes_max: u64,
    /// Time for a request and its answer.
    #[serde(with = "crate::config::duration")]
    pub timeout: Duration,
    /// First wait after a failure; doubles from there.
    #[serde(with = "crate::config::duration")]
    pub wait_min: Duration,
    /// Longest wait between tries, also when the collector asks for a longer one.
    #[serde(with = "crate::config::duration")]
    pub wait_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: String::new(),
            format: RecordFormat::default(),
            body: Body::JsonArray,
            token: None,
            token_file: None,
            ca_file: None,
            batch_records_max: 64,
            batch_bytes_max: 1 << 20,
            timeout: Duration::from_secs(15),
            wait_min: Duration::from_millis(500),
            wait_max: Duration::from_secs(300),
        }
    }
}

/// The sink.
pub(super) struct Collector {
    config: Config,
    url: Url,
    client: Client,
    now: fn() -> Timestamp,
}

impl Collector {
    /// Checks the config and reads the certificate authorities; connects with the first alert.
    pub(super) fn open(config: &Config, now: fn() -> Timestamp) -> Result<Self, DeliverError> {
        let url = check_url(config)?;
        if let Some(path) = &config.token_file {
            read_token(path).map_err(|reason| DeliverError::Http { key: "token_file", reason })?;
        }
        let client = client(config, &url)?;
        Ok(Self { config: config.clone(), url, client, now })
    }

    fn headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        let kind = match self.config.body {
            Body::JsonArray => "application/json",
            Body::Ndjson => "application/x-ndjson",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let token = self.config.token_file.as_ref().map(read_token).transpose()?.or_else(|| self.config.token.clone());
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                .map_err(|_| "the token has characters that a header cannot carry".to_owned())?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }

    async fn post(&self, records: &[SpoolRecord]) -> Result<Outcome, String> {
        let body = body(self.config.body, self.config.format, records);
        let request = self.client.post(self.url.clone()).headers(self.headers()?).body(body);
        let mut answer = request.send().await.map_err(|error| causes(&error.without_url()))?;
        let mut read = 0;
        while let Ok(Some(chunk)) = answer.chunk().await {
            read += chunk.len();
            if read > ANSWER_BYTES_MAX {
                break;
            }
        }
        Ok(outcome(answer.status(), answer.headers(), (self.now)()))
    }
}

impl Sink for Collector {
    fn name(&self) -> &'static str {
        "http"
    }

    fn pace(&self) -> Pace {
        Pace {
            records_max: self.config.batch_records_max,
            bytes_max: self.config.batch_bytes_max,
            wait_min: self.config.wait_min,
            wait_max: self.config.wait_max,
        }
    }

    async fn deliver(&mut self, records: &[SpoolRecord]) -> Outcome {
        self.post(records).await.unwrap_or_else(|reason| Outcome::Retry { reason, after: None })
    }
}

fn check_url(config: &Config) -> Result<Url, DeliverError> {
    let wrong = |reason: &str| DeliverError::Url { url: config.url.clone(), reason: reason.into() };
    let url = Url::parse(&config.url).map_err(|error| wrong(&format!("{error}; write https://host/path")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(wrong("write https://host/path"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let safe = DeliverError::Url {
            url: "…@…".into(),
            reason: "put the credential in token_file, not in the address".into(),
        };
        return Err(safe);
    }
    let secret = config.token.is_some() || config.token_file.is_some();
    if secret && url.scheme() == "http" && !is_loopback(&url) {
        return Err(wrong("a token would travel unencrypted; use https"));
    }
    if config.batch_records_max == 0 {
        return Err(DeliverError::Http { key: "batch_records_max", reason: "must be at least 1".into() });
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn client(config: &Config, url: &Url) -> Result<Client, DeliverError> {
    // Another part of the process may have chosen ring before; there is no other provider in this program.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = ClientBuilder::new()
        .user_agent(concat!("breachline/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(config.timeout)
        .pool_max_idle_per_host(1)
        .no_gzip();
    let builder = match &config.ca_file {
        Some(path) => builder.tls_certs_only(read_authorities(path)?),
        // A machine without any authorities must still be able to reach a plain collector.
        None if url.scheme() == "http" => builder.tls_certs_only([]),
        None => builder,
    };
    builder.build().map_err(|error| DeliverError::Url {
        url: config.url.clone(),
        reason: format!("{}; install ca-certificates or set deliver.http.ca_file", causes(&error)),
    })
}

fn read_authorities(path: &PathBuf) -> Result<Vec<Certificate>, DeliverError> {
    let wrong = |reason: String| DeliverError::Http { key: "ca_file", reason: format!("{}: {reason}", path.display()) };
    let pem = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(causes(&error)))?;
    if authorities.is_empty() {
        return Err(wrong("no PEM certificate in it".into()));
    }
    Ok(authorities)
}

fn read_token(path: &PathBuf) -> Result<Secret, String> {
    let read = || -> io::Result<Secret> { Ok(Secret::new(&fs::read_to_string(path)?)) };
    read().map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn body(body: Body, format: RecordFormat, records: &[SpoolRecord]) -> Vec<u8> {
    let (open, between, close): (&[u8], &[u8], &[u8]) = match body {
        Body::JsonArray => (b"[", b",", b"]"),
        Body::Ndjson => (b"", b"\n", b"\n"),
    };
    let records: Vec<_> = records.iter().map(|record| format.written(&record.bytes)).collect();
    [open, &records.join(between), close].concat()
}

fn outcome(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Outcome {
    let reason = format!("the collector answered {status}");
    match status.as_u16() {
        200..=299 => Outcome::Delivered,
        300..=399 | 401 | 403 | 404 | 407 | 408 | 429 => Outcome::Retry { reason, after: retry_after(headers, now) },
        400..=499 => Outcome::Refused { reason },
        _ => Outcome::Retry { reason, after: retry_after(headers, now) },
    }
}

/// `Retry-After` in either of its forms, seconds or a date (RFC 9110 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(Timestamp::from_unix_millis(date.timestamp().as_millisecond()).since(now))
}

/// An error with its causes: reqwest's own text stops before the one that tells.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_decides() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().expect("time");
        let check = |status: u16, retry_after: Option<&str>, expected: &str| {
            let mut headers = HeaderMap::new();
            if let Some(text) = retry_after {
                headers.insert(RETRY_AFTER, HeaderValue::from_str(text).expect("header"));
            }
            let found = match outcome(StatusCode::from_u16(status).expect("status"), &headers, now) {
                Outcome::Delivered => "delivered".to_owned(),
                Outcome::Retry { after, .. } => format!("retry {after:?}"),
                Outcome::Refused { .. } => "refused".to_owned(),
            };
            assert_eq!(found, expected, "{status} {retry_after:?}");
        };
        check(200, None, "delivered");
        check(202, None, "delivered");
        check(204, None, "delivered");
        check(302, None, "retry None");
        check(400, None, "refused");
        check(401, None, "retry None");
        check(404, None, "retry None");
        check(408, None, "retry None");
        check(413, None, "refused");
        check(422, None, "refused");
        check(429, Some("7"), "retry Some(7s)");
        check(500, None, "retry None");
        check(503, Some("Sun, 22 Nov 2026 10:02:00 GMT"), "retry Some(120s)");
        check(503, Some("Sun, 22 Nov 2026 09:00:00 GMT"), "retry Some(0ns)");
        check(503, Some("soon"), "retry None");
    }

    #[test]
    fn a_config_that_cannot_work_is_refused() {
        let check = |config: Config, expected: &str| {
            let error = Collector::open(&config, || Timestamp::MIN).err().expect("refused").to_string();
            assert!(error.contains(expected), "{error}");
        };
        let at = |url: &str| Config { url: url.into(), ..Config::default() };
        let token = Some(Secret::new("hunter2"));
        check(at(""), "write https://host/path");
        check(at("ftp://collector/"), "write https://host/path");
        check(at("https://user:hunter2@collector/"), "token_file");
        check(Config { token, ..at("http://collector.example/") }, "use https");
        check(Config { batch_records_max: 0, ..at("http://127.0.0.1/") }, "batch_records_max");
        check(Config { token_file: Some("/nonexistent".into()), ..at("http://127.0.0.1/") }, "token_file");
        check(Config { ca_file: Some("/nonexistent".into()), ..at("https://127.0.0.1/") }, "ca_file");
    }

    #[test]
    fn a_batch_is_an_array_or_lines() {
        let record = |text: &str| SpoolRecord {
            sequence: 1,
            severity: crate::incident::Severity::High,
            bytes: text.as_bytes().to_vec(),
        };
        let batch = [record("{\"a\":1}"), record("{\"b\":2}")];
        assert_eq!(body(Body::JsonArray, RecordFormat::Breachline, &batch), b"[{\"a\":1},{\"b\":2}]");
        assert_eq!(body(Body::Ndjson, RecordFormat::Breachline, &batch), b"{\"a\":1}\n{\"b\":2}\n");
    }
}
