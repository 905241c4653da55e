//! What goes out to servers: invocations, notices, answers, questions.

use crate::{
    call,
    peer::{Peer, caller, caller_within},
    thread, url,
};
use rap_client::{CallStatus, Caller, Credentials, Notice};
use rap_http::{Attempt, Secret, webhooks::Keys};
use rap_types::{CancelToolCall, ChoiceResponse, CloseThread, Invocation, ToolCallStatus};
use serde_json::{Map, json};
use std::time::{Duration, SystemTime};

fn invocation() -> Invocation {
    Invocation::new("get_weather", Map::new(), call("c"), url("http://127.0.0.1:1/cb?x=1"), thread("t"))
}

/// TRN-01, TRN-14, INV-11: JSON, by POST, to the endpoint as it is written.
#[tokio::test]
async fn an_invocation_goes_out_as_it_is() {
    let peer = Peer::start().await.answer("/call/../x", 200, "");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let attempt = caller().attempt_invocation(&peer.url("/call/../x?v=1"), &invocation(), Some(trace)).await;
    assert_eq!(attempt, Attempt::status(200));
    let seen = &peer.seen()[0];
    assert_eq!(seen.target, "/call/../x?v=1");
    assert_eq!(seen.headers["content-type"], "application/json");
    assert_eq!(seen.headers["traceparent"], trace);
    assert_eq!(
        seen.json(),
        json!({"operation": "get_weather", "arguments": {}, "id": "c", "callback_url": "http://127.0.0.1:1/cb?x=1", "group_id": "t"})
    );
}

#[tokio::test]
async fn requests_are_signed_where_keys_are_configured() {
    let peer = Peer::start().await.answer("/call", 200, "");
    let keys = Keys::new(&[Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]).unwrap();
    let caller = caller().with_credentials(&peer.url(""), Credentials::Signed(keys.clone()));
    for _ in 0..2 {
        caller.attempt_invocation(&peer.url("/call"), &invocation(), None).await;
    }
    let seen = peer.seen();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    for request in &seen {
        keys.verify(&request.headers, now, &request.body).unwrap();
    }
    assert_eq!(seen[0].headers["webhook-id"], seen[1].headers["webhook-id"], "attempts share their id");
}

/// A token that fits no header is not left out without a word: nothing is sent, on no way, and the reason names the server.
#[tokio::test]
async fn a_token_that_cannot_be_sent() {
    let peer = Peer::start().await.answer("/call", 200, "").answer("/close_thread", 200, "");
    let other = Peer::start().await.answer("/close_thread", 200, "");
    let origin = peer.url("").origin();
    for (token, says) in [
        ("hunter2\n", "trim it"),
        (" hunter2", "trim it"),
        ("hunter2ä", "letters, digits and the signs of ASCII"),
        ("", "is empty"),
    ] {
        let caller = caller().with_credentials(&peer.url(""), Credentials::Bearer(token.into()));
        let tell = |why: String| {
            assert!(why.contains(says) && why.contains(&origin) && !why.contains("hunter"), "{why}");
        };
        let attempt = caller.attempt_invocation(&peer.url("/call"), &invocation(), None).await;
        assert!(matches!(attempt, Attempt::Blocked(_)) && !attempt.may_have_arrived(), "{attempt}");
        tell(attempt.to_string());
        let end = caller.invoke(&peer.url("/call"), &invocation(), None, 1).await.unwrap_err();
        assert!(!end.may_have_arrived);
        tell(end.reason);
        let notice = Notice::CloseThread(CloseThread::new(thread("t")));
        let told = caller.notify(&[peer.url(""), other.url("")], &notice).await;
        tell(told[0].attempt.to_string());
        assert_eq!(told[1].attempt, Attempt::status(200), "no credentials are configured for the other");
        match caller.status(&peer.url(""), &ToolCallStatus::new(thread("t"), call("c"))).await {
            CallStatus::Unknown { reason, fault } => {
                assert!(!fault, "not the server's");
                tell(reason);
            }
            other => panic!("{other:?}"),
        }
        let error = caller.discover(&peer.url("")).await.unwrap_err();
        assert!(error.is_unauthorized() && !error.is_unreachable(), "{error}");
        tell(error.to_string());
    }
    assert!(peer.seen().is_empty());
}

