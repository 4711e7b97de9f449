//! SQL injection, judged by grammar.
//!
//! A text is read as SQL three times: bare, as the inside of a `'` string, as the inside of a `"` string. What counts is whether it
//! *continues a statement*: it closes a string and goes on with an operator, compares constants, selects, stacks a statement, cuts
//! the rest off with a comment. Words of SQL in a sentence do none of that.

mod breakout;
mod clause;
mod condition;
mod token;

use std::cell::Cell;

use token::{Key, Kind, Token, tokens};

use super::finding::Findings;
use super::marks::Marks;
use super::prose::is_free_text;
use super::target::{Part, Place};
use crate::request::AttackClass::Sqli;

/// Buffers kept between requests.
#[derive(Debug, Default)]
pub(super) struct Sql {
    tokens: Vec<Token>,
}

impl Sql {
    /// Judges one part. `keyword` tells whether a word of SQL occurs in it.
    pub(super) fn judge(&mut self, part: &Part<'_>, keyword: bool, found: &mut Findings) {
        let quoted = part.marks.any(Marks::QUOTE);
        // `1-(1=1)`, `(7=7)*2`: no word and no quote, but numbers that are compared in parentheses.
        let computes = part.marks.any(Marks::PAREN)
            && part.marks.any(Marks::EQUALS.and(Marks::ANGLE))
            && part.text.iter().find(|byte| **byte != b'(').is_some_and(u8::is_ascii_digit);
        let compares = Self::judge_equal(part, found);
        let keyword = keyword || computes || compares;
        let odd = part.marks.any(Marks::BACKSLASH.and(Marks::PERCENT)) || part.text.starts_with(b"@@");
        if part.place == Place::UserAgent && !is_statement_in_agent(part) || !(keyword || quoted || odd) {
            return;
        }
        if keyword {
            self.read(part, None, found);
        }
        self.judge_probe(part, found);
        Self::judge_split(part, found);
        Self::judge_signs(part, found);
        for quote in [b'\'', b'"'] {
            if quoted && part.lower.contains(&quote) && !quotes_values(part.lower, quote) {
                self.read(part, Some(quote), found);
            }
        }
    }

    /// `un/**/ion`: a comment inside a word.
    fn judge_split(part: &Part<'_>, found: &mut Findings) {
        for at in part.find_all(b"/**/").take(16) {
            let letter = |at: Option<usize>| at.and_then(|at| part.lower.get(at)).is_some_and(u8::is_ascii_alphabetic);
            if letter(at.checked_sub(1)) && letter(Some(at + 4)) && part.place != Place::Path {
                return found.add(Sqli, 50, part.offset + at..part.offset + at + 4, "puts a comment inside a word");
            }
        }
    }

    /// `s%e%l%e%c%t`: old servers drop a percent sign that begins no escape. `@@version`: nothing but a variable of the
    /// server.
    fn judge_signs(part: &Part<'_>, found: &mut Findings) {
        let text = part.lower;
        let signs = memchr::memchr_iter(b'%', text)
            .take(32)
            .filter(|at| {
                let letter = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(u8::is_ascii_alphabetic);
                letter(at.checked_sub(1))
                    && letter(Some(at + 1))
                    && text.get(at + 2).is_none_or(|byte| !byte.is_ascii_alphabetic())
            })
            .count();
        let span = part.offset..part.offset + text.len();
        if signs >= 3 {
            found.add(Sqli, 50, span.clone(), "puts percent signs inside a word");
        }
        let name = text.strip_prefix(b"@@").filter(|name| !name.is_empty());
        if name.is_some_and(|name| {
            name.len() < 40 && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        }) {
            found.add(Sqli, 50, span, "names a variable of the database");
        }
    }

