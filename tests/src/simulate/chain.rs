//! Breaches, scripted: what an intruder's request does to an instance, step by step.
//!
//! Each script writes the request's line and makes the processes do what such a breach makes them do. Commands, addresses and
//! delays vary by chance; what is common to all runs of a script is only its shape.

mod commands;
mod in_process;
mod later_stages;

use std::net::SocketAddr;

use super::random::Random;
use super::scene::{Scene, said};

/// Whoever breaks in.
#[derive(Clone, Debug)]
pub struct Attack {
    /// Stands in every request of this breach and nowhere else.
    pub token: String,
    /// Address that things are fetched from and sent to.
    pub server: SocketAddr,
    /// Where the request comes from.
    pub client: SocketAddr,
}

/// A kind of breach.
#[derive(Copy, Clone)]
pub struct Script {
    /// Stable name.
    pub name: &'static str,
    /// How many of the three stages it has.
    pub stages: u8,
    /// Which line the responsible request leaves.
    pub request: Trace,
    /// Plays it; times are in seconds after the request was received. Returns when the last thing happened.
    pub play: fn(&mut Scene<'_>, &Attack) -> f64,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What the load balancer's log shows of the responsible request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// The exploit stands in the line.
    Visible,
    /// A line that looks like any other: the exploit is in the body.
    Hidden,
    /// No line at all.
    Absent,
}

/// All kinds.
#[must_use]
pub fn scripts() -> Vec<Script> {
    [commands::SCRIPTS, in_process::SCRIPTS, later_stages::SCRIPTS].concat()
}

impl Attack {
    /// The breach of this number.
    pub fn of(number: usize, random: &mut Random) -> Self {
        let networks = [[203, 0, 113], [192, 0, 2], [45, 133, 1], [185, 220, 101]];
        let [a, b, c] = *random.pick(&networks);
        let port = *random.pick(&[80, 443, 8080, 1337]);
        Self {
            token: format!("q{number}z{:05x}", random.below(0x10_0000)),
            server: SocketAddr::from(([a, b, c, 1 + random.byte() % 250], port)),
            client: SocketAddr::from(([102, random.byte(), random.byte(), random.byte()], 40_000)),
        }
    }

    /// Host and port as a URL has them.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.server.port() == 80 { self.server.ip().to_string() } else { self.server.to_string() }
    }
}

/// The intruder's request: `path_and_query` with the token added, in flight from 0 for `seconds`.
fn request(scene: &mut Scene<'_>, attack: &Attack, seconds: f64, path_and_query: &str, status: u16) {
    sent(scene, attack, 0.0, seconds, ("GET", path_and_query, "python-requests/2.32"), status);
}

/// The same at another time, with this method, path and user agent.
fn sent(scene: &mut Scene<'_>, attack: &Attack, at: f64, seconds: f64, what: (&str, &str, &str), status: u16) {
    let (method, path, agent) = what;
    let joint = if path.contains('?') { '&' } else { '?' };
    let url = format!("{path}{joint}_={}", attack.token);
    scene.request(at, seconds, said(method, url, agent), attack.client, status);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_enough_kinds_and_each_has_its_own_name() {
        let scripts = scripts();
        let names: BTreeSet<&str> = scripts.iter().map(|script| script.name).collect();
        assert!(names.len() == scripts.len() && names.len() >= 25, "{names:?}");
        assert!(scripts.iter().any(|script| script.stages == 2) && scripts.iter().any(|script| script.stages == 3));
    }
}
