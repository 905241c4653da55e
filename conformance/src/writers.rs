//! How a report is told: to a person at a terminal, as Markdown, as JUnit XML, and each fault with the
//! exchanges that show it and a command that repeats them. Pure: a report in, text out.

mod curl;
mod junit;
mod markdown;
mod summary;

pub use curl::curl;
pub use junit::junit;
pub use markdown::markdown;
pub use summary::summary;
pub(crate) use summary::{plain, style};

use crate::{
    report::{CaseReport, Report, provoking},
    trace::{Body, Exchange, Party},
    verdict::Finding,
};

/// A finding with all that belongs to it.
struct Fault<'a> {
    case: &'a CaseReport,
    finding: &'a Finding,
    exchanges: Vec<&'a Exchange>,
}

/// Every finding, the gravest cases first, the order of the report else kept.
fn faults(report: &Report) -> Vec<Fault<'_>> {
    let mut cases: Vec<&CaseReport> = report.cases.iter().filter(|c| c.verdict.is_fault()).collect();
    cases.sort_by_key(|c| (c.known, std::cmp::Reverse(c.verdict)));
    let exchanges = |finding: &Finding| {
        finding.exchanges.iter().filter_map(|n| report.exchanges.iter().find(|e| e.n == *n)).collect()
    };
    cases
        .into_iter()
        .flat_map(|case| case.findings.iter().map(move |finding| (case, finding)))
        .map(|(case, finding)| Fault { case, finding, exchanges: exchanges(finding) })
        .collect()
}

impl Fault<'_> {
    /// The command that repeats what was found: the first request of ours among the exchanges.
    fn command(&self, report: &Report) -> Option<String> {
        let own = self.exchanges.iter().copied().find(|e| e.from == Party::Runtime);
        let provoking = || provoking(self.exchanges.first()?, &report.exchanges);
        own.or_else(provoking).map(curl)
    }
}

/// Characters of a body that are shown.
const SHOWN: usize = 600;

/// An exchange as people read it: the request, the answer, bodies cut.
fn lines(exchange: &Exchange) -> Vec<String> {
    let who = match exchange.from {
        Party::Runtime => "sent",
        Party::Server => "arrived",
    };
    let mut lines = vec![format!("#{} {who}: {} {}", exchange.n, exchange.method, exchange.url)];
    lines.extend(body_line(&exchange.body).map(|body| format!("  > {body}")));
    match (&exchange.answer, &exchange.failure) {
        (Some(answer), _) => {
            let body = body_line(&answer.body).unwrap_or_default();
            lines.push(format!("  < {} {body}", answer.status).trim_end().to_owned());
        }
        (None, Some(failure)) => lines.push(format!("  < no answer: {failure}")),
        (None, None) => lines.push("  < not answered yet".to_owned()),
    }
    lines
}

fn body_line(body: &Body) -> Option<String> {
    if body.0.is_empty() {
        return None;
    }
    let text = body.text();
    let line: String = text.chars().take(SHOWN).map(|c| if c.is_control() { '\u{b7}' } else { c }).collect();
    let cut = if text.chars().nth(SHOWN).is_some() {
        format!(" … ({} bytes)", body.0.len())
    } else {
        String::new()
    };
    Some(format!("{line}{cut}"))
}

/// How many of something, in words.
fn counted(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}
