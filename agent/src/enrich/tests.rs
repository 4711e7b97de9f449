use std::time::Duration;

use super::*;
use crate::event::{AddressesSeen, Exit};
use crate::evidence::RouteBasis;
use crate::request::{AccessRecord, Target};

const HOST_NS: u32 = 1;

fn key(pid: u32) -> ProcessKey {
    ProcessKey { pid, start_ticks: u64::from(pid) }
}

/// A host with nginx (pid 100, worker 101) on port 80, sshd (200) and a shop container (300) on 10.1.0.9:8080.
struct Host {
    enricher: Enricher,
    now: Timestamp,
}

impl Host {
    fn new(routes: Vec<RouteRule>) -> Self {
        let enricher = Enricher::new(Config { routes, ..Config::default() });
        let mut host = Self { enricher, now: Timestamp::from_unix_millis(1_700_000_000_000) };
        let paths = [
            (10, "/system.slice/nginx.service"),
            (20, "/system.slice/ssh.service"),
            (30, "/lxc.payload.shop"),
            (40, "/user.slice/user-1000.slice/session-1.scope"),
        ];
        for (id, path) in paths {
            host.tell(HostEventKind::Cgroup(CgroupSeen {
                id,
                path: path.to_owned(),
                container_name: None,
                image: None,
                pod: None,
            }));
        }
        for (net_ns, address) in [(HOST_NS, "10.0.0.5"), (2, "10.1.0.9")] {
            let addresses = vec![address.parse().expect("ip"), [127, 0, 0, 1].into()];
            host.tell(HostEventKind::Addresses(AddressesSeen { net_ns, addresses }));
        }
        host.exec(1, 0, 1, "/usr/lib/systemd/systemd");
        host.listen(1, 1, HOST_NS, "0.0.0.0:111");
        host.exec(100, 1, 10, "/usr/sbin/nginx");
        host.listen(100, 10, HOST_NS, "0.0.0.0:80");
        host.fork(100, 101);
        host.exec(200, 1, 20, "/usr/sbin/sshd");
        host.listen(200, 20, HOST_NS, "0.0.0.0:22");
        host.exec(250, 1, 1, "/usr/bin/containerd-shim-runc-v2");
        host.exec(300, 250, 30, "/opt/shop/bin/shop");
        host.listen(300, 30, 2, "0.0.0.0:8080");
        host
    }

    fn tell(&mut self, kind: HostEventKind) {
        self.now = self.now.plus(Duration::from_millis(1));
        self.enricher.observe(&HostEvent { at: self.now, kind });
    }

    fn fork(&mut self, parent: u32, child: u32) {
        let cgroup = self.enricher.processes.get(key(parent)).map_or(0, |process| process.cgroup);
        let actor = actor(parent, 0, cgroup, HOST_NS);
        self.tell(HostEventKind::Fork(Fork { actor, child: key(child) }));
    }

    fn exec(&mut self, pid: u32, parent: u32, cgroup: u64, path: &str) {
        if parent != 0 {
            self.fork(parent, pid);
        }
        self.exec_again(pid, parent, cgroup, path);
    }

    fn exec_again(&mut self, pid: u32, parent: u32, cgroup: u64, path: &str) {
        self.program(pid, parent, cgroup, path, &[]);
    }

    /// A program started by `posix_spawn`: its exec alone names the line.
    fn spawn(&mut self, pid: u32, parent: u32, cgroup: u64, path: &str) {
        self.program(pid, parent, cgroup, path, &[key(parent)]);
    }

    fn program(&mut self, pid: u32, parent: u32, cgroup: u64, path: &str, ancestors: &[ProcessKey]) {
        let exec = Exec {
            ancestors: ancestors.to_vec(),
            actor: actor(pid, parent, cgroup, HOST_NS),
            exe_path: path.to_owned(),
            argv: vec![path.to_owned()],
            ..Exec::default()
        };
        self.tell(HostEventKind::Exec(Box::new(exec)));
    }

