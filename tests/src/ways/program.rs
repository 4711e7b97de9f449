//! Every way to start a program. Each function turns the calling performer into a shell or an interpreter, or says why
//! this kernel or machine cannot.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{AtFlags, OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::unistd::{execve, execveat};

use super::elf32;
use super::stage::{Outcome, Stage};

/// What the shells are told to do.
const NOTHING: [&str; 3] = ["sh", "-c", "exit 0"];

/// `execve`.
pub(crate) fn by_execve(_: &Stage) -> Outcome {
    run(Path::new("/bin/sh"), &NOTHING)
}

/// `execveat` on a descriptor, with no path at all.
pub(crate) fn by_execveat(_: &Stage) -> Outcome {
    let shell = open("/bin/sh", OFlag::O_PATH, Mode::empty()).map_err(io::Error::from)?;
    at_descriptor(&shell)
}

/// `/proc/self/fd/N`.
pub(crate) fn by_descriptor_path(_: &Stage) -> Outcome {
    let shell = open("/bin/sh", OFlag::O_PATH, Mode::empty()).map_err(io::Error::from)?;
    run(Path::new(&format!("/proc/self/fd/{}", shell.as_raw_fd())), &NOTHING)
}

/// A shell that lies in memory only.
pub(crate) fn in_memory(_: &Stage) -> Outcome {
    let memory = memfd_create("cache", MFdFlags::empty()).map_err(io::Error::from)?;
    let mut file = File::from(memory);
    file.write_all(&fs::read("/bin/sh")?)?;
    // Executed through a read-only opening: the one it was written through makes it busy.
    let reading = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    drop(file);
    at_descriptor(&OwnedFd::from(reading))
}

/// A file whose last name was removed before it was run.
pub(crate) fn deleted(stage: &Stage) -> Outcome {
    let copy = stage.copy_of_shell("session-cleaner")?;
    let file = OwnedFd::from(File::open(&copy)?);
    fs::remove_file(&copy)?;
    at_descriptor(&file)
}

/// A script that names its interpreter.
pub(crate) fn script(stage: &Stage) -> Outcome {
    let script = stage.file("job", b"#!/bin/sh\nexit 0\n")?;
    run(&script, &["job"])
}

/// A symbolic link, and an innocent `argv[0]`.
pub(crate) fn symlinked(stage: &Stage) -> Outcome {
    let link = stage.folder().join("innocent");
    symlink("/bin/sh", &link)?;
    run(&link, &["nginx: worker process", "-c", "exit 0"])
}

/// A hard link to the shell's own file.
pub(crate) fn hard_linked(stage: &Stage) -> Outcome {
    let link = stage.folder().join("nginx-helper");
    fs::hard_link(fs::canonicalize("/bin/sh")?, &link)?;
    run(&link, &["nginx: worker process", "-c", "exit 0"])
}

/// The shell's own file, seen through a mount elsewhere.
pub(crate) fn bind_mounted(stage: &Stage) -> Outcome {
    let elsewhere = stage.file("nginx-helper", b"")?;
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).map_err(io::Error::from)?;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).map_err(io::Error::from)?;
    mount(Some(&fs::canonicalize("/bin/sh")?), &elsewhere, none, MsFlags::MS_BIND, none).map_err(io::Error::from)?;
    run(&elsewhere, &["nginx: worker process", "-c", "exit 0"])
}

/// A copy under another name: only its content is a shell's.
pub(crate) fn copied(stage: &Stage) -> Outcome {
    run(&stage.copy_of_shell("nginx-helper")?, &["nginx: worker process", "-c", "exit 0"])
}

/// The same, with bytes behind its end: another hash, the same build id.
pub(crate) fn copied_and_padded(stage: &Stage) -> Outcome {
    let copy = stage.copy_of_shell("nginx-helper")?;
    File::options().append(true).open(&copy)?.write_all(b"padding")?;
    run(&copy, &["nginx: worker process", "-c", "exit 0"])
}

/// busybox asked for its shell.
pub(crate) fn busybox(_: &Stage) -> Outcome {
    run(Path::new("/bin/busybox"), &["busybox", "sh", "-c", "exit 0"])
}

/// A link to busybox that bears the applet's name.
pub(crate) fn busybox_applet(stage: &Stage) -> Outcome {
    let link = stage.folder().join("ash");
    symlink("/bin/busybox", &link)?;
    run(&link, &["ash", "-c", "exit 0"])
}

/// A renamed copy of busybox.
pub(crate) fn busybox_copied(stage: &Stage) -> Outcome {
    let copy = stage.file("nginx-helper", &fs::read("/bin/busybox")?)?;
    run(&copy, &["sh", "-c", "exit 0"])
}

