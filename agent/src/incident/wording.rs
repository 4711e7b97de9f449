//! The words that every human form of an incident shares: how a step, a request, a span of time is said, and how text of hostile
//! origin is made harmless. In: parts of the record. Out: plain text; markup is for the forms to add.

use std::time::Duration;

use crate::event::FlowState;
use crate::evidence::{HostFinding, Outcome, ProcessNode};
use crate::request::Request;
use crate::timestamp::Timestamp;
use crate::workload::Workload;

use super::response::Phase;
use super::{Severity, Stage, Step, StepEvidence};

/// What is known of a workload, name and value.
pub(super) fn facts(workload: &Workload) -> Vec<String> {
    let facts = [
        ("unit", workload.unit.as_deref()),
        ("container", workload.container_name.as_deref().or(workload.container_id.as_deref())),
        ("image", workload.image.as_deref()),
        ("pod", workload.pod.as_deref().or(workload.pod_uid.as_deref())),
        ("cgroup", Some(&*workload.cgroup)),
    ];
    facts.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?))).collect()
}

/// What a step is: the request, the program, the peer.
pub(super) fn deed(step: &Step) -> String {
    let by = |node: &Option<ProcessNode>| node.as_ref().map_or_else(|| "a process".into(), process);
    match &step.evidence {
        StepEvidence::Request { request, .. } => request_line(request),
        StepEvidence::Host { finding: HostFinding::Metadata { endpoint, service, role, .. }, process, status } => {
            let role = role.as_ref().map_or_else(String::new, |role| format!(" for {role}"));
            let status = status.map_or_else(String::new, |status| format!(", answered {status}"));
            format!("{} -> {service} {endpoint}{role}{status}", by(process))
        }
        StepEvidence::Host { process, .. } => by(process),
        StepEvidence::Peer { peer, name, server_name, process, outcome, .. } => {
            let name = name.as_ref().or(server_name.as_ref());
            let name = name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
            let outcome = outcome.as_ref().map_or_else(String::new, |outcome| format!(", {}", became(outcome)));
            format!("{} -> {peer}{name}{outcome}", by(process))
        }
    }
}

/// What became of a contact, as people say it.
fn became(outcome: &Outcome) -> String {
    let reached = outcome.effective.map_or_else(String::new, |address| format!("reached as {address}, "));
    let lasted = span(Duration::from_millis(outcome.lasted_ms));
    let sent = bytes(outcome.bytes_sent);
    let what = match outcome.state {
        FlowState::Failed | FlowState::Refused => {
            let word = if outcome.state == FlowState::Failed { "not answered" } else { "refused" };
            // Datagrams go out unasked, and may be all there is.
            if outcome.bytes_sent == 0 { word.to_owned() } else { format!("sent {sent} in {lasted}, {word}") }
        }
        FlowState::Established | FlowState::Closed => {
            format!("sent {sent}, received {} in {lasted}", bytes(outcome.bytes_received))
        }
    };
    let elsewhere = match outcome.bytes_elsewhere {
        0 => String::new(),
        count => format!(", and {} with others on the same socket", bytes(count)),
    };
    format!("{reached}{what}{elsewhere}")
}

/// A number of bytes to two digits, decimal units.
fn bytes(count: u64) -> String {
    let unit = |unit: u64, name: &str| format!("{}.{} {name}", count / unit, count % unit * 10 / unit);
    match count {
        0..1000 => format!("{count} B"),
        1000..1_000_000 => unit(1000, "kB"),
        1_000_000..1_000_000_000 => unit(1_000_000, "MB"),
        _ => unit(1_000_000_000, "GB"),
    }
}

/// Method, address and answer of a request.
pub(super) fn request_line(request: &Request) -> String {
    let status = request.target_status.or(request.status).map_or_else(|| "-".into(), |status| status.to_string());
    format!("{} {} -> {status}", request.method, cut(&request.url, 100))
}

/// Longest URL that is shown where it is shown whole; records have it up to a bound of their own.
const URL_WHOLE: usize = 2048;

