//! The program against a real server: what it writes, what it refuses, what it keeps to itself.

use crate::toy::{Manner, OfUnknown, Toy};
use rap_conformance::credentials::{Key, Secret};
use serde_json::Value;
use std::{path::Path, sync::atomic::Ordering};

/// The case that is wrong where a result says the wrong words, and its obligation.
const CASE: &str = "results/error-text-of-unknown-operation";
const OBLIGATION: &str = "RES-07";

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_rap-conformance"));
    program.args(arguments).envs(variables.iter().copied()).kill_on_drop(true);
    let output = program.output().await.expect("the program");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Judges a toy, quickly.
async fn judged(toy: &Toy, arguments: &[&str]) -> Ended {
    let common = ["server", "--url", &toy.base, "--wait", "0.5"];
    run(&[&common, arguments].concat(), &[]).await
}

fn wrong() -> Manner {
    Manner { says: Some("it went badly <&> `so`".to_owned()), ..Manner::default() }
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("UTF-8").to_owned()
}

#[tokio::test]
async fn a_server_elsewhere_is_shown_what_would_be_sent_and_gets_none_of_it_without_yes() {
    let toy = Toy::start(Manner::default()).await;
    // An address that leads to this machine and does not say so.
    let url = toy.base.replace("127.0.0.1", "0.0.0.0");
    let asked = run(&["server", "--url", &url], &[]).await;
    assert_eq!(asked.code, Some(2), "{}", asked.stderr);
    for words in ["is not on this machine", "--yes", CASE, "`deploy` is not called"] {
        assert!(asked.stderr.contains(words), "{words}: {}", asked.stderr);
    }
    assert_eq!((asked.stdout.as_str(), toy.requests.load(Ordering::SeqCst)), ("", 0));

    let told = run(&["server", "--url", &url, "--yes", "--only", CASE], &[]).await;
    assert_eq!(told.code, Some(0), "{}{}", told.stdout, told.stderr);
    assert!(toy.requests.load(Ordering::SeqCst) > 0);
}

/// A dry run of a server elsewhere sends no more than that either.
#[tokio::test]
async fn a_dry_run_prints_requests_and_sends_none() {
    let toy = Toy::start(Manner::default()).await;
    let url = toy.base.replace("127.0.0.1", "0.0.0.0");
    let told = run(&["server", "--url", &url, "--dry-run"], &[]).await;
    assert_eq!((told.code, toy.requests.load(Ordering::SeqCst)), (Some(0), 0), "{}", told.stderr);
    assert!(
        told.stdout.contains("curl -sS -i -X POST") && told.stdout.contains("close_thread"),
        "{}",
        told.stdout
    );
}

#[tokio::test]
async fn a_baseline_holds_what_is_known_and_fails_when_it_says_too_much() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = path(folder.path(), "known.toml");
    let (bad, good) = (Toy::start(wrong()).await, Toy::start(Manner::default()).await);

    let first = judged(&bad, &["--only", CASE, "--write-baseline", &list]).await;
    assert_eq!(first.code, Some(1), "{}{}", first.stdout, first.stderr);
    let written = std::fs::read_to_string(&list).expect("the list");
    assert!(written.contains(CASE) && written.contains(OBLIGATION), "{written}");

    let known = judged(&bad, &["--only", CASE, "--baseline", &list]).await;
    assert_eq!(known.code, Some(0), "{}{}", known.stdout, known.stderr);
    assert!(known.stdout.contains("(known)"), "{}", known.stdout);

    // The fault is gone: the entry is stale, and goes too.
    let stale = judged(&good, &["--only", CASE, "--baseline", &list]).await;
    assert_eq!(stale.code, Some(1), "{}{}", stale.stdout, stale.stderr);
    assert!(stale.stdout.contains("no longer found (pass); hint: take the entry out"), "{}", stale.stdout);
    let weighs = judged(&good, &["--only", CASE, "--baseline", &list, "--level", "must", "--json"]).await;
    assert_eq!(weighs.code, Some(1), "a list that says too much is wrong on every level");

    // No case has that name: the entry never said anything.
    std::fs::write(&list, "[[known]]\ncase = \"results/no-such\"\nobligation = \"RES-07\"\n")
        .expect("written");
    let unmatched = judged(&good, &["--only", CASE, "--baseline", &list]).await;
    assert_eq!(unmatched.code, Some(1), "{}{}", unmatched.stdout, unmatched.stderr);
    assert!(unmatched.stdout.contains("there is no such case"), "{}", unmatched.stdout);
}

