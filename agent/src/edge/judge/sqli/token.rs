//! SQL tokens, read from the middle of a statement that nobody has seen.
//!
//! Text goes in together with the quote that the application may have opened before it; at most [`MAX_TOKENS`]
//! tokens come out. Dialects are not told apart: what MySQL, PostgreSQL, SQL Server, Oracle or SQLite would take as
//! a comment, string or operator is one.

use crate::edge::judge::shapes::Shapes;

/// Most tokens read of one text. Injections show themselves within the first few dozen; the bound keeps every rule
/// linear.
pub(super) const MAX_TOKENS: usize = 1024;

/// What a token is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string; `closed` tells whether its quote ends.
    Text {
        closed: bool,
    },
    /// A number.
    Number,
    /// `null`, `true`, `false`, `\N`.
    Constant,
    /// `@x`, `@@x`, `:x`.
    Variable,
    /// Any other word.
    Word,
    /// A word of SQL's own functions, whether or not a parenthesis follows.
    Function(Strength),
    /// `or`, `and`, `xor`, `||`, `&&`.
    Logic,
    /// `=`, `<`, `like`, `between`, `is`, `in`, …
    Compare,
    /// `+`, `-`, `*`, `/`, `%`, `|`, `&`, `^`, `~`, `!`, `not`, `binary`.
    Arithmetic,
    /// A word with a place in the grammar.
    Key(Key),
    Comma,
    Open,
    Close,
    Semicolon,
    /// `--`, `#`, `/*`; `open` when it swallows the rest of the statement.
    Comment {
        open: bool,
    },
    /// Anything else.
    Other,
}

/// How much a function call says by itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Strength {
    /// Delays, reads files, provokes errors, runs commands: injected, or not in a URL at all.
    Telling,
    /// Found in attacks and in ordinary expression languages.
    Common,
}

/// Keywords by their place in the grammar.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Select,
    Union,
    /// `all`, `distinct`, `distinctrow`.
    Quantifier,
    From,
    Where,
    Having,
    Group,
    Order,
    By,
    Limit,
    Into,
    /// `outfile`, `dumpfile`.
    File,
    Procedure,
    /// Words that begin a statement, `select` apart.
    Statement,
    Set,
    Table,
    Values,
    Case,
    When,
    As,
}

/// A token and where it stands.
#[derive(Copy, Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Reads `text` (lower case) as the inside of a string that `quote` opened, or as bare SQL.
pub(super) fn tokens(text: &[u8], quote: Option<u8>, out: &mut Vec<Token>) {
    out.clear();
    let mut at = 0;
    if let Some(quote) = quote {
        let (end, closed) = string_end(text, 0, quote);
        out.push(Token { kind: Kind::Text { closed }, start: 0, end });
        at = end;
    }
    while out.len() < MAX_TOKENS && at < text.len() {
        if is_blank(text, at) {
            at += 1;
            continue;
        }
        let (kind, end) = next(text, at, out.last().map(|token| token.kind));
        // `/**/` and `/*!50000` stand for a space; what a version comment wraps is SQL.
        if kind != (Kind::Comment { open: false }) {
            out.push(Token { kind, start: at, end });
        }
        at = end.max(at + 1);
    }
}

/// White space of any dialect: control characters, the lone `A0` that MySQL takes for one, a line feed written out.
fn is_blank(text: &[u8], at: usize) -> bool {
    // Most bytes are printable ASCII.
    if matches!(text[at], b'!'..=b'[' | b']'..=b'm' | b'o'..=b'q' | b's' | b'u'..=b'~') {
        return false;
    }
    let lone = |byte: u8| (0x80..0xC0).contains(&byte) && (at == 0 || text[at - 1] < 0x80);
    let written = text[at] == b'\\'
        && matches!(text.get(at + 1), Some(b'n' | b'r' | b't'))
        && text.get(at + 2).is_some_and(u8::is_ascii_alphabetic);
    let tail = at > 0
        && text[at - 1] == b'\\'
        && matches!(text[at], b'n' | b'r' | b't')
        && text.get(at + 1).is_some_and(u8::is_ascii_alphabetic);
    text[at].is_ascii_whitespace() || text[at] < 0x20 || lone(text[at]) || written || tail
}

