//! A guest: a kernel with an initramfs that walks the ways, plays the scenes and switches itself off.
//!
//! In: a kernel and programs. Out: what its console said. QEMU emulates the processor (`tcg`): no guest needs more of this
//! machine than a process does.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::catalogue::{Architecture, Kernel};
use super::cpio::Archive;
use super::scene::{LOCKDOWN, SCENES, Scene};
use super::userland::Programs;
use super::{archive, bounded};
use crate::process::say;

/// Seconds for one guest: measured 30 to 60 on two cores at rest, several times that on busy ones.
const BOOT_SECONDS: u32 = 400;
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
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    for attempt in 1..=ATTEMPTS {
        fs::write(&log, "")?;
        // How the emulator ended says nothing: what counts is whether the guest said its last word.
        let ended = bounded(BOOT_SECONDS, &words);
        let bytes = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
        let console = String::from_utf8_lossy(&bytes).into_owned();
        if console.contains(DONE) {
            return Ok(console);
        }
        let why = ended.err().map_or_else(|| "it ended early".to_owned(), |error| format!("{error:#}"));
        say(format_args!("{}: attempt {attempt} did not come to its end: {why}", kernel.name));
    }
    bail!("it did not come to its end within {BOOT_SECONDS} s, {ATTEMPTS} times; its console: {}", log.display())
}

fn emulator(architecture: Architecture, image: &Path, initramfs: &Path, log: &Path, words: &str) -> Vec<String> {
    let (emulator, machine, terminal): (&str, &[&str], &str) = match architecture {
        Architecture::Amd64 => ("qemu-system-x86_64", &["-cpu", "max"], "ttyS0"),
        Architecture::Arm64 => ("qemu-system-aarch64", &["-M", "virt", "-cpu", "cortex-a57"], "ttyAMA0"),
    };
    let line = format!("console={terminal} quiet loglevel=1 panic=-1 tsc=reliable rdinit=/init {words}");
    // Into a file: of a guest that hangs, what it said until then is there too.
    let serial = format!("file:{}", log.display());
    let (image, initramfs) = (image.to_string_lossy(), initramfs.to_string_lossy());
    let common = ["-accel", "tcg", "-smp", "1", "-m", "1024", "-nodefaults", "-no-reboot", "-display", "none"];
    let own = ["-serial", &serial, "-kernel", &image, "-initrd", &initramfs, "-append", &line];
    [&[emulator], machine, &common, &own].concat().into_iter().map(str::to_owned).collect()
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
         mount -t proc none /proc\nmount -t sysfs none /sys\nmount -t devtmpfs none /dev\n\
         mount -t securityfs none /sys/kernel/security\nmount -t bpf none /sys/fs/bpf\n\
         mount -t cgroup2 none /sys/fs/cgroup\nip link set lo up\n\
         words=$(grep -o 'lockdown=[a-z]*' /proc/cmdline)\n\
         case \"$words\" in\n{locked}*)\n/ways --json\n{scenes};;\nesac\necho {DONE}\npoweroff -f\n"
    )
}
