//! How many different things were seen, in 64 bytes: a HyperLogLog (Flajolet et al. 2007) with linear counting for small
//! numbers. Adding twice, or in another order, changes nothing; that is why rates here are sketches and not counters.

use serde::{Deserialize, Serialize};

const REGISTERS: usize = 64;

/// A set of fingerprints that only remembers about how many they were (standard error 13 %, near exact below 20).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Distinct([[u8; 32]; 2]);

impl Distinct {
    /// Adds one fingerprint; whether that changed anything.
    pub(super) fn add(&mut self, fingerprint: u64) -> bool {
        let register = (fingerprint & 63) as usize;
        let rest = fingerprint >> 6;
        #[expect(clippy::cast_possible_truncation, reason = "at most 59")]
        let rank = (rest.trailing_zeros().min(58) + 1) as u8;
        let slot = &mut self.0[register / 32][register % 32];
        let changed = *slot < rank;
        *slot = (*slot).max(rank);
        changed
    }

    /// About how many were added.
    pub(super) fn estimate(&self) -> f64 {
        let registers = self.0.iter().flatten();
        let empty = registers.clone().filter(|rank| **rank == 0).count();
        let size = REGISTERS as f64;
        // Halves of halves as whole numbers of 2^-64: exact in any order, and quicker than powers.
        let harmonic: u128 = registers.map(|rank| 1_u128 << (64 - u32::from(*rank).min(64))).sum();
        let raw = 0.709 * size * size / (harmonic as f64 / 18_446_744_073_709_551_616.0);
        if raw <= 2.5 * size && empty > 0 { size * (size / empty as f64).ln() } else { raw }
    }

    /// [`Distinct::estimate`] as a whole number.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative; saturates")]
    pub(super) fn count(&self) -> u64 {
        self.estimate().round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint;
    use super::*;

    #[test]
    fn estimates_what_was_added() {
        let check = |added: u64, tolerance: f64| {
            let mut sketch = Distinct::default();
            for _ in 0..2 {
                for n in 0..added {
                    sketch.add(fingerprint::of(&n));
                }
            }
            let off = (sketch.estimate() - added as f64).abs();
            assert!(off <= tolerance * added as f64 + 0.6, "{added}: {}", sketch.estimate());
        };
        check(0, 0.0);
        check(1, 0.0);
        check(5, 0.2);
        check(100, 0.4);
        check(100_000, 0.4);
    }
}
