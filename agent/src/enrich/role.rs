//! A program's part in who serves whom: the few kinds of program whose listening, or not listening, means something else.

use super::names::{basename, class_of, is_multi_call, is_writable_by_all, unversioned};
use crate::evidence::ProgramClass;

/// Part of a program.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Starts other people's programs: init, container runtimes, logins, cron. What it listens on serves its operator, and
    /// what it starts is not its service's doing. It counts only where it does not itself descend from a service: a
    /// `cron` that an intruder starts is just another program.
    Launcher,
    /// Serves a web application, often on a Unix socket behind a front server: a service although no port is its own.
    ApplicationServer,
    /// Takes requests to pass them on, to Unix sockets too.
    FrontServer,
    /// Shells, and the tools that relay for one: what listens below one does not become a service of its own.
    Shell,
    /// Any other.
    Ordinary,
}

/// File names of launchers.
const LAUNCHERS: &[&str] = &[
    // init and service managers
    "systemd",
    "systemd-executor",
    "systemd-nspawn",
    "init",
    "openrc-init",
    "runit-init",
    "upstart",
    "launchd",
    // container runtimes and their helpers
    "dockerd",
    "containerd",
    "docker-init",
    "runc",
    "crun",
    "youki",
    "kata-runtime",
    "conmon",
    "conmonrs",
    "crio",
    "podman",
    "kubelet",
    "k3s",
    "k3s-server",
    "lxc-start",
    "lxd",
    "incusd",
    "buildkitd",
    "ecs-agent",
    "nomad",
    // logins
    "sshd",
    "sshd-session",
    "sshd-auth",
    "dropbear",
    "login",
    "agetty",
    "getty",
    "gdm",
    "lightdm",
    "amazon-ssm-agent",
    "ssm-agent-worker",
    "ssm-session-worker",
    // time
    "cron",
    "crond",
    "anacron",
    "atd",
    "fcron",
];

/// What the file names of further ones begin with: these carry a version (`containerd-shim-runc-v2`).
const LAUNCHER_PREFIXES: &[&str] = &["containerd-shim", "runsc"];

/// File names of application servers, versions cut (`php-fpm8.2` is `php-fpm`).
const APPLICATION_SERVERS: &[&str] = &[
    "php-fpm",
    "php-cgi",
    "uwsgi",
    "fcgiwrap",
    "spawn-fcgi",
    "unitd",
    "lsphp",
    "passengeragent",
    "starman",
    "hypnotoad",
];

/// File names of web servers and proxies that pass requests on.
const FRONT_SERVERS: &[&str] = &[
    "nginx",
    "openresty",
    "angie",
    "tengine",
    "apache2",
    "httpd",
    "caddy",
    "lighttpd",
    "h2o",
    "haproxy",
    "traefik",
    "envoy",
    "varnishd",
];

/// The same where the file is an interpreter: names of the scripts they run, also as they rewrite their own title.
const APPLICATION_SCRIPTS: &[&str] = &[
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "daphne",
    "waitress-serve",
    "uwsgi",
    "puma",
    "unicorn",
    "unicorn_rails",
    "thin",
    "falcon",
    "passenger",
    "starman",
    "plackup",
    "hypnotoad",
];

impl Role {
    /// The part of the program in file `exe_path`, started with `argv`.
    pub(super) fn of(exe_path: &str, argv: &[String]) -> Self {
        let name = basename(exe_path);
        let launches = LAUNCHERS.contains(&name) || LAUNCHER_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        if launches && !is_writable_by_all(exe_path) {
            return Self::Launcher;
        }
        if matches!(class_of(name), Some(ProgramClass::Shell | ProgramClass::TransferTool)) || is_multi_call(name) {
            return Self::Shell;
        }
        if FRONT_SERVERS.contains(&name) {
            return Self::FrontServer;
        }
        if APPLICATION_SERVERS.contains(&unversioned(name).to_ascii_lowercase().as_str()) {
            return Self::ApplicationServer;
        }
        let interpreted = ["python", "pypy", "ruby", "perl"].contains(&unversioned(name));
        // `python /usr/bin/gunicorn app`, `python -m gunicorn app`, and the title `gunicorn: master [app]`.
        let mut words = argv.iter().take(4).filter(|word| !word.starts_with('-'));
        let script = |word: &String| {
            let first = word.split([' ', ':']).next().unwrap_or_default();
            APPLICATION_SCRIPTS.contains(&unversioned(basename(first)))
        };
        if interpreted && words.any(script) { Self::ApplicationServer } else { Self::Ordinary }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_decides_not_the_title() {
        let check = |exe_path: &str, argv: &[&str], role: Role| {
            let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(Role::of(exe_path, &argv), role, "{exe_path} {argv:?}");
        };
        check("/usr/lib/systemd/systemd", &["/sbin/init"], Role::Launcher);
        check("/usr/bin/containerd-shim-runc-v2", &[], Role::Launcher);
        check("/usr/sbin/sshd", &["sshd: /usr/sbin/sshd -D"], Role::Launcher);
        check("/tmp/sshd", &["sshd"], Role::Ordinary);
        check("/usr/bin/dash", &["sshd: session"], Role::Shell);
        check("/usr/bin/ksh93", &[], Role::Shell);
        check("/usr/sbin/php-fpm8.2", &["php-fpm: pool www"], Role::ApplicationServer);
        check("/usr/bin/python3.11", &["python3", "-m", "gunicorn", "app"], Role::ApplicationServer);
        check("/usr/bin/python3.11", &["gunicorn: master [app]"], Role::ApplicationServer);
        check("/usr/bin/python3.11", &["/srv/bin/python", "/srv/bin/gunicorn", "-w", "4"], Role::ApplicationServer);
        check("/usr/bin/ruby3.1", &["puma 5.6.5 (unix:///run/puma.sock)"], Role::ApplicationServer);
        check("/usr/bin/python3.11", &["python3", "train.py"], Role::Ordinary);
        check("/usr/sbin/nginx", &["gunicorn"], Role::FrontServer);
        check("", &[], Role::Ordinary);
    }
}
