//! Base names of programs whose start takes the priority ring: shells, interpreters, transfer tools.
//!
//! A hint about urgency only. What a program is, is decided by the host stage from its file; a shell under another name
//! comes through the bulk ring and counts just as much.

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use breachline_abi::filter::FILTER_PROGRAMS;
use breachline_abi::limits::PROGRAM_NAME_BYTES;

use super::{KernelError, filters};

/// Names as they stand in the file system.
const NAMES: &[&str] = &[
    "sh",
    "bash",
    "dash",
    "zsh",
    "ksh",
    "ksh93",
    "mksh",
    "ash",
    "fish",
    "csh",
    "tcsh",
    "rbash",
    "yash",
    "busybox",
    "toybox",
    "python",
    "perl",
    "ruby",
    "php",
    "node",
    "nodejs",
    "lua",
    "luajit",
    "tclsh",
    "gawk",
    "mawk",
    "awk",
    "java",
    "bun",
    "deno",
    "curl",
    "wget",
    "nc",
    "ncat",
    "netcat",
    "nc.openbsd",
    "nc.traditional",
    "socat",
    "telnet",
    "ftp",
    "tftp",
    "scp",
    "sftp",
    "ssh",
    "rsync",
    "openssl",
    "base64",
    "xxd",
    "id",
    "whoami",
    "uname",
    "hostname",
    "aws",
    "gcloud",
    "az",
    "kubectl",
];
/// Interpreters that are installed under `name` + version, and the versions in use.
const VERSIONED: &[(&str, &[&str])] = &[
    ("python2.", &["6", "7"]),
    ("python3.", &["6", "7", "8", "9", "10", "11", "12", "13", "14", "15"]),
    ("perl5.", &["26.3", "30.0", "32.1", "34.0", "36.0", "38.2", "40.1"]),
    ("ruby", &["2.7", "3.0", "3.1", "3.2", "3.3", "3.4"]),
    ("php", &["7.4", "8.0", "8.1", "8.2", "8.3", "8.4"]),
    ("lua5.", &["1", "2", "3", "4"]),
];

/// Fills the kernel half's table.
///
/// # Errors
///
/// [`KernelError::Map`] when the kernel refuses an entry.
pub(super) fn fill(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    const NAME: &str = "PRIORITY_PROGRAMS";
    let failed = |reason: String| KernelError::Map { name: NAME, reason };
    let map = ebpf.map_mut(NAME).ok_or_else(|| failed("not in the object".to_owned()))?;
    let mut map: HashMap<&mut MapData, [u8; PROGRAM_NAME_BYTES], u32> =
        HashMap::try_from(map).map_err(|error| failed(error.to_string()))?;
    for name in names() {
        map.insert(key(&name), 1, 0).map_err(|error| failed(error.to_string()))?;
    }
    filters::add(ebpf, FILTER_PROGRAMS, names().map(|name| key(&name)))
}

/// All names.
pub(super) fn names() -> impl Iterator<Item = String> {
    let versioned =
        VERSIONED.iter().flat_map(|(name, versions)| versions.iter().map(move |version| format!("{name}{version}")));
    NAMES.iter().map(ToString::to_string).chain(versioned)
}

/// A name as the kernel half compares it: cut like its string read cuts, the last byte NUL.
fn key(name: &str) -> [u8; PROGRAM_NAME_BYTES] {
    let mut key = [0; PROGRAM_NAME_BYTES];
    for (to, from) in key.iter_mut().take(PROGRAM_NAME_BYTES - 1).zip(name.bytes()) {
        *to = from;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_nul_padded_and_cut() {
        assert_eq!(&key("sh"), b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&key("a-very-long-program-name"), b"a-very-long-pro\0");
    }
}
