//! Who may send. In: files with keys, and what a sender shows. Out: yes or no.
//!
//! A file holds one key per line, so that a new one can be handed out before the old one is withdrawn. Keys are compared by
//! their hashes, all of them and to the end, so that time tells nothing; they are never printed.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::IntakeError;
use super::watched::Watched;

/// Keys in a file at most; each costs a comparison per request.
const KEYS_MAX: usize = 64;

/// The keys of a file.
#[derive(Debug)]
pub(super) struct Keys(Watched<Vec<Key>>);

struct Key {
    text: String,
    hash: [u8; 32],
}

impl Keys {
    /// Reads the file that `key` of the config names.
    pub(super) fn open(key: &'static str, path: &Path) -> Result<Self, IntakeError> {
        let file = path.to_owned();
        Watched::open(vec![path.to_owned()], move || read(key, &file)).map(Self)
    }

    /// Whether `shown` is one of them.
    pub(super) fn hold(&self, shown: &[u8]) -> bool {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        let mut found = false;
        for key in self.0.current().iter() {
            let difference = key.hash.iter().zip(shown).fold(0, |all, (left, right)| all | (left ^ right));
            found |= difference == 0;
        }
        found
    }

    /// Whether an `Authorization` value shows one of them: as bearer token, or as password of any user.
    pub(super) fn hold_authorization(&self, value: &[u8]) -> bool {
        let Some(space) = memchr::memchr(b' ', value) else { return false };
        let (scheme, shown) = (&value[..space], value[space..].trim_ascii());
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return self.hold(shown);
        }
        let pair = scheme.eq_ignore_ascii_case(b"basic").then(|| STANDARD.decode(shown).ok()).flatten();
        pair.as_deref().and_then(|pair| pair.split_once_at(b':')).is_some_and(|(_, password)| self.hold(password))
    }

    /// Each key, for protocols in which both sides hash it.
    pub(super) fn find<T>(&self, test: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.0.current().iter().find_map(|key| test(&key.text))
    }
}

trait SplitOnce {
    fn split_once_at(&self, byte: u8) -> Option<(&[u8], &[u8])>;
}

impl SplitOnce for [u8] {
    fn split_once_at(&self, byte: u8) -> Option<(&[u8], &[u8])> {
        memchr::memchr(byte, self).map(|at| (&self[..at], &self[at + 1..]))
    }
}

fn read(key: &'static str, path: &PathBuf) -> Result<Vec<Key>, IntakeError> {
    let wrong = |reason: String| IntakeError::Secret { key, path: path.clone(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Vec<Key> = lines.map(|line| Key { text: line.to_owned(), hash: Sha256::digest(line).into() }).collect();
    match keys.len() {
        0 => Err(wrong("is empty; write a random token in it".into())),
        1..=KEYS_MAX => Ok(keys),
        many => Err(wrong(format!("holds {many} keys; {KEYS_MAX} are the most"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_of_the_file_opens() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), "new key\n\n  old \n").expect("writes");
        let keys = Keys::open("test", file.path()).expect("reads");
        for (shown, expected) in [("new key", true), ("old", true), ("", false), ("ol", false), ("old ", false)] {
            assert_eq!(keys.hold(shown.as_bytes()), expected, "{shown}");
        }
        let basic = format!("Basic {}", STANDARD.encode("user:old"));
        for (value, expected) in [
            ("Bearer old", true),
            ("bearer  new key ", true),
            (basic.as_str(), true),
            ("Basic b2xk", false),
            ("Basic !", false),
            ("Digest old", false),
            ("old", false),
            ("", false),
        ] {
            assert_eq!(keys.hold_authorization(value.as_bytes()), expected, "{value}");
        }
        assert!(!format!("{keys:?}").contains("old"));
    }

    #[test]
    fn a_file_without_a_key_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let check = |text: &str, expected: &str| {
            std::fs::write(file.path(), text).expect("writes");
            let error = Keys::open("intake.http.token_file", file.path()).expect_err("refused").to_string();
            assert!(error.contains(expected) && error.contains("intake.http.token_file"), "{error}");
        };
        check(" \n", "is empty");
        check(&"key\n".repeat(65), "64 are the most");
    }
}
