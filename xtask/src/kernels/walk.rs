//! The walk over all kernels: what the guests of an architecture need is made once; guests boot side by side.
//!
//! In: kernels. Out: a column for each. One kernel that cannot be had or does not come to its end does not stop the others:
//! it is a column with a complaint.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::archive::Unobtainable;
use super::catalogue::{Architecture, Kernel};
use super::figures::{self, Figures};
use super::scene::{LOCKDOWN, SCENES, Scene};
use super::table::{self, Cell};
use super::{NATIVE, archive, guest, userland};
use crate::process::{as_root, say};
use crate::workspace;

/// Guests at once, where there are as many cores: each takes one and 1 GiB.
const GUESTS_MAX: usize = 4;

/// One kernel, walked.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) cells: Vec<Cell>,
    pub(super) figures: Figures,
    /// Why there are no cells, or not all.
    pub(super) failed: Vec<String>,
    /// Why there are none where the kernel itself is not to be had.
    pub(super) unobtainable: Option<String>,
    /// Time of its guests, one after the other.
    took: Duration,
}

impl Column {
    /// A line for whatever is not as expected.
    pub(super) fn complaints(&self) -> impl Iterator<Item = String> + '_ {
        let failed = self.failed.iter().chain(&self.unobtainable).map(|why| format!("{}: {why}", self.name));
        failed.chain(self.cells.iter().filter(|cell| !cell.as_expected()).map(Cell::complaint))
    }

    fn say(&self) {
        let (ways, wrong) = (self.cells.len(), self.complaints().count());
        say(format_args!("{}: {ways} cells, {wrong} not as expected, {:.0?}", self.name, self.took));
    }
}

/// The running kernel.
pub(super) fn natively() -> Column {
    let begun = Instant::now();
    let (cells, figures, failed) = match native_cells() {
        Ok((cells, figures)) => (cells, figures, Vec::new()),
        Err(error) => (Vec::new(), Figures::default(), vec![format!("{error:#}")]),
    };
    let column = Column { name: NATIVE, cells, figures, failed, unobtainable: None, took: begun.elapsed() };
    column.say();
    column
}

