//! Queries, statements and clauses that do not belong in a value, and calls of SQL's own functions.

use super::Statement;
use super::condition::Operand;
use super::token::{Key, Kind, Strength};
use crate::edge::judge::finding::Findings;
use crate::edge::judge::prose::{self, is_free_text};

impl Statement<'_> {
    /// `union [all] select`.
    pub(super) fn judge_union(&self, at: usize, found: &mut Findings) {
        let mut next = at + 1;
        while matches!(self.kind(next), Some(Kind::Key(Key::Quantifier) | Kind::Open)) && next < at + 12 {
            next += 1;
        }
        if self.key(next) == Some(Key::Select) {
            let weight = if self.is_prose(next + 1) { 30 } else { 75 };
            self.report(at, next + 1, weight, "appends the rows of another query", found);
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
    pub(super) fn judge_select(&self, at: usize, found: &mut Findings) {
        let mut next = at + 1;
        while matches!(self.kind(next), Some(Kind::Key(Key::Quantifier | Key::Limit) | Kind::Open | Kind::Arithmetic))
            && next < at + 12
        {
            next += 1;
        }
        let subquery = at > 0 && self.kind(at - 1) == Some(Kind::Open);
        // 64: as many columns as a query that is meant has.
        let from = self.next_from(next).filter(|from| *from < next + 64);
        // `"Select"`: a word in quotes.
        if self.broken && at == 1 && self.tokens.len() <= 3 && self.touches(at) {
            return;
        }
        let list = matches!(self.kind(next + 1), Some(Kind::Comma)) || self.is_sign(at + 1) && !self.is_compound(at);
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
            // "Don't forget: select \"OK\" …": a word before it, and nothing that a query reads from.
            (true, false, false) if at > 0 && matches!(self.kind(at - 1), Some(Kind::Word | Kind::Other)) => 25,
            (true, false, false) if self.kind(at + 1) != Some(Kind::Word) => 50,
            (false, true, false) if self.is_bare_query(at, from) => 50,
            _ => 15,
        };
        self.report(at, table.map_or(next, |from| from + 1), weight, "contains a query", found);
    }

    /// Whether the tokens around `at` touch it and are text.
    fn touches(&self, at: usize) -> bool {
        let text = |at: usize| matches!(self.kind(at), Some(Kind::Text { .. }));
        text(at - 1)
            && text(at + 1)
            && self.tokens[at - 1].end == self.tokens[at].start
            && self.tokens[at].end == self.tokens[at + 1].start
    }

    /// Whether the operator at `at` may stand in front of a value: `select *`, `select -1`, but not `select & co`.
    fn is_sign(&self, at: usize) -> bool {
        self.kind(at) == Some(Kind::Arithmetic)
            && (self.is_letters(at)
                || matches!(self.part.lower[self.tokens[at].start], b'*' | b'-' | b'+' | b'~' | b'!'))
    }

    /// `select-dropdown`: a word that the one at `at` is the first half of.
    fn is_compound(&self, at: usize) -> bool {
        let [one, dash, other] = &self.tokens[at..(at + 3).min(self.tokens.len())] else { return false };
        let dashed = self.word(at + 1) == b"-";
        dashed
            && one.end == dash.start
            && dash.end == other.start
            && other.kind == Kind::Word
            && self.is_letters(at + 2)
    }

    /// Words in a row at `at`, with no comma, operator or call: no list of columns has that, a sentence does.
    pub(super) fn is_prose(&self, at: usize) -> bool {
        let word = |at: usize| self.kind(at) == Some(Kind::Word) && self.is_letters(at);
        // "union select tutorial": a word of a sentence, and nothing behind it that could be asked for.
        let alone = word(at) && self.kind(at + 1).is_none() && is_free_text(self.part.name);
        alone
            || self.is_foreign(at) && is_free_text(self.part.name)
            || word(at) && word(at + 1) && matches!(self.kind(at + 2), Some(Kind::Word | Kind::Number))
    }

    /// Whether the token at `at` begins with a letter of another script: what people write, and no schema is called.
    fn is_foreign(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(|token| !self.part.lower[token.start].is_ascii())
    }

    /// Whether the token at `at` is of letters alone.
    pub(super) fn is_letters(&self, at: usize) -> bool {
        self.tokens
            .get(at)
            .is_some_and(|token| self.part.lower[token.start..token.end].iter().all(u8::is_ascii_alphabetic))
    }

    /// Whether the text is a whole statement and stands where people write: what breaks into another one has something
    /// in front of it, and does more than a statement told: calls, unites, comments, stacks, nests.
    pub(super) fn is_asked(&self) -> bool {
        let whole = matches!(
            self.kind(0),
            Some(Kind::Key(Key::Select | Key::Statement | Key::Group | Key::Order | Key::Having | Key::Where))
        );
        !self.broken && whole && is_free_text(self.part.name) && !self.goes_past_a_query()
    }

    fn goes_past_a_query(&self) -> bool {
        self.tokens[1..].iter().any(|token| {
            matches!(
                token.kind,
                Kind::Function(Strength::Telling)
                    | Kind::Key(Key::Union | Key::Select | Key::File | Key::Statement | Key::Procedure)
                    | Kind::Comment { .. }
                    | Kind::Semicolon
                    | Kind::Variable
            )
        })
    }

    /// `select column from table` and no word between that a sentence would have.
    pub(super) fn is_bare_query(&self, at: usize, from: Option<usize>) -> bool {
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
        let dotted = self.word(from + 1).contains(&b'.');
        let condition = self.tokens[from..]
            .iter()
            .any(|token| matches!(token.kind, Kind::Compare | Kind::Comment { .. } | Kind::Semicolon));
        names_only && (dotted || (goes_on && condition))
    }

    /// `; drop table x`, `'; exec xp_…`.
    pub(super) fn judge_stacked(&self, at: usize, found: &mut Findings) {
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
            // "; drop the bass": a sentence.
            (Some(Key::Statement), Some(Kind::Word)) if matches!(self.word(at + 2), b"the" | b"a" | b"an" | b"my") => {
                25
            }
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
    pub(super) fn branches(&self, at: usize) -> bool {
        let word = self.tokens.get(at).map(|token| &self.part.lower[token.start..token.end]);
        matches!(word, Some(b"if" | b"while"))
            && self
                .operand(at + 1)
                .is_some_and(|(operand, after)| operand == Operand::Constant && self.kind(after) == Some(Kind::Compare))
    }

    /// `having 1=1`, `order by 9--`, `group by x having`, `procedure analyse(`, `into outfile`.
    pub(super) fn judge_clause(&self, at: usize, found: &mut Findings) {
        let value_before = at > 0 && self.is_operand_end(at - 1) && self.kind(at - 1) != Some(Kind::Word);
        let ended = |at: usize| matches!(self.kind(at), None | Some(Kind::Comment { .. } | Kind::Comma));
        let weight = match (self.key(at), self.key(at + 1)) {
            (Some(Key::Into), Some(Key::File)) => 75,
            (Some(Key::Into), _) if value_before && self.kind(at + 1) == Some(Kind::Variable) => 50,
            (Some(Key::Procedure), _) if self.kind(at + 2) == Some(Kind::Open) => 65,
            (Some(Key::Having), _) => match self.operand(at + 1) {
                Some((_, after)) if self.kind(after) == Some(Kind::Compare) => 55,
                Some((Operand::Constant, _)) if self.kind(at + 1) == Some(Kind::Open) => 50,
                Some((Operand::Constant, after)) if ended(after) && value_before => 50,
                _ => return,
            },
            (Some(Key::Order | Key::Group), Some(Key::By)) => match self.kind(at + 2) {
                Some(Kind::Number) if ended(at + 3 + usize::from(self.is_direction(at + 3))) => 55,
                Some(Kind::Open | Kind::Function(_)) if value_before => 50,
                // Query languages of trackers and stores order by a field too.
                Some(Kind::Word) if value_before && (self.broken || self.ends_with_comment()) => 45,
                Some(Kind::Word) if value_before => 30,
                _ => return,
            },
            _ => return,
        };
        self.report(at, at + 2, weight, "adds a clause to the query", found);
    }

    /// `asc`, `desc`.
    fn is_direction(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(|token| matches!(&self.part.lower[token.start..token.end], b"asc" | b"desc"))
    }

    /// `insert into x values`, `update x set y=`, `drop table x`, `waitfor delay`, `exec sp_…`, `declare @x`.
    pub(super) fn judge_statement(&self, at: usize, found: &mut Findings) {
        let word = self.word(at);
        let telling = matches!(self.kind(at + 1), Some(Kind::Function(Strength::Telling) | Kind::Variable));
        let weight = match (word, self.key(at + 1), self.kind(at + 1)) {
            (b"waitfor", ..) if self.kind(at + 2).is_some_and(|kind| matches!(kind, Kind::Text { .. })) => 75,
            (b"exec" | b"execute" | b"declare", ..) if telling => 65,
            (b"exec" | b"execute" | b"call", _, Some(Kind::Word)) if self.names_procedure(at + 1) => 60,
            (b"exec", _, Some(Kind::Open)) => 55,
            (b"execute", _, Some(Kind::Word))
                if self.word(at + 1) == b"immediate"
                    && matches!(self.kind(at + 2), Some(Kind::Text { .. } | Kind::Variable | Kind::Open)) =>
            {
                55
            }
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
            // `2' delete from users`: right behind the string's end no sentence goes on so.
            (b"delete" | b"insert" | b"drop" | b"truncate", Some(Key::From | Key::Into | Key::Table), _)
                if self.broken
                    && at == 1
                    && self.tokens.last().is_none_or(|last| last.kind != (Kind::Text { closed: false })) =>
            {
                55
            }
            // "drop table": somebody looks for the statement; where it is meant, something stands before it or behind.
            (b"drop" | b"create" | b"alter" | b"truncate" | b"backup", Some(Key::Table | Key::Procedure), _)
                if at == 0 && self.tokens.len() <= 3 =>
            {
                40
            }
            (b"drop" | b"create" | b"alter", Some(Key::Table), _)
                if self.is_foreign(at + 2) && is_free_text(self.part.name) =>
            {
                25
            }
            // "drop table leaf hinges", "create index cards": what they name is no more than a word of several.
            (b"drop" | b"create", Some(Key::Table), _) if at == 0 && self.is_named_on(at + 2) => 25,
            (b"drop" | b"create" | b"alter" | b"truncate" | b"backup", Some(Key::Table | Key::Procedure), _) => 50,
            (b"load", _, Some(Kind::Word)) if self.any_key(at, Key::Into) || self.has_function(at) => 40,
            _ => return,
        };
        self.report(at, at + 2, weight, "contains a statement that changes data or runs code", found);
    }

    /// Whether the word at `at` and the one behind it are of letters, and the second goes on with no definition.
    fn is_named_on(&self, at: usize) -> bool {
        let words = [at, at + 1].iter().all(|at| self.kind(*at) == Some(Kind::Word) && self.is_letters(*at));
        words
            && !matches!(
                self.word(at + 1),
                b"on" | b"using" | b"cascade" | b"restrict" | b"purge" | b"engine" | b"with" | b"no"
            )
            && matches!(self.kind(at + 2), None | Some(Kind::Word))
    }

    pub(super) fn names_procedure(&self, at: usize) -> bool {
        let word = self.word(at);
        let name = word.rsplit(|byte| *byte == b'.').next().unwrap_or(word);
        name.starts_with(b"xp_")
            || name.starts_with(b"sp_")
            || word.starts_with(b"dbms_")
            || word.starts_with(b"master.")
    }

    pub(super) fn has_values(&self, at: usize) -> bool {
        self.any_key(at, Key::Values) || self.any_key(at, Key::Select) || self.any_key(at, Key::Set)
    }

    pub(super) fn has_function(&self, at: usize) -> bool {
        self.tokens[at..].iter().any(|token| matches!(token.kind, Kind::Function(_)))
    }

    /// Calls of SQL's own functions.
    pub(super) fn judge_call(&self, at: usize, found: &mut Findings) {
        let Kind::Function(strength) = self.tokens[at].kind else { return };
        if self.kind(at + 1) != Some(Kind::Open) {
            return;
        }
        match strength {
            // "sleep (5) tips", "benchmark (2024)": a word in a sentence, with something in brackets.
            Strength::Telling if self.is_aside(at) => {}
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

    /// Whether the call at `at` is told in a sentence: that goes on behind it, or the brackets stand apart from the word
    /// and hold one number or, where people write, words.
    pub(super) fn is_aside(&self, at: usize) -> bool {
        let (_, after) = self.call_operand(at);
        let close = self.tokens.get(after.saturating_sub(1)).map_or(0, |token| token.end);
        if self.kind(after) == Some(Kind::Word) && prose::goes_on(&self.part.lower[close..]) {
            return true;
        }
        let apart = self.tokens.get(at + 1).is_some_and(|open| open.start > self.tokens[at].end);
        let number = self.kind(at + 2) == Some(Kind::Number) && self.kind(at + 3) == Some(Kind::Close);
        let on = self.kind(at + 4).is_none_or(|kind| kind == Kind::Word);
        let from =
            at == 0 || self.kind(at - 1) == Some(Kind::Word) || matches!(self.kind(at - 1), Some(Kind::Text { .. }));
        // "sleep (5 tips for better rest)": words in brackets, where people write.
        let words = is_free_text(self.part.name)
            && matches!(self.kind(at + 2), Some(Kind::Number | Kind::Word))
            && self.kind(at + 3) == Some(Kind::Word)
            && self.is_letters(at + 3);
        apart && (number && on || words) && from
    }

    /// Whether the call at `at` is glued into an expression by an operator or follows a broken string.
    pub(super) fn in_expression(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1).and_then(|before| self.kind(before)) else { return false };
        (self.broken && matches!(before, Kind::Arithmetic | Kind::Logic | Kind::Comma | Kind::Open | Kind::Compare))
            || (matches!(before, Kind::Arithmetic | Kind::Compare | Kind::Logic)
                && at >= 2
                && matches!(self.kind(at - 2), Some(Kind::Number | Kind::Text { .. })))
    }
}
