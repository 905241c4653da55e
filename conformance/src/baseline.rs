//! Faults that are known: a file that lists them, so that a build fails on new ones only, and fails as well when
//! an entry no longer says anything, so that the list can only become shorter.

use crate::{
    cases,
    report::{CaseReport, Report},
    rules,
    verdict::Verdict,
};
use serde::{Deserialize, Serialize};

/// A list of known faults, in TOML: `[[known]]` with `case`, `obligation` and `reason`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The entries.
    #[serde(default)]
    pub known: Vec<Known>,
}

/// A known fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The case that finds it.
    pub case: String,
    /// The obligation that does not hold.
    pub obligation: String,
    /// Why it is so, and until when, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Baseline {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|e| format!("not a baseline: {e}"))
    }

    /// The list of everything that counts in a report.
    pub fn of(report: &Report) -> Self {
        let counts =
            |case: &&CaseReport| matches!(case.verdict, Verdict::Fail | Verdict::NonStrict | Verdict::Flaky);
        let mut known: Vec<Known> = report
            .cases
            .iter()
            .filter(counts)
            .flat_map(|case| case.findings.iter().map(move |finding| (case, finding)))
            .map(|(case, finding)| Known {
                case: case.id.clone(),
                obligation: finding.obligation.clone(),
                reason: String::new(),
            })
            .collect();
        known.dedup();
        Self { known }
    }

    /// Its text.
    pub fn text(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// Marks what is known in a report, and notes what no longer holds of the list. A case is known when each of
    /// its findings is listed; one whose tries differ never is.
    pub fn apply(&self, report: &mut Report) {
        let listed = |case: &str, obligation: &str| {
            self.known.iter().any(|k| k.case == case && k.obligation == obligation)
        };
        for case in &mut report.cases {
            case.known = matches!(case.verdict, Verdict::Fail | Verdict::NonStrict)
                && case.findings.iter().all(|f| listed(&case.id, &f.obligation));
        }
        report.stale = self.known.iter().filter_map(|entry| stale(entry, report)).collect();
        report.fold_again();
    }
}

/// Why an entry says nothing any more. One whose case was not run in this report, or could not be judged this time, is
/// left alone: nothing shows that the fault is gone.
fn stale(entry: &Known, report: &Report) -> Option<String> {
    let Known { case, obligation, .. } = entry;
    let exists =
        cases::all().iter().any(|c| c.id == case) || rules::all().iter().any(|r| r.id == case.as_str());
    if !exists {
        return Some(format!("{case} ({obligation}): there is no such case; hint: take the entry out"));
    }
    let reported = report.cases.iter().find(|c| c.id == *case)?;
    let found = reported.findings.iter().any(|f| f.obligation == *obligation);
    let judged = matches!(
        reported.verdict,
        Verdict::Pass | Verdict::Fail | Verdict::NonStrict | Verdict::Informational
    );
    (judged && !found).then(|| {
        format!(
            "{case} ({obligation}): no longer found ({}); hint: take the entry out",
            reported.verdict.word()
        )
    })
}
