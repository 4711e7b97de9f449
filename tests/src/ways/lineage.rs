//! Every way to shake off one's origin. Each function ends in a marked shell that descends from the service, however
//! little of that its parent pointer tells.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getpid, getppid, setsid};

use super::program::{finished, run};
use super::raw;
use super::stage::{Outcome, Stage, is_absent};

/// Longest wait for the parent to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// A daemon's way: the parent in between has ended before the program is run.
pub(crate) fn double_fork(stage: &Stage) -> Outcome {
    in_child(|| {
        let middle = getpid();
        in_background(|| {
            orphaned(middle)?;
            shell(stage)
        })
    })
}

/// A session of its own.
pub(crate) fn new_session(stage: &Stage) -> Outcome {
    in_child(|| {
        setsid().map_err(io::Error::from)?;
        shell(stage)
    })
}

/// Both, and the working directory given up: what `daemon(3)` does.
pub(crate) fn daemon(stage: &Stage) -> Outcome {
    in_child(|| {
        setsid().map_err(io::Error::from)?;
        std::env::set_current_dir("/")?;
        let middle = getpid();
        in_background(|| {
            orphaned(middle)?;
            shell(stage)
        })
    })
}

/// A child that looks like a sibling (`CLONE_PARENT`).
pub(crate) fn sibling(stage: &Stage) -> Outcome {
    match raw::split_as_sibling()? {
        Some(_) => Ok(()),
        None => leave(&shell(stage)),
    }
}

/// The performer itself ends; its child runs the program from under a reaper.
pub(crate) fn reparented(stage: &Stage) -> Outcome {
    let parent = getpid();
    in_background(|| {
        orphaned(parent)?;
        shell(stage)
    })
}

/// One program after the other in the same process.
pub(crate) fn exec_chain(stage: &Stage) -> Outcome {
    let last = stage.marked_command();
    let chain = format!("exec /bin/sh -c 'exec /bin/sh -c \"exec /bin/sh -c \\\"{last}\\\"\"'");
    run(Path::new("/bin/sh"), &["sh", "-c", &chain])
}

/// Children of children of children.
pub(crate) fn deep(stage: &Stage) -> Outcome {
    fn nested(depth: u32, stage: &Stage) -> Outcome {
        if depth == 0 { shell(stage) } else { in_child(|| nested(depth - 1, stage)) }
    }
    nested(12, stage)
}

/// A fork by a thread that is not the first one.
pub(crate) fn forked_by_thread(stage: &Stage) -> Outcome {
    let command = stage.marked_command();
    let thread = std::thread::spawn(move || finished(Command::new("/bin/sh").args(["-c", &command])));
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended")))
}

/// New namespaces of every kind that need no user namespace.
pub(crate) fn new_namespaces(stage: &Stage) -> Outcome {
    let kinds = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET;
    unshare(kinds).map_err(io::Error::from)?;
    in_child(|| shell(stage))
}

/// A user namespace: what a rootless intruder makes first.
pub(crate) fn user_namespace(stage: &Stage) -> Outcome {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID).map_err(io::Error::from)?;
    in_child(|| shell(stage))
}

/// `nsenter`: out of namespaces of its own and back into others by their files.
pub(crate) fn entered_namespaces(stage: &Stage) -> Outcome {
    let kinds =
        [("net", CloneFlags::CLONE_NEWNET), ("uts", CloneFlags::CLONE_NEWUTS), ("mnt", CloneFlags::CLONE_NEWNS)];
    let others =
        kinds.map(|(name, kind)| std::fs::File::open(format!("/proc/self/ns/{name}")).map(|file| (file, kind)));
    unshare(kinds.iter().map(|(_, kind)| *kind).collect()).map_err(io::Error::from)?;
    for other in others {
        let (namespace, kind) = other?;
        setns(&namespace, kind).map_err(io::Error::from)?;
    }
    in_child(|| shell(stage))
}

/// Another root directory.
pub(crate) fn other_root(stage: &Stage) -> Outcome {
    // The same files under another path: what matters is that the walk to the root ends elsewhere.
    let inside = stage.folder().join("root");
    std::fs::create_dir(&inside)?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(io::Error::from)?;
    let recursive = nix::mount::MsFlags::MS_BIND | nix::mount::MsFlags::MS_REC;
    let none = None::<&str>;
    let private = nix::mount::MsFlags::MS_PRIVATE | nix::mount::MsFlags::MS_REC;
    // The root of an initramfs has no parent mount to detach from; making it private is a courtesy elsewhere.
    nix::mount::mount(none, "/", none, private, none).map_err(io::Error::from)?;
    nix::mount::mount(Some("/"), &inside, none, recursive, none).map_err(io::Error::from)?;
    nix::unistd::chroot(&inside).map_err(io::Error::from)?;
    std::env::set_current_dir("/")?;
    shell(stage)
}

/// A line that asked for a credential stays marked through a double fork and a new session: its contact is told although
/// the program has contacted that peer before.
pub(crate) fn taint_outlives_a_daemon(stage: &Stage) -> Outcome {
    let known = (Ipv4Addr::LOCALHOST, stage.port());
    let _ = TcpStream::connect(known);
    let _ = TcpStream::connect((Ipv4Addr::new(169, 254, 169, 254), 80))?;
    in_child(|| {
        setsid().map_err(io::Error::from)?;
        let middle = getpid();
        in_background(|| {
            orphaned(middle)?;
            match TcpStream::connect(known) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
                Err(error) => Err(error),
                Ok(_) => Err(io::Error::other("somebody listens where nobody should")),
            }
        })
    })
}

/// Turns the calling process into the marked shell.
fn shell(stage: &Stage) -> Outcome {
    run(Path::new("/bin/sh"), &["sh", "-c", &stage.marked_command()])
}

/// Runs `body` in a child and waits for it.
fn in_child(body: impl FnOnce() -> Outcome) -> Outcome {
    match raw::split()? {
        Some(child) => waitpid(child, None).map(drop).map_err(io::Error::from),
        None => leave(&body()),
    }
}

/// Runs `body` in a child and does not wait.
fn in_background(body: impl FnOnce() -> Outcome) -> Outcome {
    match raw::split()? {
        Some(_) => Ok(()),
        None => leave(&body()),
    }
}

/// Waits until the process has another parent than `parent`.
fn orphaned(parent: Pid) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    while getppid() == parent {
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the parent does not end"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Ends a child. What went wrong in it is said; the observer finds nothing then, and says that too.
pub(crate) fn leave(outcome: &Outcome) -> ! {
    if let Err(error) = outcome {
        eprintln!("ways: {error}{}", if is_absent(error) { " (absent)" } else { "" });
    }
    std::process::exit(i32::from(outcome.is_err()))
}