fn next(text: &[u8], at: usize, before: Option<Kind>) -> (Kind, usize) {
    let (byte, following) = (text[at], text.get(at + 1).copied().unwrap_or(0));
    match (byte, following) {
        (b'\'' | b'"', _) => {
            let (end, closed) = string_end(text, at + 1, byte);
            (Kind::Text { closed }, end)
        }
        (b'`', _) => match memchr::memchr(b'`', &text[at + 1..]) {
            Some(length) => (Kind::Word, at + length + 2),
            // The last one: the end of a name that the application began.
            None => (Kind::Other, at + 1),
        },
        (b'-', b'-') | (b'#', _) => comment_to_line_end(text, at, before),
        (b'/', b'*') => block_comment(text, at),
        (b'*', b'/') => (Kind::Comment { open: false }, at + 2),
        (b'0'..=b'9', _) | (b'.', b'0'..=b'9') => (Kind::Number, number_end(text, at)),
        (b'@', b'\'' | b'"' | b'`') => (Kind::Variable, string_end(text, at + 2, following).0),
        (b'@', _) => (Kind::Variable, word_end(text, at + 1 + usize::from(following == b'@'))),
        (b'\\', b'n') => (Kind::Constant, at + 2),
        (b'|', b'|') | (b'&', b'&') => (Kind::Logic, at + 2),
        (b'<' | b'>' | b'=' | b'!' | b':', _) => operator(text, at),
        (b'+' | b'-' | b'*' | b'/' | b'%' | b'|' | b'&' | b'^' | b'~', _) => (Kind::Arithmetic, at + 1),
        (b',', _) => (Kind::Comma, at + 1),
        (b'(', _) => (Kind::Open, at + 1),
        (b')', _) => (Kind::Close, at + 1),
        (b';', _) => (Kind::Semicolon, at + 1),
        (b'[', _) => {
            let end = memchr::memchr(b']', &text[at..]).map_or(at + 1, |found| at + found + 1);
            (Kind::Word, end)
        }
        _ if is_word(byte) => {
            let end = at + whole_word(&text[at..word_end(text, at)]);
            (word(&text[at..end]), end)
        }
        _ => (Kind::Other, at + 1),
    }
}

/// `--` is a comment only before white space or at the end in MySQL, everywhere in others; `#` only in MySQL, where
/// it must come after something.
fn comment_to_line_end(text: &[u8], at: usize, before: Option<Kind>) -> (Kind, usize) {
    let line_end = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |found| at + found);
    if before.is_none() && text[at] == b'#' {
        return (Kind::Other, at + 1);
    }
    (Kind::Comment { open: line_end == text.len() }, line_end.max(at + 1))
}

fn block_comment(text: &[u8], at: usize) -> (Kind, usize) {
    if text.get(at + 2) == Some(&b'!') {
        let digits = text[at + 3..].iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
        return (Kind::Comment { open: false }, at + 3 + digits);
    }
    match memchr::memmem::find(&text[at + 2..], b"*/") {
        Some(found) => (Kind::Comment { open: false }, at + found + 4),
        None => (Kind::Comment { open: true }, text.len()),
    }
}

fn operator(text: &[u8], at: usize) -> (Kind, usize) {
    let length = text[at..].iter().take(3).take_while(|byte| matches!(byte, b'<' | b'>' | b'=' | b'!')).count();
    match &text[at..at + length] {
        b"!" => (Kind::Arithmetic, at + 1),
        b"" if text.get(at + 1) == Some(&b'=') => (Kind::Arithmetic, at + 2), // `:=`
        b"" => (Kind::Other, at + 1),
        _ => (Kind::Compare, at + length),
    }
}

