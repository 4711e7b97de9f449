//! What services and hosts do on an honest day, odd things included.

use std::net::SocketAddr;

use super::later;
use super::machine::{CRON, INIT, Machine, Manner, SHIM};
use super::random::Random;
use super::scene::{Scene, encoded, said};
use super::service::Instance;

/// Something that a service does of itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Habit {
    /// A picture is uploaded and made smaller by a shell command.
    Thumbnail,
    /// A mail goes out through sendmail.
    Mail,
    /// A health script.
    Health,
    /// A partner's service is called: one of a few, which move about within their networks and at times beyond.
    Partner,
    /// A customer's address is called that may never have been called before.
    Webhook,
    /// A user has a page fetched, by the service itself.
    Preview,
    /// The same, by a program that the service starts with the page's address.
    Render,
    /// git on a repository of the service's own.
    Git,
    /// git on a repository elsewhere that a user named.
    Mirror,
    /// A shell command that this service had no need of before.
    OddShell,
}

/// Lets `habit` happen.
pub fn happens(habit: Habit, scene: &mut Scene<'_>) {
    let worker = scene.worker();
    let number = scene.random.below(100_000_000);
    match habit {
        Habit::Thumbnail => {
            scene.visit(0.0, 0.6, "POST", format!("/upload?name=img{number}.jpg"));
            let command = format!("convert /srv/up/{number}.jpg -resize 200 /srv/thumb/{number}.png");
            shell_out(scene, &command, "/usr/bin/convert");
        }
        Habit::Mail => shell_out(scene, "/usr/sbin/sendmail -t -i", "/usr/sbin/sendmail"),
        Habit::Health => shell_out(scene, "/opt/app/health.sh --quick", "/usr/bin/uptime"),
        Habit::Partner => {
            let peer = partner(scene);
            scene.contact(0.0, worker, peer);
        }
        Habit::Webhook => {
            let peer = anywhere(scene.random);
            scene.contact(0.0, worker, peer);
        }
        Habit::Preview => {
            let peer = anywhere(scene.random);
            scene.visit(
                0.0,
                0.8,
                "GET",
                format!("/preview?url={}", encoded(&format!("http://{}/p/{number}", peer.ip()))),
            );
            scene.contact(0.05, worker, peer);
        }
        Habit::Render => render(scene, number),
        Habit::Git => {
            scene.visit(0.0, 0.3, "GET", format!("/team/repo{}.git/info/refs?service=git-upload-pack", number % 500));
            let path = format!("/srv/git/team/repo{}.git", number % 500);
            scene.briefly(0.02, worker, "/usr/bin/git", &["git", "upload-pack", "--stateless-rpc", &path]);
        }
        Habit::Mirror => mirror(scene, number),
        Habit::OddShell => odd_shell(scene, number),
    }
}

/// `sh -c COMMAND` below a worker, which runs `program` and ends.
fn shell_out(scene: &mut Scene<'_>, command: &str, program: &str) {
    let worker = scene.worker();
    let shell = scene.shell(0.02, worker, command);
    let words: Vec<&str> = command.split(' ').collect();
    scene.briefly(0.03, shell, program, &words);
    scene.exit(0.2, shell);
}

/// A user's page as a picture: the address stands on a shell's command line, and the program fetches it.
fn render(scene: &mut Scene<'_>, number: u64) {
    let peer = anywhere(scene.random);
    let page = format!("http://{}/page/{number}", peer.ip());
    scene.visit(0.0, 2.0, "GET", format!("/render?page={}", encoded(&page)));
    let worker = scene.worker();
    let shell = scene.shell(0.02, worker, &format!("wkhtmltopdf {page} /tmp/render-{number}.pdf"));
    let tool = scene.run(0.03, shell, "/usr/bin/wkhtmltopdf", &["wkhtmltopdf", &page, "/tmp/out.pdf"]);
    scene.contact(0.08, tool, peer);
    scene.exit(1.5, tool);
    scene.exit(1.6, shell);
}

/// A repository elsewhere, named by a user, fetched by git.
fn mirror(scene: &mut Scene<'_>, number: u64) {
    let peer = SocketAddr::from(([140, 82, 112 + (number % 12) as u8, 3], 443));
    let url = format!("https://{}/team{}/repo.git", peer.ip(), number % 977);
    scene.visit(0.0, 1.5, "POST", format!("/projects/import?from={}", encoded(&url)));
    let worker = scene.worker();
    let shell = scene.shell(0.02, worker, &format!("git fetch --prune {url}"));
    let git = scene.run(0.03, shell, "/usr/bin/git", &["git", "fetch", "--prune", &url]);
    let helper = scene.run(0.04, git, "/usr/lib/git-core/git-remote-https", &["git-remote-https", "origin", &url]);
    scene.contact(0.1, helper, peer);
    for process in [helper, git, shell] {
        scene.exit(1.4, process);
    }
}

