//! What a program's file name says: the tables of shells, interpreters and transfer tools.
//!
//! A name alone proves nothing, since files are copied and linked; the host judge looks at what the file is and takes the
//! name of what it is. Names are compared without their version: `python3.11` is `python`.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::evidence::ProgramClass;

/// Shells.
const SHELLS: &[&str] = &[
    "sh", "dash", "bash", "rbash", "ash", "zsh", "rzsh", "ksh", "rksh", "mksh", "pdksh", "lksh", "oksh", "yash",
    "posh", "fish", "tcsh", "csh", "rc", "es", "elvish", "nu", "xonsh", "pwsh", "hush", "msh",
];

/// Interpreters that run code they are given.
const INTERPRETERS: &[&str] = &[
    "python",
    "pypy",
    "perl",
    "ruby",
    "jruby",
    "php",
    "php-cli",
    "node",
    "nodejs",
    "bun",
    "deno",
    "lua",
    "luajit",
    "texlua",
    "tclsh",
    "expect",
    "wish",
    "groovy",
    "jshell",
    "jrunscript",
    "scala",
    "erl",
    "escript",
    "elixir",
    "iex",
    "guile",
    "racket",
    "sbcl",
    "ocaml",
    "R",
    "Rscript",
    "octave",
    "julia",
    "gdb",
    "awk",
    "gawk",
    "mawk",
    "nawk",
    "original-awk",
];

/// Programs that fetch from, send to or relay to a peer that their arguments name.
const TRANSFER_TOOLS: &[&str] = &[
    "curl",
    "wget",
    "aria2c",
    "axel",
    "lynx",
    "links",
    "elinks",
    "w3m",
    "fetch",
    "http",
    "https",
    "xh",
    "ftp",
    "lftp",
    "tftp",
    "ncftp",
    "ncftpget",
    "sftp",
    "scp",
    "ssh",
    "rsync",
    "rclone",
    "telnet",
    "nc",
    "nc.openbsd",
    "nc.traditional",
    "ncat",
    "netcat",
    "socat",
    "gs-netcat",
    "cryptcat",
    "sbd",
    "chisel",
    "frpc",
    "ngrok",
    "cloudflared",
    "proxychains",
];

/// Files that hold many programs: their argument decides which.
const MULTI_CALL: &[&str] = &["busybox", "toybox"];

/// The class of a program named `name`, a path or a bare name.
pub(crate) fn class_of(name: &str) -> Option<ProgramClass> {
    CLASSES.get(unversioned(basename(name))).copied()
}

/// The three tables as one: it is asked several times for every program that starts.
static CLASSES: LazyLock<HashMap<&str, ProgramClass>> = LazyLock::new(|| {
    let tables = [
        (TRANSFER_TOOLS, ProgramClass::TransferTool),
        (INTERPRETERS, ProgramClass::Interpreter),
        (SHELLS, ProgramClass::Shell),
    ];
    tables.into_iter().flat_map(|(names, class)| names.iter().map(move |name| (*name, class))).collect()
});

/// Whether the file holds many programs.
pub(crate) fn is_multi_call(name: &str) -> bool {
    MULTI_CALL.contains(&unversioned(basename(name)))
}

/// The file name of a path.
pub(crate) fn basename(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// A name without the version at its end: `php-fpm8.2`, `python3.11`, `ruby3.1`.
pub(crate) fn unversioned(name: &str) -> &str {
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    if stem.is_empty() { name } else { stem.strip_suffix('-').unwrap_or(stem) }
}

/// Whether the file lies where anyone can put one, or only in memory.
pub(crate) fn is_writable_by_all(path: &str) -> bool {
    ["/tmp/", "/var/tmp/", "/dev/shm/", "/run/user/", "/proc/", "memfd:"].iter().any(|start| path.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_do_not_matter() {
        let check = |name: &str, class: Option<ProgramClass>| assert_eq!(class_of(name), class, "{name}");
        check("/usr/bin/python3.11", Some(ProgramClass::Interpreter));
        check("/usr/bin/python3.11-", None);
        check("lua5.4", Some(ProgramClass::Interpreter));
        check("/bin/ksh93", Some(ProgramClass::Shell));
        check("wget2", Some(ProgramClass::TransferTool));
        check("/usr/bin/id", None);
        check("7", None);
        check("", None);
        assert!(is_multi_call("/bin/busybox") && !is_multi_call("/bin/sh"));
    }
}
