//! The human form of an incident: reads at a glance in a terminal. In: the record. Out: text for a page or a terminal, lines of hostile
//! origin made harmless: control characters, terminal escapes and text-direction marks are spelled out.

use std::fmt::Write as _;
use std::time::Duration;

use super::coverage::{WorkloadCoverage, senses_said};
use super::process_tree::ProcessTree;
use super::wording::{
    self, clean, cut, deed, offset, phase, process, request_line, severity, span, stage, whole_request,
};
use super::{Candidate, Incident, Severity, Stage};

/// Narrowest page: below it the columns leave no room for words.
const WIDTH_MIN: usize = 60;

/// How a page is laid out.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Style {
    /// Sentences are wrapped here; at least 60.
    pub wrap_at: usize,
    /// Longest line of evidence, characters; longer ones are cut with `…`. The JSON record has the rest.
    pub line_max: usize,
    /// Whether severity, stages and titles are coloured (ECMA-48 escape sequences).
    pub colour: bool,
}

impl Style {
    /// For logs, mails and files.
    pub const PLAIN: Self = Self { wrap_at: 120, line_max: 160, colour: false };

    /// For a terminal of so many columns.
    #[must_use]
    pub fn terminal(columns: usize, colour: bool) -> Self {
        let columns = columns.max(WIDTH_MIN);
        Self { wrap_at: columns.min(Self::PLAIN.wrap_at), line_max: columns, colour }
    }
}

/// The record as plain text; ends with a line feed.
#[must_use]
pub fn text(incident: &Incident) -> String {
    page(incident, Style::PLAIN)
}

/// The record as text in a style; ends with a line feed.
#[must_use]
pub fn page(incident: &Incident, style: Style) -> String {
    let mut page = Page { out: String::new(), style };
    page.head(incident);
    page.timeline(incident);
    page.request(incident);
    page.processes(&incident.processes);
    page.exposures(incident);
    page.reasons(incident);
    page.response(incident);
    page.coverage(incident);
    page.missing(incident);
    page.out
}

