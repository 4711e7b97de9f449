//! Sources that scan, and probes for products that are not there: the internet's weather, told from the one answer that
//! is different.
//!
//! Judged requests go in, one at a time; what comes out is whether this one is *noise*: its source sends many different
//! hostile requests, and this one was answered as they usually are. A request of a scanner that is answered otherwise
//! (a 200 among 404s, a 500) keeps its full weight, and no source is ever ignored: who breaks in has often scanned first.
//!
//! Knows no clock: time is the records' own. Requests that nothing was found in cost nothing here. Deterministic: the
//! same lines in the same order give the same words.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::request::{AccessRecord, AttackClass, Verdict};
use crate::timestamp::Timestamp;

/// Sources remembered; the one that was quiet longest makes room. A flood of addresses makes scanners forgotten, and
/// their requests weigh more again: it cannot hide anything.
const MAX_SOURCES: NonZeroUsize = NonZeroUsize::new(4096).expect("is not zero");

/// What a source did longer ago counts half, and half again.
const HALF_LIFE: Duration = Duration::from_secs(600);

/// Different hostile requests from which a source scans. People's odd searches come one at a time; scanners ask for
/// hundreds of things.
const SCANS_FROM: u32 = 12;

/// Share of a source's hostile requests that an answer needs to be its usual one.
const USUAL_SHARE: f64 = 0.1;

/// Highest score of noise: still exploit-like, no longer specific. Correlation takes the next tier from 75.
const NOISE_SCORE_MAX: u8 = 60;

/// Highest score of a request for a product's page that the target does not have: no longer exploit-like. What such a
/// request carries besides its path has a class of its own.
const ABSENT_SCORE_MAX: u8 = 40;

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Sources of hostile requests that are remembered now.
    pub sources: u64,
    /// Sources that were forgotten to make room.
    pub sources_evicted: u64,
    /// Requests that were a scanner's, answered as usual.
    pub noise: u64,
    /// Requests that were a scanner's, answered otherwise.
    pub answered_otherwise: u64,
    /// Requests for a page of a product that the target does not have.
    pub product_absent: u64,
}

/// The memory of sources.
#[derive(Debug)]
pub struct ScannerNoise {
    sources: LruCache<IpAddr, Source>,
    counters: Counters,
}

/// How a request was answered: what scanners are told apart by.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Answer {
    Nothing,
    Success,
    Redirect,
    Refused,
    NotFound,
    OtherClientError,
    ServerError,
}

const ANSWERS: usize = 7;

/// One source.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Source {
    seen: Timestamp,
    answers: [u32; ANSWERS],
    /// One bit for each hash of what was asked for: how many are set tells how many different ones there were.
    asked: [u64; 4],
}

impl Default for ScannerNoise {
    fn default() -> Self {
        Self { sources: LruCache::new(MAX_SOURCES), counters: Counters::default() }
    }
}

impl ScannerNoise {
    /// Counts a judged request, and turns its verdict down if it is noise.
    pub fn weigh(&mut self, record: &AccessRecord<'_>, verdict: &mut Verdict) {
        let Some(client) = record.client.filter(|_| verdict.exploit_like() || verdict.class == AttackClass::Probe)
        else {
            return;
        };
        let answer = Answer::of(record);
        if verdict.class == AttackClass::CvePath && answer == Answer::NotFound {
            self.counters.product_absent += 1;
            verdict.score = verdict.score.min(ABSENT_SCORE_MAX);
            verdict.reason.push_str(" The target has no such page: what it would exploit does not run there.");
        }
        if self.sources.len() == MAX_SOURCES.get() && !self.sources.contains(&client.ip()) {
            self.counters.sources_evicted += 1;
        }
        let source = self.sources.get_or_insert_mut(client.ip(), || Source::starting(record.received));
        let scans = source.scans();
        let usual = source.is_usual(answer);
        source.count(record, answer);
        match (scans, usual) {
            (true, true) => {
                self.counters.noise += 1;
                verdict.score = verdict.score.min(NOISE_SCORE_MAX);
                verdict.reason.push_str(" Its source scans, and was answered as usual.");
            }
            (true, false) => {
                self.counters.answered_otherwise += 1;
                verdict.reason.push_str(" Its source scans, but was answered otherwise than usual.");
            }
            (false, _) => {}
        }
    }

    /// The sources, the quietest first, to be saved.
    pub(super) fn save(&self) -> Vec<(IpAddr, Source)> {
        self.sources.iter().rev().map(|(address, source)| (*address, *source)).collect()
    }

    /// Goes on with saved sources; of more than there is room for, the quietest are left out.
    pub(super) fn restore(&mut self, saved: Vec<(IpAddr, Source)>) {
        self.sources.clear();
        for (address, source) in saved {
            self.sources.put(address, source);
        }
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { sources: u64::try_from(self.sources.len()).unwrap_or(u64::MAX), ..self.counters }
    }
}

impl Source {
    const fn starting(at: Timestamp) -> Self {
        Self { seen: at, answers: [0; ANSWERS], asked: [0; 4] }
    }

    /// Different things asked for: set bits, which is an undercount past some hundred.
    fn scans(&self) -> bool {
        self.asked.iter().map(|bits| bits.count_ones()).sum::<u32>() >= SCANS_FROM
    }