fn native_cells() -> Result<(Vec<Cell>, Figures)> {
    userland::build()?;
    let ways = workspace::target().join("debug/ways");
    let mut command = as_root("timeout", &["300", &ways.to_string_lossy(), "--json"])?;
    // It ends with 1 when a cell is not as expected, which its output says better.
    let output = command.output().context("cannot run ways")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let cells = table::cells(&text, NATIVE)?;
    if cells.is_empty() {
        bail!("no way was walked: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok((cells, figures::read(&text, NATIVE)?))
}

/// All these kernels, in guests. Those of this machine's architecture boot while the programs of the other one are built, so that
/// no core waits for another.
pub(super) fn guests(kernels: &[&'static Kernel]) -> Vec<Column> {
    let of = |architecture| kernels.iter().copied().filter(move |kernel| kernel.architecture == architecture);
    let (own, foreign): (Vec<_>, Vec<_>) = (of(Architecture::Amd64).collect(), of(Architecture::Arm64).collect());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let yard = Yard::default();
    yard.admit(Guest::all(Architecture::Amd64, &own, cores));
    // Without guests beside it the build may have the whole machine.
    let jobs = if own.is_empty() { cores } else { cores.div_ceil(2) };
    thread::scope(|scope| {
        scope.spawn(|| {
            let closing = Closing(&yard);
            yard.admit(Guest::all(Architecture::Arm64, &foreign, jobs));
            drop(closing);
            yard.boot_all();
        });
        for _ in 1..cores.min(GUESTS_MAX) {
            scope.spawn(|| yard.boot_all());
        }
    });
    let state = yard.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    kernels.iter().map(|kernel| column(kernel, state.problem(kernel), &state.played)).collect()
}

/// What a kernel boots with.
#[derive(Clone)]
struct Guest {
    image: PathBuf,
    initramfs: PathBuf,
}

impl Guest {
    /// One for each of these kernels of an architecture; programs for another machine are built by so many jobs.
    fn all(
        architecture: Architecture,
        kernels: &[&'static Kernel],
        jobs: usize,
    ) -> Vec<(&'static Kernel, Result<Self>)> {
        if kernels.is_empty() {
            return Vec::new();
        }
        let root = userland::prepare(architecture, jobs).and_then(|programs| guest::initramfs(&programs));
        let guest = |kernel| match &root {
            Ok(initramfs) => Ok(Self { image: archive::kernel(kernel)?, initramfs: initramfs.clone() }),
            Err(error) => bail!("its guest cannot be made: {error:#}"),
        };
        kernels.iter().map(|kernel| (*kernel, guest(kernel))).collect()
    }
}

/// One boot to come: an ordinary one, or one for a scene that needs its own.
struct Boot {
    kernel: &'static Kernel,
    guest: Guest,
    scene: Option<&'static Scene>,
}

impl Boot {
    fn words(&self) -> &'static str {
        self.scene.map_or("", |scene| scene.name)
    }
}

/// A boot that was.
struct Played {
    kernel: &'static Kernel,
    scene: Option<&'static Scene>,
    console: Result<String>,
    took: Duration,
}

/// Where guests wait for a core.
#[derive(Default)]
struct Yard {
    state: Mutex<YardState>,
    changed: Condvar,
}

#[derive(Default)]
struct YardState {
    boots: VecDeque<Boot>,
    /// No more will come.
    closed: bool,
    played: Vec<Played>,
    /// Kernels without a guest, and why.
    problems: Vec<(&'static Kernel, anyhow::Error)>,
}

impl YardState {
    fn problem(&self, kernel: &Kernel) -> Option<&anyhow::Error> {
        self.problems.iter().find(|(other, _)| other.name == kernel.name).map(|(_, error)| error)
    }
}

impl Yard {
    /// Takes in what guests boot with: an ordinary boot each, and one for each scene that needs its own.
    fn admit(&self, guests: Vec<(&'static Kernel, Result<Guest>)>) {
        let mut state = self.lock();
        for (kernel, guest) in guests {
            match guest {
                Ok(guest) => {
                    let scenes = std::iter::once(None).chain(LOCKDOWN.iter().map(Some));
                    state.boots.extend(scenes.map(|scene| Boot { kernel, guest: guest.clone(), scene }));
                }
                Err(error) => state.problems.push((kernel, error)),
            }
        }
        // The long ones first, so that none of them is left alone at the end.
        state.boots.make_contiguous().sort_by_key(|boot| boot.scene.is_some());
        self.changed.notify_all();
    }

    /// No more guests will be admitted.
    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Boots one after the other until there are none left and none will come.
    fn boot_all(&self) {
        while let Some(boot) = self.next() {
            let begun = Instant::now();
            let console = guest::boot(boot.kernel, &boot.guest.image, &boot.guest.initramfs, boot.words());
            let played = Played { kernel: boot.kernel, scene: boot.scene, console, took: begun.elapsed() };
            self.lock().played.push(played);
        }
    }

    fn next(&self) -> Option<Boot> {
        let waiting = |state: &mut YardState| state.boots.is_empty() && !state.closed;
        self.changed.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner).boots.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, YardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the yard when it goes, a panic included: who waits for guests that nobody admits waits for ever.
struct Closing<'y>(&'y Yard);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn column(kernel: &'static Kernel, problem: Option<&anyhow::Error>, done: &[Played]) -> Column {
    let mut column = Column {
        name: kernel.name,
        cells: Vec::new(),
        figures: Figures::default(),
        failed: Vec::new(),
        unobtainable: None,
        took: Duration::ZERO,
    };
    match problem {
        Some(error) if error.is::<Unobtainable>() => column.unobtainable = Some(format!("{error:#}")),
        Some(error) => column.failed.push(format!("{error:#}")),
        None => {}
    }
    // An ordinary boot before the others: it says what the kernel calls itself.
    let mut own: Vec<&Played> = done.iter().filter(|played| played.kernel.name == kernel.name).collect();
    own.sort_by_key(|played| played.scene.is_some());
    for played in own {
        column.took += played.took;
        let read = match &played.console {
            Ok(console) => column.take(console, played.scene),
            Err(error) => Err(anyhow::anyhow!(
                "{}{error:#}",
                played.scene.map_or(String::new(), |scene| format!("{}: ", scene.name))
            )),
        };
        column.failed.extend(read.err().map(|error| format!("{error:#}")));
    }
    column.say();
    column
}

impl Column {
    /// Takes what a console says.
    fn take(&mut self, console: &str, scene: Option<&'static Scene>) -> Result<()> {
        let Some(scene) = scene else {
            self.cells = table::cells(console, self.name)?;
            self.figures = figures::read(console, self.name)?;
            let release = self.release();
            self.cells.extend(SCENES.iter().map(|scene| scene.cell(console, self.name, &release)));
            return if release.is_empty() { bail!("no way was walked: {}", tail(console)) } else { Ok(()) };
        };
        let release = self.release();
        self.cells.push(scene.cell(console, self.name, &release));
        Ok(())
    }

    fn release(&self) -> String {
        self.cells.first().map(|cell| cell.kernel.clone()).unwrap_or_default()
    }
}

/// The last lines of a console: enough to see what went wrong.
fn tail(console: &str) -> String {
    let lines: Vec<&str> = console.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::KERNELS;
    use super::*;

    fn guest() -> Guest {
        Guest { image: PathBuf::from("vmlinuz"), initramfs: PathBuf::from("initramfs") }
    }

    #[test]
    fn ordinary_boots_go_first_whenever_they_come() {
        let yard = Yard::default();
        yard.admit(vec![(&KERNELS[0], Ok(guest()))]);
        yard.admit(vec![(&KERNELS[1], Ok(guest())), (&KERNELS[2], Err(anyhow::anyhow!("not to be had")))]);
        yard.close();
        let boots: Vec<(&str, &str)> =
            std::iter::from_fn(|| yard.next()).map(|boot| (boot.kernel.name, boot.words())).collect();
        let [first, second, scenes @ ..] = &boots[..] else { panic!("{boots:?}") };
        assert_eq!((*first, *second), ((KERNELS[0].name, ""), (KERNELS[1].name, "")));
        assert_eq!(scenes.len(), 2 * LOCKDOWN.len());
        let state = yard.lock();
        assert!(state.problem(&KERNELS[2]).is_some() && state.problem(&KERNELS[0]).is_none());
    }

    #[test]
    fn a_panic_leaves_nobody_waiting() {
        let yard = Yard::default();
        thread::scope(|scope| {
            let preparing = scope.spawn(|| {
                let _closing = Closing(&yard);
                std::panic::resume_unwind(Box::new("no guest"));
            });
            yard.boot_all();
            assert!(preparing.join().is_err());
        });
    }
}