/// Select Graphic Rendition parameters (ECMA-48 8.3.117).
#[derive(Copy, Clone)]
pub struct Paint(&'static str);

impl Paint {
    const BOLD: Self = Self("1");
    const FAINT: Self = Self("2");

    /// The colour of a severity.
    #[must_use]
    pub const fn of_severity(severity: Severity) -> Self {
        Self(match severity {
            Severity::Low => "36",
            Severity::Medium => "33",
            Severity::High => "31",
            Severity::Critical => "1;37;41",
        })
    }

    const fn of_stage(stage: Stage) -> Self {
        Self(match stage {
            Stage::Edge => "34",
            Stage::Host => "33",
            Stage::Egress => "35",
        })
    }

    /// `text` in this colour; `text` must be clean already.
    #[must_use]
    pub fn on(self, text: &str) -> String {
        format!("\x1b[{}m{text}\x1b[0m", self.0)
    }
}

struct Page {
    out: String,
    style: Style,
}

impl Page {
    /// One line, cleaned and cut.
    fn line(&mut self, indent: usize, line: &str) {
        let line = cut(&clean(line), self.style.line_max.saturating_sub(indent));
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "{:indent$}{line}", "");
    }

    /// As [`Self::line`], with the first occurrence of `word` in colour.
    fn painted(&mut self, indent: usize, line: &str, word: &str, paint: Paint) {
        let line = cut(&clean(line), self.style.line_max.saturating_sub(indent));
        let line = if self.style.colour { line.replacen(word, &paint.on(word), 1) } else { line };
        let _ = writeln!(self.out, "{:indent$}{line}", "");
    }

    /// A sentence behind `lead`, cleaned and wrapped; further lines hang below its first word.
    fn sentence(&mut self, indent: usize, lead: &str, sentence: &str) {
        let hang = indent + lead.chars().count();
        let (mut line, mut start, mut width) = (lead.to_owned(), indent, hang);
        for word in clean(sentence).split(' ') {
            let length = word.chars().count() + 1;
            if width + length > self.style.wrap_at && width > hang {
                self.line(start, line.trim_end());
                (line, start, width) = (String::new(), hang, hang);
            }
            line.push_str(word);
            line.push(' ');
            width += length;
        }
        self.line(start, line.trim_end());
    }

    /// Evidence that is needed to the letter: not cut but broken, wherever the page ends.
    fn whole(&mut self, indent: usize, text: &str) {
        let letters: Vec<char> = clean(text).chars().collect();
        for (number, line) in letters.chunks(self.style.wrap_at.saturating_sub(indent + 2).max(1)).enumerate() {
            let line: String = line.iter().collect();
            self.line(if number == 0 { indent } else { indent + 2 }, &line);
        }
    }

    fn section(&mut self, title: &str) {
        self.out.push('\n');
        self.painted(0, title, title, Paint::BOLD);
    }

    fn head(&mut self, incident: &Incident) {
        let word = severity(incident.severity);
        // What it is about is read first, and in whole.
        self.sentence(0, &format!("{word}  "), &incident.title);
        if self.style.colour {
            self.out = self.out.replacen(word, &Paint::of_severity(incident.severity).on(word), 1);
        }
        let lasted = incident.last_seen.since(incident.first_seen);
        self.sentence(
            0,
            "",
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
            self.sentence(0, "", &format!("campaign {}: {}", campaign.id, campaign.indicators.join(", ")));
        }
        if incident.provisional {
            self.line(0, "provisional: a load balancer line may yet name the request");
        }
        if let Some(expected) = &incident.expected {
            self.sentence(
                0,
                "",
                &format!("expected until {}, says {}: {}", expected.until, expected.owner, expected.reason),
            );
        }
        let facts = wording::facts(&incident.workload);
        self.sentence(0, "", &format!("workload {} ({})", incident.workload.key, facts.join(", ")));
        if let Some(owner) = &incident.owner {
            self.line(0, &format!("owner {owner}"));
        }
    }

    fn timeline(&mut self, incident: &Incident) {
        self.section("What happened");
        let offsets: Vec<String> = incident.timeline.iter().map(|step| offset(incident.first_seen, step.at)).collect();
        let width = offsets.iter().map(String::len).max().unwrap_or(0);
        for (step, at) in incident.timeline.iter().zip(&offsets) {
            let name = stage(step.stage);
            self.painted(2, &format!("{at:>width$}  {name:<6}  {}", deed(step)), name, Paint::of_stage(step.stage));
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
        self.whole(2, &whole_request(request));
        let client = request.client.map_or_else(|| "an unknown client".into(), |client| client.to_string());
        let took = span(request.completed.since(request.received));
        self.sentence(
            2,
            "",
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
            let line = format!("{}{} {shown}{mark}", branch(tree, index), node.process.process.pid);
            let paint = if node.involved { Paint::BOLD } else { Paint::FAINT };
            self.painted(2, &line, &clean(&shown), paint);
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
                let _ = writeln!(self.out, "{:18}{}", "", clean(command));
            }
        }
    }

    fn coverage(&mut self, incident: &Incident) {
        let sentences = incident.coverage.iter().flat_map(WorkloadCoverage::sentences);
        let sentences: Vec<String> = sentences.chain(senses_said(&incident.senses)).collect();
        if sentences.is_empty() {
            return;
        }
        self.section("What this rests on");
        for sentence in sentences {
            self.sentence(2, "", &sentence);
        }
        for gap in incident.coverage.iter().flat_map(|coverage| &coverage.gaps) {
            self.sentence(2, "! ", &format!("{}; {}", gap.text, gap.remedy));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::ProcessNode;
    use crate::timestamp::Timestamp;

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

    #[test]
    fn colour_is_ours_alone_and_lines_fit_the_terminal() {
        let mut incident: Incident = serde_json::from_str(include_str!("text/full_chain.json")).expect("reads");
        incident.title = "\x1b[31mowned".into();
        let page = page(&incident, Style::terminal(80, true));
        assert!(page.starts_with("\x1b[1;37;41mCRITICAL\x1b[0m  \\u{1b}[31mowned"), "{page:?}");
        let plain = page.split('\x1b').map(|part| {
            part.split_once('m').map_or(part, |(code, rest)| if code.starts_with('[') { rest } else { part })
        });
        let plain: String = plain.collect();
        let commands = incident.response.iter().filter_map(|step| step.command.as_deref());
        let commands: Vec<&str> = commands.collect();
        for line in plain.lines().filter(|line| !commands.contains(&line.trim())) {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(!super::page(&incident, Style::terminal(80, false)).contains('\x1b'));
    }
}
