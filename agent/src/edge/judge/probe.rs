//! Looking for what should not be there: hidden files, and script names that pass commands.

use super::finding::Findings;
use super::marks::Marks;
use super::target::{Part, Place};
use super::traversal::is_viewer;
use crate::request::AttackClass::{AuthBypass, Deserialization, Probe, Webshell};

/// Names with a dot in front that are meant to be served (RFC 8615), or hide nothing.
const SERVED: &[&[u8]] = &[b".well-known", b".net"];

/// Ends of files that sites serve from hidden folders of their own.
const ASSETS: &[&[u8]] =
    &[b".png", b".jpg", b".jpeg", b".gif", b".svg", b".css", b".js", b".woff", b".woff2", b".ico", b".webp"];

/// Hidden folders whose content is never an asset.
const TOOLS: &[&[u8]] = &[
    b".git", b".svn", b".hg", b".bzr", b".idea", b".vscode", b".ssh", b".aws", b".claude", b".cursor", b".kiro",
    b".docker", b".kube",
];

/// Judges one part.
pub(super) fn judge(part: &Part<'_>, found: &mut Findings) {
    match part.place {
        Place::Path => {
            judge_hidden(part, found);
            judge_log(part, found);
            judge_archive(part, found);
            judge_route(part, found);
            judge_properties(part, found);
            judge_names(part, found);
            judge_script(part, found);
            judge_program(part, found);
        }
        Place::Value if part.marks.any(Marks::BRACE.and(Marks::QUOTE)) => judge_serialized(part, found),
        _ => {}
    }
    if part.marks.any(Marks::HIGH) && part.marks.any(Marks::CONTROL) {
        judge_stream(part, found);
    }
}

/// A path that proxy and application may read differently: steps that go nowhere and are written as escapes (browsers
/// resolve even those before they send them), control characters behind a name.
fn judge_route(part: &Part<'_>, found: &mut Findings) {
    let text = part.lower;
    let idle = if part.marks.any(Marks::DOT) {
        text.split(|byte| *byte == b'/').filter(|segment| *segment == b".").count()
    } else {
        0
    };
    let cut = part.marks.any(Marks::CONTROL.and(Marks::SPACE))
        && text.split(|byte| *byte == b'/').any(|segment| {
            segment.len() > 1 && segment.last().is_some_and(|byte| *byte < 0x20 && !matches!(byte, b'\r' | b'\n'))
        });
    // `/;/admin`: an empty name with a parameter, which only a session's has; `/admin..;/`.
    let mut named = false;
    let nameless = part.marks.any(Marks::SEMICOLON)
        && text.split(|byte| *byte == b'/').any(|segment| {
            let first = !named;
            named |= segment.contains(&b';');
            // `/users;.js`: an end of a file in place of a parameter.
            let end = part.pairs.may_hold(b";.")
                && memchr::memmem::find(segment, b";.").is_some_and(|at| segment.len() - at <= 7);
            first && segment.starts_with(b";") && !segment.starts_with(b";jsession") || end || segment.ends_with(b"..;")
        });
    let weight = match (idle, cut || nameless) {
        (_, true) => 50,
        (1.., _) if part.tricks.rounds > 0 => 50,
        (2.., _) => 50,
        _ => return,
    };
    let span = part.offset..part.offset + text.len();
    found.add(AuthBypass, weight, span, "is written so that a proxy and the application read its path differently");
}

/// What files are called that hold something to hide.
const SECRETS: &[&[u8]] = &[
    b"secret",
    b"secrets",
    b"credential",
    b"credentials",
    b"creds",
    b"password",
    b"passwords",
    b"passwd",
    b"pwd",
    b"apikey",
    b"apikeys",
    b"token",
    b"tokens",
    b"private",
    b"keys",
    b"wallet",
    b"connectionstrings",
    b"appsettings",
    b"dbconfig",
    b"database",
    b"users",
    b"db",
];

