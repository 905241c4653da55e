//! Rules: functions over a recorded trace. The same ones judge what a case provoked, a trace in a file, and
//! traffic that passes through the proxy. A rule looks at everything of its kind, and says how much that was:
//! a rule that saw nothing is inconclusive, never passed.

mod callbacks;
mod calls;
mod interaction;
mod results;
mod runtime;
mod subscriptions;
pub(crate) mod view;

pub(crate) use calls::EVERY_CALL_ENDS;
pub(crate) use interaction::insecure;
pub(crate) use results::image_before_text;
pub use view::View;

use crate::{
    report::CaseReport,
    trace::Exchange,
    verdict::{Finding, Verdict},
};
use rap_spec::Role;

/// What a rule found.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// How many things it looked at.
    pub looked_at: usize,
    /// What was wrong.
    pub findings: Vec<Finding>,
}

impl Seen {
    /// Notes that one more thing was looked at, and what is wrong with it.
    pub fn look(&mut self, wrong: Option<Finding>) {
        self.looked_at += 1;
        self.findings.extend(wrong);
    }
}

/// A rule over a trace.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its name for ever, `rule/…`.
    pub id: &'static str,
    /// What holds when it passes, in a sentence.
    pub title: &'static str,
    /// The obligations that it judges.
    pub obligations: &'static [&'static str],
    /// Whose conduct it looks at; an obligation may bind the other role as well.
    pub role: Role,
    /// What it does.
    pub check: fn(&View<'_>) -> Seen,
}

/// All rules.
pub fn all() -> Vec<&'static Rule> {
    [callbacks::RULES, calls::RULES, results::RULES, subscriptions::RULES, interaction::RULES]
        .into_iter()
        .flatten()
        .chain(runtime::rules())
        .collect()
}

/// Runs the rules on a trace; only those on the conduct of a role, where one is given.
pub fn judge(trace: &[Exchange], rules: &[&Rule], role: Option<Role>) -> Vec<CaseReport> {
    let view = View::of(trace);
    rules
        .iter()
        .filter(|rule| role.is_none_or(|role| rule.role == role))
        .map(|rule| report(rule, (rule.check)(&view)))
        .collect()
}

/// How many findings of one rule are kept: the rest are alike.
const KEPT: usize = 5;

fn report(rule: &Rule, mut seen: Seen) -> CaseReport {
    let worst = seen.findings.iter().map(|f| Verdict::of_id(&f.obligation)).max();
    let more = seen.findings.len().saturating_sub(KEPT);
    seen.findings.truncate(KEPT);
    let (verdict, reason) = match worst {
        Some(verdict) if more > 0 => (verdict, Some(format!("and {more} more of the same"))),
        Some(verdict) => (verdict, None),
        None if seen.looked_at == 0 => {
            (Verdict::Inconclusive, Some("the trace holds nothing that it is about".to_owned()))
        }
        None => (Verdict::Pass, None),
    };
    CaseReport {
        id: rule.id.to_owned(),
        title: rule.title.to_owned(),
        obligations: rule.obligations.iter().map(|o| (*o).to_owned()).collect(),
        verdict,
        reason,
        findings: seen.findings,
        known: false,
        took_ms: 0,
    }
}
