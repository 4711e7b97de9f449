//! What each BPF program is on each kernel: instructions, what the verifier went through, and how long loading took.
//!
//! In: what `ways --json` prints. Out: records for `--json`, tables for people.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Everything measured on one kernel.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) programs: Vec<ProgramFigure>,
    pub(super) memory: Option<MemoryFigure>,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProgramFigure {
    pub(super) program: String,
    pub(super) kernel: String,
    /// Its length after the verifier's changes.
    pub(super) instructions: u32,
    /// What the verifier went through, of the million it allows; Linux 5.16 and later tell.
    pub(super) verified: Option<u32>,
    /// Microseconds that loading took; on an emulated processor except for the running kernel.
    pub(super) load_us: u64,
}

/// What all programs and maps take in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MemoryFigure {
    pub(super) bpf_memory_bytes: u64,
    pub(super) kernel: String,
}

/// The figures among a program's output.
///
/// # Errors
///
/// A line that begins like one and is none.
pub(super) fn read(output: &str, column: &str) -> Result<Figures> {
    let mut figures = Figures::default();
    for line in output.lines().map(str::trim) {
        let wrong = || format!("{column}: not a figure: {line}");
        if line.starts_with("{\"program\":") {
            figures.programs.push(serde_json::from_str(line).with_context(wrong)?);
        } else if line.starts_with("{\"bpf_memory_bytes\":") {
            figures.memory = Some(serde_json::from_str(line).with_context(wrong)?);
        }
    }
    Ok(figures)
}

/// Tables for a page: rows are programs, columns are kernels.
pub(super) fn markdown(columns: &[(&str, &Figures)]) -> String {
    let verified =
        |figure: &ProgramFigure| figure.verified.map_or_else(|| "not told".to_owned(), |count| count.to_string());
    let milliseconds = |figure: &ProgramFigure| format!("{:.1}", figure.load_us as f64 / 1000.0);
    let mut out = table(columns, "instructions", |figure| figure.instructions.to_string());
    out.push_str(&table(columns, "instructions verified, of 1,000,000", verified));
    out.push_str(&table(columns, "loading, ms (in a guest an instruction takes 4 ns)", milliseconds));
    let megabytes = |figures: &Figures| {
        figures
            .memory
            .as_ref()
            .map_or_else(String::new, |memory| format!("{:.1}", memory.bpf_memory_bytes as f64 / 1e6))
    };
    let cells: String = columns.iter().map(|(_, figures)| format!(" {} |", megabytes(figures))).collect();
    out.push_str(&format!("{}| programs and maps |{cells}\n", head(columns, "kernel memory, MB, at defaults")));
    out
}

fn head(columns: &[(&str, &Figures)], title: &str) -> String {
    let names: String = columns.iter().map(|(name, _)| format!(" {name} |")).collect();
    format!("\n| {title} |{names}\n|---|{}\n", "---|".repeat(columns.len()))
}

fn table(columns: &[(&str, &Figures)], title: &str, word: impl Fn(&ProgramFigure) -> String) -> String {
    let mut programs: Vec<&str> = Vec::new();
    for figure in columns.iter().flat_map(|(_, figures)| &figures.programs) {
        if !programs.contains(&figure.program.as_str()) {
            programs.push(&figure.program);
        }
    }
    let mut out = head(columns, title);
    for program in programs {
        let of = |figures: &Figures| figures.programs.iter().find(|figure| figure.program == program).map(&word);
        let cells: String = columns
            .iter()
            .map(|(_, figures)| format!(" {} |", of(figures).unwrap_or_else(|| "-".to_owned())))
            .collect();
        out.push_str(&format!("| `{program}` |{cells}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "[ 0.1] a console\r\n\
        {\"program\":\"connect4\",\"kernel\":\"5.10\",\"instructions\":70,\"verified\":null,\"load_us\":1500}\r\n\
        {\"bpf_memory_bytes\":2500000,\"kernel\":\"5.10\"}\n{\"way\":\"connect\"}\n";

    #[test]
    fn figures_are_found_and_put_into_tables() {
        let old = read(OUTPUT, "old").unwrap();
        let new = Figures::default();
        let text = markdown(&[("old", &old), ("new", &new)]);
        for row in ["| `connect4` | 70 | - |", "| `connect4` | not told | - |", "| `connect4` | 1.5 | - |"] {
            assert!(text.contains(row), "{text}");
        }
        assert!(text.contains("| programs and maps | 2.5 |  |"), "{text}");
        assert!(read("{\"program\":1}", "old").is_err(), "half a figure is an error");
    }
}
