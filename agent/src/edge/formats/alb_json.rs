//! AWS Application Load Balancer records as JSON objects, as CloudWatch Logs and Firehose deliver them ("vended logs").
//!
//! The operator chooses the fields, and their spelling differs with the road (`client:port`, `client_port`), so keys are
//! compared without case and punctuation. Values are as in the text form of [`super::alb`]; only the escapes are JSON's.

use super::alb::is_lambda;
use super::fields::{number, socket, status};
use super::json::{FOLD, Members, folded};
use super::request_line::RequestLine;
use super::times::iso_time;
use super::{ParseError, Problem};
use crate::request::{AccessRecord, LogEscape, Target};
use crate::timestamp::Timestamp;

pub(super) fn parse(line: &[u8]) -> Result<AccessRecord<'_>, ParseError> {
    let mut members = Members::of(line);
    let mut draft = Draft::default();
    while let Some((key, value)) = members.member()? {
        draft.put(folded(key, &mut FOLD.clone()), value.plain());
    }
    draft.finish()
}

#[derive(Default)]
struct Draft<'l> {
    completed: Option<Timestamp>,
    received: Option<Timestamp>,
    balancer: &'l [u8],
    client: &'l [u8],
    target: Option<&'l [u8]>,
    target_group: &'l [u8],
    status: &'l [u8],
    target_status: &'l [u8],
    received_bytes: &'l [u8],
    sent_bytes: &'l [u8],
    request: &'l [u8],
    user_agent: &'l [u8],
    trace_id: &'l [u8],
    reason: &'l [u8],
}

impl<'l> Draft<'l> {
    fn put(&mut self, key: &[u8], text: &'l [u8]) {
        match key {
            b"time" => self.completed = iso_time(text),
            b"requestcreationtime" => self.received = iso_time(text),
            b"elb" => self.balancer = text,
            b"clientport" => self.client = text,
            b"targetport" => self.target = Some(text),
            b"targetgrouparn" => self.target_group = text,
            b"elbstatuscode" => self.status = text,
            b"targetstatuscode" => self.target_status = text,
            b"receivedbytes" => self.received_bytes = text,
            b"sentbytes" => self.sent_bytes = text,
            b"request" | b"requestline" => self.request = text,
            b"useragent" => self.user_agent = text,
            b"traceid" => self.trace_id = text,
            b"classificationreason" => self.reason = text,
            _ => {}
        }
    }

    fn finish(self) -> Result<AccessRecord<'l>, ParseError> {
        if self.balancer.is_empty() {
            return Err(ParseError::new("elb", 0, Problem::Missing));
        }
        if self.request.is_empty() {
            return Err(ParseError::new("request", 0, Problem::Missing));
        }
        let completed = self.completed.or(self.received).ok_or(ParseError::new("time", 0, Problem::Time))?;
        let received = self.received.unwrap_or(completed);
        let request = RequestLine::split(self.request);
        let code = code(self.status).map_err(|problem| ParseError::new("elb_status_code", 0, problem))?;
        let target_status = status(self.target_status).ok().flatten();
        Ok(AccessRecord {
            balancer: self.balancer,
            client: socket(self.client),
            target: self.target(target_status)?,
            status: code,
            target_status,
            received_bytes: number(self.received_bytes).ok().flatten().unwrap_or(0),
            sent_bytes: number(self.sent_bytes).ok().flatten().unwrap_or(0),
            method: request.method,
            authority: request.authority,
            path_and_query: request.path_and_query,
            user_agent: self.user_agent,
            trace_id: self.trace_id,
            anomaly: self.reason,
            escape: LogEscape::Json,
            ..AccessRecord::blank(received, completed.max(received))
        })
    }

    fn target(&self, target_status: Option<u16>) -> Result<Target, ParseError> {
        match self.target {
            None => Ok(Target::Unlogged),
            Some(b"") if is_lambda(self.target_group, target_status) => Ok(Target::Lambda),
            Some(b"") => Ok(Target::None),
            Some(text) => socket(text).map(Target::Socket).ok_or(ParseError::new("target:port", 0, Problem::Socket)),
        }
    }
}

fn code(text: &[u8]) -> Result<Option<u16>, Problem> {
    if text.is_empty() { Ok(None) } else { status(text) }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    fn line(target: &str) -> String {
        format!(
            r#"{{"type":"https","time":"2026-05-04T10:00:01.250000Z","elb":"app/edge/00ff","client:port":"198.51.100.9:40100",
            {target}"elb_status_code":"200","received_bytes":5,"sent_bytes":"70",
            "request":"GET https://shop.example:443/a?b=\"c HTTP/2.0","user_agent":"agent/1.0","trace_id":"Root=1-aa",
            "request_creation_time":"2026-05-04T10:00:01.000000Z","classification_reason":"-","tls":{{}}}}"#
        )
    }

    #[test]
    fn both_spellings_are_read() {
        for target in [
            r#""target:port":"10.0.0.1:80","target_status_code":"201","#,
            r#""targetPort":"10.0.0.1:80","TARGET_STATUS_CODE":201,"#,
        ] {
            let line = line(target);
            let record = Format::Alb.parse(line.as_bytes()).expect("parses");
            assert_eq!(record.received, "2026-05-04T10:00:01Z".parse().expect("a time"));
            assert_eq!(record.duration(), std::time::Duration::from_millis(250));
            assert_eq!(record.client, Some("198.51.100.9:40100".parse().expect("a socket")));
            assert_eq!(record.target, Target::Socket("10.0.0.1:80".parse().expect("a socket")));
            assert_eq!((record.status, record.target_status), (Some(200), Some(201)));
            assert_eq!((record.received_bytes, record.sent_bytes), (5, 70));
            assert_eq!((record.method, record.path_and_query), (&b"GET"[..], &br#"/a?b=\"c"#[..]));
            assert_eq!(
                (record.escape, record.trace_id, record.anomaly),
                (LogEscape::Json, &b"Root=1-aa"[..], &b""[..])
            );
        }
    }

    #[test]
    fn a_field_that_was_not_chosen_is_not_a_target_that_was_not_asked() {
        let check = |target: &str, expected: Target| {
            let line = line(target);
            assert_eq!(Format::Alb.parse(line.as_bytes()).expect("parses").target, expected, "{target}");
        };
        check("", Target::Unlogged);
        check(r#""target_port":"-","#, Target::None);
        check(r#""target_port":"-","target_group_arn":"arn:x","target_status_code":"200","#, Target::Lambda);
    }

    #[test]
    fn a_bad_line_names_its_field() {
        let check = |line: &str, field: &str, problem: Problem| {
            let error = Format::Alb.parse(line.as_bytes()).expect_err("refused");
            assert_eq!((error.field, error.problem), (field, problem), "{line}");
        };
        check("{}", "elb", Problem::Missing);
        check(r#"{"elb":"x"}"#, "request", Problem::Missing);
        check(r#"{"elb":"x","request":"GET / HTTP/1.1"}"#, "time", Problem::Time);
        check(&line(r#""target_port":"nowhere","#), "target:port", Problem::Socket);
    }
}
