//! An incident as one self-contained page: styles and picture inline, no script, nothing fetched (and a policy in the page that
//! forbids both). In: the record. Out: HTML 5. Everything that came from outside is escaped, controls are spelled out.

use std::fmt::Write as _;

use super::coverage::{WorkloadCoverage, senses_said};
use super::process_tree::ProcessTree;
use super::wording::{clean, deed, facts, offset, phase, process, severity, span, stage, whole_request};
use super::{Candidate, Incident, Stage, Step};

/// Styles. Colours follow the viewer's preference for light or dark.
const STYLE: &str = include_str!("html/page.css");
/// Pixels of the picture.
const WIDTH: usize = 960;
/// Left edge of the lanes: their names stand before it.
const LANES_AT: usize = 90;
/// Height of a lane.
const LANE: usize = 64;
/// Pixels from the middle of a step at which the arrow to it ends.
const RADIUS: f64 = 10.0;
/// Steps drawn: more would be too close to tell apart; the list below the picture has all.
const DRAWN_MAX: usize = 24;

/// The record as a page.
#[must_use]
pub fn html(incident: &Incident) -> String {
    let mut page = Page(String::with_capacity(32 << 10));
    page.head(incident);
    page.picture(incident);
    page.timeline(incident);
    page.request(incident);
    page.processes(&incident.processes);
    page.list("Exposed", incident.exposures.iter().map(|e| format!("{}: {}, since {}", e.credential, e.how, e.since)));
    page.reasons(incident);
    page.response(incident);
    page.coverage(incident);
    page.list("What is missing", incident.missing.iter().cloned());
    page.0.push_str("</main></body></html>\n");
    page.0
}

/// Text as content or attribute value of HTML and SVG.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in clean(text).chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

struct Page(String);

