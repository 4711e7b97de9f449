//! Where things happen: one instance on one host, with both hands: its processes and its balancer's lines.

use std::net::SocketAddr;
use std::sync::Arc;

use breachline::event::{MetadataPath, ProcessKey};
use breachline::timestamp::Timestamp;

use super::access_log::{Line, Said};
use super::later;
use super::machine::{Machine, Manner};
use super::random::Random;
use super::service::{Credentials, Instance};

/// One instance at one moment; times are in seconds after it.
pub struct Scene<'s> {
    /// The host.
    pub machine: &'s mut Machine,
    /// Lines written, in no order.
    pub lines: &'s mut Vec<Line>,
    /// Chance.
    pub random: &'s mut Random,
    /// Where.
    pub instance: &'s Instance,
    /// When.
    pub at: Timestamp,
}

impl Scene<'_> {
    /// A request of `said` from `received` for `seconds`.
    pub fn request(&mut self, received: f64, seconds: f64, said: Arc<Said>, client: SocketAddr, status: u16) {
        let service = &self.instance.service;
        self.lines.push(Line {
            received: later(self.at, received),
            completed: later(self.at, received + seconds),
            said,
            client,
            target: self.instance.socket,
            status,
            service: Arc::clone(&service.name),
            balancer: service.profile.balancer,
        });
    }

    /// The same for a user's browser.
    pub fn visit(&mut self, received: f64, seconds: f64, method: &str, url: String) {
        let said = Said { method: method.to_owned(), url, agent: "Mozilla/5.0 Firefox/140.0".to_owned() };
        let client = self.user();
        self.request(received, seconds, Arc::new(said), client, 200);
    }

    /// Some user's address.
    pub fn user(&mut self) -> SocketAddr {
        let address = [81, self.random.byte(), self.random.byte(), self.random.byte()];
        SocketAddr::from((address, 1024 + u16::from(self.random.byte()) * 200))
    }

    /// A process that serves a request.
    pub fn worker(&mut self) -> ProcessKey {
        self.instance.worker(self.random)
    }

    /// `parent` runs `sh -c COMMAND`; it lives until it is told to end.
    pub fn shell(&mut self, after: f64, parent: ProcessKey, command: &str) -> ProcessKey {
        self.run(after, parent, "/usr/bin/dash", &["sh", "-c", command])
    }

    /// `parent` runs a program.
    pub fn run(&mut self, after: f64, parent: ProcessKey, exe: &str, argv: &[&str]) -> ProcessKey {
        self.machine.spawn(later(self.at, after), parent, exe, argv, Manner::default())
    }

    /// The same in another manner.
    pub fn run_as(&mut self, after: f64, parent: ProcessKey, exe: &str, argv: &[&str], manner: Manner) -> ProcessKey {
        self.machine.spawn(later(self.at, after), parent, exe, argv, manner)
    }

    /// `parent` runs a program, which does no more than end.
    pub fn briefly(&mut self, after: f64, parent: ProcessKey, exe: &str, argv: &[&str]) {
        let process = self.run(after, parent, exe, argv);
        self.exit(after + 0.05, process);
    }

    /// `process` ends.
    pub fn exit(&mut self, after: f64, process: ProcessKey) {
        self.machine.exit(later(self.at, after), process);
    }

    /// `process` reaches for a peer.
    pub fn contact(&mut self, after: f64, process: ProcessKey, peer: SocketAddr) {
        self.machine.contact(later(self.at, after), process, peer);
    }

    /// The role that the instance's credential stands for.
    #[must_use]
    pub fn role(&self) -> String {
        format!("{}-role", self.instance.service.name)
    }

    /// `process` asks the metadata service.
    pub fn ask(&mut self, after: f64, process: ProcessKey, path: MetadataPath, token: bool) {
        let role = self.role();
        let role = (path == MetadataPath::Credential).then_some(role.as_str());
        self.machine.metadata(later(self.at, after), process, path, role, token);
    }

    /// `process` gets the instance's credential, as this service's library does.
    pub fn refresh(&mut self, after: f64, process: ProcessKey) {
        let token = match self.instance.service.profile.credentials {
            Credentials::None => return,
            Credentials::Token => true,
            Credentials::Plain => false,
        };
        if token {
            self.ask(after, process, MetadataPath::Session, false);
        }
        self.ask(after + 0.004, process, MetadataPath::Recon, token);
        self.ask(after + 0.008, process, MetadataPath::Credential, token);
    }
}

/// A request that says this.
#[must_use]
pub fn said(method: &str, url: String, agent: &str) -> Arc<Said> {
    Arc::new(Said { method: method.to_owned(), url, agent: agent.to_owned() })
}

/// Percent-encodes everything but letters, digits and `-._~`, as a client does with a query's value.
#[must_use]
pub fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
