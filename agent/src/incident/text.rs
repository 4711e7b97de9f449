//! The human form of an incident: reads at a glance in a terminal. In: the record. Out: plain text, no colours, lines of hostile
//! origin made harmless: control characters, terminal escapes and text-direction marks are spelled out.

use std::fmt::Write as _;
use std::time::Duration;

use crate::event::FlowState;
use crate::evidence::{HostFinding, Outcome, ProcessNode};
use crate::request::Request;
use crate::timestamp::Timestamp;

use super::process_tree::ProcessTree;
use super::response::Phase;
use super::{Candidate, Incident, Severity, Stage, Step, StepEvidence};

/// Longest line of evidence, characters; longer ones are cut with `…`. The JSON record has the rest.
const LINE_MAX: usize = 160;
/// Sentences are wrapped here.
const WRAP_AT: usize = 120;

/// The record as text; ends with a line feed.
#[must_use]
pub fn text(incident: &Incident) -> String {
    let mut page = Page::default();
    page.head(incident);
    page.timeline(incident);
    page.request(incident);
    page.processes(&incident.processes);
    page.exposures(incident);
    page.reasons(incident);
    page.response(incident);
    page.missing(incident);
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    /// One line, cleaned and cut.
    fn line(&mut self, indent: usize, line: &str) {
        let line = cut(&clean(line), LINE_MAX.saturating_sub(indent));
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{:indent$}{line}", "");
    }

    /// A sentence behind `lead`, cleaned and wrapped; further lines hang below its first word.
    fn sentence(&mut self, indent: usize, lead: &str, sentence: &str) {
        let hang = indent + lead.chars().count();
        let (mut line, mut start, mut width) = (lead.to_owned(), indent, hang);
        for word in clean(sentence).split(' ') {
            let length = word.chars().count() + 1;
            if width + length > WRAP_AT && width > hang {
                self.line(start, line.trim_end());
                (line, start, width) = (String::new(), hang, hang);
            }
            line.push_str(word);
            line.push(' ');
            width += length;
        }
        self.line(start, line.trim_end());
    }

    fn section(&mut self, title: &str) {
        self.0.push('\n');
        self.line(0, title);
    }

    fn head(&mut self, incident: &Incident) {
        self.line(0, &format!("{}  {}", severity(incident.severity), incident.title));
        let lasted = incident.last_seen.since(incident.first_seen);
        self.line(
            0,
            &format!(
                "{} revision {}, confidence {:.2}, began {}, {}",
                incident.id,
                incident.revision,
                incident.confidence,
                incident.first_seen,
                if lasted == Duration::ZERO { "at one moment".into() } else { format!("over {}", span(lasted)) }
            ),
        );
        if let Some(heir) = &incident.superseded_by {
            self.line(0, &format!("part of {heir}: read that one"));
        }
        if let Some(campaign) = &incident.campaign {
            self.line(0, &format!("campaign {}: {}", campaign.id, campaign.indicators.join(", ")));
        }
        if incident.provisional {
            self.line(0, "provisional: a load balancer line may yet name the request");
        }
        let workload = &incident.workload;
        let facts = [
            ("unit", workload.unit.as_deref()),
            ("container", workload.container_name.as_deref().or(workload.container_id.as_deref())),
            ("image", workload.image.as_deref()),
            ("pod", workload.pod.as_deref().or(workload.pod_uid.as_deref())),
            ("cgroup", Some(&*workload.cgroup)),
        ];
        let facts = facts.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
        self.line(0, &format!("workload {} ({})", workload.key, facts.collect::<Vec<_>>().join(", ")));
    }

    fn timeline(&mut self, incident: &Incident) {
        self.section("What happened");
        let offsets: Vec<String> = incident.timeline.iter().map(|step| offset(incident.first_seen, step.at)).collect();
        let width = offsets.iter().map(String::len).max().unwrap_or(0);
        for (step, at) in incident.timeline.iter().zip(&offsets) {
            self.line(2, &format!("{at:>width$}  {:<6}  {}", stage(step.stage), deed(step)));
            let technique = format!("{} {}: ", step.technique.id, step.technique.name);
            self.sentence(width + 12, "", &(technique + &step.reason));
        }
        if incident.timeline_omitted > 0 {
            self.line(2, &format!("and about {} more of the same chain", incident.timeline_omitted));
        }
    }

    fn request(&mut self, incident: &Incident) {
        let Some(best) = incident.candidates.best() else { return };
        self.section(if incident.provisional { "The request, as far as time tells" } else { "The request" });
        self.candidate(best);
        let others = &incident.candidates.ranked[1..];
        if !others.is_empty() {
            let more = others.len() as u64 + incident.candidates.omitted;
            self.line(2, &format!("{more} other candidate{}:", if more == 1 { "" } else { "s" }));
        }
        for other in others {
            self.line(4, &request_line(&other.request));
            self.sentence(6, "", &other.reason);
        }
    }

    fn candidate(&mut self, candidate: &Candidate) {
        let request = &candidate.request;
        self.line(2, &request_line(request));
        let client = request.client.map_or_else(|| "an unknown client".into(), |client| client.to_string());
        let took = span(request.completed.since(request.received));
        self.line(
            2,
            &format!("from {client} at {}, answered in {took}, through {}", request.received, request.balancer),
        );
        if !request.user_agent.is_empty() {
            self.line(2, &format!("user agent {}", request.user_agent));
        }
        if let Some(verdict) = &candidate.verdict {
            self.line(2, &format!("matched {} (score {})", verdict.matched, verdict.score));
        }
    }

    fn processes(&mut self, tree: &ProcessTree) {
        if tree.nodes.is_empty() {
            return;
        }
        self.section("Processes (* did a step above)");
        for (index, node) in tree.nodes.iter().enumerate() {
            let mark = match (node.involved, node.service) {
                (true, true) => " * service",
                (true, false) => " *",
                (false, true) => " service",
                (false, false) => "",
            };
            let shown = process(&node.process);
            self.line(2, &format!("{}{} {shown}{mark}", branch(tree, index), node.process.process.pid));
        }
        if tree.omitted > 0 {
            self.line(2, &format!("and {} more", tree.omitted));
        }
    }

    fn exposures(&mut self, incident: &Incident) {
        if incident.exposures.is_empty() {
            return;
        }
        self.section("Exposed");
        for exposure in &incident.exposures {
            self.sentence(2, "", &format!("{}: {}, since {}", exposure.credential, exposure.how, exposure.since));
        }
    }

    fn reasons(&mut self, incident: &Incident) {
        self.section("Why");
        for part in &incident.contributions {
            let lead = format!("{:>+6.2}  {:<6}  ", part.weight, stage(part.stage));
            self.sentence(2, &lead, &format!("{}: {}", part.name, part.reason));
        }
    }

    fn response(&mut self, incident: &Incident) {
        if incident.response.is_empty() {
            return;
        }
        self.section("What to do next (suggested, nothing was executed)");
        for (index, step) in incident.response.iter().enumerate() {
            self.sentence(2, &format!("{:>2}. {:<9} ", index + 1, phase(step.phase)), &step.text);
            // A command is to be pasted: it is never cut.
            if let Some(command) = &step.command {
                let _ = writeln!(self.0, "{:18}{}", "", clean(command));
            }
        }
    }

    fn missing(&mut self, incident: &Incident) {
        if incident.missing.is_empty() {
            return;
        }
        self.section("What is missing");
        for sentence in &incident.missing {
            self.sentence(2, "", sentence);
        }
    }
}

