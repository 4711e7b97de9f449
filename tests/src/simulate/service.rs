//! Services as people run them: what they are, how an instance of one starts, serves and ends.

use std::net::SocketAddr;
use std::sync::Arc;

use breachline::event::ProcessKey;
use breachline::timestamp::Timestamp;

use super::access_log::Balancer;
use super::later;
use super::machine::{HOST_NS, INIT, Machine, Manner, SHIM};
use super::ordinary::Habit;
use super::random::Random;

/// How a service asks for credentials.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// With a session token (`IMDSv2`).
    Token,
    /// Without.
    Plain,
    /// Never.
    None,
}

/// A kind of service.
#[derive(Debug)]
pub struct Profile {
    /// What it is called; a number is added.
    pub name: &'static str,
    /// Its program.
    pub exe: &'static str,
    /// Its command line.
    pub argv: &'static [&'static str],
    /// Worker processes beside the one that listens.
    pub workers: usize,
    /// A pod, rather than a systemd unit.
    pub pod: bool,
    /// Who writes its access log.
    pub balancer: Balancer,
    /// How it asks for credentials.
    pub credentials: Credentials,
    /// What it does of itself, with how often a day.
    pub habits: &'static [(Habit, f64)],
}

/// The kinds; workload `n` is of kind `n` modulo their number.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "shop",
        exe: "/usr/sbin/php-fpm8.2",
        argv: &["/usr/sbin/php-fpm8.2", "--nodaemonize", "--fpm-config", "/etc/php/8.2/fpm/php-fpm.conf"],
        workers: 4,
        pod: false,
        balancer: Balancer::Alb,
        credentials: Credentials::Token,
        habits: &[(Habit::Thumbnail, 60.0), (Habit::Mail, 80.0), (Habit::Partner, 200.0), (Habit::OddShell, 0.1)],
    },
    Profile {
        name: "api",
        exe: "/opt/java/bin/java",
        argv: &["java", "-jar", "/app/api.jar"],
        workers: 0,
        pod: true,
        balancer: Balancer::Alb,
        credentials: Credentials::Token,
        habits: &[(Habit::Partner, 400.0), (Habit::Health, 144.0), (Habit::Webhook, 2.0), (Habit::OddShell, 0.05)],
    },
    Profile {
        name: "preview",
        exe: "/usr/bin/node",
        argv: &["node", "/srv/preview/server.js"],
        workers: 2,
        pod: true,
        balancer: Balancer::Envoy,
        credentials: Credentials::Plain,
        habits: &[(Habit::Preview, 40.0), (Habit::Render, 25.0), (Habit::Partner, 50.0)],
    },
    Profile {
        name: "forge",
        exe: "/usr/bin/ruby3.1",
        argv: &["/usr/bin/ruby3.1", "/srv/forge/bin/puma", "-C", "/srv/forge/config/puma.rb"],
        workers: 3,
        pod: false,
        balancer: Balancer::Alb,
        credentials: Credentials::None,
        habits: &[(Habit::Git, 120.0), (Habit::Mirror, 12.0), (Habit::Mail, 40.0), (Habit::OddShell, 0.1)],
    },
    Profile {
        name: "media",
        exe: "/usr/bin/python3.11",
        argv: &["/srv/media/bin/python3", "/srv/media/bin/gunicorn", "-b", "0.0.0.0:8080", "media:app"],
        workers: 4,
        pod: true,
        balancer: Balancer::IngressNginx,
        credentials: Credentials::Token,
        habits: &[(Habit::Thumbnail, 150.0), (Habit::Health, 144.0), (Habit::Partner, 100.0), (Habit::OddShell, 0.1)],
    },
    Profile {
        name: "hooks",
        exe: "/opt/hooks/bin/hooks",
        argv: &["/opt/hooks/bin/hooks", "--listen", "0.0.0.0:8080"],
        workers: 0,
        pod: true,
        balancer: Balancer::Envoy,
        credentials: Credentials::Plain,
        habits: &[(Habit::Webhook, 60.0), (Habit::Partner, 20.0)],
    },
    Profile {
        name: "intranet",
        exe: "/usr/sbin/apache2",
        argv: &["/usr/sbin/apache2", "-k", "start"],
        workers: 5,
        pod: false,
        balancer: Balancer::Alb,
        credentials: Credentials::None,
        habits: &[(Habit::Mail, 20.0), (Habit::Health, 48.0), (Habit::OddShell, 0.2)],
    },
];

/// A workload: one service, whatever the number of its instances.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its number in the fleet.
    pub number: u64,
    /// What kind it is.
    pub profile: &'static Profile,
    /// `shop-7`.
    pub name: Arc<str>,
}

