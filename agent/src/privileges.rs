//! After the senses are attached the agent gives up every capability it no longer needs.
//!
//! Capabilities belong to threads: call [`keep_needed`] while the process has one thread; those made later inherit the rest.

use caps::{CapSet, Capability, CapsHashSet};

/// What a running agent still does with privilege, one reason each.
const NEEDED: &[Capability] = &[
    Capability::CAP_BPF, // read the loss counters and fill maps where unprivileged bpf() is refused altogether
    Capability::CAP_SYS_PTRACE, // /proc/PID/exe and /proc/PID/ns of other users' processes
    Capability::CAP_DAC_READ_SEARCH, // edge logs and /proc entries other users own
];

/// What could not be given up.
#[derive(Debug, thiserror::Error)]
#[error("capabilities cannot be given up: {0}")]
pub struct PrivilegeError(#[from] caps::errors::CapsError);

/// Drops everything but [`NEEDED`] (as far as the process has it) from this thread's effective, permitted and inheritable
/// sets, and from the bounding set where it may. Returns what is left.
///
/// # Errors
///
/// The kernel refused to shrink a set; nothing has been gained by that, so running on is safe.
pub fn keep_needed() -> Result<Vec<String>, PrivilegeError> {
    let held = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = NEEDED.iter().copied().filter(|capability| held.contains(capability)).collect();
    if held.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::all().difference(&kept) {
            // Newer capabilities than this kernel knows cannot be dropped and need not be.
            let _ = caps::drop(None, CapSet::Bounding, *capability);
        }
    }
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    let mut names: Vec<String> = kept.iter().map(ToString::to_string).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_needed_capabilities_are_left() {
        // In a thread of its own: capabilities are per thread, the other tests keep theirs.
        let left = std::thread::spawn(|| {
            keep_needed().expect("dropping never needs privilege");
            caps::read(None, CapSet::Permitted).expect("readable")
        })
        .join()
        .expect("thread");
        assert!(left.iter().all(|capability| NEEDED.contains(capability)), "{left:?}");
    }
}
