//! The way over HTTP. In: a batch and a URL. Out: whether the agent has it.
//!
//! 2xx is taken; 413 asks for less; 408, 429, 5xx, a timeout or no answer is tried again, after `Retry-After` where one
//! is given; so are 3xx, 401, 403, 404 and 407, which speak of the address or the credential and not of the lines; any
//! other 4xx refuses them. Redirects are not followed: they would carry the credential somewhere else.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Response, StatusCode};

use super::ForwardError;
use super::config::{RetryConfig, RouteConfig};
use super::courier::{Body, Outcome};
use crate::clock;
use crate::deliver::http::{causes, retry_after};

/// Time to reach an agent, name look-up and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections kept open to one agent: as many as batches are under way to it.
const IDLE_MAX: usize = 4;
/// Bytes of an answer read so that the connection can be used again; a longer answer closes it.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Posts.
#[derive(Debug)]
pub(super) struct Poster {
    routes: Vec<Route>,
}

#[derive(Debug)]
struct Route {
    client: Client,
    token_file: Option<PathBuf>,
}

impl Poster {
    /// Makes a client per route; connects with the first batch.
    ///
    /// # Errors
    ///
    /// A certificate, key or token that cannot be read.
    pub(super) fn new(routes: &[RouteConfig], retry: &RetryConfig) -> Result<Self, ForwardError> {
        // Another part of the process may have chosen ring before; there is no other provider in this program.
        drop(rustls::crypto::ring::default_provider().install_default());
        let routes = routes.iter().map(|route| {
            if let Some(path) = &route.token_file {
                bearer(path).map_err(ForwardError::Config)?;
            }
            Ok(Route { client: client(route, retry)?, token_file: route.token_file.clone() })
        });
        Ok(Self { routes: routes.collect::<Result<_, ForwardError>>()? })
    }

    pub(super) async fn send(&self, url: &str, route: usize, body: Body) -> Outcome {
        let Some(route) = self.routes.get(route) else {
            return Outcome::Refused { reason: "its route is gone".into() };
        };
        let mut request = route.client.post(url).header(CONTENT_TYPE, "text/plain; charset=utf-8");
        if body.gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        match route.token_file.as_deref().map(bearer) {
            Some(Ok(bearer)) => request = request.header(AUTHORIZATION, bearer),
            Some(Err(reason)) => return Outcome::Retry { reason, after: None },
            None => {}
        }
        match request.body(body.bytes).send().await {
            Ok(answer) => outcome(answer).await,
            Err(error) => Outcome::Retry { reason: causes(&error.without_url()), after: None },
        }
    }
}

async fn outcome(mut answer: Response) -> Outcome {
    let (status, after) = (answer.status(), retry_after(answer.headers(), clock::now()));
    let mut read = 0;
    while let Ok(Some(chunk)) = answer.chunk().await {
        read += chunk.len();
        if read > ANSWER_BYTES_MAX {
            break;
        }
    }
    verdict(status, after)
}

fn verdict(status: StatusCode, after: Option<Duration>) -> Outcome {
    let reason = format!("the agent answered {status}");
    match status.as_u16() {
        200..=299 => Outcome::Taken,
        413 => Outcome::TooLarge,
        300..=399 | 401 | 403 | 404 | 407 | 408 | 429 => Outcome::Retry { reason, after },
        400..=499 => Outcome::Refused { reason },
        _ => Outcome::Retry { reason, after },
    }
}

fn client(route: &RouteConfig, retry: &RetryConfig) -> Result<Client, ForwardError> {
    let mut builder = ClientBuilder::new()
        .user_agent(concat!("breachline/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(retry.timeout)
        .pool_max_idle_per_host(IDLE_MAX)
        .no_proxy()
        .no_gzip();
    if let Some(path) = &route.ca_file {
        let authorities = Certificate::from_pem_bundle(&read("ca_file", path)?);
        let authorities = authorities.map_err(|error| unusable("ca_file", path, &causes(&error)))?;
        if authorities.is_empty() {
            return Err(unusable("ca_file", path, "no PEM certificate in it"));
        }
        builder = builder.tls_certs_only(authorities);
    } else if route.url.starts_with("http://") {
        // A machine without any authorities must still be able to reach its own agent.
        builder = builder.tls_certs_only([]);
    }
    if let Some(path) = &route.identity_file {
        let identity = Identity::from_pem(&read("identity_file", path)?);
        builder = builder.identity(identity.map_err(|error| unusable("identity_file", path, &causes(&error)))?);
    }
    builder.build().map_err(|error| ForwardError::Config(format!("routes {}: {}", route.url, causes(&error))))
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, ForwardError> {
    fs::read(path).map_err(|error| unusable(key, path, &error.to_string()))
}

fn unusable(key: &str, path: &Path, reason: &str) -> ForwardError {
    ForwardError::Config(format!("routes.{key} {}: {reason}", path.display()))
}

/// The header that shows the token; never printed.
fn bearer(path: &Path) -> Result<HeaderValue, String> {
    let token = fs::read_to_string(path).map_err(|error| format!("routes.token_file {}: {error}", path.display()))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .map_err(|_| format!("routes.token_file {}: characters that a header cannot carry", path.display()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_decides() {
        let check = |status: u16, expected: &str| {
            let found = match verdict(StatusCode::from_u16(status).expect("status"), Some(Duration::from_secs(7))) {
                Outcome::Taken => "taken",
                Outcome::TooLarge => "too large",
                Outcome::Refused { .. } => "refused",
                Outcome::Retry { after: Some(_), .. } => "again, when it said",
                Outcome::Retry { after: None, .. } => "again",
            };
            assert_eq!(found, expected, "{status}");
        };
        check(200, "taken");
        check(204, "taken");
        check(302, "again, when it said");
        check(400, "refused");
        check(401, "again, when it said");
        check(413, "too large");
        check(415, "refused");
        check(429, "again, when it said");
        check(503, "again, when it said");
    }

    #[test]
    fn a_route_whose_files_cannot_be_read_is_refused() {
        let route = |text: &str| toml::from_str::<RouteConfig>(text).expect("reads");
        for key in ["token_file", "ca_file", "identity_file"] {
            let route = route(&format!("url = \"https://h/\"\n{key} = \"/nonexistent\""));
            let error = Poster::new(&[route], &RetryConfig::default()).expect_err("refused").to_string();
            assert!(error.contains(key) && error.contains("/nonexistent"), "{error}");
        }
    }
}
