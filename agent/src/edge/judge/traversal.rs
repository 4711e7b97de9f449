//! Path traversal and inclusion of local files.
//!
//! Two kinds of evidence: steps upward (`..` once every spelling of dot and slash is plain), and names of files
//! that a web application has no business naming. A parameter that resolves to `/etc/passwd` is both.

use memchr::memmem;

use super::finding::Findings;
use super::marks::Marks;
use super::prose;
use super::target::{Part, Place};
use crate::request::AttackClass::Traversal;

/// Directories at the root of a host; a parameter value that begins with one names a file there.
const ROOTS: &[&[u8]] = &[
    b"/etc/",
    b"/proc/",
    b"/var/",
    b"/root/",
    b"/usr/",
    b"/opt/",
    b"/home/",
    b"/boot/",
    b"/dev/",
    b"/sys/",
    b"/mnt/",
    b"/srv/",
    b"/run/",
    b"/private/etc/",
    b"/system/library/",
    b"/library/webserver/",
    b"/volumes/",
    b"/apache/",
    b"/apache2/",
    b"/xampp/",
    b"/lampp/",
    b"/www/",
    b"/logs/",
    b"/log/",
    b"/windows/",
    b"/winnt/",
    b"/program files",
    b"/php/",
    b"/php4/",
    b"/php5/",
    b"/bin/",
    b"/sbin/",
    b"/inetpub/",
    b"/web/conf/",
    b"/nsconfig/",
    b"/tmp/",
];

/// What stands in a path on a Windows host that is worth reading to a stranger.
const TELLING_FOLDERS: &[&[u8]] = &[
    b"windows",
    b"winnt",
    b"inetpub",
    b"system32",
    b"boot.ini",
    b".ini",
    b".log",
    b".sys",
    b".conf",
    b".config",
    b".bat",
    b"xampp",
    b"wamp",
    b"apache",
    b"tomcat",
    b"php",
    b"mysql",
    b"administrator",
    b"secret",
    b"passw",
    b".dat",
    b"web",
    b"autoexec",
    b"pagefile",
    b"sam",
    b"repair",
    b".xml",
    b".exe",
    b"etc",
    b"appserv",
    b"recycler",
    b"perflogs",
];

/// Whether `path` is a page of a code host or a manual: the file it names is what it shows.
pub(super) fn is_viewer(path: &[u8]) -> bool {
    first_view(path).is_some()
}

/// Where what makes `path` such a page first ends.
pub(super) fn first_view(path: &[u8]) -> Option<usize> {
    const VIEWS: [&[u8]; 22] = [
        b"/browser/",
        b"/viewvc/",
        b"/cgit/",
        b"/trunk/",
        b"/gitweb/",
        b"/blob/",
        b"/tree/",
        b"/raw/",
        b"/blame/",
        b"/src/branch/",
        b"/src/commit/",
        b"/-/",
        b"/commits/",
        b"/browse/",
        b"/wiki/",
        b"/man/",
        b"/manual/",
        b"/docs/",
        b"/questions/",
        b"/repos/",
        b"/repositories/",
        b"/repository/files/",
    ];
    VIEWS.iter().filter_map(|view| memmem::find(path, view).map(|at| at + view.len())).min()
}

/// Whether words follow: blanks and letters.
fn is_prose_after(text: &[u8]) -> bool {
    matches!(text, [b' ', letter, ..] if letter.is_ascii_alphabetic())
        && text.iter().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b' ' | b'?' | b',' | b'\''))
}

/// Whether what stands around the span is a sentence: two words of letters behind it, or one before it and nothing
/// behind ("what is /etc/passwd", "../relative path in css").
fn is_said(part: &Part<'_>, start: usize, end: usize) -> bool {
    let text = part.lower;
    let enough = if prose::is_free_text(part.name) { 1 } else { 2 };
    let word = |word: &&[u8]| word.len() > 1 && word.iter().all(u8::is_ascii_alphabetic);
    let rest = &text[end..];
    let behind = rest.split(|byte| *byte == b' ').skip(1).take(3).filter(word).count();
    let name_start = text[..start].iter().rposition(|byte| *byte == b' ').map_or(0, |blank| blank + 1);
    let before = text[..name_start].split(|byte| *byte == b' ').filter(|word| !word.is_empty()).collect::<Lead>();
    let plain = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'?' | b',' | b'\'' | b'.' | b'/' | b'-' | b'_')
    };
    text.iter().all(plain)
        && (behind >= enough && before.odd == 0 || before.words >= enough && before.odd == 0 && rest.len() <= 1)
}

