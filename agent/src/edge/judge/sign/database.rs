//! Words of databases.

use super::Edge::{None, Searched, Start, Typed, Word};
use super::{Group, Places, evidence};
use crate::request::AttackClass::{Ldapi, Nosqli, Sqli};

/// The groups. One group a meaning; words are packed to be read as lists.
#[rustfmt::skip]
pub(super) const GROUPS: &[Group] = &[
    evidence(Sqli, 50, "names a table of the database's own catalogue", Places::QUERY, Searched, &[
        "information_schema", "sysobjects", "syscolumns", "sysusers", "sysdatabases", "pg_catalog", "pg_tables",
        "pg_user", "pg_shadow", "mysql.user", "v$version", "v$instance", "all_tables", "user_tables", "all_users",
        "msysaccessobjects", "msysobjects", "sqlite_master", "master..", "msdb..", "syscat.", "sysibm.", "tempdb..",
        "dba_users", "user_tab_columns", "sys.user_objects", "sys.tab", "innodb_table_stats", "xmltype(", "rdb$",
    ]),
    evidence(Sqli, 50, "asks the database for its version or user", Places::QUERY, Start, &[
        "print @@", "@@version", "@@hostname", "@@datadir", "@@basedir", "@@servername", "@@identity", "@@global", "version()",
        "user()", "database()", "current_user()", "session_user()", "system_user()",
    ]),
    evidence(Sqli, 70, "calls a procedure that runs commands or sends data out", Places::QUERY, Searched, &[
        "xp_cmdshell", "xp_regread", "xp_dirtree", "sp_oacreate", "sp_executesql", "sp_makewebtask", "dbms_pipe",
        "dbms_lock", "utl_http", "utl_inaddr", "dbms_ldap", "dbms_xmlgen", "xp_fileexist", "xp_regwrite",
        "xp_servicecontrol", "xp_availablemedia", "sp_password", "sp_addlogin",
    ]),
    evidence(Sqli, 50, "adds a condition that compares constants", Places::QUERY, None, &[
        "and 1=1", "or 1=1", "and 1=2", "and 1=0", "or 1=2",
    ]),
    evidence(Sqli, 60, "calls a delay of the database", Places::QUERY, Start, &[
        "shutdown with nowait", "pg_sleep(", "waitfor delay '", "waitfor delay \"", "waitfor delay 0", "waitfor delay(", "waitfor delay @", "sleep(__", "waitfor time", "randomblob(",
    ]),
    evidence(Sqli, 65, "provokes a database error that shows data", Places::QUERY, Start, &[
        "extractvalue(", "updatexml(", "procedure analyse", "floor(rand(", "rand(0)*2", "gtid_subset(", "json_keys(",
    ]),
    evidence(Sqli, 55, "has H2 or JDBC run a script", Places::QUERY, Start, &[
        "runscript from", "init=runscript", "create alias if", "create alias exec", "create alias shell",
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
    evidence(Nosqli, 55, "contains a script for a document database", Places::QUERY, None, &[
        ";return true", "; return true", ";return(true)", "; return this", ";return this", "'a'=='a", "return ''==", "return '' ==", "return \"\"==", "|| '1'=='1", "||'1'=='1",
        "\"a\"==\"a", "||1==1", "|| 1==1", ";sleep(", "; sleep(", "tojsononeline(", "db.getname", "db.getcollection", "db.stats(",
        "db.version(", "objectid.gettimestamp", "$where:", "'$where'", "\"$where\"",
    ]),
    evidence(Nosqli, 55, "contains a statement for a graph database", Places::QUERY, None, &[
        "detach delete", "union match (", "match (n) ", "load csv from", "call db.labels(", "call dbms.", "call apoc.",
    ]),
    evidence(Ldapi, 55, "contains a directory filter", Places::QUERY, None, &[
        "*()|", "))\0", ":2.5.13.", "*)(|", "(uid=*", "(cn=*", "*(|(", "*(&(", "*(!(", "*))\0", "*)\0", "(|(uid=", "(&(uid=",
        "(userpassword=", "(mail=*", "(sn=*",
    ]),
    evidence(Ldapi, 55, "contains a directory filter", Places::QUERY, Typed, &["(objectclass="]),
    evidence(Ldapi, 50, "contains an XPath expression", Places::QUERY, Typed, &["count(/"]),
    evidence(Sqli, 50, "nests a word in itself, for a filter to take out", Places::QUERY, None, &[
        "uniunionon", "ununionion", "unionunion", "selselectect", "seselectlect", "sselectelect", "selecselectt", "oorr ",
        "anandd ", "aandnd ", "frfromom", "whwhereere", "uunionnion", "ororder by",
    ]),
    evidence(Ldapi, 50, "contains an XPath expression", Places::QUERY, None, &[ "child::", "descendant::", "parent::", "ancestor::", "following-sibling::", "name()=", "local-name(", "text()=",
        "string-length(", "substring(//", "substring(name(", "name(/*", "name(//", "] | //", "]|//", "*[1=", "//*[", "position()=",
        "normalize-space(", "doc-available(", "doc('http", "doc(\"http", "unparsed-text('", "unparsed-text(", "/text()", "last()]", "//user[", "/..[", "or count(/",
    ]),
];
