//! What a word at the start of a shell command is: tables of program names, by how much they say.

use crate::edge::judge::shapes::Table;

/// How much a command name says by itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Command {
    /// Also an English word or an ordinary parameter value: needs arguments that only a command has.
    Ambiguous,
    /// A program's name and hardly anything else.
    Plain,
    /// A shell, or a tool to fetch, connect or look around with.
    Tool,
}

/// Programs an intruder starts first: shells, transfer and network tools, interpreters, encoders.
#[rustfmt::skip]
const TOOLS: &[&[u8]] = &[
    b"adduser", b"base64", b"bash", b"bitsadmin", b"busybox", b"certutil", b"chmod", b"chown", b"cmd.exe", b"crontab",
    b"cscript", b"curl", b"dash", b"dmesg", b"ifconfig", b"ipconfig", b"ksh", b"lwp-download", b"lwp-request",
    b"mkfifo", b"mshta", b"msiexec", b"ncat", b"netcat", b"netstat", b"nmap", b"nohup", b"nslookup", b"perl", b"php",
    b"powershell", b"powershell.exe", b"printenv", b"pwsh", b"python", b"python2", b"python3", b"regsvr32", b"ruby",
    b"rundll32", b"schtasks", b"setcap", b"socat", b"sudo", b"sysctl", b"systeminfo", b"tasklist", b"tcpdump",
    b"telnet", b"tftp", b"uname", b"useradd", b"wget", b"whoami", b"wmic", b"wscript", b"xxd", b"zsh",
];

/// Names of programs that no sentence uses.
#[rustfmt::skip]
const PLAIN: &[&[u8]] = &[
    b"apt-get", b"aria2c", b"arp", b"arping", b"ash", b"attrib", b"awk", b"axel", b"base32", b"basename", b"bcdboot",
    b"bcdedit", b"blkid", b"bzcat", b"cacls", b"cat", b"cc", b"chattr", b"chgrp", b"chroot", b"cksum", b"cmd",
    b"cmdkey", b"cp", b"cpio", b"crictl", b"csh", b"curlftpfs", b"df", b"dig", b"dir", b"dirname", b"diskpart",
    b"dmidecode", b"doas", b"docker", b"dos2unix", b"dpkg", b"dpkg-query", b"dropbear", b"dsquery", b"du", b"dumpcap",
    b"echo", b"egrep", b"emacs", b"env", b"erase", b"expr", b"fdisk", b"fgrep", b"findmnt", b"findstr", b"fping",
    b"ftp", b"fuser", b"gawk", b"gcc", b"gdb", b"gem", b"getcap", b"getconf", b"getent", b"getfacl", b"gpg", b"grep",
    b"groupadd", b"gunzip", b"gzip", b"hexdump", b"hexedit", b"hostname", b"hostnamectl", b"hping3", b"icacls", b"id",
    b"iex", b"insmod", b"invoke-expression", b"invoke-webrequest", b"ip", b"ipcs", b"iptables", b"iwmi", b"iwr",
    b"javac", b"journalctl", b"jq", b"killall", b"klist", b"kubectl", b"lastlog", b"ln", b"loginctl", b"logname",
    b"losetup", b"ls", b"lsattr", b"lsb_release", b"lsblk", b"lscpu", b"lsmod", b"lsof", b"lspci", b"lsusb",
    b"ltrace", b"lua", b"lwp-mirror", b"lynx", b"md5sum", b"memcached", b"mesg", b"mkdir", b"mkpasswd", b"mktemp",
    b"modprobe", b"mountpoint", b"mtr", b"mv", b"mysql", b"mysqldump", b"nano", b"nbtstat", b"nc", b"netsh",
    b"nltest", b"npm", b"nproc", b"nsenter", b"od", b"openssl", b"passwd", b"pathping", b"pgrep", b"pico", b"ping", b"ping6",
    b"pip", b"pip3", b"pkexec", b"pkill", b"printf", b"ps", b"psql", b"pstree", b"pwd", b"pwdx", b"quser", b"qwinsta",
    b"readlink", b"realpath", b"redis-cli", b"renice", b"rlwrap", b"rm", b"rmdir", b"rmmod", b"robocopy", b"rpm",
    b"rsync", b"runuser", b"scp", b"sed", b"sendmail", b"setenv", b"setsid", b"sftp", b"sh", b"sha1sum", b"sha224sum",
    b"sha256sum", b"sha512sum", b"shuf", b"sleep", b"sqlite3", b"sqlplus", b"ss", b"ssh", b"ssh-keygen", b"stdbuf",
    b"strace", b"svn", b"swapon", b"systemctl", b"tac", b"tar", b"tclsh", b"tcsh", b"tee", b"telnetd", b"timedatectl",
    b"traceroute", b"tracert", b"tshark", b"ulimit", b"umask", b"uniq", b"unset", b"unshare", b"unzip", b"uptime",
    b"useradd", b"usermod", b"usleep", b"uudecode", b"uuencode", b"vi", b"vim", b"vssadmin", b"w32tm", b"w3m",
    b"wevtutil", b"xargs", b"xcopy", b"xterm", b"xzcat", b"yum", b"zcat", b"zgrep", b"zip",
];

