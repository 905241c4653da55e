//! The report as Markdown, for a build's summary page or a pull request.

use super::{counted, faults, lines, plain};
use crate::{report::Report, verdict::Verdict};
use std::fmt::Write as _;

/// The text.
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    let name = if report.target.name.is_empty() { "a server" } else { &report.target.name };
    // Writing to a `String` cannot fail.
    let _ = write!(
        out,
        "# Conformance of {}\n\n`{}`, judged by {} {} against version {} of the wire.\n\n",
        escaped(name),
        report.target.url,
        report.judge.program,
        report.judge.version,
        report.judge.wire
    );
    let columns = [
        Verdict::Pass,
        Verdict::Fail,
        Verdict::Flaky,
        Verdict::NonStrict,
        Verdict::Informational,
        Verdict::Unimplemented,
        Verdict::Inconclusive,
        Verdict::HarnessError,
    ];
    let used: Vec<Verdict> =
        columns.into_iter().filter(|v| report.profiles.iter().any(|p| p.counts.contains_key(v))).collect();
    let heads: Vec<&str> = used.iter().map(|v| v.word()).collect();
    let _ = write!(out, "| profile | {} |\n|---|{}\n", heads.join(" | "), "---:|".repeat(used.len()));
    for profile in &report.profiles {
        let counts: Vec<String> =
            used.iter().map(|v| profile.counts.get(v).copied().unwrap_or(0).to_string()).collect();
        let _ = writeln!(out, "| {} | {} |", profile.name, counts.join(" | "));
    }
    told_faults(&mut out, report);
    let _ = write!(out, "\n## Obligations\n\n| id | level | verdict | obligation |\n|---|---|---|---|\n");
    for row in &report.obligations {
        let reason = row.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
        let _ = writeln!(
            out,
            "| {} | {} | {}{} | {} |",
            row.id,
            row.level,
            row.verdict.word(),
            escaped(&reason),
            escaped(&row.text)
        );
    }
    for (title, list) in [("Notes", &report.notes), ("Stale entries of the baseline", &report.stale)] {
        if !list.is_empty() {
            let _ = write!(out, "\n## {title}\n\n");
            list.iter().for_each(|line| {
                let _ = writeln!(out, "- {}", escaped(line));
            });
        }
    }
    out
}

fn told_faults(out: &mut String, report: &Report) {
    let faults = faults(report);
    if faults.is_empty() {
        return;
    }
    let _ = write!(out, "\n## {}\n", counted(faults.len(), "finding", "findings"));
    for fault in faults {
        let known = if fault.case.known { ", known" } else { "" };
        let _ = write!(
            out,
            "\n### {} ({}{known})\n\n{}\n\nCase `{}`.\n",
            fault.finding.obligation,
            fault.case.verdict.word(),
            escaped(&fault.finding.sentence),
            fault.case.id
        );
        if !fault.exchanges.is_empty() {
            let shown: Vec<String> = fault.exchanges.iter().flat_map(|e| lines(e)).collect();
            let _ = write!(out, "\n{}\n", fenced("text", &shown.join("\n")));
        }
        if let Some(command) = fault.command(report) {
            let _ = write!(out, "\n{}\n", fenced("sh", &command));
        }
    }
}

/// A code block whose fence is longer than any run of backticks inside: what a server said cannot end it.
fn fenced(language: &str, text: &str) -> String {
    let text = text.lines().map(plain).collect::<Vec<_>>().join("\n");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{text}\n{fence}")
}

/// Text that cannot become a table's bar, a tag or a line of its own.
fn escaped(text: &str) -> String {
    plain(text).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}
