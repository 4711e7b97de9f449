//! A loaded sensor and what it has told so far.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use breachline::decode::BootClock;
use breachline::event::{Contact, Exec, HostEvent, HostEventKind, ProcessKey};
use breachline::kernel::{Config, Sensor};
use nix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

/// Longest wait for an event that must come: generous, machines under test are busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether this is root; says that the test is skipped when not.
pub(crate) fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// Every sensor sees the whole machine: tests that ran beside each other would taint each other's processes.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A sensor under test.
pub(crate) struct Watch {
    pub(crate) sensor: Sensor,
    pub(crate) seen: Vec<HostEvent>,
    runtime: Runtime,
    clock: BootClock,
    _turn: MutexGuard<'static, ()>,
}

impl Watch {
    pub(crate) fn new(config: &Config) -> Self {
        Self::of(|| Sensor::load(config).expect("the senses load here"))
    }

    /// A watch of senses begun otherwise.
    pub(crate) fn of(begin: impl FnOnce() -> Sensor) -> Self {
        // A test that failed has nothing to do with the next one.
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let sensor = runtime.block_on(async { begin() });
        Self { sensor, seen: Vec::new(), runtime, clock: boot_clock(), _turn: turn }
    }

    /// Begins something else on the same runtime.
    pub(crate) fn within<T>(&self, begin: impl FnOnce() -> T) -> T {
        self.runtime.block_on(async { begin() })
    }

    /// Reads what is there now.
    pub(crate) fn read(&mut self) {
        while self.sensor.drain(self.clock, &mut self.seen) > 0 {}
    }

    /// Reads until `find` finds something among all that was seen.
    pub(crate) fn until<T>(&mut self, what: &str, find: impl Fn(&HostEvent) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read();
            if let Some(found) = self.seen.iter().find_map(&find) {
                return found;
            }
            assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
            self.runtime.block_on(self.sensor.ready());
        }
    }

    /// The exec of a process.
    pub(crate) fn exec_of(&mut self, pid: u32) -> Exec {
        self.until(&format!("exec of {pid}"), |event| match &event.kind {
            HostEventKind::Exec(exec) if exec.actor.process.pid == pid => Some((**exec).clone()),
            _ => None,
        })
    }

    /// A contact that fits.
    pub(crate) fn contact(&mut self, what: &str, fits: impl Fn(&Contact) -> bool) -> Contact {
        self.until(what, |event| match &event.kind {
            HostEventKind::Contact(contact) if fits(contact) => Some(contact.clone()),
            _ => None,
        })
    }

    /// All contacts so far that fit.
    pub(crate) fn contacts(&self, fits: impl Fn(&Contact) -> bool) -> Vec<&Contact> {
        let contacts = self.seen.iter().filter_map(|event| match &event.kind {
            HostEventKind::Contact(contact) => Some(contact),
            _ => None,
        });
        contacts.filter(|contact| fits(contact)).collect()
    }
}

/// Wall clock minus boot clock.
fn boot_clock() -> BootClock {
    let nanos = |clock| {
        let time = clock_gettime(clock).expect("clock");
        time.tv_sec() * 1_000_000_000 + time.tv_nsec()
    };
    BootClock { offset_ns: nanos(ClockId::CLOCK_REALTIME) - nanos(ClockId::CLOCK_BOOTTIME) }
}

/// The key of a living process, from proc(5) stat field 22.
pub(crate) fn key_of(pid: u32) -> ProcessKey {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let after_comm = stat.rsplit_once(") ").expect("comm").1;
    let start_ticks = after_comm.split(' ').nth(19).expect("field 22").parse().expect("number");
    ProcessKey { pid, start_ticks }
}

/// Inode number of a namespace of the calling thread.
pub(crate) fn own_namespace(name: &str) -> u32 {
    fs::metadata(format!("/proc/thread-self/ns/{name}")).expect("namespace").ino().try_into().expect("32 bits")
}