    /// `elt(6978=6978,17)`, `if (41=41) then`: a number that is compared with itself in a call or behind `if`; in the functions that
    /// choose by a condition, two numbers of any kind. Says whether there are.
    fn judge_equal(part: &Part<'_>, found: &mut Findings) -> bool {
        let text = part.lower;
        let within = matches!(part.place, Place::Value | Place::Name);
        if !within || !part.marks.any(Marks::PAREN) || !part.marks.any(Marks::EQUALS) {
            return false;
        }
        // 12: digits of one number; 64: comparisons that are looked at, of which an attack has a handful.
        let equal = memchr::memchr_iter(b'=', text).take(64).find_map(|at| {
            let left = text[..at].iter().rev().take(12).take_while(|byte| byte.is_ascii_digit()).count();
            let right = text[at + 1..].iter().take(12).take_while(|byte| byte.is_ascii_digit()).count();
            let ends = matches!(text.get(at + 1 + right), Some(b')' | b',' | b' '));
            let called = text[..at - left].strip_suffix(b"(")?;
            let name = called.trim_ascii_end();
            let letters =
                name.iter().rev().take(12).take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'_').count();
            let name = &name[name.len() - letters..];
            let same = left >= 2 && text[at - left..at] == text[at + 1..at + 1 + right];
            let glued = called.ends_with(name) && !name.is_empty();
            let chooses = matches!(name, b"elt" | b"iif" | b"make_set" | b"lnnvl" | b"nullif");
            let meant = same && (glued || matches!(name, b"if" | b"when")) || chooses && glued;
            (left > 0 && right > 0 && ends && meant).then_some(at - left..at + 1 + right)
        });
        if let Some(span) = &equal {
            let span = part.offset + span.start..part.offset + span.end;
            found.add(Sqli, 50, span, "adds a condition that compares constants");
        }
        equal.is_some()
    }

    /// `7'"`, `1')`, `1\`: a number with marks behind it that would end a string, a parenthesis or an escape.
    fn judge_marks(part: &Part<'_>, found: &mut Findings) {
        let number = part.lower.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let marks = &part.lower[number..];
        let all = marks.iter().all(|byte| {
            matches!(
                byte,
                b'\'' | b'"' | b')' | b'(' | b'\\' | b';' | b'&' | b'%' | b'<' | b'>' | b'`' | b',' | b'.' | 0
            )
        });
        let breaks = marks.len() >= 2 && marks.iter().any(|byte| matches!(byte, b'\'' | b'"'));
        // 12" and 5'6" are measures; so is 5'' for want of the right character.
        let measure = matches!(marks, b"''" | b"\".") || marks == b"\"";
        if number > 0 && number <= 12 && all && (breaks && !measure || matches!(marks, b"\\" | b"`" | b"'\0")) {
            found.add(
                Sqli,
                50,
                part.offset..part.offset + part.lower.len(),
                "breaks a number with marks of a string's end",
            );
        }
    }

    /// `id=7'`: a number with a quote behind it, to see whether the statement breaks.
    fn judge_probe(&self, part: &Part<'_>, found: &mut Findings) {
        Self::judge_marks(part, found);
        Self::judge_lone(part, found);
        let Some((quote, number)) = part.lower.split_last() else { return };
        let number = number.strip_prefix(b"-").unwrap_or(number);
        let probes = matches!(quote, b'\'' | b'"') && !number.is_empty() && number.iter().all(u8::is_ascii_digit);
        if probes && (part.name.ends_with(b"id") || part.name.ends_with(b"ids")) {
            found.add(Sqli, 50, part.offset..part.offset + part.lower.len(), "breaks a number with a quote");
        }
    }

    /// `'`, `'x`: a quote and nothing that it could belong to, to see whether the statement breaks.
    fn judge_lone(part: &Part<'_>, found: &mut Findings) {
        let [b'\'' | b'"', word @ ..] = part.lower else { return };
        let plain = word.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        if part.place == Place::Value && plain && !is_typed(part.name) {
            found.add(Sqli, 50, part.offset..part.offset + part.lower.len(), "opens a string and nothing else");
        }
    }

    fn read(&mut self, part: &Part<'_>, quote: Option<u8>, found: &mut Findings) {
        tokens(part.lower, quote, &mut self.tokens);
        let from = Cell::new(None);
        let mut statement = Statement { tokens: &self.tokens, broken: quote.is_some(), asked: false, part, from };
        statement.asked = statement.is_asked();
        for at in 0..self.tokens.len() {
            statement.judge_at(at, found);
        }
        statement.judge_break(found);
        if quote.is_none() {
            statement.judge_tail(found);
            statement.judge_closing(found);
            statement.judge_whole(found);
        }
    }
}

