//! Programs started in every disguise.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio as ChildStdio};

use breachline::event::{Exec, Stdio};
use breachline::kernel::Config;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::watch::{Watch, key_of, own_namespace, root};

/// Runs a command to its end and returns its exec record.
fn exec_of(command: &mut Command) -> Exec {
    let mut watch = Watch::new(&Config::default());
    let mut child = command.spawn().expect("spawned");
    let pid = child.id();
    child.wait().expect("waited");
    watch.exec_of(pid)
}

fn resolved(path: &str) -> String {
    fs::canonicalize(path).expect("resolved").to_str().expect("text").to_owned()
}

#[test]
fn a_program_is_its_file_whatever_it_is_called() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().expect("dir");
    let link = dir.path().join("innocent");
    symlink("/bin/sh", &link).expect("linked");
    let exec = exec_of(
        Command::new(&link)
            .arg0("php-fpm: pool www")
            .args(["-c", "exit 0"])
            .current_dir(dir.path())
            .stdin(ChildStdio::null())
            .stdout(ChildStdio::piped()),
    );
    let shell = fs::metadata("/bin/sh").expect("metadata");
    let own = key_of(std::process::id());
    assert_eq!(exec.exe_path, resolved("/bin/sh"));
    assert_eq!(Path::new(&exec.filename), link);
    assert_eq!(exec.interpreter, None);
    assert_eq!(exec.argv, ["php-fpm: pool www", "-c", "exit 0"]);
    assert!(!exec.argv_truncated && !exec.memfd);
    assert_eq!(exec.actor.exe.inode, shell.ino());
    assert_eq!(u64::from(exec.link_count), shell.nlink());
    assert_eq!(exec.cwd, resolved(dir.path().to_str().expect("text")));
    assert_eq!(exec.stdio[..2], [Stdio::File, Stdio::Pipe]);
    assert_eq!(exec.actor.parent, own);
    assert_eq!(exec.ancestors.first(), Some(&own));
    assert_eq!(exec.ancestors.get(1).map(|key| key.pid), Some(nix::unistd::getppid().as_raw().cast_unsigned()));
    assert_eq!((exec.actor.uid, exec.actor.euid), (0, 0));
    assert_eq!(exec.actor.comm, "innocent");
    assert_eq!(
        (exec.actor.net_ns, exec.actor.mnt_ns, exec.actor.pid_ns),
        (own_namespace("net"), own_namespace("mnt"), own_namespace("pid"))
    );
    assert_ne!(exec.actor.cgroup, 0);
}

#[test]
fn users_and_capabilities_are_the_new_programs() {
    if !root() {
        return;
    }
    let exec = exec_of(Command::new("/bin/true").uid(65_534).gid(65_534));
    assert_eq!((exec.actor.uid, exec.actor.euid, exec.capabilities), (65_534, 65_534, 0));
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let own = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    let exec = exec_of(&mut Command::new("/bin/true"));
    assert_eq!(format!("{:016x}", exec.capabilities), own.trim());
}

#[test]
fn a_script_names_its_interpreter() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().expect("dir");
    let script = dir.path().join("job");
    fs::write(&script, "#!/bin/sh\nexit 0\n").expect("written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("executable");
    let exec = exec_of(Command::new(&script).arg("now"));
    assert_eq!(exec.exe_path, resolved("/bin/sh"));
    assert_eq!(Path::new(&exec.filename), script);
    assert_eq!(exec.interpreter.as_deref(), Some("/bin/sh"));
    assert_eq!(exec.argv, ["/bin/sh", script.to_str().expect("text"), "now"]);
    assert_eq!(exec.actor.comm, "job");
}

#[test]
fn a_program_in_memory_has_no_name_on_disk() {
    if !root() {
        return;
    }
    let memory = memfd_create("payload", MFdFlags::empty()).expect("memfd");
    let mut file = fs::File::from(memory);
    file.write_all(&fs::read("/bin/true").expect("read")).expect("written");
    // Opened for writing it would be busy: executed through a read-only opening of the same file.
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let reading = fs::File::open(&path).expect("opened");
    drop(file);
    let exec = exec_of(&mut Command::new(format!("/proc/{}/fd/{}", std::process::id(), reading.as_raw_fd())));
    assert_eq!(exec.exe_path, "/memfd:payload");
    assert!(exec.memfd);
    assert_eq!(exec.link_count, 0);
}

#[test]
fn long_arguments_are_cut_and_say_so() {
    if !root() {
        return;
    }
    let long = "x".repeat(6000);
    let exec = exec_of(Command::new("/bin/true").args(["first", &long]));
    assert!(exec.argv_truncated);
    assert_eq!(exec.argv[..2], ["/bin/true", "first"]);
    assert_eq!(exec.argv.iter().map(|argument| argument.len() + 1).sum::<usize>(), 4096 + 1, "the cut one has no end");
}

#[test]
fn a_deep_path_keeps_its_end() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().expect("dir");
    let deep = dir.path().join("d/".repeat(60));
    fs::create_dir_all(&deep).expect("made");
    let program = deep.join("program");
    fs::copy("/bin/true", &program).expect("copied");
    let exec = exec_of(&mut Command::new(&program));
    assert!(exec.exe_path.starts_with(".../") && exec.exe_path.ends_with("/d/d/program"), "{}", exec.exe_path);
}

#[test]
fn standard_descriptors_are_told_apart() {
    if !root() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let stream = TcpStream::connect(listener.local_addr().expect("address")).expect("connected");
    let (unix, _other) = UnixStream::pair().expect("pair");
    let terminal = nix::pty::openpty(None, None).expect("pty");
    let exec = exec_of(
        Command::new("/bin/true")
            .stdin(ChildStdio::from(OwnedFd::from(stream)))
            .stdout(ChildStdio::from(OwnedFd::from(unix)))
            .stderr(ChildStdio::from(terminal.slave)),
    );
    assert_eq!(exec.stdio, [Stdio::InetSocket, Stdio::OtherSocket, Stdio::Terminal]);
}
