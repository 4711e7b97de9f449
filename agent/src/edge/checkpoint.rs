//! What the edge remembers of targets and sources as bytes and back: an agent that was restarted in the middle of an error
//! spike or of a scan goes on where it was. What judges need besides is a cache, and is found out again.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Edge;
use super::error_rate::{History, Key};
use super::scanner_noise::Source;

/// Version of the saved form; a changed meaning takes a new one.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    targets: Vec<(Key, History)>,
    sources: Vec<(IpAddr, Source)>,
}

/// Why a saved memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not the saved form.
    #[error("the saved error rates and scanners are damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// Written by another version.
    #[error("the saved error rates and scanners have format {found}, this agent reads {VERSION}")]
    Version {
        /// The format found.
        found: u32,
    },
}

impl Edge {
    /// Error rates and scanners, to be saved. The same memory gives the same bytes.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        let saved = Saved { version: VERSION, targets: self.error_rate.save(), sources: self.scanner_noise.save() };
        // Plain data always has a JSON form.
        serde_json::to_vec(&saved).unwrap_or_default()
    }

    /// Goes on with what [`Edge::checkpoint`] gave.
    ///
    /// # Errors
    ///
    /// The bytes are damaged or another version's; nothing is changed then.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let saved: Saved = serde_json::from_slice(bytes)?;
        if saved.version != VERSION {
            return Err(CheckpointError::Version { found: saved.version });
        }
        self.error_rate.restore(saved.targets);
        self.scanner_noise.restore(saved.sources);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::Config;

    fn line(minute: u32, status: u16, path: &str) -> String {
        format!(
            r#"http 2026-05-04T10:{minute:02}:01Z app/e/1 198.51.100.9:40100 10.1.2.3:80 0 0 0 {status} {status} 1 2 "GET http://h:80/{path} HTTP/1.1" "a" - - - "-" "-" "-" - 2026-05-04T10:{minute:02}:01Z"#
        )
    }

    #[test]
    fn after_a_restart_the_same_lines_say_the_same() {
        let mut straight = Edge::new(Config::default()).expect("builds");
        let probe = |number: u32| line(number / 10, 404, &format!("{number}?id=1%27%20or%20%271%27=%27{number}"));
        let lines: Vec<String> =
            (0..50).map(probe).chain((0..20).map(|number| line(20, 500, &number.to_string()))).collect();
        let mut restarted = Edge::new(Config::default()).expect("builds");
        let (mut noise, mut spikes) = (0, 0);
        for line in &lines {
            let bytes = restarted.checkpoint();
            restarted = Edge::new(Config::default()).expect("builds");
            restarted.restore(&bytes).expect("reads");
            assert_eq!(restarted.checkpoint(), bytes);
            let one = straight.read("a.log", line.as_bytes()).expect("read").expect("a request");
            let other = restarted.read("a.log", line.as_bytes()).expect("read").expect("a request");
            assert_eq!((&one.verdict, one.spike), (&other.verdict, other.spike));
            noise += u32::from(one.verdict.is_some_and(|verdict| verdict.reason.contains("scans")));
            spikes += u32::from(one.spike.is_some());
        }
        assert!(noise > 0 && spikes > 0, "{noise} {spikes}");
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let mut edge = Edge::new(Config::default()).expect("builds");
        let before = edge.checkpoint();
        for bytes in [&b""[..], b"{}", b"{\"version\":2,\"targets\":[],\"sources\":[]}"] {
            assert!(edge.restore(bytes).is_err());
        }
        assert_eq!(edge.checkpoint(), before);
    }
}
