//! The forwarder as a process of its own, ended with the test.

use std::ffi::OsStr;
use std::process::{Child, ChildStdin, Command, Stdio};

use breachline_tests::agent_binary;

/// A running `breachline forward`.
pub(crate) struct Forward(Option<Child>);

impl Forward {
    pub(crate) fn start(arguments: &[impl AsRef<OsStr>]) -> Self {
        Self::spawn(arguments, Stdio::null())
    }

    pub(crate) fn start_piped(arguments: &[impl AsRef<OsStr>]) -> Self {
        Self::spawn(arguments, Stdio::piped())
    }

    fn spawn(arguments: &[impl AsRef<OsStr>], stdin: Stdio) -> Self {
        let mut command = Command::new(agent_binary());
        command.arg("forward").args(arguments).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(command.spawn().expect("starts")))
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.0.as_mut().and_then(|child| child.stdin.take()).expect("a pipe")
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        let mut child = self.0.take().expect("running");
        child.kill().expect("kills");
        child.wait().expect("ends");
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Waits for its end; exit code, standard output, standard error.
pub(crate) fn finish(mut forward: Forward) -> (Option<i32>, String, String) {
    let child = forward.0.take().expect("running");
    let output = child.wait_with_output().expect("ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
