use proptest::prelude::*;

use super::*;

fn key(pid: u32) -> ProcessKey {
    ProcessKey { pid, start_ticks: u64::from(pid) * 10 }
}

fn actor(pid: u32, parent: u32) -> Actor {
    Actor { process: key(pid), parent: key(parent), cgroup: 5, net_ns: 9, uid: 33, ..Actor::default() }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_millis(second * 1000)
}

fn fork(table: &mut ProcessTable, parent: u32, child: u32) {
    table.fork(&Fork { actor: actor(parent, 1), child: key(child) }, at(i64::from(child)));
}

fn exec(table: &mut ProcessTable, pid: u32, path: &str, ancestors: &[u32]) {
    let exec = Exec {
        actor: actor(pid, 1),
        exe_path: path.to_owned(),
        argv: vec![path.to_owned(), "-c".to_owned(), "id\n".to_owned()],
        ancestors: ancestors.iter().map(|pid| key(*pid)).collect(),
        ..Exec::default()
    };
    table.exec(&exec, at(i64::from(pid)));
}

fn pids(table: &ProcessTable, pid: u32) -> Vec<u32> {
    table.lineage(key(pid)).map(|(key, _)| key.pid).collect()
}

#[test]
fn a_daemonised_child_keeps_its_line() {
    let mut table = ProcessTable::new(Config::default());
    fork(&mut table, 100, 101);
    fork(&mut table, 101, 102);
    table.exit(key(101));
    // The kernel now shows init as the parent.
    table.observe(&actor(102, 1), at(5));
    assert_eq!(pids(&table, 102), [102, 101, 100, 1]);
}

#[test]
fn exec_read_before_fork_gives_the_same_line() {
    let mut table = ProcessTable::new(Config::default());
    exec(&mut table, 102, "/usr/bin/dash", &[]);
    fork(&mut table, 101, 102);
    assert_eq!(pids(&table, 102), [102, 101, 1]);
    let process = table.get(key(102)).expect("in the table");
    assert_eq!(&*process.image.exe_path, "/usr/bin/dash");
    assert_eq!(&*process.image.command_line, "/usr/bin/dash -c id\\n");
}

#[test]
fn kernel_ancestors_close_gaps() {
    let mut table = ProcessTable::new(Config::default());
    exec(&mut table, 104, "/usr/bin/dash", &[103, 102, 101]);
    assert_eq!(pids(&table, 104), [104, 103, 102, 101]);
}

#[test]
fn a_reused_pid_ends_its_predecessor() {
    let mut table = ProcessTable::new(Config { max_exited: 0, ..Config::default() });
    fork(&mut table, 100, 101);
    let again = ProcessKey { pid: 101, start_ticks: 99_999 };
    table.fork(&Fork { actor: actor(100, 1), child: again }, at(9));
    assert!(table.get(key(101)).is_none());
    assert!(table.get(again).is_some());
    assert_eq!(table.counters().exits_missed, 1);
}

#[test]
fn the_service_survives_an_endless_daemonisation() {
    let mut table = ProcessTable::new(Config { max_processes: 64, max_exited: 4 });
    fork(&mut table, 1, 100);
    table.set_service(key(100), ServiceRoot { process: key(100), listeners: Vec::new() });
    for pid in 101..1000 {
        fork(&mut table, pid - 1, pid);
        if pid > 101 {
            table.exit(key(pid - 1));
        }
    }
    let last = table.get(key(999)).expect("still running");
    assert_eq!(last.service.as_ref().map(|service| service.process), Some(key(100)));
    assert!(table.len() <= 64);
    assert!(table.counters().evicted_exited > 0);
    assert_eq!(table.counters().evicted_running, 0);
}

#[test]
fn command_lines_are_bounded_and_printable() {
    let line = command_line(&["é".repeat(4000), "x".to_owned()]);
    assert!(line.len() <= COMMAND_LINE_BYTES_MAX && line.starts_with("éé"));
    assert_eq!(command_line(&["a\u{1b}[31m".to_owned(), "b c".to_owned()]), "a\\u{1b}[31m b c");
}

