//! One operation through io_uring, by hand: what no system call tracer of `connect` sees.
//!
//! In: an operation. Out: its result as the kernel put it into the completion queue. Layouts: `include/uapi/linux/io_uring.h`
//! (Linux 5.10; later kernels only add to it).
#![expect(unsafe_code, reason = "the rings are memory shared with the kernel; each block says why it is sound")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::raw::{Address, owned};

/// `IORING_SETUP_SQPOLL`: a kernel thread submits.
const SETUP_SQPOLL: u32 = 1 << 1;
/// `IORING_ENTER_GETEVENTS`, `IORING_ENTER_SQ_WAKEUP`.
const ENTER_GETEVENTS: u32 = 1;
const ENTER_WAKEUP: u32 = 1 << 1;
/// `IORING_REGISTER_FILES`: before 5.11 a polling thread takes registered files only.
const REGISTER_FILES: u32 = 2;
/// `IOSQE_FIXED_FILE`.
const FIXED_FILE: u8 = 1;
/// `IORING_OFF_SQES`.
const ENTRIES_OFFSET: libc::off_t = 0x1000_0000;
/// A queue of [`QUEUE`] takes less than a page for both rings, and less than one for its entries; more cannot be mapped.
const MAPPED_BYTES: usize = 4096;
const QUEUE: u32 = 4;
/// Longest wait for a completion.
const PATIENCE: Duration = Duration::from_secs(5);

/// Operation numbers.
const OP_SENDMSG: u8 = 9;
const OP_CONNECT: u8 = 16;
const OP_SOCKET: u8 = 45;

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Default)]
struct Parameters {
    entries: [u32; 2],
    flags: u32,
    thread: [u32; 2],
    features: u32,
    rest: [u32; 4],
    submission: Offsets,
    completion: Offsets,
}

/// `struct io_sqring_offsets` and `struct io_cqring_offsets`: the same up to the array, or the entries.
#[repr(C)]
#[derive(Default)]
struct Offsets {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    counters: [u32; 2],
    /// Sixth word: flags and dropped, or overflow and the completions.
    array: u32,
    reserved: u32,
    address: u64,
}

