//! TLS of the receivers. In: certificate, key and, for mutual TLS, the authorities whose clients may send. Out: an acceptor,
//! always with the files as they are now. TLS 1.2 and 1.3, as rustls knows them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;

use super::IntakeError;
use super::watched::Watched;

/// Certificate and authorities, shared by all receivers that speak TLS; the files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// PEM file with the certificate and its chain.
    pub cert_file: PathBuf,
    /// PEM file with its private key.
    pub key_file: PathBuf,
    /// PEM file with the authorities that sign senders' certificates; with it, only such senders are let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
}

/// An acceptor that follows its files.
#[derive(Clone, Debug)]
pub(super) struct Tls(Arc<Watched<ServerConfig>>);

impl Tls {
    /// Loads the files.
    pub(super) fn open(config: &Config) -> Result<Self, IntakeError> {
        let mut paths = vec![config.cert_file.clone(), config.key_file.clone()];
        paths.extend(config.client_ca_file.clone());
        let config = config.clone();
        Watched::open(paths, move || load(&config)).map(|watched| Self(Arc::new(watched)))
    }

    /// For the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.0.current().into()
    }
}

fn load(config: &Config) -> Result<ServerConfig, IntakeError> {
    let wrong = |key, path: &Path, reason: String| IntakeError::Secret { key, path: path.to_owned(), reason };
    let chain = certificates("intake.tls.cert_file", &config.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&config.key_file)
        .map_err(|error| wrong("intake.tls.key_file", &config.key_file, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("intake.tls.cert_file", &config.cert_file, error.to_string()))?;
    let clients = match &config.client_ca_file {
        None => versions.with_no_client_auth(),
        Some(path) => {
            let refused = |reason: String| wrong("intake.tls.client_ca_file", path, reason);
            let mut roots = RootCertStore::empty();
            for authority in certificates("intake.tls.client_ca_file", path)? {
                roots.add(authority).map_err(|error| refused(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            versions.with_client_cert_verifier(verifier.map_err(|error| refused(error.to_string()))?)
        }
    };
    clients
        .with_single_cert(chain, key)
        .map_err(|error| wrong("intake.tls.key_file", &config.key_file, error.to_string()))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, IntakeError> {
    let wrong = |reason: String| IntakeError::Secret { key, path: path.to_owned(), reason };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() { Err(wrong("holds no certificate".into())) } else { Ok(found) }
}
