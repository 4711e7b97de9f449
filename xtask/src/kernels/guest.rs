//! A guest: a kernel with an initramfs that walks the ways, plays the scenes and switches itself off.
//!
//! In: a kernel and programs. Out: what its console said, read. QEMU emulates the processor (`tcg`): no guest needs more
//! of this machine than a process does.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::catalogue::{Architecture, Kernel};
use super::cpio::Archive;
use super::scene::{LOCKDOWN, SCENES, Scene};
use super::table::{self, Cell};
use super::userland::Programs;
use super::{archive, bounded};

/// Seconds for one guest: measured 30 to 60 on two cores at rest, several times that on busy ones.
const BOOT_SECONDS: u32 = 240;
/// The last words of a guest that came to its end.
const DONE: &str = "guest-done";

/// What came of a guest.
pub(super) struct Report {
    pub(super) cells: Vec<Cell>,
    pub(super) scenes: usize,
    /// A line for each scene whose answer is not the expected one.
    pub(super) wrong: Vec<String>,
}

/// Boots a kernel, once for the ways and the scenes, and once for each lockdown mode.
pub(super) fn walk(kernel: &Kernel, image: &Path, programs: &Programs) -> Result<Report> {
    let initramfs = initramfs(programs)?;
    let console = boot(kernel, image, &initramfs, "")?;
    let cells = table::cells(&console, kernel.name)?;
    if cells.is_empty() {
        bail!("{}: no way was walked; its console: {}", kernel.name, console.trim());
    }
    let mut wrong: Vec<String> = SCENES.iter().filter_map(|scene| scene.complaint(&console)).collect();
    for scene in LOCKDOWN {
        wrong.extend(scene.complaint(&boot(kernel, image, &initramfs, scene.name)?));
    }
    Ok(Report { cells, scenes: SCENES.len() + LOCKDOWN.len(), wrong })
}

/// Boots with these words more on the command line; what the console said. That is kept beside the kernel.
fn boot(kernel: &Kernel, image: &Path, initramfs: &Path, words: &str) -> Result<String> {
    let (emulator, machine, terminal): (&str, &[&str], &str) = match kernel.architecture {
        Architecture::Amd64 => ("qemu-system-x86_64", &["-cpu", "max"], "ttyS0"),
        Architecture::Arm64 => ("qemu-system-aarch64", &["-M", "virt", "-cpu", "cortex-a57"], "ttyAMA0"),
    };
    let (image, initramfs) = (image.to_string_lossy(), initramfs.to_string_lossy());
    let line = format!("console={terminal} quiet loglevel=1 panic=-1 tsc=reliable rdinit=/init {words}");
    let mut all = vec![emulator];
    all.extend(machine);
    all.extend(["-accel", "tcg", "-smp", "1", "-m", "1024", "-nodefaults", "-no-reboot", "-display", "none"]);
    // Into a file: of a guest that hangs, what it said until then is there too.
    let log = archive::folder().join(kernel.name).join(format!("console{words}"));
    let serial = format!("file:{}", log.display());
    all.extend(["-serial", &serial, "-kernel", &image, "-initrd", &initramfs, "-append", &line]);
    let ended = bounded(BOOT_SECONDS, &all);
    let bytes = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let console = String::from_utf8_lossy(&bytes).into_owned();
    if ended.is_err() || !console.contains(DONE) {
        bail!("{} did not come to its end within {BOOT_SECONDS} s; its console: {}", kernel.name, log.display());
    }
    Ok(console)
}

/// The guests' root file system.
fn initramfs(programs: &Programs) -> Result<PathBuf> {
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

/// What the guest does.
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
