//! A request worth keeping: owned, bounded, printable, and ranked by what its text and its answer promise.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::event::ProcessKey;
use crate::evidence::{ErrorSpike, RouteBasis};
use crate::request::{AccessRecord, Request, Verdict};
use crate::timestamp::Timestamp;
use crate::workload::{Workload, WorkloadKey};

use super::chance::{Kind, Specificity};
use super::sought::{self, Sought};

/// Longest URL kept, bytes: the promise of [`Request::url`].
const URL_MAX: usize = 2048;
/// Longest user agent kept, bytes: the promise of [`Request::user_agent`].
const USER_AGENT_MAX: usize = 512;
/// Longest of the other texts kept (method, balancer, trace id), bytes.
const WORD_MAX: usize = 128;

/// A request's identity: when it was received, then what it said.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct RequestId {
    pub(super) received: Timestamp,
    pub(super) fingerprint: u64,
}

/// Where a request was routed: all that the join needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Routed {
    pub(super) workload: WorkloadKey,
    pub(super) cgroup: Arc<str>,
    pub(super) owner: Option<ProcessKey>,
    pub(super) basis: RouteBasis,
}

impl Routed {
    pub(super) fn to(workload: &Workload, owner: Option<ProcessKey>, basis: RouteBasis) -> Self {
        Self { workload: workload.key.clone(), cgroup: Arc::clone(&workload.cgroup), owner, basis }
    }
}

/// A kept request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) id: RequestId,
    pub(super) request: Request,
    pub(super) verdict: Option<Verdict>,
    pub(super) routed: Routed,
    pub(super) spike: Option<ErrorSpike>,
    /// The balancer's own socket towards the target, see [`AccessRecord::upstream_local`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) upstream_local: Option<SocketAddr>,
    /// Both worked out when first asked for: the keys of all that are kept, which a look goes by; the texts only of the few where a
    /// key was found.
    #[serde(skip)]
    keys: OnceLock<Box<[Option<u64>]>>,
    #[serde(skip)]
    sought: OnceLock<Box<[Sought]>>,
}

impl Kept {
    pub(super) fn own(
        id: RequestId,
        record: &AccessRecord<'_>,
        verdict: Option<&Verdict>,
        routed: Routed,
        spike: Option<ErrorSpike>,
    ) -> Self {
        // Few enough digits to survive any text form unchanged: a restart must not move a score.
        let spike = spike.map(|spike| ErrorSpike {
            expected: (spike.expected * 1e3).round() / 1e3,
            tail_probability: (spike.tail_probability * 1e9).round() / 1e9,
            ..spike
        });
        let upstream_local = record.upstream_local;
        let verdict = verdict.cloned();
        let (keys, sought) = (OnceLock::new(), OnceLock::new());
        Self { id, request: own(record), verdict, routed, spike, upstream_local, keys, sought }
    }

    /// The record again, borrowed from the kept texts.
    pub(super) fn as_record(&self) -> AccessRecord<'_> {
        let request = &self.request;
        AccessRecord {
            balancer: request.balancer.as_bytes(),
            client: request.client,
            target: request.target,
            upstream_local: self.upstream_local,
            status: request.status,
            target_status: request.target_status,
            method: request.method.as_bytes(),
            path_and_query: request.url.as_bytes(),
            user_agent: request.user_agent.as_bytes(),
            trace_id: request.trace_id.as_bytes(),
            ..AccessRecord::blank(request.received, request.completed)
        }
    }

    /// What the request makes one look for on the host.
    pub(super) fn sought(&self) -> &[Sought] {
        self.sought.get_or_init(|| sought::sought(self.verdict.as_ref()).into())
    }

    /// Their [keys](Sought::key), in the same order.
    pub(super) fn keys(&self) -> &[Option<u64>] {
        self.keys.get_or_init(|| sought::sought(self.verdict.as_ref()).iter().map(|sought| sought.key).collect())
    }

    /// Whether it would have a metadata service asked with a method or headers of its own, as a session token takes; a URL alone
    /// cannot (AWS, `IMDSv2`: PUT with `X-aws-ec2-metadata-token-ttl-seconds`).
    pub(super) fn brings_a_token(&self) -> bool {
        let url = self.request.url.to_ascii_lowercase();
        ["gopher", "metadata-token"].iter().any(|word| url.contains(word))
    }

    pub(super) fn specificity(&self) -> Specificity {
        Specificity::of(self.verdict.as_ref())
    }

    /// What it is alike with; `None` for an ordinary one.
    pub(super) fn kind(&self) -> Option<Kind> {
        self.verdict.as_ref().map(|verdict| Kind::of(verdict, self.request.target_status))
    }

    pub(super) fn rank(&self) -> Rank {
        Rank::of(self.id, self.verdict.as_ref(), self.request.target_status)
    }
}