impl Service {
    /// The service of this number.
    #[must_use]
    pub fn of(number: u64) -> Self {
        let kind = usize::try_from(number).unwrap_or(0) % PROFILES.len();
        let profile = &PROFILES[kind];
        Self { number, profile, name: Arc::from(format!("{}-{number}", profile.name)) }
    }

    /// The workload's key, as the agent gives it.
    #[must_use]
    pub fn key(&self) -> String {
        if self.profile.pod { format!("pod:prod/{}", self.name) } else { format!("unit:{}.service", self.name) }
    }

    /// Starts an instance; `number` tells instances of one host apart, `release` counts its deployments.
    pub fn start(
        &self,
        machine: &mut Machine,
        at: Timestamp,
        host: u8,
        number: u8,
        release: u32,
        random: &mut Random,
    ) -> Instance {
        let (parent, manner, socket) = if self.profile.pod {
            self.pod(machine, at, host, number, release, random)
        } else {
            self.unit(machine, at, host)
        };
        let main = machine.fork(at, parent);
        if self.profile.pod {
            // The image's entry point is a script; it ends by running the service in its own place.
            machine.exec(later(at, 0.001), main, "/usr/bin/dash", &["sh", "/entrypoint.sh"], manner);
            let tool = machine.spawn(later(at, 0.01), main, "/usr/bin/env", &["env"], Manner::default());
            machine.exit(later(at, 0.02), tool);
        }
        machine.exec(later(at, 0.03), main, self.profile.exe, self.profile.argv, manner);
        let local = SocketAddr::from(([0, 0, 0, 0], socket.port()));
        machine.listen(later(at, 0.5), main, local);
        let workers = (0..self.profile.workers).map(|_| machine.fork(later(at, 0.6), main)).collect();
        Instance { service: self.clone(), main, workers, socket, host, number, release }
    }

    fn unit(&self, machine: &mut Machine, at: Timestamp, host: u8) -> (ProcessKey, Manner, SocketAddr) {
        let cgroup = machine.cgroup(at, &format!("/system.slice/{}.service", self.name), None);
        let port = 8000 + u16::try_from(self.number).unwrap_or(0);
        let manner = Manner { placed: Some((cgroup, HOST_NS)), ..Manner::default() };
        (INIT, manner, SocketAddr::from((host_address(host), port)))
    }

    fn pod(
        &self,
        machine: &mut Machine,
        at: Timestamp,
        host: u8,
        number: u8,
        release: u32,
        random: &mut Random,
    ) -> (ProcessKey, Manner, SocketAddr) {
        let uid = format!("{:08x}-0000-4000-8000-{:012x}", random.next() >> 32, random.next() >> 16);
        let id: String = (0..4).map(|_| format!("{:016x}", random.next())).collect();
        let path = format!("/kubepods/burstable/pod{uid}/{id}");
        let replica_set = generated(self.number << 32 | u64::from(release), 9);
        let pod = format!("prod/{}-{replica_set}-{}", self.name, generated(random.next(), 5));
        let cgroup = machine.cgroup(at, &path, Some((&pod, "registry.example/app:1")));
        let address = [10, 64 + host, number, 2 + (release % 250) as u8];
        let net_ns = machine.namespace(at, address);
        let manner = Manner { placed: Some((cgroup, net_ns)), ..Manner::default() };
        (SHIM, manner, SocketAddr::from((address, 8080)))
    }
}

/// A suffix as Kubernetes makes them up: letters and digits that make no words.
fn generated(seed: u64, length: usize) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = Random::of(seed, &[]);
    (0..length).map(|_| char::from(*random.pick(LETTERS))).collect()
}

/// Address of a simulated host.
#[must_use]
pub const fn host_address(host: u8) -> [u8; 4] {
    [10, 0, host, 5]
}

/// A running instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// What it is an instance of.
    pub service: Service,
    /// The process that listens.
    pub main: ProcessKey,
    /// Its workers.
    pub workers: Vec<ProcessKey>,
    /// Where the balancer sends requests.
    pub socket: SocketAddr,
    /// On which host.
    pub host: u8,
    /// Which of that host's instances.
    pub number: u8,
    /// How often it was deployed before.
    pub release: u32,
}

impl Instance {
    /// A process that serves a request.
    #[must_use]
    pub fn worker(&self, random: &mut Random) -> ProcessKey {
        if self.workers.is_empty() { self.main } else { *random.pick(&self.workers) }
    }

    /// Ends it.
    pub fn stop(&self, machine: &mut Machine, at: Timestamp) {
        for worker in &self.workers {
            machine.exit(at, *worker);
        }
        machine.exit(later(at, 0.01), self.main);
    }
}
