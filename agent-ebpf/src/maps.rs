//! Every map and the one global, in one list. Sizes are defaults; the loader may change those of rings and contacts.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use breachline_abi::control::{
    CONTACT_WAYS, COUNTERS, ContactSet, LastConnect, MetadataPorts, Orphan, RepeatKey, TOLD_SLOTS,
};
use breachline_abi::exec::ExecRecord;
use breachline_abi::filter::FILTERS_WORDS;
use breachline_abi::limits::{
    ANSWER_BYTES_MAX, BULK_RING_BYTES, CONTACT_ENTRIES, DATAGRAM_ENTRIES, EXCHANGE_ENTRIES, FLOW_ENTRIES,
    METADATA_ENTRIES, NOTED_SLOTS, ORPHAN_ENTRIES, PRIORITY_PROGRAM_ENTRIES, PRIORITY_RING_BYTES, PROGRAM_NAME_BYTES,
    RAW_MAKER_ENTRIES, REPEAT_ENTRIES, TAIL_BYTES_MAX, TAINT_ENTRIES, WATCHED_SOCKET_ENTRIES,
};
use breachline_abi::names::AnswerRecord;
use breachline_abi::parameters::Parameters;
use breachline_abi::process::LineageSlot;
use breachline_abi::request::{Exchange, WatchedSocket};
use breachline_abi::serving::ServingRecord;
use breachline_abi::socket::Datagrams;

use crate::path::Place;

/// What the loader knows about this kernel. Read field by field through `memory::parameter!`.
#[unsafe(no_mangle)]
pub static PARAMETERS: Parameters = Parameters::UNSET;

/// Evidence that a chain hangs on.
#[map]
pub static PRIORITY: RingBuf = RingBuf::with_byte_size(PRIORITY_RING_BYTES, 0);

/// Everything else.
#[map]
pub static BULK: RingBuf = RingBuf::with_byte_size(BULK_RING_BYTES, 0);

/// Counters, see `control::COUNTER_…`.
#[map]
pub static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// What the agent told, see `control::TOLD_…`. Only it reads and writes this; it is here to outlive it.
#[map]
pub static TOLD: Array<u64> = Array::with_max_entries(TOLD_SLOTS, 0);

/// Processes made and ended lately, by processor; the loader makes room for each. An array, not one per CPU: that takes twice
/// as long to find.
#[map]
pub static LINEAGE: Array<LineageSlot> = Array::with_max_entries(1, 0);

/// `counts` of each log of [`LINEAGE`] up to which the agent told it. As [`TOLD`].
#[map]
pub static LINEAGE_TOLD: Array<u64> = Array::with_max_entries(1, 0);

/// Boot time of the last forced wake-up. Shared by all CPUs; a lost update costs one wake-up more.
#[map]
pub static LAST_WAKE: Array<u64> = Array::with_max_entries(1, 0);

/// Processes that lost their parent, by thread group id.
#[map]
pub static ORPHANS: LruHashMap<u32, Orphan> = LruHashMap::with_max_entries(ORPHAN_ENTRIES, 0);

/// Processes of tainted lines, by thread group id; the value is `TAINT_` bits.
#[map]
pub static TAINTED: HashMap<u32, u32> = HashMap::with_max_entries(TAINT_ENTRIES, 0);

/// How many entries of [`ORPHANS`] and [`TAINTED`] processes of this place (`noted::slot`) have: nearly always none, and
/// then neither is searched.
#[map]
pub static NOTED: Array<u64> = Array::with_max_entries(NOTED_SLOTS, 0);

/// Contacts remembered, by the lower bits of their hash.
#[map]
pub static CONTACTS: Array<ContactSet> = Array::with_max_entries(CONTACT_ENTRIES / CONTACT_WAYS, 0);

/// When a process last reported a contact that is reported every time, nanoseconds since boot.
#[map]
pub static REPEATS: LruHashMap<RepeatKey, u64> = LruHashMap::with_max_entries(REPEAT_ENTRIES, 0);

/// Sockets whose outcome is reported, by cookie; the value is `hello::FLOW_` bits.
#[map]
pub static FLOWS: LruHashMap<u64, u32> = LruHashMap::with_max_entries(FLOW_ENTRIES, 0);

/// UDP sockets whose contact was reported, and what they exchanged since, by cookie.
#[map]
pub static DATAGRAMS: LruHashMap<u64, Datagrams> = LruHashMap::with_max_entries(DATAGRAM_ENTRIES, 0);

