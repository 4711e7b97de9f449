//! Code of scripting languages that is told by its shape rather than by a name: PHP's variable functions and
//! variables, families of PHP functions, Django's look-ups across relations.

use memchr::{memchr_iter, memmem};

use super::finding::Findings;
use super::marks::{Marks, places};
use super::shapes::Beginnings;
use super::target::{Part, Place};
use crate::request::AttackClass::CodeInjection;

/// Most bytes before a parenthesis that are looked at: with it every call of a part can be, however many pad it.
const MAX_BEFORE: usize = 192;

/// Prefixes of PHP's function families.
const FAMILIES: &[&[u8]] = &[
    b"array_",
    b"pg_",
    b"mb_",
    b"mysql_",
    b"mysqli_",
    b"sqlite_",
    b"assert_",
    b"ob_",
    b"func_",
    b"is_",
    b"curl_",
    b"posix_",
    b"pcntl_",
    b"socket_",
    b"stream_",
    b"file_",
    b"gz",
    b"bz",
    b"ftp_",
    b"openssl_",
    b"preg_",
    b"proc_",
    b"session_",
    b"imap_",
    b"ini_",
    b"shell_",
    b"xml_",
    b"simplexml_",
    b"readline_",
    b"ssh2_",
    b"zip_",
    b"dba_",
    b"php",
    b"str_",
    b"ldap_",
    b"date_",
    b"tidy_",
    b"sodium_",
    b"strip_",
    b"vprintf",
    b"sprintf",
    b"intval",
    b"boolval",
    b"floatval",
    b"strval",
    b"filegroup",
    b"fileowner",
    b"fileperms",
    b"fileinode",
    b"fputs",
    b"fgets",
    b"fpassthru",
    b"touch",
    b"rename",
    b"rmdir",
    b"unlink",
    b"chmod",
    b"chown",
    b"usleep",
    b"settype",
    b"gettype",
];

/// How they begin.
static BEGINNINGS: Beginnings = Beginnings::of(FAMILIES);

/// Judges one part.
pub(super) fn judge(part: &Part<'_>, found: &mut Findings) {
    if part.place == Place::Name {
        judge_relations(part, found);
    }
    if part.place == Place::Value {
        judge_callable(part, found);
    }
    if part.marks.any(Marks::PAREN) && !matches!(part.place, Place::UserAgent | Place::Referer) {
        for at in places(part.lower, Marks::PAREN).filter(|at| part.lower[*at] == b'(') {
            judge_call(part, at, found);
        }
    }
    if part.marks.any(Marks::DOLLAR) {
        judge_variable(part, found);
    }
}

/// Parameters that name a function to call, in frameworks that dispatch by them.
const CALLABLES: &[&[u8]] = &[b"function", b"callback", b"func", b"handler", b"_method", b"assert", b"s"];

/// `vars[0]=system`, `function=call_user_func_array`: a name of a function that runs what it is given.
fn judge_callable(part: &Part<'_>, found: &mut Findings) {
    const RUNNERS: [&[u8]; 14] = [
        b"system",
        b"exec",
        b"passthru",
        b"shell_exec",
        b"popen",
        b"proc_open",
        b"assert",
        b"eval",
        b"phpinfo",
        b"call_user_func",
        b"call_user_func_array",
        b"file_put_contents",
        b"pcntl_exec",
        b"create_function",
    ];
    let dispatched = part.name.ends_with(b"]") || CALLABLES.contains(&part.name);
    if dispatched && RUNNERS.contains(&part.lower) {
        found.add(
            CodeInjection,
            55,
            part.offset..part.offset + part.lower.len(),
            "names a function that runs what it is given",
        );
    }
}

/// What is called at the parenthesis `open`.
fn judge_call(part: &Part<'_>, open: usize, found: &mut Findings) {
    let from = open.saturating_sub(MAX_BEFORE);
    let before = without_gap(&part.lower[from..open]);
    let name = before.iter().rev().take(64).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let start = before.len() - name;
    let word = &before[start..];
    let sigil = start.checked_sub(1).map(|at| before[at]);
    let span = part.offset + from + start..part.offset + open + 1;
    let string_follows = matches!(part.lower[open + 1..].trim_ascii_start().first(), Some(b'\'' | b'"'));
    let family = BEGINNINGS.may_begin(word)
        && FAMILIES
            .iter()
            .any(|family| word.starts_with(family) && (word.len() > family.len() || !family.ends_with(b"_")));
    if sigil == Some(b'$') && word.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_') {
        found.add(CodeInjection, 50, span, "calls a function by a variable");
    } else if family && sigil.is_none_or(|byte| !matches!(byte, b'.' | b'-' | b'$')) {
        found.add(CodeInjection, 50, span, "calls a function of PHP");
    } else if matches!(before.last(), Some(b')' | b']' | b'}')) && string_follows {
        found.add(CodeInjection, 50, span, "calls the result of an expression with a string");
    } else if before.ends_with(b"\"]") || before.ends_with(b"']") || before.ends_with(b"`]") {
        found.add(CodeInjection, 50, span, "calls a method by a name in quotes");
    } else if before.ends_with(b"]") && (before.contains(&b'$') || memmem::find(before, b"][").is_some()) {
        found.add(CodeInjection, 50, span, "calls a function by an expression");
    }
}

