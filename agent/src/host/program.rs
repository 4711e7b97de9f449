//! An exec in, what kind of program it is out: told by the running file, never by `comm` and never by `argv[0]` alone.
//!
//! Arguments are looked at only where the file itself says that they decide: which applet of busybox, which program the
//! dynamic loader is told to load, which code an interpreter runs.

use crate::enrich::names::{basename, class_of, is_multi_call, is_writable_by_all, unversioned};
use crate::event::Exec;
use crate::evidence::ProgramClass;

/// Where the code comes from that an interpreter or shell runs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// An argument (`-c`, `-e`, …).
    CommandLine,
    /// Standard input, or typed in.
    Stdin,
    /// A file where anyone can put one.
    TemporaryFile,
    /// A file, or a module, of its own.
    File,
}

/// A program that runs what it is told, or reaches whom it is told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) class: ProgramClass,
    pub(super) code: Code,
    /// It was reached through the dynamic loader, or its content is another's than its name says.
    pub(super) disguised: bool,
}

/// What kind of program was started; `None` for any that does one thing of its own.
pub(super) fn classify(exec: &Exec) -> Option<Program> {
    classify_as(&exec.exe_path, exec)
}

/// The same for a file that is another's copy or link, whatever it is called.
pub(super) fn classify_copy(original: &str, exec: &Exec) -> Option<Program> {
    classify_as(original, exec).map(|program| Program { disguised: true, ..program })
}

fn classify_as(path: &str, exec: &Exec) -> Option<Program> {
    let arguments: Vec<&str> = exec.argv.iter().map(String::as_str).collect();
    let name = basename(path);
    if is_loader(name) {
        let arguments = after_loader_options(&arguments);
        let program = by_name(arguments.first()?, arguments)?;
        return Some(Program { disguised: true, ..program });
    }
    if is_multi_call(name) {
        return applet(&arguments);
    }
    if name == "openssl" {
        let client = matches!(arguments.get(1), Some(&"s_client"));
        return client.then_some(Program {
            class: ProgramClass::TransferTool,
            code: Code::CommandLine,
            disguised: false,
        });
    }
    by_name(name, &arguments)
}

/// The class of a program by its file alone: for ancestors, whose arguments no longer matter.
pub(super) fn class_of_path(exe_path: &str) -> Option<ProgramClass> {
    if is_multi_call(exe_path) { Some(ProgramClass::Shell) } else { class_of(exe_path) }
}

fn by_name(path: &str, arguments: &[&str]) -> Option<Program> {
    let class = class_of(path)?;
    let name = unversioned(basename(path));
    let awk = ["awk", "gawk", "mawk", "nawk", "original-awk"].contains(&name);
    // awk is in every script's pipeline; what makes it a way in is that it can run commands and, as gawk, open sockets.
    let reaches_out = |argument: &&str| {
        ["system(", "| getline", "|getline", "/inet/", "|&", "| \"", "|\""].iter().any(|way| argument.contains(way))
    };
    if awk && !arguments.iter().any(reaches_out) {
        return None;
    }
    Some(Program { class, code: code_of(class, name, arguments), disguised: false })
}

/// `busybox sh`, or a link named like the applet. Its name is `argv[0]`'s: the file leaves nothing else to go by, and whatever
/// the caller writes there is what runs.
fn applet(arguments: &[&str]) -> Option<Program> {
    let called = basename(arguments.first()?).trim_start_matches('-');
    if !is_multi_call(called) {
        return by_name(called, arguments);
    }
    let arguments = arguments.get(1..).unwrap_or_default();
    by_name(arguments.first()?, arguments)
}

/// `ld-linux-x86-64.so.2`, `ld-musl-x86_64.so.1`, `ld-2.31.so`: run as a program, they load the one named by an argument.
fn is_loader(name: &str) -> bool {
    name.starts_with("ld-linux")
        || name.starts_with("ld-musl")
        || name == "ld.so"
        || (name.starts_with("ld-") && name.contains(".so"))
}

