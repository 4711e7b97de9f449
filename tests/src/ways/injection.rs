//! System calls that another process is made to make, by ptrace(2): what a debugger does, and an intruder.
//!
//! In: a process that is at work in user space, and a port. Out: it has asked for a connection to that port of loopback; its
//! registers and its code are as they were.
#![expect(unsafe_code, reason = "ptrace takes pointers; each block says why it is sound")]

use std::io;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;

use libc::{AF_INET, SOCK_STREAM, c_long, c_void};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::raw::Address;
use super::stage::Outcome;

/// `NT_PRSTATUS`: the general registers (`linux/elf.h`).
const GENERAL_REGISTERS: usize = 1;
/// Below the stack pointer, beyond the 128 bytes that a function may use without saying so.
const BELOW_STACK: u64 = 512;

/// Steps that one instruction may take.
const STEPS_MAX: u32 = 4;

type Registers = libc::user_regs_struct;

/// Has `victim` make a TCP socket and connect it.
pub(crate) fn connect(victim: i32, port: u16) -> Outcome {
    let held = Held::stop(Pid::from_raw(victim))?;
    let outcome = held.connects(port);
    held.release()?;
    outcome
}

/// A stopped process, and how it was.
struct Held {
    process: Pid,
    registers: Registers,
    code: c_long,
}

impl Held {
    fn stop(process: Pid) -> io::Result<Self> {
        ask(libc::PTRACE_ATTACH, process, 0, 0)?;
        stopped(process)?;
        let registers = registers(process)?;
        let code = read(process, counter(&registers))?;
        Ok(Self { process, registers, code })
    }

    fn connects(&self, port: u16) -> Outcome {
        let numbers = [u64::from(AF_INET.unsigned_abs()), u64::from(SOCK_STREAM.unsigned_abs()), 0];
        let socket = self.call(libc::SYS_socket, numbers)?;
        let (address, place) = (Address::v4(Ipv4Addr::LOCALHOST, port), stack(&self.registers) - BELOW_STACK);
        for (at, word) in (place..).step_by(8).zip(address.bytes().chunks_exact(8)) {
            write(self.process, at, c_long::from_ne_bytes(word.try_into().map_err(io::Error::other)?))?;
        }
        let length = u64::try_from(address.bytes().len()).map_err(io::Error::other)?;
        match self.call(libc::SYS_connect, [socket, place, length]) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(error),
            _ => Ok(()),
        }
    }

    /// One system call where the process stands.
    fn call(&self, number: c_long, arguments: [u64; 3]) -> io::Result<u64> {
        let mut registers = self.registers;
        prepare(&mut registers, u64::try_from(number).map_err(io::Error::other)?, arguments);
        let kept = self.code.to_ne_bytes();
        let code: Vec<u8> = SYSTEM_CALL.iter().chain(&kept[SYSTEM_CALL.len()..]).copied().collect();
        let code = c_long::from_ne_bytes(code.try_into().map_err(|_| io::Error::other("no word"))?);
        write(self.process, counter(&registers), code)?;
        set_registers(self.process, &mut registers)?;
        // Signed: a small negative number is an error.
        match answer(&self.stepped()?).cast_signed() {
            error @ -4095..0 => Err(io::Error::from_raw_os_error(i32::try_from(-error).unwrap_or_default())),
            answer => Ok(answer.cast_unsigned()),
        }
    }

    /// The registers once the instruction where the process stands is done: arm64 stops once before it.
    fn stepped(&self) -> io::Result<Registers> {
        for _ in 0..STEPS_MAX {
            ask(libc::PTRACE_SINGLESTEP, self.process, 0, 0)?;
            stopped(self.process)?;
            let registers = registers(self.process)?;
            if counter(&registers) != counter(&self.registers) {
                return Ok(registers);
            }
        }
        Err(io::Error::other("the process does not go on"))
    }

    fn release(mut self) -> io::Result<()> {
        write(self.process, counter(&self.registers), self.code)?;
        set_registers(self.process, &mut self.registers)?;
        ask(libc::PTRACE_DETACH, self.process, 0, 0)
    }
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use super::Registers;

    /// `syscall`.
    pub(super) const SYSTEM_CALL: [u8; 2] = [0x0f, 0x05];

    pub(super) const fn prepare(registers: &mut Registers, number: u64, [first, second, third]: [u64; 3]) {
        registers.rax = number;
        (registers.rdi, registers.rsi, registers.rdx) = (first, second, third);
        // No call is under way that would have to be begun again.
        registers.orig_rax = u64::MAX;
    }

    pub(super) const fn counter(registers: &Registers) -> u64 {
        registers.rip
    }

    pub(super) const fn stack(registers: &Registers) -> u64 {
        registers.rsp & !15
    }

    pub(super) const fn answer(registers: &Registers) -> u64 {
        registers.rax
    }
}

