//! The one record of variable length.

use breachline_abi::exec::{
    ExecRecord, FLAG_ARGV_TRUNCATED, FLAG_CWD_TRUNCATED, FLAG_EXE_PATH_TRUNCATED, FLAG_INTERPRETED,
    FLAG_LINK_COUNT_KNOWN, FLAG_MEMFD, STDIO_CLOSED, STDIO_FILE, STDIO_INET_SOCKET, STDIO_OTHER_SOCKET, STDIO_PIPE,
    STDIO_TERMINAL,
};

use super::{DecodeError, actor, prefix, process, text};
use crate::event::{Exec, Stdio};
use crate::redact;

/// An exec record with its tail.
pub(super) fn decode(record: &[u8]) -> Result<Exec, DecodeError> {
    let fixed: ExecRecord = prefix(record)?;
    let mut tail = Tail { record, at: size_of::<ExecRecord>() };
    let exe_path = tail.take(fixed.exe_path_len)?;
    let cwd = tail.take(fixed.cwd_len)?;
    let filename = tail.take(fixed.filename_len)?;
    let interpreter = tail.take(fixed.interpreter_len)?;
    let argv = tail.take(fixed.argv_len)?;
    let flag = |flag: u32| fixed.flags & flag != 0;
    let argv_truncated = flag(FLAG_ARGV_TRUNCATED);
    Ok(Exec {
        actor: actor(&fixed.actor),
        exe_path: path(exe_path, flag(FLAG_EXE_PATH_TRUNCATED)),
        filename: text(filename),
        interpreter: flag(FLAG_INTERPRETED).then(|| text(interpreter)),
        argv: arguments(argv),
        argv_truncated,
        cwd: path(cwd, flag(FLAG_CWD_TRUNCATED)),
        stdio: fixed.stdio.map(stdio),
        // A kernel that does not tell is no reason to call every program deleted.
        link_count: if flag(FLAG_LINK_COUNT_KNOWN) { fixed.link_count } else { 1 },
        memfd: flag(FLAG_MEMFD),
        capabilities: fixed.capabilities,
        ancestors: fixed.ancestors.iter().take(fixed.ancestor_count.into()).copied().map(process).collect(),
    })
}

/// What is left of the record.
struct Tail<'r> {
    record: &'r [u8],
    at: usize,
}

impl<'r> Tail<'r> {
    fn take(&mut self, length: u16) -> Result<&'r [u8], DecodeError> {
        let end = self.at + usize::from(length);
        let part = self.record.get(self.at..end).ok_or(DecodeError::Truncated { need: end, got: self.record.len() })?;
        self.at = end;
        Ok(part)
    }
}

/// Components from the leaf to the root, each with its NUL, to a path. A path that lost its beginning starts with
/// `...`; nothing walked is an empty path when truncated, else the root itself.
fn path(components: &[u8], truncated: bool) -> String {
    let mut path = String::new();
    if truncated && !components.is_empty() {
        path.push_str("...");
    }
    let components = components.strip_suffix(&[0]).unwrap_or(components);
    for component in components.rsplit(|byte| *byte == 0).filter(|component| !component.is_empty()) {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(component));
    }
    if path.is_empty() && !truncated {
        path.push('/');
    }
    path
}

/// Arguments as they lie in memory: a NUL after each; a cut one has none. Empty arguments are arguments. Secrets among them end
/// here.
fn arguments(bytes: &[u8]) -> Vec<String> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    let arguments = bytes.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned());
    let mut arguments: Vec<String> = arguments.collect();
    redact::arguments(&mut arguments);
    arguments
}

/// An unknown number is an unknown descriptor, not a reason to lose the exec.
fn stdio(number: u8) -> Stdio {
    match number {
        STDIO_CLOSED => Stdio::Closed,
        STDIO_FILE => Stdio::File,
        STDIO_TERMINAL => Stdio::Terminal,
        STDIO_PIPE => Stdio::Pipe,
        STDIO_INET_SOCKET => Stdio::InetSocket,
        STDIO_OTHER_SOCKET => Stdio::OtherSocket,
        _ => Stdio::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_turned_round() {
        let check =
            |components: &[u8], truncated: bool, expected: &str| assert_eq!(path(components, truncated), expected);
        check(b"dash\0bin\0usr\0", false, "/usr/bin/dash");
        check(b"", false, "/");
        check(b"", true, "");
        check(b"leaf\0dir\0", true, ".../dir/leaf");
        check(b"\xff\0", false, "/\u{fffd}");
    }

    #[test]
    fn arguments_are_split_at_their_ends() {
        let check = |bytes: &[u8], expected: &[&str]| assert_eq!(arguments(bytes), expected);
        check(b"sh\0-c\0id\0", &["sh", "-c", "id"]);
        check(b"sh\0\0", &["sh", ""]);
        check(b"sh\0cu", &["sh", "cu"]);
        check(b"", &[]);
    }
}
