//! Deliveries that came before. In: the name a sender gave a delivery. Out: whether it was taken already.
//!
//! Firehose, Pub/Sub and Fluentd send a delivery again under the same name when they did not hear that it was taken. Names
//! are kept as hashes, a bounded number of them: what comes again later than that is told apart by the correlator.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;
use sha2::{Digest, Sha256};

/// Names kept. A sender repeats within minutes; at ten deliveries a second these are a quarter of an hour.
const NAMES_MAX: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

/// The names of what was taken.
#[derive(Debug)]
pub(super) struct Repeated(Mutex<LruCache<[u8; 32], ()>>);

impl Default for Repeated {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(NAMES_MAX)))
    }
}

impl Repeated {
    /// Whether a delivery of that name was taken.
    pub(super) fn knows(&self, name: &[u8]) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&hash(name)).is_some()
    }

    /// Notes a delivery as taken.
    pub(super) fn note(&self, name: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(hash(name), ());
    }
}

fn hash(name: &[u8]) -> [u8; 32] {
    Sha256::digest(name).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_up_to_a_bound() {
        let repeated = Repeated::default();
        assert!(!repeated.knows(b"a"));
        repeated.note(b"a");
        assert!(repeated.knows(b"a") && !repeated.knows(b"b"));
        (0..NAMES_MAX.get()).for_each(|number| repeated.note(&number.to_le_bytes()));
        assert!(!repeated.knows(b"a"));
    }
}
