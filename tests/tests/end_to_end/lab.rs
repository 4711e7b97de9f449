//! Two network namespaces with a wire between them, and the processes of a test in them.
//!
//! ```text
//!  world: nginx 192.0.2.10:80, moto 169.254.169.254:80, outside 203.0.113.66:80 --- wire --- app: php-cgi 10.20.0.10:9000
//! ```
//!
//! All of them run in one pid namespace whose first process only waits for the end of its stdin, which this process holds:
//! whichever way the test ends, the kernel ends them. Nothing leaves the machine; neither namespace has a way out.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use breachline_tests::wait_for;
use nix::sched::{CloneFlags, setns, unshare};

use crate::LIMIT;

/// Where a process of the lab runs.
#[derive(Copy, Clone)]
pub(crate) enum Place {
    /// The application server's host.
    App,
    /// Everything else.
    World,
}

pub(crate) struct Lab {
    /// The first process of the pid namespace; ends when its stdin does.
    anchor: Child,
    app: File,
    world: File,
    processes: File,
    children: Vec<Child>,
    cgroup: PathBuf,
}

impl Lab {
    pub(crate) fn open() -> Result<Self> {
        let anchor = on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID)?;
            Ok(Command::new("cat").stdin(Stdio::piped()).spawn()?)
        })?;
        let pid = anchor.id();
        let world = on_own_thread(move || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            lay_wire(pid)?;
            Ok(File::open("/proc/thread-self/ns/net")?)
        })?;
        let cgroup = cgroup2()?.join(format!("breachline_e2e_{}.slice/shop-php.service", std::process::id()));
        fs::create_dir_all(&cgroup).with_context(|| format!("cannot make {}", cgroup.display()))?;
        let lab = Self {
            app: File::open(format!("/proc/{pid}/ns/net"))?,
            processes: File::open(format!("/proc/{pid}/ns/pid"))?,
            world,
            anchor,
            children: Vec::new(),
            cgroup,
        };
        let setup = "ip link set lo up; ip address add 10.20.0.10/24 dev eth0; ip link set eth0 up; ip route add default via 10.20.0.1";
        ensure!(
            lab.command(Place::App, "sh", &["-ec", setup], Stdio::null())?.wait()?.success(),
            "addressing the app's host failed"
        );
        Ok(lab)
    }

    /// Starts a process that lives as long as the lab.
    pub(crate) fn start(&mut self, place: Place, program: &str, args: &[&str]) -> Result<()> {
        let child = self.command(place, program, args, Stdio::null())?;
        self.children.push(child);
        Ok(())
    }

    /// Starts the application server in a cgroup of its own, as a service manager does.
    pub(crate) fn start_service(&mut self, program: &str, args: &[&str]) -> Result<()> {
        let enter = "echo 0 > \"$0/cgroup.procs\"; exec \"$@\"";
        let cgroup = self.cgroup.to_string_lossy().into_owned();
        self.start(Place::App, "sh", &[&["-ec", enter, &cgroup, program], args].concat())
    }

    /// Runs a program to its end; gives what it printed.
    pub(crate) fn output(&self, place: Place, program: &str, args: &[&str]) -> Result<String> {
        let output = self.command(place, program, args, Stdio::piped())?.wait_with_output()?;
        ensure!(output.status.success(), "{program} failed: {}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A socket that listens in the world.
    pub(crate) fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        let namespace = self.world.try_clone()?;
        on_own_thread(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            Ok(TcpListener::bind(address)?)
        })
    }

    fn command(&self, place: Place, program: &str, args: &[&str], stdout: Stdio) -> Result<Child> {
        let network = match place {
            Place::App => self.app.try_clone()?,
            Place::World => self.world.try_clone()?,
        };
        let processes = self.processes.try_clone()?;
        let mut command = Command::new(program);
        command.args(args).env("TZ", "UTC").stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
        let child = on_own_thread(move || {
            setns(network, CloneFlags::CLONE_NEWNET)?;
            setns(processes, CloneFlags::CLONE_NEWPID)?;
            Ok(command.spawn()?)
        });
        child.with_context(|| format!("cannot start {program}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.anchor.stdin.take());
        // The kernel kills them all as the first of their pid namespace ends, which in turn lasts until they are reaped.
        for child in self.children.iter_mut().chain([&mut self.anchor]) {
            let _ = child.wait();
        }
        let removed = wait_for(LIMIT, || fs::remove_dir(&self.cgroup).ok());
        if removed.is_none() || self.cgroup.parent().is_none_or(|slice| fs::remove_dir(slice).is_err()) {
            eprintln!("left behind: {}", self.cgroup.display());
        }
    }
}

/// Namespaces belong to threads: the test's own must stay where it is.
fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    thread::spawn(work).join().map_err(|_| io::Error::other("a thread panicked"))?
}

/// Makes the wire, from the world's side, to the namespace of process `peer`. The documentation networks are answered for and not
/// owned (AnyIP): an address of this machine's would be no outside to a sensor.
fn lay_wire(peer: u32) -> Result<()> {
    let setup = format!(
        "ip link set lo up
         ip link add wire type veth peer name eth0 netns {peer}
         ip address add 10.20.0.1/24 dev wire
         ip link set wire up
         ip address add 169.254.169.254/32 dev lo
         for network in 192.0.2.0 198.51.100.0 203.0.113.0
         do ip route add local $network/24 dev lo
         done"
    );
    ensure!(Command::new("sh").args(["-ec", &setup]).status()?.success(), "laying the wire failed");
    Ok(())
}

fn cgroup2() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (directory, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then_some(directory)
    });
    Ok(Path::new(mount.context("no cgroup2 is mounted")?).to_owned())
}
