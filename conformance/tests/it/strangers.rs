//! Servers that are right in ways of their own: slow to try again, few of workers, in other words, with views before
//! results. None of it is a fault. And those that are wrong there are found all the same.

use crate::toy::{Manner, Toy};
use rap_conformance::{
    Options, judge,
    report::{CaseReport, Report},
    verdict::Verdict,
};
use std::time::Duration;

/// Judges a toy on some cases; its tool may be called.
async fn judged(manner: Manner, only: &str, wait: f64) -> Report {
    let toy = Toy::start(manner).await;
    let options = Options {
        only: vec![only.to_owned()],
        wait: Duration::from_secs_f64(wait),
        patience: Duration::from_secs(1),
        allow: vec!["deploy".to_owned()],
        ..Options::at(toy.base)
    };
    judge(options).await.expect("a report").report
}

fn case<'a>(report: &'a Report, id: &str) -> &'a CaseReport {
    report.cases.iter().find(|case| case.id == id).expect("the case")
}

/// TRN-05: no schedule is prescribed, so what has not come is not known; and what comes with growing pauses, whatever
/// its dice, is right.
#[tokio::test]
async fn a_slow_or_scattered_schedule_of_retries_is_no_fault() {
    let textbook = vec![(2000, 2000), (4000, 4000)];
    let late = vec![(8000, 8000)];
    let full_jitter = vec![(0, 200), (0, 400), (0, 800), (0, 1600), (0, 3200)];
    let half_jitter = vec![(100, 300), (200, 600), (400, 1200), (800, 2400), (1600, 4800)];
    let mut judging = tokio::task::JoinSet::new();
    for (name, pauses, expected) in [
        ("textbook", &textbook, Verdict::Inconclusive),
        ("late", &late, Verdict::Inconclusive),
        ("full jitter", &full_jitter, Verdict::Pass),
        ("half more or less", &half_jitter, Verdict::Pass),
    ] {
        let manner = Manner { pauses: pauses.clone(), ..Manner::default() };
        judging.spawn(async move { (name, expected, judged(manner, "transport/", 1.0).await) });
    }
    while let Some(done) = judging.join_next().await {
        let (name, expected, report) = done.expect("a report");
        let faults: Vec<&CaseReport> = report.cases.iter().filter(|c| c.verdict.is_fault()).collect();
        assert!(faults.is_empty() && report.exit_code(false) == 0, "{name}: {faults:?}");
        let growth = case(&report, "transport/retry-after-500");
        assert_eq!(growth.verdict, expected, "{name}: {growth:?}");
        if expected == Verdict::Inconclusive {
            let reason = growth.reason.as_deref().unwrap_or_default();
            assert!(reason.contains("--wait SECONDS (now 1)"), "{name}: {reason}");
            // The pair: without its control nothing is known of what was refused.
            assert_eq!(
                case(&report, "transport/no-retry-after-4xx").verdict,
                Verdict::Inconclusive,
                "{name}"
            );
        }
    }
}

/// TRN-05: a pace that is the same again and again is no backoff, of whomever.
#[tokio::test]
async fn a_steady_pace_is_found() {
    let manner = Manner { pauses: vec![(300, 310); 8], ..Manner::default() };
    let report = judged(manner, "transport/retry-after-500", 2.0).await;
    assert_eq!(case(&report, "transport/retry-after-500").verdict, Verdict::NonStrict);
}

/// LIM-02, and not TRN-02: with a single worker that reads in turn a server is right, and weighs nothing.
#[tokio::test]
async fn a_single_worker_is_no_fault_of_acknowledgement() {
    let report = judged(Manner { single: true, ..Manner::default() }, "hostile/slow", 0.5).await;
    let slow = case(&report, "hostile/slow");
    assert_eq!(slow.verdict, Verdict::Informational, "{slow:?}");
    assert_eq!(slow.findings.iter().map(|f| f.obligation.as_str()).collect::<Vec<_>>(), ["LIM-02"]);
    assert_eq!(report.exit_code(false), 0);
}