#[cfg(target_arch = "aarch64")]
mod machine {
    use super::Registers;

    /// `svc #0`.
    pub(super) const SYSTEM_CALL: [u8; 4] = [0x01, 0, 0, 0xd4];

    pub(super) const fn prepare(registers: &mut Registers, number: u64, [first, second, third]: [u64; 3]) {
        registers.regs[8] = number;
        (registers.regs[0], registers.regs[1], registers.regs[2]) = (first, second, third);
    }

    pub(super) const fn counter(registers: &Registers) -> u64 {
        registers.pc
    }

    pub(super) const fn stack(registers: &Registers) -> u64 {
        registers.sp & !15
    }

    pub(super) const fn answer(registers: &Registers) -> u64 {
        registers.regs[0]
    }
}

use machine::{SYSTEM_CALL, answer, counter, prepare, stack};

fn stopped(process: Pid) -> io::Result<()> {
    match waitpid(process, Some(WaitPidFlag::__WALL))? {
        WaitStatus::Stopped(..) => Ok(()),
        other => Err(io::Error::other(format!("the process did not stop: {other:?}"))),
    }
}

/// A request whose arguments are addresses in the other process, or numbers.
fn ask(request: u32, process: Pid, address: u64, data: c_long) -> io::Result<()> {
    // SAFETY: the kernel takes both as numbers of the other process; nothing of this one is touched.
    checked(unsafe { libc::ptrace(request, process.as_raw(), address, data) })
}

fn read(process: Pid, address: u64) -> io::Result<c_long> {
    let mut word: c_long = 0;
    let (near, far) =
        (remote(&raw mut word, 8), remote(std::ptr::with_exposed_provenance_mut::<c_void>(number(address)?), 8));
    // SAFETY: one word of ours is written to; the other address is the other process's.
    whole(unsafe { libc::process_vm_readv(process.as_raw(), &raw const near, 1, &raw const far, 1, 0) })?;
    Ok(word)
}

/// `PTRACE_POKEDATA` writes to code, too.
fn write(process: Pid, address: u64, word: c_long) -> io::Result<()> {
    ask(libc::PTRACE_POKEDATA, process, address, word)
}

fn registers(process: Pid) -> io::Result<Registers> {
    let mut registers = MaybeUninit::<Registers>::zeroed();
    let mut part = remote(registers.as_mut_ptr(), size_of::<Registers>());
    // SAFETY: the kernel writes at most the length that is said into the place that is given.
    checked(unsafe { libc::ptrace(libc::PTRACE_GETREGSET, process.as_raw(), GENERAL_REGISTERS, &raw mut part) })?;
    // SAFETY: plain numbers, all zero before.
    Ok(unsafe { registers.assume_init() })
}

fn set_registers(process: Pid, registers: &mut Registers) -> io::Result<()> {
    let mut part = remote(std::ptr::from_mut(registers), size_of::<Registers>());
    // SAFETY: the kernel reads the length that is said.
    checked(unsafe { libc::ptrace(libc::PTRACE_SETREGSET, process.as_raw(), GENERAL_REGISTERS, &raw mut part) })
}

const fn remote<T>(place: *mut T, length: usize) -> libc::iovec {
    libc::iovec { iov_base: place.cast(), iov_len: length }
}

fn number(address: u64) -> io::Result<usize> {
    usize::try_from(address).map_err(io::Error::other)
}

fn whole(read: isize) -> io::Result<()> {
    if read == 8 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn checked(answer: c_long) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