/// Ends of files that hold data.
const DATA: &[&[u8]] = &[
    b".json", b".yml", b".yaml", b".txt", b".xml", b".conf", b".config", b".dat", b".csv", b".log", b".toml", b".ini",
    b".cfg", b".env", b".zip", b".gz", b".tar",
];

/// `/creds.json`, `/api_keys.txt`, `/appsettings.production.json`: a file of data whose name says what it hides.
fn judge_names(part: &Part<'_>, found: &mut Findings) {
    if names_a_secret(part.lower) && !is_viewer(part.lower) {
        let span = part.offset..part.offset + part.lower.len();
        found.add(Probe, 55, span, "asks for a file that holds secrets, sources or backups");
    }
}

fn names_a_secret(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let Some(stem) = DATA.iter().find_map(|end| name.strip_suffix(*end)) else { return false };
    let words = || stem.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    // Three words at most: longer names are titles ("how-to-keep-passwords.txt").
    let named = words().take(4).count() < 4 && words().any(|word| SECRETS.contains(&word));
    // What interfaces call a list of things, and is one with them.
    let listed = matches!(name, b"users.json" | b"users.xml" | b"tokens.json" | b"keys.json");
    // Deeper down a site keeps data of its own under such names.
    named && !listed && path.iter().filter(|byte| **byte == b'/').count() <= 2
}

/// Longest path whose name is looked at without any syntax in it; what scanners ask for is short.
const MAX_PATH: usize = 128;

/// Whether the name at the end of `path` (as logged) is one of a secret or of a script that no site has: such paths need no
/// syntax and no telling word.
pub(super) fn could_hide(path: &[u8]) -> bool {
    let tail = &path[path.len().saturating_sub(8)..];
    let ends = tail.iter().rposition(|byte| *byte == b'.').is_some_and(|dot| {
        let mut end = [0; 8];
        let end = &mut end[..tail.len() - dot];
        end.copy_from_slice(&tail[dot..]);
        end.make_ascii_lowercase();
        end.starts_with(b".ph") || DATA.contains(&&*end)
    });
    let mut lower = [0; MAX_PATH];
    let Some(lower) = lower.get_mut(..path.len()).filter(|_| ends) else { return false };
    lower.copy_from_slice(path);
    lower.make_ascii_lowercase();
    names_a_secret(lower) || odd_script(lower).is_some()
}

/// How web shells are called, with a number or a mark behind it.
const SHELLS: &[&[u8]] = &[
    b"alfa",
    b"wso",
    b"r57",
    b"c99",
    b"c100",
    b"b374k",
    b"shell",
    b"webshell",
    b"indoxploit",
    b"xleet",
    b"marijuana",
    b"priv8",
    b"lock360",
    b"bypass",
    b"cmdshell",
    b"minishell",
    b"leafmailer",
    b"gelay",
    b"0byt3m1n1",
];

/// Scripts at the root of WordPress that belong to it.
const WORDPRESS: &[&[u8]] = &[
    b"wp-login",
    b"wp-cron",
    b"wp-comments-post",
    b"wp-signup",
    b"wp-activate",
    b"wp-trackback",
    b"wp-links-opml",
    b"wp-mail",
    b"wp-load",
    b"wp-settings",
    b"wp-blog-header",
    b"wp-config",
    b"wp-config-sample",
    b"wp-register",
    b"wp-pass",
    b"wp-feed",
    b"wp-rss",
    b"wp-rss2",
    b"wp-atom",
    b"wp-commentsrss2",
    b"wp-rdf",
    b"wp-app",
];

/// A script of PHP that no site has: called like a web shell, of one letter at the root, or where WordPress keeps none
/// that is called by itself.
fn judge_script(part: &Part<'_>, found: &mut Findings) {
    if let Some((weight, reason)) = odd_script(part.lower) {
        found.add(Webshell, weight, part.offset..part.offset + part.lower.len(), reason);
    }
}

/// Folders from which old servers ran programs.
const PROGRAM_FOLDERS: &[&[u8]] = &[b"/cgi", b"/fcgi", b"/htbin/", b"/scripts/", b"cgi/"];