/// Cuts blanks and comments off the end: PHP allows them between a name and its parenthesis.
fn without_gap(text: &[u8]) -> &[u8] {
    let mut text = text.trim_ascii_end();
    // 4: comments in a row; more is noise.
    for _ in 0..4 {
        let Some(comment) = text.strip_suffix(b"*/").and_then(|rest| memmem::rfind(rest, b"/*")) else { break };
        text = text[..comment].trim_ascii_end();
    }
    text
}

/// `${'a'}`, `${@$b}`, `$   {x}`: variables named by expressions.
fn judge_variable(part: &Part<'_>, found: &mut Findings) {
    let reason = "names a variable by an expression";
    for at in memchr_iter(b'$', part.lower) {
        if found.has(CodeInjection, 50, reason) {
            return;
        }
        let rest = &part.lower[at + 1..];
        let spaces = rest.iter().take(64).take_while(|byte| byte.is_ascii_whitespace()).count();
        let Some(inside) = rest[spaces..].strip_prefix(b"{") else { continue };
        let first = inside.trim_ascii_start().first();
        if spaces > 0
            || matches!(first, Some(b'\'' | b'"' | b'@' | b'$'))
                && memchr::memchr(b'}', &inside[..inside.len().min(64)]).is_some()
        {
            found.add(
                CodeInjection,
                50,
                part.offset + at..part.offset + (at + spaces + 8).min(part.lower.len()),
                reason,
            );
        }
    }
}

/// `user__profile__password__startswith`: a look-up across relations that ends in an operator. One hop is how
/// Django's own filter parameters look; two reach into another table.
fn judge_relations(part: &Part<'_>, found: &mut Findings) {
    const LOOKUPS: [&[u8]; 20] = [
        b"startswith",
        b"istartswith",
        b"endswith",
        b"iendswith",
        b"contains",
        b"icontains",
        b"regex",
        b"iregex",
        b"exact",
        b"iexact",
        b"gt",
        b"gte",
        b"lt",
        b"lte",
        b"in",
        b"range",
        b"isnull",
        b"has_key",
        b"has_keys",
        b"has_any_keys",
    ];
    let hops = part.find_all(b"__").count();
    if hops < 2 {
        return;
    }
    let last = memmem::rfind(part.lower, b"__").map(|at| &part.lower[at + 2..]);
    if last.is_some_and(|last| LOOKUPS.contains(&last)) && !part.lower.starts_with(b"__") {
        found.add(
            CodeInjection,
            50,
            part.offset..part.offset + part.lower.len(),
            "reaches through the relations of a database model",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::Target;
    use super::*;
    use crate::request::AccessRecord;
    use crate::timestamp::Timestamp;

    #[test]
    fn shapes_of_code() {
        let check = |raw: &str, expected: bool| {
            let mut target = Target::default();
            let blank = AccessRecord::blank(Timestamp::default(), Timestamp::default());
            target.read(&AccessRecord { path_and_query: raw.as_bytes(), ..blank }, false);
            let mut found = Findings::default();
            target.parts().for_each(|part| judge(&part, &mut found));
            assert_eq!(found.iter().next().is_some(), expected, "{raw}");
        };
        check("/?x=$f('id')", true);
        check("/?x=array_map('system',['id'])", true);
        check("/?x=('sys'.'tem')('id')", true);
        check("/?x=${'a'}", true);
        check("/?owner__profile__token__startswith=a", true);
        check("/?owner__name=a", false);
        check("/?$filter=contains(Name,'x')", false);
        check("/?q=foo+(bar)+is+(baz)", false);
        check("/?q=rate(x[5m])", false);
        check("/?price=$5+(each)", false);
    }
}