    fn exit(&mut self, pid: u32) {
        self.tell(HostEventKind::Exit(Exit { actor: actor(pid, 0, 0, 0), ..Exit::default() }));
    }

    fn listen(&mut self, pid: u32, cgroup: u64, net_ns: u32, local: &str) {
        let actor = actor(pid, 0, cgroup, net_ns);
        self.tell(HostEventKind::Listen(Listen { actor, local: local.parse().expect("an address"), at_start: false }));
    }

    fn service(&self, pid: u32, cgroup: u64) -> Option<u32> {
        let place = self.enricher.place(&actor(pid, 1, cgroup, HOST_NS), self.now);
        place.service.map(|service| service.process.pid)
    }

    fn route(&self, target: &str) -> Option<(String, Option<u32>, RouteBasis)> {
        let route = self.enricher.route(Target::Socket(target.parse().expect("an address")))?;
        Some((route.workload.key.to_string(), route.owner.map(|owner| owner.pid), route.basis))
    }
}

fn actor(pid: u32, parent: u32, cgroup: u64, net_ns: u32) -> Actor {
    Actor { process: key(pid), parent: key(parent), cgroup, net_ns, ..Actor::default() }
}

#[test]
fn a_shell_below_a_worker_stands_under_its_service() {
    let mut host = Host::new(Vec::new());
    host.exec(102, 101, 10, "/usr/bin/dash");
    host.exec(103, 102, 10, "/usr/bin/curl");
    host.exit(102);
    let place = host.enricher.place(&actor(103, 1, 10, HOST_NS), host.now);
    assert_eq!(place.workload.key.as_str(), "unit:nginx.service");
    assert_eq!(place.service.map(|service| service.process.pid), Some(100));
    let line: Vec<_> = place.lineage.iter().map(|node| (node.process.pid, &*node.exe_path)).collect();
    assert_eq!(
        line,
        [
            (103, "/usr/bin/curl"),
            (102, "/usr/bin/dash"),
            (101, "/usr/sbin/nginx"),
            (100, "/usr/sbin/nginx"),
            (1, "/usr/lib/systemd/systemd"),
        ]
    );
}

#[test]
fn what_is_exposed_descends_from_a_service() {
    let mut host = Host::new(Vec::new());
    // Under nginx; a login under sshd; `kubectl exec` into the shop; init itself; nobody knows whose, in nginx' cgroup.
    host.exec(102, 101, 10, "/usr/bin/dash");
    host.exec(201, 200, 40, "/usr/bin/bash");
    host.exec(301, 250, 30, "/usr/bin/dash");
    host.exec(400, 1, 1, "/usr/bin/dash");
    host.exec_again(500, 0, 10, "/usr/bin/dash");
    host.exec_again(501, 1, 10, "/usr/bin/dash");
    host.exec_again(502, 1, 40, "/usr/bin/dash");
    let check = |pid: u32, parent: u32, cgroup: u64, exposed: bool| {
        assert_eq!(host.enricher.is_exposed(&actor(pid, parent, cgroup, HOST_NS)), exposed, "{pid}");
    };
    check(102, 101, 10, true);
    check(201, 200, 40, false);
    check(301, 250, 30, false);
    check(400, 1, 1, false);
    check(500, 0, 10, true);
    check(501, 1, 10, true);
    check(502, 1, 40, false);
}

#[test]
fn a_bind_shell_stays_part_of_the_service_it_came_from() {
    let mut host = Host::new(Vec::new());
    host.exec(102, 101, 10, "/usr/bin/dash");
    host.exec(103, 102, 10, "/tmp/x");
    host.listen(103, 10, HOST_NS, "0.0.0.0:4444");
    host.exec(104, 103, 10, "/usr/bin/dash");
    assert_eq!(host.service(104, 10), Some(100));
    // The port is known all the same.
    assert_eq!(host.route("10.0.0.5:4444").and_then(|(_, owner, _)| owner), Some(103));
    // A launcher below a service is a program like any other.
    host.exec(105, 104, 10, "/usr/sbin/cron");
    host.exec(106, 105, 10, "/usr/bin/dash");
    assert!(host.enricher.is_exposed(&actor(106, 105, 10, HOST_NS)));
}

