//! The table of programs and their hooks: load each, attach it, say what the kernel answered.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use aya::maps::{HashMap, MapData};
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError};
use aya::util::KernelVersion;
use aya::{Btf, Ebpf};
use breachline_abi::control::MetadataPorts;
use breachline_abi::filter::FILTER_METADATA;
use nix::sys::signal::{SigSet, SigmaskHow};
use zerocopy::IntoBytes as _;

use super::{KernelError, filters};
use crate::{clock, metadata};

/// Programs on BTF tracepoints. They bear their tracepoints' names.
const TRACEPOINTS: [&str; 5] =
    ["sched_process_exec", "sched_process_fork", "sched_process_exit", "inet_sock_set_state", "cap_capable"];
/// Programs on the root of the cgroup v2 hierarchy.
const CGROUP_HOOKS: [&str; 8] =
    ["connect4", "connect6", "sendmsg4", "sendmsg6", "sent", "received", "raw_socket", "released"];
/// The packet program that looks at what comes in; the other one looks at what goes out.
const INGRESS: &str = "received";

/// Attempts to load a program: a signal in the middle of verifying is no refusal, five in a row are.
const LOAD_ATTEMPTS: u32 = 5;

/// What came of one program.
#[derive(Debug)]
pub(super) struct Attached {
    /// Its name in the object.
    pub(super) program: &'static str,
    /// Why not, if not.
    pub(super) outcome: Result<(), String>,
    /// How long the kernel took to check and translate it, where it was loaded now.
    pub(super) loading: Option<Duration>,
}

impl Attached {
    fn new(program: &'static str, outcome: Result<Duration, String>) -> Self {
        let loading = outcome.as_ref().ok().copied();
        Self { program, outcome: outcome.map(drop), loading }
    }
}

/// Names of all programs.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TRACEPOINTS.into_iter().chain(CGROUP_HOOKS)
}

/// Loads and attaches every program.
///
/// # Errors
///
/// [`KernelError::NoBtf`] when the kernel's types cannot be read; a program that is refused is in the answer instead.
pub(super) fn all(ebpf: &mut Ebpf) -> Result<Vec<Attached>, KernelError> {
    // Dropped at the end: it holds every type of the kernel.
    let btf = Btf::from_sys_fs()
        .map_err(|error| KernelError::NoBtf { path: PathBuf::from(super::BTF_PATH), reason: error.to_string() })?;
    let mut attached: Vec<Attached> = Vec::new();
    for program in TRACEPOINTS {
        attached.push(Attached::new(program, tracepoint(ebpf, program, program, &btf)));
    }
    let cgroup = open_cgroup_root();
    for program in CGROUP_HOOKS {
        let outcome = cgroup.as_ref().map_err(Clone::clone).and_then(|root| cgroup_hook(ebpf, program, root));
        attached.push(Attached::new(program, outcome));
    }
    Ok(attached)
}

/// Programs that do nothing, and their tracepoints.
const FLOOR: [(&str, &str); 4] = [
    ("floor_exec", "sched_process_exec"),
    ("floor_fork", "sched_process_fork"),
    ("floor_exit", "sched_process_exit"),
    ("floor_sock_state", "inet_sock_set_state"),
];

/// Loads and attaches the programs that do nothing.
///
/// # Errors
///
/// [`KernelError::NoBtf`], or [`KernelError::NoExec`] with the refusal.
pub(super) fn floor(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    let btf = Btf::from_sys_fs()
        .map_err(|error| KernelError::NoBtf { path: PathBuf::from(super::BTF_PATH), reason: error.to_string() })?;
    for (program, hook) in FLOOR {
        tracepoint(ebpf, program, hook, &btf).map_err(KernelError::NoExec)?;
    }
    let root = open_cgroup_root().map_err(KernelError::NoExec)?;
    cgroup_hook(ebpf, "floor_connect4", &root).map(drop).map_err(KernelError::NoExec)
}

/// How long loading took; or why it is not attached.
fn tracepoint(ebpf: &mut Ebpf, name: &str, hook: &str, btf: &Btf) -> Result<Duration, String> {
    let Some(Program::BtfTracePoint(program)) = ebpf.program_mut(name) else {
        return Err("not in the object".to_owned());
    };
    let took = load(|| program.load(hook, btf))?;
    program.attach().map(|_| took).map_err(|error| said(&error))
}

