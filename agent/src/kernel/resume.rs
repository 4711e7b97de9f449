//! How senses begin: taken over from an earlier agent, put in the place of its senses, or new and for this agent alone.
//!
//! Taken over, nothing is missed: the rings kept what happened meanwhile. Put in place, the new programs run before the
//! old ones end; of what both saw, the old rings' records count up to that moment and the new ones' from then on.

use std::path::Path;

use zerocopy::IntoBytes as _;

use super::attach::{self, Attached};
use super::layout::Layout;
use super::pins::{Kept, PinError, Pins};
use super::rings::Rings;
use super::verdict::{self, SenseState, SenseVerdict};
use super::{Config, KernelError, OBJECT, Sensor, load_object, notes, programs};
use crate::clock;
use crate::decode::BootClock;
use crate::event::{HostEvent, Loss};

/// Name of the verdict on outliving the agent.
pub const RESTART: &str = "restart";
/// Said of a program that an earlier agent could not attach.
const NOT_ATTACHED: &str = "was refused when these senses began; `breachline uninstall` and a start try it anew";

/// Senses that new ones took the place of: their programs are gone, their rings still hold records.
pub(super) struct Previous {
    /// The rings.
    pub(super) rings: Rings,
    /// Nothing more comes.
    read: bool,
}

impl Previous {
    /// As [`Rings::drain`]; once it finds nothing, it never will.
    pub(super) fn drain(&mut self, clock: BootClock, out: &mut Vec<HostEvent>) -> usize {
        let added = if self.read { 0 } else { self.rings.drain(clock, out) };
        self.read = added == 0;
        added
    }

    /// Whether all it had is told.
    pub(super) const fn is_read(&self) -> bool {
        self.read
    }
}

impl Sensor {
    /// Begins the senses so that they outlive this agent, where `config` asks for it: takes over what an earlier agent of
    /// the same build, config and `owner` (its state directory) left. Where that cannot be, they end with the agent; the
    /// verdict `restart` says so.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// As [`Sensor::load`].
    pub fn start(config: &Config, owner: &Path) -> Result<Self, KernelError> {
        let layout = super::known_layout()?;
        if !config.pin {
            let mut sensor = Self::attach(load_object(config, &layout)?, config, &layout)?;
            sensor.say_restart(Err("switched off (kernel.pin)".to_owned()));
            return Ok(sensor);
        }
        match Pins::open(&config.pin_directory, identity(config, &layout, owner)) {
            Ok(pins) => Self::start_pinned(config, &layout, pins),
            Err(error) => {
                tracing::warn!(%error, "the senses will end with this agent");
                let mut sensor = Self::attach(load_object(config, &layout)?, config, &layout)?;
                sensor.say_restart(Err(error.to_string()));
                Ok(sensor)
            }
        }
    }

    fn start_pinned(config: &Config, layout: &Layout, pins: Pins) -> Result<Self, KernelError> {
        if let Some(kept) = pins.kept() {
            match Self::adopt(config, layout, &kept) {
                Ok(mut sensor) => {
                    sensor.say_restart(Ok(()));
                    sensor.pins = Some(pins);
                    return Ok(sensor);
                }
                Err(error) => {
                    tracing::warn!(%error, "senses of an earlier agent cannot be taken over; new ones begin");
                    kept.remove();
                }
            }
        }
        Self::replace(config, layout, pins)
    }

