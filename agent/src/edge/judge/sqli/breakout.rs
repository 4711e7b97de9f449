//! Leaving the place that the application meant: strings and parentheses closed, the rest of the statement cut off.

use super::Statement;
use super::token::{Key, Kind};
use crate::edge::judge::finding::Findings;

impl Statement<'_> {
    /// What follows the string that the text closes.
    pub(super) fn judge_break(&self, found: &mut Findings) {
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
    pub(super) fn is_quoted_word(&self, at: usize) -> bool {
        let token = self.tokens[at];
        // "Unexpected token '<'": a sentence puts its symbols in quotes too.
        let said = &self.part.lower[..self.tokens[at - 1].end.saturating_sub(1)];
        let sentence = said.ends_with(b" ") && said.iter().filter(|byte| **byte == b' ').count() >= 2;
        let letters = sentence || self.part.lower[token.start..token.end].iter().all(u8::is_ascii_alphabetic);
        let adjacent = token.start == self.tokens[at - 1].end
            && self
                .tokens
                .get(at + 1)
                .is_some_and(|after| after.start == token.end && matches!(after.kind, Kind::Text { .. }));
        letters && adjacent && self.tokens.len() <= at + 3
    }

    /// Whether the comment at `at` cuts the rest off, rather than being a dash or a number sign of a sentence.
    pub(super) fn cuts_off(&self, at: usize) -> bool {
        let text = &self.part.lower[self.tokens[at].start..];
        match text {
            [b'#', rest @ ..] => rest.iter().all(u8::is_ascii_whitespace),
            [b'-', b'-', rest @ ..] => rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric()),
            _ => true,
        }
    }

    /// Whether the text ends inside a string again, after an expression: `' or a='b`, `'|'b`.
    pub(super) fn reopens(&self, operator: usize) -> bool {
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
    pub(super) fn compares_later(&self, operator: usize) -> bool {
        let written =
            |at: usize| matches!(self.kind(at), Some(Kind::Number | Kind::Text { .. } | Kind::Open | Kind::Constant));
        (operator + 1..self.tokens.len().min(operator + 12))
            .any(|at| self.kind(at) == Some(Kind::Compare) && written(at + 1))
    }

    pub(super) fn count_words(&self) -> usize {
        self.tokens.iter().filter(|token| token.kind == Kind::Word).count()
    }

    pub(super) fn ends_with_comment(&self) -> bool {
        self.tokens.last().is_some_and(|last| last.kind == Kind::Comment { open: true })
            && self.cuts_off(self.tokens.len() - 1)
    }

    /// `) from users where …`, `) like (`: a parenthesis closed that the application opened, then SQL.
    pub(super) fn judge_closing(&self, found: &mut Findings) {
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
    pub(super) fn judge_whole(&self, found: &mut Findings) {
        let constant = |at: usize| matches!(self.kind(at), Some(Kind::Number | Kind::Text { closed: true }));
        if self.tokens.len() == 3 && constant(0) && self.kind(1) == Some(Kind::Compare) && constant(2) {
            self.report(0, 2, 50, "is a comparison of constants", found);
        }
        if matches!(self.kind(0), Some(Kind::Number | Kind::Open)) && self.tokens.len() > 2 && self.only_computes() {
            self.report(0, self.tokens.len() - 1, 50, "is a comparison of constants", found);
        }
    }

    /// `1 is true`, `1 not in (2)`, `1^(1=1)^1`: values and operators alone, a comparison in words or in parentheses
    /// among them. Sums have neither.
    fn only_computes(&self) -> bool {
        let word = |at: usize| self.is_letters(at);
        let compares = |at: usize| {
            let operand =
                matches!(self.kind(at + 1), Some(Kind::Constant | Kind::Open | Kind::Number | Kind::Arithmetic));
            let inside = self.kind(at.wrapping_sub(2)) == Some(Kind::Open) && self.kind(at + 2) == Some(Kind::Close);
            self.kind(at) == Some(Kind::Compare)
                && operand
                && (inside || word(at) && self.kind(at + 1) != Some(Kind::Number))
        };
        self.tokens.iter().all(|token| {
            matches!(
                token.kind,
                Kind::Number
                    | Kind::Constant
                    | Kind::Compare
                    | Kind::Arithmetic
                    | Kind::Logic
                    | Kind::Open
                    | Kind::Close
            )
        }) && (1..self.tokens.len()).any(compares)
    }

    /// A comment that cuts the rest of the statement off, after something that computes.
    pub(super) fn judge_tail(&self, found: &mut Findings) {
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

    pub(super) fn computes(&self, at: usize) -> bool {
        matches!(self.kind(at), Some(Kind::Key(Key::Select | Key::Case) | Kind::Function(_)))
    }
}
