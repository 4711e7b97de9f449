//! Programs for the 32-bit system call table, made by hand: a few `int 0x80` in a tiny static ELF file.
//!
//! In: system calls with their arguments. Out: the bytes of a program that makes them in turn and exits 0. Numbers:
//! `arch/x86/entry/syscalls/syscall_32.tbl`; file layout: System V ABI, Intel386 supplement.

use std::net::Ipv4Addr;

/// Where the file is mapped: the customary address of such programs.
const BASE: u32 = 0x0804_8000;
const HEADER_BYTES: u32 = 52;
const PROGRAM_HEADER_BYTES: u32 = 32;

/// `__NR_exit`, `__NR_execve`, `__NR_socketcall`, `__NR_socket`, `__NR_connect`.
const EXIT: u32 = 1;
const EXECVE: u32 = 11;
const SOCKETCALL: u32 = 102;
const SOCKET: u32 = 359;
const CONNECT: u32 = 362;
/// `SYS_CONNECT`, the number of connect within `socketcall`.
const SOCKETCALL_CONNECT: u32 = 3;

/// A program that runs `path` with these arguments through `execve`.
pub(crate) fn that_executes(path: &str, arguments: &[&str]) -> Vec<u8> {
    let mut program = Program::new();
    let path = program.text(path);
    let mut words: Vec<u32> = arguments.iter().map(|argument| program.text(argument)).collect();
    words.push(0);
    let vector = program.words(&words);
    program.call(EXECVE, [Some(path), Some(vector), Some(0)]);
    program.finish()
}

/// A program that connects a TCP socket.
pub(crate) fn that_connects(address: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut program = Program::new();
    let peer = program.address(address, port);
    program.call(SOCKET, [Some(2), Some(1), Some(0)]);
    program.descriptor_to_ebx();
    program.call(CONNECT, [None, Some(peer), Some(16)]);
    program.finish()
}

/// The same through `socketcall`, the only way there was before Linux 4.3. The descriptor is 3: the program has nothing
/// else open but the standard ones.
pub(crate) fn that_calls_the_multiplexer(address: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut program = Program::new();
    let peer = program.address(address, port);
    let arguments = program.words(&[3, peer, 16]);
    program.call(SOCKET, [Some(2), Some(1), Some(0)]);
    program.call(SOCKETCALL, [Some(SOCKETCALL_CONNECT), Some(arguments), None]);
    program.finish()
}

/// Data and code; data lies before the code, so that its addresses are known when code names them.
struct Program {
    data: Vec<u8>,
    code: Vec<u8>,
}

impl Program {
    fn new() -> Self {
        Self { data: Vec::new(), code: Vec::new() }
    }

    /// Appends data; its address.
    fn place(&mut self, bytes: &[u8]) -> u32 {
        self.data.resize(self.data.len().next_multiple_of(4), 0);
        let address = BASE + HEADER_BYTES + PROGRAM_HEADER_BYTES + length(&self.data);
        self.data.extend(bytes);
        address
    }

    fn text(&mut self, text: &str) -> u32 {
        self.place(&[text.as_bytes(), b"\0"].concat())
    }

    fn words(&mut self, words: &[u32]) -> u32 {
        self.place(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// `struct sockaddr_in`.
    fn address(&mut self, address: Ipv4Addr, port: u16) -> u32 {
        let bytes = [&2_u16.to_le_bytes()[..], &port.to_be_bytes(), &address.octets(), &[0; 8]].concat();
        self.place(&bytes)
    }

    /// `mov eax, number`, the given arguments into ebx, ecx, edx, `int 0x80`.
    fn call(&mut self, number: u32, arguments: [Option<u32>; 3]) {
        const MOVE_TO: [u8; 3] = [0xbb, 0xb9, 0xba];
        for (register, argument) in MOVE_TO.into_iter().zip(arguments) {
            if let Some(argument) = argument {
                self.code.push(register);
                self.code.extend(argument.to_le_bytes());
            }
        }
        self.code.push(0xb8);
        self.code.extend(number.to_le_bytes());
        self.code.extend([0xcd, 0x80]);
    }

    /// `mov ebx, eax`: what the last call gave.
    fn descriptor_to_ebx(&mut self) {
        self.code.extend([0x89, 0xc3]);
    }

    fn finish(mut self) -> Vec<u8> {
        self.call(EXIT, [Some(0), None, None]);
        let entry = self.place(&[]);
        let size = entry - BASE + length(&self.code);
        let half = |number: u16| number.to_le_bytes().to_vec();
        let word = |number: u32| number.to_le_bytes().to_vec();
        // e_ident: 32-bit, little-endian, version 1.
        let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        // Executable, i386, version, entry, program headers behind this one, no sections, sizes and counts.
        let header = [half(2), half(3), word(1), word(entry), word(HEADER_BYTES), word(0), word(0)];
        file.extend(header.concat());
        file.extend([half(52), half(32), half(1), half(0), half(0), half(0)].concat());
        // One loadable segment: the whole file, readable, writable and executable.
        file.extend([word(1), word(0), word(BASE), word(BASE), word(size), word(size), word(7), word(4096)].concat());
        file.extend(self.data);
        file.extend(self.code);
        file
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
