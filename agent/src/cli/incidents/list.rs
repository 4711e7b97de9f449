//! `breachline incidents list`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;

use super::{Common, Filter};
use crate::cli::answer::style;
use crate::incident::text::{Paint, Style};
use crate::incident::wording::{clean, cut, severity};
use crate::store::IncidentSummary;

pub(super) fn run(common: &Common, filter: &Filter) -> Result<ExitCode> {
    let summaries = filter.summaries(common)?;
    if common.json {
        Common::print_json(&summaries)?;
    } else if summaries.is_empty() {
        writeln!(io::stdout(), "no incidents")?;
    } else {
        table(&mut io::stdout().lock(), &summaries, style())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Columns below which what happened has a line of its own.
const NARROW: usize = 100;

/// One line each: what is worst to miss stands left, the title takes what room is left.
fn table(out: &mut impl Write, summaries: &[IncidentSummary], style: Style) -> io::Result<()> {
    let width =
        summaries.iter().map(|summary| clean(&summary.workload).chars().count()).max().unwrap_or(0).clamp(8, 32);
    let head =
        format!("{:<9} {:<20} {:<23} {:>3} {:<width$} what", "severity", "latest evidence", "id", "rev", "workload");
    writeln!(out, "{}", cut(&head, style.line_max))?;
    let narrow = style.line_max < NARROW;
    for summary in summaries {
        let word = severity(summary.severity);
        let mut second = summary.last_seen.to_string();
        if let Some(dot) = second.find('.') {
            second.replace_range(dot.., "Z");
        }
        let note = if summary.expected { "(expected) " } else { "" };
        let workload = cut(&clean(&summary.workload), width);
        let what = format!("{note}{}", clean(&summary.title));
        let row = format!("{second:<20} {:<23} {:>3} {workload:<width$}", clean(&summary.id), summary.revision);
        let row = if narrow { row.trim_end().to_owned() } else { format!("{row} {what}") };
        let row = cut(&row, style.line_max.saturating_sub(10));
        let padding = " ".repeat(9_usize.saturating_sub(word.len()));
        let word = if style.colour { Paint::of_severity(summary.severity).on(word) } else { word.to_owned() };
        writeln!(out, "{word}{padding} {row}")?;
        if narrow {
            writeln!(out, "{:10}{}", "", cut(&what, style.line_max.saturating_sub(10)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::Severity;

    #[test]
    fn rows_fit_the_terminal_and_hostile_titles_stay_in_theirs() {
        let summary = |title: &str| IncidentSummary {
            id: "bl-d6babd56a00a38b5839f".into(),
            revision: 3,
            severity: Severity::Critical,
            title: title.into(),
            workload: "unit:shop.service".into(),
            expected: true,
            last_seen: "2026-11-22T10:00:00.123456789Z".parse().expect("time"),
            revisions: std::collections::BTreeMap::new(),
        };
        let mut out = Vec::new();
        table(&mut out, &[summary("\x1b[2J\nCRITICAL"), summary(&"x".repeat(500))], Style::terminal(100, false))
            .expect("writes");
        let text = String::from_utf8(out).expect("text");
        assert!(text.lines().all(|line| line.chars().count() <= 100) && !text.contains('\x1b'), "{text}");
        assert_eq!(text.lines().count(), 3);
        let mut out = Vec::new();
        table(&mut out, &[summary("unit:shop.service started a shell")], Style::terminal(80, false)).expect("writes");
        let narrow = String::from_utf8(out).expect("text");
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
        assert!(narrow.contains("\n          (expected) unit:shop.service started a shell\n"), "{narrow}");
        assert!(
            text.contains(
                "CRITICAL  2026-11-22T10:00:00Z bl-d6babd56a00a38b5839f   3 unit:shop.service (expected) \\u{1b}"
            ),
            "{text}"
        );
    }
}
