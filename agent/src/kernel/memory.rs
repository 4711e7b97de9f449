//! Kernel memory of the senses: their programs and the maps that these use, as `fdinfo` has it.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd as _};

use aya::Ebpf;
use aya::maps::MapInfo;

use super::cost::field;

/// Bytes of kernel memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KernelMemory {
    /// Of the programs' code.
    pub programs: u64,
    /// Of the maps that they use. To ask for maps by their ids takes `CAP_SYS_ADMIN`; without it they are left out.
    pub maps: u64,
}

/// Of every loaded program.
pub(super) fn read(ebpf: &Ebpf) -> KernelMemory {
    let mut maps = BTreeSet::new();
    let mut programs = 0;
    for (_, program) in ebpf.programs() {
        let (Ok(info), Ok(descriptor)) = (program.info(), program.fd()) else { continue };
        maps.extend(info.map_ids().ok().flatten().unwrap_or_default());
        programs += locked(descriptor).unwrap_or_default();
    }
    KernelMemory { programs, maps: maps.into_iter().filter_map(map).sum() }
}

fn map(id: u32) -> Option<u64> {
    locked(&MapInfo::from_id(id).ok()?.fd().ok()?)
}

fn locked(descriptor: &impl AsFd) -> Option<u64> {
    let path = format!("/proc/self/fdinfo/{}", descriptor.as_fd().as_raw_fd());
    field(&std::fs::read_to_string(path).ok()?, "memlock")
}