#[tokio::test]
async fn reports_are_written_from_what_was_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name| path(folder.path(), name);
    let (xml, markdown, trace) = (file("report.xml"), file("report.md"), file("trace.jsonl"));
    let toy = Toy::start(wrong()).await;
    let told = judged(
        &toy,
        &[
            "--only",
            "results/",
            "--only",
            "discovery/",
            "--json",
            "--junit",
            &xml,
            "--markdown",
            &markdown,
            "--trace",
            &trace,
        ],
    )
    .await;
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    let report: Value = serde_json::from_str(&told.stdout).expect("stdout is the report and nothing else");
    let count = report["cases"].as_array().map_or(0, Vec::len);

    let xml = quick_junit::Report::deserialize_from_str(&std::fs::read_to_string(&xml).expect("the file"))
        .expect("JUnit XML that others can read");
    let cases: Vec<_> = xml.test_suites.iter().flat_map(|suite| &suite.test_cases).collect();
    assert_eq!(cases.len(), count, "every case is in it");
    let of = |name: &str| &cases.iter().find(|case| case.name.as_str() == name).expect(name).status;
    let is_failure = matches!(
        of(CASE),
        quick_junit::TestCaseStatus::NonSuccess { kind: quick_junit::NonSuccessKind::Failure, .. }
    );
    assert!(is_failure, "{:?}", of(CASE));
    assert!(matches!(of("discovery/served"), quick_junit::TestCaseStatus::Success { .. }));

    let markdown = std::fs::read_to_string(&markdown).expect("the file");
    for words in ["# Conformance of toy", OBLIGATION, CASE, "curl -sS", "it went badly"] {
        assert!(markdown.contains(words), "{words}: {markdown}");
    }

    // The trace is judged again by the rules alone, which find nothing in it.
    let again = run(&["trace", &trace], &[]).await;
    assert_eq!(again.code, Some(0), "{}{}", again.stdout, again.stderr);
}

#[tokio::test]
async fn a_report_with_nowhere_to_go_is_said_before_anything_is_sent() {
    let toy = Toy::start(Manner::default()).await;
    for option in ["--junit", "--markdown", "--write-baseline", "--trace", "--baseline"] {
        let ended = judged(&toy, &[option, "/no/such/folder/file"]).await;
        assert_eq!(ended.code, Some(2), "{option}: {}", ended.stderr);
        assert!(ended.stderr.contains("/no/such/folder/file"), "{option}: {}", ended.stderr);
    }
    assert_eq!(toy.requests.load(Ordering::SeqCst), 0);
}

/// TRN-07: a message at a URL that was never given shows that the server can call back, and where it does wrong.
#[tokio::test]
async fn a_callback_to_another_url_is_a_fault_and_no_refusal_to_judge() {
    let toy = Toy::start(Manner { elsewhere: true, ..Manner::default() }).await;
    let ended = judged(&toy, &["--only", "rule/callback-url-kept", "--json"]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).expect("a report");
    assert_eq!(report["cases"][0]["findings"][0]["obligation"], "TRN-07", "{report}");

    // One from which nothing comes at all cannot be judged, and that is one sentence.
    let toy = Toy::start(Manner { mute: true, ..Manner::default() }).await;
    let ended = judged(&toy, &[]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""), "{}", ended.stderr);
    let (notes, error) = ended.stderr.trim_end().rsplit_once('\n').expect("what is not called, and why");
    assert!(error.starts_with("error: the server does not call back: "), "{error}");
    assert!(error.contains("--public-url") && error.contains("--allow-tool NAME"), "{error}");
    assert!(notes.contains("`deploy` is not called") && notes.lines().count() == 1, "{notes}");

    // With a tool that may be called it is one sentence, and about the way back.
    let ended = judged(&toy, &["--allow-tool", "deploy"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("--public-url") && ended.stderr.lines().count() == 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("--allow-tool"), "{}", ended.stderr);
}

/// Where no tool may be called and an unknown operation is refused, the network is not to blame.
#[tokio::test]
async fn a_server_of_which_nothing_may_be_called_says_so() {
    let toy = Toy::start(Manner { of_unknown: OfUnknown::Refusal, ..Manner::default() }).await;
    let ended = judged(&toy, &[]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""), "{}", ended.stderr);
    let error = ended.stderr.lines().last().expect("a sentence");
    assert!(error.contains("was answered 404") && error.contains("no tool may be called"), "{error}");
    assert!(error.contains("--allow-tool NAME") && !error.contains("--public-url"), "{error}");
    assert!(
        ended.stderr.contains("note: `deploy` is not called")
            || ended.stderr.contains("`deploy` is not called")
    );

    // INV-06 is a SHOULD: with a tool that may be called the server is judged on it.
    let ended =
        judged(&toy, &["--allow-tool", "deploy", "--only", "invocation/unknown-operation", "--json"]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains("\"non-strict\""), "{}", ended.stdout);
}

/// A call of a tool is work, which may have a price: what proves the order of things is a call of an operation that no
/// tool has. LIM-01 is judged by it at a server whose one tool asks the user first.
#[tokio::test]
async fn fences_call_no_tool_of_a_stranger() {
    for of_unknown in [OfUnknown::Result, OfUnknown::Nothing] {
        let toy =
            Toy::start(Manner { may_be_called: true, asks: true, of_unknown, ..Manner::default() }).await;
        let ended = judged(&toy, &["--only", "LIM-01", "--json"]).await;
        let calls = toy.calls.load(Ordering::SeqCst);
        if of_unknown == OfUnknown::Result {
            assert_eq!((ended.code, calls), (Some(0), 0), "{}{}", ended.stdout, ended.stderr);
        } else {
            assert!(calls > 0, "it is all that shows that it calls back");
        }
    }
}