/// The end of a string whose quote opened before `from`, and whether it ends at all. A doubled or escaped quote is
/// part of it.
fn string_end(text: &[u8], from: usize, quote: u8) -> (usize, bool) {
    let mut at = from;
    while let Some(found) = memchr::memchr2(quote, b'\\', text.get(at..).unwrap_or_default()) {
        let here = at + found;
        let doubled = text.get(here + 1) == Some(&quote) && here > from;
        if text[here] == b'\\' || doubled {
            at = here + 2;
        } else {
            return (here + 1, true);
        }
    }
    (text.len(), false)
}

fn number_end(text: &[u8], at: usize) -> usize {
    let from =
        |start: usize, accept: fn(&u8) -> bool| start + text[start..].iter().take_while(|byte| accept(byte)).count();
    if text[at] == b'0' && matches!(text.get(at + 1), Some(b'x' | b'b')) {
        let end = from(at + 2, u8::is_ascii_hexdigit);
        if end > at + 2 {
            return end;
        }
    }
    let mut end = from(at, u8::is_ascii_digit);
    if text.get(end) == Some(&b'.') {
        end = from(end + 1, u8::is_ascii_digit);
    }
    if text.get(end) == Some(&b'e') {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = from((end + 1 + sign).min(text.len()), u8::is_ascii_digit);
        if exponent > end + 1 + sign {
            return exponent;
        }
    }
    end
}

/// Bytes of words: letters, digits, `_`, `$`, what is beyond ASCII.
static IN_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80;
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

fn is_word(byte: u8) -> bool {
    IN_WORD[usize::from(byte)]
}

fn word_end(text: &[u8], at: usize) -> usize {
    let from = at.min(text.len());
    let mut before = from.checked_sub(1).map_or(u8::MAX, |before| text[before]);
    let length = text[from..].iter().position(|byte| {
        // A continuation byte after ASCII begins no character: it is the blank that splits `union\xA0select`.
        let stray = (0x80..0xC0).contains(byte) && before < 0x80;
        before = *byte;
        // A dot binds: `information_schema.tables` is one name.
        stray || !is_word(*byte) && *byte != b'.'
    });
    length.map_or(text.len(), |length| from + length)
}

/// Length of the token at the front of `word`: a dot or a digit glued to a keyword begins another (`select.1`,
/// `or1=1`).
fn whole_word(word: &[u8]) -> usize {
    let letters = word.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let glued = match word.get(letters) {
        Some(b'.') => keyword(&word[..letters]).is_some(),
        Some(byte) if byte.is_ascii_digit() => matches!(&word[..letters], b"or" | b"and" | b"xor"),
        _ => false,
    };
    if glued { letters } else { word.len() }
}

fn word(word: &[u8]) -> Kind {
    if !WORDS.may_hold(word) {
        return Kind::Word;
    }
    if let Some(kind) = keyword(word) {
        return kind;
    }
    if TELLING_FUNCTIONS.binary_search(&word).is_ok() {
        Kind::Function(Strength::Telling)
    } else if COMMON_FUNCTIONS.binary_search(&word).is_ok() {
        Kind::Function(Strength::Common)
    } else {
        Kind::Word
    }
}