/// Whether a parameter of this name may hold what somebody is typing, key by key: `"whi`, `'tis`.
fn is_typed(name: &[u8]) -> bool {
    const STEMS: [&[u8]; 8] = [b"search", b"filter", b"query", b"prefix", b"term", b"name", b"text", b"title"];
    is_free_text(name) || STEMS.iter().any(|stem| memchr::memmem::find(name, stem).is_some())
}

/// Whether a user agent breaks a string open: it begins with a quote, or has one in front of `or`, `and`, `union` or
/// `;`. Honest agents quote whole words at most.
fn is_statement_in_agent(part: &Part<'_>) -> bool {
    let text = part.lower;
    matches!(text.first(), Some(b'\'' | b'"'))
        || memchr::memchr2_iter(b'\'', b'"', text).take(8).any(|at| {
            let rest = text[at + 1..].trim_ascii_start();
            [&b"or "[..], b"and ", b"union ", b"||", b"xor", b"; "].iter().any(|word| rest.starts_with(word))
        })
}

/// Whether every `quote` of the text stands around a value of a structure (`(query:'*')`, `["a"]`): each opening one
/// behind a bracket, colon or comma. Such text closes no string that an application opened.
fn quotes_values(text: &[u8], quote: u8) -> bool {
    let mut opening = true;
    let mut all = true;
    for at in memchr::memchr_iter(quote, text).take(256) {
        if opening {
            all &= at > 0 && matches!(text[at - 1], b':' | b'(' | b'[' | b'{' | b',');
        } else {
            all &= text.get(at + 1).is_none_or(|byte| matches!(byte, b')' | b']' | b'}' | b',' | b':'));
        }
        opening = !opening;
    }
    all && opening && !matches!(text.first(), Some(b')' | b',')) && balanced(text)
}

/// Whether no bracket closes before it opens: a statement broken open closes what others opened.
fn balanced(text: &[u8]) -> bool {
    let mut depth = 0_i32;
    text.iter().all(|byte| {
        depth += match byte {
            b'(' | b'[' | b'{' => 1,
            b')' | b']' | b'}' => -1,
            _ => 0,
        };
        depth >= 0
    })
}

/// Tokens of one reading, with the rules over them.
struct Statement<'s> {
    tokens: &'s [Token],
    /// Whether the first token is the inside of a string that the application opened.
    broken: bool,
    /// A whole statement in a parameter for free text: somebody looks for it, or writes about it.
    asked: bool,
    part: &'s Part<'s>,
    /// From where on the next `from` was looked for last, and where it stands.
    from: Cell<Option<(usize, Option<usize>)>>,
}