/// Shell commands that happen once in a long while, for reasons of their own.
fn odd_shell(scene: &mut Scene<'_>, number: u64) {
    let worker = scene.worker();
    match number % 5 {
        0 => shell_out(scene, &format!("df -h /srv/volume{}", number % 7), "/usr/bin/df"),
        1 => shell_out(scene, "/opt/app/bin/migrate --all", "/opt/app/bin/migrate"),
        2 => scene.briefly(
            0.02,
            worker,
            "/usr/bin/python3.11",
            &["python3", "-c", "import platform; print(platform.libc_ver())"],
        ),
        3 => shell_out(scene, "tar czf /srv/backup/uploads.tgz /srv/up", "/usr/bin/tar"),
        _ => shell_out(scene, "ldconfig -p | grep libssl", "/usr/sbin/ldconfig"),
    }
}

/// A partner: a few for each service. Most keep to one network; one is a content network that moves every few days.
fn partner(scene: &mut Scene<'_>) -> SocketAddr {
    let service = scene.instance.service.number;
    let which = scene.random.below(5);
    let day = u64::try_from(scene.at.as_unix_nanos() / 86_400_000_000_000).unwrap_or(0);
    let network = if which == 4 { 60 + day / 4 % 40 } else { which };
    let [.., network] = (service * 7 + network).to_be_bytes();
    let address = [198, 18, network, scene.random.byte()];
    SocketAddr::from((address, 443))
}

fn anywhere(random: &mut Random) -> SocketAddr {
    SocketAddr::from(([20 + random.byte() % 70, random.byte(), random.byte(), random.byte()], 443))
}

/// What else happens on a host in a day, beside its services: none of it is a service's doing.
pub fn beside(
    machine: &mut Machine,
    instances: &[&Instance],
    at: breachline::timestamp::Timestamp,
    random: &mut Random,
) {
    let plain = Manner::default();
    match random.below(4) {
        0 => {
            let shell = machine.spawn(at, CRON, "/usr/bin/dash", &["sh", "-c", "run-parts /etc/cron.hourly"], plain);
            machine.contact(later(at, 0.1), shell, anywhere(random));
            machine.exit(later(at, 1.0), shell);
        }
        1 => {
            let apt =
                machine.spawn(at, INIT, "/usr/bin/dash", &["sh", "/usr/lib/apt/apt.systemd.daily", "update"], plain);
            let http = machine.spawn(later(at, 0.1), apt, "/usr/lib/apt/methods/http", &["http"], plain);
            machine.contact(later(at, 0.2), http, anywhere(random));
            machine.exit(later(at, 3.0), http);
            machine.exit(later(at, 3.1), apt);
        }
        2 => {
            let rotate = machine.spawn(at, INIT, "/usr/bin/dash", &["sh", "-c", "invoke-rc.d nginx rotate"], plain);
            machine.exit(later(at, 0.2), rotate);
        }
        _ => session(machine, instances, at, random),
    }
}

/// Someone looks into a container: a shell put there by the runtime, and what people do in one.
fn session(machine: &mut Machine, instances: &[&Instance], at: breachline::timestamp::Timestamp, random: &mut Random) {
    let Some(instance) = instances.get(random.index(instances.len())) else { return };
    let Some(placed) = machine.place_of(instance.main) else { return };
    let manner = Manner { placed: Some(placed), ..Manner::default() };
    let bash = machine.spawn(at, SHIM, "/usr/bin/bash", &["bash"], manner);
    let curl = machine.spawn(
        later(at, 20.0),
        bash,
        "/usr/bin/curl",
        &["curl", "-v", "https://example.org/"],
        Manner::default(),
    );
    machine.contact(later(at, 20.1), curl, anywhere(random));
    machine.exit(later(at, 21.0), curl);
    machine.exit(later(at, 60.0), bash);
}

/// A scanner's request: anything that a scanner sends, and what sites answer to it.
pub fn scanned(scene: &mut Scene<'_>, hostile: &[std::sync::Arc<super::access_log::Said>], client: SocketAddr) {
    let said = std::sync::Arc::clone(scene.random.pick(hostile));
    let status = match scene.random.below(100) {
        0..70 => 404,
        70..82 => 403,
        82..90 => 400,
        90..98 => 200,
        _ => 500,
    };
    let seconds = scene.random.magnitude(0.002, 0.3);
    scene.request(0.0, seconds, said, client, status);
}

/// A user's request.
pub fn visited(scene: &mut Scene<'_>, ordinary: &[std::sync::Arc<super::access_log::Said>]) {
    let said = std::sync::Arc::clone(scene.random.pick(ordinary));
    let status = match scene.random.below(1000) {
        0..940 => 200,
        940..970 => 304,
        970..998 => 404,
        _ => 500,
    };
    let seconds = scene.random.magnitude(0.003, 1.5);
    let client = scene.user();
    scene.request(0.0, seconds, said, client, status);
}

/// The balancer's own probe, or the kubelet's.
pub fn probed(scene: &mut Scene<'_>) {
    let probe = said("GET", "/healthz".to_owned(), "kube-probe/1.33");
    scene.request(0.0, 0.002, probe, SocketAddr::from(([10, 0, 0, 1], 40_000)), 200);
}