fn keyword(word: &[u8]) -> Option<Kind> {
    Some(match word {
        b"or" | b"and" | b"xor" => Kind::Logic,
        b"like" | b"rlike" | b"regexp" | b"between" | b"is" | b"in" | b"sounds" | b"ilike" | b"glob" | b"div"
        | b"mod" => Kind::Compare,
        b"not" | b"binary" => Kind::Arithmetic,
        b"null" | b"true" | b"false" => Kind::Constant,
        b"select" => Kind::Key(Key::Select),
        b"union" | b"intersect" | b"except" | b"minus" => Kind::Key(Key::Union),
        b"all" | b"distinct" | b"distinctrow" => Kind::Key(Key::Quantifier),
        b"from" => Kind::Key(Key::From),
        b"where" => Kind::Key(Key::Where),
        b"having" => Kind::Key(Key::Having),
        b"group" => Kind::Key(Key::Group),
        b"order" => Kind::Key(Key::Order),
        b"by" => Kind::Key(Key::By),
        b"limit" | b"offset" | b"top" => Kind::Key(Key::Limit),
        b"into" => Kind::Key(Key::Into),
        b"outfile" | b"dumpfile" => Kind::Key(Key::File),
        b"procedure" => Kind::Key(Key::Procedure),
        b"set" => Kind::Key(Key::Set),
        b"table" | b"database" | b"schema" | b"column" | b"index" | b"view" | b"login" | b"trigger" | b"alias" => {
            Kind::Key(Key::Table)
        }
        b"values" => Kind::Key(Key::Values),
        b"case" => Kind::Key(Key::Case),
        b"when" | b"then" | b"else" => Kind::Key(Key::When),
        b"as" => Kind::Key(Key::As),
        b"insert" | b"update" | b"delete" | b"drop" | b"create" | b"alter" | b"truncate" | b"exec" | b"execute"
        | b"declare" | b"waitfor" | b"shutdown" | b"grant" | b"revoke" | b"call" | b"replace" | b"merge" | b"begin"
        | b"handler" | b"load" | b"rename" | b"copy" | b"attach" | b"pragma" | b"backup" | b"restore" | b"use"
        | b"do" | b"bulk" | b"dbcc" | b"reconfigure" | b"desc" | b"describe" | b"explain" | b"lock" => {
            Kind::Key(Key::Statement)
        }
        _ => return None,
    })
}

/// Every word that [`keyword`] knows.
#[rustfmt::skip]
const KEYWORDS: &[&[u8]] = &[
    b"alias", b"all", b"alter", b"and", b"as", b"attach", b"backup", b"begin", b"between", b"binary", b"bulk", b"by",
    b"call", b"case", b"column", b"copy", b"create", b"database", b"dbcc", b"declare", b"delete", b"desc",
    b"describe", b"distinct", b"distinctrow", b"div", b"do", b"drop", b"dumpfile", b"else", b"except", b"exec",
    b"execute", b"explain", b"false", b"from", b"glob", b"grant", b"group", b"handler", b"having", b"ilike", b"in",
    b"index", b"insert", b"intersect", b"into", b"is", b"like", b"limit", b"load", b"lock", b"login", b"merge",
    b"minus", b"mod", b"not", b"null", b"offset", b"or", b"order", b"outfile", b"pragma", b"procedure",
    b"reconfigure", b"regexp", b"rename", b"replace", b"restore", b"revoke", b"rlike", b"schema", b"select", b"set",
    b"shutdown", b"sounds", b"table", b"then", b"top", b"trigger", b"true", b"truncate", b"union", b"update", b"use",
    b"values", b"view", b"waitfor", b"when", b"where", b"xor",
];

/// The shapes of all words that are more than [`Kind::Word`].
static WORDS: Shapes = Shapes::of(&[KEYWORDS, TELLING_FUNCTIONS, COMMON_FUNCTIONS]);

