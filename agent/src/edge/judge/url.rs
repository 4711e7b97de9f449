//! URLs in parameters: requests forged from the server (SSRF), remote files included (RFI), wrappers of a language
//! runtime.
//!
//! Links to other sites are ordinary in parameters. What counts is where a URL leads when the *server* follows it,
//! how it is written, and whether the parameter is one that a script would include.

use std::net::IpAddr;
use std::ops::{ControlFlow, Range};
use std::sync::LazyLock;

use memchr::memmem;

use super::finding::{Finding, Findings, Ground};
use super::host::{self, Host, Reach};
use super::marks::Marks;
use super::prose;
use super::target::{Part, Place};
use super::words::Words;
use crate::request::AttackClass::{self, CodeInjection, Rfi, Ssrf, Traversal};

/// URLs of one part that are read to their end, and the most bytes of one; of those behind them the beginning is read:
/// padding hides nothing, and the work stays linear.
const LONG_URLS: usize = 32;
const MAX_URL: usize = 2048;
const SHORT_URL: usize = 64;

/// Longest scheme and longest host that are read: RFC 1035 ends a name at 255 bytes.
const MAX_SCHEME: usize = 16;
const MAX_HOST: usize = 255;

/// A URL found in a text.
#[derive(Clone, Debug)]
pub(super) struct Url {
    /// Where it stands in the text.
    pub(super) span: Range<usize>,
    /// Where its scheme ends; equal to the start when there is none.
    scheme: Range<usize>,
    /// Where its host stands, without user, brackets kept.
    pub(super) host: Range<usize>,
    userinfo: bool,
}

/// The URLs in `text` (lower case): `scheme://…`, `//host` at the beginning, `http:host`.
pub(super) fn urls(text: &[u8]) -> impl Iterator<Item = Url> + '_ {
    // URLs without a blank between them overlap: the blank is looked for once.
    let mut blank = 0;
    let absolute = memmem::find_iter(text, b":/").filter_map(move |colon| {
        let scheme = text[..colon]
            .iter()
            .rev()
            .take(MAX_SCHEME)
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-' | b'_'))
            .count();
        let slashes = text[colon + 1..].iter().take(4).take_while(|byte| matches!(byte, b'/' | b'\\')).count();
        (scheme > 0).then(|| read(text, colon - scheme..colon, colon + 1 + slashes, &mut blank))
    });
    let opaque = [&b"http:"[..], b"https:"]
        .into_iter()
        .filter(|scheme| text.starts_with(scheme) && text.get(scheme.len()).is_some_and(|byte| *byte != b'/'))
        .map(|scheme| {
            let slashes = text[scheme.len()..].iter().take(4).take_while(|byte| **byte == b'\\').count();
            read(text, 0..scheme.len() - 1, scheme.len() + slashes, &mut 0)
        });
    let slashes = text.iter().take(4).take_while(|byte| matches!(byte, b'/' | b'\\')).count();
    let relative = (slashes >= 2).then(|| read(text, 0..0, slashes, &mut 0));
    opaque
        .chain(relative)
        .chain(absolute)
        .enumerate()
        .map(|(number, url)| url.cut(if number < LONG_URLS { MAX_URL } else { SHORT_URL }))
}

impl Url {
    /// At most `longest` bytes of it behind its host.
    fn cut(mut self, longest: usize) -> Self {
        self.span.end = self.span.end.min(self.host.end + longest).max(self.host.end);
        self
    }
}

