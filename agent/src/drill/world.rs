//! Everything but the service: load balancer, metadata service, the machines outside, and the clients; one process, the first of
//! the range's pid namespace, so that the kernel ends whatever still runs in the range when it ends.
//!
//! In: orders. Out: requests sent, lines logged, loot. Its last act, when the drill has gone for whatever reason, is to leave
//! nothing behind: service killed, cgroup and scratch directory removed. It made both, so that nothing can be left by a
//! drill that dies between making and handing over.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use super::balancer::{self, HOST, Log};
use super::control::{Answer, Order, Shot, obey};
use super::http::{Message, SILENCE_MAX};
use super::metadata_server;
use super::network::{BALANCER, COLLECTOR, HANDLER, METADATA, METADATA_V6, PAYMENTS};
use super::outside::{self, Loot};
use super::shifted_clock::ShiftedClock;
use super::{LOG_FILE, UPLOADS};

/// Of a response's body, what an answer repeats; a stolen credential has 300 bytes.
const BODY_BYTES_KEPT: usize = 4096;
/// Longest wait for killed processes to leave their cgroup; it takes a millisecond unless one is stuck in the kernel.
const CLEANUP_MAX: Duration = Duration::from_secs(2);

/// What the world needs to know, and has to remove.
#[derive(Clone, Debug, clap::Args)]
pub struct WorldArgs {
    /// Directory to make for the access log and the agent's state.
    #[arg(long)]
    scratch: PathBuf,
    /// Cgroup directory to make for the service, in a slice of its own.
    #[arg(long)]
    cgroup: PathBuf,
}

/// Runs the world until its stdin ends, then clears up.
///
/// # Errors
///
/// When an address cannot be bound or the access log cannot be made.
pub(super) fn run(args: &WorldArgs) -> io::Result<()> {
    let opened = furnish(args).and_then(|()| World::open(&args.scratch));
    let obeyed = opened.and_then(|world| obey(|order| world.execute(order)));
    let cleared = clear_up(args);
    obeyed.and(cleared)
}

fn furnish(args: &WorldArgs) -> io::Result<()> {
    // The service, who is nobody, may pass through to its uploads, and into nothing else.
    DirBuilder::new().mode(0o711).create(&args.scratch)?;
    let uploads = args.scratch.join(UPLOADS);
    fs::create_dir(&uploads)?;
    fs::set_permissions(&uploads, Permissions::from_mode(0o777))?;
    fs::create_dir_all(&args.cgroup)
}

/// What its orders work on; the rest runs by itself.
struct World {
    log: Log,
    loot: Loot,
    clock: ShiftedClock,
}

impl World {
    fn open(scratch: &Path) -> io::Result<Self> {
        let log = Log::new(File::create(scratch.join(LOG_FILE))?);
        let world = Self { log, loot: Loot::default(), clock: ShiftedClock::default() };
        balancer::serve(TcpListener::bind(BALANCER)?, world.log.clone(), world.clock.clone());
        metadata_server::serve(TcpListener::bind(METADATA)?);
        if let Ok(listener) = TcpListener::bind(METADATA_V6) {
            metadata_server::serve(listener);
        }
        outside::serve_payments(TcpListener::bind(PAYMENTS)?);
        outside::serve_collector(TcpListener::bind(COLLECTOR)?, world.loot.clone());
        outside::serve_handler(TcpListener::bind(HANDLER)?, world.loot.clone());
        Ok(world)
    }

    fn execute(&self, order: Order) -> io::Result<Answer> {
        match order {
            Order::Send(shot) => return self.send(&shot),
            Order::HoldLog => self.log.hold(),
            Order::ReleaseLog => self.log.release()?,
            Order::PassTime { seconds } => self.clock.pass(Duration::from_secs(seconds)),
            Order::Loot => return Ok(Answer::Loot { text: self.loot.text() }),
            Order::RefreshCredential | Order::NightlyReport => {
                return Err(io::Error::other("not an order for the world"));
            }
        }
        Ok(Answer::Done)
    }

    fn send(&self, shot: &Shot) -> io::Result<Answer> {
        let stream = connect(shot.from, BALANCER)?;
        let mut request = Message::request(&shot.method, &shot.target, HOST).with("User-Agent", &shot.user_agent);
        if let Some(file) = &shot.upload {
            request.body = fs::read(file)?;
        }
        let sent = self.clock.now();
        request.write(&stream)?;
        let response = Message::read(&stream)?;
        let body = response.body.get(..BODY_BYTES_KEPT).unwrap_or(&response.body);
        Ok(Answer::Answered {
            sent,
            answered: self.clock.now(),
            status: response.status(),
            body: String::from_utf8_lossy(body).into_owned(),
        })
    }
}

/// Connects from one of the world's addresses.
fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), SILENCE_MAX)?;
    socket.set_read_timeout(Some(SILENCE_MAX))?;
    Ok(socket.into())
}

fn clear_up(args: &WorldArgs) -> io::Result<()> {
    let emptied = remove_cgroup(&args.cgroup);
    let removed = fs::remove_dir_all(&args.scratch);
    emptied.and(removed)
}

/// Kills what runs in the service's cgroup, then removes it and the slice around it.
fn remove_cgroup(cgroup: &Path) -> io::Result<()> {
    let deadline = Instant::now() + CLEANUP_MAX;
    while let Err(error) = fs::remove_dir(cgroup) {
        if error.kind() == io::ErrorKind::NotFound {
            break;
        }
        if Instant::now() > deadline {
            return Err(error);
        }
        // Process ids as this pid namespace numbers them, as is kill's.
        for pid in fs::read_to_string(cgroup.join("cgroup.procs"))?.lines().filter_map(|line| line.parse().ok()) {
            // Gone already is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(1));
    }
    cgroup.parent().map_or(Ok(()), fs::remove_dir)
}