/// A case that fails is tried again; two tries that differ are a finding of their own.
#[tokio::test]
async fn what_fails_only_now_and_then_is_flaky_and_fails() {
    let toy = Toy::start(Manner { moody: true, ..Manner::default() }).await;
    let ended = judged(&toy, &["--only", "discovery/served", "--json"]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).expect("a report");
    assert_eq!(report["cases"][0]["verdict"], "flaky", "{report}");
    let reason = report["cases"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("a second try differed"), "{reason}");
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const VARIABLE: &str = "RAP_CONFORMANCE_TEST_SECRET";

/// AUT-01 at a server that wants requests signed; the secret is nowhere in what is said, though the server says it back.
#[tokio::test]
async fn requests_are_signed_with_a_secret_that_nobody_sees() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name| path(folder.path(), name);
    let (xml, markdown, trace) = (file("report.xml"), file("report.md"), file("trace.jsonl"));
    let key = Key::parse(&Secret::from(SECRET)).expect("a key");
    let says = Some(format!("your secret is {SECRET}"));
    let toy = Toy::start(Manner { key: Some(key), says, ..Manner::default() }).await;
    let common = ["server", "--url", &toy.base, "--wait", "0.5", "--webhook-secret-env", VARIABLE];
    // Two of them write bytes as they are.
    let only = ["--only", "auth/", "--only", CASE, "--only", "hostile/"];
    let files = ["--junit", &xml, "--markdown", &markdown, "--trace", &trace];
    let variables = [(VARIABLE, SECRET)];

    let people = run(&[&common[..], &only, &files].concat(), &variables).await;
    let program = run(&[&common[..], &only, &["--json"]].concat(), &variables).await;
    let dry = run(&[&common[..], &["--dry-run"]].concat(), &variables).await;
    let report: Value = serde_json::from_str(&program.stdout).expect("a report");
    let verdict = |id: &str| {
        let case = report["cases"].as_array().and_then(|all| all.iter().find(|c| c["id"] == id));
        case.expect(id)["verdict"].as_str().expect("a verdict").to_owned()
    };
    assert_eq!(verdict("auth/notices"), "pass", "{report}");
    assert_eq!(verdict("hostile/malformed"), "pass", "{report}");
    assert_eq!(verdict(CASE), "non-strict", "{report}");
    assert_eq!((people.code, program.code, dry.code), (Some(1), Some(1), Some(0)), "{}", people.stderr);

    let written = [&xml, &markdown, &trace].map(|file| std::fs::read_to_string(file).expect("the file"));
    let said = [people.stdout, people.stderr, program.stdout, program.stderr, dry.stdout, dry.stderr];
    for text in written.iter().chain(&said) {
        let bare = SECRET.trim_start_matches("whsec_");
        assert!(!text.contains(bare), "{text}");
        // Signatures can be sent again for some minutes.
        assert!(!text.contains("v1,"), "{text}");
    }
    assert!(
        written[1].contains("your secret is <redacted>")
            || written[1].contains("your secret is &lt;redacted>")
    );
}

#[tokio::test]
async fn a_server_that_wants_to_know_who_asks_says_what_to_do() {
    let key = Key::parse(&Secret::from(SECRET)).expect("a key");
    let toy = Toy::start(Manner { key: Some(key), ..Manner::default() }).await;
    let ended = judged(&toy, &[]).await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("--webhook-secret-env"), "{}", ended.stderr);

    let common = ["server", "--url", &toy.base, "--webhook-secret-env", VARIABLE];
    for (variables, words) in [
        (&[][..], VARIABLE),
        (&[(VARIABLE, "s3cret!")], "not base64"),
        (&[(VARIABLE, "whsec_c2hvcnQ=")], "5 bytes"),
    ] {
        let ended = run(&common, variables).await;
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        assert!(!ended.stderr.contains("s3cret!") && !ended.stderr.contains("c2hvcnQ"), "{}", ended.stderr);
    }
}

/// Whoever is judged goes on working afterwards: it is left without subscriptions that nobody hears.
#[tokio::test]
async fn what_was_subscribed_to_is_cancelled_in_the_end() {
    let toy = Toy::start(Manner { subscribes: true, ..Manner::default() }).await;
    let only =
        ["--allow-tool", "deploy", "--only", "invocation/valid-arguments", "--only", "followed/results"];
    let ended = judged(&toy, &only).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(toy.requests.load(Ordering::SeqCst) > 4, "the tool was called");
    let live = toy.live.lock().expect("the list");
    assert!(live.is_empty(), "{live:?}");
}
