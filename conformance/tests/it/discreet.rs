//! What a proxy saw between strangers, as it is told and written: the rules find the same, and no URL is left with which
//! anybody could speak, answer or sign in for another.

use rap_conformance::{
    discreet::discreet,
    trace::{self, Answer, Body, Exchange, Party},
    watch::judge_trace,
    writers,
};
use serde_json::{Value, json};

const CALLBACK: &str = "http://runtime.example/cb/c4pability?k=s1gned";
const ANSWERS: &str = "https://server.example/answers/unguess4ble";
const SIGN_IN: &str = "http://provider.example/authorize?client=c&state=st4te";

fn exchange(n: u64, from: Party, url: &str, body: String) -> Exchange {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Exchange {
        n,
        case: None,
        from,
        began: 2 * n,
        ended: Some(2 * n + 1),
        at_us: n * 1000,
        took_us: 10,
        method: "POST".to_owned(),
        url: url.to_owned(),
        headers,
        body: Body(body.into()),
        answer: Some(Answer { status: 200, headers: Vec::new(), body: Body::default() }),
        failure: None,
    }
}

fn seen() -> Vec<Exchange> {
    let call =
        json!({ "operation": "o", "id": "c", "group_id": "g", "arguments": {}, "callback_url": CALLBACK });
    let of = |more: Value| {
        let mut message = json!({ "group_id": "g", "id": "c" });
        message.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        message.to_string()
    };
    let question = of(
        json!({ "type": "user_choice", "prompt": "?", "choices": ["a"], "default": 3, "response_url": ANSWERS }),
    );
    let oauth = of(json!({ "type": "oauth", "auth_url": SIGN_IN }));
    let result = of(json!({ "type": "tool_result", "text": format!("see {SIGN_IN}, or {ANSWERS}.") }));
    vec![
        // As some libraries write it.
        exchange(1, Party::Runtime, "http://server.example/rap", call.to_string().replace('/', "\\/")),
        exchange(2, Party::Server, CALLBACK, question.replace('/', "\\/")),
        exchange(3, Party::Runtime, ANSWERS, json!({ "id": "c", "selected": 0 }).to_string()),
        exchange(4, Party::Server, CALLBACK, oauth),
        exchange(5, Party::Server, CALLBACK, result.clone()),
        // Spoiled on its way: another URL than the one that was given.
        exchange(6, Party::Server, "http://runtime.example/cb/c4pability", result),
    ]
}

#[test]
fn no_url_that_is_worth_something_is_told_or_written() {
    let seen = seen();
    let report = judge_trace(&seen, "http://server.example");
    let mut file = Vec::new();
    trace::write(&mut file, &discreet(&seen)).expect("written");
    let told = [
        serde_json::to_string(&report).expect("JSON"),
        writers::markdown(&report),
        writers::junit(&report).expect("XML"),
        writers::summary(&report),
        String::from_utf8(file.clone()).expect("UTF-8"),
    ];
    for text in told {
        for secret in ["c4pability", "s1gned", "unguess4ble", "st4te"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
    // What is wrong in it is found, of the trace as of its file: a default that is none, a sign-in by http, a spoiled URL.
    let found = |trace: &[Exchange]| -> Vec<(String, Vec<u64>)> {
        let cases = judge_trace(trace, "x").cases.into_iter();
        cases.flat_map(|c| c.findings).map(|f| (f.obligation, f.exchanges)).collect()
    };
    let read = trace::read(file.as_slice()).expect("a trace");
    let server: Vec<_> = found(&seen)
        .into_iter()
        .filter(|(o, _)| ["TRN-07", "CHO-02", "OAU-03"].contains(&o.as_str()))
        .collect();
    let expected: Vec<(String, Vec<u64>)> =
        [("TRN-07", 6), ("CHO-02", 2), ("OAU-03", 4)].map(|(o, n)| (o.to_owned(), vec![n])).into();
    assert_eq!(server, expected);
    assert_eq!(found(&read), found(&seen));
}

#[test]
fn a_url_is_the_same_wherever_it_occurs_and_its_origin_stays() {
    let hidden = discreet(&seen());
    let call = hidden[0].body.json().expect("JSON");
    assert_eq!(call["callback_url"], hidden[1].url.as_str());
    assert!(hidden[1].url.starts_with("http://runtime.example/~hidden-"), "{}", hidden[1].url);
    assert_ne!(hidden[1].url, hidden[5].url);
    assert_eq!(hidden[1].body.json().expect("JSON")["response_url"], hidden[2].url.as_str());
    assert_eq!(hidden[0].url, "http://server.example/rap");
    assert_eq!(discreet(&hidden), hidden, "once is enough");
}
