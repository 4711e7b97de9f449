//! The receivers against senders that nobody here wrote: rsyslog, logger, curl, the OpenTelemetry SDK's exporter and Fluentd's
//! client library; and, as root, the whole agent killed while it takes lines. Everything on loopback.
//!
//! What is not installed is said and left out (`cargo xtask setup` installs all of it).

mod agent;
mod certificates;
mod taking;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use breachline_tests::wait_for;
use certificates::Authority;
use taking::{LIMIT, Taking};

/// A line as nginx writes it, and one that would not survive careless framing.
const LINES: [&str; 3] = [
    "198.51.100.7 - - [22/Nov/2026:21:54:01 +0000] \"GET /a?b=%20c HTTP/1.1\" 200 5 \"-\" \"curl/8.5.0\"",
    "200 <13>1 looks like a frame: 4 <1>x",
    "198.51.100.8 - - [22/Nov/2026:21:54:02 +0000] \"GET /caf\u{e9}/;id HTTP/1.1\" 404 0 \"-\" \"-\"",
];

/// Whether a program is there; else it is said.
fn found(program: &str) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", "command -v \"$0\"", program]).stdout(Stdio::null());
    let found = command.status().is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: needs {program} (cargo xtask setup installs it)");
    }
    found
}

/// What curl printed: the answer's body, a space, its status.
fn curl(arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["-s", "--max-time", "20", "-w", " %{http_code}"]).args(arguments);
    let output = command.output().expect("curl runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn curl_sends_lines_in_every_way() {
    if !found("curl") || !found("gzip") {
        return;
    }
    let directory = tempfile::tempdir().expect("directory");
    let taking = Taking::start(directory.path(), "[intake.http]\nlisten = \"127.0.0.1:0\"\n");
    let log = directory.path().join("access.log");
    std::fs::write(&log, LINES.join("\n") + "\n").expect("writes");
    let gzip = Command::new("gzip").arg("-k").arg(&log).status().expect("gzip runs");
    assert!(gzip.success());
    let plain = format!("@{}", log.display());
    let packed = format!("@{}.gz", log.display());
    let url = taking.url("http", "/v1/lines");
    let text = "Content-Type: text/plain";
    assert_eq!(curl(&["-H", text, "--data-binary", &plain, &url]), "{\"lines\":3}\n 200");
    taking.expect("http:/v1/lines", &LINES);
    assert_eq!(curl(&["--data-binary", &plain, &url]), "{\"lines\":3}\n 200", "curl calls it a form; lines are lines");
    taking.expect("http:/v1/lines", &LINES);
    let gzipped = ["-H", text, "-H", "Content-Encoding: gzip", "-H", "Transfer-Encoding: chunked"];
    assert_eq!(curl(&[gzipped.as_slice(), &["--data-binary", &packed, &url]].concat()), "{\"lines\":3}\n 200");
    taking.expect("http:/v1/lines", &LINES);
    assert_eq!(curl(&[&taking.url("http", "/healthz")]), "{\"status\":\"receiving\"}\n 200");
}

