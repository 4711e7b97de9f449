//! Processes made and ended, from the logs that the processors write ([`breachline_abi::process`]): each told once, those
//! that were overwritten before anybody looked are counted.
//!
//! A full log comes through the bulk ring. What is in a log since then is copied from where it is written, before the
//! rings are read and used after: then whatever a process did before it ended is told before its end.

use std::ops::RangeInclusive;

use aya::maps::{Array, MapData};
use breachline_abi::limits::LINEAGE_ENTRIES;
use breachline_abi::process::{LineageEntry, LineageLog, LineageSlot, forks, written};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::clock;
use crate::decode::{self, BootClock};
use crate::event::HostEvent;

type Slots = Array<MapData, [u8; size_of::<LineageSlot>()]>;

/// The reading end of the logs.
pub(super) struct Lineage {
    slots: Slots,
    /// What was told, for the next agent: `counts` by processor.
    told: Array<MapData, u64>,
    read: Vec<Read>,
    /// The logs that the last look found something new in, and when that was, nanoseconds since boot.
    found: Vec<(usize, LineageLog)>,
    found_at: u64,
}

/// How to hand on what is told.
#[derive(Copy, Clone)]
pub(super) struct Telling<'a> {
    /// Boot time to wall-clock time.
    pub(super) clock: BootClock,
    /// Of which time forks are told; exits always are.
    pub(super) span: &'a RangeInclusive<u64>,
}

/// Entries lost for good.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) forks: u64,
    pub(super) exits: u64,
}

impl Lineage {
    /// From the maps of these names.
    pub(super) fn new(slots: Slots, told: Array<MapData, u64>) -> Self {
        // A slot that cannot be read counts as never told: then its last entries are told twice, which does no harm.
        let read = (0..slots.len()).map(|cpu| Read::up_to(told.get(&cpu, 0).unwrap_or_default())).collect();
        Self { slots, told, read, found: Vec::new(), found_at: 0 }
    }

    /// Copies the logs that have something new.
    pub(super) fn look(&mut self) {
        self.found.clear();
        self.found_at = u64::try_from(clock::since_boot().as_nanos()).unwrap_or(u64::MAX);
        for (cpu, read) in self.read.iter().enumerate() {
            if let Some(log) = log(&self.slots, cpu).filter(|log| log.counts != read.counts) {
                self.found.push((cpu, log));
            }
        }
    }

    /// Tells what the last look found and no record told meanwhile. To be called when the rings were read to their end since.
    pub(super) fn tell(&mut self, telling: Telling<'_>, out: &mut Vec<HostEvent>) {
        // Given back: thousands of bytes anew for each look cost more than the look.
        let found = std::mem::take(&mut self.found);
        for (cpu, log) in &found {
            self.tell_log(*cpu, log, self.found_at, telling, out);
        }
        self.found = found;
    }

    /// Tells a log that came as a record; whether it was one.
    pub(super) fn record(&mut self, record: &[u8], telling: Telling<'_>, out: &mut Vec<HostEvent>) -> bool {
        let Ok((log, _)) = LineageLog::read_from_prefix(record) else { return false };
        let cpu = usize::try_from(log.header.cpu).unwrap_or(usize::MAX);
        if cpu >= self.read.len() || log.header.version != breachline_abi::record::VERSION {
            return false;
        }
        self.tell_log(cpu, &log, log.header.boot_ns, telling, out);
        true
    }

    fn tell_log(&mut self, cpu: usize, log: &LineageLog, at: u64, telling: Telling<'_>, out: &mut Vec<HostEvent>) {
        let Some(read) = self.read.get_mut(cpu) else { return };
        read.take(log, |entry| {
            if entry.child == 0 || telling.span.contains(&entry.child_start_boot_ns) {
                out.push(decode::lineage(entry, at, telling.clock));
            }
        });
    }

    /// Notes for the next agent what was told, but for processors of which something was lost: that is told first.
    pub(super) fn keep(&mut self) {
        for (cpu, read) in (0..).zip(&mut self.read) {
            if read.counts != read.kept && read.lost == read.lost_told {
                // The kernel refuses no slot that exists; a refusal would have entries told twice.
                let _ = self.told.set(cpu, read.counts, 0);
                read.kept = read.counts;
            }
        }
    }

    /// What was lost since this agent reads.
    pub(super) fn lost(&self) -> Lost {
        self.read.iter().fold(Lost::default(), |sum, read| Lost {
            forks: sum.forks + read.lost.forks,
            exits: sum.exits + read.lost.exits,
        })
    }

    /// All that was lost so far is told.
    pub(super) fn lost_is_told(&mut self) {
        for read in &mut self.read {
            read.lost_told = read.lost;
        }
    }

    /// Forks and exits written down since load, each of a processor's wrapping at 2^32.
    pub(super) fn written(&self) -> (u64, u64) {
        let logs = (0..self.read.len()).filter_map(|cpu| log(&self.slots, cpu));
        logs.fold((0, 0), |(made, ended), log| {
            let (all, forks) = (written(log.counts), forks(log.counts));
            (made + u64::from(forks), ended + u64::from(all.wrapping_sub(forks)))
        })
    }
}

fn log(slots: &Slots, cpu: usize) -> Option<LineageLog> {
    let slot = slots.get(&u32::try_from(cpu).ok()?, 0).ok()?;
    LineageLog::read_from_prefix(slot.as_bytes()).ok().map(|(log, _)| log)
}

/// How far one processor's log is read.
#[derive(Copy, Clone, Debug, Default)]
struct Read {
    /// `counts` of the log that was told last.
    counts: u64,
    /// The same as the next agent would find it.
    kept: u64,
    lost: Lost,
    lost_told: Lost,
}