impl Statement<'_> {
    fn kind(&self, at: usize) -> Option<Kind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    fn key(&self, at: usize) -> Option<Key> {
        match self.kind(at) {
            Some(Kind::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// The text of the token at `at`, empty behind the last.
    fn word(&self, at: usize) -> &[u8] {
        self.tokens.get(at).map_or(&[], |token| &self.part.lower[token.start..token.end])
    }

    fn report(&self, from: usize, to: usize, weight: u8, reason: &'static str, found: &mut Findings) {
        let last = to.min(self.tokens.len().saturating_sub(1));
        let (start, end) = (self.tokens[from].start, self.tokens[last].end);
        let span = self.part.offset + start..self.part.offset + end;
        // A slug separates the words of a headline with dashes; SQL needs blanks, quotes or parentheses.
        let slug =
            self.part.place == Place::Path && !self.part.marks.any(Marks::SPACE.and(Marks::QUOTE).and(Marks::PAREN));
        // A third: no two findings of a statement that is only told reach the bound.
        let weight = if slug {
            weight / 2
        } else if self.asked {
            weight / 3
        } else {
            weight
        };
        found.add(Sqli, weight, span, reason);
    }

    /// The rules for a token inside the statement.
    fn judge_at(&self, at: usize, found: &mut Findings) {
        match self.tokens[at].kind {
            Kind::Logic => self.judge_condition(at, found),
            Kind::Key(Key::Union) => self.judge_union(at, found),
            Kind::Key(Key::Select) => self.judge_select(at, found),
            Kind::Semicolon => self.judge_stacked(at, found),
            Kind::Key(Key::Having | Key::Order | Key::Group | Key::Procedure | Key::Into) => {
                self.judge_clause(at, found)
            }
            Kind::Key(Key::Statement) => self.judge_statement(at, found),
            Kind::Function(_) => self.judge_call(at, found),
            Kind::Key(Key::Where) => self.judge_filter(at, found),
            Kind::Key(Key::Values) if self.kind(at + 1) == Some(Kind::Open) => {
                self.report(at, at + 1, 50, "adds rows to a table", found);
            }
            Kind::Key(Key::Case) => self.judge_case(at, found),
            _ => {}
        }
    }

    /// Where the first `from` at `at` or behind stands: queries in a row share one, which is looked for once.
    fn next_from(&self, at: usize) -> Option<usize> {
        let known = self.from.get().filter(|(asked, found)| *asked <= at && found.is_none_or(|found| at <= found));
        let found = match known {
            Some((_, found)) => found,
            None => (at..self.tokens.len()).find(|at| self.key(*at) == Some(Key::From)),
        };
        self.from.set(Some((at, found)));
        found
    }

    fn any_key(&self, at: usize, key: Key) -> bool {
        self.tokens[at..].iter().any(|token| token.kind == Kind::Key(key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::Tricks;
    use super::super::marks::marks_of;
    use super::*;

    fn score(text: &str) -> u8 {
        let lower = text.to_ascii_lowercase();
        let part = Part {
            place: Place::Value,
            text: text.as_bytes(),
            lower: lower.as_bytes(),
            offset: 0,
            name: b"q",
            path: b"/",
            marks: marks_of(text.as_bytes()),
            pairs: &super::super::pairs::Pairs::UNKNOWN,
            tricks: Tricks::default(),
            after_double_ampersand: false,
        };
        let mut found = Findings::default();
        Sql::default().judge(&part, true, &mut found);
        found.sum().map_or(0, |(_, score)| score)
    }

    #[test]
    fn text_that_continues_a_statement_is_sql() {
        for text in [
            "7' or '1'='1",
            "7 or 1=1",
            "7) or (1=1",
            "x\" and \"a\"=\"a",
            "admin'--",
            "admin' #",
            "-1 union select 1,2,3",
            "-1 UnIoN/**/AlL/**/sElEcT null",
            "1; drop table users",
            "1'; exec master..xp_cmdshell 'dir'--",
            "1 and sleep(5)",
            "1' and benchmark(9000,md5(1))#",
            "1 order by 9--",
            "' having 1=1--",
            "(select password from users limit 1)",
            "1 and (select count(*) from t)>0",
            "'; waitfor delay '0:0:9'--",
            "x' into outfile '/tmp/a",
            "1 procedure analyse(extractvalue(1,concat(0x5c,version())),1)",
            "' or 'a' like 'a",
            "'||(select 1 from dual)||'",
            "1 /*!50000union*/ /*!50000select*/ 1,2",
            "a' or 1 in (1)--",
        ] {
            assert!(score(text) >= 50, "{text} scores {}", score(text));
        }
    }

    #[test]
    fn sentences_and_query_languages_are_not() {
        for text in [
            "O'Brien and sons",
            "select the best from our union of shops",
            "rock and roll or jazz",
            "don't drop the table, update the set",
            "\"white\" and \"black\"",
            "Name eq 'abc' and Id gt 5",
            "rate(http_requests_total[5m]) > 0 and up == 1",
            "5 or 6 months",
            "it's 5 o'clock; where are you",
            "C# -- the language",
            "13\" laptop -- new",
            "contains(Name,'x') or length(Name) eq 3",
            "group by 3 friends",
            "xor0",
            "or1",
            "50% cotton and 50% wool",
        ] {
            assert!(score(text) < 50, "{text} scores {}", score(text));
        }
    }
}
