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
    bytes_of_map(&fdinfo(&MapInfo::from_id(id).ok()?.fd().ok()?)?)
}

fn locked(descriptor: &impl AsFd) -> Option<u64> {
    field(&fdinfo(descriptor)?, "memlock")
}

fn fdinfo(descriptor: &impl AsFd) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_fd().as_raw_fd())).ok()
}

/// What a map takes. Linux 5.11 to 6.3 do not count but multiply entries by the size of keys and values
/// (`bpf_map_memory_footprint`): a ring, which has neither, is nothing to them, and its length is taken instead.
fn bytes_of_map(fdinfo: &str) -> Option<u64> {
    /// `BPF_MAP_TYPE_RINGBUF`.
    const RING: u64 = 27;
    match (field(fdinfo, "map_type"), field(fdinfo, "memlock")?) {
        (Some(RING), 0) => field(fdinfo, "max_entries"),
        (_, bytes) => Some(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_never_nothing() {
        let check = |kind: u32, memlock: u32, expected: u64| {
            let fdinfo = format!("pos:\t0\nmap_type:\t{kind}\nmax_entries:\t4096\nmemlock:\t{memlock}\n");
            assert_eq!(bytes_of_map(&fdinfo), Some(expected), "{kind} {memlock}");
        };
        check(27, 0, 4096);
        check(27, 16_704, 16_704);
        check(1, 8192, 8192);
        check(1, 0, 0);
        assert_eq!(bytes_of_map("pos:\t0\n"), None);
    }
}