#[test]
fn a_hundred_thousand_processes_fit_in_40_mb() {
    // In a process of its own: the tests beside this one would be measured with it.
    let name = "enrich::process_table::tests::measure_a_hundred_thousand_processes";
    let output = std::process::Command::new(std::env::current_exe().expect("the test binary"))
        .args(["--ignored", "--exact", "--nocapture", name])
        .output()
        .expect("starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let grown: u64 =
        text.lines().find_map(|line| line.split("grown=").nth(1)).expect("a figure").parse().expect("a number");
    assert!(grown < 40_000_000, "{grown} bytes");
}

#[test]
#[ignore = "run by a_hundred_thousand_processes_fit_in_40_mb, in a process of its own"]
fn measure_a_hundred_thousand_processes() {
    let resident = || {
        // Resident without what is of files: the pages of the program itself come in by chance.
        let statm = std::fs::read_to_string("/proc/self/statm").expect("linux");
        let pages: Vec<u64> = statm.split_whitespace().map(|pages| pages.parse().expect("a number")).collect();
        (pages[1] - pages[2]) * 4096
    };
    let before = resident();
    let mut table = ProcessTable::new(Config::default());
    for pid in 2..100_002 {
        fork(&mut table, pid / 2, pid);
        let exec = Exec {
            actor: actor(pid, pid / 2),
            exe_path: format!("/opt/app/bin/tool-{}", pid % 100),
            argv: vec![format!("/opt/app/bin/tool-{}", pid % 100), "--job".to_owned(), pid.to_string()],
            ..Exec::default()
        };
        table.exec(&exec, at(0));
    }
    assert_eq!(table.counters().evicted_running, 0);
    println!("\ngrown={}", resident().saturating_sub(before));
}

/// What a process did in a random history.
#[derive(Debug, Clone)]
enum Step {
    Fork(usize),
    Exec(usize),
    Exit(usize),
    Reparented(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<usize>().prop_map(Step::Fork),
        1 => any::<usize>().prop_map(Step::Exec),
        2 => any::<usize>().prop_map(Step::Exit),
        1 => any::<usize>().prop_map(Step::Reparented),
    ]
}

proptest! {
    #[test]
    fn lineage_is_who_forked_whom(steps in proptest::collection::vec(step(), 0..300)) {
        let mut table = ProcessTable::new(Config::default());
        let mut parent_of: HashMap<u32, u32> = HashMap::from([(100, 1)]);
        let mut running = vec![100];
        table.observe(&actor(100, 1), at(0));
        for step in steps {
            let pick = |index: usize| running.get(index % running.len().max(1)).copied();
            match step {
                Step::Fork(index) => if let Some(parent) = pick(index) {
                    let child = 101 + u32::try_from(parent_of.len()).expect("small");
                    fork(&mut table, parent, child);
                    parent_of.insert(child, parent);
                    running.push(child);
                },
                Step::Exec(index) => if let Some(pid) = pick(index) {
                    exec(&mut table, pid, "/bin/true", &[]);
                },
                Step::Exit(index) => if let Some(pid) = pick(index) {
                    table.exit(key(pid));
                    running.retain(|other| *other != pid);
                },
                Step::Reparented(index) => if let Some(pid) = pick(index) {
                    table.observe(&actor(pid, 1), at(1));
                },
            }
        }
        for pid in running {
            let mut expected = vec![pid];
            while let Some(parent) = expected.last().and_then(|last| parent_of.get(last)) {
                expected.push(*parent);
            }
            expected.truncate(LINEAGE_MAX);
            prop_assert_eq!(pids(&table, pid), expected);
        }
    }

    #[test]
    fn the_table_keeps_its_bound(max_processes in 16_usize..64, max_exited in 0_usize..16, steps in proptest::collection::vec((any::<bool>(), 0_u32..200, 0_u32..200), 0..600)) {
        let mut table = ProcessTable::new(Config { max_processes, max_exited });
        for (forks, pid, other) in steps {
            if forks {
                fork(&mut table, pid, other);
            } else {
                table.exit(key(pid));
            }
            prop_assert!(table.len() <= max_processes + 1);
            prop_assert!(table.exited.len() <= max_exited.max(table.len()));
            prop_assert!(table.lineage(key(pid)).count() <= LINEAGE_MAX);
        }
    }
}
