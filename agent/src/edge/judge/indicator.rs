//! What to look for on the host: hosts, addresses, URLs, commands and files that a hostile request names.
//!
//! If the request did what it says, one of them reappears there: as a peer, a looked-up name, an argument. Base64
//! is undone, because kits carry their command in it; addresses are resolved from whatever spelling they came in.

use super::base64;
use super::finding::{Findings, Ground};
use super::host::{self, Reach};
use super::target::Target;
use super::url::{Url, urls};
use crate::request::{AttackClass, Indicator};

/// Most indicators of one request, and most bytes of one.
const MAX_INDICATORS: usize = 12;
const MAX_BYTES: usize = 512;

/// URLs of one text that are looked at: a text that repeats one a thousand times would be copied as often.
const MAX_URLS: usize = 64;

/// Collects the indicators of a judged request from the parts in which something was found, in order of appearance,
/// without repeats.
pub(super) fn collect(target: &Target, found: &Findings) -> Vec<Indicator> {
    let mut list = Indicators(Vec::new());
    let mut parts: Vec<_> = found.iter().map(|finding| target.part_at(finding.span.start)).collect();
    parts.sort_unstable();
    parts.dedup();
    for part in parts.into_iter().map(|index| target.part(index)) {
        list.read_text(part.text, part.lower);
        for_base64(part.text, |blob| {
            list.add(Indicator::Command(printable(blob)));
            list.read_text(blob, &blob.to_ascii_lowercase());
        });
    }
    for finding in found.iter() {
        let text = target.slice(finding.span.clone());
        match finding.ground {
            Ground::Class(AttackClass::Cmdi) if finding.weight >= 40 => {
                list.add(Indicator::Command(command_text(text)))
            }
            Ground::Class(AttackClass::Traversal) if text.contains(&b'/') => list.path(text),
            _ => {}
        }
    }
    list.0
}

struct Indicators(Vec<Indicator>);

impl Indicators {
    fn add(&mut self, indicator: Indicator) {
        let empty = matches!(&indicator, Indicator::Host(text) | Indicator::Url(text) | Indicator::Command(text) | Indicator::Path(text) if text.is_empty());
        if !empty && self.0.len() < MAX_INDICATORS && !self.0.contains(&indicator) {
            self.0.push(indicator);
        }
    }

    /// URLs and their hosts; hosts behind commands that fetch.
    fn read_text(&mut self, text: &[u8], lower: &[u8]) {
        for url in urls(lower).take(MAX_URLS) {
            if self.0.len() >= MAX_INDICATORS {
                return;
            }
            let span = &text[url.span.clone()];
            if span.iter().any(u8::is_ascii_alphanumeric) {
                self.add(Indicator::Url(printable(span)));
            }
            self.host(&lower[host_of(&url, lower)]);
        }
        for word in dotted_words(lower).take(32) {
            let understood = host::classify(word);
            if understood.reach == Reach::CallbackService || (understood.address.is_some() && !understood.disguised) {
                self.host(word);
            }
        }
    }

    fn host(&mut self, name: &[u8]) {
        let understood = host::classify(name);
        match understood.address {
            Some(address) => self.add(Indicator::Address(address)),
            None if name.contains(&b'.') => self.add(Indicator::Host(printable(name))),
            None => {}
        }
    }

    /// The file that a climb leads to: what stands after the last step.
    fn path(&mut self, text: &[u8]) {
        let text = printable(text).replace('\\', "/");
        let file = text.rsplit("../").next().unwrap_or(&text).trim_start_matches(['/', '.']);
        if file.contains('/') {
            self.add(Indicator::Path(format!("/{file}")));
        }
    }
}

/// A host without the braces that a look-up may leave at its end.
fn host_of(url: &Url, lower: &[u8]) -> std::ops::Range<usize> {
    let host = &lower[url.host.clone()];
    let end = host.iter().position(|byte| matches!(byte, b'{' | b'$' | b',')).unwrap_or(host.len());
    url.host.start..url.host.start + end
}

/// A command without what separated it from the text before.
fn command_text(text: &[u8]) -> String {
    printable(text).trim_matches([' ', ';', '|', '&', '`', '(', ')', '"', '\'', '\n']).to_owned()
}

/// Calls `see` with what base64 words decode to; with the last step of a path alone too, where kits put theirs.
fn for_base64(text: &[u8], mut see: impl FnMut(&[u8])) {
    let mut blob = Vec::new();
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=');
    for word in runs(text, base64::MIN_WORD, digit).take(16) {
        let last = memchr::memrchr(b'/', word).map_or(word, |slash| &word[slash + 1..]);
        for candidate in [Some(last), (last.len() < word.len()).then_some(word)].into_iter().flatten() {
            blob.clear();
            if base64::decode(candidate, &mut blob) {
                see(&blob);
            }
        }
    }
}

/// Words of host names: letters, digits and dashes around at least one dot.
fn dotted_words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let outside = |byte: &u8| !byte.is_ascii_alphanumeric() && !matches!(byte, b'.' | b'-');
    let mut from = 0;
    std::iter::from_fn(move || {
        let dot = from + memchr::memchr(b'.', text.get(from..)?)?;
        let start = text[from..dot].iter().rposition(outside).map_or(from, |before| from + before + 1);
        let end = text[dot..].iter().position(outside).map_or(text.len(), |after| dot + after);
        from = end + 1;
        Some(&text[start..end])
    })
}

/// Runs of bytes that are `inside`, of `length` at least. Of such a run one of any `length` neighbours is a part, so most
/// bytes are not looked at.
fn runs(text: &[u8], length: usize, inside: impl Fn(&u8) -> bool) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let middle = from + length - 1;
            if !inside(text.get(middle)?) {
                from = middle + 1;
                continue;
            }
            let start = text[from..middle].iter().rposition(|byte| !inside(byte)).map_or(from, |at| from + at + 1);
            let end = text[middle..].iter().position(|byte| !inside(byte)).map_or(text.len(), |at| middle + at);
            from = end + 1;
            if end - start >= length {
                return Some(&text[start..end]);
            }
        }
    })
}

/// Bounded text without control characters.
pub(super) fn printable(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
    if bytes.is_ascii() {
        let plain = bytes.iter().map(|byte| if byte.is_ascii_control() { b' ' } else { *byte }).collect();
        return String::from_utf8(plain).unwrap_or_default().trim_ascii().to_owned();
    }
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect::<String>()
        .trim()
        .to_owned()
}
