//! The victim: a small web shop with three holes, as a process of its own that listens.
//!
//! In: HTTP requests from the load balancer. Out: pages, and whatever a request makes it do:
//!
//! | path | honest use | hole |
//! |---|---|---|
//! | `/ping?host=` | asks a shell to ping a supplier | command injection (CWE-78): the value reaches `sh -c` unquoted |
//! | `/preview?url=` | shows a supplier's page | request forgery (CWE-918): any URL is fetched |
//! | `/upload?name=`, `/plugin?name=` | takes a plug-in and runs it | unrestricted upload (CWE-434): anybody's program is run |
//! | `/checkout` | tells the payment provider | |
//! | `/`, `/health`, `/products` | pages | |
//!
//! It runs as nobody, as a service would; it never listens outside the range's network.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use super::control::{Answer, Order, obey};
use super::http::{self, Message};
use super::network::{METADATA, PAYMENTS, SERVICE};

/// `nobody` and `nogroup` on Debian and its kin; elsewhere simply an id that owns nothing.
const NOBODY: u32 = 65534;

/// Moves this process into `cgroup` and starts `program` over as the service itself, as systemd does for a unit: the service's
/// own exec then already carries the workload's cgroup.
pub(super) fn enter_cgroup_and_exec(cgroup: &Path, program: &mut Command) -> io::Error {
    // "0" is whoever writes (cgroup-v2.rst, "Processes").
    match fs::write(cgroup.join("cgroup.procs"), "0") {
        Ok(()) => program.exec(),
        Err(error) => error,
    }
}

/// Runs the service until its stdin ends.
///
/// # Errors
///
/// When it cannot listen, cannot give up root, or its drill has gone mid-word.
pub(super) fn run(uploads: &Path) -> io::Result<()> {
    // Every address, as most services do: the sensor has to find out which one the load balancer means.
    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], SERVICE.port())))?;
    become_nobody()?;
    let uploads = uploads.to_owned();
    http::answer(listener, move |request| respond(request, &uploads));
    obey(|order| match order {
        Order::RefreshCredential => refresh_credential().map(|_| Answer::Done),
        Order::NightlyReport => shell("date +report-of-%F > /dev/null").map(|_| Answer::Done),
        _ => Err(io::Error::other("not an order for the service")),
    })
}

fn become_nobody() -> io::Result<()> {
    setgroups(&[])?;
    setgid(Gid::from_raw(NOBODY))?;
    setuid(Uid::from_raw(NOBODY))?;
    Ok(())
}

fn respond(request: &Message, uploads: &Path) -> Message {
    let target = request.word(1);
    let page = match target.split('?').next().unwrap_or("") {
        "/" => Ok(b"<h1>Shop</h1>".to_vec()),
        "/health" => Ok(b"ok".to_vec()),
        "/products" => Ok(b"[{\"id\":1,\"name\":\"kettle\"}]".to_vec()),
        "/checkout" => get(PAYMENTS, "/v1/charge"),
        "/ping" => ping(&http::query(target, "host").unwrap_or_default()),
        "/upload" => upload(uploads, target, &request.body),
        "/plugin" => plugin(uploads, target),
        "/preview" => preview(&http::query(target, "url").unwrap_or_default()),
        _ => return Message::response(404, "not found"),
    };
    page.map_or_else(|error| Message::response(500, error.to_string()), |body| Message::response(200, body))
}

/// The first hole: `host` is pasted into a command line.
fn ping(host: &str) -> io::Result<Vec<u8>> {
    Ok(shell(&format!("ping -c 1 -W 1 {host}"))?.stdout)
}

fn shell(command: &str) -> io::Result<Output> {
    Command::new("/bin/sh").args(["-c", command]).current_dir("/").stdin(Stdio::null()).stderr(Stdio::null()).output()
}

/// The second hole: `url` may name any host.
fn preview(url: &str) -> io::Result<Vec<u8>> {
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap_or((url, ""));
    let peer = host.parse().or_else(|_| format!("{host}:80").parse());
    get(peer.map_err(|_| io::Error::other("only addresses can be previewed"))?, &format!("/{path}"))
}

fn get(peer: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    Ok(http::exchange(peer, &Message::request("GET", path, &peer.to_string()))?.body)
}

/// The third hole: whoever uploads a program ...
fn upload(uploads: &Path, target: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let file = in_uploads(uploads, target)?;
    fs::write(&file, body)?;
    fs::set_permissions(&file, Permissions::from_mode(0o755))?;
    Ok(b"installed".to_vec())
}

/// ... may have it run, with an option and a value, and without any shell in between.
fn plugin(uploads: &Path, target: &str) -> io::Result<Vec<u8>> {
    let argument = |key| http::query(target, key).unwrap_or_default();
    let mut plugin = Command::new(in_uploads(uploads, target)?);
    plugin.args([argument("option"), argument("value")]).current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
    Ok(plugin.output()?.stdout)
}

fn in_uploads(uploads: &Path, target: &str) -> io::Result<PathBuf> {
    let name = http::query(target, "name").unwrap_or_default();
    let file = Path::new(&name).file_name().ok_or_else(|| io::Error::other("a plug-in needs a name"))?;
    Ok(uploads.join(file))
}

/// What the AWS SDKs do at start and before credentials expire: token, role name, credentials.
fn refresh_credential() -> io::Result<Vec<u8>> {
    let host = METADATA.ip().to_string();
    let ask = Message::request("PUT", "/latest/api/token", &host).with("X-aws-ec2-metadata-token-ttl-seconds", "21600");
    let token = String::from_utf8_lossy(&http::exchange(METADATA, &ask)?.body).into_owned();
    let get = |path: &str| {
        http::exchange(METADATA, &Message::request("GET", path, &host).with("X-aws-ec2-metadata-token", &token))
    };
    let roles = "/latest/meta-data/iam/security-credentials/";
    let role = String::from_utf8_lossy(&get(roles)?.body).into_owned();
    Ok(get(&format!("{roles}{role}"))?.body)
}
