//! Records made by hand, cut everywhere, and any bytes at all.

use breachline_abi::control::EndpointKey;
use breachline_abi::exec::ExecRecord;
use proptest::prelude::*;
use zerocopy::{FromZeros as _, IntoBytes};

use super::*;

const CLOCK: BootClock = BootClock { offset_ns: 1_000 };

fn header<T>(kind: u16, tail: usize) -> Header {
    let length = u32::try_from(size_of::<T>() + tail).expect("small");
    Header { kind, version: VERSION, length, boot_ns: 5_000_000_000, cpu: 1, padding: 0 }
}

fn somebody() -> ActorRecord {
    let mut actor = ActorRecord::new_zeroed();
    actor.process = ProcessId { pid: 42, start_boot_ns: 30_000_000, padding: 0 };
    actor.parent = ProcessId { pid: 1, start_boot_ns: 10_000_000, padding: 0 };
    actor.euid = 33;
    actor.exe_device = 0x80_0001;
    actor.exe_inode = 99;
    actor.comm[..3].copy_from_slice(b"php");
    actor
}

fn exec_bytes() -> Vec<u8> {
    let parts: [&[u8]; 5] =
        [b"dash\0bin\0", b"html\0www\0var\0", b"/tmp/x.sh\0", b"/bin/sh\0", b"/bin/sh\0/tmp/x.sh\0"];
    let tail = parts.concat();
    let mut record = ExecRecord::new_zeroed();
    record.header = header::<ExecRecord>(KIND_EXEC, tail.len());
    record.actor = somebody();
    record.flags = breachline_abi::exec::FLAG_INTERPRETED | breachline_abi::exec::FLAG_LINK_COUNT_KNOWN;
    record.link_count = 2;
    record.stdio = [5, 5, 4];
    [record.exe_path_len, record.cwd_len, record.filename_len, record.interpreter_len, record.argv_len] =
        parts.map(|part| u16::try_from(part.len()).expect("small"));
    record.ancestor_count = 1;
    record.ancestors[0] = record.actor.parent;
    [record.as_bytes(), &tail].concat()
}

fn contact_bytes(peer: [u8; 16], hook: u8) -> Vec<u8> {
    let mut record = ContactRecord::new_zeroed();
    record.header = header::<ContactRecord>(KIND_CONTACT, 0);
    record.actor = somebody();
    record.peer = peer;
    record.port = 443;
    record.protocol = 6;
    record.hook = hook;
    record.flags = FLAG_FIRST | FLAG_MAPPED;
    record.as_bytes().to_vec()
}

#[test]
fn an_exec_record_is_read_whole() {
    let event = decode(&exec_bytes(), CLOCK).expect("decoded");
    assert_eq!(event.at, Timestamp::from_unix_nanos(5_000_001_000));
    let HostEventKind::Exec(exec) = event.kind else { panic!("an exec") };
    assert_eq!(exec.actor.process, ProcessKey { pid: 42, start_ticks: 3 });
    assert_eq!(exec.actor.exe, FileId { device: 0x80_0001, inode: 99 });
    assert_eq!(exec.actor.comm, "php");
    assert_eq!((exec.exe_path.as_str(), exec.cwd.as_str()), ("/bin/dash", "/var/www/html"));
    assert_eq!((exec.filename.as_str(), exec.interpreter.as_deref()), ("/tmp/x.sh", Some("/bin/sh")));
    assert_eq!(exec.argv, ["/bin/sh", "/tmp/x.sh"]);
    assert_eq!(
        exec.stdio,
        [crate::event::Stdio::InetSocket, crate::event::Stdio::InetSocket, crate::event::Stdio::Pipe]
    );
    assert_eq!(exec.link_count, 2);
    assert_eq!(exec.ancestors, [ProcessKey { pid: 1, start_ticks: 1 }]);
}

