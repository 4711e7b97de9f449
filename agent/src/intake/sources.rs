//! Names of sources. Later stages keep state per source (lines of one source have one format), so that a client must not be
//! able to make them up without end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Sources told apart per receiver.
const SOURCES_MAX: usize = 64;

/// Longest part of a name that a client chooses.
const PART_BYTES_MAX: usize = 128;

/// The sources of one receiver.
#[derive(Debug)]
pub(super) struct Sources {
    receiver: &'static str,
    known: Mutex<BTreeSet<Arc<str>>>,
}

impl Sources {
    /// All under the receiver's name.
    pub(super) fn new(receiver: &'static str) -> Self {
        Self { receiver, known: Mutex::default() }
    }

    /// `receiver:part`, for a bounded number of parts of bounded length; `receiver` beyond.
    pub(super) fn name(&self, part: &str) -> Arc<str> {
        if part.is_empty() || part.len() > PART_BYTES_MAX {
            return self.receiver.into();
        }
        let name = format!("{}:{part}", self.receiver);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(name.as_str()) {
            return Arc::clone(known);
        }
        if known.len() >= SOURCES_MAX {
            return self.receiver.into();
        }
        let name: Arc<str> = name.into();
        known.insert(Arc::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_up_to_a_bound() {
        let sources = Sources::new("http");
        assert_eq!(&*sources.name("/v1/lines"), "http:/v1/lines");
        assert_eq!(&*sources.name(&"x".repeat(129)), "http");
        let names: BTreeSet<_> = (0..100).map(|number| sources.name(&number.to_string())).collect();
        assert_eq!(names.len(), SOURCES_MAX);
        assert_eq!(&*sources.name("/v1/lines"), "http:/v1/lines", "what is known stays");
    }
}
