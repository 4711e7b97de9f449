//! The two rings and the counters: when to look, how to hand records on in order of time, what was lost.

use std::ops::RangeInclusive;
use std::time::Duration;

use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf};
use breachline_abi::control::{
    COUNTER_CROSS_CHECK, COUNTER_EMITTED, COUNTER_LINEAGE_CUT, COUNTER_LOST, COUNTER_WAKEUPS, COUNTERS, TOLD_AT,
    TOLD_LOST,
};
use breachline_abi::record::{
    Header, KIND_ANSWER, KIND_CONTACT, KIND_EXEC, KIND_EXIT, KIND_FLOW, KIND_FORK, KIND_HELLO, KIND_LINEAGE,
    KIND_LISTEN, KIND_RAW_SOCKET, KIND_REQUEST, KIND_SERVING, KIND_STATUS,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::KernelError;
use super::lineage::{Lineage, Lost, Telling};
use super::timer::Timer;
use serde::{Serialize, Serializer};
use zerocopy::FromBytes as _;

use crate::clock;
use crate::decode::{BootClock, decode};
use crate::event::{HostEvent, Loss};

/// Most records of one call to [`Rings::drain`], give or take a processor's log: bounds the time away from the caller and the
/// batch's memory (about 4 MB).
const BATCH_MAX: usize = 8192;
/// Shortest wait between two looks: at 500 exec/s a batch of a few records, at rest never reached.
const INTERVAL_MIN: Duration = Duration::from_millis(5);
/// Wait after a wake-up: the kernel half wakes at most each 2 ms (`wake_interval_us`), so what is urgent and came within them
/// of the last waits for this look. Longer, and the second stage of a quick break-in is told by so much later.
const INTERVAL_AWAKE: Duration = Duration::from_millis(3);
/// Records in a batch from which the next look comes sooner.
const BUSY_RECORDS: usize = 64;

/// What the kernel half and the reading of it counted since load.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Records handed over and lost (ring full), by sense: an object of that form in JSON, as `status` shows numbers by their path.
    #[serde(serialize_with = "by_sense")]
    pub senses: Vec<SenseCounters>,
    /// Records that could not be decoded: a bug, a foreign writer, or a datagram from port 53 that is no DNS message.
    pub undecodable: u64,
    /// Times the kernel half woke the agent at once.
    pub wakeups: u64,
    /// Processes whose taint or lost parent could not be noted (table full, too many children).
    pub lineage_cut: u64,
    /// Contacts that only the socket-state cross-check saw.
    pub cross_check: u64,
}

/// Counters of one sense.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SenseCounters {
    /// Name as in [`Loss::sense`].
    #[serde(skip)]
    pub sense: &'static str,
    /// Records handed over.
    pub emitted: u64,
    /// Records lost.
    pub lost: u64,
}

fn by_sense<S: Serializer>(senses: &[SenseCounters], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(senses.iter().map(|counters| (counters.sense, counters)))
}

/// The name of a record kind in counters and losses.
const SENSES: [(u16, &str); 12] = [
    (KIND_EXEC, "exec"),
    (KIND_FORK, "fork"),
    (KIND_EXIT, "exit"),
    (KIND_CONTACT, "connect"),
    (KIND_FLOW, "flow"),
    (KIND_LISTEN, "listen"),
    (KIND_REQUEST, "metadata"),
    (KIND_ANSWER, "names"),
    (KIND_RAW_SOCKET, "raw"),
    (KIND_STATUS, "metadata status"),
    (KIND_SERVING, "inbound"),
    (KIND_HELLO, "server names"),
];

/// The reading end.
pub(super) struct Rings {
    priority: AsyncFd<RingBuf<MapData>>,
    bulk: AsyncFd<RingBuf<MapData>>,
    lineage: Lineage,
    counts: PerCpuArray<MapData, u64>,
    /// What was told, for the next agent.
    told: Array<MapData, u64>,
    /// Forks and exits that an earlier agent told as lost.
    lost_before: Lost,
    /// Of which time records are handed on: where two sets of senses saw the same, one of them tells it.
    span: RangeInclusive<u64>,
    timer: Timer,
    interval: Duration,
    interval_max: Duration,
    undecodable: u64,
}

