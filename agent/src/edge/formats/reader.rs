//! The lines of one source: its format found by itself or fixed by the config, its header lines heeded.
//!
//! A line goes in, a record, nothing (a comment, a header, an empty line) or an error comes out. What is remembered between
//! lines is the format and, for a W3C log, its columns. A source may carry more than one format: a line that the present one
//! refuses is offered to the others.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::super::template::{Template, TemplateError};
use super::cloudfront::Layout;
use super::{Format, Gives, ParseError};
use crate::request::AccessRecord;

/// Longest syslog header that is looked past, in bytes: priority, time, a host name of 255 (RFC 5424) and a program with its
/// process id. Without it, text deep in a line could be taken for a header.
const MAX_SYSLOG_HEADER_BYTES: usize = 340;

/// What a source's lines look like. At most one key may be set; none means: find out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of a format that this build knows.
    pub format: Option<Format>,
    /// The site's nginx `log_format`: its text, or the whole directive.
    pub nginx_log_format: Option<String>,
    /// The site's HAProxy `log-format`: its text, or the whole directive.
    pub haproxy_log_format: Option<String>,
    /// Field names of a CloudFront log without header line, in their order.
    pub cloudfront_fields: Option<Vec<String>>,
}

/// Why a source's config cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Two answers to one question.
    #[error("only one of format, nginx_log_format, haproxy_log_format and cloudfront_fields can be set for a source")]
    Several,
    /// The nginx format cannot be compiled.
    #[error("nginx_log_format: {0}")]
    Nginx(#[source] TemplateError),
    /// The HAProxy format cannot be compiled.
    #[error("haproxy_log_format: {0}")]
    Haproxy(#[source] TemplateError),
}

/// Reads the lines of one source.
#[derive(Clone, Debug)]
pub struct Reader {
    grammar: Grammar,
    /// Given by the config, not found: never changed.
    fixed: bool,
}

#[derive(Clone, Debug)]
enum Grammar {
    Unknown,
    Format(Format),
    Columns(Layout),
    Template(Template),
}

impl Default for Reader {
    /// A reader that finds the format out.
    fn default() -> Self {
        Self { grammar: Grammar::Unknown, fixed: false }
    }
}

impl Reader {
    /// # Errors
    ///
    /// A [`ConfigError`] that names the key and what is wrong with it.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let mut grammars = Vec::new();
        grammars.extend(config.format.map(Grammar::Format));
        if let Some(text) = &config.nginx_log_format {
            grammars.push(Grammar::Template(Template::nginx(text).map_err(ConfigError::Nginx)?));
        }
        if let Some(text) = &config.haproxy_log_format {
            grammars.push(Grammar::Template(Template::haproxy(text).map_err(ConfigError::Haproxy)?));
        }
        if let Some(names) = &config.cloudfront_fields {
            grammars.push(Grammar::Columns(Layout::of(names.iter().map(String::as_bytes))));
        }
        let fixed = !grammars.is_empty();
        let grammar = grammars.pop().unwrap_or(Grammar::Unknown);
        if grammars.is_empty() { Ok(Self { grammar, fixed }) } else { Err(ConfigError::Several) }
    }

    /// What this source can say; `None` while nobody knows.
    #[must_use]
    pub fn gives(&self) -> Option<Gives> {
        match &self.grammar {
            Grammar::Unknown => None,
            Grammar::Format(format) => Some(format.gives()),
            Grammar::Columns(_) => Some(Format::Cloudfront.gives()),
            Grammar::Template(template) => Some(template.gives()),
        }
    }

    /// The format, where it is known and has a name.
    #[must_use]
    pub const fn format(&self) -> Option<Format> {
        match &self.grammar {
            Grammar::Format(format) => Some(*format),
            Grammar::Columns(_) => Some(Format::Cloudfront),
            Grammar::Unknown | Grammar::Template(_) => None,
        }
    }

    /// Reads one line, with or without its line end and a syslog header.
    ///
    /// # Errors
    ///
    /// The [`ParseError`] of the source's format; of a source whose format is not known yet, one that says so.
    pub fn read<'l>(&mut self, line: &'l [u8]) -> Result<Option<AccessRecord<'l>>, ParseError> {
        let line = line.trim_ascii_end();
        if line.is_empty() || line.starts_with(b"#") {
            self.header(line);
            return Ok(None);
        }
        let refused = match self.parse(line) {
            Ok(record) => return Ok(Some(record)),
            Err(refused) => refused,
        };
        // As it stands first: what a client writes must not be able to pass for a header.
        match behind_syslog_header(line) {
            Some(message) => self.parse(message).map(Some).map_err(|_| refused),
            None => Err(refused),
        }
    }

    /// A `#Fields:` line says what the columns are, unless the config does.
    fn header(&mut self, line: &[u8]) {
        let changeable = matches!(
            self.grammar,
            Grammar::Unknown | Grammar::Columns(_) | Grammar::Format(Format::Cloudfront | Format::CloudfrontRealtime)
        );
        let by_config = self.fixed && matches!(self.grammar, Grammar::Columns(_));
        if let Some(layout) = Layout::from_header(line).filter(|_| changeable && !by_config) {
            self.grammar = Grammar::Columns(layout);
        }
    }

    fn parse<'l>(&mut self, line: &'l [u8]) -> Result<AccessRecord<'l>, ParseError> {
        let parsed = match &self.grammar {
            Grammar::Unknown => Err(ParseError::UNKNOWN_FORMAT),
            Grammar::Format(format) => format.parse(line),
            Grammar::Columns(layout) => layout.parse(line),
            Grammar::Template(template) => template.parse(line),
        };
        if parsed.is_ok() || self.fixed {
            return parsed;
        }
        match Format::detect(line) {
            Some(format) => {
                self.grammar = Grammar::Format(format);
                format.parse(line)
            }
            None => parsed,
        }
    }
}

