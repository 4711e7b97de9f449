//! `breachline incidents` and `breachline baseline` as an operator uses them, on a state directory that no agent has open.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use breachline::incident::Incident;
use breachline::store::{Config, Revision, Store};
use breachline_tests::agent_binary;
use serde_json::Value;

/// An incident with all three stages.
const FULL_CHAIN: &str = include_str!("../../agent/src/incident/text/full_chain.json");

/// A state directory with two incidents, and a config that names it.
struct State {
    directory: tempfile::TempDir,
    config: PathBuf,
}

impl State {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let state = directory.path().join("state");
        let config = directory.path().join("breachline.toml");
        let socket = directory.path().join("status.sock");
        let text = format!("[store]\ndirectory = {state:?}\n[status]\nsocket = {socket:?}\n");
        fs::write(&config, text).expect("written");
        let store = store(&state);
        for (id, number, title) in [("bl-aaa1", 1, "first"), ("bl-aaa1", 2, "second"), ("bl-abb2", 1, "\u{1b}[2Jother")]
        {
            append(&store, id, number, title);
        }
        Self { directory, config }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(agent_binary());
        command.args(arguments).arg("--config").arg(&self.config).output().expect("runs")
    }

    fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.text(arguments)).expect("json")
    }

    fn refused(&self, arguments: &[&str], expected: &str) {
        let output = self.run(arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains(expected), "{arguments:?}: {message}");
        assert!(!message.contains("panicked"), "{message}");
    }
}

fn store(directory: &Path) -> Store {
    let config = Config { directory: directory.to_owned(), ..Config::default() };
    Store::open(&config, incident("x", 1, "x").last_seen).expect("opens")
}

fn incident(id: &str, revision: u32, title: &str) -> Incident {
    let incident: Incident = serde_json::from_str(FULL_CHAIN).expect("reads");
    Incident { id: id.into(), revision, title: title.into(), ..incident }
}

fn append(store: &Store, id: &str, number: u32, title: &str) {
    let incident = incident(id, number, title);
    let json = serde_json::to_vec(&incident).expect("json");
    let revision = Revision {
        id,
        number,
        severity: incident.severity,
        title,
        workload: incident.workload.key.as_str(),
        expected: false,
        last_seen: incident.last_seen,
        json: &json,
    };
    store.append(&[(revision, true)], &[], incident.last_seen);
}

#[test]
fn a_list_has_a_line_each_and_filters() {
    let state = State::new();
    let text = state.text(&["incidents", "list"]);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("bl-aaa1") && text.contains("second") && !text.contains('\u{1b}'), "{text}");
    let count = |arguments: &[&str]| {
        let all = [&["incidents", "list", "--json"], arguments].concat();
        state.json(&all).as_array().expect("an array").len()
    };
    assert_eq!(count(&[]), 2);
    assert_eq!(count(&["--workload", "shop", "--severity", "critical", "--since", "2026-03-02T00:00:00Z"]), 2);
    assert_eq!(count(&["--workload", "mail"]), 0);
    assert_eq!(count(&["--since", "2026-03-03T00:00:00Z"]), 0);
    state.refused(&["incidents", "list", "--severity", "dreadful"], "low, medium, high or critical");
}

#[test]
fn an_incident_is_shown_as_text_json_and_page() {
    let state = State::new();
    let text = state.text(&["incidents", "show", "bl-aaa"]);
    for part in ["CRITICAL  second", "revision 2", "What happened", "Processes", "└─ 100", "What to do next"] {
        assert!(text.contains(part), "{part} not in {text}");
    }
    assert!(!text.contains('\u{1b}'), "no colour where nobody looks");
    assert_eq!(state.json(&["incidents", "show", "bl-aaa1", "--json"])["revision"], 2);
    assert_eq!(state.json(&["incidents", "show", "bl-aaa1", "--revision", "1", "--json"])["title"], "first");
    let page = state.directory.path().join("incident.html");
    state.text(&["incidents", "show", "bl-abb2", "--html", &page.to_string_lossy()]);
    let page = fs::read_to_string(page).expect("written");
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<svg") && !page.contains('\u{1b}'));
    state.refused(&["incidents", "show", "bl-a"], "more than one");
    state.refused(&["incidents", "show", "bl-zzz"], "there is no incident");
    state.refused(&["incidents", "show", "bl-aaa1", "--revision", "9"], "those that are kept are 1, 2");
}

