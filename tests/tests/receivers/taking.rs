//! Receivers at work in this process, and what they took.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use breachline::intake::{Config, Cursors, Intake, Judged, Status, Surroundings};
use breachline::timestamp::Timestamp;
use breachline_tests::wait_for;
use tokio::runtime::Runtime;

/// Longest wait for any one thing; rsyslog takes a second to start.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Cursors that last as long as the test.
#[derive(Default)]
struct Remembered(Mutex<BTreeMap<String, Vec<u8>>>);

impl Cursors for Remembered {
    fn load(&self, source: &str) -> Option<Vec<u8>> {
        self.0.lock().expect("no panic").get(source).cloned()
    }

    fn save(&self, source: &str, cursor: &[u8]) {
        self.0.lock().expect("no panic").insert(source.to_owned(), cursor.to_owned());
    }
}

/// Source and text of each line, in order.
type Lines = Arc<Mutex<Vec<(String, String)>>>;

pub(crate) struct Taking {
    /// Stopped, with everything on it, when dropped.
    _runtime: Runtime,
    intake: Intake,
    lines: Lines,
}

impl Taking {
    /// Starts what `config` (the inside of `[intake]`) names, with its journal below `directory`.
    pub(crate) fn start(directory: &Path, config: &str) -> Self {
        let config: Config = toml(config);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let around = Surroundings {
            directory: directory.to_owned(),
            cursors: Arc::new(Remembered::default()),
            now: || Timestamp::MIN,
            metrics: Arc::new(String::new),
        };
        let (intake, mut batches) = runtime.block_on(Intake::start(&config, &around)).expect("starts");
        let lines = Lines::default();
        let taken = Arc::clone(&lines);
        runtime.spawn(async move {
            while let Some(batch) = batches.recv().await {
                let text = |line: &[u8]| (batch.source.to_string(), String::from_utf8_lossy(line).into_owned());
                taken.lock().expect("no panic").extend(batch.lines.iter().map(|line| text(line)));
                let mut judged = Judged::default();
                judged.add(batch);
                judged.acknowledge(true);
            }
        });
        Self { _runtime: runtime, intake, lines }
    }

    pub(crate) fn status(&self) -> Status {
        self.intake.description().status()
    }

    /// The URL of a path of the HTTP receiver.
    pub(crate) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://127.0.0.1:{}{path}", self.status().http.expect("an address").port())
    }

    /// Waits until as many lines came as are expected, and compares them.
    pub(crate) fn expect(&self, source: &str, expected: &[&str]) {
        let of_source = || -> Vec<String> {
            let lines = self.lines.lock().expect("no panic");
            lines.iter().filter(|(from, _)| from == source).map(|(_, text)| text.clone()).collect()
        };
        wait_for(LIMIT, || (of_source().len() >= expected.len()).then_some(()));
        assert_eq!(of_source(), expected, "from {source}; all: {:?}", self.lines.lock().expect("no panic"));
        self.lines.lock().expect("no panic").retain(|(from, _)| from != source);
    }
}

fn toml(text: &str) -> Config {
    let whole = breachline::config::Config::parse(Path::new("test.toml"), text);
    whole.unwrap_or_else(|error| panic!("{error} in {text}")).intake
}