impl Page {
    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(text);
    }

    fn head(&mut self, incident: &Incident) {
        let (word, title) = (severity(incident.severity), escaped(&incident.title));
        let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
        self.add(format_args!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <title>{word} {}</title><style>{STYLE}</style></head><body><main>\
             <h1><span class=\"severity {word}\">{word}</span> {title}</h1>",
            escaped(&incident.id)
        ));
        let lasted = span(incident.last_seen.since(incident.first_seen));
        self.add(format_args!(
            "<p>{} revision {} · confidence {:.2} · began {} · over {lasted}</p>",
            escaped(&incident.id),
            incident.revision,
            incident.confidence,
            incident.first_seen
        ));
        let facts = facts(&incident.workload).join(", ");
        self.add(format_args!("<p>workload <b>{}</b> ({})", escaped(incident.workload.key.as_str()), escaped(&facts)));
        if let Some(owner) = &incident.owner {
            self.add(format_args!(" · owner <b>{}</b>", escaped(owner)));
        }
        self.0.push_str("</p>");
        let superseded = incident.superseded_by.as_ref().map(|heir| format!("part of {heir}: read that one"));
        let provisional = "provisional: a load balancer line may yet name the request".to_owned();
        let expected = incident.expected.as_ref();
        let expected = expected.map(|it| format!("expected until {}, says {}: {}", it.until, it.owner, it.reason));
        for note in [superseded, incident.provisional.then_some(provisional), expected].into_iter().flatten() {
            self.add(format_args!("<p class=\"note\">{}</p>", escaped(&note)));
        }
    }

    /// Three lanes, one a stage; steps from left to right in the order of time, an arrow from each to the next.
    fn picture(&mut self, incident: &Incident) {
        let steps = &incident.timeline[..incident.timeline.len().min(DRAWN_MAX)];
        if steps.is_empty() {
            return;
        }
        let height = 3 * LANE + 34;
        self.add(format_args!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"the chain, stage by stage\">\
             <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
             orient=\"auto\"><path d=\"M0 0 8 4 0 8z\" class=\"tip\"/></marker></defs>"
        ));
        for (row, lane) in [Stage::Edge, Stage::Host, Stage::Egress].into_iter().enumerate() {
            let (top, name) = (row * LANE, stage(lane));
            self.add(format_args!(
                "<rect x=\"0\" y=\"{top}\" width=\"{WIDTH}\" height=\"{}\" class=\"lane {name}\"/>\
                 <text x=\"12\" y=\"{}\" class=\"name\">{name}</text>",
                LANE - 4,
                top + LANE / 2 + 3
            ));
        }
        let points: Vec<(usize, usize)> =
            steps.iter().enumerate().map(|(at, step)| place(at, steps.len(), step)).collect();
        for pair in points.windows(2) {
            if let [(x1, y1), (x2, y2)] = pair {
                // It ends at the circle, so that its tip shows.
                let (across, down) = (*x2 as f64 - *x1 as f64, *y2 as f64 - *y1 as f64);
                let short = RADIUS / across.hypot(down).max(1.0);
                let (x2, y2) = (*x2 as f64 - across * short, *y2 as f64 - down * short);
                self.add(format_args!("<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"arrow\"/>"));
            }
        }
        for ((x, y), step) in points.iter().zip(steps) {
            let (name, told) = (stage(step.stage), escaped(&format!("{}: {}", step.technique.name, deed(step))));
            let (at, id) = (offset(incident.first_seen, step.at), escaped(&step.technique.id));
            self.add(format_args!(
                "<g><title>{told}</title><circle cx=\"{x}\" cy=\"{y}\" r=\"9\" class=\"{name}\"/>\
                 <text x=\"{x}\" y=\"{}\" class=\"id\">{id}</text><text x=\"{x}\" y=\"{}\" class=\"at\">{at}</text></g>",
                y + 24,
                3 * LANE + 20
            ));
        }
        self.0.push_str("</svg>");
    }

    fn timeline(&mut self, incident: &Incident) {
        self.0.push_str("<h2>What happened</h2><ol class=\"steps\">");
        for step in &incident.timeline {
            let name = stage(step.stage);
            self.add(format_args!(
                "<li><span class=\"at\">{}</span> <span class=\"stage {name}\">{name}</span> <code>{}</code>\
                 <p>{} {}: {}</p></li>",
                offset(incident.first_seen, step.at),
                escaped(&deed(step)),
                escaped(&step.technique.id),
                escaped(&step.technique.name),
                escaped(&step.reason)
            ));
        }
        self.0.push_str("</ol>");
        if incident.timeline_omitted > 0 {
            self.add(format_args!("<p>and about {} more of the same chain</p>", incident.timeline_omitted));
        }
    }

    fn request(&mut self, incident: &Incident) {
        let Some(best) = incident.candidates.best() else { return };
        self.0.push_str("<h2>The request</h2>");
        self.candidate(best);
        let others = &incident.candidates.ranked[1..];
        let more = others.len() as u64 + incident.candidates.omitted;
        if more > 0 {
            let s = if more == 1 { "" } else { "s" };
            self.add(format_args!("<details><summary>{more} other candidate{s}</summary>"));
            others.iter().for_each(|other| self.candidate(other));
            self.0.push_str("</details>");
        }
    }

    fn candidate(&mut self, candidate: &Candidate) {
        let request = &candidate.request;
        let client = request.client.map_or_else(|| "an unknown client".into(), |client| client.to_string());
        self.add(format_args!(
            "<p><code>{}</code><br>from {client} at {}, answered in {}, through {}",
            escaped(&whole_request(request)),
            request.received,
            span(request.completed.since(request.received)),
            escaped(&request.balancer)
        ));
        if !request.user_agent.is_empty() {
            self.add(format_args!("<br>user agent <code>{}</code>", escaped(&request.user_agent)));
        }
        if let Some(verdict) = &candidate.verdict {
            self.add(format_args!("<br>matched <code>{}</code> (score {})", escaped(&verdict.matched), verdict.score));
        }
        self.add(format_args!("<br>{}</p>", escaped(&candidate.reason)));
    }

    fn processes(&mut self, tree: &ProcessTree) {
        if tree.nodes.is_empty() {
            return;
        }
        self.0.push_str("<h2>Processes</h2><div class=\"tree\">");
        let mut depths: Vec<usize> = Vec::with_capacity(tree.nodes.len());
        for (index, node) in tree.nodes.iter().enumerate() {
            // Parents come before children; a record from elsewhere where they do not is shown flat.
            let depth = node.parent.filter(|parent| *parent < index).map_or(0, |parent| depths[parent] + 1);
            depths.push(depth);
            let class = if node.involved { "involved" } else { "" };
            let service = if node.service { " <i>service</i>" } else { "" };
            let shown = escaped(&process(&node.process));
            let pid = node.process.process.pid;
            self.add(format_args!(
                "<div class=\"{class}\" style=\"margin-left:{}px\">{pid} <code>{shown}</code>{service}</div>",
                depth * 22
            ));
        }
        self.0.push_str("</div>");
        if tree.omitted > 0 {
            self.add(format_args!("<p>and {} more</p>", tree.omitted));
        }
    }

    fn reasons(&mut self, incident: &Incident) {
        self.0.push_str("<h2>Why</h2><table>");
        for part in &incident.contributions {
            let name = stage(part.stage);
            self.add(format_args!(
                "<tr><td class=\"weight\">{:+.2}</td><td><span class=\"bar {name}\" style=\"width:{:.0}px\"></span></td>\
                 <td>{}: {}</td></tr>",
                part.weight,
                part.weight.clamp(0.0, 12.0) * 10.0,
                escaped(&part.name),
                escaped(&part.reason)
            ));
        }
        self.0.push_str("</table>");
    }

    fn response(&mut self, incident: &Incident) {
        if incident.response.is_empty() {
            return;
        }
        self.0.push_str("<h2>What to do next</h2><p>Suggested; nothing was executed.</p><ol>");
        for step in &incident.response {
            self.add(format_args!("<li><b>{}</b> {}", phase(step.phase), escaped(&step.text)));
            if let Some(command) = &step.command {
                self.add(format_args!("<pre>{}</pre>", escaped(command)));
            }
            self.0.push_str("</li>");
        }
        self.0.push_str("</ol>");
    }

    fn coverage(&mut self, incident: &Incident) {
        let sentences = incident.coverage.iter().flat_map(WorkloadCoverage::sentences);
        let gaps = incident.coverage.iter().flat_map(|coverage| &coverage.gaps);
        let gaps = gaps.map(|gap| format!("{}; {}", gap.text, gap.remedy));
        self.list("What this rests on", sentences.chain(senses_said(&incident.senses)).chain(gaps));
    }

    fn list(&mut self, title: &str, items: impl Iterator<Item = String>) {
        let mut items = items.peekable();
        if items.peek().is_none() {
            return;
        }
        self.add(format_args!("<h2>{title}</h2><ul>"));
        items.for_each(|item| self.add(format_args!("<li>{}</li>", escaped(&item))));
        self.0.push_str("</ul>");
    }
}

