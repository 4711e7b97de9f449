//! `cargo xtask kernels`: every way around the sensor, walked on every supported kernel.
//!
//! In: which kernels. Out: one table (row = way, column = kernel) or one JSON object a cell; an error that names each cell
//! which is not as expected. The running kernel is tried natively, the others boot in QEMU with an initramfs of their own.
//! Kernels and the guests' few programs are Debian's packages, fetched once into the target directory.

mod archive;
mod catalogue;
mod cpio;
mod figures;
mod guest;
mod scene;
mod table;
mod userland;
mod walk;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::catalogue::{Architecture, KERNELS, Kernel};
use self::figures::Figures;
use self::table::Cell;
use self::walk::Column;
use crate::process::{capture, say};
use crate::setup::{self, Purpose};
use crate::workspace;

/// The name of the kernel that runs here.
const NATIVE: &str = "native";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this kernel (`native`, `5.10`, `6.1-arm64`, …; `--list` shows all); may be given more than once
    #[arg(long = "kernel", value_name = "NAME")]
    kernels: Vec<String>,
    /// Print one JSON object a cell (way, group, kernel, expected, seen), and one for each program on each kernel
    #[arg(long)]
    json: bool,
    /// Write the table into packaging/KERNELS.md, with a column for each kernel that was walked
    #[arg(long)]
    write: bool,
    /// Print the kernels' names and what they are
    #[arg(long)]
    list: bool,
}

/// The verb.
#[expect(clippy::print_stdout, reason = "the table is the result")]
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list {
        println!("{NATIVE}: the running kernel");
        KERNELS.iter().for_each(|kernel| println!("{}: {} from Debian {}", kernel.name, kernel.series, kernel.suite));
        return Ok(());
    }
    let (native, chosen) = chosen(&args.kernels)?;
    setup::ensure(Purpose::Kernels)?;
    let columns = columns(native, &chosen);
    if args.json {
        print_json(&columns)?;
    } else {
        print!("{}", table::text(&cells(&columns)));
    }
    if args.write {
        write_page(&columns)?;
    }
    verdict(&columns)
}

/// The running kernel and the others, for `cargo xtask test`: a line for each cell and a summary, in the form of Rust's own
/// test runner, which calls a way that a kernel does not have ignored, and a kernel that the archive does not have. Those of arm64,
/// for which the agent is built once more, can be left out.
///
/// # Errors
///
/// Cells that are not as expected, kernels that could not be walked, and an archive that has none of them.
#[expect(clippy::print_stdout, reason = "the results are the result")]
pub(crate) fn test(arm64: bool) -> Result<()> {
    let begun = Instant::now();
    let wanted = KERNELS.iter().filter(|kernel| arm64 || kernel.architecture == Architecture::Amd64);
    let columns = columns(true, &wanted.collect::<Vec<_>>());
    for column in &columns {
        for cell in &column.cells {
            let outcome = match cell.as_expected() {
                true if cell.is_absent() => "ignored",
                true => "ok",
                false => "FAILED",
            };
            println!("test kernels::{}::{} ... {outcome}", column.name, cell.way);
        }
        column.failed.iter().for_each(|_| println!("test kernels::{} ... FAILED", column.name));
        if let Some(why) = &column.unobtainable {
            say(format_args!("{} was NOT walked: {why}", column.name));
            println!("test kernels::{} ... ignored, the kernel cannot be had", column.name);
        }
    }
    println!("\n{}\n", summary(&columns, begun.elapsed()));
    let walked: Vec<Column> = columns.into_iter().filter(|column| column.unobtainable.is_none()).collect();
    match walked.iter().all(|column| column.name == NATIVE) {
        true => bail!("none of the other kernels can be had from Debian's archive"),
        false => verdict(&walked),
    }
}

fn summary(columns: &[Column], took: Duration) -> String {
    let cells = cells(columns);
    let (absent, walked): (Vec<&Cell>, Vec<&Cell>) =
        cells.iter().filter(|cell| cell.as_expected()).partition(|cell| cell.is_absent());
    let missing = columns.iter().filter(|column| column.unobtainable.is_some()).count();
    let (passed, ignored) = (walked.len(), absent.len() + missing);
    let failed = columns.iter().flat_map(Column::complaints).count() - missing;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    format!(
        "test result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        took.as_secs_f64()
    )
}

fn columns(native: bool, kernels: &[&'static Kernel]) -> Vec<Column> {
    let own = native.then(walk::natively);
    own.into_iter().chain(walk::guests(kernels)).collect()
}

fn cells(columns: &[Column]) -> Vec<Cell> {
    columns.iter().flat_map(|column| column.cells.iter().cloned()).collect()
}

#[expect(clippy::print_stdout, reason = "the cells are the result")]
fn print_json(columns: &[Column]) -> Result<()> {
    for column in columns {
        for cell in &column.cells {
            println!("{}", serde_json::to_string(cell)?);
        }
        for figure in &column.figures.programs {
            println!("{}", serde_json::to_string(figure)?);
        }
        if let Some(memory) = &column.figures.memory {
            println!("{}", serde_json::to_string(memory)?);
        }
    }
    Ok(())
}

fn write_page(columns: &[Column]) -> Result<()> {
    let page = workspace::root().join("packaging/KERNELS.md");
    let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let figures: Vec<(&str, &Figures)> = columns.iter().map(|column| (column.name, &column.figures)).collect();
    let generated = format!("{}{}", table::markdown(&cells(columns)), figures::markdown(&figures));
    Ok(fs::write(&page, table::into_page(&text, &generated)?)?)
}

fn verdict(columns: &[Column]) -> Result<()> {
    let wrong: Vec<String> = columns.iter().flat_map(Column::complaints).collect();
    match wrong.len() {
        0 => Ok(()),
        count => bail!("{count} not as expected:\n{}", wrong.join("\n")),
    }
}

/// Which kernels are meant; an unknown name is refused.
fn chosen(names: &[String]) -> Result<(bool, Vec<&'static Kernel>)> {
    if names.is_empty() {
        return Ok((true, KERNELS.iter().collect()));
    }
    let known = |name: &String| name == NATIVE || KERNELS.iter().any(|kernel| kernel.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        bail!("no kernel is called {unknown}; `cargo xtask kernels --list` shows them");
    }
    let wanted = |name: &str| names.iter().any(|wanted| wanted == name);
    Ok((wanted(NATIVE), KERNELS.iter().filter(|kernel| wanted(kernel.name)).collect()))
}

/// A package for arm64, unpacked: what `setup` needs of the archive.
pub(crate) fn unpacked_for_arm64(package: &str) -> Result<std::path::PathBuf> {
    archive::unpacked(&[package], Architecture::Arm64)
}

/// Runs a program quietly for at most so many seconds: nothing here may hang a build.
fn bounded(seconds: u32, words: &[&str]) -> Result<String> {
    let limit = seconds.to_string();
    let all: Vec<&str> = ["--kill-after=5", limit.as_str()].into_iter().chain(words.iter().copied()).collect();
    capture(crate::process::command("timeout").args(all))
}
