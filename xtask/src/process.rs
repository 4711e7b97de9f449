//! Other programs: find them, run them, run them as root.
//!
//! In: a `Command`. Out: success, or an error that names the command and how it ended. Never through a shell.

use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Debian keeps daemons in `sbin`, which an ordinary user's PATH lacks.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Tells the person at the terminal what happens next.
pub(crate) fn say(what: impl Display) {
    eprintln!("xtask: {what}");
}

/// A command in the repository's root, with `~/.cargo/bin` on its PATH: bpf-linker lies there, also when cargo itself
/// came from a Debian package.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace::root()).env("PATH", search_path());
    command
}

/// `cargo`, the one that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = command(&env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.args(args);
    command
}

/// Runs to the end; anything but exit 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    say(format_args!("$ {}", line(command)));
    let status = command.status().with_context(|| format!("cannot run {}", line(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", line(command));
    }
    Ok(())
}

/// Runs quietly and gives stdout; anything but exit 0 is an error with stderr in it.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", line(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}\n{}", line(command), output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether it runs and exits 0, without any output.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// What to put before a command so that it runs as root with our environment: nothing when we are.
pub(crate) fn root_prefix() -> Result<&'static [&'static str]> {
    match (is_root(), find("sudo")) {
        (true, _) => Ok(&[]),
        (false, Some(_)) => Ok(&["sudo", "-E"]),
        (false, None) => bail!("this step needs root and there is no sudo: run it as root"),
    }
}

/// The command as root.
pub(crate) fn as_root(program: &str, args: &[&str]) -> Result<Command> {
    let words: Vec<&str> = root_prefix()?.iter().copied().chain([program]).chain(args.iter().copied()).collect();
    let mut command = command(words[0]);
    command.args(&words[1..]);
    Ok(command)
}

/// An executable on the search path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let runs = |path: &Path| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    env::split_paths(&search_path()).map(|folder| folder.join(program)).find(|path| runs(path))
}

/// Where cargo installs programs.
pub(crate) fn cargo_home() -> PathBuf {
    let home = || env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    env::var_os("CARGO_HOME").map_or_else(|| home().join(".cargo"), PathBuf::from)
}

fn search_path() -> OsString {
    let own = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&own).collect();
    for extra in [cargo_home().join("bin")].into_iter().chain(SYSTEM_FOLDERS.map(PathBuf::from)) {
        if !folders.contains(&extra) {
            folders.push(extra);
        }
    }
    env::join_paths(folders).unwrap_or(own)
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_runs_and_nothing_else() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
        assert_eq!(find("../etc"), None, "a directory is not a program");
    }

    #[test]
    fn a_failure_names_the_command_and_its_words() {
        let error = capture(command("sh").args(["-c", "echo broken >&2; exit 3"])).unwrap_err().to_string();
        assert!(
            error.starts_with("sh -c ") && error.contains("exit status: 3") && error.ends_with("broken"),
            "{error}"
        );
    }
}
