//! What the senses take before they see anything: the verifier's time and work, and kernel memory.
//!
//! As the kernel itself says it: `fdinfo` of the programs and of the maps that they use. Asking for maps by their ids takes
//! `CAP_SYS_ADMIN`: meant for benchmarks.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::MapInfo;

use super::attach::Attached;
use super::cost::field;

/// One program's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFootprint {
    /// Its name in the object.
    pub program: String,
    /// Instructions that the verifier looked at, along every path; `None` before Linux 5.16.
    pub verified_instructions: Option<u64>,
    /// Time in the kernel to verify and translate it.
    pub load_time: Duration,
    /// Kernel memory of its code, bytes.
    pub bytes: u64,
}

/// All programs, and their maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Each loaded program.
    pub programs: Vec<ProgramFootprint>,
    /// Kernel memory of all maps, bytes.
    pub map_bytes: u64,
}

/// Reads it of the programs that were `attached`.
pub(super) fn read(ebpf: &Ebpf, attached: &[Attached]) -> Footprint {
    let mut footprint = Footprint::default();
    let mut maps = BTreeSet::new();
    for Attached { program: name, outcome } in attached {
        let (Some(program), Ok(load_time)) = (ebpf.program(name), outcome) else { continue };
        let (Ok(info), Ok(descriptor)) = (program.info(), program.fd()) else { continue };
        maps.extend(info.map_ids().ok().flatten().unwrap_or_default());
        let told = fdinfo(descriptor);
        footprint.programs.push(ProgramFootprint {
            program: (*name).to_owned(),
            verified_instructions: field(&told, "verified_insns"),
            load_time: *load_time,
            bytes: field(&told, "memlock").unwrap_or_default(),
        });
    }
    footprint.map_bytes = maps.into_iter().filter_map(map_bytes).sum();
    footprint
}

fn map_bytes(id: u32) -> Option<u64> {
    field(&fdinfo(&MapInfo::from_id(id).ok()?.fd().ok()?), "memlock")
}

/// What cannot be read says nothing.
fn fdinfo(descriptor: &impl AsFd) -> String {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_fd().as_raw_fd())).unwrap_or_default()
}