impl Read {
    fn up_to(counts: u64) -> Self {
        Self { counts, kept: counts, ..Self::default() }
    }

    /// Hands on the entries of `log` that were not told yet, and counts those between that it no longer holds.
    fn take(&mut self, log: &LineageLog, mut tell: impl FnMut(&LineageEntry)) {
        let (from, to) = (written(self.counts), written(log.counts));
        let new = to.wrapping_sub(from);
        if new == 0 || new > u32::MAX / 2 {
            // A later log was told before this one.
            return;
        }
        let held = u32::try_from(LINEAGE_ENTRIES).unwrap_or(u32::MAX).min(new);
        let (mut made, mut ended) = (0, 0);
        for number in (0..held).map(|nth| to.wrapping_sub(held).wrapping_add(nth)) {
            let place = usize::try_from(number).unwrap_or_default() % LINEAGE_ENTRIES;
            // Another number: overwritten while it was copied.
            if let Some(entry) = log.entries.get(place).filter(|entry| entry.number == number) {
                *(if entry.child == 0 { &mut ended } else { &mut made }) += 1;
                tell(entry);
            }
        }
        let forks = forks(log.counts).wrapping_sub(forks(self.counts));
        self.lost.forks += u64::from(forks.saturating_sub(made));
        self.lost.exits += u64::from(new.saturating_sub(forks).saturating_sub(ended));
        self.counts = log.counts;
    }
}

#[cfg(test)]
mod tests {
    use breachline_abi::process::counted;
    use proptest::prelude::*;
    use zerocopy::FromZeros as _;

    use super::*;

    /// A processor that writes its log as the kernel half does.
    struct Processor(LineageLog);

    impl Processor {
        /// Writes one more entry; the log where it is full.
        fn write(&mut self, fork: bool) -> Option<LineageLog> {
            let number = written(self.0.counts);
            let child = if fork { number.wrapping_add(1) | 1 } else { 0 };
            let place = number as usize % LINEAGE_ENTRIES;
            self.0.entries[place] = LineageEntry { child, number, pid: number, ..LineageEntry::default() };
            self.0.counts = counted(self.0.counts, fork);
            (place == LINEAGE_ENTRIES - 1).then_some(self.0)
        }
    }

    fn numbers(read: &mut Read, log: &LineageLog) -> Vec<u32> {
        let mut told = Vec::new();
        read.take(log, |entry| told.push(entry.number));
        told
    }

    #[test]
    fn a_look_and_a_record_tell_the_same_entry_once() {
        let (mut processor, mut read) = (Processor(LineageLog::new_zeroed()), Read::default());
        for _ in 0..3 {
            processor.write(false);
        }
        let look = processor.0;
        assert_eq!(numbers(&mut read, &look), [0, 1, 2]);
        let record = (3..32).find_map(|_| processor.write(true)).expect("full");
        assert_eq!(numbers(&mut read, &record), (3..32).collect::<Vec<_>>());
        assert_eq!(numbers(&mut read, &look), [] as [u32; 0], "a look from before");
        assert_eq!(read.lost, Lost::default());
    }

    #[test]
    fn what_is_overwritten_unread_is_lost() {
        let (mut processor, mut read) = (Processor(LineageLog::new_zeroed()), Read::default());
        for number in 0..72 {
            processor.write(number < 5);
        }
        assert_eq!(numbers(&mut read, &processor.0), (40..72).collect::<Vec<_>>());
        assert_eq!(read.lost, Lost { forks: 5, exits: 35 });
    }

    #[test]
    fn an_entry_overwritten_during_the_copy_is_left_out() {
        let (mut processor, mut read) = (Processor(LineageLog::new_zeroed()), Read::default());
        for _ in 0..32 {
            processor.write(false);
        }
        let mut torn = processor.0;
        torn.entries[0].number = 32;
        assert_eq!(numbers(&mut read, &torn), (1..32).collect::<Vec<_>>());
        assert_eq!(read.lost, Lost { forks: 0, exits: 1 });
    }

    #[test]
    fn numbers_wrap() {
        let start = u64::from(u32::MAX - 2) << 32 | u64::from(u32::MAX - 2);
        let (mut processor, mut read) = (Processor(LineageLog::new_zeroed()), Read::up_to(start));
        processor.0.counts = start;
        for _ in 0..6 {
            processor.write(true);
        }
        assert_eq!(numbers(&mut read, &processor.0).len(), 6);
        assert_eq!(read.lost, Lost::default());
    }

    proptest! {
        /// Whatever is read when, and whichever records find no room: every entry is told once or counted as lost.
        #[test]
        fn written_is_told_and_lost(steps in proptest::collection::vec((any::<bool>(), 0_u8..6, any::<bool>()), 1..400)) {
            let (mut processor, mut read) = (Processor(LineageLog::new_zeroed()), Read::default());
            let (mut ring, mut told) = (Vec::new(), Vec::new());
            for (fork, look, room) in steps {
                ring.extend(processor.write(fork).filter(|_| room));
                if look == 0 {
                    let look = processor.0;
                    for log in ring.drain(..).chain([look]) {
                        told.extend(numbers(&mut read, &log));
                    }
                }
            }
            for log in ring.into_iter().chain([processor.0]) {
                told.extend(numbers(&mut read, &log));
            }
            prop_assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "once, in order");
            let all = u64::from(written(processor.0.counts));
            prop_assert_eq!(told.len() as u64 + read.lost.forks + read.lost.exits, all);
        }
    }
}