impl Rings {
    /// Opens the rings and the counters among the maps that `map` finds by name.
    ///
    /// # Errors
    ///
    /// [`KernelError::Map`].
    pub(super) fn open(
        mut map: impl FnMut(&'static str) -> Result<Map, String>,
        interval_max: Duration,
    ) -> Result<Self, KernelError> {
        let interval_max = interval_max.clamp(Duration::from_millis(1), Duration::from_secs(1));
        let counts: PerCpuArray<MapData, u64> = open(&mut map, "COUNTS", PerCpuArray::try_from)?;
        if counts.len() != COUNTERS {
            let reason = format!("{} counters where this build has {COUNTERS}: another build's", counts.len());
            return Err(KernelError::Map { name: "COUNTS", reason });
        }
        let told: Array<MapData, u64> = open(&mut map, "TOLD", Array::try_from)?;
        let lost_before =
            [KIND_FORK, KIND_EXIT].map(|kind| told.get(&(TOLD_LOST + u32::from(kind)), 0).unwrap_or_default());
        Ok(Self {
            priority: ring(&mut map, "PRIORITY")?,
            bulk: ring(&mut map, "BULK")?,
            lineage: Lineage::new(
                open(&mut map, "LINEAGE", Array::try_from)?,
                open(&mut map, "LINEAGE_TOLD", Array::try_from)?,
            ),
            counts,
            told,
            lost_before: Lost { forks: lost_before[0], exits: lost_before[1] },
            span: 0..=u64::MAX,
            timer: Timer::new(interval_max).map_err(KernelError::Timer)?,
            interval: interval_max,
            interval_max,
            undecodable: 0,
        })
    }

    /// Hands on records of this time (nanoseconds since boot) only.
    pub(super) fn limit(&mut self, span: RangeInclusive<u64>) {
        self.span = span;
    }

    /// When an agent last asked these rings for losses, nanoseconds since boot; 0 when none did.
    pub(super) fn last_look(&self) -> u64 {
        self.told.get(&TOLD_AT, 0).unwrap_or_default()
    }

    /// Waits for a wake-up of either ring or for the timer.
    pub(super) async fn ready(&mut self) {
        tokio::select! {
            // An error means that the runtime is going down; the timer paces the caller then.
            Ok(mut guard) = self.priority.readable_mut() => {
                guard.clear_ready();
                self.timer.set(INTERVAL_AWAKE.min(self.interval));
            }
            Ok(mut guard) = self.bulk.readable_mut() => guard.clear_ready(),
            () = self.timer.ended(self.interval) => {}
        }
    }

    /// See [`super::Sensor::drain`].
    pub(super) fn drain(&mut self, clock: BootClock, out: &mut Vec<HostEvent>) -> usize {
        let start = out.len();
        let Self { priority, bulk, lineage, span, .. } = self;
        let (telling, limit) = (Telling { clock, span }, start + BATCH_MAX);
        lineage.look();
        self.undecodable += read(priority.get_mut(), lineage, telling, out, limit);
        self.undecodable += read(bulk.get_mut(), lineage, telling, out, limit);
        // A log in the bulk ring may hold the end of a program that began since the first look.
        self.undecodable += read(priority.get_mut(), lineage, telling, out, limit);
        if out.len() < limit {
            lineage.tell(telling, out);
        }
        lineage.keep();
        // A stable sort: records of one instant keep the order in which they were committed.
        out[start..].sort_by_key(|event| event.at);
        let added = out.len() - start;
        self.interval = next_interval(self.interval, added, self.interval_max);
        added
    }

    /// See [`super::Sensor::losses`].
    pub(super) fn losses(&mut self) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (kind, sense) in SENSES {
            let lost = self.lost(kind);
            let told = self.told.get(&(TOLD_LOST + u32::from(kind)), 0).unwrap_or_default();
            if lost > told {
                losses.push(Loss { sense: sense.to_owned(), count: lost - told, since: None });
                self.tell(TOLD_LOST + u32::from(kind), lost);
            }
        }
        self.lineage.lost_is_told();
        self.tell(TOLD_AT, u64::try_from(clock::since_boot().as_nanos()).unwrap_or(u64::MAX));
        losses
    }

    /// The kernel refuses no slot that exists; a refusal would cost a loss told twice.
    fn tell(&mut self, slot: u32, value: u64) {
        let _ = self.told.set(slot, value, 0);
    }

