//! What the standard descriptors of a task are: a shell whose input is a socket is somebody else's shell.

use breachline_abi::exec::{
    STDIO_CLOSED, STDIO_FILE, STDIO_INET_SOCKET, STDIO_OTHER_SOCKET, STDIO_PIPE, STDIO_TERMINAL, STDIO_UNKNOWN,
};

use crate::memory::{Address, Object, parameter};

/// `S_IFMT` and the types below it (`stat.h`; the same on every architecture).
const TYPE_MASK: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;
const PIPE: u16 = 0o010_000;
const CHARACTER_DEVICE: u16 = 0o020_000;
/// `MINORBITS`: the kernel keeps a device number as major << 20 | minor.
const MINOR_BITS: u32 = 20;
/// Majors of terminals (devices.txt): 4 virtual consoles and serial lines, 5 the controlling terminal and console,
/// 136 to 143 pseudo terminals.
const TTY_MAJORS: [core::ops::RangeInclusive<u32>; 2] = [4..=5, 136..=143];
/// `AF_INET`, `AF_INET6`.
const INTERNET_FAMILIES: [u16; 2] = [2, 10];

/// `STDIO_` number of descriptors 0 to 2.
#[inline(always)]
pub fn classify(task: impl Object) -> [u8; 3] {
    let Some(table) = task.object(parameter!(task_files)).and_then(|files| files.object(parameter!(files_fdt))) else {
        return [STDIO_UNKNOWN; 3];
    };
    // An array of pointers: the verifier does not follow those.
    let Some(files) = table.address().object(parameter!(fdtable_fd)) else { return [STDIO_UNKNOWN; 3] };
    // The smallest table has 32 places (NR_OPEN_DEFAULT), so the first three exist.
    let [input, output, error]: [u64; 3] = files.number(0);
    let first = stdio_of_file(input) as u8;
    // Mostly they are one file, or two: a daemon's null device, a terminal, a log.
    let second = if output == input { first } else { stdio_of_file(output) as u8 };
    let third = if error == output { second } else { stdio_of_file(error) as u8 };
    [first, second, third]
}

/// `STDIO_` number of a descriptor's `struct file`. Exported: the verifier checks it once on its own instead of along
/// every path through its callers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stdio_of_file(file: u64) -> u32 {
    u32::from(Address::new(file).map_or(STDIO_CLOSED, kind_of))
}

#[inline(always)]
fn kind_of(file: Address) -> u8 {
    let Some(inode) = file.object(parameter!(file_inode)) else { return STDIO_UNKNOWN };
    match inode.number::<u16>(parameter!(inode_mode)) & TYPE_MASK {
        SOCKET => socket(file),
        PIPE => STDIO_PIPE,
        CHARACTER_DEVICE if is_terminal(inode) => STDIO_TERMINAL,
        0 => STDIO_UNKNOWN,
        _ => STDIO_FILE,
    }
}

#[inline(always)]
fn is_terminal(inode: Address) -> bool {
    let major = inode.number::<u32>(parameter!(inode_rdev)) >> MINOR_BITS;
    TTY_MAJORS.iter().any(|majors| majors.contains(&major))
}

#[inline(always)]
fn socket(file: Address) -> u8 {
    let family: u16 = file
        .object(parameter!(file_private_data))
        .and_then(|socket| socket.object(parameter!(socket_sk)))
        .map(|sock| sock.number(parameter!(sock_family)))
        .unwrap_or_default();
    if INTERNET_FAMILIES.contains(&family) { STDIO_INET_SOCKET } else { STDIO_OTHER_SOCKET }
}
