//! What an earlier set of senses had noted of processes (tainted lines, lost parents), carried over to a new one before
//! it begins: an upgrade must not make an intruder's shell innocent again.

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData};
use breachline_abi::control::Orphan;
use breachline_abi::limits::NOTED_SLOTS;

use super::pins::Kept;

/// Tables by process, with the bytes of their values.
const TAINTED: (&str, usize) = ("TAINTED", size_of::<u32>());
const ORPHANS: (&str, usize) = ("ORPHANS", size_of::<Orphan>());

/// Copies what `from` has noted into `to`, whose programs do not run yet. What another layout holds is left: it is said,
/// and the senses work without.
pub(super) fn carry(from: &Kept, to: &mut Ebpf) {
    let carried = carry_table::<{ TAINTED.1 }>(TAINTED.0, from, to)
        .and_then(|tainted| Ok((tainted, carry_table::<{ ORPHANS.1 }>(ORPHANS.0, from, to)?)));
    match carried {
        Ok((tainted, orphans)) => tracing::info!(tainted, orphans, "notes of processes taken over"),
        Err(reason) => tracing::warn!(reason, "notes of processes cannot be taken over"),
    }
}

fn carry_table<const BYTES: usize>(name: &str, from: &Kept, to: &mut Ebpf) -> Result<usize, String> {
    let old: HashMap<MapData, u32, [u8; BYTES]> =
        from.map(name).map_err(said)?.try_into().map_err(|error| format!("{name}: {error}"))?;
    // The table is let go of before the places are counted: both are borrowed from one object.
    let pids = {
        let map = to.map_mut(name).ok_or_else(|| format!("{name}: not in the object"))?;
        let mut new: HashMap<&mut MapData, u32, [u8; BYTES]> = HashMap::try_from(map).map_err(said)?;
        let mut pids = Vec::new();
        for (pid, note) in old.iter().flatten() {
            new.insert(pid, note, 0).map_err(said)?;
            pids.push(pid);
        }
        pids
    };
    let noted = to.map_mut("NOTED").ok_or("NOTED: not in the object")?;
    count(noted, &pids)?;
    Ok(pids.len())
}

/// Counts each note at its process' place, without which the kernel half would not look for it.
fn count(noted: &mut Map, pids: &[u32]) -> Result<(), String> {
    let mut noted: Array<&mut MapData, u64> = Array::try_from(noted).map_err(said)?;
    for pid in pids {
        let slot = pid & (NOTED_SLOTS - 1);
        let notes = noted.get(&slot, 0).map_err(said)?;
        noted.set(slot, notes + 1, 0).map_err(said)?;
    }
    Ok(())
}

fn said(error: impl ToString) -> String {
    error.to_string()
}
