//! The service that is broken into: a process with a listener, in a network namespace of its own, that performs one way
//! after the other in children.
//!
//! In: lines `NAME PORT NUMBER` on standard input. Out: for each a line `done PID CODE NUMBER TEXT` on standard output, once
//! the performer and all its descendants have ended and a marked child has been run after them.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::endpoint::ADDRESSES;
use super::stage::{Outcome, SERVICE_PORT, Stage, is_absent, is_barred};
use super::table;

/// How a performer ends that could not do its way because the kernel has no such thing.
pub(crate) const ABSENT: i32 = 77;
/// How a performer ends that was not let do its way.
pub(crate) const BARRED: i32 = 78;
/// Longest life of a performer with its descendants; on an emulated machine an exec takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// `ways serve FOLDER`.
pub(crate) fn serve(folder: PathBuf) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    busybox(&["ip", "link", "set", "lo", "up"])?;
    for address in ADDRESSES {
        let prefix = if address.contains(':') { 128 } else { 32 };
        busybox(&["ip", "addr", "add", &format!("{address}/{prefix}"), "dev", "lo"])?;
    }
    listen((Ipv4Addr::UNSPECIFIED, SERVICE_PORT).into(), |_| ())?;
    for address in ADDRESSES {
        let address: IpAddr = address.parse().map_err(io::Error::other)?;
        listen(SocketAddr::new(address, 80), answer)?;
    }
    say("ready")?;
    for line in io::stdin().lock().lines() {
        say(&order(&line?, &folder)?)?;
    }
    Ok(())
}

/// `ways perform NAME PORT FOLDER`: does one way, in this process.
pub(crate) fn perform(name: &str, port: u16, folder: PathBuf) -> i32 {
    let stage = Stage::new(folder, port, name);
    let outcome: Outcome = match table::WAYS.iter().find(|way| way.name == name) {
        Some(way) => std::fs::create_dir_all(stage.folder()).and_then(|()| (way.perform)(&stage)),
        None => Err(io::Error::other("no such way")),
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            // Standard output is the leash; the service passes on what it says.
            let _ = write!(io::stdout(), "{error}");
            match &error {
                error if is_absent(error) => ABSENT,
                error if is_barred(error) => BARRED,
                _ => 1,
            }
        }
    }
}

/// The mark of the child that is run after way `number`: once its record is there, all before it has been read.
pub(crate) fn end_mark(number: usize) -> String {
    format!("end-of-way-{number}")
}

fn order(line: &str, folder: &std::path::Path) -> io::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let [name, port, number] = words[..] else { return Err(io::Error::other(format!("not an order: {line}"))) };
    let mut performer = Command::new(std::env::current_exe()?)
        .args(["perform", name, port])
        .arg(folder.join(name))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let said = until_all_ended(&mut performer)?;
    let code = performer.wait()?.code().unwrap_or(-1);
    reap();
    let mark = end_mark(number.parse().map_err(io::Error::other)?);
    Command::new(std::env::current_exe()?).args(["nothing", &mark]).stdin(Stdio::null()).status()?;
    Ok(format!("done {} {code} {number} {}", performer.id(), said.replace(['\n', '\r'], " ")))
}

/// Reads the leash, the pipe that is every descendant's standard output, to its end: then all have ended.
fn until_all_ended(performer: &mut Child) -> io::Result<String> {
    let Some(mut leash) = performer.stdout.take() else { return Ok(String::new()) };
    let deadline = Instant::now() + PATIENCE;
    let mut said = Vec::new();
    while readable(&leash, deadline)? {
        let mut part = [0; 512];
        match leash.read(&mut part)? {
            0 => return Ok(String::from_utf8_lossy(&said).into_owned()),
            // A performer that says more than a sentence is not listened to.
            length if said.len() < 4096 => said.extend(&part[..length]),
            _ => {}
        }
    }
    performer.kill()?;
    Ok(format!("did not end within {PATIENCE:?}"))
}

fn readable(leash: &ChildStdout, deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).map_err(io::Error::other)?;
    Ok(poll(&mut [PollFd::new(leash.as_fd(), PollFlags::POLLIN)], timeout)? > 0)
}

/// Children that were made to look like the service's own.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

/// Accepts on a thread of its own for as long as the service lives.
fn listen(address: SocketAddr, serve: fn(TcpStream)) -> io::Result<()> {
    let listener = bind(address)?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(())
}

/// Binds as soon as the address may be used: an IPv6 address is tentative for a moment after it was added.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}

/// Answers every request head with an empty document until the client goes.
fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while head.len() < 4096 && matches!(stream.read(&mut byte), Ok(1)) {
        head.extend(byte);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    }
}

fn busybox(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("/bin/busybox").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("busybox {}: {why}", arguments.join(" "))))
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
