//! What is seen while a run goes on: a line that counts on a terminal, and every fault as it is found.

use crate::{
    report::CaseReport,
    runner::{Progress, Show},
    verdict::Verdict,
    writers,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::IsTerminal as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Shows progress on stderr.
pub(super) fn live() -> Show {
    let terminal = std::io::stderr().is_terminal();
    let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    bar.set_style(
        ProgressStyle::with_template("{pos}/{len} cases {wide_bar} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let faults = AtomicU64::new(0);
    Arc::new(move |progress| match progress {
        Progress::Planned(n) => bar.set_length(n as u64),
        Progress::Repeating(id) => bar.set_message(format!("again: {id}")),
        Progress::Note(note) => say(&bar, &writers::plain(&note)),
        Progress::Done(case) => {
            if !case.id.starts_with("rule/") {
                bar.inc(1);
            }
            if case.verdict.is_fault() || case.verdict == Verdict::HarnessError {
                let n = faults.fetch_add(1, Ordering::Relaxed) + 1;
                bar.set_message(format!("{n} wrong"));
                say(&bar, &line(&case));
            }
        }
    })
}

fn line(case: &CaseReport) -> String {
    let colour = writers::style(case.verdict);
    let what = case.findings.first().map(|f| f.sentence.clone()).or_else(|| case.reason.clone());
    let what = writers::plain(&what.unwrap_or_default());
    format!("{colour}{:13}{colour:#} {}: {what}", case.verdict.word(), case.id)
}

/// A line above the bar, which must not be torn by it.
fn say(bar: &ProgressBar, line: &str) {
    bar.suspend(|| anstream::eprintln!("{line}"));
}