#[test]
fn a_server_that_execs_a_shell_itself_is_still_the_service() {
    let mut host = Host::new(Vec::new());
    host.exec_again(101, 100, 10, "/usr/bin/dash");
    assert_eq!(host.service(101, 10), Some(100));
}

#[test]
fn an_application_server_on_a_unix_socket_heads_a_service() {
    let mut host = Host::new(Vec::new());
    host.exec(600, 1, 50, "/usr/sbin/php-fpm8.2");
    host.fork(600, 601);
    host.exec(602, 601, 50, "/usr/bin/dash");
    assert_eq!(host.service(602, 50), Some(600));
}

#[test]
fn targets_find_their_workload() {
    let mut host = Host::new(Vec::new());
    let check = |host: &Host, target: &str, expected: Option<(&str, Option<u32>, RouteBasis)>| {
        let expected = expected.map(|(key, owner, basis)| (key.to_owned(), owner, basis));
        assert_eq!(host.route(target), expected, "{target}");
    };
    check(&host, "10.0.0.5:80", Some(("unit:nginx.service", Some(100), RouteBasis::Listener)));
    check(&host, "10.1.0.9:8080", Some(("container:shop", Some(300), RouteBasis::Listener)));
    // The pod listens on one port only: whatever port the log shows, it is that workload. The host has several.
    check(&host, "10.1.0.9:9999", Some(("container:shop", None, RouteBasis::Address)));
    check(&host, "10.0.0.5:9999", Some(("host", None, RouteBasis::Address)));
    check(&host, "10.0.0.77:80", None);
    host.exit(100);
    check(&host, "10.0.0.5:80", Some(("unit:nginx.service", Some(100), RouteBasis::Listener)));
    host.exit(101);
    check(&host, "10.0.0.5:80", Some(("host", None, RouteBasis::Address)));
}

#[test]
fn a_published_port_is_its_containers() {
    let mut host = Host::new(Vec::new());
    host.exec(900, 1, 1, "/usr/bin/dockerd");
    host.listen(900, 1, HOST_NS, "0.0.0.0:9090");
    host.fork(900, 901);
    let line = "docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 9090 -container-ip 10.1.0.9 -container-port 8080";
    let exec = |parent: u32| {
        HostEventKind::Exec(Box::new(Exec {
            actor: actor(parent + 1, parent, 1, HOST_NS),
            exe_path: "/usr/bin/docker-proxy".to_owned(),
            argv: line.split(' ').map(str::to_owned).collect(),
            ..Exec::default()
        }))
    };
    host.tell(exec(900));
    assert_eq!(
        host.route("10.0.0.5:9090").map(|(key, owner, _)| (key, owner)),
        Some(("container:shop".to_owned(), Some(300)))
    );
    host.exit(901);
    assert_eq!(host.route("10.0.0.5:9090").and_then(|(_, owner, _)| owner), Some(900));
    // An intruder's proxy turns nobody's requests away.
    host.fork(101, 102);
    host.tell(exec(101));
    assert_eq!(host.route("10.0.0.5:9090").and_then(|(_, owner, _)| owner), Some(900));
}

