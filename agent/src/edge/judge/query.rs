//! Filters of LDAP directories, XPath and document databases, broken open.

use memchr::{memchr_iter, memmem};

use super::finding::Findings;
use super::marks::Marks;
use super::prose::is_free_text;
use super::target::{Part, Place};
use crate::request::AttackClass::{Ldapi, Nosqli};

/// Most bytes between a closing and an opening parenthesis that are looked at.
const MAX_BETWEEN: usize = 32;

/// Judges one part.
pub(super) fn judge(part: &Part<'_>, found: &mut Findings) {
    if matches!(part.place, Place::UserAgent | Place::Referer | Place::Path) {
        return;
    }
    if part.marks.any(Marks::PAREN) {
        judge_ldap(part, found);
    }
    if part.marks.any(Marks::DOLLAR.and(Marks::PIPE)) || part.marks.any(Marks::PAREN) && part.marks.any(Marks::DOT) {
        judge_document(part, found);
    }
}

/// `*)(uid=*`, `x)(|(password=*`, `)(&`: a filter closed and another begun. RFC 4515 filters are prefix
/// expressions: between a closing and an opening parenthesis stands nothing or `&` `|` `!`.
fn judge_ldap(part: &Part<'_>, found: &mut Findings) {
    let text = part.lower;
    let first_open = memchr::memchr(b'(', text).unwrap_or(text.len());
    let mut open = first_open;
    for close in memchr_iter(b')', text) {
        if open < close {
            open = memchr::memchr(b'(', &text[close..]).map_or(text.len(), |at| close + at);
        }
        if open > close + MAX_BETWEEN {
            continue;
        }
        let mut at = close + 1;
        let mut operators = 0;
        while let Some(byte) = text.get(at).filter(|_| at < close + MAX_BETWEEN) {
            match byte {
                b' ' | b'\t' | b')' => {}
                b'&' | b'|' | b'!' if operators < 3 => operators += 1,
                _ => break,
            }
            at += 1;
        }
        if text.get(at) != Some(&b'(') {
            continue;
        }
        let inner = text[at + 1..(at + 64).min(text.len())].trim_ascii_start();
        let attribute = inner.iter().take(40).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
        let compares = attribute > 0 && matches!(inner.get(attribute), Some(b'=' | b'~' | b'<' | b'>'));
        let operator = matches!(inner.first(), Some(b'&' | b'|' | b'!')) || operators > 0;
        let star = close > 0 && text[close - 1] == b'*';
        let lone = first_open > close;
        let weight = match (compares, operator, star || lone) {
            (true, _, true) => 60,
            (_, true, true) => 55,
            (false, false, true) if star => 50,
            _ => continue,
        };
        found.add(
            Ldapi,
            weight,
            part.offset + close..part.offset + (at + 24).min(text.len()),
            "closes a directory filter and begins another",
        );
    }
    judge_dangling(part, found);
}

/// `admin)(|`, `x)(\t|`: a filter left open for what follows it.
fn judge_dangling(part: &Part<'_>, found: &mut Findings) {
    let text = part.lower.trim_ascii_end();
    let tail = text
        .iter()
        .rev()
        .take(8)
        .take_while(|byte| matches!(byte, b'(' | b')' | b'&' | b'|' | b'!' | b' ' | b'\t'))
        .count();
    let mut end = [0_u8; 8];
    let mut length = 0;
    for byte in text[text.len() - tail..].iter().filter(|byte| !byte.is_ascii_whitespace()) {
        end[length] = *byte;
        length += 1;
    }
    if matches!(&end[..length], b")(|" | b")(&" | b"*)(&" | b")(!") {
        found.add(
            Ldapi,
            55,
            part.offset + text.len() - tail..part.offset + text.len(),
            "leaves a directory filter open",
        );
    }
}

/// Operators of document databases in a name (`user[$ne]`) or in JSON.
const OPERATORS: &[&[u8]] = &[
    b"$ne",
    b"$gt",
    b"$gte",
    b"$lt",
    b"$lte",
    b"$regex",
    b"$where",
    b"$or",
    b"$and",
    b"$nor",
    b"$nin",
    b"$in",
    b"$exists",
    b"$eq",
    b"$not",
    b"$comment",
    b"$expr",
    b"$function",
    b"$elemmatch",
    b"$options",
    b"$func",
    b"$jsonschema",
    b"$mod",
    b"$size",
    b"$lookup",
    b"$accumulator",
];

/// Operators that bound a value from one side.
const BOUNDS: &[&[u8]] = &[b"$gt", b"$gte", b"$lt", b"$lte", b"$eq", b"$in", b"$and", b"$or"];

