//! User agents that were found ordinary: browsers come in few kinds, so most requests' agent was looked at before.
//!
//! A fixed table of [`SLOTS`] texts, each in the one slot that its hash names; a newcomer takes the place of what stood there. Texts are
//! compared whole, so an attacker who knows the hash can slow a look-up down to looking again, and no more.

/// Slots. A site sees a few hundred agents in an hour.
const SLOTS: usize = 512;

/// Longest agent that is remembered; with [`SLOTS`] it bounds the memory to 128 KiB.
const MAX_BYTES: usize = 256;

/// The memory.
#[derive(Debug, Default)]
pub(super) struct AgentMemory {
    slots: Vec<Vec<u8>>,
}

impl AgentMemory {
    /// Whether `agent` is remembered.
    pub(super) fn knows(&self, agent: &[u8]) -> bool {
        self.slots.get(slot(agent)).is_some_and(|known| known == agent && !agent.is_empty())
    }

    /// Remembers `agent`.
    pub(super) fn remember(&mut self, agent: &[u8]) {
        if agent.len() > MAX_BYTES {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || Vec::with_capacity(MAX_BYTES));
        }
        if let Some(place) = self.slots.get_mut(slot(agent)) {
            place.clear();
            place.extend_from_slice(agent);
        }
    }
}

/// Folds eight bytes at a time with a multiplication by an odd constant (the golden ratio in 64 bits).
fn slot(agent: &[u8]) -> usize {
    let fold = |sum: u64, chunk: u64| (sum.rotate_left(5) ^ chunk).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let (chunks, rest) = agent.as_chunks::<8>();
    let sum = chunks.iter().fold(agent.len() as u64, |sum, chunk| fold(sum, u64::from_le_bytes(*chunk)));
    let sum = rest.iter().fold(sum, |sum, byte| fold(sum, u64::from(*byte)));
    usize::try_from(sum >> 32).unwrap_or_default() % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_known_until_it_is_displaced() {
        let mut memory = AgentMemory::default();
        assert!(!memory.knows(b"") && !memory.knows(b"agent/1"));
        memory.remember(b"agent/1");
        assert!(memory.knows(b"agent/1") && !memory.knows(b"agent/2"));
        for number in 0..100_000 {
            memory.remember(format!("agent/{number} of many").as_bytes());
        }
        assert!(!memory.knows(b"agent/1"), "displaced by one of so many");
        memory.remember(&[b'x'; MAX_BYTES + 1]);
        assert!(!memory.knows(&[b'x'; MAX_BYTES + 1]));
    }
}
