//! SQL injection, judged by grammar.
//!
//! A text is read as SQL three times: bare, as the inside of a `'` string, as the inside of a `"` string. What counts is whether it
//! *continues a statement*: it closes a string and goes on with an operator, compares constants, selects, stacks a statement, cuts
//! the rest off with a comment. Words of SQL in a sentence do none of that.

mod token;

use token::{Key, Kind, Strength, Token, tokens};

use super::finding::Findings;
use super::marks::Marks;
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
        if part.place == Place::UserAgent || !(keyword || quoted) {
            return;
        }
        if keyword {
            self.read(part, None, found);
        }
        self.judge_probe(part, found);
        for quote in [b'\'', b'"'] {
            if quoted && part.lower.contains(&quote) {
                self.read(part, Some(quote), found);
            }
        }
    }

    /// `id=7'`: a number with a quote behind it, to see whether the statement breaks.
    fn judge_probe(&self, part: &Part<'_>, found: &mut Findings) {
        let Some((quote, number)) = part.lower.split_last() else { return };
        let number = number.strip_prefix(b"-").unwrap_or(number);
        let probes = matches!(quote, b'\'' | b'"') && !number.is_empty() && number.iter().all(u8::is_ascii_digit);
        if probes && (part.name.ends_with(b"id") || part.name.ends_with(b"ids")) {
            found.add(Sqli, 50, part.offset..part.offset + part.lower.len(), "breaks a number with a quote");
        }
    }

    fn read(&mut self, part: &Part<'_>, quote: Option<u8>, found: &mut Findings) {
        tokens(part.lower, quote, &mut self.tokens);
        let statement = Statement { tokens: &self.tokens, broken: quote.is_some(), part };
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

/// Tokens of one reading, with the rules over them.
struct Statement<'s> {
    tokens: &'s [Token],
    /// Whether the first token is the inside of a string that the application opened.
    broken: bool,
    part: &'s Part<'s>,
}

