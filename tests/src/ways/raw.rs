//! The one door to system calls that no safe wrapper offers. Every function here is safe to call from a performer, which
//! has one thread unless it says otherwise, and gives the kernel's own error.
#![expect(unsafe_code, reason = "raw system calls are what the ways are made of; each block says why it is sound")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::unistd::{ForkResult, Pid, fork};

/// `fork(2)`: the child gets `None`.
pub(crate) fn split() -> io::Result<Option<Pid>> {
    // SAFETY: a performer has one thread, so the child inherits no lock that nobody will release.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// `clone(CLONE_PARENT | SIGCHLD)`: a child that looks like a sibling. The child gets `None`.
pub(crate) fn split_as_sibling() -> io::Result<Option<Pid>> {
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with no stack given this is fork(2) with another parent; one thread, as above. The
    // first argument is the flags on both architectures that are built for, the rest is unused.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(Pid::from_raw(pid.try_into().unwrap_or(-1)))),
    }
}

/// `socket(2)` with any numbers.
pub(crate) fn socket(domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    owned(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })
}

/// A descriptor that the kernel has just given, or its error.
pub(crate) fn owned(descriptor: i32) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// `setsockopt(2)` with a number.
pub(crate) fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or_default();
    // SAFETY: the value lives through the call and has the length that is said.
    checked(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) })
}

/// `sendmmsg(2)` with one message.
pub(crate) fn send_many(socket: BorrowedFd<'_>, payload: &[u8], address: &Address) -> io::Result<()> {
    let mut part = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    // SAFETY: all zeros is a valid empty header.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_name = address.bytes.as_ptr().cast_mut().cast();
    message.msg_hdr.msg_namelen = address.length();
    message.msg_hdr.msg_iov = &raw mut part;
    message.msg_hdr.msg_iovlen = 1;
    // SAFETY: one header, whose parts live through the call; the kernel only reads them.
    checked(unsafe { libc::sendmmsg(socket.as_raw_fd(), &raw mut message, 1, 0) })
}

/// `sendto(2)`.
pub(crate) fn send_to(socket: BorrowedFd<'_>, payload: &[u8], flags: i32, address: &Address) -> io::Result<()> {
    let (start, name) = (payload.as_ptr().cast(), address.bytes.as_ptr().cast());
    // SAFETY: both buffers live through the call and have the lengths that are said.
    let sent = unsafe { libc::sendto(socket.as_raw_fd(), start, payload.len(), flags, name, address.length()) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `connect(2)`.
pub(crate) fn connect(socket: BorrowedFd<'_>, address: &Address) -> io::Result<()> {
    // SAFETY: the address lives through the call and has the length that is said.
    checked(unsafe { libc::connect(socket.as_raw_fd(), address.bytes.as_ptr().cast(), address.length()) })
}

/// `bind(2)`.
pub(crate) fn bind(socket: BorrowedFd<'_>, address: &Address) -> io::Result<()> {
    // SAFETY: the address lives through the call and has the length that is said.
    checked(unsafe { libc::bind(socket.as_raw_fd(), address.bytes.as_ptr().cast(), address.length()) })
}

/// Runs a few instructions from an anonymous mapping: code that no file ever held and no exec ever started.
pub(crate) fn run_mapped_code() -> io::Result<u32> {
    /// Return 42: `mov eax, 42; ret`.
    #[cfg(target_arch = "x86_64")]
    const CODE: &[u8] = &[0xb8, 42, 0, 0, 0, 0xc3];
    /// `mov w0, 42; ret`.
    #[cfg(target_arch = "aarch64")]
    const CODE: &[u8] = &[0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6];
    const PAGE: usize = 4096;
    let (rw, rx) = (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ | libc::PROT_EXEC);
    // SAFETY: a fresh page of its own, filled while writable and called once it is executable; the code above follows the
    // C calling convention and touches nothing but its return register. The cache is kept coherent by mprotect on x86-64
    // and by the fresh mapping elsewhere.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), PAGE, rw, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        std::ptr::copy_nonoverlapping(CODE.as_ptr(), page.cast(), CODE.len());
        checked(libc::mprotect(page, PAGE, rx))?;
        let code: extern "C" fn() -> u32 = std::mem::transmute(page);
        let answer = code();
        libc::munmap(page, PAGE);
        Ok(answer)
    }
}

/// A socket address as the kernel reads it.
pub(crate) struct Address {
    bytes: Vec<u8>,
}

impl Address {
    /// IPv4.
    pub(crate) fn v4(address: std::net::Ipv4Addr, port: u16) -> Self {
        let mut bytes = u16::try_from(libc::AF_INET).unwrap_or_default().to_ne_bytes().to_vec();
        bytes.extend(port.to_be_bytes());
        bytes.extend(address.octets());
        bytes.resize(size_of::<libc::sockaddr_in>(), 0);
        Self { bytes }
    }

    /// A link-layer address (packet(7)): protocol and interface alone, as `SOCK_DGRAM` wants it.
    pub(crate) fn link(protocol: u16, interface: u32) -> Self {
        let mut bytes = u16::try_from(libc::AF_PACKET).unwrap_or_default().to_ne_bytes().to_vec();
        bytes.extend(protocol.to_be_bytes());
        bytes.extend(interface.to_ne_bytes());
        bytes.resize(size_of::<libc::sockaddr_ll>(), 0);
        // Six bytes of hardware address, all zero: the loopback's.
        bytes[11] = 6;
        Self { bytes }
    }

    /// The kernel itself, by netlink(7): `struct sockaddr_nl`.
    pub(crate) fn kernel() -> Self {
        let mut bytes = u16::try_from(libc::AF_NETLINK).unwrap_or_default().to_ne_bytes().to_vec();
        bytes.resize(size_of::<libc::sockaddr_nl>(), 0);
        Self { bytes }
    }

    /// A port of a machine (vsock(7)): `struct sockaddr_vm`.
    pub(crate) fn vsock(machine: u32, port: u32) -> Self {
        let mut bytes = u16::try_from(libc::AF_VSOCK).unwrap_or_default().to_ne_bytes().to_vec();
        bytes.extend([0; 2]);
        bytes.extend(port.to_ne_bytes());
        bytes.extend(machine.to_ne_bytes());
        bytes.resize(size_of::<libc::sockaddr_vm>(), 0);
        Self { bytes }
    }

    /// Its bytes, for calls that take a pointer to them.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn length(&self) -> libc::socklen_t {
        libc::socklen_t::try_from(self.bytes.len()).unwrap_or_default()
    }
}

fn checked(answer: i32) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