/// Whether what follows the operator is a number, a word or a list: anything but an empty string.
fn compares_with_value(text: &[u8]) -> bool {
    let value = text.iter().position(|byte| !matches!(byte, b' ' | b'"' | b'\'' | b':')).unwrap_or(text.len());
    if text[value..].starts_with(b"undefined") {
        return false;
    }
    let mut rest = text[value..].iter();
    let empty = memmem::find(&text[..text.len().min(8)], b"\"\"").is_some()
        || memmem::find(&text[..text.len().min(8)], b"''").is_some()
        || memmem::find(&text[..text.len().min(8)], b"{}").is_some();
    !empty && rest.next().is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'['))
}

/// Whether a parameter's name is a path into a filter.
fn is_filter(name: &[u8]) -> bool {
    [&b"filter"[..], b"where", b"query[", b"conditions"].iter().any(|word| name.starts_with(word))
}

fn judge_document(part: &Part<'_>, found: &mut Findings) {
    let text = part.lower;
    for at in memchr_iter(b'$', text).take(16) {
        let word = text[at + 1..].iter().take(12).take_while(|byte| byte.is_ascii_alphabetic()).count();
        let operator = &text[at..at + 1 + word];
        if !OPERATORS.contains(&operator) {
            continue;
        }
        let before = text[..at].iter().rev().find(|byte| !matches!(byte, b' ' | b'"' | b'\'')).copied();
        let after = text[at + 1 + word..].iter().find(|byte| !matches!(byte, b' ' | b'"' | b'\'')).copied();
        // OData writes `$expand=A($filter=…)`: an option, followed by `=`; an operator is followed by `:` or `]`.
        let weight = match (before, after) {
            // `filter[age][$gte]`: how honest query builders write a bound.
            _ if part.place == Place::Name && BOUNDS.contains(&operator) && is_filter(text) => 25,
            (Some(b'['), Some(b']')) => 60,
            // `{"age":{"$gt":21}}` is how interfaces over such databases are asked; to get past a password one compares
            // with nothing, or with everything.
            (_, Some(b':')) if BOUNDS.contains(&operator) && compares_with_value(&text[at + 1 + word..]) => 25,
            (_, Some(b':')) => 60,
            _ => continue,
        };
        found.add(
            Nosqli,
            weight,
            part.offset + at..part.offset + at + 1 + word,
            "contains an operator of a document database",
        );
    }
    judge_script(part, found);
}

/// JavaScript that such databases evaluate: `this.x.match(`, `db.x.insert(`, `|| 1==1`.
fn judge_script(part: &Part<'_>, found: &mut Findings) {
    let text = part.lower;
    let mut report = |at: usize, weight: u8| {
        found.add(
            Nosqli,
            weight,
            part.offset + at..part.offset + text.len(),
            "contains a script for a document database",
        );
    };
    for at in part.find_all(b"this.").take(4) {
        if memmem::find(&text[at..(at + 80).min(text.len())], b".match(").is_some()
            || memmem::find(&text[at..(at + 80).min(text.len())], b"==").is_some()
        {
            report(at, 55);
        }
    }
    for at in part.find_all(b"db.").take(4) {
        let call = [&b".insert("[..], b".find(", b".drop(", b".mapreduce(", b".remove(", b".update("];
        if (at == 0 || !text[at - 1].is_ascii_alphanumeric())
            && !is_free_text(part.name)
            && call.iter().any(|call| memmem::find(&text[at..(at + 80).min(text.len())], call).is_some())
        {
            report(at, 60);
        }
    }
    for at in part.find_all(b"||").take(4) {
        let rest = text[at + 2..].trim_ascii_start();
        if rest.starts_with(b"1==1") || rest.starts_with(b"'a'=='a") || rest.starts_with(b"'1'=='1") {
            report(at, 55);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::Tricks;
    use super::super::marks::marks_of;
    use super::*;
    use crate::request::AttackClass;

    #[test]
    fn filters_are_told_from_text() {
        let check = |text: &str, expected: Option<AttackClass>| {
            let part = Part {
                place: Place::Value,
                text: text.as_bytes(),
                lower: text.as_bytes(),
                offset: 0,
                name: b"q",
                path: b"/",
                marks: marks_of(text.as_bytes()),
                pairs: &super::super::pairs::Pairs::UNKNOWN,
                tricks: Tricks::default(),
                after_double_ampersand: false,
            };
            let mut found = Findings::default();
            judge(&part, &mut found);
            assert_eq!(found.sum().filter(|(_, score)| *score >= 50).map(|(class, _)| class), expected, "{text}");
        };
        check("*)(uid=*", Some(Ldapi));
        check("x)(|(password=*", Some(Ldapi));
        check("admin)(|", Some(Ldapi));
        check("[$ne]=1", Some(Nosqli));
        check("{$gt: ''}", Some(Nosqli));
        check("', $where: '1 == 1", Some(Nosqli));
        check("' && this.password.match(/.*/)//", Some(Nosqli));
        check("f(x)(y)", None);
        check("Orders($filter=Id gt 5;$select=Id)", None);
        check("(a) and (b)", None);
        check("price $in the shop", None);
    }
}
