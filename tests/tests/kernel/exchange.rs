//! Requests to a metadata endpoint and the status of their answers, however they are cut into segments.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use breachline::event::{HostEventKind, MetadataPath, MetadataRequest, MetadataStatus};
use breachline::kernel::Config;

use crate::contact::in_namespace;
use crate::watch::{Watch, root};

const ENDPOINT: &str = "169.254.169.254:80";
const SECRET: &str = "AQAEAcanary-7f3d";

/// Writes `text` in pieces of `size` bytes, each a segment of its own: the other side reads it before the next is sent.
fn in_pieces(from: &mut TcpStream, to: &mut TcpStream, text: &str, size: usize) {
    for piece in text.as_bytes().chunks(size) {
        from.write_all(piece).expect("sent");
        to.read_exact(&mut vec![0; piece.len()]).expect("received");
    }
}

/// One connection with these requests and their answers, cut into pieces of `size` bytes.
fn converse(exchanges: &[(String, String)], size: usize) {
    let listener = TcpListener::bind(ENDPOINT).expect("bound");
    let mut client = TcpStream::connect(ENDPOINT).expect("connected");
    let (mut server, _) = listener.accept().expect("accepted");
    client.set_nodelay(true).expect("set");
    server.set_nodelay(true).expect("set");
    for (request, answer) in exchanges {
        in_pieces(&mut client, &mut server, request, size);
        in_pieces(&mut server, &mut client, answer, size);
    }
}

fn exchanges() -> Vec<(String, String)> {
    let ask = |line: &str, head: &str, body: &str| format!("{line} HTTP/1.1\r\nHost: metadata\r\n{head}\r\n{body}");
    let answer = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 16\r\n\r\n{SECRET}");
    vec![
        (ask("PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n", ""), answer("200 OK")),
        (
            ask(
                "GET /latest/meta-data/iam/security-credentials/shop",
                &format!("X-aws-ec2-metadata-token: {SECRET}\r\n"),
                "",
            ),
            answer("401 Unauthorized"),
        ),
        (ask("POST /latest/user-data", "Content-Length: 4\r\n", "body"), answer("404 Not Found")),
    ]
}

#[test]
fn pieces_make_a_whole() {
    if !root() {
        return;
    }
    for size in [4096, 64, 7, 1] {
        let mut watch = Watch::new(&Config::default());
        in_namespace(&["169.254.169.254/32"], move || converse(&exchanges(), size));
        let status = |event: &breachline::event::HostEvent| match &event.kind {
            HostEventKind::MetadataStatus(status) if status.status == 404 => Some(()),
            _ => None,
        };
        watch.until(&format!("the last answer, in pieces of {size}"), status);
        let requests: Vec<&MetadataRequest> = watch
            .seen
            .iter()
            .filter_map(|event| match &event.kind {
                HostEventKind::MetadataRequest(request) => Some(request),
                _ => None,
            })
            .collect();
        let told: Vec<_> =
            requests.iter().map(|request| (request.method.as_str(), request.path, request.token)).collect();
        let expected = [
            ("PUT", MetadataPath::Session, false),
            ("GET", MetadataPath::Credential, true),
            ("POST", MetadataPath::UserData, false),
        ];
        assert_eq!(told, expected, "in pieces of {size}");
        let statuses: Vec<&MetadataStatus> = watch
            .seen
            .iter()
            .filter_map(|event| match &event.kind {
                HostEventKind::MetadataStatus(status) => Some(status),
                _ => None,
            })
            .collect();
        let codes: Vec<u16> = statuses.iter().map(|status| status.status).collect();
        assert_eq!(codes, [200, 401, 404], "in pieces of {size}");
        assert!(statuses.iter().all(|status| requests.iter().all(|request| request.socket == status.socket)));
        assert!(!format!("{:?}", watch.seen).contains("canary"), "no secret goes anywhere");
    }
}
