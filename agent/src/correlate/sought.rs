//! What a request makes one look for on the host: its indicators, cut and lower-cased once, compared many times.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::metadata;
use crate::request::{Indicator, Verdict};

use super::fingerprint;

/// Indicators of one request that are compared; a hostile line may name endless ones.
const INDICATORS_MAX: usize = 16;
/// Words of one command that are compared; real payloads have a handful.
const WORDS_MAX: usize = 64;
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

/// One indicator, ready to be looked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sought {
    /// As the judge gave it.
    pub(super) indicator: Indicator,
    pub(super) form: Form,
    /// What a surface has among its keys wherever this reappears; `None` when only a comparison can tell.
    pub(super) key: Option<u64>,
}

/// What to compare.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    Address {
        address: IpAddr,
        distinctive: bool,
    },
    Host {
        host: String,
        distinctive: bool,
    },
    Url {
        url: String,
        authority: Option<Box<Form>>,
    },
    /// Words that tell, in order.
    Command {
        telling: Vec<String>,
        distinctive: bool,
    },
    /// Nothing but common words: only all of them, side by side, mean anything.
    CommonCommand {
        words: Vec<String>,
    },
    Path {
        path: String,
        distinctive: bool,
    },
}

/// What the verdict of a request makes one look for.
pub(super) fn sought(verdict: Option<&Verdict>) -> Vec<Sought> {
    let indicators = verdict.map_or(&[][..], |verdict| &verdict.indicators);
    indicators.iter().take(INDICATORS_MAX).map(Sought::of).collect()
}

impl Sought {
    pub(super) fn of(indicator: &Indicator) -> Self {
        let form = match indicator {
            Indicator::Address(address) => Form::address(*address),
            Indicator::Host(host) => Form::host(host),
            Indicator::Url(url) => Form::url(&url.to_lowercase()),
            Indicator::Command(command) => Form::command(command),
            Indicator::Path(path) => Form::path(&path.to_lowercase()),
        };
        Self { indicator: indicator.clone(), key: form.key(), form }
    }

    /// Whether it is a URL at the place with this address, or with one of these names.
    pub(super) fn names_place<'n>(&self, address: IpAddr, mut names: impl Iterator<Item = &'n str>) -> bool {
        let Form::Url { authority: Some(authority), .. } = &self.form else { return false };
        match &**authority {
            Form::Address { address: named, .. } => *named == metadata::canonical(address),
            Form::Host { host, .. } => names.any(|name| host_form(name) == *host),
            _ => false,
        }
    }
}

/// Key of an address.
pub(super) fn address_key(address: IpAddr) -> u64 {
    fingerprint::of(&(0_u8, address))
}

/// Key of a host name as it is compared.
pub(super) fn host_key(host: &str) -> u64 {
    fingerprint::of(&(1_u8, host))
}

/// Key of a word of a command line, lower case.
pub(super) fn word_key(word: &str) -> u64 {
    fingerprint::of(&(2_u8, word))
}

/// Key of the end of a word from one of its slashes on.
pub(super) fn path_key(path: &str) -> u64 {
    fingerprint::of(&(3_u8, path))
}

impl Form {
    /// A URL that reappears in a word brings its place along, a command its first telling word.
    fn key(&self) -> Option<u64> {
        match self {
            Self::Address { address, .. } => Some(address_key(*address)),
            Self::Host { host, .. } => Some(host_key(host)),
            Self::Url { authority, .. } => authority.as_ref()?.key(),
            Self::Command { telling, .. } => telling.first().map(|word| word_key(word)),
            Self::CommonCommand { words } => words.first().map(|word| word_key(word)),
            Self::Path { path, .. } => path.starts_with('/').then(|| path_key(path)),
        }
    }

    fn address(address: IpAddr) -> Self {
        let address = metadata::canonical(address);
        let common = address.is_loopback()
            || address.is_unspecified()
            || metadata::ENDPOINTS.iter().any(|endpoint| endpoint.address == address);
        Self::Address { address, distinctive: !common }
    }

    fn host(host: &str) -> Self {
        let host = host_form(host);
        Self::Host { distinctive: host.contains('.'), host }
    }

    fn url(url: &str) -> Self {
        let authority = url.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
        let authority = authority.and_then(|authority| authority.rsplit('@').next());
        let form = |authority| address_of(authority).map(Self::address).or_else(|| host_of(authority).map(Self::host));
        Self::Url { url: url.to_owned(), authority: authority.and_then(form).map(Box::new) }
    }

    fn command(command: &str) -> Self {
        let words: Vec<String> = words(&lowered(command)).take(WORDS_MAX).map(str::to_owned).collect();
        let telling: Vec<String> = words.iter().filter(|word| !is_common(word)).cloned().collect();
        if telling.is_empty() {
            return Self::CommonCommand { words };
        }
        let distinctive = telling.len() >= 2 || telling.iter().any(|word| word.len() >= DISTINCTIVE_WORD);
        Self::Command { telling, distinctive }
    }

    fn path(path: &str) -> Self {
        let common = path.len() < DISTINCTIVE_PATH || COMMON_DIRECTORIES.iter().any(|start| path.starts_with(start));
        Self::Path { path: path.to_owned(), distinctive: !common }
    }
}

/// Lower case, as everything is compared.
pub(super) fn lowered(text: &str) -> Cow<'_, str> {
    let lower = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase();
    if text.bytes().all(lower) { Cow::Borrowed(text) } else { Cow::Owned(text.to_lowercase()) }
}

/// Words as a shell would roughly cut them; URL and path punctuation stays inside a word.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let cut = |c: char| match c {
        ' ' | '"' | '\'' | '`' | ';' | '|' | '&' | '<' | '>' | '(' | ')' | '{' | '}' | '[' | ']' | '$' | ',' | '\\' => {
            true
        }
        _ => c.is_whitespace() || c.is_control(),
    };
    text.split(cut).filter(|word| !word.is_empty())
}

fn is_common(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word);
    word.len() < 3 || word.starts_with('-') || COMMON_WORDS.binary_search(&name).is_ok()
}

/// An address, with or without brackets and port.
pub(super) fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[');
    let bare = bare.split(']').next().unwrap_or(bare);
    bare.parse().ok().or_else(|| bare.split(':').next()?.parse().ok()).map(metadata::canonical)
}

/// A host name with at least one dot and an alphabetic last label; a port and a last dot are dropped.
pub(super) fn host_of(text: &str) -> Option<&str> {
    let name = text.split(':').next()?.trim_end_matches('.');
    let (_, last) = name.rsplit_once('.')?;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    (plain && last.len() >= 2 && last.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some(name)
}

/// A host name as it is compared.
pub(super) fn host_form(name: &str) -> String {
    name.trim_end_matches('.').to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_words_are_sorted_for_the_search() {
        assert!(COMMON_WORDS.is_sorted());
    }
}
