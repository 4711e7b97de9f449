use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::store::{self, Store};

#[test]
fn the_config_reads_what_it_writes_and_refuses_what_it_does_not_know() {
    let config = Config { files: vec![FileConfig::default()], ..Config::default() };
    let text = toml::to_string(&config).expect("writes");
    assert_eq!(toml::from_str::<Config>(&text).expect("reads"), config, "{text}");
    let error = toml::from_str::<Config>("[http]\nlisten = \"127.0.0.1:1\"\nport = 2").expect_err("refused");
    assert!(error.to_string().contains("unknown field `port`"), "{error}");
}

#[test]
fn a_file_is_followed_once() {
    let file = FileConfig { path: "/var/log/nginx/access.log".into(), ..FileConfig::default() };
    let config = Config { files: vec![file.clone(), file], ..Config::default() };
    assert!(config.check().expect_err("refused").to_string().contains("listed twice"));
    assert!(Config::default().check().is_ok());
}

#[test]
fn nothing_is_open_beyond_loopback_without_tls_and_a_credential() {
    let check = |text: &str, expected: &str| {
        let config: Config = toml::from_str(text).expect("reads");
        match config.check() {
            Ok(()) => assert_eq!(expected, "", "{text}"),
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{text}: {error}"),
        }
    };
    let tls = "[tls]\ncert_file = \"c\"\nkey_file = \"k\"\n";
    let mutual = &format!("{tls}client_ca_file = \"a\"\n");
    check("[http]\nlisten = \"0.0.0.0:1\"", "listen on 127.0.0.1");
    check("[http]\nlisten = \"[2001:db8::1]:1\"\ntoken_file = \"t\"", "intake.http.tls = true");
    check("[http]\nlisten = \"127.0.0.1:1\"\ntls = true", "intake.tls.cert_file");
    check(&format!("{tls}[http]\nlisten = \"0.0.0.0:1\"\ntls = true"), "without TLS and a credential");
    check(&format!("{tls}[http]\nlisten = \"0.0.0.0:1\"\ntls = true\ntoken_file = \"t\""), "");
    check(&format!("{mutual}[http]\nlisten = \"0.0.0.0:1\"\ntls = true"), "");
    check(&format!("{mutual}[http]\nlisten = \"0.0.0.0:1\""), "intake.http.listen 0.0.0.0:1");
    check(&format!("{mutual}[syslog]\nudp = \"0.0.0.0:1\""), "datagrams show no credential");
    check(&format!("{mutual}[syslog]\ntcp = \"0.0.0.0:1\""), "use intake.syslog.tls");
    check(&format!("{mutual}[syslog]\ntls = \"0.0.0.0:1\""), "");
    check(&format!("{tls}[syslog]\ntls = \"0.0.0.0:1\""), "set intake.tls.client_ca_file");
    check("[syslog]\nudp = \"127.0.0.1:1\"\ntcp = \"[::1]:1\"", "");
    check(&format!("{tls}[fluentd]\nlisten = \"0.0.0.0:1\"\ntls = true\nshared_key_file = \"k\""), "");
    check(&format!("{tls}[fluentd]\nlisten = \"0.0.0.0:1\"\nshared_key_file = \"k\""), "intake.fluentd.tls = true");
}

/// HTTP and a file through one queue, over a restart, with the real store.
#[tokio::test]
async fn receivers_share_a_queue_and_stop_together() {
    let directory = tempfile::tempdir().expect("directory");
    let log = directory.path().join("access.log");
    std::fs::write(&log, "from the file\n").expect("writes");
    let state = store::Config { directory: directory.path().to_owned(), ..store::Config::default() };
    let store = Arc::new(Store::open(&state, Timestamp::MIN).expect("opens"));
    let cursors: Arc<dyn Cursors> = Arc::<Store>::clone(&store);
    let config = Config {
        http: HttpConfig { listen: "127.0.0.1:0".parse().expect("address"), ..HttpConfig::default() },
        files: vec![FileConfig { path: log.clone(), from_end: false, ..FileConfig::default() }],
        ..Config::default()
    };
    let around = Surroundings {
        directory: directory.path().to_owned(),
        cursors,
        now: || Timestamp::MIN,
        metrics: Arc::new(String::new),
    };
    for expected in ["from the file", "from the file again"] {
        let (mut intake, mut batches) = Intake::start(&config, &around).await.expect("starts");
        let status = intake.description().status();
        let address = status.http.expect("an address");
        let mut sender = tokio::net::TcpStream::connect(address).await.expect("connects");
        let request = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\nover http";
        sender.write_all(request).await.expect("writes");
        let mut answer = Vec::new();
        sender.read_to_end(&mut answer).await.expect("answers");
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
        let mut lines = Vec::new();
        while lines.len() < 2 {
            let batch = batches.recv().await.expect("a batch");
            lines.extend(batch.lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()));
            batch.acknowledge();
        }
        lines.sort();
        assert_eq!(lines, [expected, "over http"]);
        store.save(store::Blob::Cursor, JOURNAL_CURSOR, &1_u64.to_be_bytes());
        intake.stop(Duration::from_secs(20)).await;
        intake.finish(Duration::from_secs(20)).await;
        assert!(batches.recv().await.is_none(), "closed, and nothing repeated");
        assert_eq!(status.files[0].path, log);
        assert_eq!(status.counters.lines.load(std::sync::atomic::Ordering::Relaxed), 2);
        std::fs::write(&log, "from the file\nfrom the file again\n").expect("writes");
    }
}

