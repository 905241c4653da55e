//! Known faults: they do not count, new ones do, and the list can only become shorter.

use crate::sample::case;
use rap_conformance::{
    baseline::Baseline,
    report::{self, Report, Target},
    verdict::{Finding, Verdict},
};

/// A case and a rule that exist.
const CASE: &str = "rule/callback-url-kept";
const OTHER: &str = "rule/callback-conforms";

fn report_with(findings: &[(&str, &str)]) -> Report {
    let cases = findings
        .iter()
        .map(|(id, obligation)| case(id, Verdict::Fail, vec![Finding::new(obligation, "wrong", &[])]))
        .chain([case(OTHER, Verdict::Pass, Vec::new())])
        .collect();
    report::fold(Target::default(), cases, &[], |r| r.id.starts_with("TRN-"))
}

fn applied(report: &Report, text: &str) -> Report {
    let mut report = report.clone();
    Baseline::parse(text).expect("a baseline").apply(&mut report);
    report
}

fn entry(case: &str, obligation: &str) -> String {
    format!("[[known]]\ncase = \"{case}\"\nobligation = \"{obligation}\"\nreason = \"until spring\"\n")
}

#[test]
fn what_is_known_does_not_count_and_what_is_new_does() {
    let known = report_with(&[(CASE, "TRN-07")]);
    assert_eq!(known.exit_code(false), 1);
    assert_eq!(applied(&known, &entry(CASE, "TRN-07")).exit_code(false), 0);
    let row = applied(&known, &entry(CASE, "TRN-07"));
    let row = row.obligations.iter().find(|o| o.id == "TRN-07").expect("a row");
    assert_eq!(row.verdict, Verdict::Pass, "the fold follows");

    let mut more = report_with(&[(CASE, "TRN-07")]);
    more.cases[0].findings.push(Finding::new("TRN-01", "new", &[]));
    assert_eq!(applied(&more, &entry(CASE, "TRN-07")).exit_code(false), 1, "a new finding in a known case");
}

#[test]
fn an_entry_that_says_nothing_any_more_fails() {
    let good = report_with(&[]);
    for (case, obligation) in [(OTHER, "TRN-13"), ("no/such-case", "TRN-13")] {
        let judged = applied(&good, &entry(case, obligation));
        assert_eq!((judged.stale.len(), judged.exit_code(true)), (1, 1), "{case}: {:?}", judged.stale);
    }
    let not_run = applied(&good, &entry(CASE, "TRN-07"));
    assert_eq!(
        (not_run.stale.len(), not_run.exit_code(true)),
        (0, 0),
        "a case that was not run is left alone"
    );
}

/// A fault that could not be looked for is not gone.
#[test]
fn an_entry_whose_case_could_not_be_judged_is_left_alone() {
    let mut report = report_with(&[(CASE, "TRN-07")]);
    report.cases[0].findings.clear();
    for (verdict, stale) in [
        (Verdict::Inconclusive, 0),
        (Verdict::Unimplemented, 0),
        (Verdict::HarnessError, 0),
        (Verdict::Pass, 1),
    ] {
        report.cases[0].verdict = verdict;
        assert_eq!(applied(&report, &entry(CASE, "TRN-07")).stale.len(), stale, "{verdict:?}");
    }
    // It failed in another thing.
    report.cases[0].verdict = Verdict::Fail;
    report.cases[0].findings.push(Finding::new("TRN-01", "wrong", &[]));
    assert_eq!(applied(&report, &entry(CASE, "TRN-07")).stale.len(), 1);
}

/// What makes a build fail is seen where it is shown.
#[test]
fn a_stale_entry_is_a_failure_in_junit() {
    let judged = applied(&report_with(&[]), &entry(OTHER, "TRN-13"));
    let xml = rap_conformance::writers::junit(&judged).expect("XML");
    assert!(xml.contains("failures=\"1\"") && xml.contains("no longer found"), "{xml}");
}

#[test]
fn what_differs_between_tries_is_never_known() {
    let mut report = report_with(&[(CASE, "TRN-07")]);
    report.cases[0].verdict = Verdict::Flaky;
    assert_eq!(applied(&report, &entry(CASE, "TRN-07")).exit_code(false), 1);
}

#[test]
fn a_list_written_from_a_report_makes_it_pass() {
    let mut report = report_with(&[(CASE, "TRN-07")]);
    report.cases[0].findings.push(Finding::new("TRN-01", "wrong", &[]));
    let text = Baseline::of(&report).text();
    assert_eq!(applied(&report, &text).exit_code(false), 0, "{text}");
    assert!(Baseline::parse("[[known]]\ncase = 1").is_err());
}