/// Reads one URL; `blank` is the first place behind the last URL that may end one, or one before `authority`.
fn read(text: &[u8], scheme: Range<usize>, authority: usize, blank: &mut usize) -> Url {
    let rest = &text[authority.min(text.len())..];
    let stop = |byte: &u8| {
        matches!(
            byte,
            b'/' | b'?'
                | b'#'
                | b'\\'
                | b' '
                | b'"'
                | b'\''
                | b'<'
                | b'>'
                | b'`'
                | b')'
                | b'}'
                | b';'
                | b'|'
                | b'\n'
                | b'\r'
                | 0
        )
    };
    let rest = &rest[..rest.len().min(MAX_HOST * 2 + MAX_URL)];
    let length = rest.iter().take(MAX_HOST * 2).position(stop).unwrap_or(rest.len().min(MAX_HOST * 2));
    let (user, host) = match memchr::memrchr(b'@', &rest[..length]) {
        Some(at) => (true, &rest[at + 1..length]),
        None => (false, &rest[..length]),
    };
    let host_start = authority + length - host.len();
    let host_length = match host.first() {
        Some(b'[') => memchr::memchr(b']', host).map_or(host.len(), |end| end + 1),
        _ => memchr::memchr(b':', host).unwrap_or(host.len()),
    };
    let space = |byte: &u8| matches!(byte, b' ' | b'"' | b'\'' | b'<' | b'>' | b'`' | b'\n');
    let authority = authority.min(text.len());
    if *blank < authority {
        *blank = authority + text[authority..].iter().position(space).unwrap_or(text.len() - authority);
    }
    let end = (*blank).min(authority + rest.len());
    Url { span: scheme.start..end, scheme, host: host_start..host_start + host_length.min(MAX_HOST), userinfo: user }
}

/// Judges one part.
pub(super) fn judge(part: &Part<'_>, found: &mut Findings) {
    if part.place == Place::Referer {
        return;
    }
    let relative = matches!(part.lower, [b'/' | b'\\', b'/' | b'\\', ..]);
    if part.pairs.may_hold(b":/") || relative || part.lower.starts_with(b"http") {
        judge_urls(part, found);
    }
    match part.place {
        Place::Value => judge_bare_host(part, found),
        Place::Path => judge_route(part, found),
        _ => {}
    }
}

/// Segments of a path that are looked at: a proxy's route names its host in one of the first.
const MAX_SEGMENTS: usize = 16;

/// `/proxy/169.254.169.254/latest`: a metadata endpoint as a step of the path, where proxies take the host from.
fn judge_route(part: &Part<'_>, found: &mut Findings) {
    let mut start = 0;
    let mut read = 0;
    for segment in part.lower.split(|byte| *byte == b'/') {
        if read == MAX_SEGMENTS {
            return;
        }
        read += usize::from(!segment.is_empty());
        let name = match segment.first() {
            Some(b'[') => memchr::memchr(b']', segment).map_or(segment, |end| &segment[..=end]),
            _ => segment.split(|byte| *byte == b':').next().unwrap_or_default(),
        };
        // A word without a dot is a page of that name.
        let dotted = name.contains(&b'.') || matches!(name.first(), Some(b'[' | b'0'..=b'9'));
        let host = dotted && (5..=MAX_HOST).contains(&name.len());
        let understood = host.then(|| host::classify(name));
        if let Some(understood) = understood.filter(|host| host.reach == Reach::Metadata) {
            let at = part.offset + start;
            return weigh_host(part, understood, at..at + segment.len(), found);
        }
        start += segment.len() + 1;
    }
}

fn judge_urls(part: &Part<'_>, found: &mut Findings) {
    for url in urls(part.lower) {
        judge_scheme(part, &url, found);
        judge_destination(part, &url, found);
        judge_inclusion(part, &url, found);
    }
}

/// Schemes that no link in a web page has.
fn judge_scheme(part: &Part<'_>, url: &Url, found: &mut Findings) {
    let span = part.offset + url.span.start..part.offset + url.span.end;
    // "dict:// url scheme": a scheme that somebody asks about.
    if part.lower[url.scheme.end..url.span.end].iter().all(|byte| matches!(byte, b':' | b'/'))
        && part.lower.get(url.span.end) == Some(&b' ')
    {
        return;
    }
    let (class, weight, reason): (AttackClass, u8, &'static str) = match &part.lower[url.scheme.clone()] {
        b"gopher" | b"dict" | b"netdoc" | b"tftp" | b"ldap" | b"ldaps" | b"sftp" | b"imap" | b"pop3" | b"smb"
        | b"unix" | b"local_file" | b"local-file" | b"rsync" | b"irc" => {
            (Ssrf, 60, "makes the server speak another protocol")
        }
        b"jar" => (Ssrf, 55, "makes the server open an archive by URL"),
        b"php" | b"phar" | b"expect" | b"zip" | b"glob" | b"zlib" | b"compress.zlib" | b"compress.bzip2" | b"ogg"
        | b"rar" | b"data" | b"ssh2.shell" | b"ssh2.exec" | b"ssh2.tunnel" | b"ssh2.sftp" | b"ssh2.scp" => {
            (CodeInjection, 65, "opens a stream wrapper of PHP")
        }
        b"file" => (Traversal, 55, "opens a local file by URL"),
        _ => return,
    };
    found.add(class, weight, span, reason);
}