    /// Goes on with senses that already run.
    fn adopt(config: &Config, layout: &Layout, kept: &Kept) -> Result<Self, KernelError> {
        let failed = |error: PinError| KernelError::NoExec(error.to_string());
        let names = kept.names().map_err(failed)?;
        let attached: Vec<Attached> = attach::names()
            .map(|program| {
                let runs = names.iter().any(|name| name == program);
                let outcome = if runs { Ok(()) } else { Err(NOT_ATTACHED.to_owned()) };
                Attached { program, outcome, loading: None }
            })
            .collect();
        let verdicts = verdict::from_attached(&attached, &layout.missing);
        if let Some(reason) = verdict::exec_refused(&verdicts) {
            return Err(KernelError::NoExec(reason));
        }
        let rings = Rings::open(|name| kept.map(name).map_err(|error| error.to_string()), config.drain_interval)?;
        let resumed = Some(rings.last_look()).filter(|at| *at != 0);
        let unread = resumed.map(|at| clock::since_boot().saturating_sub(std::time::Duration::from_nanos(at)));
        tracing::info!(?unread, "senses of an earlier agent taken over");
        let programs = kept.programs();
        Ok(Self {
            rings,
            previous: None,
            gap: None,
            resumed,
            verdicts,
            flush_log: None,
            programs,
            loads: Vec::new(),
            ebpf: None,
            pins: None,
        })
    }

    /// Begins new senses and ends those of agents unlike this one.
    fn replace(config: &Config, layout: &Layout, pins: Pins) -> Result<Self, KernelError> {
        let others = pins.others().unwrap_or_default();
        let mut ebpf = load_object(config, layout)?;
        if let Some(other) = others.first() {
            notes::carry(other, &mut ebpf);
        }
        let kept = pins.keep_maps(&ebpf);
        let mut sensor = Self::attach(ebpf, config, layout).inspect_err(|_| pins.forget())?;
        let outcome = kept.and_then(|()| sensor.ebpf.as_mut().map_or(Ok(()), |ebpf| pins.keep_links(ebpf)));
        if let Err(error) = &outcome {
            tracing::warn!(%error, "the senses will end with this agent");
            pins.forget();
        }
        sensor.say_restart(outcome.map_err(|error| error.to_string()));
        for other in &others {
            sensor.end(other, config);
        }
        sensor.pins = Some(pins);
        Ok(sensor)
    }

    /// Ends other senses, now that these run, and keeps what they still have to tell.
    fn end(&mut self, other: &Kept, config: &Config) {
        let until = u64::try_from(clock::since_boot().as_nanos()).unwrap_or(u64::MAX);
        let rings = Rings::open(|name| other.map(name).map_err(|error| error.to_string()), config.drain_interval);
        other.remove();
        match rings {
            Ok(mut rings) => {
                self.resumed = Some(rings.last_look()).filter(|at| *at != 0);
                rings.limit(0..=until);
                self.rings.limit(until.saturating_add(1)..=u64::MAX);
                self.previous = Some(Previous { rings, read: false });
            }
            Err(error) => {
                tracing::warn!(%error, "what an earlier agent had not read is lost");
                self.gap = Some(Loss { sense: "unread".to_owned(), count: 0, since: None });
            }
        }
    }

    fn say_restart(&mut self, outcome: Result<(), String>) {
        let state = match outcome {
            Ok(()) => SenseState::Active,
            Err(reason) => SenseState::Degraded { missing: vec![format!("senses that outlive the agent: {reason}")] },
        };
        self.verdicts.push(SenseVerdict { sense: RESTART, state, note: "" });
    }
}

/// Stands for everything that must be equal for one agent to go on with another's senses: the object, the kernel's
/// layout, what was put into its tables, sizes, and whose they are.
fn identity(config: &Config, layout: &Layout, owner: &Path) -> u64 {
    let sizes = [config.priority_ring_bytes, config.bulk_ring_bytes, config.contacts, u32::from(config.log_level)];
    let endpoints = format!("{:?}", attach::metadata_ports(&config.metadata_endpoints));
    let names: Vec<String> = programs::names().collect();
    let parts: [&[u8]; 6] = [
        OBJECT,
        layout.parameters.as_bytes(),
        sizes.as_bytes(),
        endpoints.as_bytes(),
        &names.join(" ").into_bytes(),
        owner.as_os_str().as_encoded_bytes(),
    ];
    // FNV-1a (draft-eastlake-fnv): stable from build to build, which std's hasher does not promise to be. The length of
    // each part goes in too.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.len().to_le_bytes().iter().chain(part) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}
