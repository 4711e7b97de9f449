//! Losses of telemetry, merged and bounded, so that an incident can name those that may have touched it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::evidence::Gap;
use crate::timestamp::Timestamp;
use crate::workload::WorkloadKey;

/// Losses remembered; the oldest goes first.
const GAPS_MAX: usize = 256;
/// Losses of one sense this close together are one.
const MERGE: Duration = Duration::from_secs(300);

/// The losses, by time.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Gaps(Vec<Gap>);

impl Gaps {
    pub(super) fn add(&mut self, gap: Gap) {
        let (from, to) = (gap.from.min(gap.to), gap.from.max(gap.to));
        let mut gap = Gap { from, to, ..gap };
        // Everything that the new one touches becomes one with it.
        self.0.retain(|known| {
            let same = known.sense == gap.sense && known.workload == gap.workload;
            let close = known.from <= gap.to.plus(MERGE) && gap.from <= known.to.plus(MERGE);
            if same && close {
                gap.from = gap.from.min(known.from);
                gap.to = gap.to.max(known.to);
                gap.count = gap.count.saturating_add(known.count);
            }
            !(same && close)
        });
        let place = self.0.partition_point(|known| *known < gap);
        self.0.insert(place, gap);
        if self.0.len() > GAPS_MAX {
            self.0.remove(0);
        }
    }

    /// Losses between `from` and `to` that `workload` may have suffered.
    pub(super) fn between(&self, from: Timestamp, to: Timestamp, workload: &WorkloadKey) -> Vec<&Gap> {
        let touches =
            |gap: &&Gap| gap.from <= to && from <= gap.to && gap.workload.as_ref().is_none_or(|w| w == workload);
        self.0.iter().filter(touches).collect()
    }

    pub(super) fn forget(&mut self, horizon: Timestamp) {
        self.0.retain(|gap| gap.to >= horizon);
    }
}