fn deed(step: &Step) -> String {
    let by = |node: &Option<ProcessNode>| node.as_ref().map_or_else(|| "a process".into(), process);
    match &step.evidence {
        StepEvidence::Request { request, .. } => request_line(request),
        StepEvidence::Host { finding: HostFinding::Metadata { endpoint, service, role, .. }, process, status } => {
            let role = role.as_ref().map_or_else(String::new, |role| format!(" for {role}"));
            let status = status.map_or_else(String::new, |status| format!(", answered {status}"));
            format!("{} -> {service} {endpoint}{role}{status}", by(process))
        }
        StepEvidence::Host { process, .. } => by(process),
        StepEvidence::Peer { peer, name, process, outcome, .. } => {
            let name = name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
            let outcome = outcome.as_ref().map_or_else(String::new, |outcome| format!(", {}", became(outcome)));
            format!("{} -> {peer}{name}{outcome}", by(process))
        }
    }
}

/// What became of a contact, as people say it.
fn became(outcome: &Outcome) -> String {
    if outcome.state == FlowState::Failed {
        return "not answered".to_owned();
    }
    let lasted = span(Duration::from_millis(outcome.lasted_ms));
    format!("sent {}, received {} in {lasted}", bytes(outcome.bytes_sent), bytes(outcome.bytes_received))
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

fn request_line(request: &Request) -> String {
    let status = request.target_status.or(request.status).map_or_else(|| "-".into(), |status| status.to_string());
    format!("{} {} -> {status}", request.method, cut(&request.url, 100))
}

/// Program and arguments; the program alone when nothing else is known.
fn process(node: &ProcessNode) -> String {
    if node.command_line.is_empty() {
        return if node.exe_path.is_empty() { "(unknown program)".into() } else { node.exe_path.to_string() };
    }
    format!("{} [{}]", cut(&node.command_line, 72), node.exe_path)
}

/// The lines of the tree left of a node.
fn branch(tree: &ProcessTree, index: usize) -> String {
    let last_child = |index: usize| {
        let parent = tree.nodes[index].parent;
        tree.nodes[index + 1..].iter().all(|node| node.parent != parent)
    };
    let mut pieces = Vec::new();
    let mut at = index;
    // Parents come before children, so this climbs; a record from elsewhere that does not is cut short.
    while let Some(parent) = tree.nodes[at].parent.filter(|parent| *parent < at) {
        pieces.push(match (at == index, last_child(at)) {
            (true, true) => "└─ ",
            (true, false) => "├─ ",
            (false, true) => "   ",
            (false, false) => "│  ",
        });
        at = parent;
    }
    pieces.into_iter().rev().collect()
}

fn offset(start: Timestamp, at: Timestamp) -> String {
    format!("+{}", span(at.since(start)))
}

/// A span as people say it.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}.{:03} s", span.subsec_millis()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "LOW",
        Severity::Medium => "MEDIUM",
        Severity::High => "HIGH",
        Severity::Critical => "CRITICAL",
    }
}

