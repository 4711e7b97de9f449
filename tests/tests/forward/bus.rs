//! A real nats-server on loopback, ended with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use breachline::intake::nats::{Config, ServerConfig};
use breachline_tests::wait_for;

use crate::LIMIT;

/// A server with JetStream, its store in a directory of its own.
pub(crate) struct Bus {
    child: Child,
    directory: tempfile::TempDir,
    arguments: Vec<String>,
    server: ServerConfig,
    port: String,
}

impl Bus {
    pub(crate) fn start(arguments: &[String]) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let (child, url) = serve(directory.path(), arguments, "-1");
        let port = url.rsplit(':').next().expect("a port").to_owned();
        let server = ServerConfig { urls: vec![url], ..ServerConfig::default() };
        Self { child, directory, arguments: arguments.to_vec(), server, port }
    }

    /// With a certificate of an authority made for this test, and a token.
    pub(crate) fn start_with_tls(directory: &Path, token: &str) -> Self {
        let at = |name: &str| directory.join(name).to_str().expect("utf-8").to_owned();
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test authority",
            "-keyout",
            &at("ca.key"),
            "-out",
            &at("ca.pem"),
        ]);
        openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-keyout",
            &at("server.key"),
            "-out",
            &at("server.csr"),
        ]);
        fs::write(at("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("writes");
        openssl(&[
            "x509",
            "-req",
            "-in",
            &at("server.csr"),
            "-CA",
            &at("ca.pem"),
            "-CAkey",
            &at("ca.key"),
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &at("names"),
            "-out",
            &at("server.pem"),
        ]);
        fs::write(at("token"), format!("{token}\n")).expect("writes");
        let arguments = ["--tls", "--tlscert", &at("server.pem"), "--tlskey", &at("server.key"), "--auth", token];
        let mut bus = Self::start(&arguments.map(str::to_owned));
        bus.server = ServerConfig {
            urls: vec![format!("tls://127.0.0.1:{}", bus.port)],
            token_file: Some(at("token").into()),
            ca_file: Some(at("ca.pem").into()),
            ..ServerConfig::default()
        };
        bus
    }

    /// Killed, and started again on the same port and store.
    pub(crate) fn restart(&mut self) {
        end(&mut self.child);
        self.child = serve(self.directory.path(), &self.arguments, &self.port).0;
    }

    /// What an agent on a host called `early` is told.
    pub(crate) fn config(&self) -> Config {
        Config { enabled: true, name: "early".into(), server: self.server.clone(), ..Config::default() }
    }

    /// Writes a forwarder's config; its path.
    pub(crate) fn forward_config(&self, directory: &Path, log: &Path, nats: &str) -> String {
        let path = directory.join("forward.toml");
        let server = &self.server;
        let file = |key: &str, path: &Option<PathBuf>| {
            path.as_ref().map_or(String::new(), |path| format!("{key} = {path:?}\n"))
        };
        let text = format!(
            "state_directory = {state:?}\n[[logs]]\npath = {log:?}\n[retry]\nwait_max = \"1s\"\n[nats]\nenabled = true\n{nats}\n\
             [nats.server]\nurls = {urls:?}\n{token}{ca}",
            state = directory.join("forward"),
            urls = server.urls,
            token = file("token_file", &server.token_file),
            ca = file("ca_file", &server.ca_file),
        );
        fs::write(&path, text).expect("writes");
        path.to_str().expect("utf-8").to_owned()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

/// Starts a server; it writes into a file where it listens.
fn serve(directory: &Path, arguments: &[String], port: &str) -> (Child, String) {
    let ports = |child: &Child| directory.join(format!("nats-server_{}.ports", child.id()));
    let child = Command::new("nats-server")
        .args(["--addr", "127.0.0.1", "--port", port, "--jetstream"])
        .args(["--store_dir".as_ref(), directory.as_os_str(), "--ports_file_dir".as_ref(), directory.as_os_str()])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server is not installed: cargo xtask setup");
    let url = wait_for(LIMIT, || {
        let text = fs::read_to_string(ports(&child)).ok()?;
        let listening: serde_json::Value = serde_json::from_str(&text).ok()?;
        let url = listening["nats"].as_array()?.first()?.as_str()?.replace("tls://", "nats://");
        // It writes the file a moment before it listens.
        std::net::TcpStream::connect(url.strip_prefix("nats://")?).ok().map(|_| url)
    });
    (child, url.expect("nats-server listens"))
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is not installed: cargo xtask setup");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