/// Loads a program, again when the verifier was interrupted all the same (EAGAIN); how long the last attempt took.
fn load(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<Duration, String> {
    for attempt in 1.. {
        let before = clock::since_boot();
        match undisturbed(&mut load) {
            Err(ProgramError::LoadError { io_error, .. })
                if attempt < LOAD_ATTEMPTS && io_error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => {
                return outcome.map(|()| clock::since_boot().saturating_sub(before)).map_err(|error| said(&error));
            }
        }
    }
    Err("interrupted".to_owned())
}

/// Does this with no signal let through to this thread. The verifier gives up (EAGAIN) as soon as one is pending, and looks at the
/// larger programs for a fifth of a second: children that end every millisecond would interrupt each attempt.
fn undisturbed<T>(work: impl FnOnce() -> T) -> T {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let outcome = work();
    if let Ok(before) = before {
        // What was a mask before is one still.
        let _ = before.thread_set_mask();
    }
    outcome
}

fn cgroup_hook(ebpf: &mut Ebpf, name: &str, root: &File) -> Result<Duration, String> {
    // Links stand beside those of other programs by nature; asking for it is EINVAL. Before 5.7 there are no links, and
    // other programs stay only if asked for.
    let mode = if kernel_at_least(5, 7) { CgroupAttachMode::Single } else { CgroupAttachMode::AllowMultiple };
    match ebpf.program_mut(name) {
        Some(Program::CgroupSockAddr(program)) => {
            let took = load(|| program.load())?;
            program.attach(root, mode).map(|_| took).map_err(|error| said(&error))
        }
        Some(Program::CgroupSkb(program)) => {
            let took = load(|| program.load())?;
            let way = if name == INGRESS { CgroupSkbAttachType::Ingress } else { CgroupSkbAttachType::Egress };
            program.attach(root, way, mode).map(|_| took).map_err(|error| said(&error))
        }
        Some(Program::CgroupSock(program)) => {
            let took = load(|| program.load())?;
            program.attach(root, mode).map(|_| took).map_err(|error| said(&error))
        }
        _ => Err("not in the object".to_owned()),
    }
}

/// Lines of a verifier log that sum up instead of saying why; the last since Linux 7.3.
const SUMMARY: [&str; 4] = ["processed ", "stack depth ", "verification time ", "subprog "];

/// What the kernel answered, in one line. Of the verifier's log the last line says why; the whole goes to the debug
/// level.
fn said(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            tracing::debug!(verifier_log = %log, "a program was refused");
            format!("{io_error} ({})", why(&log).unwrap_or("the verifier said nothing"))
        }
        ProgramError::SyscallError(error) => format!("{}: {}", error.call, error.io_error),
        other => other.to_string(),
    }
}

/// How the report begins that kernels of about 7.3 put behind the verifier's own words (seen on Debian's 7.3.4): source,
/// instructions and a suggestion, over many lines.
const REPORT: &str = "\nVerification failed: ";

/// The line of a verifier's log that says why: the last one before any report that does not sum up.
fn why(log: &str) -> Option<&str> {
    let sums_up = |line: &&str| line.is_empty() || SUMMARY.iter().any(|summary| line.starts_with(summary));
    let words = log.split_once(REPORT).map_or(log, |(words, _)| words);
    words.lines().rev().find(|line| !sums_up(line))
}

/// Opens the root of the cgroup v2 hierarchy, wherever it is mounted (hybrid hosts have it beside the v1 hierarchies).
fn open_cgroup_root() -> Result<File, String> {
    let mounts =
        std::fs::read_to_string("/proc/self/mountinfo").map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
    let root = cgroup2_mount(&mounts)
        .ok_or("no cgroup v2 hierarchy is mounted: `mount -t cgroup2 none /sys/fs/cgroup` or another directory")?;
    File::open(&root).map_err(|error| format!("{}: {error}", root.display()))
}

/// Mount point of a cgroup v2 hierarchy whose root is visible (`/` or, from within a cgroup namespace, above it), from
/// the text of `/proc/self/mountinfo` (proc(5): mount point is field 5, the file system's type follows the lone dash).
fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        (filesystem.split(' ').next()? == "cgroup2").then(|| PathBuf::from(unescape(point)))
    })
}

/// Blanks in mount points are written `\040`.
fn unescape(point: &str) -> String {
    point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Whether the running kernel is at least this version.
pub(super) fn kernel_at_least(major: u8, minor: u8) -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(major, minor, 0))
}

/// Fills the kernel half's table of metadata endpoints.
///
/// # Errors
///
/// [`KernelError::Map`] when the table is full.
pub(super) fn fill_metadata(ebpf: &mut Ebpf, extra: &[SocketAddr]) -> Result<(), KernelError> {
    const NAME: &str = "METADATA";
    let failed = |reason: String| KernelError::Map { name: NAME, reason };
    let map = ebpf.map_mut(NAME).ok_or_else(|| failed("not in the object".to_owned()))?;
    let mut map: HashMap<&mut MapData, [u8; 16], [u8; size_of::<MetadataPorts>()]> =
        HashMap::try_from(map).map_err(|error| failed(error.to_string()))?;
    let endpoints = metadata_ports(extra);
    for (address, ports) in &endpoints {
        let mut value = [0; size_of::<MetadataPorts>()];
        value.copy_from_slice(ports.as_bytes());
        map.insert(address.octets(), value, 0).map_err(|error| failed(format!("{address}: {error}")))?;
    }
    filters::add(ebpf, FILTER_METADATA, endpoints.keys().map(Ipv6Addr::octets))
}

