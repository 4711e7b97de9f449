//! Files, panels and web shells that scanners look for.

use super::Edge::{End, None, Segment, Start};
use super::{Group, Places, evidence};
use crate::request::AttackClass::{Probe, Webshell};

/// The groups. One group a meaning; words are packed to be read as lists.
#[rustfmt::skip]
pub(super) const GROUPS: &[Group] = &[
    evidence(Webshell, 60, "calls a page named like a web shell", Places::PATH, Segment, &[
        "c99.php", "c100.php", "r57.php", "wso.php", "b374k.php", "alfa.php", "alfacgiapi", "shell.php", "shell.jsp",
        "shell.asp", "shell.aspx", "cmd.php", "cmd.jsp", "cmd.asp", "cmd.aspx", "cmdasp.asp", "cmdasp.aspx",
        "cmdjsp.jsp", "up.php", "x.jsp", "ss.jsp", "human2.aspx", "spinstall0.aspx", "tunnel.php", "tunnel.aspx",
        "tunnel.jsp", "zehir.asp", "zehir4.asp", "indoxploit.php", "mini.php", "webshell.php", "backdoor.php",
        "phpspy.php", "aspxspy.aspx", "aspydrv.asp", "efso.asp", "rootshell.php", "simple-backdoor.php",
        "php-backdoor.php", "php-reverse-shell.php", "weevely.php", "antichat.php", "elmaliseker.asp", "ntdaddy.asp",
        "remexp.asp", "spexec.aspx", "3fexe.asp", "tool.asp", "tool.aspx", "perlcmd.cgi", "cgitelnet.pl",
        "jspspy.jsp", "browser.jsp", "list.asp", "radhat.php", "xx.php", "doc.php", "ws.php", "wp-shell.php", "1.php",
        "0.php", "g6nshell.php", "nstview.php", "phantasma.php", "kacak.asp", "fso.asp", "reader.asp", "sql.aspx",
        "cmd.cfm", "cfexec.cfm", "jsp-reverse.jsp", "php-findsock-shell.php", "qsd-php-backdoor.php", "shell.cgi",
        "up.asp", "up.aspx", "zehir.aspx", "zehir4.aspx", "aspy.asp", "aspxsh.asp", "aspxshell.aspx", "cmdexec.aspx",
        "toolaspshell.asp", "cmd-asp-5.1.asp",
    ]),
    evidence(Probe, 60, "looks for a panel or a diagnostic page that should not be open", Places::PATH, Segment, &[
        "phpinfo.php", "info.php", "phpmyadmin", "_phpmyadmin", "adminer.php", "server-status", "server-info",
        "_profiler", "elmah.axd", "trace.axd", "jmx-console", "web-console", "manager/html", "actuator/env",
        "actuator/heapdump", "actuator/gateway", "actuator/jolokia", "jolokia", "debug/pprof", "debug/vars",
        "debug/default/view", "telescope/requests", "_ignition/health-check", "wp-config.php",
        "configuration.php.bak", "setup.php", "install.php", "test.php", "pi.php", "php.php", "status.cgi",
        "cgi-bin/test-cgi", "cgi-bin/printenv", "hnap1", "boaform", "gponform", "nice ports,", "wpad.dat",
        "sftp-config.json", "sftp.json", "webdav", "backup.zip", "backup.tar.gz", "backup.sql", "dump.sql", "db.sql",
        "database.sql", "www.zip", "site.zip", "web.zip", "passwd.txt", "passwords.txt", "users.txt",
        "credentials.txt", "credentials.json", "secrets.json", "secret.json", "id_rsa", "id_dsa", "id_ecdsa",
        "id_ed25519", "htpasswd", "htpasswd.bak", "spwd.db", "pwd.db", "db_dump.php", "docker-compose", "dockerfile",
        "vagrantfile", "jenkinsfile", "gruntfile.js", "gulpfile.js", "package-lock.json", "composer.lock",
        "composer.json", "yarn.lock", "gemfile", "gemfile.lock", "webpack.config.js", "next.config.js",
        "nuxt.config.js", "vite.config.js", "settings.py", "local_settings.py", "wp-cli.yml", "web.config",
        "app.config", "appsettings.json", "database.sqlite", "database.sqlite3", "production.sqlite3", "config.php",
        "deployment-config.json", "settings.php", "console", "thumbs.db", "desktop.ini", "winscp.ini",
        "filezilla.xml", "recentservers.xml", "wp-content/debug.log", "storage/logs/laravel.log",
        "cgi-bin/downloadcfg", "procfs", "cmdline", "environ", "sys/class", "proc/self", "ws_ftp.log",
        "svnserve.conf",
    ]),
    evidence(Probe, 55, "asks for a file that holds secrets, sources or backups", Places::PATH, End, &[
        ".bak", ".old", ".orig", ".save", ".swp", ".swo", "~", ".sql", ".sqlite", ".sqlite3", ".mdb", ".dump", ".env",
        ".cfg", ".cnf", ".pem", ".ppk", ".pfx", ".p12", ".jks", ".kdbx", ".keystore", ".htpasswd", ".htaccess",
        ".inc", ".toml", ".yml", ".key", ".properties", ".rdp", ".ovpn", ".tfstate", ".tfvars", ".bash_history",
        ".ini", ".yml.dist", ".php.dist", ".php~", ".backup", ".bkp", ".copy", ".tmp", ".db", ".mysql", ".psql",
        ".history", ".passwd", ".crt", ".csr", ".der", ".asc", ".gpg", ".sh_history", ".production", ".local",
        ".staging", ".development", ".example", ".dist", ".sample",
    ]),
    evidence(Probe, 55, "asks for a log or a server's configuration", Places::PATH, Segment, &[
        "debug.log", "error.log", "errors.log", "access.log", "laravel.log", "production.log", "development.log",
        "npm-debug.log", "yarn-error.log", "php_errors.log", "php_error.log", "install.log", "server.log",
        "application.log", "nginx.conf", "httpd.conf", "apache2.conf", "php-fpm.conf", "my.cnf", "redis.conf",
        "dnsmasq.conf", "svnserve.conf", "pg_hba.conf", "sshd_config", "affwp-debug.log", "parameters.yml", "debug/",
        "passwd", "wp-config-sample.php", "wp-config.bk", "wand.dat", "service-account-credentials.json",
        "jsconfig.json", "gunicorn.conf.py", "druid/index.html", "filesystembrowser.aspx", "fileupload.aspx",
        "wp-admin/setup-config.php", "password.jsn", "packages.config", "secret_token.rb", "config.rb",
        "cpanel.config", "debug.seam", "pass.dat", "actuator/httptrace", "appspec.yaml", "pipeline.yaml",
        "phinx.yaml", "backup.sql.zip",
    ]),
    evidence(Probe, 55, "asks for a log or a server's configuration", Places::PATH, End, &[
        "/lighttpd.conf", "/apache.conf", "/proftpd.conf", "/vsftpd.conf", "/smb.conf", "/slapd.conf", "/zebra.conf",
        "/ospfd.conf", "/bgpd.conf", "/lilo.conf", "/grub.conf", "/wvdial.conf", "/vtund.conf", "sphinx.conf",
        "/awstats.conf", "/fastcgi.conf", "/squid.conf", "/snmpd.conf", "/rsyncd.conf", "/xinetd.conf",
        "/syslog.conf", "/dovecot.conf", "/mongod.conf", "/supervisord.conf", "/main.cf", "/sys_user.conf",
        "debug.log", "error.log", "errors.log", "access.log", "password.log", "install.log", "sqlnet.log",
        "sendmail.log", "warn.log", "credentials.json", "client_secrets.json", "secrets.json", ".config.js",
        ".conf.js", "/local.xml", "/elmah", "-lock.yaml", "/pubspec.yaml", "/security.yaml", "-config.yaml",
        ".log.json.txt", "/config/config.json",
    ]),
    evidence(Probe, 55, "looks for a database's administration", Places::PATH, None, &[
        "phpmyadmin", "/pma/", "/myadmin/", "/mysqladmin", "server_import.php", "/sqlmanager", "/dbadmin",
    ]),
];