/// Programs whose names are words.
#[rustfmt::skip]
const AMBIGUOUS: &[&[u8]] = &[
    b"alias", b"apt", b"at", b"batch", b"bc", b"builtin", b"cal", b"call", b"cd", b"comm", b"command", b"copy",
    b"cut", b"date", b"dc", b"dd", b"declare", b"del", b"diff", b"ed", b"eval", b"ex", b"exec", b"exit", b"export",
    b"false", b"fetch", b"file", b"find", b"finger", b"fold", b"free", b"git", b"go", b"groups", b"halt", b"head",
    b"history", b"host", b"java", b"jobs", b"join", b"kill", b"last", b"less", b"let", b"links", b"local", b"locate",
    b"look", b"mail", b"make", b"man", b"more", b"mount", b"move", b"net", b"nice", b"nl", b"nmcli", b"node",
    b"paste", b"patch", b"read", b"reboot", b"reg", b"ren", b"return", b"rev", b"route", b"sc", b"script", b"seq",
    b"service", b"set", b"shift", b"shutdown", b"sort", b"source", b"split", b"start", b"stat", b"strings", b"su", b"sum",
    b"tail", b"test", b"time", b"timeout", b"top", b"touch", b"tr", b"trap", b"tree", b"true", b"type", b"users",
    b"ver", b"vol", b"w", b"wait", b"wall", b"watch", b"wc", b"whereis", b"which", b"who", b"yes",
];

static TOOL: Table<{ TOOLS.len() }> = Table::of(TOOLS);
static PLAIN_NAME: Table<{ PLAIN.len() }> = Table::of(PLAIN);
static AMBIGUOUS_NAME: Table<{ AMBIGUOUS.len() }> = Table::of(AMBIGUOUS);

/// What `word` is as a command; paths and `.exe` are looked through.
pub(super) fn command(word: &[u8]) -> Option<Command> {
    // A path begins at a root, a directory of programs or the one at hand: `author/id` is none.
    let path = matches!(word.first(), Some(b'/' | b'.' | b'~' | b'\\' | b'$'))
        || word.get(1) == Some(&b':')
        || [&b"bin/"[..], b"usr/", b"sbin/", b"system32\\", b"windows\\"].iter().any(|root| word.starts_with(root));
    let name = if path { word.rsplit(|byte| matches!(byte, b'/' | b'\\')).next().unwrap_or(word) } else { word };
    let name = name.strip_suffix(b".exe").unwrap_or(name);
    let known = if !name.first().is_some_and(u8::is_ascii_lowercase) {
        None // no program of the tables is named so
    } else if interpreter_with_version(name) || TOOL.holds(name) {
        Some(Command::Tool)
    } else if PLAIN_NAME.holds(name) {
        Some(Command::Plain)
    } else if AMBIGUOUS_NAME.holds(name) {
        Some(Command::Ambiguous)
    } else {
        None
    };
    if path && is_program_path(word) { known.max(Some(Command::Tool)) } else { known }
}

/// `python3.11`, `perl5`, `php8.2`.
fn interpreter_with_version(name: &[u8]) -> bool {
    if !name.last().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.') {
        return false;
    }
    let letters = name.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let (stem, version) = name.split_at(letters);
    !version.is_empty()
        && version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        && matches!(stem, b"python" | b"perl" | b"php" | b"ruby" | b"lua" | b"node")
}

/// A path into a directory of programs.
fn is_program_path(word: &[u8]) -> bool {
    const DIRECTORIES: [&[u8]; 9] = [
        b"/bin/",
        b"/sbin/",
        b"/usr/bin/",
        b"/usr/sbin/",
        b"/usr/local/bin/",
        b"/tmp/",
        b"/dev/shm/",
        b"c:\\windows\\system32\\",
        b"/var/tmp/",
    ];
    DIRECTORIES.iter().any(|directory| word.starts_with(directory) && word.len() > directory.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_to_be_searched() {
        for table in [TOOLS, PLAIN, AMBIGUOUS] {
            assert!(table.is_sorted());
            assert!(table.iter().all(|name| name[0].is_ascii_lowercase()));
        }
        assert_eq!(command(b"/usr/bin/id"), Some(Command::Tool));
        assert_eq!(command(b"python3.11"), Some(Command::Tool));
        assert_eq!(command(b"ls"), Some(Command::Plain));
        assert_eq!(command(b"find"), Some(Command::Ambiguous));
        assert_eq!(command(b"bicycle"), None);
    }
}
