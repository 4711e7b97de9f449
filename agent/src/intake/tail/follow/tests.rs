use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;

/// Steps in which a rotated file stays open.
const LINGER: u32 = 3;

/// A log, its writer, and someone who rotates it. Modification times are set by hand, one second apart, so that the
/// order of rotations never hangs on the file system's clock.
struct Log {
    directory: tempfile::TempDir,
    writer: File,
    written: u64,
    clock: u64,
}

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let writer = append_to(&directory.path().join("access.log"));
        let mut log = Self { directory, writer, written: 0, clock: 0 };
        log.write("");
        log
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("access.log")
    }

    fn rotated(&self, number: u32) -> PathBuf {
        self.directory.path().join(format!("access.log.{number}"))
    }

    fn write(&mut self, text: &str) {
        self.clock += 1;
        self.writer.write_all(text.as_bytes()).expect("writes");
        self.writer.set_modified(self.time()).expect("sets the time");
    }

    fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + self.clock)
    }

    /// Lines that no other line is like.
    fn write_lines(&mut self, count: u64, unfinished: bool) {
        for _ in 0..count {
            self.written += 1;
            let line =
                format!("line {} {}\n", self.written, "x".repeat(usize::try_from(self.written % 90).expect("small")));
            self.write(&line);
        }
        if unfinished {
            self.written += 1;
            let line = format!("line {} begun, ", self.written);
            self.write(&line);
            self.write("and ended\n");
        }
    }

    /// `access.log.2` to `.3` and so on; the oldest beyond nine goes.
    fn shift(&self) {
        for number in (1..9).rev() {
            drop(fs::rename(self.rotated(number), self.rotated(number + 1)));
            let packed = |number: u32| self.directory.path().join(format!("access.log.{number}.gz"));
            drop(fs::rename(packed(number), packed(number + 1)));
        }
    }

    fn rename(&mut self) {
        self.shift();
        fs::rename(self.path(), self.rotated(1)).expect("renames");
        self.writer = append_to(&self.path());
        self.write("");
    }

    fn copy_truncate(&mut self) {
        self.shift();
        fs::copy(self.path(), self.rotated(1)).expect("copies");
        self.clock += 1;
        File::options()
            .append(true)
            .open(self.rotated(1))
            .and_then(|copy| copy.set_modified(self.time()))
            .expect("time");
        self.writer.set_len(0).expect("truncates");
        self.write("");
    }

    fn compress(&self) {
        let Ok(content) = fs::read(self.rotated(1)) else { return };
        let modified = fs::metadata(self.rotated(1)).and_then(|metadata| metadata.modified()).expect("time");
        let packed = File::create(self.directory.path().join("access.log.1.gz")).expect("creates");
        let mut encoder = GzEncoder::new(packed, Compression::fast());
        encoder.write_all(&content).expect("writes");
        encoder.finish().and_then(|packed| packed.set_modified(modified)).expect("finishes");
        fs::remove_file(self.rotated(1)).expect("removes");
    }
}

fn append_to(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("opens")
}

/// A follower, what it passed on, and the cursor that is safe.
struct Reader {
    follower: Follower,
    lines: Vec<String>,
    safe: Cursor,
    gaps: usize,
}

impl Reader {
    fn new(path: &Path) -> Self {
        let (follower, _) = Follower::new(path, LINGER, None, false);
        Self { follower, lines: Vec::new(), safe: Cursor::default(), gaps: 0 }
    }

    fn take(&mut self, step: Step) {
        self.gaps += step.gaps;
        self.lines.extend(step.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()));
    }

    fn steps(&mut self, count: u32) {
        for _ in 0..count {
            if let Ok(step) = self.follower.step() {
                self.take(step);
            }
        }
    }

    fn acknowledge(&mut self) {
        self.safe = self.follower.cursor();
    }

    fn restart(&mut self, path: &Path) {
        let text = serde_json::to_vec(&self.safe).expect("serializes");
        let cursor = serde_json::from_slice(&text).expect("reads back");
        let (follower, step) = Follower::new(path, LINGER, Some(cursor), false);
        self.follower = follower;
        self.take(step);
    }

    /// How often each line that was written was passed on.
    fn counts(&self, log: &Log) -> BTreeMap<u64, usize> {
        let mut counts: BTreeMap<u64, usize> = (1..=log.written).map(|number| (number, 0)).collect();
        for line in &self.lines {
            let number = line.split(' ').nth(1).and_then(|number| number.parse().ok()).expect("a whole line");
            *counts.get_mut(&number).expect("a line that was written") += 1;
        }
        counts
    }
}

