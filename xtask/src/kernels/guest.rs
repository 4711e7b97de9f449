//! A guest: a kernel with an initramfs that walks the ways, plays the scenes and switches itself off.
//!
//! In: a kernel and programs. Out: what its console said. QEMU emulates the processor (`tcg`): no guest needs more of this
//! machine than a process does, and `/dev/kvm` is not asked for. The guest's clock counts instructions (`icount`), so that its
//! own deadlines are the same on a machine at rest, on a busy one and on one that is stopped for a while.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::archive;
use super::catalogue::{Architecture, Kernel};
use super::cpio::Archive;
use super::scene::{LOCKDOWN, SCENES, Scene};
use super::userland::Programs;
use crate::process::{self, say};

/// Longest silence of a guest before it counts as hung, as time in which its emulator was at work. The longest is `doctor` under
/// `lockdown=confidentiality` on 5.10, where the verifier writes down why it refuses each program and the answer comes at the end:
/// one and a half minutes, two and a half where two guests share a core. A machine that lets others go first does not count.
const SILENCE_AT_WORK_MAX: Duration = Duration::from_secs(360);
/// The same as time on the wall, for an emulator that does nothing any more.
const SILENCE_MAX: Duration = Duration::from_secs(720);
/// Longest life of a guest: one to three minutes on a machine at rest.
const LIFE_MAX: Duration = Duration::from_secs(1200);
/// A guest's clock: 2^2 ns an instruction, which is about what this takes on a machine at rest; idle time passes at once.
const CLOCK: [&str; 2] = ["-icount", "shift=2,sleep=off"];
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// An emulator may hang and a machine may be too busy: a guest that says nothing to its end is booted once more.
const ATTEMPTS: u32 = 2;
/// The last words of a guest that came to its end.
const DONE: &str = "guest-done";

/// Boots a kernel with these words more on its command line; what its console said, which is kept beside the kernel.
///
/// # Errors
///
/// It did not come to its end, twice.
pub(super) fn boot(kernel: &Kernel, image: &Path, initramfs: &Path, words: &str) -> Result<String> {
    let log = archive::folder().join(kernel.name).join(format!("console{words}"));
    let command = emulator(kernel.architecture, image, initramfs, &log, words);
    for attempt in 1..=ATTEMPTS {
        fs::write(&log, "")?;
        // How the emulator ended says nothing: what counts is whether the guest said its last word.
        let ended = watched(&command, &log)?;
        let bytes = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
        let console = String::from_utf8_lossy(&bytes).into_owned();
        if console.contains(DONE) {
            return Ok(console);
        }
        say(format_args!("{} {words}: attempt {attempt} did not come to its end: {ended}", kernel.name));
    }
    bail!("it did not come to its end, {ATTEMPTS} times; its console: {}", log.display())
}

/// Runs an emulator for as long as its guest says something; how it ended.
fn watched(command: &[String], log: &Path) -> Result<&'static str> {
    let (begun, mut heard, mut said, mut worked) = (Instant::now(), Instant::now(), 0, Duration::ZERO);
    let mut emulator = process::command(&command[0]);
    let quiet = emulator.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = quiet.spawn().with_context(|| format!("cannot run {}", command[0]))?;
    loop {
        if child.try_wait()?.is_some() {
            return Ok("the emulator ended");
        }
        let length = log.metadata()?.len();
        let work = work_of(child.id()).unwrap_or_default();
        if length != said {
            (heard, said, worked) = (Instant::now(), length, work);
        }
        let silent = heard.elapsed() > SILENCE_MAX || work.saturating_sub(worked) > SILENCE_AT_WORK_MAX;
        let why = match (silent, begun.elapsed() > LIFE_MAX) {
            (true, _) => "it fell silent",
            (false, true) => "it took too long",
            (false, false) => {
                thread::sleep(LOOK_EVERY);
                continue;
            }
        };
        child.kill()?;
        child.wait()?;
        return Ok(why);
    }
}

