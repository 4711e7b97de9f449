//! Which reading is settled. In: reads, numbered as they come; the batches that their lines lie in. Out: the positions
//! up to which everything was taken, which may be remembered.
//!
//! A read is settled when neither it nor any read before it has a line in a batch that is open or under way. So a cursor
//! never moves past a line that could still be lost.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cursors::Position;

/// Marks kept before those are put together that can only be settled at the same time: a destination that takes nothing
/// for hours holds up settling, not reading.
const MARKS_MAX: usize = 4096;

/// Batches that hold lines, by the first read they hold a line of. Shared by the packer and those who deliver.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    next: u64,
    batches: BTreeMap<u64, usize>,
}

impl Ledger {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of a new read.
    pub(super) fn begin(&self) -> u64 {
        let mut held = self.held();
        held.next += 1;
        held.next
    }

    /// A batch was opened in the read `number`.
    pub(super) fn hold(&self, number: u64) {
        *self.held().batches.entry(number).or_default() += 1;
    }

    /// A batch that was opened in the read `number` is done with.
    pub(super) fn release(&self, number: u64) {
        let mut held = self.held();
        if let Some(count) = held.batches.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                held.batches.remove(&number);
            }
        }
    }

    /// Reads with a lower number are settled, once they are over.
    fn settled(&self) -> u64 {
        let held = self.held();
        held.batches.keys().next().copied().unwrap_or(held.next + 1)
    }

    fn first_reads(&self) -> Vec<u64> {
        self.held().batches.keys().copied().collect()
    }

    /// Batches open or under way.
    pub(super) fn batches(&self) -> usize {
        self.held().batches.values().sum()
    }
}

/// A source, and how far it was read.
pub(super) type Mark = (Arc<str>, Position);

/// Positions that wait to be settled.
#[derive(Debug, Default)]
pub(super) struct Marks {
    waiting: VecDeque<(u64, Mark)>,
    compact_at: usize,
}

impl Marks {
    /// The read `number` is over and reached that far.
    pub(super) fn push(&mut self, number: u64, mark: Mark, ledger: &Ledger) {
        self.waiting.push_back((number, mark));
        if self.waiting.len() >= self.compact_at.max(MARKS_MAX) {
            self.compact(&ledger.first_reads());
            self.compact_at = 2 * self.waiting.len();
        }
    }

    /// The settled positions, the latest of each source; they are no longer waited for.
    pub(super) fn settle(&mut self, ledger: &Ledger) -> BTreeMap<Arc<str>, Position> {
        let settled = ledger.settled();
        let mut positions = BTreeMap::new();
        while self.waiting.front().is_some_and(|(number, _)| *number < settled) {
            positions.extend(self.waiting.pop_front().map(|(_, mark)| mark));
        }
        positions
    }

    /// Of the marks between two reads that batches begin with, only the last of each source counts.
    fn compact(&mut self, first_reads: &[u64]) {
        let mut seen = HashSet::new();
        let mut kept = VecDeque::new();
        for (number, mark) in self.waiting.drain(..).rev() {
            let gap = first_reads.partition_point(|first| *first <= number);
            if seen.insert((gap, Arc::clone(&mark.0))) {
                kept.push_front((number, mark));
            }
        }
        self.waiting = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(source: &str, size: u64) -> Mark {
        (source.into(), Position { size, ..Position::default() })
    }

    fn sizes(marks: &mut Marks, ledger: &Ledger) -> Vec<(String, u64)> {
        marks.settle(ledger).into_iter().map(|(source, position)| (source.to_string(), position.size)).collect()
    }

    #[test]
    fn nothing_is_settled_past_a_line_under_way() {
        let (ledger, mut marks) = (Ledger::default(), Marks::default());
        let (one, two, three) = (ledger.begin(), ledger.begin(), ledger.begin());
        ledger.hold(two);
        ledger.hold(two);
        marks.push(one, mark("a", 1), &ledger);
        marks.push(two, mark("a", 2), &ledger);
        marks.push(three, mark("b", 3), &ledger);
        assert_eq!(sizes(&mut marks, &ledger), [("a".into(), 1)]);
        ledger.release(two);
        assert!(sizes(&mut marks, &ledger).is_empty());
        ledger.release(two);
        assert_eq!(ledger.batches(), 0);
        assert_eq!(sizes(&mut marks, &ledger), [("a".into(), 2), ("b".into(), 3)]);
    }

    #[test]
    fn a_stuck_batch_does_not_make_marks_pile_up() {
        let (ledger, mut marks) = (Ledger::default(), Marks::default());
        let stuck = ledger.begin();
        ledger.hold(stuck);
        for size in 0..100_000 {
            let number = ledger.begin();
            marks.push(number, mark(if size % 2 == 0 { "a" } else { "b" }, size), &ledger);
        }
        assert!(marks.waiting.len() <= MARKS_MAX, "{}", marks.waiting.len());
        ledger.release(stuck);
        assert_eq!(sizes(&mut marks, &ledger), [("a".into(), 99_998), ("b".into(), 99_999)]);
    }

    proptest::proptest! {
        /// Compared with keeping every mark: what is settled is the same, whatever is held and released when.
        #[test]
        fn putting_marks_together_settles_the_same(events in proptest::collection::vec((0_u8..4, 0_u64..3), 1..60)) {
            let (ledger, mut plain, mut compacted) = (Ledger::default(), Marks::default(), Marks::default());
            let mut held = Vec::new();
            for (size, (what, which)) in events.into_iter().enumerate() {
                match what {
                    0 => {
                        let number = ledger.begin();
                        ledger.hold(number);
                        held.push(number);
                        plain.push(number, mark("a", size as u64), &ledger);
                        compacted.push(number, mark("a", size as u64), &ledger);
                    }
                    1 if !held.is_empty() => {
                        let at = usize::try_from(which).expect("small") % held.len();
                        ledger.release(held.swap_remove(at));
                    }
                    2 => compacted.compact(&ledger.first_reads()),
                    _ => {
                        let number = ledger.begin();
                        let source = format!("s{which}");
                        plain.push(number, mark(&source, size as u64), &ledger);
                        compacted.push(number, mark(&source, size as u64), &ledger);
                    }
                }
                proptest::prop_assert_eq!(sizes(&mut plain, &ledger), sizes(&mut compacted, &ledger));
            }
        }
    }
}
