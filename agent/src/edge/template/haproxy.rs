//! The variables of a HAProxy `log-format` (configuration manual, 8.2.6 "Custom log format").

use super::draft::Field;
use super::{Piece, TemplateError};

/// What `HAPROXY_HTTP_LOG_FMT` stands for: `option httplog`.
const HTTP_LOG: &str =
    "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r";

/// Takes a format, or a whole directive, apart.
pub(super) fn compile(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let text = text.strip_prefix("log-format").map_or(text, str::trim);
    let text = text.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(text);
    let text = text.replace("${HAPROXY_HTTP_LOG_FMT}", HTTP_LOG);
    Compiler { rest: &text, pieces: Vec::new(), quote_all: false }.run()
}

struct Compiler<'t> {
    rest: &'t str,
    pieces: Vec<Piece>,
    /// `%{+Q}o` was seen: every value is quoted from there on.
    quote_all: bool,
}

impl<'t> Compiler<'t> {
    fn run(mut self) -> Result<Vec<Piece>, TemplateError> {
        while let Some(percent) = self.rest.find('%') {
            self.literal(percent);
            self.rest = &self.rest[1..];
            match self.rest.strip_prefix('%') {
                Some(behind) => {
                    self.pieces.push(Piece::Literal(b"%".to_vec()));
                    self.rest = behind;
                }
                None => self.variable()?,
            }
        }
        self.literal(self.rest.len());
        Ok(self.pieces)
    }

    /// In an unquoted configuration word a backslash keeps the space behind it; it is not part of the line.
    fn literal(&mut self, end: usize) {
        let (text, rest) = self.rest.split_at(end);
        self.pieces.push(Piece::Literal(text.replace('\\', "").into()));
        self.rest = rest;
    }

    /// `{flags}`, then a name or `[expression]`.
    fn variable(&mut self) -> Result<(), TemplateError> {
        let flags = self.enclosed('{', '}')?.unwrap_or_default();
        if let Some(expression) = self.enclosed('[', ']')? {
            self.push(meaning_of_expression(expression), flags, format!("%[{expression}]"));
            return Ok(());
        }
        let end = self.rest.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        if name == "o" {
            return self.flag_for_all(flags);
        }
        self.push(meaning(name), flags, format!("%{name}"));
        Ok(())
    }

    /// `%{flags}o` writes nothing and changes what all variables behind it look like.
    fn flag_for_all(&mut self, flags: &str) -> Result<(), TemplateError> {
        match flags {
            "+Q" => self.quote_all = true,
            "-Q" => self.quote_all = false,
            "" | "+M" | "-M" | "-X" | "+E" | "-E" => {}
            _ => return Err(TemplateError::Unsupported(format!("%{{{flags}}}o"))),
        }
        Ok(())
    }

    fn push(&mut self, field: Field, flags: &str, name: String) {
        let has = |flag: &str| flags.split(',').any(|found| found.trim() == flag);
        let quoted = field != Field::Captures && (self.quote_all || has("+Q")) && !has("-Q");
        // Hexadecimal addresses and ports mean something to nobody else.
        let field = if has("+X") { Field::Skipped } else { field };
        let quote = || Piece::Literal(b"\"".to_vec());
        self.pieces.extend(quoted.then(quote));
        self.pieces.push(Piece::Variable(field, name));
        self.pieces.extend(quoted.then(quote));
    }

    fn enclosed(&mut self, open: char, close: char) -> Result<Option<&'t str>, TemplateError> {
        let Some(inner) = self.rest.strip_prefix(open) else { return Ok(None) };
        let (text, behind) = inner.split_once(close).ok_or_else(|| TemplateError::Unclosed(format!("%{open}")))?;
        self.rest = behind;
        Ok(Some(text))
    }
}

fn meaning(name: &str) -> Field {
    match name {
        "ci" => Field::ClientAddress,
        "cp" => Field::ClientPort,
        "t" | "T" | "Tl" | "Ts" | "tr" | "trg" | "trl" => Field::Began,
        "Ta" | "Tt" => Field::TookMillis,
        "Tr" => Field::AnsweredAfter,
        "r" => Field::RequestLine,
        "HM" => Field::Method,
        "HU" | "HP" | "HPO" => Field::Uri,
        "HQ" => Field::Query,
        "ST" => Field::Status,
        "s" => Field::TargetName,
        "si" => Field::TargetAddress,
        "sp" => Field::TargetPort,
        "bi" => Field::LocalAddress,
        "bp" => Field::LocalPort,
        "U" => Field::ReceivedBytes,
        "B" => Field::SentBytes,
        "ID" => Field::TraceId,
        "f" | "ft" => Field::Balancer,
        "ts" | "tsc" => Field::Termination,
        "hr" | "hs" => Field::Captures,
        _ => Field::Skipped,
    }
}

/// Sample expressions name what they fetch: `src`, `capture.req.hdr(0)`, `var(txn.user_agent)`. Where the name says it, it is
/// believed.
fn meaning_of_expression(expression: &str) -> Field {
    let expression = expression.to_ascii_lowercase().replace('-', "_");
    match expression.as_str() {
        "src" => Field::ClientAddress,
        "src_port" => Field::ClientPort,
        "unique_id" => Field::TraceId,
        "bc_src" => Field::LocalAddress,
        "bc_src_port" => Field::LocalPort,
        "bc_dst" => Field::TargetAddress,
        "bc_dst_port" => Field::TargetPort,
        _ if expression.contains("user_agent") => Field::UserAgent,
        _ if expression.contains("referer") => Field::Referer,
        _ if expression.contains("host") => Field::Host,
        _ if ["hdr", "cook", "url", "path", "query", "body"].iter().any(|word| expression.contains(word)) => {
            Field::ClientText
        }
        _ => Field::Skipped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_text_come_apart() {
        let check = |text: &str, expected: &str| {
            let found: String = compile(text)
                .expect("compiles")
                .into_iter()
                .map(|piece| match piece {
                    Piece::Literal(text) => String::from_utf8(text).expect("as given"),
                    Piece::Variable(field, _) => format!("<{}>", field.name()),
                })
                .collect();
            assert_eq!(found, expected, "{text}");
        };
        check("%ci:%cp", "<client address>:<client port>");
        check(r"%ST\ %B 100%%", "<status> <sent bytes> 100%");
        check("%{+Q}r %ST", "\"<request line>\" <status>");
        check("%{+Q}o %r %{-Q}ST", " \"<request line>\" <status>");
        check("%{+X}ci", "<skipped variable>");
        check("%[capture.req.hdr(0)] %{+Q}[var(txn.user-agent)]", "<client text> \"<user agent>\"");
        check("log-format \"%ST\"", "<status>");
        assert!(compile("${HAPROXY_HTTP_LOG_FMT} %si:%sp").expect("compiles").len() > 40);
    }
}