/// TRN-04, INV-08: whatever the 4xx, there is one request, and it is told as a failure.
#[tokio::test]
async fn an_invocation_is_never_sent_again_after_a_4xx() {
    for status in [400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 425, 429, 499] {
        let peer = Peer::start().await.answer("/call", status, "");
        let end = caller().invoke(&peer.url("/call"), &invocation(), None, 1).await.unwrap_err();
        assert_eq!(peer.seen().len(), 1, "{status}");
        assert!(!end.may_have_arrived && end.reason.contains(&status.to_string()), "{end:?}");
    }
}

/// TRN-03, INV-08: sent again after 5xx and time-outs; any 2xx ends it.
#[tokio::test]
async fn an_invocation_is_sent_again_after_trouble() {
    for ok in [200, 202, 204] {
        let answers = vec![(503, String::new()), (ok, String::new())];
        let peer = Peer::start().await.answers("/call", answers);
        caller().invoke(&peer.url("/call"), &invocation(), None, 1).await.unwrap();
        let seen = peer.seen();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].body, seen[1].body, "the same call, not another one");
    }
}

/// Two minutes of refused connections on a paused clock; nothing ever arrived.
#[tokio::test(start_paused = true)]
async fn an_invocation_is_given_up_after_two_minutes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = url(&format!("http://{}/call", listener.local_addr().unwrap()));
    drop(listener);
    let policy = rap_http::AddressPolicy::public().allow_loopback();
    let caller = Caller::new(rap_http::GuardedClient::new(policy));
    let start = tokio::time::Instant::now();
    let end = caller.invoke(&endpoint, &invocation(), None, 7).await.unwrap_err();
    // A paused clock also jumps over a time limit while a socket works: all is over at two minutes anyway.
    assert!(start.elapsed() >= Duration::from_secs(120), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(200), "{:?}", start.elapsed());
    assert!(end.reason.contains("two minutes"), "{end:?}");
}

/// CLS-01, CLS-06, CAN-01: everyone is told at once, once; who hangs, refuses or fails stops no other.
#[tokio::test]
async fn notices_reach_everybody_once() {
    let good =
        Peer::start().await.answer("/tools/close_thread", 200, "").answer("/cancel_tool_call", 200, "");
    let hanging = [Peer::start().await.silent("/close_thread"), Peer::start().await.silent("/close_thread")];
    let failing = Peer::start().await.answer("/close_thread", 500, "").answer("/cancel_tool_call", 503, "");
    let gone = url("http://127.0.0.1:9/");
    let bases = [
        hanging[0].url(""),
        hanging[1].url(""),
        gone.clone(),
        failing.url("/"),
        good.url("/tools/"),
        good.url("/tools"),
    ];
    let told = caller_within(Duration::from_secs(2))
        .notify(&bases, &Notice::CloseThread(CloseThread::new(thread("t/../x"))))
        .await;
    let attempts: Vec<_> = told.iter().map(|n| n.attempt.clone()).collect();
    assert_eq!(
        attempts,
        [Attempt::TimedOut, Attempt::TimedOut, Attempt::Refused, Attempt::status(500), Attempt::status(200)]
    );
    assert_eq!(told[4].base, good.url("/tools/"), "listed twice, told once");
    assert_eq!(failing.seen().len(), 1, "no retry");
    assert_eq!(good.seen()[0].json(), json!({"thread_id": "t/../x"}));

    let cancel = Notice::CancelToolCall(CancelToolCall::new(thread("t"), call("c")));
    let told = caller().notify(&[good.url(""), failing.url("")], &cancel).await;
    assert_eq!(told[0].attempt, Attempt::status(200));
    assert_eq!(good.seen()[1].json(), json!({"thread_id": "t", "tool_call_id": "c"}));
    assert_eq!(failing.seen().len(), 2);
}

