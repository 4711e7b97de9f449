use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;

use super::*;
use crate::intake::{Cursors, HttpConfig, Intake, JOURNAL_CURSOR, Queue, Surroundings, queue};
use crate::store::{self, Blob, Store};
use crate::timestamp::Timestamp;

const QUEUE_BYTES: usize = 4 << 20;

fn begin(directory: &Path, judged: u64, bytes_max: u64) -> (Queue, mpsc::Receiver<Batch>, Trouble) {
    let (queue, batches) = queue(QUEUE_BYTES);
    let (detector, rooms) = queue.parts();
    let trouble = Trouble::default();
    let setup = Setup {
        config: Config { bytes_max, ..Config::default() },
        directory: directory.to_owned(),
        judged,
        detector,
        rooms,
        counters: Arc::clone(queue.counters()),
        trouble: Arc::clone(&trouble),
    };
    (queue.journaled(start(setup).expect("starts")), batches, trouble)
}

fn batch(text: &str) -> Batch {
    Batch::new("test".into(), Timestamp::MIN, vec![Bytes::copy_from_slice(text.as_bytes())])
}

async fn received(batches: &mut mpsc::Receiver<Batch>) -> (String, Judged) {
    let batch = batches.recv().await.expect("a batch");
    let text = String::from_utf8_lossy(&batch.lines[0]).into_owned();
    let mut judged = Judged::default();
    judged.add(batch);
    (text, judged)
}

