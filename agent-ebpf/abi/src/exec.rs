//! A program started.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::ANCESTORS_MAX;
use crate::record::{ActorRecord, Header, ProcessId};

/// The arguments were longer than `ARGV_BYTES_MAX`, or part of them was not readable.
pub const FLAG_ARGV_TRUNCATED: u32 = 1;
/// The program's path lost its beginning.
pub const FLAG_EXE_PATH_TRUNCATED: u32 = 1 << 1;
/// The working directory's path lost its beginning.
pub const FLAG_CWD_TRUNCATED: u32 = 1 << 2;
/// The program's file is nameless and called `memfd:…`.
pub const FLAG_MEMFD: u32 = 1 << 3;
/// `interp` differs from `filename`: a script.
pub const FLAG_INTERPRETED: u32 = 1 << 4;
/// The program's path was walked to the process' root (or the namespace's).
pub const FLAG_EXE_PATH_KNOWN: u32 = 1 << 5;
/// The link count was read: without it 0 would mean a deleted file.
pub const FLAG_LINK_COUNT_KNOWN: u32 = 1 << 6;

/// Standard descriptor: not known.
pub const STDIO_UNKNOWN: u8 = 0;
/// Standard descriptor: closed.
pub const STDIO_CLOSED: u8 = 1;
/// Standard descriptor: a file or a device that is no terminal.
pub const STDIO_FILE: u8 = 2;
/// Standard descriptor: a terminal.
pub const STDIO_TERMINAL: u8 = 3;
/// Standard descriptor: a pipe or FIFO.
pub const STDIO_PIPE: u8 = 4;
/// Standard descriptor: an AF_INET or AF_INET6 socket.
pub const STDIO_INET_SOCKET: u8 = 5;
/// Standard descriptor: any other socket.
pub const STDIO_OTHER_SOCKET: u8 = 6;

/// Fixed part of an exec record. The tail follows: `exe_path`, `cwd` (components from the leaf to the root, each with
/// its NUL), `filename`, `interpreter`, `argv` (as in memory: NUL between arguments), in this order and of these
/// lengths.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct ExecRecord {
    /// Header.
    pub header: Header,
    /// Who, already as the new program.
    pub actor: ActorRecord,
    /// Effective capabilities.
    pub capabilities: u64,
    /// `inode.i_nlink` of the program's file.
    pub link_count: u32,
    /// `FLAG_` bits.
    pub flags: u32,
    /// `STDIO_` numbers of descriptors 0 to 2.
    pub stdio: [u8; 3],
    /// How many of `ancestors` are filled.
    pub ancestor_count: u8,
    /// Bytes of the program's path in the tail.
    pub exe_path_len: u16,
    /// Bytes of the working directory.
    pub cwd_len: u16,
    /// Bytes of the file name asked for.
    pub filename_len: u16,
    /// Bytes of the interpreter's name.
    pub interpreter_len: u16,
    /// Bytes of the arguments.
    pub argv_len: u16,
    /// Zero.
    pub padding: [u8; 2],
    /// The parent and its ancestors, as they stood when each was forked.
    pub ancestors: [ProcessId; ANCESTORS_MAX],
}

const _: () = assert!(size_of::<ExecRecord>() == 24 + 88 + 16 + 16 + 16 * ANCESTORS_MAX);