/// Processor time of a process: proc(5), fields 14 and 15 of stat, in hundredths of a second.
fn work_of(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let ticks = stat.rsplit_once(") ")?.1.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().ok());
    Some(Duration::from_millis(ticks.sum::<Option<u64>>()? * 10))
}

fn emulator(architecture: Architecture, image: &Path, initramfs: &Path, log: &Path, words: &str) -> Vec<String> {
    let (emulator, machine, terminal): (&str, &[&str], &str) = match architecture {
        Architecture::Amd64 => ("qemu-system-x86_64", &["-cpu", "max"], "ttyS0"),
        Architecture::Arm64 => ("qemu-system-aarch64", &["-M", "virt", "-cpu", "cortex-a57"], "ttyAMA0"),
    };
    // An emulated timer on a busy machine may come too late for the kernel's own check of it, which then panics.
    let line = format!("console={terminal} quiet loglevel=1 panic=-1 tsc=reliable no_timer_check rdinit=/init {words}");
    // Into a file: of a guest that hangs, what it said until then is there too.
    let serial = format!("file:{}", log.display());
    let (image, initramfs) = (image.to_string_lossy(), initramfs.to_string_lossy());
    let common = ["-accel", "tcg", "-smp", "1", "-m", "1024", "-nodefaults", "-no-reboot", "-display", "none"];
    let own = ["-serial", &serial, "-kernel", &image, "-initrd", &initramfs, "-append", &line];
    [&[emulator], machine, &CLOCK, &common, &own].concat().into_iter().map(str::to_owned).collect()
}

/// The root file system of an architecture's guests.
pub(super) fn initramfs(programs: &Programs) -> Result<PathBuf> {
    let path = archive::folder().join(format!("initramfs-{}", programs.architecture.debian()));
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    for folder in ["dev", "proc", "sys", "tmp", "run", "root", "usr"] {
        archive.folder(folder)?;
    }
    // As every Debian has it since the merge of /usr.
    for name in ["bin", "sbin", "lib", "lib64"] {
        archive.link(name, &format!("usr/{name}"))?;
    }
    archive.link("usr/sbin", "bin")?;
    // The kernel opens it before init could make it.
    archive.device("dev/console", [5, 1])?;
    copy_below(&mut archive, &programs.root, &programs.root)?;
    archive.link("usr/bin/sh", "dash")?;
    archive.copy("ways", &programs.ways)?;
    archive.copy("breachline", &programs.agent)?;
    archive.file("init", 0o755, init().as_bytes())?;
    // Says to the ways that this machine may be changed as a whole.
    archive.file("guest", 0o644, b"")?;
    archive.finish()?.flush()?;
    Ok(path)
}

fn copy_below<W: std::io::Write>(archive: &mut Archive<W>, folder: &Path, root: &Path) -> Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            if name != "usr" {
                archive.folder(&name)?;
            }
            copy_below(archive, &path, root)?;
        } else {
            archive.copy(&name, &path)?;
        }
    }
    Ok(())
}

/// What the guest does: all of it on an ordinary boot, one scene where lockdown was asked for.
fn init() -> String {
    let scenes: String = SCENES.iter().map(Scene::script).collect();
    let locked: String = LOCKDOWN.iter().map(|scene| format!("{})\n{};;\n", scene.name, scene.script())).collect();
    format!(
        "#!/bin/busybox sh\nexport PATH=/usr/bin\n/bin/busybox --install -s /usr/bin\n\
         mount -t proc none /proc\nmount -t sysfs none /sys\nmount -t devtmpfs none /dev\nln -s /proc/self/fd /dev/fd\n\
         mount -t securityfs none /sys/kernel/security\nmount -t bpf none /sys/fs/bpf\n\
         mount -t cgroup2 none /sys/fs/cgroup\nip link set lo up\n\
         words=$(grep -o 'lockdown=[a-z]*' /proc/cmdline)\n\
         case \"$words\" in\n{locked}*)\n/ways --json\n{scenes};;\nesac\necho {DONE}\npoweroff -f\n"
    )
}
