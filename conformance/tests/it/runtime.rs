//! Rules on the conduct of runtimes, over traces written by hand: all are silent on the right one, each speaks on the
//! same trace with one thing wrong, and none speaks of what a case of this judge sent.

use rap_conformance::{
    report::CaseReport,
    rules,
    trace::{Answer, Body, Exchange, Party},
    verdict::Verdict,
};
use rap_spec::{Judge, Role};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const BASE: &str = "http://127.0.0.1:8/base";
const ENDPOINT: &str = "http://127.0.0.1:8/base/rap";

fn exchange(from: Party, method: &str, url: &str, body: &Value, status: u16, answer: &Value) -> Exchange {
    let media = vec![("content-type".to_owned(), "application/json".to_owned())];
    Exchange {
        n: 0,
        case: None,
        from,
        began: 0,
        ended: None,
        at_us: 0,
        took_us: 1000,
        method: method.to_owned(),
        url: url.to_owned(),
        headers: media.clone(),
        body: body.into(),
        answer: Some(Answer { status, headers: Vec::new(), body: answer.into() }),
        failure: None,
    }
}

fn sent(url: &str, body: &Value, status: u16) -> Exchange {
    exchange(Party::Runtime, "POST", url, body, status, &json!({}))
}

fn got(call: &str, body: &Value) -> Exchange {
    exchange(Party::Server, "POST", &callback(call), body, 200, &json!({}))
}

fn callback(call: &str) -> String {
    format!("http://127.0.0.1:9/cb/{call}")
}

fn toolset() -> Exchange {
    let schema =
        json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    let tool = json!({ "name": "weather", "description": "d", "inputSchema": schema });
    let toolset = json!({ "name": "n", "endpoint": ENDPOINT, "tools": [tool], "needsMigration": true });
    exchange(Party::Runtime, "GET", &format!("{BASE}/.well-known/rap-toolset"), &Value::Null, 200, &toolset)
}

fn invocation(call: &str, thread: &str) -> Value {
    json!({
        "operation": "weather", "arguments": { "city": "Oslo" }, "id": call, "group_id": thread,
        "callback_url": callback(call),
    })
}

fn result(call: &str, thread: &str) -> Value {
    json!({ "type": "tool_result", "group_id": thread, "id": call, "text": "rain" })
}

fn notice(name: &str, body: &Value) -> Exchange {
    sent(&format!("{BASE}/{name}"), body, 200)
}

/// The places of the exchanges in the right trace.
const FETCH: usize = 0;
const CALL: usize = 1;
const ANSWER: usize = 3;
const RESULT: usize = 4;
const CHILD: usize = 5;
const TRIES: usize = 7;
const CANCEL: usize = 10;
const CLOSE: usize = 11;

/// A session as it should be: a call with a question, one in a grandchild with a sign-in, one that is tried three times.
fn right() -> Vec<Exchange> {
    let question = json!({
        "type": "user_choice", "group_id": "root", "id": "c1", "prompt": "?", "choices": ["a", "b"], "default": 0,
        "response_url": "http://127.0.0.1:8/base/choices/x",
    });
    let mut below = invocation("c2", "grandchild");
    below["thread_ancestors"] = json!(["root", "child"]);
    let oauth = json!({
        "type": "oauth", "group_id": "grandchild", "id": "c2", "auth_url": "https://example.com/a?state=s",
    });
    let tried = invocation("c3", "root");
    let mut all = vec![
        toolset(),
        sent(ENDPOINT, &invocation("c1", "root"), 200),
        got("c1", &question),
        sent("http://127.0.0.1:8/base/choices/x", &json!({ "id": "c1", "selected": 1 }), 200),
        got("c1", &result("c1", "root")),
        sent(ENDPOINT, &below, 200),
        got("c2", &oauth),
        sent(ENDPOINT, &tried, 503),
        sent(ENDPOINT, &tried, 503),
        sent(ENDPOINT, &tried, 200),
        notice("cancel_tool_call", &json!({ "thread_id": "root", "tool_call_id": "c3" })),
        notice("close_thread", &json!({ "thread_id": "root" })),
        notice("migrate", &json!({ "session_id": "root", "destination_url": "http://127.0.0.1:7" })),
    ];
    for (tried, ms) in [(TRIES, 0), (TRIES + 1, 500), (TRIES + 2, 1500)] {
        all[tried].at_us = ms * 1000;
    }
    all
}

fn judged(mut trace: Vec<Exchange>) -> Vec<CaseReport> {
    for (at, exchange) in (0_u64..).zip(&mut trace) {
        (exchange.n, exchange.began, exchange.ended) = (at + 1, 2 * at + 1, Some(2 * at + 2));
    }
    rules::judge(&trace, &rules::all(), Some(Role::Runtime))
}

fn broken(trace: Vec<Exchange>) -> Vec<(String, String)> {
    let findings = |case: CaseReport| case.findings.into_iter().map(move |f| (case.id.clone(), f.obligation));
    judged(trace).into_iter().flat_map(findings).collect()
}