/// Where the server would go.
fn judge_destination(part: &Part<'_>, url: &Url, found: &mut Findings) {
    let name = &part.lower[url.host.clone()];
    let host = host::classify(name);
    let span = part.offset + url.span.start..part.offset + url.span.end;
    weigh_host(part, host, span.clone(), found);
    // A name without a dot and with a port is one that only the network around the server knows.
    let web = matches!(&part.lower[url.scheme.clone()], b"http" | b"https" | b"ftp");
    let short = name.len() > 1 && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let port = matches!(part.lower.get(url.host.end..), Some([b':', digit, ..]) if digit.is_ascii_digit());
    if host.reach == Reach::Name && web && short && port && !redirects(part.name) {
        found.add(Ssrf, 50, span.clone(), "points the server at the network around it");
    }
    if url.userinfo && host.address.is_some() {
        found.add(Ssrf, 30, span.clone(), "hides a host behind a user name");
    }
    let after = &part.lower[url.host.end..url.span.end];
    if part.lower[url.host.start..url.span.end].starts_with(b"\\") && url.scheme.end > url.scheme.start
        || after.starts_with(b"\\@")
        || after.starts_with(b"#@")
        || memmem::find(after, b" @").is_some()
    {
        found.add(Ssrf, 50, span, "is written so that parsers disagree about its host");
    }
}

fn weigh_host(part: &Part<'_>, host: Host, span: Range<usize>, found: &mut Findings) {
    // What people look for is not fetched either.
    let redirects =
        redirects(part.name) || prose::is_free_text(part.name) || prose::goes_on(&part.lower[span.end - part.offset..]);
    let (weight, reason, reference) = match host.reach {
        Reach::Metadata => (90, "points the server at a cloud metadata endpoint", Some("CWE-918")),
        Reach::CallbackService => (60, "points the server at a service that records callbacks", Some("CWE-918")),
        // A developer's OAuth redirect to localhost is followed by the browser, not by the server.
        Reach::Loopback if redirects && !host.disguised => (25, "points the server at itself", None),
        Reach::Loopback => (60, "points the server at itself", Some("CWE-918")),
        Reach::Private if host.disguised => {
            (65, "points the server at a name that resolves to the inside", Some("CWE-918"))
        }
        // A redirect into a company's own network is followed by the browser too.
        Reach::Private if redirects => (35, "points the server at the network around it", None),
        Reach::Private => (50, "points the server at the network around it", None),
        Reach::PublicAddress if host.disguised || matches!(host.address, Some(IpAddr::V6(_))) => {
            (50, "writes an address so that filters do not see it", None)
        }
        Reach::PublicAddress | Reach::Name => return,
    };
    found.put(Finding { ground: Ground::Class(Ssrf), weight, span: span.clone(), reason, reference });
    if host.disguised && matches!(host.reach, Reach::Metadata | Reach::Loopback) {
        found.add(Ssrf, 30, span, "writes an address so that filters do not see it");
    }
}

/// Whether the browser, not the server, is sent to the URL in a parameter of this name.
fn redirects(name: &[u8]) -> bool {
    REDIRECT_NAMES.contains(&name) || name.starts_with(b"redir") || name.ends_with(b"redirect")
}

/// Parameters whose URL the browser is sent to.
const REDIRECT_NAMES: &[&[u8]] = &[
    b"redirect_uri",
    b"redirect_url",
    b"redirect",
    b"redirecturi",
    b"redirecturl",
    b"return",
    b"return_to",
    b"returnto",
    b"returnurl",
    b"return_url",
    b"next",
    b"continue",
    b"callback_url",
    b"post_logout_redirect_uri",
    b"success_url",
    b"cancel_url",
    b"origin",
    b"referrer",
    b"referer",
    b"ref",
];