/// An operand of a comparison.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Operand {
    /// A value written out.
    Constant,
    /// A call of one of SQL's functions, or a subquery.
    Computed,
    /// A name.
    Name,
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

    fn report(&self, from: usize, to: usize, weight: u8, reason: &'static str, found: &mut Findings) {
        let last = to.min(self.tokens.len().saturating_sub(1));
        let (start, end) = (self.tokens[from].start, self.tokens[last].end);
        let span = self.part.offset + start..self.part.offset + end;
        // A slug separates the words of a headline with dashes; SQL needs blanks, quotes or parentheses.
        let slug =
            self.part.place == Place::Path && !self.part.marks.any(Marks::SPACE.and(Marks::QUOTE).and(Marks::PAREN));
        let weight = if slug { weight / 2 } else { weight };
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

    /// `or 1=1`, `and 'a'='a`, `or sleep(5)`, `' or 'x`.
    fn judge_condition(&self, at: usize, found: &mut Findings) {
        if self.after_between(at) {
            return;
        }
        let Some((left, after)) = self.operand(at + 1) else { return };
        if self.kind(after) == Some(Kind::Compare) {
            let weight = match (left, self.operand(after + 1).map(|(right, _)| right)) {
                (Operand::Name, Some(Operand::Name)) if at == 0 || self.same(at + 1, after + 1) => 55,
                (Operand::Name, Some(Operand::Name)) if self.broken && self.ends_with_comment() => 55,
                (Operand::Name, None) => 15,
                (Operand::Name, Some(Operand::Name)) => 10,
                (Operand::Name, Some(Operand::Constant)) if self.goes_on_from_value(at, after) => 50,
                (Operand::Name, Some(_)) | (_, Some(Operand::Name)) if !self.broken => 35,
                (_, None) if !self.broken && at > 0 => 35,
                _ => 65,
            };
            self.report(at, after + 1, weight, "adds a condition that compares constants", found);
            return;
        }
        let comma = self.broken && self.kind(after) == Some(Kind::Comma);
        let ends = comma
            || matches!(
                self.kind(after),
                None | Some(Kind::Comment { .. } | Kind::Close | Kind::Logic | Kind::Semicolon | Kind::Arithmetic)
            );
        if left != Operand::Name && ends {
            let weight = match (self.broken && at == 1, left) {
                (true, _) => 55,
                (_, Operand::Computed) if at == 0 => 50,
                (_, Operand::Computed) => 40,
                (_, Operand::Constant) if at == 0 => 50,
                (_, Operand::Constant)
                    if self.kind(at + 1) == Some(Kind::Constant) && self.kind(at - 1) == Some(Kind::Number) =>
                {
                    50
                }
                (_, Operand::Constant) if self.is_operand_end(at - 1) && self.has_syntax(at, after) => 50,
                _ => 15,
            };
            self.report(at, after, weight, "adds a condition that is a constant", found);
        } else if self.broken && at == 1 && self.kind(after) == Some(Kind::Arithmetic) && self.kind(after + 1).is_none()
        {
            self.report(at, after, 50, "adds a condition and breaks off", found);
        }
    }

    /// Whether two tokens are the same word.
    fn same(&self, one: usize, other: usize) -> bool {
        let text = |at: usize| self.tokens.get(at).map(|token| &self.part.lower[token.start..token.end]);
        text(one).is_some() && text(one) == text(other)
    }

    /// `7 or name like '%'`: a value, then a condition on a string.
    fn goes_on_from_value(&self, at: usize, compare: usize) -> bool {
        let value = at == 1 && matches!(self.kind(0), Some(Kind::Number | Kind::Text { .. }));
        value && matches!(self.kind(compare + 1), Some(Kind::Text { .. }))
    }

    /// Whether the `and` at `at` belongs to `between a and b`.
    fn after_between(&self, at: usize) -> bool {
        let word = |token: &Token| &self.part.lower[token.start..token.end];
        at >= 2 && self.tokens[at.saturating_sub(3)..at].iter().any(|token| word(token) == b"between")
    }

    /// `where 1=1`: a filter that compares constants.
    fn judge_filter(&self, at: usize, found: &mut Findings) {
        let Some((Operand::Constant, after)) = self.operand(at + 1) else { return };
        if self.kind(after) == Some(Kind::Compare) {
            self.report(at, after, 60, "adds a condition that compares constants", found);
        }
    }

    /// `case when … then`, `case 1 when 2 then`.
    fn judge_case(&self, at: usize, found: &mut Findings) {
        let branches = self.tokens[at + 1..].iter().take(12).filter(|token| token.kind == Kind::Key(Key::When)).count();
        if branches >= 2 {
            self.report(at, at + 3, 50, "decides with a SQL case expression", found);
        }
    }

    /// Whether parentheses, comments or a repeated number stand around the condition at `at`: a statement's syntax, not a
    /// sentence's.
    fn has_syntax(&self, at: usize, after: usize) -> bool {
        let text = |at: usize| self.tokens.get(at).map(|token| &self.part.lower[token.start..token.end]);
        let before = at.checked_sub(1);
        matches!(self.kind(after), Some(Kind::Comment { .. } | Kind::Close | Kind::Semicolon))
            || before.is_some_and(|before| self.kind(before) == Some(Kind::Close) || text(before) == text(at + 1))
            || matches!(self.kind(at + 1), Some(Kind::Open))
    }

    fn is_operand_end(&self, at: usize) -> bool {
        matches!(
            self.kind(at),
            Some(Kind::Text { .. } | Kind::Number | Kind::Constant | Kind::Variable | Kind::Close | Kind::Word)
        )
    }

    /// The operand at `at`, signs and parentheses before it skipped, and the index of the token after it.
    fn operand(&self, at: usize) -> Option<(Operand, usize)> {
        let mut at = at;
        // 24: nested parentheses and signs in front of one operand; more is noise.
        for _ in 0..24 {
            match self.kind(at)? {
                Kind::Arithmetic | Kind::Open => at += 1,
                Kind::Number | Kind::Constant | Kind::Variable | Kind::Text { .. } => {
                    return Some((Operand::Constant, self.skip_closing(self.skip_arithmetic(at + 1))));
                }
                Kind::Key(Key::Select | Key::Case) => return Some((Operand::Computed, at + 1)),
                Kind::Function(_) => return Some(self.call_operand(at)),
                Kind::Word | Kind::Key(Key::Table) => {
                    return (self.kind(at + 1) != Some(Kind::Open)).then(|| (Operand::Name, self.skip_closing(at + 1)));
                }
                _ => return None,
            }
        }
        None
    }

    /// A function name as operand: with its arguments it is computed, alone it is a name, save for those that take none.
    fn call_operand(&self, at: usize) -> (Operand, usize) {
        let word = &self.part.lower[self.tokens[at].start..self.tokens[at].end];
        if matches!(
            word,
            b"current_user"
                | b"session_user"
                | b"system_user"
                | b"current_date"
                | b"current_time"
                | b"current_timestamp"
        ) {
            return (Operand::Computed, self.skip_closing(at + 1));
        }
        if self.kind(at + 1) != Some(Kind::Open) {
            return (Operand::Name, self.skip_closing(at + 1));
        }
        let mut depth = 0_usize;
        // 32 tokens of arguments are enough to find the end of the calls that matter.
        for end in at + 1..at + 33 {
            match self.kind(end) {
                Some(Kind::Open) => depth += 1,
                Some(Kind::Close) => depth -= 1,
                None => break,
                _ => {}
            }
            if depth == 0 {
                return (Operand::Computed, self.skip_closing(end + 1));
            }
        }
        (Operand::Computed, at + 2)
    }

    /// Past `+2*3` after a constant.
    fn skip_arithmetic(&self, at: usize) -> usize {
        let continues = |at: usize| {
            self.kind(at) == Some(Kind::Arithmetic)
                && matches!(self.kind(at + 1), Some(Kind::Number | Kind::Text { closed: true } | Kind::Variable))
        };
        (0..8).map(|step| at + 2 * step).find(|at| !continues(*at)).unwrap_or(at)
    }

    fn skip_closing(&self, at: usize) -> usize {
        (at..at + 24).find(|at| self.kind(*at) != Some(Kind::Close)).unwrap_or(at)
    }

    /// `union [all] select`.
    fn judge_union(&self, at: usize, found: &mut Findings) {
        let mut next = at + 1;
        while matches!(self.kind(next), Some(Kind::Key(Key::Quantifier) | Kind::Open)) && next < at + 12 {
            next += 1;
        }
        if self.key(next) == Some(Key::Select) {
            self.report(at, next + 1, 75, "appends the rows of another query", found);
        } else if self.key(next) == Some(Key::Values) {
            self.report(at, next, 50, "appends the rows of another query", found);
        } else if matches!(self.kind(next), None | Some(Kind::Comment { open: true }))
            && (next > at + 1
                || at
                    .checked_sub(1)
                    .is_some_and(|before| matches!(self.kind(before), Some(Kind::Number | Kind::Comment { .. }))))
        {
            let commented = self.tokens.iter().any(|token| matches!(token.kind, Kind::Comment { .. }));
            let after_number = at <= 2 && self.kind(0) == Some(Kind::Number) || self.kind(1) == Some(Kind::Number);
            let weight = if commented || after_number { 50 } else { 40 };
            self.report(at, next, weight, "begins to append another query", found);
        }
    }

    /// `select 1,2`, `(select …`, `select x from t`.
    fn judge_select(&self, at: usize, found: &mut Findings) {
        let mut next = at + 1;
        while matches!(self.kind(next), Some(Kind::Key(Key::Quantifier | Key::Limit) | Kind::Open | Kind::Arithmetic))
            && next < at + 12
        {
            next += 1;
        }
        let subquery = at > 0 && self.kind(at - 1) == Some(Kind::Open);
        let from = (next..(next + 64).min(self.tokens.len())).find(|at| self.key(*at) == Some(Key::From));
        let list = matches!(self.kind(next + 1), Some(Kind::Comma)) || self.kind(at + 1) == Some(Kind::Arithmetic);
        let listed = matches!(
            self.kind(next),
            Some(
                Kind::Number
                    | Kind::Constant
                    | Kind::Variable
                    | Kind::Text { .. }
                    | Kind::Function(_)
                    | Kind::Key(Key::Case)
            )
        );
        let table =
            from.filter(|from| matches!(self.kind(from + 1), Some(Kind::Word | Kind::Open | Kind::Function(_))));
        let weight = match (listed || list, table.is_some(), subquery) {
            (true, true, _) => 70,
            (true, false, true) => 60,
            (_, true, true) => 65,
            (true, false, false) if self.kind(at + 1) != Some(Kind::Word) => 50,
            (false, true, false) if self.is_bare_query(at, from) => 50,
            _ => 15,
        };
        self.report(at, table.map_or(next, |from| from + 1), weight, "contains a query", found);
    }

    /// `select column from table` and no word between that a sentence would have.
    fn is_bare_query(&self, at: usize, from: Option<usize>) -> bool {
        let Some(from) = from else { return false };
        let columns = from - at - 1;
        let names_only = columns == 1 || self.tokens[at + 1..from].iter().any(|token| token.kind == Kind::Comma);
        let goes_on = matches!(
            self.kind(from + 2),
            Some(
                Kind::Key(Key::Where | Key::Limit | Key::Order | Key::Union)
                    | Kind::Semicolon
                    | Kind::Comment { .. }
                    | Kind::Comma
            )
        );
        let dotted = self.part.lower[self.tokens[from + 1].start..self.tokens[from + 1].end].contains(&b'.');
        let condition = self.tokens[from..]
            .iter()
            .any(|token| matches!(token.kind, Kind::Compare | Kind::Comment { .. } | Kind::Semicolon));
        names_only && (dotted || (goes_on && condition))
    }

    /// `; drop table x`, `'; exec xp_…`.
    fn judge_stacked(&self, at: usize, found: &mut Findings) {
        let weight = match (self.key(at + 1), self.kind(at + 2)) {
            (Some(Key::Select), Some(_)) => 45,
            (
                Some(Key::Statement),
                Some(
                    Kind::Key(Key::Table | Key::Into | Key::From | Key::Procedure | Key::Set | Key::Statement)
                    | Kind::Function(Strength::Telling)
                    | Kind::Variable,
                ),
            ) => 70,
            (Some(Key::Statement), None | Some(Kind::Comment { .. } | Kind::Semicolon)) if self.broken => 55,
            (Some(Key::Statement), Some(Kind::Word | Kind::Function(_))) if self.broken => 55,
            (Some(Key::Statement), Some(Kind::Word)) if at == 1 && self.kind(0) == Some(Kind::Number) => 50,
            (Some(Key::Set), Some(Kind::Variable)) => 65,
            _ if self.branches(at + 1) => 60,
            _ if matches!(self.kind(at + 1), Some(Kind::Comment { open: true })) && self.broken => 50,
            _ => return,
        };
        self.report(at, at + 2, weight, "stacks a second statement", found);
    }

    /// `if 1=1`, `while 1=1`: T-SQL that decides on a constant.
    fn branches(&self, at: usize) -> bool {
        let word = self.tokens.get(at).map(|token| &self.part.lower[token.start..token.end]);
        matches!(word, Some(b"if" | b"while"))
            && self
                .operand(at + 1)
                .is_some_and(|(operand, after)| operand == Operand::Constant && self.kind(after) == Some(Kind::Compare))
    }

    /// `having 1=1`, `order by 9--`, `group by x having`, `procedure analyse(`, `into outfile`.
    fn judge_clause(&self, at: usize, found: &mut Findings) {
        let value_before = at > 0 && self.is_operand_end(at - 1) && self.kind(at - 1) != Some(Kind::Word);
        let ended = |at: usize| matches!(self.kind(at), None | Some(Kind::Comment { .. } | Kind::Comma));
        let weight = match (self.key(at), self.key(at + 1)) {
            (Some(Key::Into), Some(Key::File)) => 75,
            (Some(Key::Procedure), _) if self.kind(at + 2) == Some(Kind::Open) => 65,
            (Some(Key::Having), _) => match self.operand(at + 1) {
                Some((_, after)) if self.kind(after) == Some(Kind::Compare) => 55,
                Some((Operand::Constant, _)) if self.kind(at + 1) == Some(Kind::Open) => 50,
                Some((Operand::Constant, after)) if ended(after) && value_before => 50,
                _ => return,
            },
            (Some(Key::Order | Key::Group), Some(Key::By)) => match self.kind(at + 2) {
                Some(Kind::Number) if ended(at + 3) => 55,
                Some(Kind::Open | Kind::Function(_)) if value_before => 50,
                Some(Kind::Word) if value_before => 45,
                _ => return,
            },
            _ => return,
        };
        self.report(at, at + 2, weight, "adds a clause to the query", found);
    }

    /// `insert into x values`, `update x set y=`, `drop table x`, `waitfor delay`, `exec sp_…`, `declare @x`.
    fn judge_statement(&self, at: usize, found: &mut Findings) {
        let word = &self.part.lower[self.tokens[at].start..self.tokens[at].end];
        let telling = matches!(self.kind(at + 1), Some(Kind::Function(Strength::Telling) | Kind::Variable));
        let weight = match (word, self.key(at + 1), self.kind(at + 1)) {
            (b"waitfor", ..) if self.kind(at + 2).is_some_and(|kind| matches!(kind, Kind::Text { .. })) => 75,
            (b"exec" | b"execute" | b"declare", ..) if telling => 65,
            (b"exec" | b"execute" | b"call", _, Some(Kind::Word)) if self.names_procedure(at + 1) => 60,
            (b"exec", _, Some(Kind::Open)) => 55,
            (b"drop" | b"delete" | b"truncate" | b"update" | b"insert", ..) if at == 0 && self.ends_with_comment() => {
                55
            }
            (b"insert" | b"merge", Some(Key::Into), _) if self.has_values(at) => 60,
            (b"update", _, Some(Kind::Word))
                if self.key(at + 2) == Some(Key::Set) && self.kind(at + 4) == Some(Kind::Compare) =>
            {
                60
            }
            (b"delete", Some(Key::From), _) if self.any_key(at, Key::Where) => 60,
            (b"drop" | b"create" | b"alter" | b"truncate" | b"backup", Some(Key::Table | Key::Procedure), _) => 50,
            (b"load", _, Some(Kind::Word)) if self.any_key(at, Key::Into) || self.has_function(at) => 40,
            _ => return,
        };
        self.report(at, at + 2, weight, "contains a statement that changes data or runs code", found);
    }

    fn names_procedure(&self, at: usize) -> bool {
        let word = &self.part.lower[self.tokens[at].start..self.tokens[at].end];
        let name = word.rsplit(|byte| *byte == b'.').next().unwrap_or(word);
        name.starts_with(b"xp_")
            || name.starts_with(b"sp_")
            || word.starts_with(b"dbms_")
            || word.starts_with(b"master.")
    }

    fn any_key(&self, at: usize, key: Key) -> bool {
        self.tokens[at..].iter().any(|token| token.kind == Kind::Key(key))
    }

    fn has_values(&self, at: usize) -> bool {
        self.any_key(at, Key::Values) || self.any_key(at, Key::Select) || self.any_key(at, Key::Set)
    }

    fn has_function(&self, at: usize) -> bool {
        self.tokens[at..].iter().any(|token| matches!(token.kind, Kind::Function(_)))
    }

    /// Calls of SQL's own functions.
    fn judge_call(&self, at: usize, found: &mut Findings) {
        let Kind::Function(strength) = self.tokens[at].kind else { return };
        if self.kind(at + 1) != Some(Kind::Open) {
            return;
        }
        match strength {
            Strength::Telling => self.report(at, at + 2, 50, "calls a function that injections use", found),
            Strength::Common if self.in_expression(at) && matches!(self.kind(at + 2), Some(Kind::Function(_))) => {
                self.report(at, at + 3, 50, "computes with nested functions of SQL", found);
            }
            Strength::Common if self.in_expression(at) => {
                self.report(at, at + 2, 35, "computes with a function of SQL", found);
            }
            Strength::Common => {}
        }
    }

    /// Whether the call at `at` is glued into an expression by an operator or follows a broken string.
    fn in_expression(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1).and_then(|before| self.kind(before)) else { return false };
        (self.broken && matches!(before, Kind::Arithmetic | Kind::Logic | Kind::Comma | Kind::Open | Kind::Compare))
            || (matches!(before, Kind::Arithmetic | Kind::Compare | Kind::Logic)
                && at >= 2
                && matches!(self.kind(at - 2), Some(Kind::Number | Kind::Text { .. })))
    }

    /// What follows the string that the text closes.
    fn judge_break(&self, found: &mut Findings) {
        if !self.broken || self.tokens.first().is_none_or(|first| first.kind != (Kind::Text { closed: true })) {
            return;
        }
        let mut next = 1;
        while self.kind(next) == Some(Kind::Close) && next < 24 {
            next += 1;
        }
        let closes = next > 1;
        let operator = matches!(self.kind(next), Some(Kind::Arithmetic | Kind::Logic | Kind::Compare));
        let weight = match (self.kind(next), self.kind(next + 1)) {
            _ if operator && self.is_quoted_word(next) => return,
            (Some(Kind::Comment { open: true }), _) if self.cuts_off(next) => 50,
            (
                Some(Kind::Compare),
                Some(Kind::Text { .. } | Kind::Number | Kind::Constant | Kind::Open | Kind::Arithmetic),
            ) => 50,
            (Some(Kind::Arithmetic | Kind::Logic), Some(Kind::Open)) if self.computes(next + 2) => 55,
            (Some(Kind::Arithmetic | Kind::Logic), Some(Kind::Function(_)))
                if self.kind(next + 2) == Some(Kind::Open) =>
            {
                50
            }
            // The quote that the application adds closes the last string: the statement is whole again.
            _ if operator && self.compares_later(next) => 50,
            (Some(Kind::Semicolon), None) if self.tokens.len() == 2 => 50,
            (Some(Kind::Logic), None) if self.tokens[0].end <= 2 => 50,
            _ if operator && self.reopens(next) => 50,
            _ if operator && self.ends_with_comment() && self.count_words() <= 1 => 50,
            (Some(Kind::Logic), Some(_)) if closes => 40,
            (
                Some(Kind::Logic),
                Some(Kind::Text { .. } | Kind::Number | Kind::Constant | Kind::Variable | Kind::Open),
            ) => 30,
            (Some(Kind::Key(Key::Union | Key::Having | Key::Into | Key::Limit | Key::Procedure)), _) => 35,
            (Some(Kind::Semicolon), _) if closes => 35,
            (Some(Kind::Comma), Some(Kind::Open | Kind::Function(_) | Kind::Constant)) => 35,
            _ => return,
        };
        self.report(0, next + 1, weight, "closes a string and goes on with SQL", found);
    }

    /// A word in quotes: `"LIKE" stamp`.
    fn is_quoted_word(&self, at: usize) -> bool {
        let token = self.tokens[at];
        let letters = self.part.lower[token.start..token.end].iter().all(u8::is_ascii_alphabetic);
        let adjacent = token.start == self.tokens[at - 1].end
            && self
                .tokens
                .get(at + 1)
                .is_some_and(|after| after.start == token.end && matches!(after.kind, Kind::Text { .. }));
        letters && adjacent && self.tokens.len() <= at + 3
    }

    /// Whether the comment at `at` cuts the rest off, rather than being a dash or a number sign of a sentence.
    fn cuts_off(&self, at: usize) -> bool {
        let text = &self.part.lower[self.tokens[at].start..];
        match text {
            [b'#', rest @ ..] => rest.iter().all(u8::is_ascii_whitespace),
            [b'-', b'-', rest @ ..] => rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric()),
            _ => true,
        }
    }

    /// Whether the text ends inside a string again, after an expression: `' or a='b`, `'|'b`.
    fn reopens(&self, operator: usize) -> bool {
        let Some(last) = self.tokens.last().filter(|last| last.kind == Kind::Text { closed: false }) else {
            return false;
        };
        let inside = self.part.lower[(last.start + 1).min(last.end)..last.end].trim_ascii();
        // Empty at the end is a measure in inches, unless the text began with the quote too.
        let empty = inside.is_empty() && self.tokens[0].end <= 2;
        let value = empty || !inside.is_empty() && !inside.iter().any(u8::is_ascii_whitespace);
        let operators = &self.tokens[operator + 1..];
        let expression = !matches!(self.kind(operator + 1), Some(Kind::Word))
            || operators.iter().any(|token| matches!(token.kind, Kind::Compare | Kind::Logic))
            || inside.iter().all(u8::is_ascii_digit) && operators.iter().any(|token| token.kind == Kind::Arithmetic);
        value && expression && self.tokens.len() > operator + 1
    }

    /// `' | 1 != (1) …`: after the break, an expression compares with something written out.
    fn compares_later(&self, operator: usize) -> bool {
        let written =
            |at: usize| matches!(self.kind(at), Some(Kind::Number | Kind::Text { .. } | Kind::Open | Kind::Constant));
        (operator + 1..self.tokens.len().min(operator + 12))
            .any(|at| self.kind(at) == Some(Kind::Compare) && written(at + 1))
    }

    fn count_words(&self) -> usize {
        self.tokens.iter().filter(|token| token.kind == Kind::Word).count()
    }

    fn ends_with_comment(&self) -> bool {
        self.tokens.last().is_some_and(|last| last.kind == Kind::Comment { open: true })
            && self.cuts_off(self.tokens.len() - 1)
    }

    /// `) from users where …`, `) like (`: a parenthesis closed that the application opened, then SQL.
    fn judge_closing(&self, found: &mut Findings) {
        let mut depth = 0_i32;
        for at in 0..self.tokens.len() {
            match self.tokens[at].kind {
                Kind::Open => depth += 1,
                Kind::Close => depth -= 1,
                _ => {}
            }
            if depth < 0 {
                let weight = match (self.kind(at + 1), self.kind(at + 2)) {
                    (Some(Kind::Key(Key::From)), Some(Kind::Word)) if self.any_key(at, Key::Where) => 55,
                    (Some(Kind::Compare), Some(Kind::Open | Kind::Text { .. } | Kind::Number)) => 50,
                    (Some(Kind::Key(Key::Where | Key::Having)), Some(_)) => 40,
                    _ => return,
                };
                return self.report(at, at + 2, weight, "closes a parenthesis and goes on with SQL", found);
            }
        }
    }

    /// `1=1`, `11!=1`: nothing but a comparison of constants.
    fn judge_whole(&self, found: &mut Findings) {
        let constant = |at: usize| matches!(self.kind(at), Some(Kind::Number | Kind::Text { closed: true }));
        if self.tokens.len() == 3 && constant(0) && self.kind(1) == Some(Kind::Compare) && constant(2) {
            self.report(0, 2, 50, "is a comparison of constants", found);
        }
    }

    /// A comment that cuts the rest of the statement off, after something that computes.
    fn judge_tail(&self, found: &mut Findings) {
        let last = self.tokens.len().saturating_sub(1);
        if last == 0 || !self.ends_with_comment() {
            return;
        }
        let text = &self.part.lower[self.tokens[last].start..];
        let sentence = self.count_words() > 1;
        let empty = !sentence && (text.len() <= 2 || text[2..].trim_ascii().len() <= 1);
        let ends_operand = self.is_operand_end(last - 1);
        let computes = self.tokens[..last].iter().any(|token| {
            matches!(token.kind, Kind::Function(_) | Kind::Compare | Kind::Logic | Kind::Key(Key::Union | Key::Select))
                || self.part.lower[token.start..token.end] == *b"binary"
                || (token.kind == Kind::Arithmetic && (text.starts_with(b"/*") || self.part.lower[token.start] == b'*'))
        }) || self.tokens[0].kind == Kind::Open && self.count_words() == 0;
        if empty && ends_operand && computes {
            self.report(last.saturating_sub(2), last, 50, "cuts off the rest of a statement", found);
        }
    }

    fn computes(&self, at: usize) -> bool {
        matches!(self.kind(at), Some(Kind::Key(Key::Select | Key::Case) | Kind::Function(_)))
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
            "50% cotton and 50% wool",
        ] {
            assert!(score(text) < 50, "{text} scores {}", score(text));
        }
    }
}