fn edit(exchange: &mut Exchange, change: impl FnOnce(&mut Value)) {
    let mut body = exchange.body.json().expect("JSON");
    change(&mut body);
    exchange.body = (&body).into();
}

fn edit_toolset(exchange: &mut Exchange, change: impl FnOnce(&mut Value)) {
    let answer = exchange.answer.as_mut().expect("an answer");
    let mut body = answer.body.json().expect("JSON");
    change(&mut body);
    answer.body = (&body).into();
}

fn status(exchange: &mut Exchange, status: u16) {
    exchange.answer.as_mut().expect("an answer").status = status;
}

fn again(trace: &mut Vec<Exchange>, at: usize) {
    let copy = trace[at].clone();
    trace.push(copy);
}

type Change = fn(&mut Vec<Exchange>);

/// Each rule, and how the right trace becomes one that it speaks of.
const FAULTS: &[(&str, &str, Change)] = &[
    ("rule/runtime-json-by-post", "TRN-01", |t| t[CALL].headers[0].1 = "text/plain".to_owned()),
    ("rule/runtime-json-by-post", "TRN-01", |t| t[CLOSE].body = Body("[]".into())),
    ("rule/runtime-json-by-post", "TRN-01", |t| t[CANCEL].body = Body("{".into())),
    ("rule/runtime-conforms", "TRN-14", |t| edit(&mut t[CALL], |b| b["arguments"] = json!("Oslo"))),
    ("rule/runtime-conforms", "TRN-14", |t| edit(&mut t[CANCEL], |b| b["tool_call_id"] = json!(7))),
    ("rule/runtime-gives-up-after-4xx", "TRN-04", |t| status(&mut t[TRIES + 1], 404)),
    ("rule/runtime-gives-up-after-4xx", "TRN-04", |t| status(&mut t[TRIES + 1], 429)),
    ("rule/runtime-backs-off", "TRN-03", |t| t[TRIES + 2].at_us = 1_000_000),
    ("rule/runtime-ids-unique", "INV-03", |t| {
        edit(&mut t[TRIES], |b| b["arguments"]["city"] = json!("Bergen"))
    }),
    ("rule/runtime-ids-unique", "INV-03", |t| edit(&mut t[CALL], |b| b["callback_url"] = json!("/cb/c1"))),
    ("rule/runtime-ancestors", "INV-04", |t| edit(&mut t[CALL], |b| b["thread_ancestors"] = json!([]))),
    ("rule/runtime-ancestors", "INV-04", |t| {
        edit(&mut t[CHILD], |b| b["thread_ancestors"] = json!(["child", "root"]));
    }),
    ("rule/runtime-ancestors", "INV-04", |t| {
        edit(&mut t[CHILD], |b| b["thread_ancestors"] = json!(["root", "grandchild"]));
    }),
    ("rule/runtime-ancestors", "INV-04", |t| {
        edit(&mut t[TRIES], |b| b["thread_ancestors"] = json!(["other"]));
    }),
    ("rule/runtime-close-once", "CLS-01", |t| {
        status(&mut t[CLOSE], 500);
        again(t, CLOSE);
    }),
    ("rule/runtime-cancel-once", "CAN-01", |t| again(t, CANCEL)),
    ("rule/runtime-waits-for-sign-in", "OAU-01", |t| again(t, CHILD)),
    ("rule/runtime-well-known-path", "TLS-02", |t| t[FETCH].url = format!("{BASE}/toolset.json")),
    ("rule/runtime-refuses-invalid-toolset", "TLS-03", |t| {
        edit_toolset(&mut t[FETCH], |b| b["name"] = json!(""));
    }),
    ("rule/runtime-refuses-invalid-toolset", "TLS-03", |t| {
        edit_toolset(&mut t[FETCH], |b| {
            b["tools"][0]["inputSchema"]["properties"]["city"]["type"] = json!("word")
        });
    }),
    ("rule/runtime-known-operation", "INV-01", |t| edit(&mut t[CALL], |b| b["operation"] = json!("Weather"))),
    ("rule/runtime-valid-arguments", "INV-02", |t| edit(&mut t[CALL], |b| b["arguments"] = json!({}))),
    ("rule/runtime-right-endpoint", "INV-11", |t| t[CALL].url = format!("{BASE}/invoke")),
    ("rule/runtime-migrates-if-needed", "MIG-01", |t| {
        edit_toolset(&mut t[FETCH], |b| b["needsMigration"] = json!(false));
    }),
    ("rule/runtime-refuses-bad-callback", "TRN-08", |t| edit(&mut t[RESULT], |b| b["text"] = json!(7))),
    ("rule/runtime-refuses-bad-callback", "TRN-08", |t| {
        t[RESULT].body = Body("rain".into());
        status(&mut t[RESULT], 500);
    }),
    ("rule/runtime-takes-by-200", "TRN-09", |t| status(&mut t[RESULT], 204)),
    ("rule/runtime-answers-question", "CHO-01", |t| edit(&mut t[ANSWER], |b| b["selected"] = json!(2))),
    ("rule/runtime-answers-question", "CHO-01", |t| edit(&mut t[ANSWER], |b| b["selected"] = json!("b"))),
    ("rule/runtime-answers-question", "CHO-01", |t| edit(&mut t[ANSWER], |b| b["id"] = json!("c2"))),
];

