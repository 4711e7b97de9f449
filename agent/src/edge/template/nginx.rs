//! The variables of an nginx `log_format` (`ngx_http_log_module`, `ngx_http_core_module`, `ngx_http_upstream_module`).

use super::draft::Field;
use super::{Piece, TemplateError};
use crate::request::LogEscape;

/// Takes a format, or a whole directive, apart.
pub(super) fn compile(text: &str) -> Result<(Vec<Piece>, LogEscape), TemplateError> {
    match text.strip_prefix("log_format").filter(|rest| rest.starts_with(char::is_whitespace)) {
        Some(directive) => {
            let (format, escape) = directive_format(directive)?;
            Ok((pieces(&format)?, escape))
        }
        None => Ok((pieces(text)?, LogEscape::Backslash)),
    }
}

/// `name [escape=default|json|none] 'part' 'part';`: the parts glued together, and the escape.
fn directive_format(directive: &str) -> Result<(String, LogEscape), TemplateError> {
    let open = directive.find(['\'', '"']).unwrap_or(directive.len());
    let (options, mut rest) = directive.split_at(open);
    let escape = match options.split_whitespace().find_map(|word| word.strip_prefix("escape=")) {
        None | Some("default") => LogEscape::Backslash,
        Some("json") => LogEscape::Json,
        Some("none") => LogEscape::Raw,
        Some(other) => return Err(TemplateError::Unsupported(format!("escape={other}"))),
    };
    let mut format = String::new();
    while let Some(quote) = rest.chars().next().filter(|first| matches!(first, '\'' | '"')) {
        let (part, behind) = quoted(&rest[1..], quote)?;
        format.push_str(&part);
        rest = behind.trim_start();
    }
    Ok((format, escape))
}

/// Up to the closing quote; a backslash keeps the character behind it.
fn quoted(text: &str, quote: char) -> Result<(String, &str), TemplateError> {
    let mut part = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => part.extend(chars.next().map(|(_, kept)| kept)),
            _ if char == quote => return Ok((part, &text[at + 1..])),
            _ => part.push(char),
        }
    }
    Err(TemplateError::Unclosed(quote.into()))
}

fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        pieces.push(Piece::Literal(rest[..dollar].into()));
        let (name, behind) = variable(&rest[dollar + 1..])?;
        if name.is_empty() {
            pieces.push(Piece::Literal(b"$".to_vec()));
        } else {
            pieces.push(Piece::Variable(meaning(name), format!("${name}")));
        }
        rest = behind;
    }
    pieces.push(Piece::Literal(rest.into()));
    Ok(pieces)
}

/// `name` or `{name}` behind a dollar sign, and what follows.
fn variable(text: &str) -> Result<(&str, &str), TemplateError> {
    if let Some(inner) = text.strip_prefix('{') {
        return inner.split_once('}').ok_or_else(|| TemplateError::Unclosed("${".into()));
    }
    let end = text.find(|char: char| !char.is_ascii_alphanumeric() && char != '_').unwrap_or(text.len());
    Ok(text.split_at(end))
}

/// Families of variables that hold what the client sent.
const CLIENT_TEXT: [&str; 4] = ["http_", "cookie_", "arg_", "ssl_client_"];

fn meaning(name: &str) -> Field {
    match name {
        "remote_addr" | "realip_remote_addr" => Field::ClientAddress,
        "remote_port" | "realip_remote_port" => Field::ClientPort,
        "remote_user" | "uri" | "document_uri" | "request_body" => Field::ClientText,
        "time_local" | "time_iso8601" | "msec" => Field::Ended,
        "request_time" => Field::TookSeconds,
        "request" => Field::RequestLine,
        "request_method" => Field::Method,
        "request_uri" => Field::Uri,
        "args" | "query_string" => Field::Query,
        "host" | "http_host" => Field::Host,
        "status" => Field::Status,
        "upstream_addr" => Field::Targets,
        "upstream_status" => Field::TargetStatuses,
        "request_length" => Field::ReceivedBytes,
        "bytes_sent" | "body_bytes_sent" => Field::SentBytes,
        "http_user_agent" => Field::UserAgent,
        "http_referer" => Field::Referer,
        "request_id" | "req_id" | "http_x_request_id" | "http_traceparent" | "opentelemetry_trace_id" => Field::TraceId,
        "server_name" | "hostname" => Field::Balancer,
        _ if CLIENT_TEXT.iter().any(|prefix| name.starts_with(prefix)) => Field::ClientText,
        _ if name.starts_with("upstream_") => Field::SkippedList,
        _ => Field::Skipped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_text_come_apart() {
        let check = |text: &str, expected: &[Result<Field, &str>]| {
            let (found, _) = compile(text).expect("compiles");
            let found: Vec<_> = found.into_iter().filter(|piece| *piece != Piece::Literal(Vec::new())).collect();
            assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                match (found, expected) {
                    (Piece::Literal(found), Err(expected)) => assert_eq!(found, expected.as_bytes(), "{text}"),
                    (Piece::Variable(found, _), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                    _ => panic!("{text}: {found:?} for {expected:?}"),
                }
            }
        };
        check("$status", &[Ok(Field::Status)]);
        check("a${status}b", &[Err("a"), Ok(Field::Status), Err("b")]);
        check("$status-$unknown_thing", &[Ok(Field::Status), Err("-"), Ok(Field::Skipped)]);
        check("$ $upstream_response_time", &[Err("$"), Err(" "), Ok(Field::SkippedList)]);
        check(
            r#"log_format x '"$status" ' "\"$msec";"#,
            &[Err("\""), Ok(Field::Status), Err("\" \""), Ok(Field::Ended)],
        );
    }

    #[test]
    fn a_directive_says_how_it_escapes() {
        let check =
            |text: &str, expected: LogEscape| assert_eq!(compile(text).expect("compiles").1, expected, "{text}");
        check("$status", LogEscape::Backslash);
        check("log_format a '$status';", LogEscape::Backslash);
        check("log_format a escape=json '$status';", LogEscape::Json);
        check("log_format a escape=none '$status';", LogEscape::Raw);
        assert_eq!(compile("log_format a escape=xml '$status';"), Err(TemplateError::Unsupported("escape=xml".into())));
        assert_eq!(compile("log_format a '$status;"), Err(TemplateError::Unclosed("'".into())));
    }
}