#[tokio::test]
async fn what_was_taken_comes_again_until_it_is_judged_and_saved() {
    let directory = tempfile::tempdir().expect("directory");
    let (queue, mut batches, _) = begin(directory.path(), 0, BYTES_MIN);
    for text in ["one", "two", "three"] {
        queue.take(batch(text), false).await.expect("taken");
    }
    let mut saved = 0;
    for expected in ["one", "two"] {
        let (text, judged) = received(&mut batches).await;
        assert_eq!(text, expected);
        saved = position(&judged.position().expect("a place"));
    }
    drop((queue, batches)); // as a crash: nobody says goodbye

    let (queue, mut batches, _) = begin(directory.path(), saved, BYTES_MIN);
    assert_eq!(received(&mut batches).await.0, "three");
    queue.take(batch("four"), false).await.expect("taken");
    assert_eq!(received(&mut batches).await.0, "four");
    assert_eq!(queue.counters().journal_replayed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_full_journal_says_so_until_its_lines_are_judged() {
    let directory = tempfile::tempdir().expect("directory");
    let (queue, mut batches, _) = begin(directory.path(), 0, 60 << 20);
    let large = "x".repeat(10 << 20);
    let mut judged = Vec::new();
    let refused = loop {
        match queue.take(batch(&large), false).await {
            Ok(()) => judged.push(received(&mut batches).await.1),
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused, judged.len()), (NotTaken::JournalFull, 5));
    queue.take(batch("from a source without a memory"), true).await.expect("judged all the same");
    assert_eq!(received(&mut batches).await.0, "from a source without a memory");
    judged.drain(..).for_each(|judged| judged.acknowledge(false));
    assert_eq!(queue.take(batch("a"), false).await.err(), None, "a little still fits");
    let (_, last) = received(&mut batches).await;
    assert_eq!(queue.take(batch(&large), false).await, Err(NotTaken::JournalFull), "not on disk is not released");
    last.acknowledge(true);
    assert_eq!(queue.take(batch(&large), false).await, Ok(()));
}

#[tokio::test]
async fn a_disk_that_does_not_take_it_is_named_and_tried_again() {
    let directory = tempfile::tempdir().expect("directory");
    let place = directory.path().join("intake");
    std::fs::write(&place, "in the way").expect("writes");
    let (queue, mut batches, trouble) = begin(&place, 0, BYTES_MIN);
    let refused = queue.take(batch("one"), false).await.expect_err("refused");
    assert!(matches!(refused, NotTaken::Disk(_)), "{refused}");
    let sentence = trouble.lock().expect("no panic").clone().expect("a sentence");
    assert!(sentence.contains("intake.journal.enabled") && sentence.contains("make room"), "{sentence}");
    std::fs::remove_file(&place).expect("removes");
    queue.take(batch("two"), false).await.expect("taken");
    assert_eq!(received(&mut batches).await.0, "two");
    assert_eq!(*trouble.lock().expect("no panic"), None);
}

/// Not a test of its own: the process that [`killed_at_any_moment_nothing_acknowledged_is_lost`] kills. Takes lines by
/// HTTP, says so, and saves its place now and then, as the engine does with the detector's memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by killed_at_any_moment_nothing_acknowledged_is_lost in a process of its own"]
async fn serve_until_killed() {
    let Some(directory) = std::env::var_os("BREACHLINE_TEST_DIRECTORY") else { return };
    let directory = PathBuf::from(directory);
    let state = store::Config { directory: directory.clone(), ..store::Config::default() };
    let store = Arc::new(Store::open(&state, Timestamp::MIN).expect("opens"));
    let cursors: Arc<dyn Cursors> = Arc::<Store>::clone(&store);
    let http = HttpConfig { listen: "127.0.0.1:0".parse().expect("address"), ..HttpConfig::default() };
    let config = crate::intake::Config { http, ..crate::intake::Config::default() };
    let around = Surroundings { directory, cursors, now: || Timestamp::MIN, metrics: Arc::new(String::new) };
    let (intake, mut batches) = Intake::start(&config, &around).await.expect("starts");
    println!("listens {}", intake.description().status().http.expect("an address"));
    let mut judged = Judged::default();
    let mut count = 0;
    while let Some(batch) = batches.recv().await {
        for line in &batch.lines {
            println!("took {}", String::from_utf8_lossy(line));
        }
        judged.add(batch);
        count += 1;
        if count % 7 == 0 {
            let done = std::mem::take(&mut judged);
            store.save(Blob::Cursor, JOURNAL_CURSOR, &done.position().expect("a place"));
            done.acknowledge(store.sync() == store::Kept::Durably);
        }
    }
}

fn serve(directory: &Path) -> Child {
    Command::new(std::env::current_exe().expect("the test's own program"))
        .args(["intake::journal::tests::serve_until_killed", "--exact", "--ignored", "--nocapture"])
        .env("BREACHLINE_TEST_DIRECTORY", directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts")
}

/// Whether the receiver said that it took the line.
fn post(address: SocketAddr, line: &str) -> bool {
    let request = format!(
        "POST /v1/lines HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{line}",
        line.len()
    );
    let exchange = || {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, io::Error>(answer)
    };
    exchange().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    let directory = tempfile::tempdir().expect("directory");
    let (mut acknowledged, mut taken) = (BTreeSet::new(), Vec::new());
    let mut number = 0;
    for round in 0..6_usize {
        let mut child = serve(directory.path());
        let mut output = BufReader::new(child.stdout.take().expect("stdout")).lines().map_while(Result::ok);
        let address = output.find_map(|line| Some(line.split_once("listens ")?.1.to_owned())).expect("it listens");
        let address = address.parse().expect("an address");
        // From several connections at once, so that writes are grouped; killed with some of them under way.
        let senders: Vec<_> = (0..4_usize)
            .map(|_| {
                let numbers = number..number + 10 + 5 * round;
                number = numbers.end;
                thread::spawn(move || {
                    numbers.filter(|number| post(address, &format!("line {number}"))).collect::<Vec<usize>>()
                })
            })
            .collect();
        if round < 5 {
            let heard: Vec<String> = output.by_ref().take(15 + 10 * round).collect();
            taken.extend(heard);
            child.kill().expect("kills");
        }
        senders.into_iter().for_each(|sender| acknowledged.extend(sender.join().expect("no panic")));
        child.kill().expect("kills");
        child.wait().expect("ends");
        taken.extend(output);
    }
    // What the last one took and did not say is in the journal still.
    let mut child = serve(directory.path());
    let mut output = BufReader::new(child.stdout.take().expect("stdout")).lines().map_while(Result::ok);
    let address = output.find_map(|line| Some(line.split_once("listens ")?.1.to_owned())).expect("it listens");
    assert!(post(address.parse().expect("an address"), "line last"));
    taken.extend(output.by_ref().take_while(|line| !line.ends_with("line last")));
    child.kill().expect("kills");
    child.wait().expect("ends");

    let judged: BTreeSet<usize> =
        taken.iter().filter_map(|line| line.split_once("took line ")?.1.parse().ok()).collect();
    let lost: Vec<_> = acknowledged.difference(&judged).collect();
    assert!(lost.is_empty(), "of {} acknowledged, lost {lost:?}", acknowledged.len());
    assert!(acknowledged.len() > 50, "the test itself must send: {}", acknowledged.len());
}