/// The dynamic loader run as a program, and told to load the shell.
pub(crate) fn by_loader(_: &Stage) -> Outcome {
    run(&loader()?, &["ld.so", "/bin/sh", "-c", "exit 0"])
}

/// A thread that is not the first one calls `execve`.
pub(crate) fn from_thread(_: &Stage) -> Outcome {
    let thread = std::thread::spawn(|| run(Path::new("/bin/sh"), &NOTHING));
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended")))
}

/// `execve` through the 32-bit table.
pub(crate) fn by_32_bit_call(stage: &Stage) -> Outcome {
    let program = stage.file("small", &elf32::that_executes("/bin/sh", &NOTHING))?;
    run(&program, &["small"])
}

/// `posix_spawn`, which makes its child with `CLONE_VFORK | CLONE_VM`.
pub(crate) fn spawned(_: &Stage) -> Outcome {
    finished(Command::new("/bin/sh").args(["-c", "exit 0 # spawned"]))
}

/// A shell that reads its orders from standard input.
pub(crate) fn shell_on_stdin(_: &Stage) -> Outcome {
    fed("/bin/sh", &["sh"], b"exit 0\n")
}

/// A shell whose descriptors are a socket: what a reverse shell is.
pub(crate) fn shell_on_socket(stage: &Stage) -> Outcome {
    let peer = std::net::TcpStream::connect(stage.listener())?;
    let error = Command::new("/bin/sh").args(["-c", "exit 0"]).stdin(OwnedFd::from(peer)).exec();
    Err(error)
}

/// perl, with code on the command line.
pub(crate) fn perl_argument(_: &Stage) -> Outcome {
    run(Path::new("/usr/bin/perl"), &["perl", "-e", "exit 0"])
}

/// perl, with code on standard input.
pub(crate) fn perl_on_stdin(_: &Stage) -> Outcome {
    fed("/usr/bin/perl", &["perl"], b"exit 0;\n")
}

/// awk that starts a command.
pub(crate) fn awk(_: &Stage) -> Outcome {
    run(Path::new("/usr/bin/mawk"), &["awk", "BEGIN { system(\"exit 0\") }"])
}

/// python, with code on the command line.
pub(crate) fn python(_: &Stage) -> Outcome {
    run(Path::new("/usr/bin/python3"), &["python3", "-c", "pass"])
}

/// No program at all: code mapped and jumped to inside the service, which then reaches for a peer.
pub(crate) fn mapped_code(stage: &Stage) -> Outcome {
    if super::raw::run_mapped_code()? != 42 {
        return Err(io::Error::other("the mapped code did not run"));
    }
    super::peer::connect(stage)
}

/// Turns this process into the program at `path`.
pub(crate) fn run(path: &Path, arguments: &[&str]) -> Outcome {
    let path = c_string(&path.to_string_lossy())?;
    let arguments = arguments.iter().map(|text| c_string(text)).collect::<io::Result<Vec<_>>>()?;
    never(execve(&path, &arguments, &environment()))
}

/// `execveat(descriptor, "", AT_EMPTY_PATH)`.
fn at_descriptor(program: &OwnedFd) -> Outcome {
    let arguments = NOTHING.iter().map(|text| c_string(text)).collect::<io::Result<Vec<_>>>()?;
    never(execveat(program.as_fd(), c"", &arguments, &environment(), AtFlags::AT_EMPTY_PATH))
}

fn never(outcome: nix::Result<Infallible>) -> Outcome {
    match outcome {
        Ok(never) => match never {},
        Err(error) => Err(error.into()),
    }
}

/// Turns this process into `program`, whose standard input holds `code`.
fn fed(program: &str, arguments: &[&str], code: &[u8]) -> Outcome {
    let memory = memfd_create("input", MFdFlags::empty()).map_err(io::Error::from)?;
    let mut file = File::from(memory);
    file.write_all(code)?;
    file.seek(SeekFrom::Start(0))?;
    let input = Stdio::from(file);
    Err(Command::new(program).arg0(arguments[0]).args(&arguments[1..]).stdin(input).exec())
}

/// Runs a child to its end.
pub(crate) fn finished(command: &mut Command) -> Outcome {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("the child ended with {status}"))) }
}

/// The loader that `/bin/sh` asks for; where glibc's ABI puts it.
fn loader() -> io::Result<PathBuf> {
    let known = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let found = known.into_iter().map(PathBuf::from).find(|path| path.exists());
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no dynamic loader"))
}

fn environment() -> [CString; 1] {
    [c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()]
}

fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(io::Error::other)
}

impl Stage {
    /// An executable file of the performer's own.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.folder().join(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(path)
    }

    fn copy_of_shell(&self, name: &str) -> io::Result<PathBuf> {
        self.file(name, &fs::read("/bin/sh")?)
    }
}
