//! The walk over all kernels: what each guest needs is made once, then guests boot side by side.
//!
//! In: kernels. Out: a column for each. One kernel that cannot be had or does not come to its end does not stop the others:
//! it is a column with a complaint.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
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

/// Guests at once: each takes one core and 1 GiB.
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
    userland::build(Architecture::Amd64)?;
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

/// All these kernels, in guests.
pub(super) fn guests(kernels: &[&'static Kernel]) -> Vec<Column> {
    let prepared: Vec<(&'static Kernel, Result<Guest>)> = {
        let roots = [Architecture::Amd64, Architecture::Arm64].map(|architecture| {
            let wanted = kernels.iter().any(|kernel| kernel.architecture == architecture);
            wanted.then(|| userland::prepare(architecture).and_then(|programs| guest::initramfs(&programs)))
        });
        let root = |kernel: &Kernel| roots[usize::from(kernel.architecture == Architecture::Arm64)].as_ref();
        kernels.iter().map(|kernel| (*kernel, Guest::of(kernel, root(kernel)))).collect()
    };
    let boots = Mutex::new(boots(&prepared));
    let done = Mutex::new(Vec::new());
    let at_once = thread::available_parallelism().map_or(1, usize::from).min(GUESTS_MAX);
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(boot) = next(&boots) {
                    let begun = Instant::now();
                    let console = guest::boot(boot.kernel, &boot.guest.image, &boot.guest.initramfs, boot.words());
                    let played = Played { kernel: boot.kernel, scene: boot.scene, console, took: begun.elapsed() };
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(played);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    prepared.iter().map(|(kernel, guest)| column(kernel, guest.as_ref().err(), &done)).collect()
}

/// What a kernel boots with.
struct Guest {
    image: PathBuf,
    initramfs: PathBuf,
}

impl Guest {
    fn of(kernel: &Kernel, root: Option<&Result<PathBuf>>) -> Result<Self> {
        let initramfs = match root {
            Some(Ok(initramfs)) => initramfs.clone(),
            Some(Err(error)) => bail!("its guest cannot be made: {error:#}"),
            None => bail!("its guest was not made"),
        };
        Ok(Self { image: archive::kernel(kernel)?, initramfs })
    }
}

/// One boot to come: an ordinary one, or one for a scene that needs its own.
struct Boot<'p> {
    kernel: &'static Kernel,
    guest: &'p Guest,
    scene: Option<&'static Scene>,
}

impl Boot<'_> {
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

/// The long ones first, so that none of them is left alone at the end.
fn boots<'p>(prepared: &'p [(&'static Kernel, Result<Guest>)]) -> VecDeque<Boot<'p>> {
    let scenes = std::iter::once(None).chain(LOCKDOWN.iter().map(Some));
    let guests = || prepared.iter().filter_map(|(kernel, guest)| Some((*kernel, guest.as_ref().ok()?)));
    scenes.flat_map(|scene| guests().map(move |(kernel, guest)| Boot { kernel, guest, scene })).collect()
}

fn next<'p>(boots: &Mutex<VecDeque<Boot<'p>>>) -> Option<Boot<'p>> {
    boots.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
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