/// Not a test of its own: the process that [`killed_at_any_moment_no_line_is_lost`] kills. Takes lines, says so,
/// acknowledges.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by killed_at_any_moment_no_line_is_lost in a process of its own"]
async fn take_lines_until_killed() {
    let Some(directory) = std::env::var_os("BREACHLINE_TEST_DIRECTORY") else { return };
    let directory = Path::new(&directory);
    let state = store::Config { directory: directory.join("state"), ..store::Config::default() };
    let store = Arc::new(Store::open(&state, Timestamp::MIN).expect("opens"));
    let cursors: Arc<dyn Cursors> = Arc::<Store>::clone(&store);
    let path = directory.join("access.log");
    let source = format!("file:{}", path.display());
    let file = FileConfig { path, from_end: false, poll: Duration::from_millis(10) };
    let http = HttpConfig { enabled: false, ..HttpConfig::default() };
    let config = Config { http, files: vec![file], ..Config::default() };
    let around = Surroundings {
        directory: directory.to_owned(),
        cursors: Arc::clone(&cursors),
        now: || Timestamp::MIN,
        metrics: Arc::new(String::new),
    };
    let (_intake, mut batches) = Intake::start(&config, &around).await.expect("starts");
    let mut ready = false;
    loop {
        let Ok(batch) = tokio::time::timeout(Duration::from_millis(5), batches.recv()).await else {
            // Before the first cursor is on disk there is nothing to know a rotated log by.
            let known = cursors.load(&source).is_some();
            store.sync();
            if known && !std::mem::replace(&mut ready, true) {
                println!("ready");
            }
            continue;
        };
        let batch = batch.expect("open");
        for line in &batch.lines {
            println!("took {}", String::from_utf8_lossy(line));
        }
        batch.acknowledge();
    }
}

fn start_taking(directory: &Path) -> Child {
    Command::new(std::env::current_exe().expect("the test's own program"))
        .args(["intake::tests::take_lines_until_killed", "--exact", "--ignored", "--nocapture"])
        .env("BREACHLINE_TEST_DIRECTORY", directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts")
}

#[test]
fn killed_at_any_moment_no_line_is_lost() {
    let directory = tempfile::tempdir().expect("directory");
    let log = directory.path().join("access.log");
    let (mut written, mut taken, mut repeated) = (0, BTreeSet::new(), 0);
    std::fs::write(&log, "").expect("writes");
    for round in 0..5_usize {
        let mut child = start_taking(directory.path());
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let mut lines = stdout.lines().map_while(Result::ok);
        if round == 0 {
            lines.by_ref().take_while(|line| !line.ends_with("ready")).for_each(drop);
        }
        let mut numbers = lines.filter_map(|line| taken_number(&line));
        // Written in two parts with a rotation between them, and killed while lines are still coming in.
        for _ in 0..2 {
            let mut file = std::fs::File::options().create(true).append(true).open(&log).expect("opens");
            for _ in 0..500 {
                written += 1;
                writeln!(file, "line {written}").expect("writes");
            }
            let heard: Vec<u64> = numbers.by_ref().take(1 + 97 * round).collect();
            repeated += heard.into_iter().filter(|number| !taken.insert(*number)).count();
            std::fs::rename(&log, directory.path().join(format!("access.log.{written}"))).expect("renames");
        }
        child.kill().expect("kills");
        child.wait().expect("ends");
        repeated += numbers.filter(|number| !taken.insert(*number)).count();
    }
    let mut child = start_taking(directory.path());
    let stdout = BufReader::new(child.stdout.take().expect("stdout"));
    let mut numbers = stdout.lines().map_while(Result::ok).filter_map(|line| taken_number(&line));
    std::fs::write(&log, "line 0\n").expect("writes");
    for number in numbers.by_ref().take_while(|number| *number != 0) {
        repeated += usize::from(!taken.insert(number));
    }
    child.kill().expect("kills");
    child.wait().expect("ends");
    let lost: Vec<u64> = (1..=written).filter(|number| !taken.contains(number)).collect();
    assert!(lost.is_empty(), "lost {} of {written}, from line {}", lost.len(), lost[0]);
    eprintln!("{repeated} of {written} lines were repeated");
}

fn taken_number(line: &str) -> Option<u64> {
    line.split_once("took line ")?.1.parse().ok()
}