    /// See [`super::Sensor::counters`].
    pub(super) fn counters(&self) -> Counters {
        let (forks, exits) = self.lineage.written();
        let sense = |(kind, sense): (u16, &'static str)| {
            let lost = self.lost(kind);
            let emitted = match kind {
                KIND_FORK => forks.saturating_sub(lost),
                KIND_EXIT => exits.saturating_sub(lost),
                _ => self.count(COUNTER_EMITTED + u32::from(kind)),
            };
            SenseCounters { sense, emitted, lost }
        };
        Counters {
            senses: SENSES.into_iter().map(sense).collect(),
            undecodable: self.undecodable,
            wakeups: self.count(COUNTER_WAKEUPS),
            lineage_cut: self.count(COUNTER_LINEAGE_CUT),
            cross_check: self.count(COUNTER_CROSS_CHECK),
        }
    }

    /// Records of a kind lost since load. Forks and exits that found no room in the ring may still be told from where they
    /// were written: lost are those that nobody told.
    fn lost(&self, kind: u16) -> u64 {
        match kind {
            KIND_FORK => self.lost_before.forks + self.lineage.lost().forks,
            KIND_EXIT => self.lost_before.exits + self.lineage.lost().exits,
            _ => self.count(COUNTER_LOST + u32::from(kind)),
        }
    }

    /// A counter summed over the processors; 0 when the kernel does not answer, which it does for every slot that
    /// exists.
    fn count(&self, slot: u32) -> u64 {
        debug_assert!(slot < COUNTERS);
        self.counts.get(&slot, 0).map_or(0, |values| values.iter().sum())
    }
}

/// Reads until the ring is empty or `out` holds `limit`. Returns how many records could not be decoded.
fn read(
    ring: &mut RingBuf<MapData>,
    lineage: &mut Lineage,
    telling: Telling<'_>,
    out: &mut Vec<HostEvent>,
    limit: usize,
) -> u64 {
    let mut undecodable = 0;
    while out.len() < limit
        && let Some(record) = ring.next()
    {
        let (kind, time) =
            Header::read_from_prefix(&record).map_or((0, 0), |(header, _)| (header.kind, header.boot_ns));
        if kind == KIND_LINEAGE {
            undecodable += u64::from(!lineage.record(&record, telling, out));
            continue;
        }
        if !telling.span.contains(&time) {
            continue;
        }
        match decode(&record, telling.clock) {
            Ok(event) => out.push(event),
            Err(_) => undecodable += 1,
        }
    }
    undecodable
}

/// Sooner while there is much, back to the longest wait step by step.
fn next_interval(current: Duration, records: usize, longest: Duration) -> Duration {
    let next = if records >= BUSY_RECORDS { current / 2 } else { current * 2 };
    next.clamp(INTERVAL_MIN.min(longest), longest)
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; a ring owns its descriptor and keeps it for life, which is all that is asked"
)]
fn ring(
    map: &mut impl FnMut(&'static str) -> Result<Map, String>,
    name: &'static str,
) -> Result<AsyncFd<RingBuf<MapData>>, KernelError> {
    let ring = open(map, name, RingBuf::try_from)?;
    AsyncFd::with_interest(ring, Interest::READABLE)
        .map_err(|error| KernelError::Map { name, reason: error.to_string() })
}

fn open<T>(
    map: &mut impl FnMut(&'static str) -> Result<Map, String>,
    name: &'static str,
    open: impl FnOnce(Map) -> Result<T, MapError>,
) -> Result<T, KernelError> {
    let failed = |reason: String| KernelError::Map { name, reason };
    let map = map(name).map_err(failed)?;
    open(map).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Status;
    use crate::timestamp::Timestamp;

    #[test]
    fn the_timer_follows_the_load() {
        let ms = Duration::from_millis;
        let check = |current, records, longest, expected| {
            assert_eq!(next_interval(ms(current), records, ms(longest)), ms(expected), "{current} {records} {longest}");
        };
        check(20, 0, 20, 20);
        check(20, 100, 20, 10);
        check(5, 100, 20, 5);
        check(5, 3, 20, 10);
        check(2, 100, 2, 2);
    }

    #[test]
    fn status_shows_what_each_sense_lost() {
        let counters = Counters {
            senses: vec![SenseCounters { sense: "exec", emitted: 7, lost: 2 }],
            undecodable: 1,
            ..Counters::default()
        };
        let mut status = Status::starting(Timestamp::MIN);
        status.count("kernel", &counters);
        let shown = |name: &str| status.counters.get(name).copied();
        assert_eq!(shown("kernel.senses.exec.lost"), Some(2));
        assert_eq!(shown("kernel.senses.exec.emitted"), Some(7));
        assert_eq!(shown("kernel.undecodable"), Some(1));
    }
}
