use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, io};

use redb::backends::InMemoryBackend;
use redb::{BackendError, StorageBackend};

use super::*;
use crate::incident::Severity;

/// A disk in memory that can run full, and that outlives the database on it.
#[derive(Clone, Debug, Default)]
struct FickleDisk {
    content: Arc<InMemoryBackend>,
    full: Arc<AtomicBool>,
}

impl FickleDisk {
    fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn store(&self, config: &Config) -> Store {
        let disk = self.clone();
        let open = Box::new(move || Disk::with_backend(disk.clone()).map(|disk| (disk, None)));
        Store::with_disk(config, Timestamp::from_unix_millis(1), open).expect("not busy")
    }
}

type Range = std::ops::Bound<u64>;

impl StorageBackend for FickleDisk {
    fn len(&self) -> io::Result<u64> {
        self.content.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.content.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.content.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.check()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.content.write(offset, data)
    }
    fn try_lock_range(&self, _: Range, _: Range) -> Result<bool, BackendError> {
        Ok(true)
    }
    fn try_lock_shared_range(&self, _: Range, _: Range) -> Result<bool, BackendError> {
        Ok(true)
    }
    fn lock_range(&self, _: Range, _: Range) -> Result<(), BackendError> {
        Ok(())
    }
    fn lock_shared_range(&self, _: Range, _: Range) -> Result<(), BackendError> {
        Ok(())
    }
    fn unlock_range(&self, _: Range, _: Range) -> Result<(), BackendError> {
        Ok(())
    }
    fn query_lock_range(&self, _: Range, _: Range) -> Result<bool, BackendError> {
        Ok(false)
    }
}

fn config(directory: &Path) -> Config {
    Config { directory: directory.to_owned(), ..Config::default() }
}

fn open(directory: &Path) -> Store {
    Store::open(&config(directory), Timestamp::from_unix_millis(1)).expect("opens")
}

fn revision<'r>(id: &'r str, number: u32, severity: Severity, json: &'r [u8]) -> Revision<'r> {
    Revision {
        id,
        number,
        severity,
        title: "a title",
        workload: "unit:a.service",
        expected: false,
        last_seen: Timestamp::from_unix_millis(1000),
        json,
    }
}

fn append(store: &Store, id: &str, number: u32, severity: Severity) -> Kept {
    let json = format!("{id}/{number}");
    let row = revision(id, number, severity, json.as_bytes());
    store.append(&[(row, true)], &[], Timestamp::from_unix_millis(2000))
}

fn texts(records: &[SpoolRecord]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.bytes).into_owned()).collect()
}

fn pending(store: &Store, sink: &str) -> Vec<String> {
    texts(&store.pending(sink, 100, 1 << 20))
}

#[test]
fn the_config_reads_what_it_writes() {
    let text = toml::to_string(&Config::default()).expect("writes");
    assert_eq!(toml::from_str::<Config>(&text).expect("reads"), Config::default(), "{text}");
    assert!(toml::from_str::<Config>("dir = \"state\"").is_err());
}

#[test]
fn everything_is_there_after_a_restart() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open(directory.path());
    store.open_sinks(&["http"]);
    store.save(Blob::Baseline, "peers", b"one");
    store.save(Blob::Checkpoint, "peers", b"two");
    assert_eq!(append(&store, "a", 1, Severity::High), Kept::Durably);
    append(&store, "a", 2, Severity::Critical);
    drop(store);

    let store = open(directory.path());
    store.open_sinks(&["http"]);
    assert_eq!(store.load(Blob::Baseline, "peers").as_deref(), Some(b"one".as_slice()));
    assert_eq!(store.load(Blob::Checkpoint, "peers").as_deref(), Some(b"two".as_slice()));
    assert_eq!(store.load(Blob::Cursor, "peers"), None);
    assert_eq!(pending(&store, "http"), ["a/1", "a/2"]);
    let list = store.incidents();
    assert_eq!((list.len(), list[0].revision, list[0].severity), (1, 2, Severity::Critical));
    assert_eq!(store.revisions("a"), [b"a/1", b"a/2"]);
}

