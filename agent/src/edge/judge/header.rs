//! Line breaks that end a header: response splitting, request smuggling, mail commands.
//!
//! A browser never sends a raw line break in a URL; a form may send an encoded one in a text field. So a break
//! counts by what follows it, or by standing where no text field is (path, parameter name).

use memchr::memchr2_iter;

use super::finding::Findings;
use super::marks::Marks;
use super::prose::is_free_text;
use super::target::{Part, Place};
use crate::request::AttackClass::{Crlf, MailInjection};

/// Most bytes on either side of a line break that are looked at: with it every break of a part can be, however many pad it.
const MAX_LINE: usize = 256;

/// Headers that splitting sets.
const HEADERS: &[&[u8]] = &[
    b"set-cookie",
    b"content-type",
    b"content-length",
    b"contenttype",
    b"contentlength",
    b"location",
    b"host",
    b"transfer-encoding",
    b"refresh",
    b"link",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"access-control-allow-origin",
    b"content-disposition",
    b"remote-addr",
    b"connection",
    b"cookie",
    b"authorization",
    b"referer",
    b"user-agent",
    b"x-xss-protection",
    b"content-security-policy",
];

/// Commands of SMTP, POP3 and IMAP, and the headers that mail injection adds.
const MAIL: &[&[u8]] = &[
    b"mail from",
    b"rcpt to",
    b"ehlo ",
    b"helo ",
    b"auth ",
    b"apop ",
    b"retr ",
    b"dele ",
    b"top ",
    b"uidl",
    b"list ",
    b"vrfy ",
    b"expn ",
    b"starttls",
    b"bcc:",
    b"cc:",
    b"to:",
    b"subject:",
    b"reply-to:",
    b"from:",
    b"user ",
    b"pass ",
    b"data\r",
    b"quit\r",
    b"fetch ",
    b"select inbox",
    b"login ",
    b"create ",
    b"status ",
    b"a01 ",
    b"a1 ",
];

/// Judges one part.
pub(super) fn judge(part: &Part<'_>, found: &mut Findings) {
    judge_request_line(part, found);
    judge_nul(part, found);
    if part.place == Place::UserAgent || !part.marks.any(Marks::LINE) {
        return;
    }
    for (number, at) in memchr2_iter(b'\r', b'\n', part.lower).enumerate() {
        judge_break(part, at, number == 0, found);
    }
}

fn judge_break(part: &Part<'_>, at: usize, first: bool, found: &mut Findings) {
    let skipped = part.lower[at..].iter().take(8).take_while(|byte| byte.is_ascii_whitespace()).count();
    let rest = &part.lower[at + skipped..(at + MAX_LINE).min(part.lower.len())];
    let name = rest.iter().take(40).take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'-').count();
    let colon = name > 1 && rest[name..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
    let span = part.offset + at..part.offset + (at + skipped + name + 1).min(part.lower.len());
    // Headers, commands and responses begin so: what does not is compared with none of them.
    let telling = rest.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'<');
    if telling && colon && HEADERS.contains(&&rest[..name]) {
        found.add(Crlf, 75, span, "ends a header and adds another");
    } else if telling && (rest.starts_with(b"http/1.") || rest.starts_with(b"<html") || rest.starts_with(b"<script")) {
        found.add(Crlf, 60, span, "ends a header and adds a response");
    } else if telling && is_mail(part.lower, at, rest) {
        found.add(MailInjection, 60, span, "adds a command to a mail dialogue");
    } else if rest.is_empty() && part.place == Place::Path {
        // What is copied out of a text brings its line end along.
        found.add(Crlf, 25, span, "has a line break where no text can be");
    } else if matches!(part.place, Place::Path | Place::Name) {
        found.add(Crlf, 55, span, "has a line break where no text can be");
    } else if colon && skipped <= 2 && (rest.starts_with(b"x-") || part.lower.starts_with(b"/"))
        || colon && first && splits(part, at, &rest[..name], rest)
    {
        found.add(Crlf, 50, span, "ends a header and adds another");
    } else if colon && part.lower[at] == b'\r' {
        found.add(Crlf, 35, span, "has a line break and something like a header");
    } else {
        found.add(Crlf, 10, span, "has a line break");
    }
}

