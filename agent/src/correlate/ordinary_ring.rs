//! The latest requests of this host that nothing made worth keeping, in slots that are written over: a finding that arrives after
//! the line of the request that it happened in still finds it. Writing a slot copies the line's texts; for an ordinary request it
//! allocates nothing once the ring is warm.

use std::time::Duration;

use crate::evidence::ErrorSpike;
use crate::request::{AccessRecord, Verdict};
use crate::timestamp::Timestamp;

use super::fingerprint::{self, TEXT_MAX};
use super::kept::{Kept, RequestId, Routed};

/// Buffer that a slot keeps between uses; larger ones are given back, so that long lines do not stay in memory.
const SLOT_BYTES: usize = 1024;

/// The ring.
#[derive(Debug, Default)]
pub(super) struct OrdinaryRing {
    slots: Vec<Slot>,
    /// Received and completed of each slot: what a finding looks through.
    flights: Vec<(Timestamp, Timestamp)>,
    next: usize,
}

#[derive(Debug)]
struct Slot {
    /// Known already when the slot comes from a checkpoint; otherwise worked out when the slot is asked for, which is rare.
    id: Option<RequestId>,
    /// The record with its texts cut out.
    frame: AccessRecord<'static>,
    /// The texts, end to end.
    text: Vec<u8>,
    ends: [usize; 6],
    verdict: Option<Verdict>,
    routed: Routed,
    spike: Option<ErrorSpike>,
}

/// A request on its way into a slot.
pub(super) struct Passing<'r> {
    pub(super) id: Option<RequestId>,
    pub(super) record: &'r AccessRecord<'r>,
    pub(super) verdict: Option<&'r Verdict>,
    pub(super) routed: Routed,
    pub(super) spike: Option<ErrorSpike>,
}

impl OrdinaryRing {
    /// Notes a request, writing over the oldest once `capacity` slots are in use.
    pub(super) fn push(&mut self, passing: Passing<'_>, capacity: usize) {
        let flight = (passing.record.received, passing.record.completed);
        if self.slots.len() < capacity.max(1) {
            self.slots.push(Slot::of(passing, Vec::new()));
            self.flights.push(flight);
            return;
        }
        self.next %= self.slots.len();
        self.flights[self.next] = flight;
        let slot = &mut self.slots[self.next];
        let mut text = std::mem::take(&mut slot.text);
        text.clear();
        text.shrink_to(SLOT_BYTES);
        *slot = Slot::of(passing, text);
        self.next += 1;
    }

    /// Requests in flight at `at` when `skew` is allowed for, and whether they were even without it.
    pub(super) fn in_flight(&self, at: Timestamp, skew: Duration) -> impl Iterator<Item = (Kept, bool)> {
        self.flights.iter().zip(&self.slots).filter_map(move |((received, completed), slot)| {
            let loosely = received.minus(skew) <= at && at <= completed.plus(skew);
            loosely.then(|| (slot.own(), *received <= at && at <= *completed))
        })
    }

    /// Every slot from the oldest to the newest: what a checkpoint saves.
    pub(super) fn iter(&self) -> impl Iterator<Item = Kept> {
        let split = self.next.min(self.slots.len());
        self.slots[split..].iter().chain(&self.slots[..split]).map(Slot::own)
    }
}

impl Slot {
    fn of(passing: Passing<'_>, mut text: Vec<u8>) -> Self {
        let Passing { id, record, verdict, routed, spike } = passing;
        let mut ends = [0; 6];
        let texts = [
            record.balancer,
            record.method,
            record.authority,
            record.path_and_query,
            record.user_agent,
            record.trace_id,
        ];
        for (end, part) in ends.iter_mut().zip(texts) {
            text.extend_from_slice(&part[..part.len().min(TEXT_MAX)]);
            *end = text.len();
        }
        let frame = AccessRecord {
            balancer: b"",
            method: b"",
            authority: b"",
            path_and_query: b"",
            query: b"",
            tried: b"",
            user_agent: b"",
            referer: b"",
            trace_id: b"",
            anomaly: b"",
            ..*record
        };
        Self { id, frame, text, ends, verdict: verdict.cloned(), routed, spike }
    }

    fn own(&self) -> Kept {
        let [balancer, method, authority, path, agent, _] = self.ends;
        let record = AccessRecord {
            balancer: &self.text[..balancer],
            method: &self.text[balancer..method],
            authority: &self.text[method..authority],
            path_and_query: &self.text[authority..path],
            user_agent: &self.text[path..agent],
            trace_id: &self.text[agent..],
            ..self.frame
        };
        let id = self
            .id
            .unwrap_or_else(|| RequestId { received: record.received, fingerprint: fingerprint::of_record(&record) });
        Kept::own(id, &record, self.verdict.as_ref(), self.routed.clone(), self.spike)
    }
}