#[test]
fn tls_asks_for_a_certificate_and_a_token_and_follows_its_files() {
    if !found("curl") || !found("openssl") {
        return;
    }
    let directory = tempfile::tempdir().expect("directory");
    let (old, new) = (Authority::make(&directory.path().join("old")), Authority::make(&directory.path().join("new")));
    old.sign("server");
    old.sign("client");
    new.sign("server");
    new.sign("client");
    let token = directory.path().join("token");
    std::fs::write(&token, "hunter2\n").expect("writes");
    let taking = Taking::start(
        directory.path(),
        &format!(
            "[intake.tls]\ncert_file = {:?}\nkey_file = {:?}\nclient_ca_file = {:?}\n\
             [intake.http]\nlisten = \"0.0.0.0:0\"\ntls = true\ntoken_file = {:?}\n",
            old.path("server.pem"),
            old.path("server.key"),
            old.path("ca.pem"),
            token,
        ),
    );
    let url = taking.url("https", "/v1/lines");
    let post = |trusts: &Authority, shows: Option<&Authority>, token: &str| {
        let trusted = trusts.path("ca.pem");
        let bearer = format!("Authorization: Bearer {token}");
        let shown = shows.map(|authority| (authority.path("client.pem"), authority.path("client.key")));
        let mut arguments = vec!["--cacert", &trusted, "-H", &bearer, "-d", "a line"];
        if let Some((certificate, key)) = &shown {
            arguments.extend(["--cert", certificate, "--key", key]);
        }
        arguments.push(&url);
        curl(&arguments)
    };
    assert_eq!(post(&old, Some(&old), "hunter2"), "{\"lines\":1}\n 200");
    assert!(post(&old, Some(&old), "hunter3").ends_with(" 401"));
    assert_eq!(post(&old, None, "hunter2"), " 000", "no certificate");
    assert_eq!(post(&old, Some(&new), "hunter2"), " 000", "another authority's");
    assert_eq!(curl(&["-d", "a line", &taking.url("http", "/")]), " 000", "no TLS");
    taking.expect("http:/v1/lines", &["a line"]);

    for (name, file) in [("server.pem", "server.pem"), ("server.key", "server.key"), ("ca.pem", "ca.pem")] {
        std::fs::copy(new.path(name), old.path(file)).expect("copies");
    }
    std::fs::write(&token, "hunter3\n").expect("writes");
    let renewed = || (post(&new, Some(&new), "hunter3") == "{\"lines\":1}\n 200").then_some(());
    assert!(wait_for(LIMIT, renewed).is_some(), "the renewed files are in use");
}

#[test]
fn logger_speaks_every_syslog() {
    if !found("logger") {
        return;
    }
    let directory = tempfile::tempdir().expect("directory");
    let listen = "[intake.http]\nenabled = false\n[intake.syslog]\nudp = \"127.0.0.1:0\"\ntcp = \"127.0.0.1:0\"\n";
    let taking = Taking::start(directory.path(), listen);
    let [udp, tcp] = taking.status().syslog[..] else { panic!("two addresses") };
    for (transport, port) in [("--udp", udp.port()), ("--tcp", tcp.port())] {
        for form in [&["--rfc5424"][..], &["--rfc3164"], &["--rfc5424", "--octet-count"]] {
            for line in LINES {
                let mut command = Command::new("logger");
                command.args(["--server", "127.0.0.1", "--port", &port.to_string(), transport, "--tag", "web"]);
                let sent = command.args(form).arg("--").arg(line).status().expect("logger runs");
                assert!(sent.success());
                if transport == "--tcp" || !form.contains(&"--octet-count") {
                    taking.expect("syslog:web", &[line]);
                }
            }
        }
    }
}

/// A real rsyslogd that follows a file and forwards it.
struct Rsyslog(Child);