/// Functions and procedures whose call in a URL has one explanation.
#[rustfmt::skip]
const TELLING_FUNCTIONS: &[&[u8]] = &[
    b"aes_decrypt", b"aes_encrypt", b"benchmark", b"concat_ws", b"ctxsys.drithsx.sn", b"current_setting",
    b"database_to_xml", b"db_name", b"dbms_ldap.init", b"dbms_lock.sleep", b"dbms_pipe.receive_message",
    b"extractvalue", b"fn_xe_file_target_read_file", b"generate_series", b"geometrycollection", b"getversion",
    b"group_concat", b"gtid_subset", b"is_member", b"is_srvrolemember", b"json_keys", b"last_insert_id", b"lo_export",
    b"lo_get", b"lo_import", b"load_extension", b"load_file", b"make_set", b"multilinestring", b"multipoint",
    b"multipolygon", b"name_const", b"opendatasource", b"openquery", b"openrowset", b"pg_ls_dir", b"pg_read_file",
    b"pg_sleep", b"query_to_xml", b"randomblob", b"rdb$get_context", b"session_user", b"sleep", b"sp_configure",
    b"sp_executesql", b"sp_makewebtask", b"sp_oacreate", b"sp_password", b"sql_variant_property", b"suser_sname",
    b"sys_eval", b"sys_exec", b"system_user", b"uid_to_name", b"updatexml", b"user_name", b"utl_http.request",
    b"utl_inaddr.get_host_address", b"utl_inaddr.get_host_name", b"xmltype", b"xp_availablemedia", b"xp_cmdshell",
    b"xp_dirtree", b"xp_fileexist", b"xp_ntsec", b"xp_regread", b"xp_regwrite", b"xp_servicecontrol",
    b"xp_terminate_process",
];

/// Functions that attacks use and that expression languages of honest APIs have too.
#[rustfmt::skip]
const COMMON_FUNCTIONS: &[&[u8]] = &[
    b"abs", b"any", b"ascii", b"avg", b"bin", b"cast", b"ceil", b"ceiling", b"char", b"char_length", b"chr",
    b"coalesce", b"concat", b"connection_id", b"conv", b"convert", b"cos", b"count", b"crc32", b"current_database",
    b"current_date", b"current_time", b"current_timestamp", b"current_user", b"database", b"decode", b"elt",
    b"encode", b"exists", b"exp", b"floor", b"greatest", b"hex", b"if", b"ifnull", b"iif", b"instr", b"isnull",
    b"lcase", b"least", b"left", b"length", b"locate", b"log", b"lower", b"lpad", b"ltrim", b"max", b"md5", b"mid",
    b"min", b"now", b"nullif", b"nvl", b"ord", b"password", b"pi", b"position", b"pow", b"power", b"quote_literal",
    b"rand", b"repeat", b"replace", b"reverse", b"right", b"round", b"row", b"rpad", b"rtrim", b"schema", b"sha",
    b"sha1", b"sign", b"sin", b"some", b"space", b"sqrt", b"str", b"strcmp", b"string", b"sub", b"substr",
    b"substring", b"sum", b"tan", b"to_char", b"trim", b"ucase", b"unhex", b"unicode", b"upper", b"user", b"version",
    b"year",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_to_be_searched() {
        assert!(TELLING_FUNCTIONS.is_sorted() && COMMON_FUNCTIONS.is_sorted());
        assert!(KEYWORDS.iter().all(|word| keyword(word).is_some()));
    }

    #[test]
    fn tokens_of_every_dialect() {
        let check = |text: &str, expected: &[Kind]| {
            let mut out = Vec::new();
            tokens(text.as_bytes(), None, &mut out);
            let kinds: Vec<_> = out.iter().map(|token| token.kind).collect();
            assert_eq!(kinds, expected, "{text}");
        };
        use Kind::{Arithmetic, Close, Comma, Comment, Compare, Logic, Number, Open, Text, Variable, Word};
        check("1or1=1", &[Number, Logic, Number, Compare, Number]);
        check("1e1and 0x1f", &[Number, Logic, Number]);
        check("a/**/b /*!50000c*/", &[Word, Word, Word]);
        check("'it''s' \"x", &[Text { closed: true }, Text { closed: false }]);
        check("@a,@@b,@'c'", &[Variable, Comma, Variable, Comma, Variable]);
        check("(-1)--", &[Open, Arithmetic, Number, Close, Comment { open: true }]);
        check("select.1", &[Kind::Key(Key::Select), Number]);
    }
}