/// What stands behind `program: ` or `program[pid]: `, for logs that were written through syslog (RFC 3164).
fn behind_syslog_header(line: &[u8]) -> Option<&[u8]> {
    let window = &line[..line.len().min(MAX_SYSLOG_HEADER_BYTES)];
    let colon = memchr::memmem::find(window, b": ")?;
    Some(&line[colon + 2..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Target;

    const NGINX: &[u8] = br#"198.51.100.9 - - [04/May/2026:10:00:01 +0000] "GET /a HTTP/1.1" 200 12 "-" "ua""#;
    const ENVOY: &[u8] =
        br#"[2026-05-04T10:00:01.250Z] "GET /b HTTP/2" 200 - 1 7 226 1 "-" "ua" "1" "h" "10.0.0.1:80""#;

    fn path<'l>(reader: &mut Reader, line: &'l [u8]) -> Option<&'l [u8]> {
        reader.read(line).expect("parses").map(|record| record.path_and_query)
    }

    #[test]
    fn a_format_is_found_and_found_again() {
        let mut reader = Reader::new(&Config::default()).expect("a reader");
        assert_eq!((reader.format(), reader.gives()), (None, None));
        assert_eq!(reader.read(b"garbage").map_err(|error| error.field), Err("format"));
        assert_eq!(path(&mut reader, NGINX), Some(&b"/a"[..]));
        assert_eq!(reader.format(), Some(Format::Nginx));
        assert_eq!(reader.read(b"garbage").map_err(|error| error.field), Err("remote_addr"));
        assert_eq!(path(&mut reader, ENVOY), Some(&b"/b"[..]));
        assert_eq!(reader.format(), Some(Format::Envoy));
    }

    #[test]
    fn a_fixed_format_stays() {
        let mut reader = Reader::new(&Config { format: Some(Format::Envoy), ..Config::default() }).expect("a reader");
        assert!(reader.read(NGINX).is_err());
        assert_eq!(path(&mut reader, ENVOY), Some(&b"/b"[..]));
    }

    #[test]
    fn a_w3c_header_names_the_columns_of_the_lines_behind_it() {
        let mut reader = Reader::new(&Config::default()).expect("a reader");
        for line in ["#Version: 1.0\n", "", "#Fields: date time cs-uri-stem c-ip\r\n"] {
            assert_eq!(reader.read(line.as_bytes()), Ok(None), "{line}");
        }
        assert_eq!(path(&mut reader, b"2026-05-04\t10:00:01\t/c\t198.51.100.9\r\n"), Some(&b"/c"[..]));
        assert_eq!(reader.format(), Some(Format::Cloudfront));
        let names = ["timestamp", "c-ip", "cs-uri-stem"].map(String::from).to_vec();
        let config = Config { cloudfront_fields: Some(names), ..Config::default() };
        let mut reader = Reader::new(&config).expect("a reader");
        assert_eq!(reader.read(b"#Fields: date time"), Ok(None));
        assert_eq!(path(&mut reader, b"1777888801.5\t198.51.100.9\t/d"), Some(&b"/d"[..]));
    }

    #[test]
    fn a_template_reads_what_no_format_does() {
        let config = Config { nginx_log_format: Some("$msec|\"$request\"|$upstream_addr".into()), ..Config::default() };
        let mut reader = Reader::new(&config).expect("a reader");
        let record = reader.read(b"1777888801.5|\"GET /e HTTP/1.1\"|10.0.0.1:80\n").expect("parses").expect("a record");
        assert_eq!(record.target, Target::Socket("10.0.0.1:80".parse().expect("a socket")));
        let config = Config { haproxy_log_format: Some("%trg %ci:%cp %{+Q}r".into()), ..Config::default() };
        assert!(Reader::new(&config).expect("a reader").gives().is_some_and(|gives| gives.all(Gives::CLIENT)));
    }

    #[test]
    fn a_syslog_header_is_looked_past() {
        for header in ["May  4 10:00:01 edge nginx: ", "<190>May  4 10:00:01 edge nginx[7]: "] {
            let line = [header.as_bytes(), NGINX].concat();
            let mut reader = Reader::new(&Config::default()).expect("a reader");
            assert_eq!(path(&mut reader, &line), Some(&b"/a"[..]), "{header}");
        }
    }

    #[test]
    fn a_config_that_contradicts_itself_is_refused() {
        let config =
            Config { format: Some(Format::Alb), nginx_log_format: Some("$msec $request".into()), ..Config::default() };
        assert_eq!(Reader::new(&config).err(), Some(ConfigError::Several));
        let config = Config { nginx_log_format: Some("$status".into()), ..Config::default() };
        let error = Reader::new(&config).expect_err("refused");
        assert!(error.to_string().starts_with("nginx_log_format: no variable holds a time"), "{error}");
        let read: Config = toml::from_str("format = \"ingress-nginx\"").expect("reads");
        assert_eq!(read.format, Some(Format::IngressNginx));
        assert!(toml::from_str::<Config>("formt = \"alb\"").is_err());
    }
}