/// Whether the line break at `at`, the first of `part`, splits a header although none of [`HEADERS`] follows but `line`, which begins
/// with a `name` and a colon. Behind a URL that is sent on it does; behind a word or nothing, if the name has a dash, as most
/// headers' have and few words: "Phone: 5" and "Follow-up: a call" stand on lines of their own in forms.
fn splits(part: &Part<'_>, at: usize, name: &[u8], line: &[u8]) -> bool {
    let before = part.lower[..at].trim_ascii();
    if before.iter().any(u8::is_ascii_whitespace) || line[name.len()..].starts_with(b"://") {
        return false;
    }
    let close = line[name.len()..].starts_with(b":") && !line[name.len()..].starts_with(b": ");
    let dashed = name.len() > 4 && name[1..name.len() - 1].contains(&b'-');
    let link = || memchr::memmem::find(before, b"://").is_some_and(|at| at > 0);
    dashed && !before.contains(&b':') && (close || before.is_empty())
        || part.lower[at] == b'\r' && !is_free_text(part.name) && link()
}

/// Whether a line of a mail dialogue or a mail's header follows the break at `at`. Letters have lines that begin with
/// "To:" too; a header names an address.
fn is_mail(text: &[u8], at: usize, rest: &[u8]) -> bool {
    if matches!(rest.trim_ascii_end(), b"data" | b"quit" | b"rset") && text[at] == b'\r' {
        return true;
    }
    if is_imap(rest) && text[at] == b'\r' {
        return true;
    }
    let Some(command) = MAIL.iter().find(|command| rest.starts_with(command)) else { return false };
    let line = rest.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or(rest);
    if command.ends_with(b":") {
        line.contains(&b'@') || is_behind_address(text, at)
    } else {
        // `rcpt to:<…>` is nothing else whatever ends the line before it.
        let envelope = matches!(*command, b"mail from" | b"rcpt to") && rest[command.len()..].starts_with(b":");
        text[at] == b'\r' || envelope && line.contains(&b'@')
    }
}

/// Whether an address stands right before `at`: `me@shop.example⏎subject: …`, a header that a form's own is continued with.
fn is_behind_address(text: &[u8], at: usize) -> bool {
    let before = text[at.saturating_sub(MAX_LINE)..at].trim_ascii_end();
    let word = before.rsplit(|byte| matches!(byte, b' ' | b',' | b';' | b'\r' | b'\n')).next().unwrap_or_default();
    word.contains(&b'@') && !word.ends_with(b".")
}

/// What an IMAP client may ask for (RFC 9051, section 6).
const IMAP: &[&[u8]] = &[
    b"capability",
    b"fetch",
    b"select",
    b"examine",
    b"login",
    b"list",
    b"status",
    b"create",
    b"delete",
    b"store",
    b"noop",
    b"logout",
    b"search",
    b"append",
];

/// `v100 fetch 4791`: a command of IMAP behind its tag, which is of letters and digits, and what a command has behind it: "Q2
/// status pending" is a note.
fn is_imap(rest: &[u8]) -> bool {
    let tag = rest.iter().take(8).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let digits = rest[..tag].iter().filter(|byte| byte.is_ascii_digit()).count();
    let Some(said) = rest[tag..].strip_prefix(b" ").filter(|_| (1..tag).contains(&digits)) else { return false };
    let behind = IMAP.iter().find_map(|command| said.strip_prefix(*command));
    behind.is_some_and(|behind| match behind {
        [] | [b'\r' | b'\n', ..] | [b' ', b'0'..=b'9' | b'"' | b'(', ..] => true,
        _ => behind.starts_with(b" inbox"),
    })
}

/// A NUL in a text: what stands behind it is gone where a program of C reads it. Hashes and keys that are written as bytes hold
/// one too, among others that no text has.
fn judge_nul(part: &Part<'_>, found: &mut Findings) {
    if part.tricks.nul && !part.marks.any(Marks::HIGH) && !matches!(part.place, Place::UserAgent | Place::Referer) {
        let at = memchr::memchr(0, part.text).unwrap_or_default();
        found.add(Crlf, 50, part.offset + at..part.offset + at + 1, "has a NUL where text ends for other programs");
    }
}

/// `GET http://… HTTP/1.1` as a value: a request inside the request.
fn judge_request_line(part: &Part<'_>, found: &mut Findings) {
    if part.place != Place::Value {
        return;
    }
    let methods = [&b"get "[..], b"post ", b"head ", b"put ", b"options ", b"connect "];
    let Some(method) = methods.iter().find(|method| part.lower.starts_with(method)) else { return };
    let target = &part.lower[method.len()..];
    if matches!(target.first(), Some(b'/' | b'h')) && memchr::memmem::find(target, b" http/").is_some() {
        found.add(Crlf, 60, part.offset..part.offset + part.lower.len(), "contains a request line");
    }
}
