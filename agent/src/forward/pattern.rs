//! Names with `*` and `?`. In: a pattern. Out: whether a name fits, and the files whose paths fit, sorted.
//!
//! `*` stands for any characters and `?` for one, never for `/`. A leading dot must be written.

use std::fs;
use std::path::{Path, PathBuf};

/// Paths that one pattern gives at most: a pattern over a directory of sessions must not open a million files.
pub(super) const PATHS_MAX: usize = 4096;

/// Whether `name` fits `pattern`. Time is bounded by the product of their lengths.
pub(super) fn fits(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    // Where to go on when a literal does not fit: the latest star takes one character more.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(one) if *one == b'?' || *one == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((behind, taken)) = star else { return false };
                star = Some((behind, taken + 1));
                (p, n) = (behind, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|rest| *rest == b'*')
}

/// The files that `pattern` names, sorted; itself when it has no wildcard, whether it is there or not.
pub(super) fn files(pattern: &str) -> Vec<PathBuf> {
    if !pattern.contains(['*', '?']) {
        return vec![PathBuf::from(pattern)];
    }
    let path = Path::new(pattern);
    let mut found = vec![if path.is_absolute() { PathBuf::from("/") } else { PathBuf::new() }];
    for part in path.iter().filter(|part| *part != "/") {
        let part = part.as_encoded_bytes();
        found = found.iter().flat_map(|within| step(within, part)).take(PATHS_MAX).collect();
    }
    found.retain(|path| path.is_file());
    found.sort();
    found
}

fn step(within: &Path, part: &[u8]) -> Vec<PathBuf> {
    if !part.iter().any(|byte| matches!(byte, b'*' | b'?')) {
        return vec![within.join(String::from_utf8_lossy(part).as_ref())];
    }
    let directory = if within.as_os_str().is_empty() { Path::new(".") } else { within };
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let fitting = entries.flatten().filter(|entry| fits(part, entry.file_name().as_encoded_bytes()));
    fitting.take(PATHS_MAX).map(|entry| within.join(entry.file_name())).collect()
}

/// Leaves out what is a rotated file of another path in the list (`access.log.1` beside `access.log`): it is read with
/// that one, once.
pub(super) fn without_rotated(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let is_rotated = |path: &PathBuf| {
        let bytes = path.as_os_str().as_encoded_bytes();
        paths.iter().any(|log| {
            let rest = bytes.strip_prefix(log.as_os_str().as_encoded_bytes());
            rest.is_some_and(|rest| matches!(rest.first(), Some(b'.' | b'-' | b'_')))
        })
    };
    paths.iter().filter(|path| !is_rotated(path)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        };
        check("*", "access.log", true);
        check("*.log", "access.log", true);
        check("*.log", "access.log.1", false);
        check("a?c*", "abcd", true);
        check("a?c*", "ac", false);
        check("*a*b", "xaxaxb", true);
        check("*a*b", "xaxax", false);
        check("", "", true);
        check("*", ".hidden", false);
        check(".h*", ".hidden", true);
        check(&"*a".repeat(40), &"a".repeat(2000), true);
        check(&format!("{}b", "*a".repeat(40)), &"a".repeat(2000), false);
    }

    #[test]
    fn files_by_pattern() {
        let directory = tempfile::tempdir().expect("directory");
        for (folder, name) in [("a", "access.log"), ("a", "access.log.1"), ("b", "access.log"), ("b", "other.txt")] {
            fs::create_dir_all(directory.path().join(folder)).expect("creates");
            fs::write(directory.path().join(folder).join(name), "x").expect("writes");
        }
        let at = |text: &str| format!("{}/{text}", directory.path().display());
        let named = |pattern: &str| {
            let strip = |path: PathBuf| {
                path.strip_prefix(directory.path()).map(|path| path.display().to_string()).expect("inside")
            };
            without_rotated(files(&at(pattern))).into_iter().map(strip).collect::<Vec<_>>()
        };
        assert_eq!(named("*/access.log*"), ["a/access.log", "b/access.log"]);
        assert_eq!(named("?/*"), ["a/access.log", "b/access.log", "b/other.txt"]);
        assert_eq!(named("a/access.log.*"), ["a/access.log.1"]);
        assert_eq!(named("nowhere/access.log"), ["nowhere/access.log"]);
        assert!(named("nowhere/*").is_empty());
    }
}
