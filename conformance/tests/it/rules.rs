//! Rules over traces written by hand: each rule stays silent on the right one, and speaks on the same trace with
//! one thing wrong.

use rap_conformance::{
    report::CaseReport,
    rules,
    trace::{Answer, Begun, Body, Exchange, Party, Recorder},
    verdict::Verdict,
};
use serde_json::{Value, json};

const CALLBACK: &str = "http://127.0.0.1:9/cb/1?a=%2F";

fn begin(recorder: &Recorder, from: Party, url: &str, body: &Value) -> u64 {
    recorder.begin(Begun {
        case: Some("a/case".to_owned()),
        from,
        method: "POST".to_owned(),
        url: url.to_owned(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.into(),
    })
}

fn send(recorder: &Recorder, from: Party, url: &str, body: &Value, status: u16) {
    let n = begin(recorder, from, url, body);
    recorder.end(n, Ok(Answer { status, headers: Vec::new(), body: Body::default() }));
}

fn invocation() -> Value {
    json!({
        "operation": "subscribe", "arguments": {}, "id": "call-1", "call_id": "second-1", "group_id": "thread-1",
        "callback_url": CALLBACK,
    })
}

fn result() -> Value {
    json!({
        "type": "tool_result", "group_id": "thread-1", "id": "call-1", "call_id": "second-1", "text": "ok",
        "subscription": true,
    })
}

fn event(text: &str, last: bool) -> Value {
    json!({
        "type": "subscription_event", "group_id": "thread-1", "tool_call_id": "call-1", "text": text, "final": last,
    })
}

/// A whole subscription, as it should be.
fn right() -> Vec<(Party, String, Value, u16)> {
    vec![
        (Party::Runtime, "http://127.0.0.1:8/invoke".to_owned(), invocation(), 200),
        (Party::Server, CALLBACK.to_owned(), result(), 200),
        (Party::Server, CALLBACK.to_owned(), event("one", false), 200),
        (Party::Server, CALLBACK.to_owned(), event("two", true), 200),
    ]
}

fn record(script: &[(Party, String, Value, u16)]) -> Vec<Exchange> {
    let recorder = Recorder::default();
    for (from, url, body, status) in script {
        send(&recorder, *from, url, body, *status);
    }
    recorder.all()
}

fn judged(trace: &[Exchange]) -> Vec<CaseReport> {
    rules::judge(trace, &rules::all(), Some(rap_spec::Role::Server))
}

fn broken(trace: &[Exchange]) -> Vec<String> {
    judged(trace).into_iter().filter(|c| c.verdict.is_fault()).map(|c| c.id).collect()
}

#[test]
fn a_right_trace_breaks_nothing() {
    let reports = judged(&record(&right()));
    for report in &reports {
        assert!(matches!(report.verdict, Verdict::Pass | Verdict::Inconclusive), "{report:?}");
    }
    // What the trace holds was looked at.
    for id in ["rule/callback-url-kept", "rule/event-after-result", "rule/ids-echoed", "rule/every-call-ends"]
    {
        let report = reports.iter().find(|r| r.id == id).unwrap();
        assert_eq!(report.verdict, Verdict::Pass, "{id}");
    }
    // What it does not hold is not passed.
    let report = reports.iter().find(|r| r.id == "rule/auth-url-secure").unwrap();
    assert_eq!(report.verdict, Verdict::Inconclusive);
}

type Change = fn(&mut Vec<(Party, String, Value, u16)>);

#[test]
fn each_fault_is_found_by_the_rule_that_is_about_it() {
    let cases: &[(&str, Change)] = &[
        ("rule/callback-url-kept", |t| t[2].1 = CALLBACK.replace("%2F", "/")),
        ("rule/callback-conforms", |t| t[2].2["text"] = json!(7)),
        ("rule/callback-conforms", |t| t[2].2["type"] = json!("event")),
        ("rule/group-id-echoed", |t| t[1].2["group_id"] = json!("thread-2")),
        ("rule/ids-echoed", |t| t[1].2["id"] = json!("second-1")),
        ("rule/ids-echoed", |t| t[1].2["call_id"] = json!(null)),
        ("rule/text-or-content", |t| t[1].2["text"] = json!(null)),
        ("rule/event-names-the-call", |t| t[2].2["tool_call_id"] = json!("call-2")),
        ("rule/event-after-result", |t| t.swap(1, 2)),
        ("rule/event-after-result", |t| t[1].3 = 404),
        ("rule/no-event-after-final", |t| t.swap(2, 3)),
        ("rule/acknowledged-by-200", |t| t[0].3 = 202),
        ("rule/every-call-ends", |t| t.truncate(1)),
        ("rule/callback-given-up", |t| {
            t.truncate(2);
            t[1].3 = 404;
            t.push(t[1].clone());
        }),
        ("rule/image-after-text", |t| {
            t[1].2["content"] =
                json!([{ "type": "image", "data": "iVBORw0KGgo=", "mediaType": "image/png" }]);
        }),
        ("rule/question-can-be-answered", |t| {
            t[2].2 = json!({
                "type": "user_choice", "group_id": "thread-1", "id": "call-1", "prompt": "?", "choices": ["a"],
                "default": 1, "response_url": "http://127.0.0.1:8/c",
            });
        }),
        ("rule/auth-url-secure", |t| {
            t[2].2 = json!({
                "type": "oauth", "group_id": "thread-1", "id": "call-1", "auth_url": "http://example.com/a",
            });
        }),
    ];
    for (rule, change) in cases {
        let mut script = right();
        change(&mut script);
        let found = broken(&record(&script));
        assert!(found.iter().any(|id| id == rule), "{rule} did not speak; {found:?} did");
    }
}

/// INV-07: what strangers have under way may still end, and what takes long takes long.
#[test]
fn a_call_between_strangers_is_lost_only_after_a_minute() {
    let lost = |minutes: u64, long_running: bool| {
        let mut trace = record(&right()[..1]);
        let tool = json!({ "name": "subscribe", "annotations": { "longRunning": long_running } });
        let toolset = json!({ "name": "n", "endpoint": "http://127.0.0.1:8/invoke", "tools": [tool] });
        for (n, later) in [(2, 0), (3, minutes)] {
            let mut fetch = trace[0].clone();
            (fetch.n, fetch.at_us, fetch.method) = (n, later * 60_000_000, "GET".to_owned());
            fetch.body = Body::default();
            fetch.answer = Some(Answer { status: 200, headers: Vec::new(), body: (&toolset).into() });
            trace.push(fetch);
        }
        for exchange in &mut trace {
            exchange.case = None;
        }
        broken(&trace).contains(&"rule/every-call-ends".to_owned())
    };
    assert!(!lost(0, false));
    assert!(lost(2, false));
    assert!(!lost(2, true));
}

#[test]
fn a_body_that_is_no_json_object_is_found() {
    for (body, media) in [("[]", "application/json"), ("{", "application/json"), ("{}", "text/plain")] {
        let recorder = Recorder::default();
        let n = recorder.begin(Begun {
            case: None,
            from: Party::Server,
            method: "POST".to_owned(),
            url: CALLBACK.to_owned(),
            headers: vec![("content-type".to_owned(), media.to_owned())],
            body: Body(body.into()),
        });
        recorder.end(n, Err("closed".to_owned()));
        assert!(
            broken(&recorder.all()).contains(&"rule/callback-is-json-by-post".to_owned()),
            "{body} {media}"
        );
    }
}

#[test]
fn a_trace_survives_its_file_without_its_secrets() {
    let recorder = Recorder::default();
    let n = recorder.begin(Begun {
        case: Some("a/case".to_owned()),
        from: Party::Runtime,
        method: "POST".to_owned(),
        url: "http://127.0.0.1:8/invoke".to_owned(),
        headers: vec![("authorization".to_owned(), "Bearer very-secret".to_owned())],
        body: Body(vec![0xff, 0x00].into()),
    });
    recorder.end(n, Err("nothing".to_owned()));
    let mut file = Vec::new();
    rap_conformance::trace::write(&mut file, &recorder.all()).unwrap();
    assert!(!String::from_utf8_lossy(&file).contains("very-secret"));
    let back = rap_conformance::trace::read(file.as_slice()).unwrap();
    assert_eq!(back.len(), 1);
    assert_eq!(back[0].body, recorder.all()[0].body);
    assert_eq!(back[0].failure.as_deref(), Some("nothing"));
}