    fn is_usual(&self, answer: Answer) -> bool {
        let all: u32 = self.answers.iter().sum();
        f64::from(self.answers[answer as usize]) >= USUAL_SHARE * f64::from(all)
    }

    fn count(&mut self, record: &AccessRecord<'_>, answer: Answer) {
        let halvings = record.received.since(self.seen).as_secs() / HALF_LIFE.as_secs();
        if halvings > 0 {
            let halvings = u32::try_from(halvings.min(31)).unwrap_or(31);
            self.answers.iter_mut().for_each(|count| *count >>= halvings);
            // Which bits were oldest is not known: after one half-life of silence the count starts over.
            self.asked = [0; 4];
            self.seen = record.received;
        }
        let bit = hash(record.path_and_query);
        self.asked[bit / 64] |= 1 << (bit % 64);
        self.answers[answer as usize] = self.answers[answer as usize].saturating_add(1);
    }
}

impl Answer {
    fn of(record: &AccessRecord<'_>) -> Self {
        match record.target_status.or(record.status) {
            None | Some(0..=199) => Self::Nothing,
            Some(200..=299) => Self::Success,
            Some(300..=399) => Self::Redirect,
            Some(401 | 403) => Self::Refused,
            Some(404 | 405 | 410) => Self::NotFound,
            Some(400..=499) => Self::OtherClientError,
            Some(_) => Self::ServerError,
        }
    }
}

/// Eight bits of what was asked for: FNV-1a, its halves folded.
fn hash(text: &[u8]) -> usize {
    let sum = text
        .iter()
        .take(256)
        .fold(0xCBF2_9CE4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3));
    usize::from((sum ^ sum >> 32).to_le_bytes()[0] ^ sum.to_be_bytes()[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(score: u8) -> Verdict {
        Verdict {
            class: AttackClass::Cmdi,
            score,
            matched: String::new(),
            reason: "The request does.".to_owned(),
            reference: None,
            indicators: Vec::new(),
        }
    }

    fn ask(noise: &mut ScannerNoise, client: &str, path: &str, status: u16, second: i64) -> Verdict {
        let at = Timestamp::from_unix_nanos(1_700_000_000_000_000_000 + second * 1_000_000_000);
        let record = AccessRecord {
            client: Some(client.parse().expect("a socket")),
            path_and_query: path.as_bytes(),
            target_status: Some(status),
            ..AccessRecord::blank(at, at)
        };
        let mut verdict = verdict(90);
        noise.weigh(&record, &mut verdict);
        verdict
    }

    fn scan(noise: &mut ScannerNoise) {
        (0..100).for_each(|number| drop(ask(noise, "198.51.100.7:1000", &format!("/{number}?x=;id"), 404, number)));
    }

    #[test]
    fn a_scanner_is_noise_until_it_is_answered_otherwise() {
        let mut noise = ScannerNoise::default();
        assert_eq!(ask(&mut noise, "198.51.100.7:1000", "/first?x=;id", 404, 0).score, 90);
        scan(&mut noise);
        assert_eq!(ask(&mut noise, "198.51.100.7:2000", "/one-more", 404, 101).score, NOISE_SCORE_MAX);
        let hit = ask(&mut noise, "198.51.100.7:2000", "/the-one", 200, 102);
        assert_eq!(hit.score, 90);
        assert!(hit.reason.contains("otherwise"), "{}", hit.reason);
        assert_eq!(ask(&mut noise, "203.0.113.9:5", "/somebody-else", 404, 103).score, 90);
        assert_eq!((noise.counters().answered_otherwise, noise.counters().sources), (1, 2));
    }

    #[test]
    fn one_request_over_and_over_is_no_scan() {
        let mut noise = ScannerNoise::default();
        for second in 0..500 {
            assert_eq!(ask(&mut noise, "198.51.100.7:1", "/login?u=x'--", 200, second).score, 90);
        }
    }

    #[test]
    fn a_probe_for_a_product_weighs_by_the_answer() {
        let mut noise = ScannerNoise::default();
        let mut check = |status: u16, expected: u8| {
            let blank = AccessRecord::blank(Timestamp::MIN, Timestamp::MIN);
            let client = "198.51.100.7:1000".parse().ok();
            let record = AccessRecord { client, target_status: Some(status), ..blank };
            let mut verdict = Verdict { class: AttackClass::CvePath, ..verdict(60) };
            noise.weigh(&record, &mut verdict);
            assert_eq!(verdict.score, expected, "{status}");
        };
        check(404, ABSENT_SCORE_MAX);
        check(200, 60);
        check(500, 60);
    }

    #[test]
    fn a_quiet_source_is_new_again() {
        let mut noise = ScannerNoise::default();
        scan(&mut noise);
        ask(&mut noise, "198.51.100.7:1", "/a-day-later", 404, 86_400);
        assert_eq!(ask(&mut noise, "198.51.100.7:1", "/and-again", 404, 86_401).score, 90);
    }

    #[test]
    fn sources_are_bounded() {
        let mut noise = ScannerNoise::default();
        for number in 0..MAX_SOURCES.get() + 100 {
            let [.., a, b] = number.to_be_bytes();
            ask(&mut noise, &format!("10.0.{a}.{b}:1"), "/x", 404, 0);
        }
        let counters = noise.counters();
        assert_eq!((counters.sources, counters.sources_evicted), (MAX_SOURCES.get() as u64, 100));
    }
}
