//! Who descends from whom, and how processes end.

use std::fs;
use std::process::{Command, Stdio};

use breachline::event::{Exit, HostEventKind, ProcessKey};
use breachline::kernel::Config;

use crate::watch::{Watch, key_of, root};

fn exit_of(watch: &mut Watch, process: ProcessKey) -> Exit {
    watch.until("exit", |event| match &event.kind {
        HostEventKind::Exit(exit) if exit.actor.process == process => Some(exit.clone()),
        _ => None,
    })
}

#[test]
fn a_fork_names_parent_and_child() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    // A subshell is a fork that starts no program.
    let mut shell =
        Command::new("/bin/sh").args(["-c", "(read line); :"]).stdin(Stdio::piped()).spawn().expect("spawned");
    let parent = key_of(shell.id());
    let fork = watch.until("fork", |event| match &event.kind {
        HostEventKind::Fork(fork) if fork.actor.process == parent => Some(fork.clone()),
        _ => None,
    });
    assert_eq!(fork.child, key_of(fork.child.pid));
    drop(shell.stdin.take());
    shell.wait().expect("waited");
    assert_eq!(exit_of(&mut watch, fork.child).actor.process, fork.child);
}

/// The child of `posix_spawn` (which is how this process starts programs) is told by its program alone, with its line.
#[test]
fn a_spawned_program_names_its_line() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().expect("spawned");
    let (own, key) = (key_of(std::process::id()), key_of(child.id()));
    let exec = watch.exec_of(child.id());
    assert_eq!((exec.actor.process, exec.actor.parent, exec.ancestors.first()), (key, own, Some(&own)));
    let told = |kind: &HostEventKind| matches!(kind, HostEventKind::Fork(fork) if fork.child == key);
    assert!(!watch.seen.iter().any(|event| told(&event.kind)), "its exec says it all");
    drop(child.stdin.take());
    child.wait().expect("waited");
    assert_eq!(exit_of(&mut watch, key).actor.process, key);
}

#[test]
fn an_exit_says_how_it_ended() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let mut check = |script: &str, expected: (u8, u8)| {
        let mut child = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::piped()).spawn().expect("spawned");
        let key = key_of(child.id());
        child.wait().expect("waited");
        let exit = exit_of(&mut watch, key);
        assert_eq!((exit.status, exit.signal), expected, "{script}");
    };
    check("exit 0", (0, 0));
    check("exit 3", (3, 0));
    check("kill -KILL $$", (0, 9));
    check("kill -TERM $$", (0, 15));
}

#[test]
fn a_thread_is_no_process() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let own = key_of(std::process::id());
    std::thread::spawn(|| ()).join().expect("joined");
    // A sentinel after it: what was before has been read when it is there.
    let mut child = Command::new("/bin/true").spawn().expect("spawned");
    child.wait().expect("waited");
    watch.exec_of(child.id());
    let own_exit = |kind: &HostEventKind| matches!(kind, HostEventKind::Exit(exit) if exit.actor.process == own);
    assert!(!watch.seen.iter().any(|event| own_exit(&event.kind)), "a thread's end is not the process'");
}

/// A daemon's way: its parent ends, it is given to a reaper, and only then it runs its program.
#[test]
fn reparenting_does_not_cut_the_line() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().expect("dir");
    let (gate, pid) = (dir.path().join("gate"), dir.path().join("pid"));
    fs::write(&gate, "").expect("written");
    let mut watch = Watch::new(&Config::default());
    let inner = format!(
        "echo $$ > {pid}; while [ -e {gate} ]; do :; done; exec /bin/true",
        pid = pid.display(),
        gate = gate.display()
    );
    let script = format!("sh -c '{inner}' & while [ ! -s {pid} ]; do :; done", pid = pid.display());
    let mut middle = Command::new("/bin/sh").args(["-c", &script]).spawn().expect("spawned");
    let (own, lost) = (key_of(std::process::id()), key_of(middle.id()));
    middle.wait().expect("waited");
    let orphan: u32 = fs::read_to_string(&pid).expect("pid").trim().parse().expect("number");
    fs::remove_file(&gate).expect("removed");
    let exec = watch.until("exec of the orphan's program", |event| match &event.kind {
        HostEventKind::Exec(exec) if exec.actor.process.pid == orphan && exec.exe_path.ends_with("/true") => {
            Some(exec.clone())
        }
        _ => None,
    });
    assert_ne!(exec.actor.parent, lost, "it has another parent now");
    assert_eq!(exec.ancestors[..2], [lost, own], "and is still what it was");
}

/// `CLONE_PARENT` makes a child look like its parent's sibling; who made it is told all the same.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_child_made_to_look_like_a_sibling_is_a_child() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    // clone(CLONE_PARENT | SIGCHLD) is call 56; perl has a way to make any call.
    let script = "if (syscall(56, 0x8011, 0, 0, 0, 0) == 0) { exec '/bin/true', 'sibling' }";
    let mut maker = Command::new("perl").args(["-e", script]).spawn().expect("perl is installed");
    let (own, forker) = (key_of(std::process::id()), key_of(maker.id()));
    let exec = watch.until("the sibling's exec", |event| match &event.kind {
        HostEventKind::Exec(exec) if exec.argv == ["/bin/true", "sibling"] => Some((**exec).clone()),
        _ => None,
    });
    maker.wait().expect("waited");
    assert_eq!(exec.actor.parent, own, "what the kernel's parent pointer says");
    assert_eq!(exec.ancestors[..2], [forker, own], "who forked it");
    // It is this process' child by its parent pointer: leave no zombie.
    let sibling = nix::unistd::Pid::from_raw(exec.actor.process.pid.cast_signed());
    nix::sys::wait::waitpid(sibling, None).expect("waited");
}