/// CLS-06: nobody waits for another's answer, not even for that of a server that never gives one.
#[tokio::test]
async fn notices_go_out_at_the_same_time() {
    let mut peers = vec![];
    for _ in 0..20 {
        peers.push(Peer::start().await.silent("/close_thread"));
    }
    let bases: Vec<_> = peers.iter().map(|peer| peer.url("")).collect();
    let notice = Notice::CloseThread(CloseThread::new(thread("t")));
    let telling = tokio::spawn(async move { caller().notify(&bases, &notice).await });
    for peer in &peers {
        peer.has_seen(1).await;
    }
    assert!(!telling.is_finished());
    telling.abort();
}

/// CHO-01, CHO-04: each answer is one request, as it was given; nothing is kept of it.
#[tokio::test]
async fn an_answer_goes_to_its_response_url() {
    let peer = Peer::start().await.answers("/pick", vec![(200, String::new()), (409, String::new())]);
    let answer = ChoiceResponse::new(call("c"), 1);
    assert_eq!(caller().answer_choice(&peer.url("/pick?k=s"), &answer).await, Attempt::status(200));
    assert_eq!(caller().answer_choice(&peer.url("/pick?k=s"), &answer).await, Attempt::status(409));
    assert_eq!(peer.seen()[0].target, "/pick?k=s");
    assert_eq!(peer.seen()[0].json(), json!({"id": "c", "selected": 1}));
}

/// STA-02, STA-03: one question to the one server; only `alive: false` ends a call.
#[tokio::test]
async fn only_a_clear_no_ends_a_call() {
    enum Is {
        Alive,
        Gone,
        Fault,
        Unknown,
    }
    use Is::*;
    let table = [
        (200, r#"{"alive":true}"#, Alive),
        (200, r#"{"alive":true,"more":1}"#, Alive),
        (200, r#"{"alive":false}"#, Gone),
        (200, r#"{"alive":"false"}"#, Fault),
        (200, r#"{"alive":0}"#, Fault),
        (200, r#"{"alive":null}"#, Fault),
        (200, "{}", Fault),
        (200, "false", Fault),
        (200, "", Fault),
        (200, "<html>", Fault),
        (204, "", Fault),
        (201, r#"{"alive":false}"#, Fault),
        (302, r#"{"alive":false}"#, Fault),
        (404, r#"{"alive":false}"#, Fault),
        (405, "", Fault),
        (400, "", Fault),
        (401, r#"{"alive":false}"#, Unknown),
        (403, "", Unknown),
        (429, "", Unknown),
        (500, r#"{"alive":false}"#, Unknown),
        (503, "", Unknown),
    ];
    let question = ToolCallStatus::new(thread("t"), call("c"));
    for (status, body, expected) in table {
        let peer = Peer::start().await.answer("/tools/tool_call_status", status, body);
        let got = caller().status(&peer.url("/tools/"), &question).await;
        let fits = match (&got, expected) {
            (CallStatus::Alive, Alive) | (CallStatus::Gone, Gone) => true,
            (CallStatus::Unknown { fault, .. }, Fault) => *fault,
            (CallStatus::Unknown { fault, .. }, Unknown) => !fault,
            _ => false,
        };
        assert!(fits, "{status} {body}: {got:?}");
        assert_eq!(peer.seen()[0].json(), json!({"thread_id": "t", "tool_call_id": "c"}));
    }
    let huge = format!(r#"{{"alive":false,"x":"{}"}}"#, "x".repeat(10_000));
    let peer = Peer::start().await.answer("/tool_call_status", 200, huge);
    assert!(matches!(
        caller().status(&peer.url(""), &question).await,
        CallStatus::Unknown { fault: true, .. }
    ));
    let peer = Peer::start().await.silent("/tool_call_status");
    let got = caller_within(Duration::from_millis(100)).status(&peer.url(""), &question).await;
    assert!(matches!(got, CallStatus::Unknown { fault: false, .. }), "{got:?}");
    let got = caller().status(&url("http://127.0.0.1:9"), &question).await;
    assert!(matches!(got, CallStatus::Unknown { fault: false, .. }), "{got:?}");
}