/// Order in which requests deserve memory, least first; a total order over contents, so that the best few of a set are the
/// same however it arrived.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    specificity: Specificity,
    indicators: bool,
    answer: Answer,
    score: u8,
    // Among equals the earliest stays: a flood cannot push out what came before it.
    id: Reverse<RequestId>,
}

impl Rank {
    pub(super) fn of(id: RequestId, verdict: Option<&Verdict>, target_status: Option<u16>) -> Self {
        Self {
            specificity: Specificity::of(verdict),
            indicators: verdict.is_some_and(|verdict| !verdict.indicators.is_empty()),
            answer: Answer::of(target_status),
            score: verdict.map_or(0, |verdict| verdict.score),
            id: Reverse(id),
        }
    }
}

impl Rank {
    /// Whose rank it is.
    pub(super) const fn id(&self) -> RequestId {
        self.id.0
    }
}

/// What the target made of the request; refusals least.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Answer {
    /// 4xx: the application did not take it.
    Refused,
    /// The balancer answered, or the format does not say.
    Unknown,
    /// 2xx, 3xx.
    Served,
    /// 5xx: it broke something.
    Failed,
}

impl Answer {
    /// What the answer says of a judged request, in nats: the share of breaches that are answered so (judgement: most are served,
    /// some break something, few are refused). How usual the answer is otherwise, the rates know.
    pub(super) fn breach_nats(self) -> f64 {
        match self {
            Self::Unknown => 1.0_f64,
            Self::Served => 0.65,
            Self::Failed => 0.25,
            Self::Refused => 0.1,
        }
        .ln()
    }

    /// The same of an ordinary request, whose rates are not counted: against what is answered all day.
    pub(super) const fn ordinary_nats(self) -> f64 {
        match self {
            Self::Refused => -1.2,
            Self::Failed => 0.3,
            Self::Unknown | Self::Served => 0.0,
        }
    }

    pub(super) fn of(target_status: Option<u16>) -> Self {
        match target_status {
            Some(400..=499) => Self::Refused,
            Some(500..) => Self::Failed,
            Some(_) => Self::Served,
            None => Self::Unknown,
        }
    }
}

fn own(record: &AccessRecord<'_>) -> Request {
    let mut url = printable(record.authority, URL_MAX);
    url.push_str(&printable(record.path_and_query, URL_MAX - url.len().min(URL_MAX)));
    Request {
        received: record.received,
        completed: record.completed,
        client: record.client,
        target: record.target,
        method: printable(record.method, WORD_MAX),
        url,
        user_agent: printable(record.user_agent, USER_AGENT_MAX),
        status: record.status,
        target_status: record.target_status,
        balancer: printable(record.balancer, WORD_MAX),
        trace_id: printable(record.trace_id, WORD_MAX),
    }
}

/// `bytes` as text of at most `most` bytes; control characters and what is not UTF-8 become `\xNN`.
fn printable(bytes: &[u8], most: usize) -> String {
    let mut text = String::with_capacity(bytes.len().min(most));
    for chunk in bytes[..bytes.len().min(most)].utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { c.to_string().bytes().for_each(|byte| push_hex(&mut text, byte)) } else { text.push(c) }
        }
        chunk.invalid().iter().for_each(|byte| push_hex(&mut text, *byte));
    }
    text.truncate(text.floor_char_boundary(most));
    text
}

fn push_hex(text: &mut String, byte: u8) {
    use std::fmt::Write as _;
    // Writing to a string cannot fail.
    let _ = write!(text, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_bytes_become_bounded_printable_text() {
        let check = |bytes: &[u8], most: usize, expected: &str| assert_eq!(printable(bytes, most), expected);
        check(b"/a?b=c", 64, "/a?b=c");
        check(b"/\x1b[31m", 64, "/\\x1b[31m");
        check(b"\xff\xfe", 64, "\\xff\\xfe");
        check("äöü".as_bytes(), 2, "ä");
        assert!(printable(&[0; 5000], 512).len() <= 512);
    }
}