const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Edge => "edge",
        Stage::Host => "host",
        Stage::Egress => "egress",
    }
}

const fn phase(phase: Phase) -> &'static str {
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
fn clean(text: &str) -> String {
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
fn cut(text: &str, most: usize) -> String {
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
        let refused = Outcome { state: FlowState::Failed, bytes_sent: 0, bytes_received: 0, lasted_ms: 3 };
        assert_eq!(became(&refused), "not answered");
        let sent = Outcome { state: FlowState::Closed, bytes_sent: 3_200_000, bytes_received: 117, lasted_ms: 4_200 };
        assert_eq!(became(&sent), "sent 3.2 MB, received 117 B in 4.200 s");
    }

    #[test]
    fn a_whole_incident_reads_as_the_golden_page() {
        let incident: Incident = serde_json::from_str(include_str!("text/full_chain.json")).expect("reads");
        let expected = include_str!("text/full_chain.txt");
        let page = text(&incident);
        assert!(page == expected, "--- page\n{page}\n--- golden\n{expected}");
    }

    #[test]
    fn an_empty_or_crooked_record_still_reads() {
        let mut incident = Incident::default();
        assert!(text(&incident).starts_with("LOW"));
        let node = ProcessNode {
            process: crate::event::ProcessKey { pid: 7, start_ticks: 1 },
            exe_path: "/bin/\x1b]0;x\x07sh".into(),
            exe: crate::event::FileId::default(),
            command_line: "".into(),
            uid: 0,
            started: Timestamp::default(),
        };
        let crooked =
            super::super::process_tree::TreeNode { parent: Some(9), process: node, service: false, involved: true };
        incident.processes.nodes.push(crooked);
        let page = text(&incident);
        assert!(!page.contains('\x1b') && page.contains("7 /bin/\\u{1b}]0;x\\u{7}sh *"), "{page}");
    }
}
