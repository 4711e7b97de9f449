//! What each program costs, as the kernel itself counts it (`kernel.bpf_stats_enabled`, 5.1 and later), and what it cost to
//! load it.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

use aya::Ebpf;
use aya::programs::{Program, ProgramFd};

use super::attach::Attached;

/// Bytes of one BPF instruction (`struct bpf_insn`).
const INSTRUCTION_BYTES: u32 = 8;

/// Runs of one program and the time they took, since load and while counting was switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramCost {
    /// Its name in the object: the tracepoint's or the hook's.
    pub program: String,
    /// Times it ran.
    pub runs: u64,
    /// Time it took, nanoseconds.
    pub nanos: u64,
}

/// What the kernel made of one program when it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramLoad {
    /// Its name in the object.
    pub program: String,
    /// Instructions it has after the verifier's own changes.
    pub instructions: u32,
    /// Instructions the verifier went through on all paths, of the million it allows; Linux 5.16 and later tell.
    pub verified: Option<u32>,
    /// Time the kernel took for it, nearly all of it the verifier's.
    pub took: Duration,
}

/// What it took to load those that were.
pub(super) fn loads(ebpf: &Ebpf, attached: &[Attached]) -> Vec<ProgramLoad> {
    let load = |attached: &Attached| {
        let info = ebpf.program(attached.program)?.info().ok()?;
        Some(ProgramLoad {
            program: attached.program.to_owned(),
            instructions: info.size_translated()? / INSTRUCTION_BYTES,
            verified: info.verified_instruction_count(),
            took: attached.loading?,
        })
    };
    attached.iter().filter_map(load).collect()
}

/// Descriptors of every loaded program, by name. A program that is not loaded is left out.
pub(super) fn descriptors(ebpf: &Ebpf) -> Vec<(String, ProgramFd)> {
    let descriptor = |program: &Program| program.fd().ok()?.try_clone().ok();
    ebpf.programs().filter_map(|(name, program)| Some((name.to_owned(), descriptor(program)?))).collect()
}

/// What the programs behind these descriptors cost so far.
pub(super) fn read(programs: &[(String, ProgramFd)]) -> Vec<ProgramCost> {
    let cost = |(name, program): &(String, ProgramFd)| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd())).ok()?;
        Some(ProgramCost { program: name.clone(), runs: field(&info, "run_cnt")?, nanos: field(&info, "run_time_ns")? })
    };
    programs.iter().filter_map(cost).collect()
}

/// A number of a program's fdinfo: lines of `name:<tab>value`.
pub(super) fn field(fdinfo: &str, name: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_is_read_by_name() {
        let check = |name: &str, expected: Option<u64>| {
            assert_eq!(field("pos:\t0\nprog_type:\t26\nrun_time_ns:\t1234\nrun_cnt:\t7\n", name), expected, "{name}");
        };
        check("run_time_ns", Some(1234));
        check("run_cnt", Some(7));
        check("run", None);
    }
}