/// `struct io_uring_sqe`.
#[repr(C)]
#[derive(Default)]
struct Entry {
    opcode: u8,
    flags: u8,
    priority: u16,
    descriptor: i32,
    offset: u64,
    address: u64,
    length: u32,
    operation_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// `struct io_uring_cqe`.
#[repr(C)]
struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

/// A ring that is used for a few operations.
pub(crate) struct Ring {
    descriptor: OwnedFd,
    rings: *mut u8,
    entries: *mut Entry,
    submission: Offsets,
    completion: Offsets,
    polled: bool,
}

impl Ring {
    /// Makes one; with `polled`, a kernel thread submits and `socket` is the one file it may use.
    pub(crate) fn new(polled: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let mut parameters = Parameters { flags: polled.map_or(0, |_| SETUP_SQPOLL), ..Parameters::default() };
        parameters.thread[1] = 1000;
        // SAFETY: the parameters live through the call, which fills them.
        let descriptor = owned(number(unsafe { libc::syscall(libc::SYS_io_uring_setup, QUEUE, &raw mut parameters) }))?;
        if let Some(socket) = polled {
            let files = [socket.as_raw_fd()];
            // SAFETY: one descriptor, read by the kernel during the call.
            let registered = number(unsafe {
                libc::syscall(
                    libc::SYS_io_uring_register,
                    descriptor.as_raw_fd(),
                    REGISTER_FILES,
                    files.as_ptr(),
                    1_u32,
                )
            });
            if registered < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let (rings, entries) = (map(&descriptor, 0)?, map(&descriptor, ENTRIES_OFFSET)?.cast());
        let (submission, completion) = (parameters.submission, parameters.completion);
        Ok(Self { descriptor, rings, entries, submission, completion, polled: polled.is_some() })
    }

    /// Connects a socket; the kernel's answer, negative for an error.
    pub(crate) fn connect(&mut self, socket: RawFd, address: &Address) -> io::Result<i32> {
        let bytes = address.bytes();
        let offset = u64::try_from(bytes.len()).unwrap_or_default();
        self.run(Entry {
            opcode: OP_CONNECT,
            descriptor: socket,
            address: pointer(bytes.as_ptr()),
            offset,
            ..Entry::default()
        })
    }

    /// Makes a socket (Linux 5.19).
    pub(crate) fn socket(&mut self, domain: i32, kind: u64, protocol: u32) -> io::Result<OwnedFd> {
        let answer = self.run(Entry {
            opcode: OP_SOCKET,
            descriptor: domain,
            offset: kind,
            length: protocol,
            ..Entry::default()
        })?;
        if answer < 0 { Err(io::Error::from_raw_os_error(-answer)) } else { owned(answer) }
    }

    /// Sends one datagram.
    pub(crate) fn send_message(&mut self, socket: RawFd, payload: &[u8], address: &Address) -> io::Result<i32> {
        let mut part = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
        // SAFETY: all zeros is a valid empty header.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = address.bytes().as_ptr().cast_mut().cast();
        header.msg_namelen = libc::socklen_t::try_from(address.bytes().len()).unwrap_or_default();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        let address = pointer(&raw const header);
        self.run(Entry { opcode: OP_SENDMSG, descriptor: socket, address, length: 1, ..Entry::default() })
    }

    /// Submits one entry and waits for its completion. What the entry points to must live until then, which it does: the
    /// callers hold it.
    fn run(&mut self, mut entry: Entry) -> io::Result<i32> {
        if self.polled {
            (entry.descriptor, entry.flags) = (0, FIXED_FILE);
        }
        let tail = self.word(self.submission.tail).load(Ordering::Relaxed);
        let slot = tail & self.word(self.submission.mask).load(Ordering::Relaxed);
        // SAFETY: the slot lies inside both mappings (it is masked), and the kernel does not read it before the tail moves.
        unsafe {
            self.entries.add(slot as usize).write(entry);
            self.rings.add(self.submission.array as usize).cast::<u32>().add(slot as usize).write(slot);
        }
        self.word(self.submission.tail).store(tail.wrapping_add(1), Ordering::Release);
        self.complete()
    }

    fn complete(&self) -> io::Result<i32> {
        let deadline = Instant::now() + PATIENCE;
        let head = self.word(self.completion.head).load(Ordering::Relaxed);
        let mut submit = 1_u32;
        while self.word(self.completion.tail).load(Ordering::Acquire) == head {
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no completion from io_uring"));
            }
            let (count, flags) = if self.polled { (0, ENTER_WAKEUP) } else { (submit, ENTER_GETEVENTS) };
            let wait = u32::from(!self.polled);
            // SAFETY: numbers only; no signal mask.
            let entered = number(unsafe {
                let ring = self.descriptor.as_raw_fd();
                libc::syscall(libc::SYS_io_uring_enter, ring, count, wait, flags, 0_usize, 0_usize)
            });
            if entered < 0 {
                return Err(io::Error::last_os_error());
            }
            submit = 0;
        }
        let slot = head & self.word(self.completion.mask).load(Ordering::Relaxed);
        // The completions' offset is the word before the last of the offsets (`cqes`), one earlier than the array's.
        let completions = self.completion.counters[1] as usize;
        // SAFETY: inside the mapping (masked), written by the kernel before it moved the tail.
        let completion = unsafe { self.rings.add(completions).cast::<Completion>().add(slot as usize).read() };
        self.word(self.completion.head).store(head.wrapping_add(1), Ordering::Release);
        Ok(completion.result)
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: an aligned word of the mapping at an offset that the kernel gave; shared with the kernel, hence atomic.
        unsafe { &*self.rings.add(offset as usize).cast() }
    }
}

fn map(descriptor: &OwnedFd, offset: libc::off_t) -> io::Result<*mut u8> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    // SAFETY: a new mapping at an address of the kernel's choice; it lives as long as this short-lived process.
    let mapped =
        unsafe { libc::mmap(std::ptr::null_mut(), MAPPED_BYTES, access, flags, descriptor.as_raw_fd(), offset) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(mapped.cast()) }
}

fn number(answer: libc::c_long) -> i32 {
    i32::try_from(answer).unwrap_or(-1)
}

fn pointer<T>(to: *const T) -> u64 {
    u64::try_from(to.addr()).unwrap_or_default()
}
