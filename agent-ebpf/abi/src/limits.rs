//! Every fixed length and default map size, each with its reason.

/// Ancestors kept per process. Covers the deepest service chains seen in practice (supervisor, master, worker, shell,
/// its children); with fewer a shell behind two wrappers loses the service above it.
pub const ANCESTORS_MAX: usize = 8;
/// Components of a path that are walked. Bounds the verifier's loop; longer paths lose their beginning and say so.
pub const PATH_COMPONENTS_MAX: usize = 32;
/// Bytes of one path component with its NUL (`NAME_MAX` + 1).
pub const COMPONENT_BYTES_MAX: usize = 256;
/// Bytes of a walked path (program, working directory). Without a bound a deep path would eat the arguments' room.
pub const PATH_BYTES_MAX: usize = 1024;
/// Bytes of `bprm->filename` and `bprm->interp`. `BINPRM_BUF_SIZE` is 256 for interpreters; file names may be cut.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of arguments. Exploit one-liners fit; without a bound one exec could fill the ring (`ARG_MAX` is 2 MiB).
pub const ARGV_BYTES_MAX: usize = 4096;
/// Bytes of the variable part of an exec record. A power of two: the kernel half masks positions with it.
pub const TAIL_BYTES_MAX: usize = 8192;
/// Bytes of a program's base name that are compared in the kernel (NUL padded).
pub const PROGRAM_NAME_BYTES: usize = 16;
/// Bytes of a metadata request that are looked at: its first line and the headers that SDKs and curl send before a
/// token.
pub const REQUEST_BYTES_MAX: usize = 512;
/// Requests of one connection that are reported; an endless keep-alive connection cannot fill the ring.
pub const REQUESTS_PER_SOCKET: u16 = 16;
/// Connections to metadata endpoints that are looked at; the least recently used is let go.
pub const WATCHED_SOCKET_ENTRIES: u32 = 1024;
/// Bytes of a DNS answer that are copied: what servers send without splitting (DNS flag day 2020); of a longer one its
/// beginning, where the question and the first addresses stand.
pub const ANSWER_BYTES_MAX: usize = 1232;
/// DNS answers handed over per processor in a second of about 1.07 s; more are counted as lost. Without it a flood of
/// forged answers would push forks and exits out of the bulk ring.
pub const ANSWERS_PER_WINDOW: u32 = 1000;
/// Bytes of a TLS hello that are copied: with a post-quantum key (1216 bytes) in front of the server's name some clients still fit.
/// A power of two.
pub const HELLO_BYTES_MAX: usize = 2048;
/// Established connections of a parent that are told with the program it starts. Enough for the ways in which servers
/// hand a request to a child; more would cost the exec sense its budget.
pub const SERVING_MAX: usize = 16;
/// Descriptors of a parent that are looked at for connections.
pub const SERVING_DESCRIPTORS_MAX: u32 = 128;
/// Conversations with metadata endpoints whose requests or answers may be split; the least recently used is let go, and
/// its next request begins anew.
pub const EXCHANGE_ENTRIES: u32 = 256;
/// Processes remembered for having made raw sockets; one that is forgotten is told again.
pub const RAW_MAKER_ENTRIES: u32 = 1024;
/// Forks and exits that a processor writes down before they go to the ring together (a power of two). More would make user
/// space copy more each time it looks, with fewer the ring's cost shows again.
pub const LINEAGE_ENTRIES: usize = 32;
/// Bytes of `comm` (`TASK_COMM_LEN`).
pub const COMM_BYTES: usize = 16;

/// Processes that lost their parent and are remembered for it. The least recently used is forgotten: its line ends at
/// its reaper.
pub const ORPHAN_ENTRIES: u32 = 4096;
/// Children of an ending process that are remembered as its own; more are counted. Bounds the walk at exit.
pub const ORPHANED_CHILDREN_MAX: usize = 64;
/// Live processes of tainted lines, 9 MB of them: with fewer an intruder shakes the mark off by forking until there is no room. A fork
/// beyond it is counted and its contacts are reported like anybody's.
pub const TAINT_ENTRIES: u32 = 100_000;
/// (workload, program, peer) keys remembered, 16 bytes each; of those that share a place the least recently met is
/// forgotten, its next contact counts as first again. A power of two.
pub const CONTACT_ENTRIES: u32 = 65_536;
/// Processes whose last report of a noted contact is remembered; without a bound a fork bomb would fill the kernel. The
/// least recently used is forgotten and reports once more.
pub const REPEAT_ENTRIES: u32 = 4096;
/// Places of the table that says by pid whether anything at all is noted of a process (a power of two; 8 KiB together).
/// With fewer, processes share a place with a noted one more often and pay for a look-up.
pub const NOTED_SLOTS: u32 = 1024;
/// Connections whose outcome is reported; the least recently used loses its outcome.
pub const FLOW_ENTRIES: u32 = 16_384;
/// UDP sockets whose datagrams are counted, 176 bytes and the table's own each; the least recently used loses its outcome.
pub const DATAGRAM_ENTRIES: u32 = 8192;
/// Peers of one UDP socket whose datagrams are counted apart, the first ones that were reported. Enough for clients that keep
/// a socket per family or per few servers; more would make each counted packet dearer. What goes to and comes from the
/// rest is told as one amount.
pub const PEERS_PER_SOCKET: usize = 4;
/// Addresses of metadata endpoints.
pub const METADATA_ENTRIES: u32 = 512;
/// Program names that take the priority ring.
pub const PRIORITY_PROGRAM_ENTRIES: u32 = 512;
/// Bytes of the priority ring unless the loader says otherwise.
pub const PRIORITY_RING_BYTES: u32 = 2 << 20;
/// Bytes of the bulk ring unless the loader says otherwise.
pub const BULK_RING_BYTES: u32 = 4 << 20;

const _: () = assert!(
    TAIL_BYTES_MAX.is_power_of_two() && 2 * PATH_BYTES_MAX + 2 * NAME_BYTES_MAX + ARGV_BYTES_MAX <= TAIL_BYTES_MAX
);
