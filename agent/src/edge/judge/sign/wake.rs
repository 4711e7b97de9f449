//! Words that are no evidence by themselves: they have a grammar look at the part they stand in, or name a file
//! that the traversal judge weighs.

use super::Edge::{Begin, End, Letters, None};
use super::{Group, Meaning, Places};

/// The groups. One group a meaning; words are packed to be read as lists.
#[rustfmt::skip]
pub(super) const GROUPS: &[Group] = &[
    Group { meaning: Meaning::Sql, places: Places::ANY, edge: Letters, words: &[
        "except", "intersect", "xor", "select", "union", "having", "waitfor", "insert", "exec", "execute", "declare",
        "drop", "delete", "procedure", "truncate", "alter", "shutdown", "rlike", "regexp", "concat", "sleep",
        "benchmark", "substring", "database", "md5", "cast", "convert", "order", "merge", "xp_cmdshell",
    ] },
    Group { meaning: Meaning::SqlBesides, places: Places::ANY, edge: Letters, words: &[
        "or", "and", "update", "case", "create", "like", "between", "ascii", "into", "limit", "begin", "char", "chr",
        "version", "is", "in", "if", "div", "binary", "group", "load",
    ] },
    Group { meaning: Meaning::Sql, places: Places::QUERY, edge: None, words: &[
        "||", "&&", "/*", "--", "@@", "';", "\";", ");",
    ] },
    Group { meaning: Meaning::Look, places: Places::QUERY, edge: None, words: &[
        "==", "/*", "__", "/log/", "/logs/", "cmd=", "command=", "exec=", "execute=", "shell=", "system=", "=bin/", "=usr/bin/",
        "=/usr/bin/", "phpinfo",
    ] },
    // Packed files: a copy of the whole site may be asked for.
    Group { meaning: Meaning::Look, places: Places::PATH, edge: End, words: &[
        ".exe", ".zip", ".rar", ".tar", ".tgz", ".7z", ".gz", ".bz2", ".war", ".properties",
    ] },
    Group { meaning: Meaning::Look, places: Places::TARGET, edge: None, words: &[
        "localhost", "169.254.", "127.", "lvh.me", "localtest.me", "ip6-", "ipv6-", "kubernetes.", ".internal",
        "instance-data", "-metadata", ".local", "100.100.100.200", "168.63.129.16", "192.0.0.192",
        "metadata.goog", "metadata.tencent", "metadata.packet", "metadata.platform", "metadata.azure", "metadata.oracle",
        "2852039166", "0xa9", "0251.", "025177524776", "425.510.", "fd00:", "fd20:", "fe80:",
    ] },
    Group { meaning: Meaning::Steps, places: Places::TARGET, edge: None, words: &[
        "..", "./", "/.", ".\\", "0x2e", "file:",
    ] },
    Group { meaning: Meaning::Steps, places: Places::QUERY, edge: Begin, words: &[
        "//etc", "//proc", "//root", "///etc", "///proc", "/./etc",
        "/etc", "/proc", "/var", "/root", "/usr", "/opt", "/home", "/boot", "/dev", "/sys", "/mnt", "/srv",
        "/private", "/system", "/library", "/volumes", "/apache", "/xampp", "/lampp", "/www", "/logs", "/log/",
        "/win", "/program", "/php", "/bin", "/sbin", "/run", "/inetpub", "/web/", "/nsconfig", "/tmp", "c:", "/c:",
        "/d:", "d:", "\\\\",
    ] },
    Group { meaning: Meaning::File, places: Places::QUERY, edge: Begin, words: &[".env", ".git/", ".ssh/", ".aws/", "~root/", "~/.ssh", "~/.aws", "~/.bash"] },
    Group { meaning: Meaning::File, places: Places::QUERY, edge: None, words: &[
        "/.env", "/.bashrc", "/.bash_profile", "/.git/", "/.aws/credentials", "/.kube/config", "/.docker/config", "/.ssh/",
        "/.npmrc", "/.netrc", "/.pgpass", "/.my.cnf", "/.profile", "/.zshrc",
    ] },
    Group { meaning: Meaning::File, places: Places::TARGET, edge: None, words: &[
        "etc/passwd", "etc/shadow", "etc/group", "etc/hosts", "etc/issue", "etc/motd", "etc/hostname", "etc/sudoers",
        "etc/fstab", "etc/crontab", "etc/resolv.conf", "etc/master.passwd", "etc/os-release", "sshd_config",
        "self/environ", "self/cmdline", "proc/version", "proc/cpuinfo", "self/fd", "self/maps", "proc/net/tcp",
        "boot.ini", "win.ini", "system32/", "system.ini", "autoexec.bat", "config.sys", "drivers/etc", "global.asa",
        "php.ini", "my.cnf", "my.ini", "httpd.conf", "apache2.conf", "nginx.conf", "web-inf", "meta-inf",
        "web.config", ".htaccess", ".htpasswd", ".passwd", ".bash_history", "id_rsa", "authorized_keys", "access_log",
        "access.log", "error_log", "error.log", "wp-config.php", "configuration.php", "config.inc.php",
        "database.yml", "ntuser.dat", "etc\\passwd", "system32\\", "etc\\hosts", "windows\\win", "etc2fpasswd",
        "etc%2fpasswd",
    ] },
];