/// `/cgi-bin/x.exe`, `/scripts/x.exe/y`: a program of Windows in a folder of scripts.
fn judge_program(part: &Part<'_>, found: &mut Findings) {
    if !part.pairs.may_hold(b".exe") {
        return;
    }
    let program =
        memchr::memmem::find(part.lower, b".exe").filter(|at| matches!(part.lower.get(at + 4), None | Some(b'/')));
    let within = |at: &usize| {
        let folder = &part.lower[..*at];
        folder.starts_with(b"/bin/") || PROGRAM_FOLDERS.iter().any(|name| memchr::memmem::find(folder, name).is_some())
    };
    if let Some(at) = program.filter(within) {
        found.add(Probe, 50, part.offset..part.offset + at + 4, "looks for a program that a server would run");
    }
}

fn odd_script(text: &[u8]) -> Option<(u8, &'static str)> {
    let slash = text.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (folder, name) = text.split_at(slash);
    let dot = memchr::memmem::find(name, b".ph")?;
    let (stem, end) = name.split_at(dot);
    if !matches!(end, b".php" | b".php5" | b".php7" | b".php8" | b".phtml" | b".phar" | b".php4" | b".php3") {
        return None;
    }
    let root = folder == b"/";
    let called = SHELLS.iter().any(|shell| {
        stem.strip_prefix(*shell).is_some_and(|rest| rest.first().is_none_or(|byte| !byte.is_ascii_alphabetic()))
    });
    let letter = root && stem.len() == 1;
    let foreign = root && stem.starts_with(b"wp-") && !WORDPRESS.contains(&stem);
    let within = |inner: &[u8]| memchr::memmem::find(folder, inner).is_some();
    let mute = within(b"/wp-includes/") && !within(b"/tinymce/") && stem != b"ms-files"
        || [
            &b"/wp-admin/css/"[..],
            b"/wp-admin/js/",
            b"/wp-admin/images/",
            b"/wp-admin/includes/",
            b"/wp-admin/maint/",
        ]
        .iter()
        .any(|folder| within(folder))
        || within(b"/wp-content/themes/")
        || within(b"/wp-content/uploads/")
        || folder.ends_with(b"/wp-content/plugins/")
        || folder.ends_with(b"/wp-content/")
        || within(b"/.well-known/");
    match (called || foreign, mute, letter) {
        (true, ..) => Some((55, "calls a page named like a web shell")),
        (_, true, _) => Some((50, "calls a script where none is called by itself")),
        (_, _, true) => Some((45, "calls a page named like a web shell")),
        _ => None,
    }
}

/// A `.properties` file of Java: configuration, unless its name or folder says that it holds translations.
fn judge_properties(part: &Part<'_>, found: &mut Findings) {
    const TRANSLATIONS: [&[u8]; 8] =
        [b"i18n", b"l10n", b"locale", b"lang", b"message", b"bundle", b"translation", b"nls"];
    let text = part.lower;
    let translated = || TRANSLATIONS.iter().any(|word| memchr::memmem::find(text, word).is_some());
    if text.ends_with(b".properties") && !translated() && !is_viewer(text) {
        let span = part.offset..part.offset + text.len();
        found.add(Probe, 55, span, "asks for a file that holds secrets, sources or backups");
    }
}

/// The magic bytes of a serialized object, written out: Java's stream (0xACED, version 5).
fn judge_stream(part: &Part<'_>, found: &mut Findings) {
    if let Some(at) = memchr::memmem::find(part.text, b"\xAC\xED\x00\x05") {
        let span = part.offset + at..part.offset + at + 4;
        found.add(Deserialization, 70, span, "carries a serialized object of Java");
    }
}