#[test]
fn a_record_leaves_when_every_sink_has_had_it() {
    let directory = tempfile::tempdir().expect("directory");
    let store = open(directory.path());
    store.open_sinks(&["file", "http"]);
    for number in 1..=3 {
        append(&store, "a", number, Severity::High);
    }
    let first = store.pending("file", 2, u64::MAX);
    assert_eq!(texts(&first), ["a/1", "a/2"]);
    store.advance("file", first[1].sequence);
    assert_eq!(pending(&store, "file"), ["a/3"]);
    assert_eq!(pending(&store, "http"), ["a/1", "a/2", "a/3"]);
    assert_eq!(store.status().spool_records, 3);
    store.advance("http", first[0].sequence);
    assert_eq!(store.status().spool_records, 2);
    assert_eq!(store.sync(), Kept::Durably);
    drop(store);

    let store = open(directory.path());
    store.open_sinks(&["file"]);
    assert_eq!(pending(&store, "file"), ["a/3"]);
}

#[test]
fn numbers_are_never_used_twice() {
    let directory = tempfile::tempdir().expect("directory");
    let mut last = 0;
    for round in 0..3 {
        let store = open(directory.path());
        store.open_sinks(&["http"]);
        append(&store, "a", round, Severity::High);
        let sequence = store.pending("http", 1, 1)[0].sequence;
        assert!(sequence > last);
        last = sequence;
        store.advance("http", sequence);
        store.sync();
    }
}

#[test]
fn a_full_spool_gives_up_the_mildest_first() {
    let directory = tempfile::tempdir().expect("directory");
    let store =
        Store::open(&Config { spool_records_max: 2, ..config(directory.path()) }, Timestamp::MIN).expect("opens");
    store.open_sinks(&["http"]);
    append(&store, "critical", 1, Severity::Critical);
    append(&store, "medium", 1, Severity::Medium);
    append(&store, "medium", 2, Severity::Medium);
    append(&store, "high", 1, Severity::High);
    assert_eq!(pending(&store, "http"), ["critical/1", "high/1"]);
    assert_eq!(store.status().counters.spool_dropped, 2);
}

#[test]
fn incidents_are_bounded_by_count_age_and_revisions() {
    let directory = tempfile::tempdir().expect("directory");
    let store = Store::open(&Config { incidents_max: 2, ..config(directory.path()) }, Timestamp::MIN).expect("opens");
    for number in 1..=20 {
        append(&store, "much-revised", number, Severity::High);
    }
    assert_eq!(store.revisions("much-revised").len(), 16);
    append(&store, "mild", 1, Severity::Medium);
    append(&store, "third", 1, Severity::High);
    let ids = |store: &Store| store.incidents().into_iter().map(|summary| summary.id).collect::<Vec<_>>();
    assert_eq!(ids(&store), ["much-revised", "third"]);
    assert_eq!(store.revisions("mild"), Vec::<Vec<u8>>::new());

    let later = Timestamp::from_unix_millis(2000).plus(Config::default().incident_age_max);
    let recent = Revision { last_seen: later, ..revision("recent", 1, Severity::Low, b"recent") };
    store.append(&[(recent, false)], &[], later);
    assert_eq!(ids(&store), ["recent"]);
    assert_eq!(store.status().counters.incidents_dropped, 3);
}

#[test]
fn a_full_disk_is_survived_in_memory_and_caught_up_with() {
    let disk = FickleDisk::default();
    let store = disk.store(&Config::default());
    store.open_sinks(&["http"]);
    append(&store, "before", 1, Severity::High);

    disk.full.store(true, Ordering::SeqCst);
    assert_eq!(append(&store, "during", 1, Severity::High), Kept::InMemory);
    store.save(Blob::Baseline, "peers", b"one");
    assert_eq!(store.sync(), Kept::InMemory);
    assert!(store.status().trouble.is_some());
    assert!(pending(&store, "http").contains(&"during/1".to_owned()));
    assert_eq!(store.load(Blob::Baseline, "peers").as_deref(), Some(b"one".as_slice()));

    disk.full.store(false, Ordering::SeqCst);
    assert_eq!(store.sync(), Kept::Durably);
    assert_eq!(store.status().trouble, None);
    assert_eq!(pending(&store, "http"), ["before/1", "during/1"]);
    drop(store);

    let store = disk.store(&Config::default());
    store.open_sinks(&["http"]);
    assert_eq!(pending(&store, "http"), ["before/1", "during/1"]);
    assert_eq!(store.load(Blob::Baseline, "peers").as_deref(), Some(b"one".as_slice()));
}