/// The built-in endpoints and the config's, by address. Port 0 stands for every port; so does more ports than an entry
/// holds.
pub(super) fn metadata_ports(extra: &[SocketAddr]) -> BTreeMap<Ipv6Addr, MetadataPorts> {
    let built_in = metadata::ENDPOINTS.iter().flat_map(|endpoint| {
        let ports = if endpoint.ports.is_empty() { &[0] } else { endpoint.ports };
        ports.iter().map(|port| SocketAddr::new(endpoint.address, *port))
    });
    let mut by_address: BTreeMap<Ipv6Addr, MetadataPorts> = BTreeMap::new();
    for endpoint in built_in.chain(extra.iter().copied()) {
        let address = match metadata::canonical(endpoint.ip()) {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let entry = by_address.entry(address).or_default();
        let port = endpoint.port().to_be();
        match entry.ports.iter().position(|known| *known == 0 || *known == port) {
            Some(free) if port != 0 => entry.ports[free] = port,
            _ => entry.any = 1,
        }
    }
    by_address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_hierarchy_is_found_where_it_is_mounted() {
        let check = |mountinfo: &str, expected: Option<&str>| {
            assert_eq!(cgroup2_mount(mountinfo), expected.map(PathBuf::from), "{mountinfo}");
        };
        let hybrid = "30 29 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
                      42 29 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        check(hybrid, Some("/sys/fs/cgroup/unified"));
        check("31 24 0:27 / /sys/fs/cgroup rw shared:4 master:1 - cgroup2 none rw,nsdelegate", Some("/sys/fs/cgroup"));
        check("31 24 0:27 / /mnt/with\\040blank rw - cgroup2 none rw", Some("/mnt/with blank"));
        check("31 24 0:27 / /sys/fs/cgroup/cgroup2 rw - tmpfs tmpfs rw", None);
        check("nonsense", None);
    }

    #[test]
    fn a_verifiers_log_says_why_before_it_sums_up() {
        let check = |log: &str, expected: Option<&str>| assert_eq!(why(log), expected, "{log}");
        check("0: R1=ctx()\nunknown func bpf_probe_read#4\nprocessed 8 insns\n", Some("unknown func bpf_probe_read#4"));
        let newest = "cannot use helper bpf_probe_read#4\nprocessed 8 insns\n\
                      subprog 5 (memmove) static insns_self 0 insns_total 0 stack 0\n";
        check(newest, Some("cannot use helper bpf_probe_read#4"));
        let reported = "273: (85) call bpf_probe_read#4\ncannot use helper bpf_probe_read#4\n\n\
                        Verification failed: Policy: Operation is not allowed\n\nReason:\n  The helper is not allowed.\n\n\
                        Suggestion:\n  Use a helper allowed for this program type.\nprocessed 8 insns\n";
        check(reported, Some("cannot use helper bpf_probe_read#4"));
        check("processed 8 insns\n\n", None);
    }

    #[test]
    fn endpoints_are_keyed_in_their_canonical_form() {
        let extra = ["[::ffff:10.0.0.1]:8080", "10.0.0.1:8081", "[64:ff9b::a9fe:a9fe]:1", "10.0.0.2:0"];
        let table = metadata_ports(&extra.map(|text| text.parse().expect("address")));
        let of = |address: &str| table.get(&address.parse::<Ipv6Addr>().expect("address")).copied().unwrap_or_default();
        assert_eq!(of("::ffff:10.0.0.1").ports[..3], [8080_u16.to_be(), 8081_u16.to_be(), 0]);
        assert!(of("::ffff:169.254.169.254").ports.contains(&80_u16.to_be()), "built in");
        assert!(of("::ffff:169.254.169.254").ports.contains(&1_u16.to_be()), "from the config");
        assert_eq!((of("::ffff:10.0.0.2").any, of("::ffff:10.0.0.1").any), (1, 0));
        assert_eq!(table.len(), metadata::ENDPOINTS.len() + 2);
    }

    #[test]
    fn more_ports_than_fit_are_every_port() {
        let many: Vec<SocketAddr> = (1..=9).map(|port| SocketAddr::from(([10, 0, 0, 1], port))).collect();
        assert_eq!(metadata_ports(&many)[&"::ffff:10.0.0.1".parse::<Ipv6Addr>().expect("address")].any, 1);
    }
}