/// A path segment that begins with a dot: configuration of tools, repositories, keys.
fn judge_hidden(part: &Part<'_>, found: &mut Findings) {
    let text = part.lower;
    for at in part.find_all(b"/.").take(8) {
        let segment = text[at + 1..].split(|byte| *byte == b'/').next().unwrap_or_default();
        let named = segment.get(1).is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
        let asset = ASSETS.iter().any(|end| text.ends_with(end)) && !TOOLS.contains(&segment);
        if named && !asset && !SERVED.contains(&segment) && !is_viewer(&text[..at + 1]) {
            let span = part.offset + at..part.offset + at + 1 + segment.len();
            found.add(Probe, 60, span, "asks for a hidden file");
            return;
        }
    }
}

/// A `.log` in a folder of logs.
fn judge_log(part: &Part<'_>, found: &mut Findings) {
    if !part.lower.ends_with(b".log") {
        return;
    }
    let folder = [&b"/log/"[..], b"/logs/", b"/syslog/"].iter().any(|folder| part.holds(folder));
    if folder {
        found.add(Probe, 55, part.offset..part.offset + part.lower.len(), "asks for a log");
    }
}

/// Packed files, longest ends first.
const ARCHIVES: &[&[u8]] = &[
    b".tar.gz",
    b".tar.bz2",
    b".tar.xz",
    b".sql.gz",
    b".sql.zip",
    b".zip",
    b".rar",
    b".tar",
    b".tgz",
    b".7z",
    b".gz",
    b".bz2",
    b".war",
    b".bak",
    b".sql",
];

/// What people name a copy of a whole site or its database.
const COPIES: &[&[u8]] = &[
    b"backup",
    b"backups",
    b"bak",
    b"bck",
    b"www",
    b"wwwroot",
    b"web",
    b"website",
    b"site",
    b"sites",
    b"db",
    b"data",
    b"database",
    b"dump",
    b"mysql",
    b"sql",
    b"html",
    b"htdocs",
    b"public_html",
    b"public",
    b"root",
    b"source",
    b"src",
    b"code",
    b"old",
    b"new",
    b"admin",
    b"test",
    b"upload",
    b"uploads",
    b"app",
    b"api",
    b"application",
    b"home",
    b"files",
    b"archive",
    b"all",
    b"full",
    b"wp",
    b"wordpress",
    b"joomla",
    b"users",
    b"index",
    b"config",
    b"configs",
    b"prod",
    b"production",
    b"dev",
    b"staging",
    b"ftp",
    b"webroot",
    b"server",
    b"local",
    b"localhost",
    b"store",
    b"shop",
    b"blog",
    b"export",
    b"temp",
    b"tmp",
    b"log",
    b"logs",
];

/// Ends of single files that sites serve packed: `/sitemap.xml.gz`.
const PAGES: &[&[u8]] = &[b".xml", b".js", b".css", b".svg", b".json", b".html", b".txt", b".map", b".wasm"];

/// What a copy is called whatever it is a copy of.
const COPIED: &[&[u8]] = &[b"backup", b"backups", b"bak", b"dump", b"sql", b"database"];

/// A packed copy of a site at its root: `/www.rar`, `/1.zip`, `/db_backup.sql.gz`, `/shop.example.tar`.
fn judge_archive(part: &Part<'_>, found: &mut Findings) {
    let Some(name) = part.lower.strip_prefix(b"/").filter(|name| !name.contains(&b'/') && name.len() < 64) else {
        return;
    };
    let Some(stem) = ARCHIVES.iter().find_map(|end| name.strip_suffix(*end)) else { return };
    let known = stem.split(|byte| !byte.is_ascii_alphabetic()).any(|word| COPIES.contains(&word));
    let domain = stem.iter().filter(|byte| **byte == b'.').count() > 0
        && stem.iter().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'.' | b'-'));
    let year = stem.len() <= 4 && stem.iter().all(u8::is_ascii_digit);
    let page = PAGES.iter().any(|end| stem.ends_with(end));
    let copied = stem.split(|byte| !byte.is_ascii_alphabetic()).any(|word| COPIED.contains(&word));
    if copied || !page && (known || domain || year || stem.len() <= 2) {
        found.add(Probe, 55, part.offset..part.offset + part.lower.len(), "asks for a packed copy of a site");
    }
}