#[test]
fn what_waits_on_a_disk_that_went_away_is_not_passed_over() {
    let disk = FickleDisk::default();
    let store = disk.store(&Config::default());
    store.open_sinks(&["http"]);
    append(&store, "before", 1, Severity::High);
    disk.full.store(true, Ordering::SeqCst);
    append(&store, "during", 1, Severity::High);
    let sent = store.pending("http", 100, u64::MAX);
    assert_eq!(texts(&sent).last().map(String::as_str), Some("during/1"));
    store.advance("http", sent[sent.len() - 1].sequence);
    let had_both = sent.len() == 2;

    disk.full.store(false, Ordering::SeqCst);
    assert_eq!(store.sync(), Kept::Durably);
    let rest: &[&str] = if had_both { &[] } else { &["before/1"] };
    assert_eq!(pending(&store, "http"), rest);
}

#[test]
fn a_start_without_the_disk_adopts_it_later() {
    let disk = FickleDisk::default();
    let store = disk.store(&Config::default());
    store.open_sinks(&["http"]);
    append(&store, "old", 1, Severity::High);
    drop(store);

    disk.full.store(true, Ordering::SeqCst);
    let store = disk.store(&Config::default());
    store.open_sinks(&["http"]);
    append(&store, "new", 1, Severity::High);
    let sent = store.pending("http", 1, 1);
    assert_eq!(texts(&sent), ["new/1"]);
    store.advance("http", sent[0].sequence);

    disk.full.store(false, Ordering::SeqCst);
    assert_eq!(store.sync(), Kept::Durably);
    assert_eq!(pending(&store, "http"), ["old/1"]);
    assert_eq!(store.incidents().len(), 2);
}

#[test]
fn a_damaged_or_newer_file_is_set_aside() {
    let check = |damage: &dyn Fn(&Path)| {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join(FILE_NAME);
        drop(open(directory.path()));
        damage(&path);
        let store = open(directory.path());
        let aside = store.status().set_aside.expect("set aside");
        assert_eq!(aside, directory.path().join("breachline.redb.corrupt-1"));
        assert!(aside.exists());
        store.open_sinks(&["http"]);
        assert_eq!(append(&store, "a", 1, Severity::High), Kept::Durably);
    };
    check(&|path| fs::write(path, b"not a database, but long enough to be looked at").expect("writes"));
    check(&|path| {
        let mut content = fs::read(path).expect("reads");
        let end = content.len();
        content[100..end].fill(0xa5);
        fs::write(path, content).expect("writes");
    });
    check(&|path| {
        let newer = Disk::open(path).expect("opens").0;
        let version = [disk::LAYOUT_VERSION + 1];
        newer.apply([(Table::Layout, disk::LAYOUT_KEY, Some(version.as_slice()))].into_iter()).expect("writes");
    });
}

#[test]
fn any_single_damaged_byte_is_survived() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join(FILE_NAME);
    let store = open(directory.path());
    store.open_sinks(&["http"]);
    append(&store, "a", 1, Severity::High);
    drop(store);
    let sound = fs::read(&path).expect("reads");
    for place in (0..sound.len()).step_by(sound.len() / 40) {
        let mut content = sound.clone();
        content[place] ^= 0xff;
        fs::write(&path, content).expect("writes");
        let store = open(directory.path());
        assert_eq!(append(&store, "b", 1, Severity::High), Kept::Durably, "byte {place}");
    }
}

#[test]
fn a_truncated_file_is_survived() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join(FILE_NAME);
    drop(open(directory.path()));
    let sound = fs::read(&path).expect("reads");
    for length in [1, 100, 4095, 4096, 8192, sound.len() / 2, sound.len() - 1] {
        fs::write(&path, &sound[..length]).expect("writes");
        let store = open(directory.path());
        assert_eq!(append(&store, "b", 1, Severity::High), Kept::Durably, "length {length}");
    }
}

