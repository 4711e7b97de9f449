//! The kernel door: load the BPF object, attach, read the rings, report a verdict per sense.
//!
//! Comes in: the running kernel. Goes out: [`HostEvent`]s in order of time within a batch, [`Loss`]es,
//! [`SenseVerdict`]s. Never: interprets an event. What is missing is said, never guessed.
//!
//! The kernel half wakes nobody for ordinary records ([`Sensor::ready`] looks on a short timer); memory is bounded by
//! the two rings.

mod attach;
mod cost;
mod filters;
mod floor;
mod layout;
mod lineage;
mod memory;
mod notes;
mod pins;
mod programs;
mod resume;
mod rings;
mod timer;
mod uninstall;
mod verdict;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::programs::ProgramFd;
use aya::{Ebpf, EbpfLoader};
use breachline_abi::control::CONTACT_WAYS;
use breachline_abi::limits;
use serde::{Deserialize, Serialize};
use zerocopy::IntoBytes as _;

pub use self::cost::{ProgramCost, ProgramLoad};
pub use self::floor::Floor;
use self::layout::Layout;
pub use self::memory::KernelMemory;
use self::pins::Pins;
use self::resume::Previous;
pub use self::resume::RESTART;
use self::rings::Rings;
pub use self::rings::{Counters, SenseCounters};
pub use self::uninstall::{PinError, Uninstalled, uninstall};
pub use self::verdict::{SenseState, SenseVerdict, probe};
use crate::decode::BootClock;
use crate::event::{HostEvent, Loss};

/// Where a kernel built with `CONFIG_DEBUG_INFO_BTF` (5.4 and later) describes its own types.
const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// The kernel half, built by `build.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("BREACHLINE_BPF_OBJECT"));

/// What may be set about the senses.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes of the ring for evidence that a chain hangs on; rounded up to a power of two of at least a page.
    pub priority_ring_bytes: u32,
    /// Bytes of the ring for everything else; likewise.
    pub bulk_ring_bytes: u32,
    /// First contacts remembered in the kernel (64 to 1,048,576, rounded up to a power of two; 16 bytes each). One that
    /// was not met for long is forgotten when its place is needed, its next contact counts as first again.
    pub contacts: u32,
    /// Longest time a record waits in a ring before it is read (1 to 1000 ms). Shorter costs CPU at rest.
    #[serde(with = "crate::config::duration")]
    pub drain_interval: Duration,
    /// Whether the senses outlive the agent: they go on filling the rings while it restarts, and the next one reads on.
    pub pin: bool,
    /// Where they are kept; its parent must be a BPF file system (/sys/fs/bpf is mounted where it is not).
    pub pin_directory: PathBuf,
    /// How often each sense is triggered by a child of the agent and its record waited for, the first time at start; 0
    /// switches it off.
    #[serde(with = "crate::config::duration")]
    pub self_check: Duration,
    /// Metadata endpoints beside the built-in ones; port 0 stands for every port. No key of its own: taken from
    /// `host.metadata_endpoints`, so that kernel and judge never differ.
    #[serde(skip)]
    pub metadata_endpoints: Vec<SocketAddr>,
    /// Most detailed level of the kernel half's own diagnostics: 0 off, 1 errors to 5 everything.
    pub log_level: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            priority_ring_bytes: limits::PRIORITY_RING_BYTES,
            bulk_ring_bytes: limits::BULK_RING_BYTES,
            contacts: limits::CONTACT_ENTRIES,
            drain_interval: Duration::from_millis(20),
            pin: true,
            pin_directory: PathBuf::from("/sys/fs/bpf/breachline"),
            self_check: Duration::from_secs(600),
            metadata_endpoints: Vec::new(),
            log_level: 0,
        }
    }
}