/// The same with the URL in whole: it is what to block and to search for.
pub(super) fn whole_request(request: &Request) -> String {
    let status = request.target_status.or(request.status).map_or_else(|| "-".into(), |status| status.to_string());
    format!("{} {} -> {status}", request.method, cut(&request.url, URL_WHOLE))
}

/// Program and arguments; the program alone when nothing else is known.
pub(super) fn process(node: &ProcessNode) -> String {
    if node.command_line.is_empty() {
        return if node.exe_path.is_empty() { "(unknown program)".into() } else { node.exe_path.to_string() };
    }
    format!("{} [{}]", cut(&node.command_line, 72), node.exe_path)
}

/// How long after the start.
pub(super) fn offset(start: Timestamp, at: Timestamp) -> String {
    format!("+{}", span(at.since(start)))
}

/// A span as people say it.
#[must_use]
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}.{:03} s", span.subsec_millis()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// The severity in capitals.
#[must_use]
pub const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "LOW",
        Severity::Medium => "MEDIUM",
        Severity::High => "HIGH",
        Severity::Critical => "CRITICAL",
    }
}

/// The stage in one word.
pub(super) const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Edge => "edge",
        Stage::Host => "host",
        Stage::Egress => "egress",
    }
}

/// The phase in one word.
pub(super) const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Preserve => "preserve",
        Phase::Contain => "contain",
        Phase::Revoke => "revoke",
        Phase::Hunt => "hunt",
        Phase::Close => "close",
        Phase::Harden => "harden",
    }
}

/// `text` with everything that a terminal acts on spelled out: C0 and C1 controls (escape sequences, line feeds), and the marks
/// that reorder or hide text (Unicode bidirectional controls, zero-width characters; the "Trojan Source" set, CVE-2021-42574).
#[must_use]
pub fn clean(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if hidden(c) {
            out.extend(c.escape_unicode())
        } else {
            out.push(c)
        }
        out
    })
}

/// At most `most` characters.
#[must_use]
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_spelled_out() {
        let check = |text: &str, expected: &str| assert_eq!(clean(text), expected);
        check("plain ä 漢", "plain ä 漢");
        check("\x1b[2Jgone", "\\u{1b}[2Jgone");
        check("a\nCRITICAL b", "a\\u{a}CRITICAL b");
        check("\u{9b}31m", "\\u{9b}31m");
        check("x\u{202e}cod.exe", "x\\u{202e}cod.exe");
    }

    #[test]
    fn spans_read_as_people_say_them() {
        let check = |millis: u64, expected: &str| assert_eq!(span(Duration::from_millis(millis)), expected);
        check(0, "0.000 s");
        check(1234, "1.234 s");
        check(61_000, "1 min 01 s");
        check(6 * 3_600_000 + 300_000, "6 h 05 min");
    }

    #[test]
    fn amounts_read_as_people_say_them() {
        let check = |count: u64, expected: &str| assert_eq!(bytes(count), expected);
        check(999, "999 B");
        check(1000, "1.0 kB");
        check(3_249_999, "3.2 MB");
        check(u64::MAX, "18446744073.7 GB");
        let failed = Outcome {
            state: FlowState::Failed,
            effective: None,
            bytes_sent: 0,
            bytes_received: 0,
            bytes_elsewhere: 0,
            lasted_ms: 3,
        };
        assert_eq!(became(&failed), "not answered");
        assert_eq!(became(&Outcome { state: FlowState::Refused, ..failed }), "refused");
        let unanswered = Outcome { bytes_sent: 4000, bytes_elsewhere: 70, ..failed };
        assert_eq!(
            became(&unanswered),
            "sent 4.0 kB in 0.003 s, not answered, and 70 B with others on the same socket"
        );
        let sent = Outcome {
            state: FlowState::Closed,
            bytes_sent: 3_200_000,
            bytes_received: 117,
            bytes_elsewhere: 0,
            lasted_ms: 4_200,
            effective: None,
        };
        assert_eq!(became(&sent), "sent 3.2 MB, received 117 B in 4.200 s");
        let proxied = Outcome { effective: Some(([10, 0, 0, 7], 8443).into()), ..sent };
        assert_eq!(became(&proxied), "reached as 10.0.0.7:8443, sent 3.2 MB, received 117 B in 4.200 s");
    }
}