#[test]
fn a_right_session_breaks_nothing_and_every_rule_looks_at_it() {
    for report in judged(right()) {
        // What nobody did was not looked at.
        let absent = ["rule/runtime-gives-up-after-4xx", "rule/runtime-refuses-bad-callback"];
        let expected =
            if absent.contains(&report.id.as_str()) { Verdict::Inconclusive } else { Verdict::Pass };
        assert_eq!(report.verdict, expected, "{report:?}");
    }
}

#[test]
fn each_rule_speaks_of_what_it_is_about() {
    for (at, (rule, obligation, change)) in FAULTS.iter().enumerate() {
        let mut trace = right();
        change(&mut trace);
        let found = broken(trace);
        let told = found.iter().any(|(id, o)| id == rule && o == obligation);
        assert!(told, "{at}: {rule} did not speak; {found:?} did");
        let strangers: Vec<_> = found.iter().filter(|(id, _)| id != rule && !follows(rule, id)).collect();
        assert!(strangers.is_empty(), "{at}: {rule}; also {strangers:?}");
    }
}

/// Whether a fault that one rule is about is another's as well.
fn follows(rule: &str, other: &str) -> bool {
    let shared = ["rule/runtime-conforms", "rule/runtime-valid-arguments", "rule/runtime-ids-unique"];
    shared.contains(&rule) && shared.contains(&other)
        || rule == "rule/runtime-refuses-invalid-toolset" && other == "rule/runtime-refuses-invalid-toolset"
        || rule == "rule/runtime-answers-question" && other == "rule/runtime-conforms"
}

#[test]
fn every_rule_is_shown_to_speak() {
    let shown: BTreeSet<&str> = FAULTS.iter().map(|(rule, ..)| *rule).collect();
    let all: BTreeSet<&str> = rules::all().iter().filter(|r| r.role == Role::Runtime).map(|r| r.id).collect();
    assert_eq!(shown, all);
}

#[test]
fn what_may_be_is_not_spoken_of() {
    let harmless: &[(&str, Change)] = &[
        ("the same call again after a broken connection", |t| {
            (t[TRIES].answer, t[TRIES].failure) = (None, Some("reset".to_owned()));
        }),
        ("a pause that the server asked for", |t| {
            let answer = t[TRIES].answer.as_mut().expect("an answer");
            answer.headers.push(("retry-after".to_owned(), "3".to_owned()));
            t[TRIES + 1].at_us = 3_000_000;
            t[TRIES + 2].at_us = 3_500_000;
        }),
        ("the same id in another thread", |t| edit(&mut t[CHILD], |b| b["id"] = json!("c1"))),
        ("a tool that an earlier toolset had", |t| {
            let mut fetch = toolset();
            edit_toolset(&mut fetch, |b| b["tools"][0]["name"] = json!("forecast"));
            t.insert(1, fetch);
        }),
        ("a toolset that nobody saw", |t| {
            t.remove(FETCH);
        }),
        ("a bad callback that is refused", |t| {
            edit(&mut t[RESULT], |b| b["text"] = json!(7));
            status(&mut t[RESULT], 400);
        }),
        ("two servers that are told", |t| {
            again(t, CANCEL);
            let last = t.len() - 1;
            t[last].url = t[last].url.replace(":8/", ":7/");
        }),
        ("ancestors that are null", |t| edit(&mut t[CALL], |b| b["thread_ancestors"] = Value::Null)),
    ];
    for (what, change) in harmless {
        let mut trace = right();
        change(&mut trace);
        assert_eq!(broken(trace), Vec::new(), "{what}");
    }
}

#[test]
fn what_a_case_sent_says_nothing_of_a_runtime() {
    for (rule, _, change) in FAULTS {
        let mut trace = right();
        change(&mut trace);
        for exchange in &mut trace {
            exchange.case = Some("hostile/malformed".to_owned());
        }
        assert_eq!(broken(trace), Vec::new(), "{rule}");
    }
}

/// What can be seen of a runtime in ordinary traffic is looked at.
#[test]
fn every_obligation_that_passing_traffic_shows_has_a_rule() {
    let held: BTreeSet<&str> = rules::all()
        .iter()
        .filter(|r| r.role == Role::Runtime)
        .flat_map(|r| r.obligations)
        .copied()
        .collect();
    let missing: Vec<&str> = rap_spec::REQUIREMENTS
        .iter()
        .filter(|r| r.role != Role::Server && r.judge == Judge::Passive)
        .map(|r| r.id)
        .filter(|id| !held.contains(id))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
