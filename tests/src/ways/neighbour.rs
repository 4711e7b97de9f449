//! A program of this machine that is none of the service's: what the service may have it do.
//!
//! In: a folder. Out: a socket in it that takes orders as a container runtime's or a message bus's does, and a spool whose jobs
//! are run as those of `at` and cron are. It ends when its standard input does.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::stage::{Outcome, Stage, mark};
use super::{injection, program};

/// Longest wait for a job to be done, and longest life of a process that is there to be broken into; on an emulated machine an
/// exec takes a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the spool is looked at for the job to be gone.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The running neighbour; gone when dropped.
pub(crate) struct Neighbour {
    process: Child,
}

impl Neighbour {
    /// Starts it, as no descendant of the service, and waits until it can be asked.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("neighbour").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut neighbour = Self { process: command.spawn().context("cannot start the neighbour")? };
        let mut line = String::new();
        if let Some(answers) = neighbour.process.stdout.take() {
            BufReader::new(answers).read_line(&mut line)?;
        }
        ensure!(line.trim() == "ready", "the neighbour did not start");
        Ok(neighbour)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// `ways neighbour FOLDER`.
pub(crate) fn run(folder: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(socket(folder))?;
    let spool = spool(folder);
    fs::create_dir_all(&spool)?;
    let jobs = Inotify::init(InitFlags::empty())?;
    jobs.add_watch(&spool, AddWatchFlags::IN_MOVED_TO)?;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // The performer says what it did not get.
            let _ = obey(client);
        }
    });
    std::thread::spawn(move || work(&jobs, &spool));
    println!("ready");
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

/// `ways spin`: a process that is busy in user space for a while.
pub(crate) fn spin() {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        std::hint::spin_loop();
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("docker.sock")
}

fn spool(folder: &Path) -> PathBuf {
    folder.join("spool")
}

/// One order: `run COMMAND` is done before it is answered; `victim` starts a process and names it until the client goes.
fn obey(client: UnixStream) -> io::Result<()> {
    let mut orders = BufReader::new(client.try_clone()?);
    let mut order = String::new();
    orders.read_line(&mut order)?;
    match order.trim_end().split_once(' ') {
        Some(("run", command)) => {
            let status = Command::new("/bin/sh").args(["-c", command]).stdin(Stdio::null()).status()?;
            writeln!(&client, "ended {}", status.code().unwrap_or(-1))
        }
        _ => {
            let mut victim = Command::new(std::env::current_exe()?).arg("spin").stdin(Stdio::null()).spawn()?;
            writeln!(&client, "{}", victim.id())?;
            orders.read_to_string(&mut order)?;
            victim.kill()?;
            victim.wait().map(drop)
        }
    }
}

/// Runs each job that comes into the spool, and removes it then.
fn work(jobs: &Inotify, spool: &Path) -> io::Result<()> {
    loop {
        for job in jobs.read_events()?.into_iter().filter_map(|event| event.name) {
            let job = spool.join(job);
            Command::new("/bin/sh").arg(&job).stdin(Stdio::null()).status()?;
            fs::remove_file(&job)?;
        }
    }
}

impl Stage {
    /// Where the neighbour is: above the performer's own folder.
    fn neighbourhood(&self) -> &Path {
        self.folder().parent().unwrap_or(self.folder())
    }

    /// Asks the neighbour; its answer, and the connection.
    fn ask(&self, order: &str) -> io::Result<(String, UnixStream)> {
        let mut client = UnixStream::connect(socket(self.neighbourhood()))?;
        writeln!(client, "{order}")?;
        let mut answer = String::new();
        BufReader::new(client.try_clone()?).read_line(&mut answer)?;
        Ok((answer.trim_end().to_owned(), client))
    }
}

/// A daemon asked over its socket: `docker.sock`, D-Bus (`systemd-run`).
pub(crate) fn asked(stage: &Stage) -> Outcome {
    match stage.ask(&format!("run {}", stage.marked_command()))? {
        (answer, _) if answer == "ended 0" => Ok(()),
        (answer, _) => Err(io::Error::other(format!("the neighbour says `{answer}`"))),
    }
}

/// A job left in a spool: `at`, cron.
pub(crate) fn job(stage: &Stage) -> Outcome {
    let written = stage.file("job", b"exit 0\n")?;
    let job = spool(stage.neighbourhood()).join(mark("spooled-job"));
    fs::rename(written, &job)?;
    let deadline = Instant::now() + PATIENCE;
    while job.exists() {
        if Instant::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody did the job"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Another program made to connect, by ptrace(2).
pub(crate) fn injected(stage: &Stage) -> Outcome {
    let (answer, leash) = stage.ask("victim")?;
    let victim = answer.parse().map_err(io::Error::other)?;
    let outcome = injection::connect(victim, stage.port());
    drop(leash);
    outcome
}

/// The kernel itself asked to start a program for whoever crashes: `core_pattern`, a setting of the whole machine.
pub(crate) fn crash_handler(stage: &Stage) -> Outcome {
    const PATTERN: &str = "/proc/sys/kernel/core_pattern";
    // Only a guest may be changed so.
    fs::metadata("/guest")?;
    let before = fs::read_to_string(PATTERN)?;
    let job = stage.file("job", b"exit 0\n")?;
    fs::write(PATTERN, format!("|/bin/sh {} {}", job.display(), mark("core-pattern")))?;
    // It has been started by the time the crashed process is gone.
    let crashed = program::finished(Command::new("/bin/sh").args(["-c", "kill -SEGV $$"]));
    fs::write(PATTERN, before)?;
    match crashed {
        Err(error) if error.to_string().contains("signal") => Ok(()),
        _ => Err(io::Error::other("nothing crashed")),
    }
}