/// Ports of metadata endpoints by address (as in `EndpointKey`), filled from user space.
#[map]
pub static METADATA: HashMap<[u32; 4], MetadataPorts> = HashMap::with_max_entries(METADATA_ENTRIES, 0);

/// Connections to metadata endpoints, by socket cookie.
#[map]
pub static WATCHED_SOCKETS: LruHashMap<u64, WatchedSocket> = LruHashMap::with_max_entries(WATCHED_SOCKET_ENTRIES, 0);

/// Until when (`bpf_jiffies64`) packets are looked at for metadata requests. Almost always in the past: then a packet
/// costs one comparison.
#[map]
pub static WATCH_UNTIL: Array<u64> = Array::with_max_entries(1, 0);

/// Base names of programs that take the priority ring, filled from user space.
#[map]
pub static PRIORITY_PROGRAMS: HashMap<[u64; PROGRAM_NAME_BYTES / 8], u32> =
    HashMap::with_max_entries(PRIORITY_PROGRAM_ENTRIES, 0);

/// What is certainly in neither of the two sets above, see `breachline_abi::filter`.
#[map]
pub static FILTERS: Array<u64> = Array::with_max_entries(FILTERS_WORDS, 0);

/// A processor's last connect, with so much behind it that no cache line is shared with the next processor's.
#[repr(C)]
pub struct LastConnectSlot {
    /// See [`LastConnect`].
    pub last: LastConnect,
    /// Sockets of the datagram that is sent and the one that is received right now. A pointer whose type the verifier knows
    /// becomes a number by being kept here. One word for each way, since receiving interrupts sending.
    pub sockets: [u64; 2],
    apart: [u64; 6],
}

/// The last connect on each processor, as [`LINEAGE`].
#[map]
pub static LAST_CONNECT: Array<LastConnectSlot> = Array::with_max_entries(1, 0);

/// An exec record under construction. One per CPU is enough: the kernel never runs a tracing program inside itself on
/// one CPU.
#[repr(C)]
pub struct ExecScratch {
    /// Fixed part.
    pub record: ExecRecord,
    /// Variable part; the extra room lets a masked position plus the longest read stay inside, and the masked sum too.
    pub tail: [u8; 2 * TAIL_BYTES_MAX],
    /// Where a path walk begins and ends. A pointer whose type the verifier knows becomes a number by being kept here.
    pub walk: [Place; 2],
}

/// See [`ExecScratch`].
#[map]
pub static EXEC_SCRATCH: PerCpuArray<ExecScratch> = PerCpuArray::with_max_entries(1, 0);

/// An orphan under construction (too big to stand on the stack).
#[map]
pub static ORPHAN_SCRATCH: PerCpuArray<Orphan> = PerCpuArray::with_max_entries(1, 0);

/// Requests and answers of metadata endpoints that are under way, by socket cookie.
#[map]
pub static EXCHANGES: LruHashMap<u64, Exchange> = LruHashMap::with_max_entries(EXCHANGE_ENTRIES, 0);

/// The longest read of a DNS message as the verifier sees it: the next power of two.
pub const ANSWER_ROOM: usize = ANSWER_BYTES_MAX.next_power_of_two();

/// A DNS answer under construction: packets of one CPU are received one after the other.
#[repr(C)]
pub struct AnswerScratch {
    /// Fixed part.
    pub record: AnswerRecord,
    /// The message; the rest is room for the longest read that the verifier sees.
    pub message: [u8; 2 * ANSWER_ROOM],
}

/// See [`AnswerScratch`].
#[map]
pub static ANSWER_SCRATCH: PerCpuArray<AnswerScratch> = PerCpuArray::with_max_entries(1, 0);

/// DNS answers that a CPU handed over in a window of time.
#[repr(C)]
pub struct AnswerBudget {
    /// Number of the window.
    pub window: u64,
    /// Answers in it.
    pub spent: u64,
}

/// See [`AnswerBudget`].
#[map]
pub static ANSWER_BUDGET: PerCpuArray<AnswerBudget> = PerCpuArray::with_max_entries(1, 0);

/// When a process (pid, family and protocol in one number) was last reported for a raw socket.
#[map]
pub static RAW_MAKERS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(RAW_MAKER_ENTRIES, 0);

/// A serving record under construction: as with [`EXEC_SCRATCH`], one per CPU is enough.
#[map]
pub static SERVING_SCRATCH: PerCpuArray<ServingRecord> = PerCpuArray::with_max_entries(1, 0);