/// `O:8:"stdClass":…`, `a:1:{…`: PHP's serialization format, `C:` and `E:` included.
fn judge_serialized(part: &Part<'_>, found: &mut Findings) {
    let text = part.lower;
    for at in memchr::memmem::find_iter(text, b":").take(16) {
        let Some(&kind) = at.checked_sub(1).and_then(|before| text.get(before)) else { continue };
        let boundary = at < 2 || !text[at - 2].is_ascii_alphanumeric();
        let digits = text[at + 1..].iter().take(10).take_while(|byte| byte.is_ascii_digit() || **byte == b'+').count();
        let opener = (text.get(at + 1 + digits), text.get(at + 2 + digits));
        let object = matches!(kind, b'o' | b'c' | b'e') && matches!(opener, (Some(b':'), Some(b'"' | b'\\')));
        let array = kind == b'a' && matches!(opener, (Some(b':'), Some(b'{')));
        if boundary && digits > 0 && (object || array) {
            let weight = if object { 65 } else { 55 };
            let span = part.offset + at - 1..part.offset + (at + 2 + digits).min(text.len());
            found.add(Deserialization, weight, span, "carries a serialized object of PHP");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::Target;
    use super::*;
    use crate::request::AccessRecord;
    use crate::timestamp::Timestamp;

    fn is_found(raw: &str) -> bool {
        let mut target = Target::default();
        let blank = AccessRecord::blank(Timestamp::default(), Timestamp::default());
        target.read(&AccessRecord { path_and_query: raw.as_bytes(), ..blank }, false);
        let mut found = Findings::default();
        target.parts().for_each(|part| judge(&part, &mut found));
        found.iter().next().is_some()
    }

    #[test]
    fn hidden_files_and_serialized_objects() {
        let check = |raw: &str, expected: bool| assert_eq!(is_found(raw), expected, "{raw}");
        check("/.env", true);
        check("/app/.git/config", true);
        check("/.well-known/acme-challenge/x", false);
        check("/a/./b", false);
        check("/a/../b", false);
        check("/x?y=O:8:%22stdClass%22:0:{}", true);
        check("/x?y=a:1:{i:0;i:1}", true);
        check("/x?y=ratio:16:9", false);
        check("/x?y=12:30:45", false);
        check("/x?y=%AC%ED%00%05sr", true);
    }

    #[test]
    fn names_tell_what_a_file_hides() {
        let check = |raw: &str, expected: bool| assert_eq!(is_found(raw), expected, "{raw}");
        check("/creds.json", true);
        check("/config/api_keys.txt", true);
        check("/appsettings.Production.json", true);
        check("/app/application.properties", true);
        check("/i18n/messages_de.properties", false);
        check("/blog/how-to-keep-your-passwords-safe.txt", false);
        check("/data/v1/static/users.json", false);
        check("/posts.json", false);
    }

    #[test]
    fn scripts_where_none_is_called() {
        let check = |raw: &str, expected: bool| assert_eq!(is_found(raw), expected, "{raw}");
        check("/alfa-rex.php7", true);
        check("/uploads/shell2024.php", true);
        check("/wp-22.php", true);
        check("/wp-includes/css/index.php", true);
        check("/wp-content/uploads/2024/x.php", true);
        check("/wp-login.php", false);
        check("/wp-admin/admin-ajax.php", false);
        check("/wp-includes/js/tinymce/wp-tinymce.php", false);
        check("/shellfish.php", false);
        check("/index.php", false);
    }

    #[test]
    fn routes_that_two_servers_read_differently() {
        let check = |raw: &str, expected: bool| assert_eq!(is_found(raw), expected, "{raw}");
        check("/admin/%2e/users", true);
        check("/;/admin", true);
        check("/api/users;.js", true);
        check("/admin%09/x", true);
        check("/app;jsessionid=A1/x", false);
        check("/;jsessionid=A1", false);
        check("/a;b=c/d;e=f", false);
        check("/activity;src=1;u=%2F;~oref=x", false);
    }
}
