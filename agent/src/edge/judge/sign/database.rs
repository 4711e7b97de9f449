//! Words of databases.

use super::Edge::{None, Start, Word};
use super::{Group, Places, evidence};
use crate::request::AttackClass::{Ldapi, Sqli};

/// The groups. One group a meaning; words are packed to be read as lists.
#[rustfmt::skip]
pub(super) const GROUPS: &[Group] = &[
    evidence(Sqli, 50, "names a table of the database's own catalogue", Places::QUERY, Start, &[
        "information_schema", "sysobjects", "syscolumns", "sysusers", "sysdatabases", "pg_catalog", "pg_tables",
        "pg_user", "pg_shadow", "mysql.user", "v$version", "v$instance", "all_tables", "user_tables", "all_users",
        "msysaccessobjects", "msysobjects", "sqlite_master", "master..", "msdb..", "syscat.", "sysibm.", "tempdb..",
        "dba_users", "user_tab_columns", "sys.user_objects", "sys.tab", "innodb_table_stats", "xmltype(", "rdb$",
    ]),
    evidence(Sqli, 50, "asks the database for its version or user", Places::QUERY, None, &[
        "@@version", "@@hostname", "@@datadir", "@@basedir", "@@servername", "@@identity", "@@global", "version()",
        "user()", "database()", "current_user()", "session_user()", "system_user()",
    ]),
    evidence(Sqli, 70, "calls a procedure that runs commands or sends data out", Places::QUERY, Start, &[
        "xp_cmdshell", "xp_regread", "xp_dirtree", "sp_oacreate", "sp_executesql", "sp_makewebtask", "dbms_pipe",
        "dbms_lock", "utl_http", "utl_inaddr", "dbms_ldap", "dbms_xmlgen", "xp_fileexist", "xp_regwrite",
        "xp_servicecontrol", "xp_availablemedia", "sp_password", "sp_addlogin",
    ]),
    evidence(Sqli, 60, "calls a delay of the database", Places::QUERY, Start, &[
        "pg_sleep(", "waitfor delay", "benchmark(", "sleep(__", "waitfor time", "randomblob(",
    ]),
    evidence(Sqli, 65, "provokes a database error that shows data", Places::QUERY, Start, &[
        "extractvalue(", "updatexml(", "procedure analyse", "floor(rand(", "rand(0)*2", "gtid_subset(", "json_keys(",
    ]),
    evidence(Sqli, 55, "has H2 or JDBC run a script", Places::QUERY, Start, &[
        "runscript from", "create alias", "init=runscript",
    ]),
    evidence(Sqli, 55, "wraps SQL in a version comment", Places::TARGET, None, &[
        "/*!0", "/*!1", "/*!2", "/*!3", "/*!4", "/*!5", "/*!select", "/*!union",
    ]),
    evidence(Sqli, 50, "casts a value as PostgreSQL does", Places::TARGET, Word, &[
        "::int", "::bool", "::double", "::bigint", "::text", "::json", "::jsonb", "::varchar", "::regclass",
        "::numeric", "::date", "::char",
    ]),
    evidence(Sqli, 50, "reaches into a JSON column", Places::TARGET, None, &[
        "->>'", "->'$", "@>'", "<@'", "#>>'", "#>'", "#> '", "@> '", "<@ '", "->> '", "' ? '", "json_extract(", "'$.",
        "?| array[", "?& array[",
    ]),
    evidence(Sqli, 35, "puts a comment between two words", Places::QUERY, None, &[
        "/**/",
    ]),
    evidence(Ldapi, 55, "contains a directory filter", Places::QUERY, None, &[
        "*()|", "*)(|", "(objectclass=", "(uid=*", "(cn=*",
    ]),
    evidence(Ldapi, 50, "contains an XPath expression", Places::QUERY, None, &[
        "count(/", "child::", "descendant::", "parent::", "ancestor::", "following-sibling::", "name()=", "local-name(", "text()=",
    ]),
];
