use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

struct Bucket {
    directory: tempfile::TempDir,
    state: tempfile::TempDir,
}

impl Bucket {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("directory"), state: tempfile::tempdir().expect("directory") }
    }

    fn put(&self, key: &str, content: &[u8]) {
        let path = self.directory.path().join(key);
        fs::create_dir_all(path.parent().expect("a parent")).expect("creates");
        fs::write(path, content).expect("writes");
    }

    /// Reads everything there is, as one run of the forwarder does.
    fn read(&self) -> (Vec<String>, super::super::progress::Counts) {
        let config = ObjectsConfig {
            directory: self.directory.path().to_owned(),
            settle: Duration::ZERO,
            ..ObjectsConfig::default()
        };
        let cursors = Cursors::open(self.state.path()).expect("opens");
        let counters = Counters::default();
        let mut tree = Tree::new(&config, Feed::new(0, "", &config.format), true);
        let (mut lines, mut marks) = (Vec::new(), BTreeMap::new());
        loop {
            match tree.turn(Instant::now(), &cursors, &counters) {
                Turn::Lines(read) => {
                    lines.extend(read.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()));
                    marks.extend(read.mark);
                }
                Turn::Idle => {}
                Turn::Over => break,
            }
        }
        cursors.save(&marks).expect("saves");
        (lines, counters.counts())
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("writes");
    encoder.finish().expect("finishes")
}

#[test]
fn each_object_once_in_the_order_of_time() {
    let bucket = Bucket::new();
    let day = "AWSLogs/111122223333/elasticloadbalancing/eu-north-1/2026/05";
    bucket.put(&format!("{day}/05/b_20260505T0005Z_10.0.0.1_x.log.gz"), &gzip("third\n"));
    bucket.put(&format!("{day}/04/b_20260504T0010Z_10.0.0.1_x.log.gz"), &gzip("second\nwithout end"));
    bucket.put(&format!("{day}/04/b_20260504T0005Z_10.0.0.1_x.log"), b"first\n");
    bucket.put(&format!("{day}/04/b_20260504T0015Z_10.0.0.1_x.log.gz.7Fa3"), b"under way");
    let (lines, counts) = bucket.read();
    assert_eq!(lines, ["first", "second", "without end", "third"]);
    assert_eq!((counts.objects_read, counts.lines_read), (3, 4));
    assert!(bucket.read().0.is_empty(), "each once");
    bucket.put(&format!("{day}/05/b_20260505T0010Z_10.0.0.1_x.log.gz"), &gzip("fourth\n"));
    assert_eq!(bucket.read().0, ["fourth"]);
}

#[test]
fn an_object_that_grew_is_read_on() {
    let bucket = Bucket::new();
    bucket.put("a.log", b"one\n");
    assert_eq!(bucket.read().0, ["one"]);
    bucket.put("a.log", b"one\ntwo\n");
    assert_eq!(bucket.read().0, ["two"]);
}

#[test]
fn a_torn_object_is_read_when_it_is_whole() {
    let bucket = Bucket::new();
    let whole = gzip(&(0..5000).map(|number| format!("line {number}\n")).collect::<String>());
    bucket.put("a.log.gz", &whole[..whole.len() / 2]);
    let (torn, counts) = bucket.read();
    assert!(torn.len() < 5000);
    assert_eq!(counts.objects_read, 0);
    bucket.put("a.log.gz", &whole);
    let (rest, counts) = bucket.read();
    assert_eq!(counts.objects_read, 1);
    let mut all: Vec<String> = torn.into_iter().chain(rest).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5000);
}

#[test]
fn rubbish_and_old_files_are_left_alone() {
    let bucket = Bucket::new();
    bucket.put("rubbish.gz", b"this is not gzip");
    bucket.put("old.log", b"old\n");
    let old = fs::File::options().write(true).open(bucket.directory.path().join("old.log")).expect("opens");
    old.set_modified(SystemTime::now() - Duration::from_secs(30 * 86_400)).expect("sets the time");
    bucket.put("new.log", b"new\n");
    let (lines, counts) = bucket.read();
    assert_eq!((lines, counts.objects_read), (vec!["new".to_owned()], 1));
}

#[test]
fn an_object_whose_lines_are_not_taken_yet_is_not_read_again() {
    let bucket = Bucket::new();
    bucket.put("a.log", b"one\n");
    let config = ObjectsConfig {
        directory: bucket.directory.path().to_owned(),
        settle: Duration::ZERO,
        rescan: Duration::from_nanos(1),
        ..ObjectsConfig::default()
    };
    let cursors = Cursors::open(bucket.state.path()).expect("opens");
    let counters = Counters::default();
    let mut tree = Tree::new(&config, Feed::new(0, "", &config.format), false);
    // Many rescans, and no position is saved in between: a destination takes nothing.
    for _ in 0..100 {
        tree.turn(Instant::now(), &cursors, &counters);
    }
    assert_eq!((counters.counts().objects_read, counters.counts().lines_read), (1, 1));
    bucket.put("a.log", b"one\ntwo\n");
    for _ in 0..100 {
        tree.turn(Instant::now(), &cursors, &counters);
    }
    assert_eq!(counters.counts().objects_read, 2);
}