/// The words before a file's name, counted: of letters alone, and others.
#[derive(Default)]
struct Lead {
    words: usize,
    odd: usize,
}

impl<'w> FromIterator<&'w [u8]> for Lead {
    fn from_iter<I: IntoIterator<Item = &'w [u8]>>(words: I) -> Self {
        words.into_iter().take(32).fold(Self::default(), |lead, word| {
            let plain = word.iter().all(u8::is_ascii_alphabetic);
            Self { words: lead.words + usize::from(plain), odd: lead.odd + usize::from(!plain) }
        })
    }
}

/// Ends of files that pages link to by relative paths.
const LINKED: &[&[u8]] = &[
    b".png", b".jpg", b".jpeg", b".gif", b".svg", b".webp", b".css", b".js", b".html", b".htm", b".woff", b".woff2",
    b".ico",
];

/// Judges one part. `file` is the telling file name that was seen in it.
pub(super) fn judge(part: &Part<'_>, file: Option<(usize, usize)>, found: &mut Findings) {
    if matches!(part.place, Place::UserAgent | Place::Referer) {
        return;
    }
    let steps = count_steps(part.lower);
    let file = file.filter(|(start, end)| stands_alone(part.lower, *start, *end));
    judge_steps(part, steps, file.is_some(), found);
    judge_file(part, steps, file, found);
    judge_disguises(part, found);
    if part.place == Place::Value {
        judge_detours(part, found);
    }
}

/// Files that are asked for by detours.
const GOALS: &[&[u8]] = &[
    b"/etc/passwd",
    b"/etc/shadow",
    b"/etc/hosts",
    b"/etc/group",
    b"/proc/self/",
    b"/web-inf/",
    b"/boot.ini",
    b"/win.ini",
    b"/.env",
    b"/.git/",
    b"/.ssh/",
];

/// `/./etc/./passwd`, `/etc//passwd`: the names that are left once steps that go nowhere are taken out.
fn judge_detours(part: &Part<'_>, found: &mut Findings) {
    let text = &part.lower[..part.lower.len().min(MAX_DETOUR)];
    if !part.pairs.may_hold(b"/./") && !part.pairs.may_hold(b"//") {
        return;
    }
    let detour = memmem::find(text, b"/./").is_some() || memmem::find(text, b"//").is_some();
    if !detour || memmem::find(text, b"://").is_some() {
        return;
    }
    let mut straight = [0; MAX_DETOUR];
    let mut length = 0;
    for segment in text.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty() && *segment != b".") {
        // One byte for the slash: what was taken out makes room for it.
        let end = (length + 1 + segment.len()).min(MAX_DETOUR);
        straight[length] = b'/';
        straight[length + 1..end].copy_from_slice(&segment[..end - length - 1]);
        length = end.min(MAX_DETOUR - 1);
    }
    if GOALS.iter().any(|goal| memmem::find(&straight[..length], goal).is_some()) {
        let span = part.offset..part.offset + text.len();
        found.add(Traversal, 60, span, "names a file that holds secrets or configuration");
    }
}

/// Longest text in which detours are taken out; paths of files are shorter.
const MAX_DETOUR: usize = 256;

/// Whether a page would link to it.
fn is_linked(text: &[u8]) -> bool {
    LINKED.iter().any(|end| text.ends_with(end))
}

/// Whether a parameter of this name is included, and a file with this end is code.
fn runs(part: &Part<'_>) -> bool {
    let code = [&b".js"[..], b".html", b".htm"].iter().any(|end| part.lower.ends_with(end));
    code && [&b"file"[..], b"path", b"page", b"templ", b"inc", b"view", b"module", b"doc"]
        .iter()
        .any(|stem| memmem::find(part.name, stem).is_some())
}

/// Steps upward: `..` between separators, and the forms that filters turn into one (`....//`, `..;/`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Steps {
    count: usize,
    /// The parent of the first byte that a step leads to, were it resolved, lies outside.
    escapes: bool,
    backslash: bool,
    first: usize,
    last: usize,
}