/// The arguments from the loaded program on. Options that take a value: ld.so(8), glibc 2.41; musl takes the same first three.
fn after_loader_options<'a>(arguments: &'a [&'a str]) -> &'a [&'a str] {
    const WITH_VALUE: &[&str] = &[
        "--library-path",
        "--preload",
        "--argv0",
        "--inhibit-rpath",
        "--audit",
        "--glibc-hwcaps-prepend",
        "--glibc-hwcaps-mask",
    ];
    let mut at = 1;
    while let Some(option) = arguments.get(at).filter(|argument| argument.starts_with("--")) {
        at += if WITH_VALUE.contains(option) { 2 } else { 1 };
    }
    arguments.get(at..).unwrap_or_default()
}

/// Options that carry code, by interpreter; shells share `-c`.
fn carries_code(name: &str, option: &str) -> bool {
    let letters = |set: &str| {
        option
            .strip_prefix('-')
            .is_some_and(|rest| !rest.starts_with('-') && rest.chars().any(|letter| set.contains(letter)))
    };
    match name {
        "python" | "pypy" => option.starts_with("-c"),
        "perl" | "ruby" | "jruby" => letters("eE"),
        "php" | "php-cli" => ["-r", "-B", "-R", "-E", "--run"].contains(&option),
        "node" | "nodejs" | "bun" | "deno" => ["-e", "-p", "-pe", "--eval", "--print", "eval"].contains(&option),
        "lua" | "luajit" | "texlua" | "groovy" | "scala" | "elixir" | "julia" | "Rscript" | "guile" => {
            ["-e", "-c", "--eval"].contains(&option)
        }
        "erl" => option == "-eval",
        "gdb" => ["-ex", "-eval-command", "--eval-command"].contains(&option),
        _ => letters("c"),
    }
}

fn code_of(class: ProgramClass, name: &str, arguments: &[&str]) -> Code {
    if class == ProgramClass::TransferTool || name.ends_with("awk") {
        return Code::CommandLine;
    }
    for argument in arguments.iter().skip(1) {
        match *argument {
            "-" | "/dev/stdin" | "-s" | "-i" => return Code::Stdin,
            option if carries_code(name, option) => return Code::CommandLine,
            // `python -m module`: code installed beside the interpreter.
            "-m" if name == "python" || name == "pypy" => return Code::File,
            option if option.starts_with(['-', '+']) => {}
            file if is_writable_by_all(file) => return Code::TemporaryFile,
            _ => return Code::File,
        }
    }
    Code::Stdin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(exe_path: &str, line: &str) -> Exec {
        Exec { exe_path: exe_path.to_owned(), argv: line.split(' ').map(str::to_owned).collect(), ..Exec::default() }
    }

    #[test]
    fn the_file_decides_the_class() {
        use ProgramClass::{Interpreter, Shell, TransferTool};
        let check = |exe_path: &str, line: &str, class: Option<ProgramClass>| {
            assert_eq!(classify(&exec(exe_path, line)).map(|program| program.class), class, "{exe_path} {line}");
        };
        check("/usr/bin/dash", "php-fpm: pool www", Some(Shell));
        check("/opt/odd/bash5.2", "x", Some(Shell));
        check("/usr/bin/ksh93", "ksh", Some(Shell));
        check("/usr/sbin/nginx", "sh -c id", None);
        check("/usr/bin/id", "sh", None);
        check("/usr/bin/python3.11", "python3 -c x", Some(Interpreter));
        check("/usr/bin/php8.2", "php -r x", Some(Interpreter));
        check("/usr/bin/ruby3.1", "ruby -e x", Some(Interpreter));
        check("/usr/bin/gawk", "awk {print}", None);
        check("/usr/bin/gawk", "awk BEGIN{system(\"id\")}", Some(Interpreter));
        check("/usr/bin/mawk", "awk BEGIN{\"id\"|getline}", Some(Interpreter));
        check("/usr/bin/curl", "curl http://192.0.2.1/", Some(TransferTool));
        check("/usr/bin/nc.openbsd", "nc 192.0.2.1 4444", Some(TransferTool));
        check("/usr/bin/openssl", "openssl s_client -connect 192.0.2.1:443", Some(TransferTool));
        check("/usr/bin/openssl", "openssl dgst -sha256 x", None);
        check("/bin/busybox", "sh -c id", Some(Shell));
        check("/bin/busybox", "busybox ash", Some(Shell));
        check("/bin/busybox", "/bin/busybox wget http://192.0.2.1/", Some(TransferTool));
        check("/bin/busybox", "ls -l", None);
        check("/bin/busybox", "busybox", None);
        check("/usr/bin/toybox", "toybox nc 192.0.2.1 1", Some(TransferTool));
        check("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "ld /bin/sh", Some(Shell));
        check("/lib/ld-musl-x86_64.so.1", "x --library-path /tmp /tmp/python3 -c x", Some(Interpreter));
        check("/lib/x86_64-linux-gnu/ld-2.31.so", "ld --list", None);
        check("", "", None);
    }

    #[test]
    fn where_the_code_comes_from() {
        let check = |exe_path: &str, line: &str, code: Code| {
            assert_eq!(classify(&exec(exe_path, line)).map(|program| program.code), Some(code), "{line}");
        };
        check("/usr/bin/dash", "sh -c id", Code::CommandLine);
        check("/usr/bin/bash", "bash -lc id", Code::CommandLine);
        check("/usr/bin/bash", "bash -i", Code::Stdin);
        check("/usr/bin/bash", "bash", Code::Stdin);
        check("/usr/bin/dash", "sh /tmp/x.sh", Code::TemporaryFile);
        check("/usr/bin/dash", "sh /etc/init.d/x reload", Code::File);
        check("/usr/bin/python3.11", "python3 -c import os", Code::CommandLine);
        check("/usr/bin/python3.11", "python3 -", Code::Stdin);
        check("/usr/bin/python3.11", "python3 -m http.server", Code::File);
        check("/usr/bin/python3.11", "python3 -u /srv/app.py -c x", Code::File);
        check("/usr/bin/perl", "perl -MSocket -e x", Code::CommandLine);
        check("/usr/bin/perl", "perl -ne x", Code::CommandLine);
        check("/usr/bin/php8.2", "php -r system(1);", Code::CommandLine);
        check("/usr/bin/php8.2", "php /dev/shm/.x", Code::TemporaryFile);
        check("/usr/bin/node", "node --eval x", Code::CommandLine);
        check("/usr/bin/lua5.4", "lua -e x", Code::CommandLine);
        check("/usr/bin/ruby3.1", "ruby bin/rails server", Code::File);
    }

    #[test]
    fn a_loader_and_a_copy_are_disguises() {
        let loaded = classify(&exec("/lib64/ld-linux-x86-64.so.2", "ld /bin/sh -c id")).expect("a shell");
        assert_eq!((loaded.code, loaded.disguised), (Code::CommandLine, true));
        let copied = classify_copy("/bin/dash", &exec("/tmp/innocent", "innocent -c id")).expect("a shell");
        assert_eq!((copied.code, copied.disguised), (Code::CommandLine, true));
        let applet = classify_copy("/bin/busybox", &exec("/tmp/innocent", "sh -c id")).expect("a shell");
        assert_eq!((applet.class, applet.disguised), (ProgramClass::Shell, true));
        assert_eq!(classify_copy("/bin/busybox", &exec("/tmp/innocent", "ls")), None);
        assert_eq!(class_of_path("/bin/busybox"), Some(ProgramClass::Shell));
    }
}
