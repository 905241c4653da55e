//! The report as a person reads it at a terminal: what is wrong first, each with the way to see it; then the
//! obligations that were not judged and why; then a line per profile.

use super::{counted, faults, lines};
use crate::{
    report::{ObligationReport, Report},
    verdict::Verdict,
};
use anstyle::{AnsiColor, Style};
use std::{collections::BTreeMap, fmt::Write as _};

const STRONG: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

/// The colour of a verdict.
pub(crate) fn style(verdict: Verdict) -> Style {
    let colour = match verdict {
        Verdict::Pass => AnsiColor::Green,
        Verdict::Unimplemented | Verdict::Inconclusive | Verdict::Informational => AnsiColor::Cyan,
        Verdict::NonStrict => AnsiColor::Yellow,
        Verdict::HarnessError | Verdict::Flaky | Verdict::Fail => AnsiColor::Red,
    };
    Style::new().fg_color(Some(colour.into()))
}

/// The text, with ANSI styles; `anstream` takes them away where nobody sees them.
pub fn summary(report: &Report) -> String {
    let mut out = String::new();
    told_faults(&mut out, report);
    told_rest(&mut out, report);
    told_profiles(&mut out, report);
    out
}

// Writing to a `String` cannot fail: the results below are dropped.

fn told_faults(out: &mut String, report: &Report) {
    for fault in faults(report) {
        let (case, finding) = (fault.case, fault.finding);
        let colour = style(case.verdict);
        let known = if case.known { " (known)" } else { "" };
        let _ = writeln!(
            out,
            "{colour}{}{colour:#}{known} {STRONG}{}{STRONG:#} {}",
            case.verdict.word(),
            finding.obligation,
            plain(&finding.sentence)
        );
        if let Some(row) = report.obligations.iter().find(|o| o.id == finding.obligation) {
            let _ = writeln!(
                out,
                "  {FAINT}{}, {}, page \"{}\": {}{FAINT:#}",
                row.level, row.origin, row.page, row.text
            );
        }
        let _ = writeln!(out, "  {FAINT}case {}{FAINT:#}", case.id);
        for line in fault.exchanges.iter().flat_map(|e| lines(e)) {
            let _ = writeln!(out, "    {}", plain(&line));
        }
        if let Some(command) = fault.command(report) {
            let _ = writeln!(out, "  see it: {}", plain(&command));
        }
        out.push('\n');
    }
    for case in report.cases.iter().filter(|c| c.verdict == Verdict::HarnessError) {
        let colour = style(case.verdict);
        let reason = plain(case.reason.as_deref().unwrap_or("the judge failed"));
        let _ = writeln!(out, "{colour}harness-error{colour:#} {}: {reason}\n", case.id);
    }
    for stale in &report.stale {
        let colour = style(Verdict::Fail);
        let _ = writeln!(out, "{colour}baseline{colour:#} {}\n", plain(stale));
    }
}

/// Obligations that were not judged, by reason.
fn told_rest(out: &mut String, report: &Report) {
    for verdict in [Verdict::Unimplemented, Verdict::Inconclusive] {
        let mut by_reason: BTreeMap<&str, Vec<&ObligationReport>> = BTreeMap::new();
        for row in report.obligations.iter().filter(|o| o.verdict == verdict) {
            by_reason.entry(row.reason.as_deref().unwrap_or("")).or_default().push(row);
        }
        for (reason, rows) in by_reason {
            let ids: Vec<&str> = rows.iter().map(|r| r.id.as_str()).collect();
            let colour = style(verdict);
            let _ =
                writeln!(out, "{colour}{}{colour:#} {}: {}", verdict.word(), ids.join(" "), plain(reason));
        }
    }
    for note in &report.notes {
        let _ = writeln!(out, "{FAINT}note: {}{FAINT:#}", plain(note));
    }
}

fn told_profiles(out: &mut String, report: &Report) {
    let target = if report.target.name.is_empty() { &report.target.role } else { &report.target.name };
    let _ = writeln!(
        out,
        "\n{STRONG}{}{STRONG:#} at {}, wire {}, {} in {:.1} s",
        plain(target),
        plain(&report.target.url),
        report.judge.wire,
        counted(report.cases.len(), "case", "cases"),
        report.took_ms as f64 / 1000.0
    );
    for profile in &report.profiles {
        let counts: Vec<String> = profile
            .counts
            .iter()
            .map(|(verdict, n)| {
                let colour = style(*verdict);
                format!("{colour}{n} {}{colour:#}", verdict.word())
            })
            .collect();
        let counts =
            if counts.is_empty() { "nothing of it was looked at".to_owned() } else { counts.join(", ") };
        let _ = writeln!(out, "  {:14} {counts}", profile.name);
    }
}

/// What the other side wrote cannot steer the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{b7}' } else { c }).collect()
}