fn count_steps(text: &[u8]) -> Steps {
    let mut steps = Steps::default();
    let mut depth = 0_isize;
    let mut start = 0;
    for end in 0..=text.len() {
        let separator = text.get(end).is_none_or(|byte| matches!(byte, b'/' | b'\\'));
        if !separator {
            continue;
        }
        let segment = &text[start..end];
        // Three dots at the end of a sentence lead nowhere: a step has a separator on one side at least.
        let joined = start > 0 || end < text.len();
        if is_step(segment) && (joined || segment.iter().all(|byte| *byte == b'.')) && !in_sentence(segment) {
            if steps.count == 0 {
                steps.first = start;
            }
            steps.count += 1;
            steps.last = end;
            steps.backslash |= text.get(end) == Some(&b'\\');
            depth -= 1;
        } else if !segment.is_empty() && segment != b"." {
            depth += 1;
        }
        steps.escapes |= depth < 0;
        start = end + 1;
    }
    steps
}

/// `..`, `..;x`, `....`, or a value's beginning that ends in `..` (`file=..`, `%00..`).
fn is_step(segment: &[u8]) -> bool {
    let segment = segment.split(|byte| *byte == b';').next().unwrap_or(segment);
    let dots = segment.iter().rev().take_while(|byte| **byte == b'.').count();
    let before = segment.len() - dots;
    (2..=8).contains(&dots)
        && (before == 0
            || matches!(
                segment[before - 1],
                b'=' | b':' | b'\'' | b'"' | b' ' | b'?' | b'|' | b',' | b'(' | b'@' | b'~' | b'\n' | b'\t'
            ))
}

/// `what is ..` of "what is ../ for": a step that a sentence names. A value in front of a step is one word.
fn in_sentence(segment: &[u8]) -> bool {
    let words = segment.split(|byte| *byte == b' ').filter(|word| word.iter().any(u8::is_ascii_alphabetic));
    segment.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b' ').count() + 2 >= segment.len()
        && words.take(2).count() == 2
}

fn judge_steps(part: &Part<'_>, steps: Steps, named: bool, found: &mut Findings) {
    // Dots alone are an ellipsis, also as one character.
    let dots = part.lower.len() > 2 && part.lower.iter().all(|byte| *byte == b'.');
    if steps.count == 0 || dots {
        return;
    }
    let span = part.offset + steps.first..part.offset + steps.last;
    let encoded = part.tricks.overlong || part.tricks.lookalike || part.tricks.rounds >= 2;
    let params = part.holds(b"..;");
    let weight = match steps.count {
        _ if params => 65,
        // One segment of three dots is a name; two are a way up that some file systems know.
        1 if part.lower[steps.first..steps.last] == *b"..." && !named => 20,
        1 if named || encoded => 55,
        1 if part.place == Place::Value && is_said(part, steps.first, steps.last) => 20,
        // Browsers resolve `..` before they send it: one that arrives was put there, or comes from a broken link.
        1 if steps.escapes && part.place == Place::Path => 55,
        // Links of careless pages: `/a/../style.css`.
        1 if part.place == Place::Path && part.tricks.rounds == 0 && is_linked(part.lower) => 20,
        1 if part.place == Place::Path => 50,
        // A template or a page is no picture: what is included runs.
        1 if is_linked(part.lower) && !(steps.escapes && runs(part)) => 30,
        1 if part.lower.starts_with(b"/") && !part.marks.any(Marks::SPACE) => 50,
        1 if steps.escapes && steps.last < part.lower.len() => 50,
        1 => 15,
        2 if part.place != Place::Path => 60,
        2 => 55,
        _ => 75,
    };
    found.add(Traversal, weight, span.clone(), "climbs out of its directory");
    if part.tricks.overlong || part.tricks.lookalike {
        found.add(Traversal, 30, span.clone(), "spells dots or slashes as something else");
    }
    if part.tricks.rounds >= 2 {
        found.add(Traversal, 25, span, "encodes dots or slashes twice");
    }
}