/// INV-05 asks for a look, not for words: which words an error begins with is RES-07's.
#[tokio::test]
async fn an_unknown_operation_may_be_told_in_any_words() {
    for said in ["Tool x does not exist", "Kein solches Werkzeug", "ok"] {
        let manner = Manner { says: Some(said.to_owned()), ..Manner::default() };
        let report = judged(manner, "invocation/unknown-operation", 0.5).await;
        let told = case(&report, "invocation/unknown-operation");
        assert_eq!(told.verdict, Verdict::Inconclusive, "{said}: {told:?}");
    }
    let manner = Manner { says: Some("there is no such tool here".to_owned()), ..Manner::default() };
    let report = judged(manner, "invocation/unknown-operation", 0.5).await;
    assert_eq!(case(&report, "invocation/unknown-operation").verdict, Verdict::Pass);
}

/// INV-07 binds what was acknowledged: a refusal is INV-06's, and that there is too much to do is nobody's.
#[tokio::test]
async fn a_valid_call_that_is_refused_is_not_one_without_an_end() {
    for (status, expected, broken) in [
        (422, Verdict::NonStrict, vec!["INV-06"]),
        (429, Verdict::Inconclusive, vec![]),
        (503, Verdict::Inconclusive, vec![]),
    ] {
        let manner = Manner { refuses: Some(status), ..Manner::default() };
        let report = judged(manner, "invocation/valid-arguments", 0.5).await;
        let valid = case(&report, "invocation/valid-arguments");
        assert_eq!(valid.verdict, expected, "{status}: {valid:?}");
        let found: Vec<&str> = valid.findings.iter().map(|f| f.obligation.as_str()).collect();
        assert_eq!(found, broken, "{status}");
    }
}

/// SUB-07: a tool that shows a view first is followed to its subscription.
#[tokio::test]
async fn what_comes_after_a_view_is_followed() {
    let manner = Manner { views: true, subscribes: true, ..Manner::default() };
    let report = judged(manner, "followed/", 0.5).await;
    for id in ["followed/subscriptions", "followed/results"] {
        assert_eq!(case(&report, id).verdict, Verdict::Pass, "{:?}", case(&report, id));
    }
}

/// Headers of somebody's own are nowhere: not in the report, not in the trace, where a server says them back neither.
#[tokio::test]
async fn the_values_of_own_headers_are_nowhere() {
    let secret = "sesame-0123456789";
    let toy = Toy::start(Manner { says: Some(format!("I was sent {secret}")), ..Manner::default() }).await;
    let options = Options {
        headers: vec![
            ("x-tenant-key".to_owned(), secret.to_owned()),
            ("x-short".to_owned(), "ab".to_owned()),
        ],
        only: vec!["results/".to_owned(), "hostile/huge".to_owned()],
        ..Options::at(toy.base)
    };
    let judged = judge(options).await.expect("a report");
    assert!(judged.trace.iter().any(|e| e.header("x-tenant-key").is_some()), "they are sent");
    let mut told = vec![
        serde_json::to_string(&judged.report).expect("JSON"),
        rap_conformance::writers::markdown(&judged.report),
        rap_conformance::writers::junit(&judged.report).expect("XML"),
        rap_conformance::writers::summary(&judged.report),
    ];
    told.extend(judged.trace.iter().map(|e| serde_json::to_string(e).expect("JSON")));
    for text in told {
        assert!(!text.contains(secret), "{}", text.chars().take(3000).collect::<String>());
        assert!(!text.contains("[\"x-short\",\"ab\"]") && !text.contains("x-short: ab"));
    }
}

/// A password in a URL would be shown everywhere, so that it is not taken, in words that do not show it.
#[tokio::test]
async fn a_url_that_names_somebody_is_not_taken() {
    for url in ["http://user:pa55word@127.0.0.1:1", "http://pa55word@127.0.0.1:1/x", "user:pa55word@host"] {
        let why = judge(Options::at(url)).await.expect_err("it is refused").0;
        assert!(why.contains("must not hold a user or a password") && !why.contains("pa55word"), "{why}");
        for arguments in [
            vec!["server", "--url", url],
            vec!["server", "--url", url, "--dry-run"],
            vec!["watch", "--to", url],
        ] {
            let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_rap-conformance"));
            let output = program.args(&arguments).output().await.expect("the program");
            let told = format!("{:?}", output);
            assert_eq!(output.status.code(), Some(2), "{told}");
            assert!(told.contains("must not hold a user") && !told.contains("pa55word"), "{told}");
        }
    }
}