impl Rsyslog {
    fn start(directory: &Path, name: &str, globals: &str, action: &str) -> Self {
        let directory = directory.join(name);
        std::fs::create_dir(&directory).expect("directory");
        let log = directory.join("access.log");
        std::fs::write(&log, LINES.join("\n") + "\n").expect("writes");
        let conf = directory.join("rsyslog.conf");
        let text = format!(
            "global(workDirectory=\"{}\" {globals})\nmodule(load=\"imfile\")\n\
             input(type=\"imfile\" File=\"{}\" Tag=\"nginx:\" ruleset=\"out\")\n\
             ruleset(name=\"out\") {{ action(type=\"omfwd\" target=\"127.0.0.1\" {action}) }}\n",
            directory.display(),
            log.display()
        );
        std::fs::File::create(&conf).and_then(|mut file| file.write_all(text.as_bytes())).expect("writes");
        let mut command = Command::new(rsyslogd());
        command.args(["-n", "-iNONE", "-f"]).arg(&conf).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().expect("rsyslogd starts"))
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rsyslogd() -> PathBuf {
    let usual = PathBuf::from("/usr/sbin/rsyslogd");
    if usual.exists() { usual } else { "rsyslogd".into() }
}

#[test]
fn rsyslog_forwards_over_udp_tcp_and_mutual_tls() {
    if !found(&rsyslogd().to_string_lossy()) || !found("openssl") {
        return;
    }
    let directory = tempfile::tempdir().expect("directory");
    let authority = Authority::make(&directory.path().join("authority"));
    authority.sign("server");
    authority.sign("client");
    let taking = Taking::start(
        directory.path(),
        &format!(
            "[intake.http]\nenabled = false\n[intake.tls]\ncert_file = {:?}\nkey_file = {:?}\nclient_ca_file = {:?}\n\
             [intake.syslog]\nudp = \"127.0.0.1:0\"\ntcp = \"127.0.0.1:0\"\ntls = \"0.0.0.0:0\"\n",
            authority.path("server.pem"),
            authority.path("server.key"),
            authority.path("ca.pem"),
        ),
    );
    let [udp, tcp, tls] = taking.status().syslog[..] else { panic!("three addresses") };
    let check = |name: &str, globals: &str, action: &str| {
        let sender = Rsyslog::start(directory.path(), name, globals, action);
        taking.expect("syslog:nginx", &LINES);
        drop(sender);
    };
    let new = "template=\"RSYSLOG_SyslogProtocol23Format\"";
    let counted = "protocol=\"tcp\" TCP_Framing=\"octet-counted\"";
    check("udp", "", &format!("port=\"{}\" protocol=\"udp\"", udp.port()));
    check("tcp", "", &format!("port=\"{}\" protocol=\"tcp\"", tcp.port()));
    check("counted", "", &format!("port=\"{}\" {counted} {new}", tcp.port()));
    let globals = format!(
        "defaultNetstreamDriver=\"ossl\" defaultNetstreamDriverCAFile=\"{}\" defaultNetstreamDriverCertFile=\"{}\" \
         defaultNetstreamDriverKeyFile=\"{}\"",
        authority.path("ca.pem"),
        authority.path("client.pem"),
        authority.path("client.key"),
    );
    let secure = "StreamDriver=\"ossl\" StreamDriverMode=\"1\" StreamDriverAuthMode=\"x509/certvalid\"";
    check("tls", &globals, &format!("port=\"{}\" {counted} {new} {secure}", tls.port()));
}

/// A Python with the official OpenTelemetry exporter and Fluentd's client library, if this test can run here.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("BREACHLINE_SENDERS").map(PathBuf::from).filter(|path| path.exists());
    if python.is_none() {
        eprintln!("skipped: BREACHLINE_SENDERS names the Python with the senders (cargo xtask test does)");
    }
    python
}

fn run_python(python: &Path, script: &str, arguments: &[&str]) {
    let output = Command::new(python).args(["-c", script]).args(arguments).output().expect("python runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{told}");
}

#[test]
fn the_opentelemetry_sdk_exports_its_logs() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().expect("directory");
    let taking = Taking::start(directory.path(), "[intake.http]\nlisten = \"127.0.0.1:0\"\n");
    let script = include_str!("otlp.py");
    for compression in ["none", "gzip"] {
        let url = taking.url("http", "/v1/logs");
        run_python(&python, script, &[&[url.as_str(), compression], LINES.as_slice()].concat());
        taking.expect("http:/v1/logs", &LINES);
    }
}

#[test]
fn fluentds_client_library_forwards() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().expect("directory");
    let listen = "[intake.http]\nenabled = false\n[intake.fluentd]\nlisten = \"127.0.0.1:0\"\n";
    let taking = Taking::start(directory.path(), listen);
    let port = taking.status().fluentd.expect("an address").port().to_string();
    run_python(&python, include_str!("fluent.py"), &[&[port.as_str()], LINES.as_slice()].concat());
    taking.expect("fluentd:web.access", &LINES);
    // And what the library cannot do: a chunk that asks to be acknowledged, gzipped.
    run_python(&python, include_str!("fluent_ack.py"), &[&[port.as_str()], LINES.as_slice()].concat());
    taking.expect("fluentd:web.packed", &LINES);
}