#[test]
fn configured_routes_serve_logs_without_a_target() {
    let rule = |host: &str, path: &str| RouteRule {
        host: host.to_owned(),
        path: path.to_owned(),
        workload: "container:shop".to_owned(),
    };
    let host = Host::new(vec![rule("shop.example", "/api"), rule("", "/legacy")]);
    let check = |authority: &str, path: &str, target: Target, expected: Option<(&str, RouteBasis)>| {
        let record = AccessRecord {
            received: host.now,
            completed: host.now,
            balancer: b"",
            client: None,
            target,
            status: None,
            target_status: None,
            received_bytes: 0,
            sent_bytes: 0,
            method: b"GET",
            authority: authority.as_bytes(),
            path_and_query: path.as_bytes(),
            user_agent: b"",
            referer: b"",
            trace_id: b"",
            anomaly: b"",
            ..AccessRecord::blank(host.now, host.now)
        };
        let route = host.enricher.route_request(&record);
        let found = route.as_ref().map(|route| (route.workload.key.as_str(), route.basis));
        assert_eq!(found, expected, "{authority}{path}");
    };
    let shop = Some(("container:shop", RouteBasis::Route));
    check("https://Shop.example:443", "/api/x", Target::Unlogged, shop);
    check("shop.example", "/api", Target::Unlogged, shop);
    check("https://shop.example:443", "/other", Target::Unlogged, None);
    check("https://else.example", "/legacy/1", Target::Unlogged, shop);
    check("https://[2001:db8::1]:443", "/api", Target::Unlogged, None);
    // A listener knows better; an address alone does not.
    let nginx = Target::Socket("10.0.0.5:80".parse().expect("an address"));
    check("shop.example", "/api", nginx, Some(("unit:nginx.service", RouteBasis::Listener)));
    let unknown_port = Target::Socket("10.0.0.5:31234".parse().expect("an address"));
    check("shop.example", "/api", unknown_port, shop);
}

#[test]
fn where_cgroup_v2_tells_nothing_apart_v1_does() {
    let mut host = Host::new(Vec::new());
    host.tell(HostEventKind::Process(ProcessSeen {
        actor: actor(700, 1, 1, HOST_NS),
        exe_path: "/usr/sbin/apache2".to_owned(),
        argv: Vec::new(),
        legacy_cgroup: Some("/system.slice/apache2.service".to_owned()),
        started: None,
    }));
    host.listen(700, 1, HOST_NS, "0.0.0.0:8081");
    host.fork(700, 701);
    let place = host.enricher.place(&actor(701, 700, 1, HOST_NS), host.now);
    assert_eq!(place.workload.key.as_str(), "unit:apache2.service");
    assert_eq!(host.route("10.0.0.5:8081").map(|(key, ..)| key), Some("unit:apache2.service".to_owned()));
}

#[test]
fn what_a_front_passes_on_to_lies_behind_it() {
    let mut host = Host::new(Vec::new());
    let contact = |host: &mut Host, pid: u32, cgroup: u64, peer: &str| {
        host.tell(HostEventKind::Contact(Contact {
            actor: actor(pid, 0, cgroup, HOST_NS),
            peer: peer.parse().expect("an address"),
            mapped: false,
            protocol: crate::event::Protocol::Tcp,
            hook: crate::event::ContactHook::Connect,
            first: true,
            metadata: false,
            socket: 0,
        }));
    };
    let behind = |host: &mut Host| -> Vec<(String, Option<u32>)> {
        let front = host.enricher.route(Target::Socket("10.0.0.5:80".parse().expect("an address"))).expect("nginx");
        let routes = host.enricher.behind(&front);
        routes.iter().map(|route| (route.workload.key.to_string(), route.owner.map(|owner| owner.pid))).collect()
    };
    assert_eq!(behind(&mut host), []);
    // nginx passes on to the shop, the shop asks a database, php-fpm listens on a Unix socket only.
    let cgroup = |id: u64, path: &str| {
        let path = path.to_owned();
        HostEventKind::Cgroup(CgroupSeen { id, path, container_name: None, image: None, pod: None })
    };
    host.tell(cgroup(50, "/system.slice/php8.2-fpm.service"));
    host.tell(cgroup(60, "/system.slice/postgresql.service"));
    host.exec(600, 1, 50, "/usr/sbin/php-fpm8.2");
    host.exec(800, 1, 60, "/usr/lib/postgresql/15/bin/postgres");
    host.listen(800, 60, HOST_NS, "127.0.0.1:5432");
    contact(&mut host, 101, 10, "10.1.0.9:8080");
    contact(&mut host, 300, 30, "127.0.0.1:5432");
    let expected = [("container:shop", 300), ("unit:php8.2-fpm.service", 600), ("unit:postgresql.service", 800)];
    assert_eq!(behind(&mut host), expected.map(|(key, pid)| (key.to_owned(), Some(pid))));
    // A shell below nginx that looks around teaches nothing; what is gone is no longer behind.
    host.exec(102, 101, 10, "/usr/bin/dash");
    contact(&mut host, 102, 10, "10.0.0.5:22");
    host.exit(800);
    host.exit(600);
    assert_eq!(behind(&mut host), [("container:shop".to_owned(), Some(300))]);
}

