//! How reports are told: snapshots, and what must never be in them.

use crate::sample;
use crate::toy::{Manner, Toy};
use rap_conformance::{Options, judge, report::Report, trace, verdict::Verdict, writers};
use std::time::Duration;

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn for_people() {
    insta::assert_snapshot!(plain(&writers::summary(&sample::report())));
}

#[test]
fn as_markdown() {
    insta::assert_snapshot!(writers::markdown(&sample::report()));
}

#[test]
fn as_junit() {
    insta::assert_snapshot!(writers::junit(&sample::report()).expect("XML"));
}

#[test]
fn as_json() {
    let report = sample::report();
    let json = serde_json::to_value(&report).expect("JSON");
    insta::assert_json_snapshot!(json);
    let back: Report = serde_json::from_value(json.clone()).expect("the report is read back");
    assert_eq!(serde_json::to_value(back).expect("JSON"), json);
}

#[test]
fn no_secret_and_no_control_character_gets_into_any_form() {
    let report = sample::report();
    let forms = [
        plain(&writers::summary(&report)),
        writers::junit(&report).expect("XML"),
        serde_json::to_string(&report).expect("JSON"),
        writers::markdown(&report),
    ];
    for form in forms {
        assert!(!form.contains("s3cret"), "{form}");
        assert!(!form.contains('\u{1b}'), "{form}");
    }
}

#[test]
fn a_command_repeats_the_request_that_provoked_a_callback() {
    let report = sample::report();
    let told = plain(&writers::summary(&report));
    let line = told.lines().find(|l| l.contains("see it:")).expect("a command");
    assert!(line.contains("curl -sS -i -X POST http://127.0.0.1:8/rap"), "{line}");
    assert!(line.contains(r"it'\''s"), "a quote in a body is quoted for a shell: {line}");
}

#[test]
fn exit_codes_follow_the_gravest_that_counts() {
    let mut report = sample::report();
    assert_eq!(report.exit_code(false), 1, "a fail");
    report.cases.retain(|c| !matches!(c.verdict, Verdict::Fail | Verdict::Flaky));
    assert_eq!(report.exit_code(false), 1, "a non-strict");
    assert_eq!(report.exit_code(true), 3, "a non-strict weighs nothing under `must`, a harness error does");
    report.cases.retain(|c| c.verdict != Verdict::HarnessError);
    assert_eq!(report.exit_code(true), 0);
    report.cases.retain(|c| c.verdict != Verdict::NonStrict);
    assert_eq!(report.exit_code(false), 0, "unimplemented and inconclusive weigh nothing");
    report.stale = vec!["an entry".to_owned()];
    assert_eq!(report.exit_code(true), 1, "a stale baseline");
}

#[test]
fn a_trace_is_read_back_as_it_was_written_but_for_secrets() {
    let written = {
        let mut bytes = Vec::new();
        trace::write(&mut bytes, &sample::trace()).expect("written");
        bytes
    };
    let read = trace::read(written.as_slice()).expect("read");
    let redacted: Vec<_> = sample::trace().iter().map(trace::Exchange::redacted).collect();
    assert_eq!(read, redacted);
}

/// Whatever is found can be seen, and tried again: at a server that does nearly everything wrong.
#[tokio::test]
async fn every_finding_has_an_exchange_and_a_command() {
    let says = Some("it went badly".to_owned());
    let toy = Toy::start(Manner { says, elsewhere: true, may_be_called: true, ..Manner::default() }).await;
    let options = Options { wait: Duration::from_millis(300), ..Options::at(toy.base.clone()) };
    let report = judge(options).await.expect("a report").report;
    let mut findings = 0;
    for case in &report.cases {
        for finding in &case.findings {
            findings += 1;
            assert!(!finding.exchanges.is_empty(), "{}: {finding:?}", case.id);
            for n in &finding.exchanges {
                assert!(report.exchanges.iter().any(|e| e.n == *n), "{}: {finding:?}", case.id);
            }
        }
    }
    let told = plain(&writers::summary(&report));
    assert!(findings > 5, "{told}");
    assert_eq!(told.matches("  see it: ").count(), findings, "{told}");
}
