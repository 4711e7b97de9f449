//! Addresses that something on this host rewrites on the way, as service proxies do: what was asked for, and what was reached.
#![expect(
    unsafe_code,
    reason = "a service proxy of three instructions, loaded by bpf(2); each block says why it is sound"
)]

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use breachline::event::{Flow, FlowState, HostEventKind};
use breachline::kernel::Config;

use crate::watch::{Watch, root};

/// `bpf(2)`: commands, a program type, an attach type (`linux/bpf.h`).
const PROG_LOAD: i32 = 5;
const LINK_CREATE: i32 = 28;
const CGROUP_SOCK_ADDR: u32 = 18;
const CGROUP_INET4_CONNECT: u32 = 10;

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach: u32,
}

/// The same for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach: u32,
    flags: u32,
}

fn bpf<T>(command: i32, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes live through the call and have the length that is said.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One instruction: operation, destination and source register, offset, number.
fn instruction(code: u8, to: u8, from: u8, offset: i16, number: i32) -> [u8; 8] {
    let ([o0, o1], [n0, n1, n2, n3]) = (offset.to_ne_bytes(), number.to_ne_bytes());
    [code, to | from << 4, o0, o1, n0, n1, n2, n3]
}

/// Sends whoever in `cgroup` asks loopback for port `asked` to port `given`, until it is dropped.
fn proxy(cgroup: &Path, asked: u16, given: u16) -> OwnedFd {
    // Offsets of `struct bpf_sock_addr`.
    const ADDRESS: i16 = 4;
    const PORT: i16 = 24;
    let loopback = i32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets());
    let code = [
        instruction(0x61, 2, 1, ADDRESS, 0),  // r2 = address
        instruction(0x55, 2, 0, 4, loopback), // another one: leave it
        instruction(0x61, 2, 1, PORT, 0),
        instruction(0x55, 2, 0, 2, i32::from(asked.to_be())),
        instruction(0xb7, 2, 0, 0, i32::from(given.to_be())),
        instruction(0x63, 1, 2, PORT, 0), // port = r2
        instruction(0xb7, 0, 0, 0, 1),    // proceed
        instruction(0x95, 0, 0, 0, 0),
    ]
    .concat();
    let program = ProgLoad {
        kind: CGROUP_SOCK_ADDR,
        instructions: u32::try_from(code.len() / 8).expect("few"),
        code: code.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        attach: CGROUP_INET4_CONNECT,
        ..ProgLoad::default()
    };
    let program = bpf(PROG_LOAD, &program).expect("loaded");
    let target = File::open(cgroup).expect("a cgroup");
    let number = |fd: i32| u32::try_from(fd).expect("a descriptor");
    let (program, target) = (number(program.as_raw_fd()), number(target.as_raw_fd()));
    bpf(LINK_CREATE, &LinkCreate { program, target, attach: CGROUP_INET4_CONNECT, flags: 0 }).expect("attached")
}

/// Where cgroup v2 is mounted.
fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup v2 is mounted");
    PathBuf::from(mount.split(' ').nth(4).expect("a mount point"))
}

fn closed(watch: &mut Watch, socket: u64) -> Flow {
    watch.until("its end", |event| match &event.kind {
        HostEventKind::Flow(flow) if flow.socket == socket && flow.state == FlowState::Closed => Some(flow.clone()),
        _ => None,
    })
}

/// A port that was free a moment ago, and a listener on another.
fn ports() -> (u16, TcpListener, SocketAddr) {
    let asked = TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("address").port();
    let backend = TcpListener::bind("127.0.0.1:0").expect("bound");
    let given = backend.local_addr().expect("address");
    (asked, backend, given)
}

/// A proxy that came after the senses: they see what was asked for, and at the end what was reached.
#[test]
fn asked_and_reached_are_both_told() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let (asked, backend, given) = ports();
    let link = proxy(&cgroup_root(), asked, given.port());
    drop(TcpStream::connect(("127.0.0.1", asked)).expect("the proxy passes it on"));
    drop(link);
    drop(backend);
    let contact = watch.contact("what was asked for", |contact| contact.peer.port() == asked);
    assert_eq!(closed(&mut watch, contact.socket).peer, given);
}

/// A proxy of a cgroup below, or one that was there before: its word comes first, and what is reached is what is told.
#[test]
fn what_a_nearer_proxy_makes_of_it_is_told() {
    if !root() {
        return;
    }
    let mut watch = Watch::new(&Config::default());
    let (asked, backend, given) = ports();
    let cgroup = cgroup_root().join(format!("breachline-proxy-{}", std::process::id()));
    fs::create_dir(&cgroup).expect("made");
    let link = proxy(&cgroup, asked, given.port());
    let script = format!("echo $$ > {}/cgroup.procs; : </dev/tcp/127.0.0.1/{asked}", cgroup.display());
    let mut client = Command::new("/bin/bash").args(["-c", &script]).spawn().expect("bash");
    assert!(client.wait().expect("waited").success(), "the proxy passes it on");
    drop(link);
    drop(backend);
    fs::remove_dir(&cgroup).expect("empty");
    let contact = watch.contact("what was reached", |contact| contact.peer == given);
    assert_eq!(contact.actor.process.pid, client.id());
    assert_eq!(closed(&mut watch, contact.socket).peer, given);
    assert!(watch.contacts(|contact| contact.peer.port() == asked).is_empty());
}