mod bounds {
    use proptest::prelude::*;

    use super::*;

    /// Any event of a few processes, cgroups, namespaces and ports, in any order: what a lossy or lying kernel may hand over.
    fn any_event() -> impl Strategy<Value = HostEventKind> {
        let actor = (0_u32..40, 0_u32..40, 0_u64..40, 0_u32..20)
            .prop_map(|(pid, parent, cgroup, net_ns)| actor(pid, parent, cgroup, net_ns));
        let paths = ["", "/usr/bin/dash", "/usr/sbin/nginx", "/usr/sbin/php-fpm8.2", "/usr/sbin/sshd", "/opt/app"];
        let address = (0_u8..4, 1_u16..12).prop_map(|(last, port)| match last {
            0 => SocketAddr::from(([0, 0, 0, 0], port)),
            1 => SocketAddr::from(([0_u16; 8], port)),
            _ => SocketAddr::from(([10, 0, 0, last], port)),
        });
        (actor, 0_u32..40, 0_usize..paths.len(), address, 0_u8..7).prop_map(move |(actor, other, path, local, kind)| {
            match kind {
                0 => HostEventKind::Fork(Fork { actor, child: key(other) }),
                1 | 2 => HostEventKind::Exec(Box::new(Exec {
                    ancestors: vec![actor.parent, key(other)],
                    actor,
                    exe_path: paths[path].to_owned(),
                    ..Exec::default()
                })),
                3 => HostEventKind::Exit(Exit { actor, ..Exit::default() }),
                4 | 5 => HostEventKind::Listen(Listen { actor, local, at_start: false }),
                _ => HostEventKind::Addresses(AddressesSeen { net_ns: actor.net_ns, addresses: vec![local.ip()] }),
            }
        })
    }

    proptest! {
        #[test]
        fn hold_whatever_comes(events in proptest::collection::vec(any_event(), 0..400)) {
            let mut enricher = Enricher::new(Config {
                processes: process_table::Config { max_processes: 24, max_exited: 4 },
                listeners: listeners::Config {
                    max_listeners: 8,
                    max_listeners_per_process: 3,
                    max_holders: 12,
                    max_namespaces: 6,
                    max_addresses: 2,
                },
                ..Config::default()
            });
            for kind in events {
                enricher.observe(&HostEvent { at: Timestamp::default(), kind });
                let counters = enricher.counters();
                prop_assert!(counters.processes_held <= 26 && counters.listeners_held <= 8);
                let sockets = counters.listeners.opened - counters.listeners.released;
                prop_assert_eq!(u64::try_from(counters.listeners_held).expect("small"), sockets);
            }
            for pid in 0..40 {
                let place = enricher.place(&actor(pid, 0, 0, 0), Timestamp::default());
                prop_assert!((1..=LINEAGE_MAX).contains(&place.lineage.len()));
            }
        }
    }
}

/// A server that replaces itself (`posix_spawn` of its own program, sockets handed down) goes on being the service.
#[test]
fn a_spawned_copy_of_a_server_keeps_its_sockets() {
    let mut host = Host::new(Vec::new());
    host.spawn(301, 300, 30, "/opt/shop/bin/shop");
    host.spawn(302, 300, 30, "/bin/sh");
    host.exit(300);
    assert_eq!(host.service(301, 30), Some(300));
    assert_eq!(host.service(302, 30), Some(300), "a shell below it descends from it");
    assert_eq!(host.enricher.listeners.opener_of(key(301)), Some(key(300)));
    assert_eq!(host.enricher.listeners.opener_of(key(302)), None, "a program that is another closes them");
}