#[test]
fn addresses_leave_their_mapped_form() {
    let check = |peer: [u8; 16], expected: &str| {
        let event = decode(&contact_bytes(peer, HOOK_CONNECT), CLOCK).expect("decoded");
        let HostEventKind::Contact(contact) = event.kind else { panic!("a contact") };
        assert_eq!(contact.peer, expected.parse().expect("address"));
        assert!(contact.first && contact.mapped && !contact.metadata);
    };
    check(*b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xa9\xfe\xa9\xfe", "169.254.169.254:443");
    check(*b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", "[2001:db8::1]:443");
}

#[test]
fn the_abi_gives_addresses_as_bytes_in_order() {
    let key = EndpointKey { address: [0, 0, 0xffff_u32.to_be(), 0xc000_0201_u32.to_be()], port: 0, padding: 0 };
    assert_eq!(endpoint(key.bytes(), 80), "192.0.2.1:80".parse().expect("address"));
}

#[test]
fn an_exit_says_how() {
    let check = |wait_status: u32, status: u8, signal: u8| {
        let entry = LineageEntry { start_boot_ns: 30_000_000, pid: 42, wait_status, ..LineageEntry::default() };
        let event = lineage(&entry, 5_000_000_000, CLOCK);
        assert_eq!(event.at, Timestamp::from_unix_nanos(5_000_001_000), "found then");
        let HostEventKind::Exit(exit) = event.kind else { panic!("an exit") };
        assert_eq!(exit.actor.process, ProcessKey { pid: 42, start_ticks: 3 });
        assert_eq!((exit.status, exit.signal), (status, signal), "{wait_status:#x}");
    };
    check(0, 0, 0);
    check(0x0300, 3, 0);
    check(9, 0, 9);
    check(0x8b, 0, 11);
}

#[test]
fn a_fork_bears_its_childs_start() {
    let entry = LineageEntry {
        start_boot_ns: 30_000_000,
        child_start_boot_ns: 70_000_000,
        pid: 42,
        child: 43,
        ..LineageEntry::default()
    };
    let event = lineage(&entry, 5_000_000_000, CLOCK);
    assert_eq!(event.at, Timestamp::from_unix_nanos(70_001_000));
    let HostEventKind::Fork(fork) = event.kind else { panic!("a fork") };
    assert_eq!(fork.actor.process, ProcessKey { pid: 42, start_ticks: 3 });
    assert_eq!(fork.child, ProcessKey { pid: 43, start_ticks: 7 });
}

#[test]
fn what_stands_for_nothing_is_refused() {
    let check = |bytes: &[u8], expected: DecodeError| assert_eq!(decode(bytes, CLOCK), Err(expected));
    check(&contact_bytes([0; 16], 9), DecodeError::Value { field: "hook", value: 9 });
    check(b"", DecodeError::Truncated { need: 24, got: 0 });
    let mut old = header::<Header>(KIND_EXEC, 0);
    old.version = 7;
    check(old.as_bytes(), DecodeError::Version(7));
    check(header::<Header>(77, 0).as_bytes(), DecodeError::Kind(77));
    // A length of its own shorter than the record.
    check(header::<Header>(KIND_FLOW, 0).as_bytes(), DecodeError::Truncated { need: size_of::<FlowRecord>(), got: 24 });
}

#[test]
fn every_cut_is_an_error() {
    let whole = exec_bytes();
    for end in 0..whole.len() {
        assert!(matches!(decode(&whole[..end], CLOCK), Err(DecodeError::Truncated { .. })), "cut at {end}");
    }
    assert!(decode(&whole, CLOCK).is_ok());
}

proptest! {
    #[test]
    fn any_bytes_give_an_event_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = decode(&bytes, CLOCK);
    }

    /// Random bytes behind a sound header reach every kind's own decoding.
    #[test]
    fn any_record_of_any_kind_is_survived(
        kind in 0_u16..breachline_abi::record::KIND_END, boot_ns: u64, offset_ns: i64, body in proptest::collection::vec(any::<u8>(), 0..1024)
    ) {
        let length = u32::try_from(size_of::<Header>() + body.len()).expect("small");
        let header = Header { kind, version: VERSION, length, boot_ns, cpu: 0, padding: 0 };
        let _ = decode(&[header.as_bytes(), &body].concat(), BootClock { offset_ns });
    }
}