/// Why the senses cannot work. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel does not describe its types.
    #[error("{path}: {reason}; the kernel must be built with CONFIG_DEBUG_INFO_BTF (5.10 or later)", path = path.display())]
    NoBtf {
        /// Where it was looked for.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A field without which no process can be told from another.
    #[error(
        "this kernel's BTF has no {0}; no process could be identified, so the sensor does not start: report the kernel version"
    )]
    NoIdentity(&'static str),
    /// The kernel refuses BPF.
    #[error(
        "the kernel refuses to load BPF programs ({0}); run as root or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
    )]
    NotPermitted(io::Error),
    /// The object could not be loaded.
    #[error("the BPF object cannot be loaded: {0}")]
    Load(#[source] Box<aya::EbpfError>),
    /// A map is missing or cannot be used.
    #[error("BPF map {name} cannot be used: {reason}")]
    Map {
        /// Its name in the object.
        name: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// The rings could not be read again and again.
    #[error("no timer can be made: {0}; the limit of open files may be reached")]
    Timer(#[source] io::Error),
    /// The one sense nothing works without.
    #[error("the exec sense cannot be attached: {0}")]
    NoExec(String),
}

/// The attached senses. Dropping it detaches them, unless they are kept for the next agent.
pub struct Sensor {
    rings: Rings,
    /// Senses that these took the place of, until their rings are empty.
    previous: Option<Previous>,
    /// What those could not tell.
    gap: Option<Loss>,
    /// When an earlier agent last looked, nanoseconds since boot.
    resumed: Option<u64>,
    verdicts: Vec<SenseVerdict>,
    /// Hands the kernel half's own diagnostics to the agent's log.
    flush_log: Option<Box<dyn FnMut() + Send>>,
    /// The programs by name, to ask what they cost.
    programs: Vec<(String, ProgramFd)>,
    /// What the kernel made of each; empty where they were taken over.
    loads: Vec<ProgramLoad>,
    /// Programs and links that this agent loaded: unless they are kept, the senses end without it.
    ebpf: Option<Ebpf>,
    /// Says that an agent lives; lets the next one in when dropped.
    pins: Option<Pins>,
}

impl Sensor {
    /// Loads and attaches every sense this kernel allows, for as long as the answer lives. A sense that cannot be attached
    /// is a verdict; only without exec there is nothing to run for. [`Sensor::start`] lets them outlive the agent.
    ///
    /// Must be called within a tokio runtime (the rings' descriptors are registered with it).
    ///
    /// # Errors
    ///
    /// [`KernelError`], each with its remedy.
    pub fn load(config: &Config) -> Result<Self, KernelError> {
        let layout = known_layout()?;
        Self::attach(load_object(config, &layout)?, config, &layout)
    }

    fn attach(mut ebpf: Ebpf, config: &Config, layout: &Layout) -> Result<Self, KernelError> {
        let flush_log = if config.log_level > 0 { log_flusher(&mut ebpf) } else { None };
        let map = |name: &str| ebpf.take_map(name).ok_or_else(|| "not in the object".to_owned());
        let rings = Rings::open(map, config.drain_interval)?;
        let attached = attach::all(&mut ebpf)?;
        let verdicts = verdict::from_attached(&attached, &layout.missing);
        if let Some(reason) = verdict::exec_refused(&verdicts) {
            return Err(KernelError::NoExec(reason));
        }
        let programs = cost::descriptors(&ebpf);
        let loads = cost::loads(&ebpf, &attached);
        let (previous, gap, resumed) = (None, None, None);
        Ok(Self { rings, previous, gap, resumed, verdicts, flush_log, programs, loads, ebpf: Some(ebpf), pins: None })
    }

    /// What each sense can do here.
    #[must_use]
    pub fn verdicts(&self) -> &[SenseVerdict] {
        &self.verdicts
    }

    /// Waits until the rings should be read: woken evidence, or the drain timer, which runs faster while there is much
    /// to read.
    pub async fn ready(&mut self) {
        self.rings.ready().await;
    }

    /// Moves what the rings hold to `out`, oldest first within this batch. At most 8,192 records a call,
    /// so that a flood cannot hold the caller. Returns how many were added.
    ///
    /// Records of both rings are put in order of their time; a record that was still being written by another CPU comes
    /// with the next batch. A fork bears its own time, an exit that of this call, or of when its processor's log was full.
    pub fn drain(&mut self, clock: BootClock, out: &mut Vec<HostEvent>) -> usize {
        if let Some(flush) = &mut self.flush_log {
            flush();
        }
        let before = self.previous.as_mut().map_or(0, |previous| previous.drain(clock, out));
        if before > 0 { before } else { self.rings.drain(clock, out) }
    }

    /// Records the kernel half could not hand over since the last call, by sense; empty when nothing was lost.
    ///
    /// The first call after senses were taken over tells what was lost while no agent read, see [`Sensor::resumed`].
    pub fn losses(&mut self) -> Vec<Loss> {
        let mut losses: Vec<Loss> = self.gap.take().into_iter().collect();
        // Asked for once: its programs are gone, its records are read by the time the first second is over.
        if let Some(mut previous) = self.previous.take_if(|previous| previous.is_read()) {
            losses.extend(previous.rings.losses());
        }
        losses.extend(self.rings.losses());
        losses
    }

    /// When an earlier agent last looked (nanoseconds since boot), where these senses or their records were taken over from
    /// one: since then, records may have been lost unread. Told once.
    pub fn resumed(&mut self) -> Option<u64> {
        self.resumed.take()
    }

    /// Counters since load.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.rings.counters()
    }

    /// What it took to load each program; empty for senses taken over from an earlier agent.
    #[must_use]
    pub fn loads(&self) -> &[ProgramLoad] {
        &self.loads
    }

    /// Kernel memory of the senses; zeros where they were taken over from an earlier agent.
    #[must_use]
    pub fn memory(&self) -> KernelMemory {
        self.ebpf.as_ref().map(memory::read).unwrap_or_default()
    }

    /// What each program costs, while the kernel counts it.
    #[must_use]
    pub fn costs(&self) -> Vec<ProgramCost> {
        cost::read(&self.programs)
    }
}

/// The running kernel's layout, if processes can be told apart by it; without what its verifier takes minutes over: before
/// 6.4 it follows every path through a walk over all descriptors.
fn known_layout() -> Result<Layout, KernelError> {
    let mut layout = Layout::read(Path::new(BTF_PATH))?;
    if !attach::kernel_at_least(6, 4) {
        layout.leave_out("fdtable.open_fds");
    }
    match verdict::missing_identity(&layout.missing) {
        Some(field) => Err(KernelError::NoIdentity(field)),
        None => Ok(layout),
    }
}

/// Loads the object and fills its tables; no program runs yet.
fn load_object(config: &Config, layout: &Layout) -> Result<Ebpf, KernelError> {
    let mut ebpf = load_maps(config, layout)?;
    programs::fill(&mut ebpf)?;
    attach::fill_metadata(&mut ebpf, &config.metadata_endpoints)?;
    Ok(ebpf)
}

fn load_maps(config: &Config, layout: &Layout) -> Result<Ebpf, KernelError> {
    let mut parameters = layout.parameters;
    parameters.current_task_btf = u32::from(attach::kernel_at_least(5, 11));
    parameters.task_registers = u32::from(attach::kernel_at_least(5, 15));
    parameters.bulk_wake_bytes = ring_bytes(config.bulk_ring_bytes) / 4;
    parameters.priority_crowded_bytes = ring_bytes(config.priority_ring_bytes) / 2;
    parameters.wake_interval_us = 2000;
    let sets = contact_sets(config.contacts);
    parameters.contact_set_mask = sets - 1;
    let seed = RandomState::new().build_hasher().finish();
    [parameters.contact_seed_low, parameters.contact_seed_high] = halves(seed);
    // All that may ever be online. Where it cannot be told, forks and exits of the first alone are told.
    let processors = aya::util::nr_cpus().ok().and_then(|count| u32::try_from(count).ok()).unwrap_or(1);
    let mut loader = EbpfLoader::new();
    loader
        .override_global("PARAMETERS", parameters.as_bytes(), true)
        .override_global("AYA_LOG_LEVEL", &config.log_level, false)
        .map_max_entries("PRIORITY", ring_bytes(config.priority_ring_bytes))
        .map_max_entries("BULK", ring_bytes(config.bulk_ring_bytes))
        .map_max_entries("CONTACTS", sets)
        .map_max_entries("LAST_CONNECT", processors)
        .map_max_entries("LINEAGE", processors)
        .map_max_entries("LINEAGE_TOLD", processors);
    loader.load(OBJECT).map_err(|error| match refused(&error) {
        Some(refused) => KernelError::NotPermitted(refused),
        None => KernelError::Load(Box::new(error)),
    })
}

/// Diagnostics are a help, not a need: without their ring the senses work as well.
fn log_flusher(ebpf: &mut Ebpf) -> Option<Box<dyn FnMut() + Send>> {
    match aya_log::EbpfLogger::init(ebpf) {
        Ok(mut logger) => Some(Box::new(move || logger.flush())),
        Err(error) => {
            tracing::warn!(%error, "the kernel half's diagnostics cannot be read");
            None
        }
    }
}

/// Lower and upper half.
fn halves(number: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// Places of the contact table: a power of two, so that a place is some bits of a hash.
fn contact_sets(contacts: u32) -> u32 {
    contacts.clamp(64, 1 << 20).next_power_of_two() / CONTACT_WAYS
}

/// A ring's size as the kernel wants it: a power of two and whole pages.
fn ring_bytes(asked: u32) -> u32 {
    asked.clamp(4096, 1 << 30).next_power_of_two()
}

/// The EPERM or EACCES somewhere in an error's causes.
fn refused(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::PermissionDenied
        {
            return Some(io::Error::from(io.kind()));
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_sizes_are_what_the_kernel_takes() {
        let check = |asked: u32, expected: u32| assert_eq!(ring_bytes(asked), expected, "{asked}");
        check(0, 4096);
        check(4097, 8192);
        check(4 << 20, 4 << 20);
        check(u32::MAX, 1 << 30);
    }

    #[test]
    fn contact_places_are_a_power_of_two() {
        let check = |contacts: u32, expected: u32| assert_eq!(contact_sets(contacts), expected, "{contacts}");
        check(0, 16);
        check(65_536, 16_384);
        check(65_537, 32_768);
        check(u32::MAX, 1 << 18);
    }

    #[test]
    fn the_default_config_reads_back() {
        let text = toml::to_string(&Config::default()).expect("written");
        assert_eq!(toml::from_str::<Config>(&text).expect("read"), Config::default());
        assert!(toml::from_str::<Config>("ring = 1").is_err(), "unknown keys are refused");
    }
}