#[test]
fn only_whole_lines_are_passed_on() {
    let mut log = Log::new();
    let mut reader = Reader::new(&log.path());
    log.write("one\ntwo\r\n\nthr");
    reader.steps(3);
    assert_eq!(reader.lines, ["one", "two"]);
    log.write("ee\n");
    reader.steps(2);
    assert_eq!(reader.lines, ["one", "two", "three"]);
}

#[test]
fn a_first_start_begins_behind_the_last_whole_line() {
    let mut log = Log::new();
    log.write("old\nbegun, ");
    let (mut follower, _) = Follower::new(&log.path(), LINGER, None, true);
    log.write("and ended\nnew\n");
    let step = follower.step().expect("steps");
    assert_eq!(step.lines, ["begun, and ended", "new"]);
}

#[test]
fn a_missing_log_is_waited_for_and_read_from_its_beginning() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("access.log");
    let (mut follower, _) = Follower::new(&path, LINGER, None, true);
    assert_eq!(follower.step().expect_err("missing").kind(), io::ErrorKind::NotFound);
    fs::write(&path, "one\n").expect("writes");
    let lines = [follower.step().expect("opens").lines, follower.step().expect("reads").lines].concat();
    assert_eq!(lines, ["one"]);
}

#[test]
fn a_fifo_or_a_directory_is_an_error_and_blocks_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("makes");
    for path in [fifo, directory.path().to_owned()] {
        let (mut follower, _) = Follower::new(&path, LINGER, None, false);
        assert!(follower.step().expect_err("refused").to_string().contains("not a regular file"));
    }
}

#[test]
fn an_endless_line_is_cut_and_the_next_one_is_whole() {
    let mut log = Log::new();
    let mut reader = Reader::new(&log.path());
    log.write(&"a".repeat(1 << 20));
    reader.steps(8);
    assert_eq!(reader.lines.iter().map(String::len).collect::<Vec<_>>(), [LINE_BYTES_MAX]);
    reader.acknowledge();
    reader.restart(&log.path());
    log.write("still the same\nnext\n");
    reader.steps(8);
    assert_eq!(reader.lines[1..], ["next"]);
}

#[test]
fn a_step_is_bounded_in_lines() {
    let mut log = Log::new();
    log.write(&"a\n".repeat(40_000));
    let mut reader = Reader::new(&log.path());
    reader.steps(2);
    assert_eq!(reader.lines.len(), STEP_LINES_MAX);
    reader.steps(5);
    assert_eq!(reader.lines.len(), 40_000);
}

#[test]
fn a_writer_that_goes_on_after_the_rename_is_read_to_its_end() {
    let mut log = Log::new();
    let mut reader = Reader::new(&log.path());
    log.write("one\ntw");
    reader.steps(2);
    fs::rename(log.path(), log.rotated(1)).expect("renames");
    reader.steps(2);
    log.write("o\nthree\nno end");
    log.writer = append_to(&log.path());
    log.write("four\n");
    reader.steps(3 * LINGER);
    let mut lines = reader.lines.clone();
    lines.sort();
    assert_eq!(lines, ["four", "no end", "one", "three", "two"]);
    assert_eq!(reader.gaps, 0);
}

#[test]
fn rotated_twice_while_nobody_looked() {
    let mut log = Log::new();
    let mut reader = Reader::new(&log.path());
    log.write_lines(3, false);
    reader.steps(3);
    reader.acknowledge();
    for compressed in [false, true] {
        log.write_lines(2, false);
        log.rename();
        log.write_lines(2, false);
        log.rename();
        if compressed {
            log.compress();
        }
        log.write_lines(2, false);
        reader.restart(&log.path());
        reader.steps(40);
        reader.acknowledge();
        assert!(reader.counts(&log).values().all(|count| *count == 1), "{:?}", reader.counts(&log));
    }
    assert_eq!(reader.gaps, 0);
}