#[test]
fn a_second_agent_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let _first = open(directory.path());
    let second = Store::open(&config(directory.path()), Timestamp::MIN);
    assert!(matches!(second, Err(StoreError::Busy { .. })));
}

#[test]
fn incidents_are_read_while_the_agent_writes() {
    let directory = tempfile::tempdir().expect("directory");
    let missing = View::open(&config(directory.path())).expect_err("nothing there yet").to_string();
    assert!(missing.contains("store.directory"), "{missing}");
    let store = open(directory.path());
    append(&store, "a", 1, Severity::High);
    let view = View::open(&config(directory.path())).expect("opens beside the writer");
    append(&store, "a", 2, Severity::Critical);
    append(&store, "ab", 1, Severity::High);
    assert_eq!(view.incidents().expect("reads"), store.incidents());
    assert_eq!(view.revisions("a").expect("reads"), [b"a/1", b"a/2"]);
    drop(store);
    assert_eq!(View::open(&config(directory.path())).expect("opens").incidents().expect("reads").len(), 2);
    drop(open(directory.path())); // a reader that is still there does not keep the agent from starting
    assert_eq!(view.revisions("none").expect("reads"), Vec::<Vec<u8>>::new());
}

#[test]
fn a_directory_that_cannot_be_made_leaves_the_store_in_memory() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("file");
    fs::write(&file, b"in the way").expect("writes");
    let store = open(&file.join("state"));
    store.open_sinks(&["http"]);
    assert_eq!(append(&store, "a", 1, Severity::High), Kept::InMemory);
    assert_eq!(pending(&store, "http"), ["a/1"]);
    assert!(store.status().trouble.expect("trouble").contains("cannot create"));
}

#[test]
fn waiting_revisions_are_bounded_while_the_disk_is_away() {
    let disk = FickleDisk::default();
    disk.full.store(true, Ordering::SeqCst);
    let store = disk.store(&Config { spool_bytes_max: 1, ..Config::default() });
    let json = vec![b'x'; 1 << 20];
    for number in 0..60 {
        let id = format!("incident-{number}");
        store.append(&[(revision(&id, 1, Severity::High, &json), true)], &[], Timestamp::from_unix_millis(2000));
    }
    let status = store.status();
    assert!(status.unsaved_bytes <= UNSAVED_BYTES_MAX, "{status:?}");
    assert!(status.counters.unsaved_dropped >= 12, "{status:?}");
}

/// A full disk once more, on a real file system, which only root can make small.
#[test]
fn a_full_file_system_is_survived() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: mounting a small file system needs root; the failing backend covers the logic");
        return;
    }
    // A thread with mounts of its own: nothing to clean up, nothing that others see.
    std::thread::spawn(on_a_small_file_system).join().expect("no panic");
}

fn on_a_small_file_system() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    let directory = tempfile::tempdir().expect("directory");
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("size=4m")).expect("mounts");
    let ballast = directory.path().join("ballast");
    let store = open(directory.path());
    store.open_sinks(&["http"]);
    append(&store, "before", 1, Severity::High);
    // Everything that is left, so that the next page has nowhere to go.
    let mut filler = fs::File::create(&ballast).expect("creates");
    while io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
    drop(filler);

    let json = vec![b'x'; 64 << 10];
    let mut number = 0;
    let full = loop {
        number += 1;
        let row = revision("during", number, Severity::High, &json);
        if store.append(&[(row, true)], &[], Timestamp::from_unix_millis(2000)) == Kept::InMemory {
            break store.status().trouble.expect("trouble");
        }
        assert!(number < 100, "four mebibytes hold it all");
    };
    assert!(full.contains("No space left"), "{full}");
    assert!(pending(&store, "http").contains(&String::from_utf8_lossy(&json).into_owned()));

    fs::remove_file(&ballast).expect("removes");
    assert_eq!(store.sync(), Kept::Durably);
    drop(store);
    let store = open(directory.path());
    store.open_sinks(&["http"]);
    assert_eq!(store.pending("http", 1000, u64::MAX).len(), 1 + number as usize);
    assert_eq!(store.status().set_aside, None);
}