/// A value that is a host without a scheme: `169.254.169.254/latest`, `localhost:8080/`, `x.oast.fun`.
fn judge_bare_host(part: &Part<'_>, found: &mut Findings) {
    let length = part
        .lower
        .iter()
        .take(MAX_HOST)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        .count();
    let (host, rest) = part.lower.split_at(length);
    let follows = rest.first().copied();
    if length < 4
        || !matches!(follows, None | Some(b'/' | b':' | b'?' | b'#'))
        || part.lower[length..].starts_with(b"://")
    {
        return;
    }
    let dotted = host.contains(&b'.');
    let understood = host::classify(host);
    // A number alone is an id, not an address; a word alone is a word unless a path or port follows.
    let is_host = match understood.reach {
        Reach::Metadata | Reach::CallbackService => dotted,
        Reach::Loopback if part.marks.any(Marks::SPACE) || follows.is_none() && !fetches(part.name) => false,
        Reach::Loopback => {
            dotted && !understood.disguised
                || follows == Some(b'/') && (host.starts_with(b"l") || host.starts_with(b"ip"))
                || host.ends_with(b"localhost") && follows.is_some()
        }
        // `10.0.0.0/8` is a network, no path; `10.0.0.5:9100` answers other questions too.
        Reach::Private if follows == Some(b':') => dotted && fetches(part.name),
        Reach::Private => dotted && follows == Some(b'/') && !is_network(rest),
        Reach::PublicAddress | Reach::Name => false,
    };
    if is_host {
        weigh_host(part, understood, part.offset..part.offset + part.lower.len(), found);
    }
}

/// `/16`: the length of a network's prefix, and nothing else.
fn is_network(rest: &[u8]) -> bool {
    rest.strip_prefix(b"/").is_some_and(|length| {
        let digits = length.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (1..=2).contains(&digits) && length.get(digits).is_none_or(|byte| *byte == b' ')
    })
}

/// Whether a parameter of this name holds what a server calls: an address alone is an answer to many questions.
fn fetches(name: &[u8]) -> bool {
    const STEMS: [&[u8]; 18] = [
        b"url",
        b"uri",
        b"host",
        b"target",
        b"dest",
        b"src",
        b"server",
        b"site",
        b"domain",
        b"ip",
        b"addr",
        b"link",
        b"proxy",
        b"fetch",
        b"hook",
        b"feed",
        b"endpoint",
        b"remote",
    ];
    STEMS.iter().any(|stem| memmem::find(name, stem).is_some()) || name == b"u"
}

/// A URL in a parameter that a script would include.
fn judge_inclusion(part: &Part<'_>, url: &Url, found: &mut Findings) {
    if part.place != Place::Value
        || url.span.start > 2
        || !matches!(&part.lower[url.scheme.clone()], b"http" | b"https" | b"ftp" | b"ftps" | b"")
    {
        return;
    }
    let tail = part.lower.get(url.host.end..).unwrap_or_default();
    let tail = &tail[..tail.len().min(MAX_URL)];
    let cut = tail.ends_with(b"?")
        || part.tricks.nul
        || memmem::find(tail, b"??").is_some()
        || tail.ends_with(b"?a=")
        || memchr::memchr(b'?', tail).is_some_and(|at| at + 1 < tail.len() && !tail[at..].contains(&b'='));
    let document = tail.split(|byte| *byte == b'?').next().unwrap_or(tail);
    let points = [
        (includes(part.name), 35),
        (is_script(part.path), 15),
        (cut && is_script(part.path), 30),
        ([&b".txt"[..], b".php", b".inc", b".dat"].iter().any(|end| document.ends_with(end)), 20),
        (SHELL_FILES.iter().any(|name| file_stem(document) == *name), 20),
        (host::classify(&part.lower[url.host.clone()]).address.is_some(), 25),
        (part.lower[url.scheme.clone()].starts_with(b"ftp"), 40),
        (part.name.starts_with(b"globals[") || part.name.starts_with(b"_"), 25),
        (part.name.contains(&b'['), 20),
        (part.holds(b"pastebin.com/raw"), 20),
        (part.text[..url.span.start].contains(&b'='), 20),
    ];
    let weight: u32 = points.iter().filter(|(holds, _)| *holds).map(|(_, points)| points).sum();
    let span = part.offset + url.span.start..part.offset + url.span.end;
    found.add(Rfi, u8::try_from(weight.min(80)).unwrap_or(80), span, "gives a script a remote file to include");
}

