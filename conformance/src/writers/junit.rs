//! The report as JUnit XML, which build servers show: a suite per profile, a test case per case.

use super::{counted, faults};
use crate::{
    report::{CaseReport, PROFILES, Report, profile},
    verdict::Verdict,
};
use quick_junit::{NonSuccessKind, Report as Xml, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// The XML.
///
/// # Errors
/// Text that XML cannot hold.
pub fn junit(report: &Report) -> Result<String, String> {
    let mut xml = Xml::new(format!("rap-conformance {}", report.target.url));
    for name in PROFILES {
        let cases: Vec<&CaseReport> = report.cases.iter().filter(|c| profile_of(c) == name).collect();
        if cases.is_empty() {
            continue;
        }
        let mut suite = TestSuite::new(name);
        suite.add_test_cases(cases.into_iter().map(|case| test_case(report, case)));
        xml.add_test_suite(suite);
    }
    if !report.stale.is_empty() {
        let mut suite = TestSuite::new("baseline");
        suite.add_test_cases(report.stale.iter().map(|stale| {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type("stale").set_message(stale.clone());
            let name = stale.split(": ").next().unwrap_or_default();
            TestCase::new(format!("baseline {name}"), status)
        }));
        xml.add_test_suite(suite);
    }
    xml.to_string().map_err(|e| format!("the JUnit report cannot be written: {e}"))
}

/// A case stands where its first obligation does.
fn profile_of(case: &CaseReport) -> &'static str {
    case.obligations.first().map_or("core", |id| profile(id))
}

fn test_case(report: &Report, case: &CaseReport) -> TestCase {
    let mut made = TestCase::new(case.id.clone(), status(report, case));
    made.set_classname(case.obligations.join(" ")).set_time(Duration::from_millis(case.took_ms));
    made
}

fn status(report: &Report, case: &CaseReport) -> TestCaseStatus {
    let reason = case.reason.clone().unwrap_or_default();
    match case.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        // An extension that holds now and then weighs no more than one that never does.
        Verdict::Flaky if case.weight() == Verdict::Informational => skipped(case, reason),
        Verdict::Unimplemented | Verdict::Inconclusive | Verdict::Informational => skipped(case, reason),
        _ if case.known => skipped(case, "known, in the baseline".to_owned()),
        Verdict::HarnessError => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type(case.verdict.word()).set_message(reason);
            status
        }
        Verdict::Fail | Verdict::Flaky | Verdict::NonStrict => {
            let all = faults(report);
            let own: Vec<_> = all.iter().filter(|f| f.case.id == case.id).collect();
            let mut told = Vec::new();
            for fault in &own {
                told.push(format!("{}: {}", fault.finding.obligation, fault.finding.sentence));
                told.extend(fault.exchanges.iter().flat_map(|e| super::lines(e)));
                told.extend(fault.command(report));
            }
            let message = own.first().map_or(reason, |f| f.finding.sentence.clone());
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(case.verdict.word()).set_message(message).set_description(told.join("\n"));
            status
        }
    }
}

fn skipped(case: &CaseReport, reason: String) -> TestCaseStatus {
    let found = case.findings.len();
    let found = if found == 0 { String::new() } else { counted(found, "finding: ", "findings: ") };
    let mut status = TestCaseStatus::skipped();
    status.set_type(case.verdict.word()).set_message(format!("{}: {found}{reason}", case.verdict.word()));
    status
}