/// Whether the file name at `start..end` is a whole one: `boot.ini`, not `reboot.initial`.
fn stands_alone(text: &[u8], start: usize, end: usize) -> bool {
    let part_of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    // `..2fetc2fpasswd`: a bare hexadecimal slash stands in front.
    let starts = start == 0
        || text[start] == b'.'
        || !part_of_name(text[start - 1])
        || matches!(text[start - 1], b'2' | b'f' | b'c');
    // `passwd-` is a backup of it, `passwd-format.html` a page about it.
    let longer = text.get(end) == Some(&b'-') && text.get(end + 1).is_some_and(u8::is_ascii_alphanumeric);
    let ends =
        matches!(text[end - 1], b'/' | b'\\') || text.get(end).is_none_or(|byte| !part_of_name(*byte)) && !longer;
    starts && ends
}

fn judge_file(part: &Part<'_>, steps: Steps, file: Option<(usize, usize)>, found: &mut Findings) {
    if let Some((start, end)) = file {
        let weight = match part.place {
            _ if steps.count > 0 => 60,
            // Repositories and manuals have pages about such files.
            Place::Path if is_viewer(part.lower) => 20,
            Place::Path if start > 1 => 50,
            // "wp-config.php location": what somebody looks for, not where a program shall look.
            Place::Value if is_said(part, start, end) => 30,
            Place::Value if start == 0 && !part.lower.starts_with(b"/") && is_prose_after(&part.lower[end..]) => 30,
            _ => 60,
        };
        found.add(
            Traversal,
            weight,
            part.offset + start..part.offset + end,
            "names a file that holds secrets or configuration",
        );
    }
    if part.place == Place::Path {
        return;
    }
    let value = part.lower.trim_ascii_start();
    let value = value.strip_prefix(b"file:").map_or(value, |path| {
        let slashes = path.iter().take_while(|byte| **byte == b'/').count();
        &path[slashes.saturating_sub(1).min(path.len())..]
    });
    let unix = value.starts_with(b"/")
        && ROOTS.iter().any(|root| value.starts_with(root) && (value.len() > root.len() || *root == b"/etc/"))
        && !value.contains(&b' ');
    if unix {
        // Where people keep their own files; what is hidden there is another matter.
        let own = [&b"/home/"[..], b"/mnt/", b"/volumes/"].iter().any(|root| value.starts_with(root));
        found.add(
            Traversal,
            if own && memmem::find(value, b"/.").is_none() { 40 } else { 55 },
            part.offset..part.offset + part.lower.len(),
            "names a file of the host by its absolute path",
        );
    }
    let drive = value.strip_prefix(b"/").unwrap_or(value);
    if is_drive_path(drive) {
        // Browsers name a chosen file `C:\fakepath\x`; people keep their letters on drives too.
        let telling =
            drive.starts_with(b"\\\\") || TELLING_FOLDERS.iter().any(|name| memmem::find(drive, name).is_some());
        found.add(
            Traversal,
            if telling { 55 } else { 35 },
            part.offset..part.offset + part.lower.len(),
            "names a file of a Windows host by its absolute path",
        );
    }
}

/// `c:\…`, `c:/…`, `\\host\share`.
fn is_drive_path(value: &[u8]) -> bool {
    match value {
        [drive, b':', b'/' | b'\\', rest @ ..] => drive.is_ascii_alphabetic() && !rest.is_empty(),
        [b'\\', b'\\', host, ..] => host.is_ascii_alphanumeric() || *host == b'.' || *host == b'?',
        _ => false,
    }
}

/// Dots and slashes in the spellings that only custom decoders undo: `0x2e0x2f`, `..2f..2f`, `%c0%2e` remnants,
/// `./\`, long runs of `./`.
fn judge_disguises(part: &Part<'_>, found: &mut Findings) {
    /// Inlined, so that it is known before which pairs of bytes the needle has.
    #[inline(always)]
    fn report(part: &Part<'_>, found: &mut Findings, needle: &[u8], times: usize, weight: u8, reason: &'static str) {
        if part.pairs.may_hold(needle) && !found.has(Traversal, weight, reason) {
            report_hit(part, found, needle, times, weight, reason);
        }
    }
    report(part, found, b"0x2e", 2, 60, "spells dots as hexadecimal numbers");
    report(part, found, b"..2f", 1, 60, "spells slashes as bare hexadecimal");
    report(part, found, b"..5c", 1, 60, "spells slashes as bare hexadecimal");
    report(part, found, b"........", 1, 50, "writes parent steps with too many dots");
    report(part, found, b"..%", 2, 55, "follows a parent step with a broken escape");
    report(part, found, b"..0x", 1, 55, "spells slashes as hexadecimal numbers");
    report(part, found, b"/./", 4, 55, "repeats steps that go nowhere");
    report(part, found, b"\\.\\", 4, 55, "repeats steps that go nowhere");
    report(part, found, b"././", 4, 55, "repeats steps that go nowhere");
    report(part, found, b"/..//", 2, 40, "repeats separators between parent steps");
    report(part, found, b".\\.", 2, 45, "splits parent steps with backslashes");
    report(part, found, b"./\\", 2, 50, "mixes separators of two systems");
    report(part, found, b"...\\", 2, 50, "writes parent steps with too many dots");
    report(part, found, b".../", 2, 50, "writes parent steps with too many dots");
    if part.marks.any(Marks::HIGH) {
        judge_broken_bytes(part, found);
    }
}