/// Parameter names that scripts pass to `include`: they speak of paths, files, pages and parts.
fn includes(name: &[u8]) -> bool {
    const STEMS: [&str; 22] = [
        "path", "inc", "root", "dir", "file", "page", "lib", "class", "templ", "theme", "conf", "modul", "plugin",
        "skin", "lang", "base", "folder", "src_", "script", "body", "content", "load",
    ];
    static WORDS: LazyLock<Words> = LazyLock::new(|| Words::new(STEMS));
    WORDS.walk(name, |_| ControlFlow::Break(())) && !redirects(name)
}

/// Whether `path` ends in a server-side script.
fn is_script(path: &[u8]) -> bool {
    const ENDS: [&[u8]; 9] = [b".php", b".php3", b".php4", b".php5", b".phtml", b".asp", b".cgi", b".pl", b".cfm"];
    ENDS.iter().any(|end| path.ends_with(end))
}

/// Names that files with a shell in them are served under.
const SHELL_FILES: &[&[u8]] = &[
    b"shell",
    b"cmd",
    b"c99",
    b"r57",
    b"x",
    b"id",
    b"evil",
    b"backdoor",
    b"b374k",
    b"wso",
    b"c100",
    b"phpshell",
    b"safe",
    b"test",
    b"inject",
    b"rfi",
];

fn file_stem(document: &[u8]) -> &[u8] {
    let name = document.rsplit(|byte| *byte == b'/').next().unwrap_or(document);
    name.split(|byte| *byte == b'.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::super::decode::Tricks;
    use super::super::marks::marks_of;
    use super::*;

    fn verdict(path: &str, name: &str, text: &str) -> Option<AttackClass> {
        let lower = text.to_ascii_lowercase();
        let part = Part {
            place: Place::Value,
            text: text.as_bytes(),
            lower: lower.as_bytes(),
            offset: 0,
            name: name.as_bytes(),
            path: path.as_bytes(),
            marks: marks_of(text.as_bytes()),
            pairs: &super::super::pairs::Pairs::UNKNOWN,
            tricks: Tricks::default(),
            after_double_ampersand: false,
        };
        let mut found = Findings::default();
        judge(&part, &mut found);
        found.sum().filter(|(_, score)| *score >= 50).map(|(class, _)| class)
    }

    #[test]
    fn destinations_decide() {
        let check =
            |text: &str, expected: Option<AttackClass>| assert_eq!(verdict("/fetch", "url", text), expected, "{text}");
        check("http://169.254.169.254/latest/meta-data/", Some(Ssrf));
        check("http://user@0xa9fea9fe:80/", Some(Ssrf));
        check("http:169.254.169.254", Some(Ssrf));
        check("//169.254.169.254/latest", Some(Ssrf));
        check("169.254.169.254/latest/meta-data", Some(Ssrf));
        check("http://[::ffff:a9fe:a9fe]/", Some(Ssrf));
        check("http://127.1:8080/admin", Some(Ssrf));
        check("localhost:2375/containers/json", Some(Ssrf));
        check("gopher://10.0.0.1:6379/_x", Some(Ssrf));
        check("http://c0ffee.oast.fun/x", Some(Ssrf));
        check("php://filter/convert.base64-encode/resource=index.php", Some(CodeInjection));
        check("file:///etc/passwd", Some(Traversal));
        check("https://shop.example/a?b=c", None);
        check("2852039166", None);
        check("12:30", None);
        check("c/ mayor, 5", None);
        check("localhost", None);
        check("metadata", None);
    }

    #[test]
    fn a_remote_file_needs_a_script_that_includes_it() {
        let check = |path: &str, name: &str, text: &str, expected: Option<AttackClass>| {
            assert_eq!(verdict(path, name, text), expected, "{path} {name} {text}");
        };
        check("/board/index.php", "page", "http://203.0.113.8/r57.txt?", Some(Rfi));
        check("/lib/x.php", "absolute_path", "https://files.example/c99.txt", Some(Rfi));
        check("/x.php", "globals[app][dir]", "http://files.example/a", Some(Rfi));
        check("/share.php", "u", "http://news.example/2024/story.html", None);
        check("/share", "url", "http://news.example/a.txt", None);
        check("/thumb.php", "src", "http://img.example/a.jpg?w=100&h=50", None);
        check("/oauth", "redirect_uri", "http://localhost:3000/done", None);
    }
}