/// Where a step stands: evenly spaced, since a chain has milliseconds and hours side by side.
fn place(at: usize, count: usize, step: &Step) -> (usize, usize) {
    let row = match step.stage {
        Stage::Edge => 0,
        Stage::Host => 1,
        Stage::Egress => 2,
    };
    let slot = (WIDTH - LANES_AT) / count.max(1);
    (LANES_AT + slot * at + slot / 2, row * LANE + LANE / 2 - 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full_chain() -> Incident {
        serde_json::from_str(include_str!("text/full_chain.json")).expect("reads")
    }

    #[test]
    fn the_page_has_what_the_text_has_and_stands_alone() {
        let page = html(&full_chain());
        for part in ["CRITICAL", "bl-d6babd56a00a38b5839f", "T1552.005", "shop-prod", "deregister-targets", "<svg"] {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(page.matches("<circle").count(), full_chain().timeline.len());
        for outside in ["<script", "src=\"", "href=", "@import", "url(http"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn hostile_text_stays_text() {
        let hostile = "</title><script>alert(1)</script>\u{202e}\"onload='x'&";
        let mut incident = full_chain();
        incident.title = hostile.into();
        incident.id = hostile.into();
        incident.timeline[0].reason = hostile.into();
        incident.response[0].command = Some(hostile.into());
        incident.candidates.ranked[0].request.user_agent = hostile.into();
        incident.contributions[0].reason = hostile.into();
        incident.processes.nodes[0].parent = Some(99);
        let page = html(&incident);
        assert!(!page.contains("<script") && !page.contains('\u{202e}'), "{page}");
        assert_eq!(page.matches("</title>").count(), 1 + incident.timeline.len(), "the page's own and the picture's");
    }
}
