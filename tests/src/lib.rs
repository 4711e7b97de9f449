//! What the whole-agent tests share: the binary under test, and a bounded wait.

pub mod simulate;
pub mod storm;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The `breachline` binary, built once per test run with the profile of the tests themselves.
///
/// `BREACHLINE_BINARY` names another one (a release build, an installed package).
///
/// # Panics
///
/// When it does not build: nothing can be tested then.
#[must_use]
pub fn agent_binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY
        .get_or_init(|| {
            if let Some(path) = std::env::var_os("BREACHLINE_BINARY") {
                return PathBuf::from(path);
            }
            // target/<profile>/deps/<test> or target/<profile>/<bench> -> target/<profile>/breachline
            let own = std::env::current_exe().expect("own path");
            let folder = own.parent().expect("target/<profile>");
            let profile = if folder.ends_with("deps") { folder.parent().expect("target/<profile>") } else { folder };
            let mut build = Command::new(env!("CARGO"));
            // All default members, as `cargo test` builds them: another selection has other features and compiles anew.
            build.args(["build", "--quiet"]);
            if profile.ends_with("release") {
                build.arg("--release");
            }
            let built = build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).status().expect("cargo runs");
            assert!(built.success(), "breachline does not build");
            profile.join("breachline")
        })
        .clone()
}

/// Asks `probe` until it answers, at most `limit` long; `None` after that. The only way a test waits.
pub fn wait_for<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