fn report_hit(part: &Part<'_>, found: &mut Findings, needle: &[u8], times: usize, weight: u8, reason: &'static str) {
    if let Some(at) = memmem::find_iter(part.lower, needle).nth(times - 1) {
        found.add(Traversal, weight, part.offset + at..part.offset + at + needle.len(), reason);
    }
}

/// `..` followed by bytes that are no UTF-8: a separator in some code page, three times over.
fn judge_broken_bytes(part: &Part<'_>, found: &mut Findings) {
    let hits =
        part.find_all(b"..").filter(|at| part.lower.get(at + 2).is_some_and(|byte| *byte >= 0x80)).take(3).count();
    if hits >= 2 {
        found.add(
            Traversal,
            60,
            part.offset..part.offset + part.lower.len(),
            "separates parent steps with broken UTF-8",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::marks::marks_of;
    use super::*;

    fn score(place: Place, raw: &str) -> u8 {
        let mut decoder = super::super::decode::Decoder::default();
        let (text, tricks) = decoder.decode(raw.as_bytes(), true);
        let lower = text.to_ascii_lowercase();
        let part = Part {
            place,
            text,
            lower: &lower,
            offset: 0,
            name: b"q",
            path: b"/",
            marks: marks_of(text),
            pairs: &super::super::pairs::Pairs::UNKNOWN,
            tricks,
            after_double_ampersand: false,
        };
        let mut found = Findings::default();
        let file = ["etc/passwd", "boot.ini", "win.ini", "web-inf", "etc/hosts", "etc2fpasswd"]
            .iter()
            .find_map(|file| memmem::find(&lower, file.as_bytes()).map(|at| (at, at + file.len())));
        judge(&part, file, &mut found);
        found.sum().map_or(0, |(_, score)| score)
    }

    #[test]
    fn every_way_up_is_seen() {
        for raw in [
            "../../etc/passwd",
            "..%2f..%2f..%2fetc%2fpasswd",
            "%252e%252e%252fetc%252fpasswd",
            "%c0%ae%c0%ae/%c0%ae%c0%ae/boot.ini",
            "..\\..\\windows\\win.ini",
            "....//....//etc/passwd",
            "/etc/shadow",
            "file:///etc/passwd",
            "c:\\boot.ini",
            "/proc/self/environ",
            "..2f..2f..2fetc2fpasswd",
            "/WEB-INF/web.xml",
            "img/../../secret",
            "/var/log/syslog",
        ] {
            assert!(score(Place::Value, raw) >= 50, "{raw} scores {}", score(Place::Value, raw));
        }
        for raw in ["/static/../../etc/hosts", "/a/..;/manager/html", "/cgi-bin/.%2e/.%2e/bin/sh", "/%c0%ae%c0%ae/x"] {
            assert!(score(Place::Path, raw) >= 50, "{raw} scores {}", score(Place::Path, raw));
        }
    }

    #[test]
    fn ordinary_paths_are_left_alone() {
        for raw in ["/a/b/c.html", "/v1.2..3/notes", "/wait.../what", "/etc", "/docs/etc/passwords.html", "/a/./b"] {
            assert!(score(Place::Path, raw) < 50, "{raw} scores {}", score(Place::Path, raw));
        }
        for raw in ["see you...", "a/b/c", "1..2", "../image.png", "2024/05/06", "etc", "and/or", "home/garden"] {
            assert!(score(Place::Value, raw) < 50, "{raw} scores {}", score(Place::Value, raw));
        }
    }
}