#[test]
fn an_export_is_json_lines_in_the_schema_asked_for() {
    let state = State::new();
    let lines = |arguments: &[&str]| -> Vec<Value> {
        let all = [&["incidents", "export"], arguments].concat();
        state.text(&all).lines().map(|line| serde_json::from_str(line).expect("json")).collect()
    };
    assert_eq!(lines(&[]).len(), 2);
    assert_eq!(lines(&["--all-revisions"]).len(), 3);
    assert!(lines(&["--format", "ocsf"]).iter().all(|finding| finding["class_uid"] == 2004));
    assert!(lines(&["--format", "ecs"]).iter().all(|alert| alert["event"]["kind"] == "alert"));
}

#[test]
fn what_is_expected_is_kept_listed_and_taken_back() {
    let state = State::new();
    assert_eq!(state.json(&["incidents", "expected", "--json"]), serde_json::json!([]));
    let mark = |until: &'static str| {
        ["incidents", "expect", "bl-aaa1", "--owner", "shop team", "--reason", "nightly probe", "--until", until]
    };
    state.refused(&mark("2020-01-01T00:00:00Z"), "has passed");
    state.refused(&mark("soon"), "neither a duration");
    state.text(&mark("30d"));
    let expected = state.json(&["incidents", "expected", "--json"]);
    assert_eq!((&expected[0]["incident"], &expected[0]["owner"]), (&"bl-aaa1".into(), &"shop team".into()));
    state.text(&["incidents", "withdraw", "bl-aaa1"]);
    state.refused(&["incidents", "withdraw", "bl-aaa1"], "is not expected");
    assert_eq!(state.json(&["incidents", "expected", "--json"]), serde_json::json!([]));
}

#[test]
fn a_baseline_travels_from_host_to_host() {
    let (old, new) = (State::new(), State::new());
    let baseline = r#"{"version":1,"profiles":{"unit:shop.service":{"first_seen":"2026-01-01T00:00:00Z",
        "last_seen":"2026-03-01T00:00:00Z","habits":{"peer":{"203.0.113.0/24 443/tcp":{"first":"2026-01-01T00:00:00Z","last":"2026-03-01T00:00:00Z"}}}}}}"#;
    let file = old.directory.path().join("baseline.json");
    let name = file.to_string_lossy();
    fs::write(&file, baseline).expect("written");
    old.text(&["baseline", "import", &name]);
    old.text(&["baseline", "export", "--output", &name]);
    assert!(new.text(&["baseline", "show"]).contains("nothing was learned"));
    assert_eq!(new.json(&["baseline", "import", &name, "--json"])["imported"][0], "unit:shop.service");
    let shown = new.json(&["baseline", "show", "--json"]);
    assert_eq!((&shown[0]["peers"][0], &shown[0]["state"]), (&"203.0.113.0/24 443/tcp".into(), &"known".into()));
    new.text(&["baseline", "inherit", "--from", "unit:shop.service", "--to", "unit:shop2.service"]);
    assert!(new.text(&["baseline", "show", "--workload", "unit:shop2.service"]).contains("203.0.113.0/24"));
    new.text(&["baseline", "forget", "--workload", "unit:shop.service"]);
    new.refused(&["baseline", "forget", "--workload", "unit:shop.service"], "nothing is known");
    fs::write(&file, r#"{"version":99,"profiles":{}}"#).expect("written");
    new.refused(&["baseline", "import", &name], "format 99");
    fs::write(&file, "rubbish").expect("written");
    new.refused(&["baseline", "import", &name], "no exported baseline");
}

#[test]
fn what_a_killed_agent_left_is_read_without_a_change() {
    let state = State::new();
    let file = state.path().join("breachline.redb");
    // A writer that is still open when the file is copied leaves it as a kill does: in need of repair.
    let writer = store(&state.path());
    append(&writer, "bl-ccc3", 1, "the last one");
    let left = fs::read(&file).expect("reads");
    drop(writer);
    fs::write(&file, &left).expect("written");
    let text = state.text(&["incidents", "list"]);
    assert!(text.contains("the last one"), "{text}");
    assert!(fs::read(&file).expect("reads") == left, "reading changed the file");
}

#[test]
fn without_a_state_directory_or_an_agent_it_is_said() {
    let state = State::new();
    fs::remove_dir_all(state.path()).expect("removed");
    state.refused(&["incidents", "list"], "is this the agent's state directory");
    state.refused(&["coverage"], "is this the agent's state directory");
}
