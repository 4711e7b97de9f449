//! `cargo xtask kernels`: every way around the sensor, walked on every supported kernel.
//!
//! In: which kernels. Out: one table (row = way, column = kernel) or one JSON object a cell; an error that names each cell
//! which is not as expected. The running kernel is tried natively, the others boot in QEMU with an initramfs of their own.
//! Kernels and the guests' few programs are Debian's packages, fetched once into the target directory.

mod archive;
mod catalogue;
mod cpio;
mod guest;
mod scene;
mod table;
mod userland;

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::catalogue::{Architecture, KERNELS, Kernel};
use self::table::Cell;
use crate::process::{as_root, capture, say};
use crate::setup::{self, Purpose};
use crate::workspace;

/// The name of the kernel that runs here.
const NATIVE: &str = "native";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this kernel (`native`, `5.10`, `6.1-arm64`, …; `--list` shows all); may be given more than once
    #[arg(long = "kernel", value_name = "NAME")]
    kernels: Vec<String>,
    /// Print one JSON object a cell: way, group, kernel, expected, seen
    #[arg(long)]
    json: bool,
    /// Write the table into packaging/KERNELS.md; only with all kernels
    #[arg(long, conflicts_with = "kernels")]
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
    let (cells, wrong) = walk(native, &chosen)?;
    if args.json {
        cells.iter().try_for_each(|cell| serde_json::to_string(cell).map(|line| println!("{line}")))?;
    } else {
        print!("{}", table::text(&cells));
    }
    if args.write {
        let page = workspace::root().join("packaging/KERNELS.md");
        let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
        fs::write(&page, table::into_page(&text, &cells)?)?;
    }
    verdict(&wrong)
}

fn verdict(wrong: &[String]) -> Result<()> {
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

/// All cells, and a line for whatever is not as expected.
fn walk(native: bool, kernels: &[&Kernel]) -> Result<(Vec<Cell>, Vec<String>)> {
    let (mut cells, mut wrong) = (Vec::new(), Vec::new());
    if native {
        let begun = Instant::now();
        let own = natively()?;
        say(format_args!("{}: {} ways in {:.0?}", NATIVE, own.len(), begun.elapsed()));
        cells.extend(own);
    }
    for architecture in [Architecture::Amd64, Architecture::Arm64] {
        let own: Vec<&Kernel> = kernels.iter().copied().filter(|kernel| kernel.architecture == architecture).collect();
        if own.is_empty() {
            continue;
        }
        let programs = userland::prepare(architecture)?;
        for kernel in own {
            let begun = Instant::now();
            // One kernel that cannot be had or does not come to its end is no reason not to try the others.
            match archive::kernel(kernel).and_then(|image| guest::walk(kernel, &image, &programs)) {
                Ok(report) => {
                    let (ways, scenes) = (report.cells.len(), report.scenes);
                    say(format_args!("{}: {ways} ways, {scenes} scenes in {:.0?}", kernel.name, begun.elapsed()));
                    wrong.extend(report.wrong.into_iter().map(|line| format!("{}: {line}", kernel.name)));
                    cells.extend(report.cells);
                }
                Err(error) => wrong.push(format!("{}: {error:#}", kernel.name)),
            }
        }
    }
    wrong.extend(cells.iter().filter(|cell| !cell.as_expected()).map(Cell::complaint));
    Ok((cells, wrong))
}

/// The matrix on the running kernel.
fn natively() -> Result<Vec<Cell>> {
    userland::build(Architecture::Amd64)?;
    let ways = workspace::target().join("debug/ways");
    let mut command = as_root("timeout", &["300", &ways.to_string_lossy(), "--json"])?;
    // It ends with 1 when a cell is not as expected, which its output says better.
    let output = command.output().context("cannot run ways")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let cells = table::cells(&text, NATIVE)?;
    if cells.is_empty() {
        bail!("the running kernel gave no cell: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(cells)
}

/// A package for arm64, unpacked: what `setup` needs of the archive.
pub(crate) fn unpacked_for_arm64(package: &str) -> Result<std::path::PathBuf> {
    archive::unpacked(package, Architecture::Arm64)
}

/// Runs a program quietly for at most so many seconds: nothing here may hang a build.
fn bounded(seconds: u32, words: &[&str]) -> Result<String> {
    let limit = seconds.to_string();
    let all: Vec<&str> = ["--kill-after=5", limit.as_str()].into_iter().chain(words.iter().copied()).collect();
    capture(crate::process::command("timeout").args(all))
}
