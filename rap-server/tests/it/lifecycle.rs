//! Cancelling, closing, status, shutdown: a call that is to stop still ends in one result.

use crate::{invocation, traced};
use http::StatusCode;
use rap_server::{Call, State, ToolError, ToolServer, testing::TestServer, tool};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Raises its flag when it is dropped.
struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Works until it is told to stop, in one of several ways.
#[tool]
async fn work(
    #[cx] call: Call,
    #[cx] dropped: State<AtomicBool>,
    manner: String,
) -> Result<String, ToolError> {
    let _guard = OnDrop(dropped.0);
    match manner.as_str() {
        "polite" => {
            call.cancelled().await;
            call.check()?;
            Ok("not reached".into())
        }
        "useful" => {
            call.cancelled().await;
            Ok("half of it is done".into())
        }
        "deaf" => std::future::pending().await,
        _ => Ok("done".into()),
    }
}

/// Works for an hour, or not at all, unless it is to stop.
#[tool]
async fn patient(
    #[cx] call: Call,
    #[cx] dropped: State<AtomicBool>,
    manner: String,
) -> Result<String, ToolError> {
    if manner == "stopped already" {
        call.cancelled().await;
    }
    let flag = dropped.0.clone();
    let work = async move {
        let _held = OnDrop(flag);
        if manner != "at once" {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        manner
    };
    let outcome = call.until_cancelled(work).await;
    if let Err(error) = &outcome {
        assert!(error.is_stopped() && call.is_cancelled());
        assert_eq!(error.to_string(), call.check().unwrap_err().to_string());
    }
    outcome
}

fn server() -> (TestServer, Arc<AtomicBool>) {
    let dropped = Arc::new(AtomicBool::new(false));
    let server = ToolServer::new("test")
        .tool(work)
        .tool(patient)
        .shared_state(dropped.clone())
        .grace(Duration::from_secs(3));
    (TestServer::new(server), dropped)
}

/// INV-07, CAN-02, CLS-02, CLS-03: a stopped call ends in one result, its function is told, and one that does not
/// listen is dropped after its grace.
#[tokio::test(start_paused = true)]
async fn stopped() {
    let table = [
        ("polite", true, "Error: the call was cancelled"),
        ("polite", false, "Error: the thread of the call was closed"),
        ("useful", true, "half of it is done"),
        ("deaf", true, "Error: the call was cancelled"),
        ("deaf", false, "Error: the thread of the call was closed"),
    ];
    for (manner, cancel, words) in table {
        let (server, dropped) = server();
        let mut call = server.start("work", json!({"manner": manner})).await;
        tokio::task::yield_now().await;
        assert!(call.is_alive().await);
        let before = tokio::time::Instant::now();
        for _ in 0..3 {
            let status = if cancel { call.cancel().await } else { call.close_thread().await };
            assert_eq!(status, StatusCode::OK);
        }
        let result = call.result().await;
        assert_eq!(result.text(), words, "{manner}");
        assert!(dropped.load(Ordering::Relaxed), "{manner}");
        let expected = if manner == "deaf" { 3 } else { 0 };
        assert_eq!(before.elapsed().as_secs(), expected, "{manner}");
        call.silence().await;
        assert!(!call.is_alive().await);
        assert_eq!(call.cancel().await, StatusCode::OK);
    }
}

/// INV-07, CAN-02, CLS-03: work under `until_cancelled` is dropped at once when the call is to stop, whatever the
/// reason, and the error says which; it is not begun when the call was stopped before, and is left alone otherwise.
#[tokio::test(start_paused = true)]
async fn until_cancelled() {
    let table = [
        ("for an hour", "cancel", "Error: the call was cancelled", true, 0),
        ("for an hour", "close", "Error: the thread of the call was closed", true, 0),
        (
            "for an hour",
            "shut down",
            "Error: the server is shutting down; try again when it is back",
            true,
            0,
        ),
        ("for an hour", "", "for an hour", true, 3600),
        ("stopped already", "cancel", "Error: the call was cancelled", false, 0),
        ("at once", "", "at once", true, 0),
    ];
    for (manner, stop, words, begun, seconds) in table {
        let (server, dropped) = server();
        let before = tokio::time::Instant::now();
        let mut call = server.start("patient", json!({"manner": manner})).await;
        tokio::task::yield_now().await;
        match stop {
            "cancel" => assert_eq!(call.cancel().await, StatusCode::OK),
            "close" => assert_eq!(call.close_thread().await, StatusCode::OK),
            "shut down" => assert!(server.shut_down(Duration::from_secs(1)).await.0.is_empty()),
            _ => {}
        }
        assert_eq!(call.result_within(Duration::from_secs(4000)).await.text(), words, "{manner}, {stop}");
        assert_eq!(dropped.load(Ordering::Relaxed), begun, "{manner}, {stop}");
        assert_eq!(before.elapsed().as_secs(), seconds, "{manner}, {stop}");
        call.silence().await;
    }
}

/// CAN-02, INV-07: a cancellation that overtakes its invocation is not forgotten: the call ends in an error result
/// and nothing is worked. It counts for that call of that thread alone, and not for ever.
#[tokio::test(start_paused = true)]
async fn cancelled_before_it_came() {
    let (server, dropped) = server();
    let cancel = async |id: &str| {
        let notice = json!({"thread_id": "t", "tool_call_id": id});
        assert_eq!(server.post("/cancel_tool_call", &notice).await.0, 200);
    };
    cancel("c").await;
    cancel("c").await;
    let sent = |thread: &str, id: &str| invocation("work", json!({"manner": "at once"}), thread, id);
    let mut call = server.invoke(sent("t", "c")).await;
    assert_eq!(call.status(), 200);
    assert_eq!(call.result().await.text(), "Error: the call was cancelled");
    assert!(!dropped.load(Ordering::Relaxed), "the function did not run");
    // Sent again it is the same call.
    assert_eq!(server.invoke(sent("t", "c")).await.result().await.text(), "Error: the call was cancelled");
    for (thread, id) in [("t2", "c"), ("t", "c2")] {
        assert_eq!(server.invoke(sent(thread, id)).await.result().await.text(), "done");
    }
    cancel("late").await;
    tokio::time::advance(Duration::from_secs(601)).await;
    assert_eq!(server.invoke(sent("t", "late")).await.result().await.text(), "done");
    // What is remembered is bounded, the oldest go first.
    for n in 0..10_001 {
        cancel(&format!("many-{n}")).await;
    }
    assert_eq!(server.invoke(sent("t", "many-0")).await.result().await.text(), "done");
    assert!(server.invoke(sent("t", "many-1")).await.result().await.is_error());
    assert!(server.invoke(sent("t", "many-10000")).await.result().await.is_error());
    assert_eq!(server.handle().open_calls(), 0);
}

/// CLS-02, CLS-04, CAN-02, AUT-02: hostile and unknown ids are only looked up; the answer is 200 with an empty
/// body and touches no other call.
#[tokio::test(start_paused = true)]
async fn hostile_ids() {
    let (server, _) = server();
    let mut call = server.invoke(invocation("work", json!({"manner": "polite"}), "t", "c")).await;
    tokio::task::yield_now().await;
    let long = "x".repeat(256);
    let hostile = [
        "nobody",
        "../../etc/passwd",
        "..\\..\\x",
        "t/../t",
        "' OR 1=1 --",
        "%00",
        "\u{0}",
        "T",
        "t ",
        "☃",
        &long,
    ];
    for id in hostile {
        for (path, body) in [
            ("/close_thread", json!({"thread_id": id, "x-unknown": 1})),
            ("/cancel_tool_call", json!({"thread_id": id, "tool_call_id": "c"})),
            ("/cancel_tool_call", json!({"thread_id": "t", "tool_call_id": id})),
            ("/cancel_tool_call", json!({"thread_id": id, "tool_call_id": id})),
        ] {
            assert_eq!(server.post(path, &body).await, (StatusCode::OK, Value::Null), "{path} {body}");
        }
        let status = server.post("/tool_call_status", &json!({"thread_id": "t", "tool_call_id": id})).await;
        assert_eq!(status, (StatusCode::OK, json!({"alive": false})));
    }
    assert!(call.is_alive().await);
    assert_eq!(call.cancel().await, StatusCode::OK);
    assert!(call.result().await.is_error());
}

/// CLS-03: closing a thread stops its calls and no others. STA-01: status tells the one from the other.
#[tokio::test(start_paused = true)]
async fn one_thread() {
    let (server, _) = server();
    let mut calls = Vec::new();
    for (thread, id) in [("a", "1"), ("a", "2"), ("b", "1")] {
        calls.push(server.invoke(invocation("work", json!({"manner": "polite"}), thread, id)).await);
    }
    tokio::task::yield_now().await;
    assert_eq!(server.post("/close_thread", &json!({"thread_id": "a"})).await.0, 200);
    assert!(calls[0].result().await.is_error());
    assert!(calls[1].result().await.is_error());
    assert!(calls[2].is_alive().await);
    assert!(!calls[0].is_alive().await);
}

/// INV-07: a shutdown ends every call in an error result, delivers it, and takes no new work.
#[tokio::test(start_paused = true)]
async fn shutdown() {
    let (server, dropped) = server();
    let mut polite = server.start("work", json!({"manner": "polite"})).await;
    let mut deaf = server.start("work", json!({"manner": "deaf"})).await;
    tokio::task::yield_now().await;
    let owed = server.shut_down(Duration::from_secs(10)).await;
    assert!(owed.0.is_empty(), "{owed:?}");
    for call in [&mut polite, &mut deaf] {
        let text = call.result().await.text();
        assert_eq!(text, "Error: the server is shutting down; try again when it is back");
    }
    assert!(dropped.load(Ordering::Relaxed));
    assert_eq!(server.start("work", json!({"manner": ""})).await.status(), 503);
}

/// What a shutdown cannot deliver in its time is handed out, a result for every call.
#[tokio::test(start_paused = true)]
async fn shutdown_with_the_runtime_down() {
    let (server, _) = server();
    server.answer_next((0..1000).map(|_| rap_server::rap_http::Attempt::Refused));
    let calls = ["deaf", "polite", ""];
    for manner in calls {
        server.start("work", json!({"manner": manner})).await;
    }
    tokio::task::yield_now().await;
    let owed = server.shut_down(Duration::from_secs(2)).await.0;
    assert_eq!(owed.len(), 3, "{owed:?}");
    let mut texts = Vec::new();
    for letter in &owed {
        assert!(letter.is_result());
        let body: Value = serde_json::from_slice(letter.body()).unwrap();
        assert_eq!(body["id"], letter.call().as_str());
        texts.push(body["text"].as_str().unwrap().to_owned());
        // The URL's capability is not in the log line of a letter.
        assert!(!format!("{letter:?}").contains("capability"));
    }
    texts.sort();
    assert!(texts[0].starts_with("Error: ") && texts[1].starts_with("Error: "), "{texts:?}");
    assert_eq!(texts[2], "done");
}

/// What the call tells its function.
#[tokio::test(start_paused = true)]
async fn facts() {
    use rap_server::{Tool, rap_types::UserId};
    let tool = Tool::new("facts", "d", async |call: Call, user: Option<UserId>| {
        json!([
            call.id(),
            call.thread(),
            call.ancestors(),
            call.session(),
            call.user(),
            user,
            call.is_cancelled(),
            call.provider_call(),
            call.traceparent(),
            call.tracestate(),
        ])
    });
    let server = TestServer::new(ToolServer::new("test").tool(tool));
    let mut sent = invocation("facts", json!({}), "t", "c");
    assert_eq!(
        server.invoke(sent.clone()).await.result().await.json(),
        json!(["c", "t", [], "t", null, null, false, null, null, null])
    );
    sent["id"] = json!("c2");
    sent["thread_ancestors"] = json!(["root", "parent"]);
    sent["user_id"] = json!("u");
    sent["call_id"] = json!("model's own");
    let mut facts =
        json!(["c2", "t", ["root", "parent"], "root", "u", "u", false, "model's own", null, null]);
    let mut call = server.invoke(sent.clone()).await;
    assert_eq!(call.result().await.json(), facts);
    // What a tracing system sent along is there for the function as well.
    sent["id"] = json!("c3");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    traced(&server, &sent, trace, Some("vendor=note")).await;
    (facts[0], facts[8], facts[9]) = (json!("c3"), json!(trace), json!("vendor=note"));
    assert_eq!(call.result().await.json(), facts);
}
