//! Conditions: what is compared with what, and whether that is something a sentence would say.

use super::Statement;
use super::token::{Key, Kind, Token};
use crate::edge::judge::finding::Findings;

/// An operand of a comparison.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Operand {
    /// A value written out.
    Constant,
    /// A call of one of SQL's functions, or a subquery.
    Computed,
    /// A name.
    Name,
}

/// Tokens within which a query language has its first condition; without the bound many conditions would each look through all
/// that is before them.
const FIRST_CONDITION: usize = 16;

impl Statement<'_> {
    /// `or 1=1`, `and 'a'='a`, `or sleep(5)`, `' or 'x`.
    pub(super) fn judge_condition(&self, at: usize, found: &mut Findings) {
        if self.after_between(at) {
            return;
        }
        // `1 and f(x) > 2`, `1 and f(x) = f(x)`: whatever the function is, no query language begins with a number and an operator.
        if at == 1 && self.kind(0) == Some(Kind::Number) && self.kind(2) == Some(Kind::Word) {
            let (called, after) = self.call_operand(2);
            let call = self.kind(after + 1) == Some(Kind::Word) && self.kind(after + 2) == Some(Kind::Open);
            let value = call || matches!(self.operand(after + 1), Some((Operand::Constant, _)));
            if called == Operand::Computed && self.kind(after) == Some(Kind::Compare) && value {
                return self.report(0, after + 1, 50, "adds a condition that compares constants", found);
            }
        }
        let Some((left, after)) = self.operand(at + 1) else { return };
        if self.kind(after) == Some(Kind::Compare) {
            let weight = match (left, self.operand(after + 1).map(|(right, _)| right)) {
                (Operand::Name, Some(Operand::Name)) if at == 0 || self.same(at + 1, after + 1) => 55,
                (Operand::Name, Some(Operand::Name)) if self.broken && self.ends_with_comment() => 55,
                (Operand::Name, None) => 15,
                (Operand::Name, Some(Operand::Name)) => 10,
                (Operand::Name, Some(Operand::Constant)) if self.goes_on_from_value(at, after) => 50,
                (Operand::Name, Some(_)) if self.filters_before(at) => 15,
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
                (_, Operand::Constant) if at == 0 && self.is_one_word() => 15,
                (_, Operand::Constant) if at == 0 => 50,
                (_, Operand::Constant)
                    if self.any_constant(at + 1, after) && self.kind(at - 1) == Some(Kind::Number) =>
                {
                    50
                }
                (_, Operand::Constant) if self.is_operand_end(at - 1) && self.has_syntax(at, after) => 50,
                _ => 15,
            };
            self.report(at, after, weight, "adds a condition that is a constant", found);
        } else if self.broken && at == 1 && self.tokens[0].end <= 1 && self.quotes_operator(at) {
            self.report(0, after, 50, "adds a condition and breaks off", found);
        } else if self.broken && at == 1 && self.kind(after) == Some(Kind::Arithmetic) && self.kind(after + 1).is_none()
        {
            self.report(at, after, 50, "adds a condition and breaks off", found);
        }
    }

    /// `xor0`, `or1`: an operator in letters and a number, which are one word of something else when nothing is between them
    /// and nothing else is there.
    fn is_one_word(&self) -> bool {
        let [operator, number] = self.tokens else { return false };
        number.kind == Kind::Number && operator.end == number.start && self.is_letters(0)
    }

    /// Whether `true`, `false` or `null` stands between two tokens.
    fn any_constant(&self, from: usize, to: usize) -> bool {
        (from..to).any(|at| self.kind(at) == Some(Kind::Constant))
    }

    /// Whether two tokens are the same word.
    pub(super) fn same(&self, one: usize, other: usize) -> bool {
        let text = |at: usize| self.tokens.get(at).map(|token| &self.part.lower[token.start..token.end]);
        text(one).is_some() && text(one) == text(other)
    }

    /// `7 or name like '%'`: a value, then a condition on a string.
    pub(super) fn goes_on_from_value(&self, at: usize, compare: usize) -> bool {
        let value = at == 1 && matches!(self.kind(0), Some(Kind::Number | Kind::Text { .. }));
        value && matches!(self.kind(compare + 1), Some(Kind::Text { .. }))
    }

    /// `project = abc and status in (…)`: conditions on names before `at` too, as a whole text of a tracker's query language
    /// is; what breaks into a statement has a value there.
    fn filters_before(&self, at: usize) -> bool {
        !self.broken
            && self.kind(0) == Some(Kind::Word)
            && (1..at.min(FIRST_CONDITION))
                .any(|at| self.kind(at) == Some(Kind::Compare) && self.kind(at - 1) == Some(Kind::Word))
    }

    /// `'or'a='a`: an operator between two quotes, the second with a word right behind it.
    fn quotes_operator(&self, at: usize) -> bool {
        let Some(text) = self.tokens.get(at + 1).filter(|token| matches!(token.kind, Kind::Text { .. })) else {
            return false;
        };
        text.start == self.tokens[at].end && self.part.lower.get(text.start + 1).is_some_and(u8::is_ascii_alphanumeric)
    }

    /// Whether the `and` at `at` belongs to `between a and b`.
    pub(super) fn after_between(&self, at: usize) -> bool {
        let word = |token: &Token| &self.part.lower[token.start..token.end];
        at >= 2 && self.tokens[at.saturating_sub(3)..at].iter().any(|token| word(token) == b"between")
    }

    /// `where 1=1`: a filter that compares constants.
    pub(super) fn judge_filter(&self, at: usize, found: &mut Findings) {
        let Some((Operand::Constant, after)) = self.operand(at + 1) else { return };
        if self.kind(after) == Some(Kind::Compare) {
            self.report(at, after, 60, "adds a condition that compares constants", found);
        }
    }

    /// `case when … then`, `case 1 when 2 then`.
    pub(super) fn judge_case(&self, at: usize, found: &mut Findings) {
        let branches = self.tokens[at + 1..].iter().take(12).filter(|token| token.kind == Kind::Key(Key::When)).count();
        if branches >= 2 {
            self.report(at, at + 3, 50, "decides with a SQL case expression", found);
        }
    }

    /// Whether parentheses, comments or a repeated number stand around the condition at `at`: a statement's syntax,
    /// not a sentence's.
    pub(super) fn has_syntax(&self, at: usize, after: usize) -> bool {
        let text = |at: usize| self.tokens.get(at).map(|token| &self.part.lower[token.start..token.end]);
        let before = at.checked_sub(1);
        matches!(self.kind(after), Some(Kind::Comment { .. } | Kind::Close | Kind::Semicolon))
            || before.is_some_and(|before| self.kind(before) == Some(Kind::Close) || text(before) == text(at + 1))
            || matches!(self.kind(at + 1), Some(Kind::Open))
    }

    pub(super) fn is_operand_end(&self, at: usize) -> bool {
        matches!(
            self.kind(at),
            Some(Kind::Text { .. } | Kind::Number | Kind::Constant | Kind::Variable | Kind::Close | Kind::Word)
        )
    }

    /// The operand at `at`, signs and parentheses before it skipped, and the index of the token after it.
    pub(super) fn operand(&self, at: usize) -> Option<(Operand, usize)> {
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

    /// A function name as operand: with its arguments it is computed, alone it is a name, save for those that take
    /// none.
    pub(super) fn call_operand(&self, at: usize) -> (Operand, usize) {
        let word = self.word(at);
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
    pub(super) fn skip_arithmetic(&self, at: usize) -> usize {
        let continues = |at: usize| {
            self.kind(at) == Some(Kind::Arithmetic)
                && matches!(self.kind(at + 1), Some(Kind::Number | Kind::Text { closed: true } | Kind::Variable))
        };
        (0..8).map(|step| at + 2 * step).find(|at| !continues(*at)).unwrap_or(at)
    }

    pub(super) fn skip_closing(&self, at: usize) -> usize {
        (at..at + 24).find(|at| self.kind(*at) != Some(Kind::Close)).unwrap_or(at)
    }
}
