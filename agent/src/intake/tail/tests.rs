use std::collections::HashMap;
use std::fs;
use std::io::Write;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::intake::queue;

const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Memory(Mutex<HashMap<String, Vec<u8>>>);

impl Cursors for Memory {
    fn load(&self, source: &str) -> Option<Vec<u8>> {
        self.0.lock().expect("lock").get(source).cloned()
    }
    fn save(&self, source: &str, cursor: &[u8]) {
        self.0.lock().expect("lock").insert(source.to_owned(), cursor.to_vec());
    }
}

struct Following {
    batches: mpsc::Receiver<Batch>,
    status: Arc<Mutex<FileStatus>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Following {
    fn start(path: &Path, cursors: &Arc<Memory>) -> Self {
        let config = Config { path: path.to_owned(), from_end: false, poll: Duration::from_millis(10) };
        let (queue, batches) = queue(QUEUE_BYTES_MIN);
        let cursors: Arc<dyn Cursors> = Arc::<Memory>::clone(cursors);
        let tail = Tail::open(&config, queue, cursors, || Timestamp::from_unix_millis(7)).expect("opens");
        let (stop, stopped) = watch::channel(false);
        Self { batches, status: tail.status(), stop, task: tokio::spawn(tail.run(stopped)) }
    }

    async fn batch(&mut self) -> Batch {
        timeout(DEADLINE, self.batches.recv()).await.expect("in time").expect("a batch")
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        drop(self.batches);
        timeout(DEADLINE, self.task).await.expect("in time").expect("no panic");
    }
}

fn texts(batch: &Batch) -> Vec<String> {
    batch.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).expect("opens");
    file.write_all(text.as_bytes()).expect("writes");
}

#[tokio::test]
async fn acknowledged_lines_are_not_read_again_and_others_are() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("access.log");
    let cursors = Arc::new(Memory::default());
    append(&path, "one\n");

    let mut following = Following::start(&path, &cursors);
    let batch = following.batch().await;
    assert_eq!(texts(&batch), ["one"]);
    assert_eq!(
        (&*batch.source, batch.received),
        (&*format!("file:{}", path.display()), Timestamp::from_unix_millis(7))
    );
    batch.acknowledge();
    append(&path, "two\n");
    assert_eq!(texts(&following.batch().await), ["two"], "and dropped without acknowledgement");
    following.stop().await;

    let mut following = Following::start(&path, &cursors);
    let batch = following.batch().await;
    assert_eq!(texts(&batch), ["two"]);
    batch.acknowledge();
    following.stop().await;

    append(&path, "three\n");
    let mut following = Following::start(&path, &cursors);
    assert_eq!(texts(&following.batch().await), ["three"]);
    following.stop().await;
}

#[tokio::test]
async fn a_full_queue_stops_reading_and_loses_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("access.log");
    let lines = 200_000;
    let text: String = (0..lines).map(|number| format!("line {number} {}\n", "x".repeat(40))).collect();
    append(&path, &text);
    let mut following = Following::start(&path, &Arc::default());
    let mut next = 0;
    while next < lines {
        let batch = following.batch().await;
        for line in texts(&batch) {
            assert!(line.starts_with(&format!("line {next} ")), "{line} instead of {next}");
            next += 1;
        }
        batch.acknowledge();
    }
    following.stop().await;
}

#[tokio::test]
async fn a_missing_log_is_named_in_the_status_and_followed_once_it_is_there() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("access.log");
    let mut following = Following::start(&path, &Arc::default());
    let status = Arc::clone(&following.status);
    let trouble = || status.lock().expect("lock").trouble.clone();
    let noticed = async {
        while trouble().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, noticed).await.expect("in time");
    assert!(trouble().is_some_and(|text| text.contains("access.log: No such file")));
    append(&path, "one\n");
    assert_eq!(texts(&following.batch().await), ["one"]);
    assert_eq!(trouble(), None);
    following.stop().await;
}

#[tokio::test]
async fn a_config_that_cannot_work_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let check = |config: Config, bytes: usize, expected: &str| {
        let refused = Tail::open(&config, queue(bytes).0, Arc::new(Memory::default()), || Timestamp::MIN);
        let error = refused.expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    let at = |path: &Path| Config { path: path.to_owned(), ..Config::default() };
    check(Config::default(), QUEUE_BYTES_MIN, "names no file");
    check(at(directory.path()), QUEUE_BYTES_MIN, "is a directory");
    check(Config { poll: Duration::ZERO, ..at(Path::new("/a")) }, QUEUE_BYTES_MIN, "between 10ms and 10s");
    check(at(Path::new("/a")), QUEUE_BYTES_MIN - 1, "queue_bytes");
}