#[test]
fn what_was_not_acknowledged_is_read_again() {
    let mut log = Log::new();
    let mut reader = Reader::new(&log.path());
    log.write_lines(2, false);
    reader.steps(3);
    reader.acknowledge();
    log.write_lines(2, false);
    reader.steps(3);
    reader.restart(&log.path());
    reader.steps(3);
    assert_eq!(reader.counts(&log).into_values().collect::<Vec<_>>(), [1, 1, 2, 2]);
}

#[test]
fn a_lost_rest_is_counted_as_a_gap() {
    let mut log = Log::new();
    let mut reader = Reader::new(&log.path());
    log.write_lines(5, false);
    reader.steps(3);
    log.writer.set_len(0).expect("truncates");
    log.write_lines(1, false);
    reader.steps(5);
    assert_eq!(reader.gaps, 1);
    assert_eq!(reader.counts(&log)[&6], 1);
}

#[test]
fn a_gzip_file_is_read_once() {
    let mut log = Log::new();
    log.write_lines(500, false);
    log.rename();
    log.compress();
    let packed = log.directory.path().join("access.log.1.gz");
    let mut reader = Reader::new(&packed);
    reader.steps(5);
    reader.acknowledge();
    reader.restart(&packed);
    reader.steps(5);
    assert!(reader.counts(&log).values().all(|count| *count == 1));
}

#[test]
fn a_gzip_file_still_being_written_is_waited_for() {
    let mut log = Log::new();
    log.write_lines(500, false);
    log.rename();
    log.compress();
    let packed = log.directory.path().join("access.log.1.gz");
    let content = fs::read(&packed).expect("reads");
    fs::write(&packed, &content[..content.len() / 2]).expect("writes");
    let mut reader = Reader::new(&packed);
    reader.steps(5);
    assert!(reader.follower.step().is_err());
    fs::write(&packed, &content).expect("writes");
    reader.steps(5);
    assert!(reader.counts(&log).values().all(|count| *count == 1));
}

#[derive(Clone, Debug)]
enum Action {
    Write { lines: u64, unfinished: bool },
    Rename,
    CopyTruncate,
    Compress,
    Step(u32),
    Acknowledge,
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..6_u64, any::<bool>()).prop_map(|(lines, unfinished)| Action::Write { lines, unfinished }),
        2 => Just(Action::Rename),
        2 => Just(Action::CopyTruncate),
        1 => Just(Action::Compress),
        6 => (1..8_u32).prop_map(Action::Step),
        3 => Just(Action::Acknowledge),
        2 => Just(Action::Restart),
    ]
}

proptest! {
        /// Whatever happens to the log: no line is lost, and none is repeated that was acknowledged.
    #[test]
    fn no_line_is_lost_and_none_repeated(actions in proptest::collection::vec(action(), 1..40), always: bool) {
        let mut log = Log::new();
        let mut reader = Reader::new(&log.path());
        log.write_lines(1, false);
        reader.steps(2);
        reader.acknowledge();
        let mut rotations = 0;
        for action in actions {
            match action {
                Action::Write { lines, unfinished } => log.write_lines(lines, unfinished),
                // An empty log is not rotated (logrotate's notifempty), and what falls off the end is lost to anyone.
                Action::Rename | Action::CopyTruncate if rotations == 8 || log.path().metadata()?.len() == 0 => {}
                Action::Rename => { log.rename(); rotations += 1; }
                Action::CopyTruncate => {
                    // Truncation between looks loses what rename would not: the log must have been seen to be
                    // recognised.
                    reader.steps(20);
                    log.copy_truncate();
                    rotations += 1;
                }
                Action::Compress => log.compress(),
                Action::Step(count) => reader.steps(count),
                Action::Acknowledge => reader.acknowledge(),
                Action::Restart => reader.restart(&log.path()),
            }
            if always {
                reader.acknowledge();
            }
        }
        reader.steps(200);
        let counts = reader.counts(&log);
        prop_assert!(counts.values().all(|count| *count > 0), "lost: {counts:?}");
        prop_assert!(!always || counts.values().all(|count| *count == 1), "repeated: {counts:?}");
    }
}
